"""What a file says of its encryption, in every format, and never more than a file may say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.krapao.age_files import AgePair, Encrypter

from jiemi.krapao.decryption.metadata import read_encryption

AGE = "age1" + "q" * 58


def test_recipients_are_found_in_yaml() -> None:
    text = f"""sops:
    age:
        - recipient: {AGE}
    pgp:
        - fp: 23306C6391D0E22B5F4B45FFFB9A04CF402264B8
    kms:
        - arn: arn:aws:kms:eu-west-1:111122223333:key/a
    gcp_kms:
        - resource_id: projects/p/locations/global/keyRings/r/cryptoKeys/k
    azure_kv:
        - vaultUrl: https://v.vault.azure.net
    hc_vault:
        - vault_address: https://vault.example:8200
    hckms:
        - key_id: tr-west-1:00000000-0000-0000-0000-000000000000
    lastmodified: "2026-11-25T01:02:03Z"
    version: 3.13.3
"""
    found = read_encryption(text.encode())
    assert found.recipients == (
        f"age {AGE}",
        "pgp 23306C6391D0E22B5F4B45FFFB9A04CF402264B8",
        "AWS KMS arn:aws:kms:eu-west-1:111122223333:key/a",
        "GCP KMS projects/p/locations/global/keyRings/r/cryptoKeys/k",
        "Azure Key Vault https://v.vault.azure.net",
        "Vault https://vault.example:8200",
        "Huawei Cloud KMS tr-west-1:00000000-0000-0000-0000-000000000000",
    )
    assert (found.last_modified, found.sops_version) == ("2026-11-25T01:02:03Z", "3.13.3")


@pytest.mark.parametrize("kind", ["yaml", "json", "dotenv", "ini", "binary"])
def test_what_sops_writes_is_read_in_every_format(kind: str, encrypt: Encrypter, age_pair: AgePair) -> None:
    plain = {"yaml": "a: b\n", "json": '{"a": "b"}', "dotenv": "A=b\n", "ini": "[s]\na = b\n", "binary": "b"}[kind]
    found = read_encryption(encrypt(plain, "--age", age_pair.public, kind=kind))
    assert found.recipients == (f"age {age_pair.public}",)
    assert found.sops_version is not None
    assert found.sops_version.startswith("3.")
    assert found.last_modified is not None


def test_a_file_that_says_nothing_says_nothing() -> None:
    found = read_encryption(b"a: 1")
    assert (found.recipients, found.last_modified, found.sops_version) == ((), None, None)


@given(st.binary())
def test_any_file_has_a_bounded_answer(data: bytes) -> None:
    found = read_encryption(data + b"\nfp: " + b"A" * 40)
    assert len(found.recipients) <= 50
