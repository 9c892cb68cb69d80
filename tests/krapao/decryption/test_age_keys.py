"""Who files and keys are for, as public names."""

from __future__ import annotations

import pyrage
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.krapao.decryption.recipients import of_file, read_age_keys
from jiemi.rpc.keys import AgeKey


def test_the_recipient_of_an_identity_is_the_one_that_age_computes() -> None:
    for _ in range(50):
        identity = pyrage.x25519.Identity.generate()
        for text in (str(identity), str(identity).lower(), f"# c\r\n  {identity}  \r\n"):
            found = read_age_keys((AgeKey(SensitiveText(text)),))
            assert found.recipients == (f"age {identity.to_public()}",)
            assert str(identity) not in repr(found)


def test_a_changed_character_is_found_by_the_checksum() -> None:
    text = str(pyrage.x25519.Identity.generate())
    for place in range(len("AGE-SECRET-KEY-1"), len(text)):
        damaged = text[:place] + ("Q" if text[place] != "Q" else "P") + text[place + 1 :]
        with pytest.raises(JiemiError, match="damaged or not whole") as caught:
            read_age_keys((AgeKey(SensitiveText(damaged)),))
        assert damaged not in str(caught.value)


@given(st.text() | st.text("qpzry9x8gf2t").map(lambda text: "AGE-SECRET-KEY-1" + text))
def test_any_text_is_an_identity_or_a_typed_error(text: str) -> None:
    with pytest.raises(JiemiError) as caught:
        read_age_keys((AgeKey(SensitiveText(text)),))
    assert caught.value.failure.reason == "KeyInvalid"


def test_the_recipients_of_a_file_are_found_in_yaml_and_json() -> None:
    recipient = "age1" + "q" * 58
    text = f"""sops:
    age:
        - recipient: {recipient}
    pgp:
        - fp: 23306C6391D0E22B5F4B45FFFB9A04CF402264B8
    kms:
        - arn: arn:aws:kms:eu-west-1:1:key/a
    hc_vault:
        - vault_address: https://vault.example:8200
"""
    shown = of_file(text.encode())
    for part in (
        f"age {recipient}",
        "pgp 2330",
        "AWS KMS arn:aws:kms:eu-west-1:1:key/a",
        "Vault https://vault.example:8200",
    ):
        assert part in shown
    assert of_file(f'{{"recipient": "{recipient}", "fp": "0123456789ABCDEF"}}'.encode()).startswith(
        f"age {recipient}, pgp"
    )
    assert of_file(b"a: 1") == "none that is known"
    assert "and 95 more" in of_file("\n".join(f"fp: {n:040X}" for n in range(100)).encode())


@given(st.binary())
def test_any_file_has_a_short_answer(data: bytes) -> None:
    assert len(of_file(data)) < 2_000
