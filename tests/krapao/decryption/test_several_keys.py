"""Private keys from several places, with real age and gpg keys: any opens what is for it, and a wrong one is named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from support.krapao.pgp_keys import encrypted_for_pgp, gpg_home_in_memory, made_pgp_key

from jiemi.core.content.formats import Format
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.krapao.decryption.sops import SopsDecrypter
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.keys import AgeKey, KeyOrigin, PgpKey

FIRST, SECOND = "privateKeys[0] (key 'a' of Secret ns/one)", "privateKeys[1] (key 'b' of Secret ns/two)"


@pytest.fixture
def decrypter(nursery: trio.Nursery, settings: KrapaoSettings, sops_path: Path, runtime: Path) -> SopsDecrypter:
    return SopsDecrypter(nursery, attrs.evolve(settings, sops=sops_path, runtime_dir=runtime))


@pytest.fixture
def gpg_home() -> Iterator[Path]:
    yield from gpg_home_in_memory()


def joined(texts: Sequence[str]) -> tuple[SensitiveText, tuple[KeyOrigin, ...]]:
    texts = [f"{text.strip()}\n" for text in texts]
    origins = [KeyOrigin(name, len(text.splitlines())) for name, text in zip((FIRST, SECOND), texts, strict=True)]
    return SensitiveText("".join(texts)), tuple(origins)


def age_key(*texts: str) -> AgeKey:
    return AgeKey(*joined(texts))


def pgp_key(*texts: str, passphrase: str | None = None) -> PgpKey:
    text, origins = joined(texts)
    return PgpKey(text, SensitiveText(passphrase) if passphrase is not None else None, origins)


async def opened(decrypter: SopsDecrypter, data: bytes, key: AgeKey | PgpKey) -> bool:
    return b"canary-value" in (await decrypter.decrypt(data, Format.YAML, (key,))).plain.reveal()


async def refused(decrypter: SopsDecrypter, data: bytes, key: AgeKey | PgpKey) -> str:
    with pytest.raises(JiemiError) as caught:
        await decrypter.decrypt(data, Format.YAML, (key,))
    return str(caught.value)


async def test_any_of_several_age_keys_opens_what_is_for_it(
    decrypter: SopsDecrypter, encrypt: Any, age_pair: Any, other_age_pair: Any
) -> None:
    key = age_key(f"# ours\n{age_pair.private}", other_age_pair.private)
    for pair in (age_pair, other_age_pair):
        assert await opened(decrypter, encrypt("a: canary-value\n", "--age", pair.public), key)
    both = encrypt("a: canary-value\n", "--age", f"{age_pair.public},{other_age_pair.public}")
    assert await opened(decrypter, both, key)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("# only a remark", "holds no line with AGE-SECRET-KEY-1…"),
        ("# one\nage1qqq", "line 2: an age recipient"),
        ("AGE-SECRET-KEY-1QQQ", "line 1: an age identity that is damaged"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA", "a private key in PEM that does not end"),
        (
            "\n\n-----BEGIN OPENSSH PRIVATE KEY-----\nAA\n-----END OPENSSH PRIVATE KEY-----",
            "line 1: a private key in PEM",
        ),
    ],
)
async def test_an_age_key_that_is_wrong_is_named_by_its_secret_and_its_own_line(
    decrypter: SopsDecrypter, encrypt: Any, age_pair: Any, wrong: str, says: str
) -> None:
    data = encrypt("a: canary-value\n", "--age", age_pair.public)
    for key, name in (
        (age_key(f"# first\n{age_pair.private}", wrong), SECOND),
        (age_key(wrong, f"# second\n{age_pair.private}"), FIRST),
    ):
        message = await refused(decrypter, data, key)
        assert message.startswith(f"KeyInvalid: {name}")
        assert says in message
        assert age_pair.private not in message


async def test_any_of_several_pgp_keys_opens_what_is_for_it(
    decrypter: SopsDecrypter, sops_path: Path, gpg_home: Path
) -> None:
    (one, first), (two, second) = (
        made_pgp_key(gpg_home, "one"),
        made_pgp_key(gpg_home, "two", passphrase="correct horse"),
    )
    key = pgp_key(first, second, passphrase="correct horse\n")
    for fingerprint in (one, two):
        assert await opened(decrypter, encrypted_for_pgp(sops_path, gpg_home, fingerprint), key)
    # The same key from both places, in another form, is one key.
    assert await opened(decrypter, encrypted_for_pgp(sops_path, gpg_home, one), pgp_key(first, f"{first}\n{first}"))


async def test_a_pgp_key_that_is_wrong_is_named_by_its_secret(
    decrypter: SopsDecrypter, sops_path: Path, gpg_home: Path
) -> None:
    fingerprint, right = made_pgp_key(gpg_home, "right")
    _, locked = made_pgp_key(gpg_home, "locked", passphrase="correct horse")
    data = encrypted_for_pgp(sops_path, gpg_home, fingerprint)
    begin = right[: len(right) // 2]
    for wrong, passphrase, says in (
        ("no key at all", None, "is no private key that gpg can read"),
        (begin, None, ""),
        ("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAA\n-----END PGP PUBLIC KEY BLOCK-----", None, "is a public key"),
        (locked, None, "is protected by a passphrase"),
        (locked, "wrong", ""),
    ):
        for key, name in (
            (pgp_key(right, wrong, passphrase=passphrase), SECOND),
            (pgp_key(wrong, right, passphrase=passphrase), FIRST),
        ):
            message = await refused(decrypter, data, key)
            assert message.startswith("KeyInvalid: ")
            assert name in message
            assert says in message
