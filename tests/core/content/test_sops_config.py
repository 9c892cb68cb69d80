"""Which recipients a .sops.yaml no longer names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.content.sops_config import stale_recipients

AGE, OTHER = "age1" + "q" * 58, "age1" + "p" * 58
ARN = "arn:aws:kms:eu-west-1:111122223333:key/a"
FINGERPRINT = "23306C6391D0E22B5F4B45FFFB9A04CF402264B8"
CONFIG = f"""
creation_rules:
  - path_regex: ^prod/
    age: {AGE}, {OTHER}
    kms: {ARN}+arn:aws:iam::111122223333:role/r|a:b
    pgp:
      - {FINGERPRINT[-16:].lower()}
  - key_groups:
      - gcp_kms: [{{resource_id: projects/p/locations/l/keyRings/r/cryptoKeys/k}}]
        azure_keyvault: [{{vaultUrl: https://v.vault.azure.net, key: k, version: v}}]
        hc_vault: ["https://vault.example:8200/v1/transit/keys/k"]
      - hckms: [{{key_id: "tr-west-1:x"}}]
""".encode()


@pytest.mark.parametrize(
    "recipient",
    [
        f"age {AGE}",
        f"age {OTHER}",
        f"AWS KMS {ARN}",
        f"pgp {FINGERPRINT}",
        "GCP KMS projects/p/locations/l/keyRings/r/cryptoKeys/k",
        "Azure Key Vault https://v.vault.azure.net",
        "Vault https://vault.example:8200",
        "Huawei Cloud KMS tr-west-1:x",
    ],
)
def test_a_recipient_that_any_rule_names_is_not_stale(recipient: str) -> None:
    assert stale_recipients([recipient], CONFIG) == ()


@pytest.mark.parametrize(
    "recipient",
    [
        "age age1" + "z" * 58,
        "AWS KMS arn:aws:kms:eu-west-1:111122223333:key/b",
        "pgp " + "A" * 40,
        "GCP KMS projects/p/locations/l/keyRings/r/cryptoKeys/other",
        "Azure Key Vault https://w.vault.azure.net",
        "Vault https://vault.example:82",
        "Huawei Cloud KMS tr-west-1:y",
    ],
)
def test_a_recipient_that_no_rule_names_is_stale(recipient: str) -> None:
    assert stale_recipients([f"age {AGE}", recipient], CONFIG) == (recipient,)


@pytest.mark.parametrize("config", [b"", b"creation_rules: []", b"a: [", b"- 1", b"stores: {}", b"\xff"])
def test_a_config_that_names_nobody_makes_nobody_stale(config: bytes) -> None:
    assert stale_recipients([f"age {AGE}"], config) == ()


@given(st.binary(), st.lists(st.text(), max_size=3))
def test_any_config_gives_some_of_the_recipients(config: bytes, recipients: list[str]) -> None:
    assert set(stale_recipients(recipients, config)) <= set(recipients)
