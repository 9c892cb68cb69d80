"""What people put where a key belongs is named as what it is, with what to do; what is none of these is not guessed."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.krapao.decryption.age_keys import read_age_key
from jiemi.krapao.decryption.mistaken_keys import instead_of_key
from jiemi.rpc.keys import AgeKey

DATA = Path(__file__).parents[2] / "data"
PGP = (DATA / "pgp-test-key.asc").read_text()
AGE = next(line for line in (DATA / "age-test-key.txt").read_text().splitlines() if line.startswith("AGE-"))


def _in_base64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def _binary(armored: str) -> bytes:
    body = armored.split("\n\n", 1)[1].split("\n=", 1)[0]
    return base64.b64decode("".join(body.split()))


AGE_MISTAKES = [
    (_in_base64(f"# created: now\n{AGE}\n"), "a key in base64", "under stringData"),
    (f'"{AGE}"', "a key in quotation marks", "Take the quotation marks away."),
    (f"'{AGE.lower()}'\n", "a key in quotation marks", "Take the quotation marks away."),
    (f"SOPS_AGE_KEY={AGE}", "a key behind a name", "without the name"),
    (f"export SOPS_AGE_KEY='{AGE}'", "a key behind a name", "without the name"),
    (f"privateKey: {AGE}", "a key behind a name", "without the name"),
    (f"\ufeff{AGE}", "text that begins with a byte order mark", "BOM"),
    (f"{AGE},{AGE}", "several age identities in one line", "a line of its own"),
    (f"{AGE} {AGE}", "several age identities in one line", "a line of its own"),
    (f"# created: 2024 # public key: age1x {AGE}", "an age identity in a comment", "on a line of its own"),
    (f"# my key\n# {AGE}\n", "an age identity in a comment", "on a line of its own"),
    (
        "-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n-----END AGE ENCRYPTED FILE-----\n",
        "protected by a passphrase",
        "age --",
    ),
    (PGP, "a pgp key", "spec.provider.pgp.privateKey"),
]
PGP_MISTAKES = [
    (_in_base64(PGP), "a key in base64", "under stringData"),
    (_in_base64(_binary(PGP)), "a key in base64", "under stringData"),
    (f'"{PGP}"', "a key in quotation marks", "Take the quotation marks away."),
    (f"KEY='{PGP}'", "a key behind a name", "without the name"),
    (PGP.replace("\n", "\\n"), "a key with \\n where its line breaks were", "with its line breaks"),
    (PGP.replace("\n", " "), "a key in one line", "with its line breaks"),
    (AGE, "an age key", "spec.provider.age.privateKey"),
]


@pytest.mark.parametrize(("text", "what", "remedy"), AGE_MISTAKES)
def test_what_stands_in_the_place_of_an_age_key_is_named(text: str, what: str, remedy: str) -> None:
    with pytest.raises(JiemiError) as caught:
        read_age_key(AgeKey(SensitiveText(text)))
    failure = caught.value.failure
    assert failure.reason == "KeyInvalid"
    assert failure.message.startswith(f"spec.provider.age.privateKey is {what}") or what in failure.message
    assert remedy in failure.remedy
    assert AGE not in str(caught.value)


@pytest.mark.parametrize(("text", "what", "remedy"), PGP_MISTAKES)
def test_what_stands_in_the_place_of_a_pgp_key_is_named(text: str, what: str, remedy: str) -> None:
    found = instead_of_key(text, provider="pgp")
    assert found is not None
    assert found[0] == what
    assert remedy in found[1]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hunter2",
        f"# {AGE}\nAGE-SECRET-KEY-1QQQQ",
        "AAAABBBB",
        "AGE-SECRET-KEY-1QQQQ",
        "/home/me/keys.txt",
        '"hunter2"',
        "A=b",
        _in_base64("hunter2"),
    ],
)
def test_what_can_not_be_seen_is_not_guessed(text: str) -> None:
    assert instead_of_key(text, provider="age") is None


@given(st.text(max_size=300), st.sampled_from(["age", "pgp"]))
def test_any_text_is_named_or_not_and_never_quoted(text: str, provider: str) -> None:
    found = instead_of_key(f"{text}canary", provider=provider)
    assert found is None or "canary" not in " ".join(found)
