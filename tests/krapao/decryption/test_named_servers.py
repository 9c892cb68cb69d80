"""Which servers are judged by their addresses before a holder is asked: those that a Decryptor or a file names."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from jiemi.core.addresses import normal_address
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.krapao.decryption.credential_files import service_account
from jiemi.krapao.decryption.destinations import VaultTrust
from jiemi.krapao.decryption.environments import plan
from jiemi.krapao.decryption.keyservice import (
    AgeMasterKey,
    AwsMasterKey,
    AzureMasterKey,
    GcpMasterKey,
    HuaweiMasterKey,
    MasterKey,
    VaultMasterKey,
)
from jiemi.krapao.decryption.named_servers import named_servers
from jiemi.krapao.operator_environment import OperatorEnvironment
from jiemi.rpc.keys import AgeKey, AwsKey, AzureKey, DecryptionKey, GcpKey, HuaweiKey, VaultKey

secret = SensitiveText
VAULT = VaultMasterKey("http://127.0.0.1:8200", "transit", "k")
AWS = AwsMasterKey("arn:aws:kms:eu-west-1:111122223333:key/k", "", ())
GCP = GcpMasterKey("projects/p/locations/global/keyRings/r/cryptoKeys/k")


def account(**fields: str) -> SensitiveText:
    return secret(json.dumps({"type": "service_account", "private_key": "k", "client_email": "e", **fields}))


@pytest.mark.parametrize(
    ("asked", "key", "trust", "servers"),
    [
        (VAULT, VaultKey(), VaultTrust(), ["http://127.0.0.1:8200"]),
        (VAULT, VaultKey(address=secret("HTTP://127.0.0.1:8200/")), VaultTrust(), ["http://127.0.0.1:8200"]),
        # A sidecar that the operator names may be anywhere.
        (VAULT, VaultKey(), VaultTrust(allowed=("http://127.0.0.1:8200/",)), []),
        (VAULT, VaultKey(), VaultTrust(own="http://127.0.0.1:8200"), []),
        (AWS, AwsKey(), VaultTrust(), []),
        (
            AWS,
            AwsKey(endpoint=secret("http://localhost:1\n"), sts_endpoint=secret("http://[::1]:2")),
            VaultTrust(),
            ["http://localhost:1", "http://[::1]:2"],
        ),
        (GCP, GcpKey(access_token=secret("t")), VaultTrust(), []),
        (GCP, GcpKey(endpoint=secret("http://h:1")), VaultTrust(), ["http://h:1"]),
        (GCP, GcpKey(service_account=account()), VaultTrust(), []),
        (GCP, GcpKey(service_account=account(token_uri="https://oauth2.googleapis.com/token")), VaultTrust(), []),
        (GCP, GcpKey(service_account=account(token_uri="http://127.0.0.1/x")), VaultTrust(), ["http://127.0.0.1/x"]),
        (
            GCP,
            GcpKey(service_account=account(universe_domain="evil.example")),
            VaultTrust(),
            ["https://cloudkms.evil.example"],
        ),
        (GCP, GcpKey(service_account=account(universe_domain="googleapis.com")), VaultTrust(), []),
        (GCP, GcpKey(service_account=secret("[1")), VaultTrust(), []),
        (AzureMasterKey("https://v.vault.azure.net", "k", ""), AzureKey(), VaultTrust(), []),
        (
            AzureMasterKey("https://kv.example:1", "k", ""),
            AzureKey(authority_host=secret("https://login.example"), allowed_vaults=("https://kv.example:1",)),
            VaultTrust(),
            ["https://kv.example:1", "https://login.example"],
        ),
        (AgeMasterKey("age1x"), AgeKey(secret("x")), VaultTrust(), []),
        (
            HuaweiMasterKey("tr-west-1:x"),
            HuaweiKey(access_key=secret("a"), secret_key=secret("s"), project_id=secret("p")),
            VaultTrust(),
            [],
        ),
    ],
)
def test_what_a_decryptor_or_a_file_names_is_judged_and_nothing_else(
    asked: MasterKey, key: DecryptionKey, trust: VaultTrust, servers: list[str]
) -> None:
    found = named_servers(asked, key, trust)
    assert [url for _, url in found] == servers
    assert all(field for field, _ in found)


def _with_domain(domain: str) -> Callable[[], object]:
    return lambda: service_account(account(universe_domain=domain))


def _with_region(region: str) -> Callable[[], object]:
    key = AwsKey(key_id=secret("i"), access_key=secret("a"), region=secret(region))
    return lambda: plan(key, OperatorEnvironment(), vault_address="", vault_token="")


@pytest.mark.parametrize(
    "attempt",
    [
        *map(
            _with_domain, ("evil.example/x", "evil.example:1", "u@evil.example", "a b", "127.1", "evil.example#", "/x")
        ),
        *map(_with_region, ("x.evil.example/", "127.0.0.1", "a@b", "x#", "EU/..", "-a", "a" * 64)),
    ],
)
def test_parts_of_which_a_library_makes_a_host_are_names_only(attempt: Callable[[], object]) -> None:
    with pytest.raises(JiemiError, match="KeyInvalid"):
        attempt()


def test_usual_regions_and_domains_pass() -> None:
    for region in ("eu-central-1", "us-gov-west-1", "cn-north-1"):
        _with_region(region)()
    for domain in ("googleapis.com", "apis-tpclp.goog"):
        _with_domain(domain)()


@pytest.mark.parametrize(
    "address",
    ["http://2130706433:1", "http://0x7f.1", "http://0177.0.0.1", "http://127.1", "http://127.0.0.1.", "http://1.2.3"],
)
def test_a_number_that_not_every_parser_reads_alike_is_no_servers_address(address: str) -> None:
    assert normal_address(address) is None
