"""Where a data key may be sent: what a hostile file may try, what is meant well, and what holds of all that passes."""

from __future__ import annotations

import re
import urllib.parse

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.addresses import normal_address
from jiemi.core.patterns import matches
from jiemi.core.sensitive import SensitiveText
from jiemi.krapao.decryption.destinations import (
    Refusal,
    VaultTrust,
    allowed_by_policy,
    is_named,
    judge,
    name_of,
    provider_of,
)
from jiemi.krapao.decryption.keyservice import (
    AgeMasterKey,
    AwsMasterKey,
    AzureMasterKey,
    GcpMasterKey,
    HuaweiMasterKey,
    MasterKey,
    PgpMasterKey,
    VaultMasterKey,
)
from jiemi.rpc.keys import NO_SERVER, AgeKey, AwsKey, AzureKey, DecryptionKey, GcpKey, HuaweiKey, PgpKey, VaultKey

CANARY = "canary-93ce"
SECRET = SensitiveText(CANARY)
ROLE = "arn:aws:iam::111122223333:role/spec"
ARN = "arn:aws:kms:eu-west-1:111122223333:key/12345678-1234-1234-1234-123456789012"
GCP = "projects/p/locations/global/keyRings/r/cryptoKeys/k"
AZURE = "https://v.vault.azure.net"
VAULT = "https://vault.example:8200"
OTHER_VAULT = "https://other.example"
HUAWEI = "tr-west-1:00000000-0000-0000-0000-000000000000"

NOBODY = VaultTrust()
GIVEN: dict[str, DecryptionKey] = {
    "age": AgeKey(SECRET),
    "pgp": PgpKey(SECRET),
    "aws": AwsKey(key_id=SECRET, access_key=SECRET),
    "gcp": GcpKey(access_token=SECRET),
    "azure": AzureKey(client_secret=SECRET),
    "vault": VaultKey(token=SECRET),
    "huawei": HuaweiKey(access_key=SECRET, secret_key=SECRET, project_id=SECRET),
}


def judged(asked: MasterKey, given_key: DecryptionKey | None = None, trust: VaultTrust = NOBODY) -> MasterKey | Refusal:
    return judge(asked, given_key or GIVEN[provider_of(asked)], trust)


# AWS

GOOD_ARNS = [
    ARN,
    "arn:aws:kms:us-east-1:000000000000:key/a",
    "arn:aws:kms:us-east-2:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab",
    "arn:aws:kms:eu-west-1:111122223333:alias/sops",
    "arn:aws:kms:eu-west-1:111122223333:alias/team/sops_key-1",
    "arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/a",
    "arn:aws-cn:kms:cn-northwest-1:111122223333:key/a",
    "arn:aws-iso-b:kms:us-isob-east-1:111122223333:key/a",
    "arn:aws-eusc:kms:eusc-de-east-1:111122223333:key/a",
    "arn:aws:kms:ap-southeast-12:111122223333:key/a",
    "arn:aws:kms:il-central-1:111122223333:key/a",
]


@pytest.mark.parametrize("arn", GOOD_ARNS)
def test_an_arn_of_every_partition_and_kind_passes(arn: str) -> None:
    assert judged(AwsMasterKey(arn)) == AwsMasterKey(arn)


BAD_ARNS = [
    "",
    "arn",
    "nonsense",
    "a" * 3_000,
    ARN + "\n",
    "\n" + ARN,
    " " + ARN,
    ARN + " ",
    ARN + "\0",
    ARN.upper(),
    ARN.replace("kms", "KMS"),
    ARN.replace("kms", "s3"),
    ARN.replace("arn:aws:", "arn:evil:"),
    ARN.replace("arn:aws:", "arn:aws-:"),
    ARN.replace("arn:aws:", "arn:aws.evil.example:"),
    ARN.replace("arn:aws:", "arn:aws-a-b-c-d:"),
    # The region becomes a part of a host's name: kms.REGION.amazonaws.com
    ARN.replace("eu-west-1", "evil.example/"),
    ARN.replace("eu-west-1", "evil.example#"),
    ARN.replace("eu-west-1", "evil.example?"),
    ARN.replace("eu-west-1", "eu-west-1.evil.example/eu-west-1"),
    ARN.replace("eu-west-1", "eu-west-1@evil"),
    ARN.replace("eu-west-1", "user:password@evil"),
    ARN.replace("eu-west-1", "eu-west-1\\"),
    ARN.replace("eu-west-1", "eu-west-1%2f"),
    ARN.replace("eu-west-1", "eu-west-1\n"),
    ARN.replace("eu-west-1", "eu-west-1\t"),
    ARN.replace("eu-west-1", "eu-west-1."),
    ARN.replace("eu-west-1", ".eu-west-1"),
    ARN.replace("eu-west-1", "127.0.0.1"),
    ARN.replace("eu-west-1", "localhost"),
    ARN.replace("eu-west-1", "EU-WEST-1"),
    ARN.replace("eu-west-1", "eu-w\u0435st-1"),  # a Cyrillic e
    ARN.replace("eu-west-1", "eu-west-\u0661"),  # an Arabic one
    ARN.replace("eu-west-1", "eu\u2010west\u20101"),
    ARN.replace("eu-west-1", "eu-west-100"),
    ARN.replace("eu-west-1", ""),
    ARN.replace("111122223333", ""),
    ARN.replace("111122223333", "11112222333"),
    ARN.replace("111122223333", "aws"),
    ARN.replace("111122223333", "\u0661" * 12),
    ARN.replace(":key/", ":key/../"),
    ARN.replace(":key/", ":key"),
    ARN.replace(":key/", ":secret/"),
    ARN + "/..",
    ARN + "?x",
    ARN + "*",
    "arn:aws:kms:eu-west-1:111122223333:alias/",
    "arn:aws:kms:eu-west-1:111122223333:alias/a b",
    "arn:aws:kms:eu-west-1:111122223333:alias/" + "a" * 257,
    "arn:aws:kms:eu-west-1:111122223333:key/" + "a" * 129,
]


@pytest.mark.parametrize("arn", BAD_ARNS)
def test_what_is_no_arn_of_a_key_is_refused(arn: str) -> None:
    assert isinstance(judged(AwsMasterKey(arn)), Refusal)


def test_a_role_is_the_specs_own_and_a_profile_is_dropped() -> None:
    with_role = AwsKey(key_id=SECRET, access_key=SECRET, role_arn=SensitiveText(ROLE))
    for role in ("", ROLE):
        assert judged(AwsMasterKey(ARN, role, (("a", "b"),), "prod"), with_role) == AwsMasterKey(
            ARN, ROLE, (("a", "b"),), ""
        )
    assert judged(AwsMasterKey(ARN, "", (), "prod")) == AwsMasterKey(ARN)


@pytest.mark.parametrize(
    "role", ["x", ROLE + "x", ROLE.upper(), " " + ROLE, ROLE + "\n", "arn:aws:iam::999999999999:role/admin", "\0"]
)
@pytest.mark.parametrize("named", [True, False])
def test_a_role_that_the_spec_does_not_name_is_refused_and_the_field_is_reported(role: str, named: bool) -> None:
    key = AwsKey(key_id=SECRET, access_key=SECRET, role_arn=SensitiveText(ROLE) if named else None)
    found = judged(AwsMasterKey(ARN, role), key)
    assert isinstance(found, Refusal)
    assert "spec.provider.aws.roleArn" in found.message
    assert found.message.isprintable()


def test_an_encryption_context_is_bounded() -> None:
    pairs = tuple((f"k{number:03}", "v") for number in range(51))
    assert judged(AwsMasterKey(ARN, "", pairs[:50])) == AwsMasterKey(ARN, "", pairs[:50])
    assert isinstance(judged(AwsMasterKey(ARN, "", pairs)), Refusal)


# GCP


@pytest.mark.parametrize(
    "resource",
    [
        GCP,
        "projects/example.com:project/locations/europe-west3/keyRings/A_b-1/cryptoKeys/K",
        "projects/123456/locations/global/keyRings/r/cryptoKeys/" + "k" * 63,
    ],
)
def test_a_resource_id_of_gcp_passes(resource: str) -> None:
    assert judged(GcpMasterKey(resource)) == GcpMasterKey(resource)


@pytest.mark.parametrize(
    "resource",
    [
        "",
        "/" + GCP,
        GCP + "/",
        GCP + "\n",
        GCP.replace("/", "//"),
        GCP.replace("projects/p", "projects/.."),
        GCP.replace("projects/p", "projects/../../evil"),
        GCP.replace("locations/global", "locations/.."),
        GCP.replace("keyRings/r", "keyRings/.."),
        GCP.replace("keyRings/r", "keyRings/r/.."),
        GCP.replace("cryptoKeys/k", "cryptoKeys/.."),
        GCP.replace("cryptoKeys/k", "cryptoKeys/k:encrypt"),
        GCP.replace("cryptoKeys/k", "cryptoKeys/k?alt=json"),
        GCP.replace("cryptoKeys/k", "cryptoKeys/k#"),
        GCP.replace("cryptoKeys/k", "cryptoKeys/k%2f.."),
        GCP + "/cryptoKeyVersions/1",
        GCP.replace("projects/p", "projects/P"),
        GCP.replace("projects/p", "projects/user@evil.example"),
        GCP.replace("projects/p", "projects/\u0440"),
        GCP.replace("global", "glob\\al"),
        GCP.replace("global", "glob al"),
        "https://evil.example/" + GCP,
        GCP.replace("cryptoKeys/k", "cryptoKeys/" + "k" * 64),
        GCP.upper(),
    ],
)
def test_what_is_no_resource_id_of_gcp_is_refused(resource: str) -> None:
    assert isinstance(judged(GcpMasterKey(resource)), Refusal)


# Azure


@pytest.mark.parametrize(
    ("url", "name", "version"),
    [
        (AZURE, "k", "0" * 32),
        (AZURE + "/", "Key-1", ""),
        ("https://my-vault-1.vault.azure.net", "k", "abcDEF"),
        ("https://V.vault.azure.net", "k", ""),
        ("https://v.vault.azure.cn", "k", ""),
        ("https://v.vault.usgovcloudapi.net", "k", ""),
        ("https://hsm.managedhsm.azure.net", "k", ""),
        ("https://hsm.managedhsm.azure.cn", "k", ""),
        ("https://hsm.managedhsm.usgovcloudapi.net", "k", ""),
    ],
)
def test_a_key_of_azures_own_vaults_passes_without_the_last_slash(url: str, name: str, version: str) -> None:
    assert judged(AzureMasterKey(url, name, version)) == AzureMasterKey(url.removesuffix("/"), name, version)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "v.vault.azure.net",
        "http://v.vault.azure.net",
        "HTTPS://v.vault.azure.net",
        "ftp://v.vault.azure.net",
        "https:/v.vault.azure.net",
        "https:///v.vault.azure.net",
        "https://vault.azure.net",
        "https://.vault.azure.net",
        "https://vault.azure.net.evil.example",
        "https://v.vault.azure.net.evil.example",
        "https://v.vault.azure.net.",
        "https://v.vault.azure.netevil.example",
        "https://evil.example/v.vault.azure.net",
        "https://evil.example#v.vault.azure.net",
        "https://evil.example#.vault.azure.net",
        "https://evil.example?.vault.azure.net",
        "https://evil.example\\.vault.azure.net",
        "https://evil.example%2f.vault.azure.net",
        "https://a.b.vault.azure.net",
        "https://vvault.azure.net",
        "https://v-vault.azure.net",
        "https://v.vault.azure.net:443",
        "https://v.vault.azure.net:8443",
        "https://v.vault.azure.net/path",
        "https://v.vault.azure.net//",
        "https://v.vault.azure.net?x=1",
        "https://v.vault.azure.net#x",
        "https://user@v.vault.azure.net",
        "https://user:password@v.vault.azure.net",
        "https://v.vault.azure.net@evil.example",
        "https://v.v\u0430ult.azure.net",
        "https://\uff56.vault.azure.net",
        "https://v.vault\u3002azure.net",
        "https://v.VAULT.azure.net",
        "https://v.vault.azure.net\n",
        " https://v.vault.azure.net",
        "https://v.vault.azure.net\t",
        "https://v\n.vault.azure.net",
        "https://v_.vault.azure.net",
        "https://[::1].vault.azure.net",
        "https://[::1]",
        "https://127.0.0.1",
        "https://localhost",
        "https://169.254.169.254",
        "https://" + "v" * 64 + ".vault.azure.net",
        "https://v.vault.azure.com",
        "https://v.vault.microsoftazure.de.evil.example",
        "https://v.documents.azure.net",
    ],
)
def test_what_is_no_vault_of_azures_own_is_refused_where_none_is_listed(url: str) -> None:
    found = judged(AzureMasterKey(url, "k", ""))
    assert isinstance(found, Refusal)
    assert "spec.provider.azure.allowedVaults" in found.message
    assert "password" not in found.message
    assert found.message.isprintable()


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("", ""),
        ("..", ""),
        ("a/b", ""),
        ("a b", ""),
        ("a_b", ""),
        ("k?x", ""),
        ("k#", ""),
        ("k%2e", ""),
        ("k\n", ""),
        ("\u043a", ""),
        ("k" * 128, ""),
        ("k", ".."),
        ("k", "0" * 65),
        ("k", "../../secrets/s"),
        ("k", "0\n"),
        ("k", "g"),
        ("k", "\u0661"),
    ],
)
def test_what_is_no_name_or_version_of_an_azure_key_is_refused(name: str, version: str) -> None:
    assert isinstance(judged(AzureMasterKey(AZURE, name, version)), Refusal)


def test_only_the_listed_vaults_of_azure_pass_where_some_are() -> None:
    listed = AzureKey(
        client_secret=SECRET, allowed_vaults=("https://A.vault.azure.net/", "https://kv.private.example:8443")
    )
    for url, spelt in (
        ("https://a.vault.azure.net", "https://A.vault.azure.net"),  # as the spec spells it
        ("https://a.vault.azure.net/", "https://A.vault.azure.net"),
        ("https://kv.private.example:8443", "https://kv.private.example:8443"),
    ):
        assert judged(AzureMasterKey(url, "k", ""), listed) == AzureMasterKey(spelt, "k", "")
    for url in (AZURE, "https://kv.private.example", "http://a.vault.azure.net", "https://kv.private.example:8443/x"):
        found = judged(AzureMasterKey(url, "k", ""), listed)
        assert isinstance(found, Refusal)
        assert "does not list" in found.message


# Huawei


@pytest.mark.parametrize("key", [HUAWEI, "cn-north-4:a", "ap-southeast-3:" + "0" * 64, "la-north-2:A-b"])
def test_a_key_of_huawei_passes(key: str) -> None:
    assert judged(HuaweiMasterKey(key)) == HuaweiMasterKey(key)


@pytest.mark.parametrize(
    "key",
    [
        "",
        HUAWEI + "\n",
        HUAWEI.upper(),
        HUAWEI.replace("tr-west-1", "evil.example/"),
        HUAWEI.replace("tr-west-1", "tr-west-1.evil.example#"),
        HUAWEI.replace("tr-west-1", "user@tr-west-1"),
        HUAWEI.replace("tr-west-1", "tr-w\u0435st-1"),
        HUAWEI.replace(":", "::"),
        HUAWEI.replace(":", ":../"),
        HUAWEI.replace(":", ""),
        "tr-west-1:" + "0" * 65,
        "tr-west-1:",
    ],
)
def test_what_is_no_key_of_huawei_is_refused(key: str) -> None:
    assert isinstance(judged(HuaweiMasterKey(key)), Refusal)


# Vault


@pytest.mark.parametrize(
    ("asked", "passed"),
    [
        (VaultMasterKey(VAULT, "transit", "k"), VaultMasterKey(VAULT, "transit", "k")),
        (VaultMasterKey(VAULT + "/", "/transit/", "k"), VaultMasterKey(VAULT, "transit", "k")),
        (
            VaultMasterKey("HTTPS://Vault.Example:8200", "team/a/transit", "k.1_2-3"),
            VaultMasterKey(VAULT, "team/a/transit", "k.1_2-3"),
        ),
        (VaultMasterKey("https://vault.example:443", "t", "k"), VaultMasterKey("https://vault.example", "t", "k")),
        (VaultMasterKey("http://vault:80/", "t", "k"), VaultMasterKey("http://vault", "t", "k")),
        (
            VaultMasterKey("https://example.com/team/vault/", "t", "k"),
            VaultMasterKey("https://example.com/team/vault", "t", "k"),
        ),
        (VaultMasterKey("http://[::1]:8200", "t", "k"), VaultMasterKey("http://[::1]:8200", "t", "k")),
        (VaultMasterKey(VAULT + "///", "t", "k"), VaultMasterKey(VAULT, "t", "k")),
        (VaultMasterKey(f" {VAULT}\n", "t", "k"), VaultMasterKey(VAULT, "t", "k")),
        (VaultMasterKey(VAULT, "a" + "/a" * 15, "k"), VaultMasterKey(VAULT, "a" + "/a" * 15, "k")),
    ],
)
def test_a_key_of_vault_passes_with_its_address_in_one_form(asked: VaultMasterKey, passed: VaultMasterKey) -> None:
    assert judged(asked) == passed


@pytest.mark.parametrize(
    ("engine", "name"),
    [
        ("", "k"),
        ("/", "k"),
        ("..", "k"),
        (".", "k"),
        ("../sys", "k"),
        ("transit/..", "k"),
        ("transit/../../v1/sys/raw", "k"),
        ("transit/./x", "k"),
        ("transit//x", "k"),
        ("transit/.hidden", "k"),
        ("transit%2f..", "k"),
        ("transit%2e%2e", "k"),
        ("transit?x", "k"),
        ("transit#x", "k"),
        ("transit;x", "k"),
        ("transit\\x", "k"),
        ("transit x", "k"),
        ("transit\n", "k"),
        ("tr\u0430nsit", "k"),
        ("https://evil.example", "k"),
        ("user@evil", "k"),
        ("a" + "/a" * 16, "k"),
        ("transit", ""),
        ("transit", ".."),
        ("transit", "."),
        ("transit", "a/b"),
        ("transit", "../../sys/seal"),
        ("transit", "k?x"),
        ("transit", "k#"),
        ("transit", "k%00"),
        ("transit", "k\n"),
        ("transit", "\u043a"),
        ("transit", "k" * 257),
    ],
)
def test_a_path_of_vault_that_could_lead_elsewhere_is_refused(engine: str, name: str) -> None:
    assert isinstance(judged(VaultMasterKey(VAULT, engine, name)), Refusal)


NO_ADDRESS = [
    "",
    "vault.example",
    "vault.example:8200",
    "//vault.example",
    "ftp://vault.example",
    "unix:///run/vault.sock",
    "file:///etc/passwd",
    "https:vault.example",
    "https://",
    "https:///path",
    "https://:8200",
    "https://user@vault.example:8200",
    "https://user:password@vault.example:8200",
    "https://vault.example:8200@evil.example",
    "https://@vault.example:8200",
    "https://vault.example:8200?x=1",
    "https://vault.example:8200#x",
    "https://vault.example:8200/a?",
    "https://vault.example:99999",
    "https://vault.example:-1",
    "https://vault.example:82x",
    "https://vault.example:8200:1",
    "https://vault.example:8200/../x",
    "https://vault.example:8200/a//b",
    "https://vault.example:8200/./a",
    "https://vault.example:8200/%2e%2e",
    "https://vault%2eexample:8200",
    "https://vault.example\\@evil.example",
    "https://vault.example:8200\\evil",
    "https://vault .example",
    "https://vault\t.example",
    "https://vault\n.example:8200",
    "https://vault.example:8200\0",
    "https://v\u0430ult.example:8200",
    "https://vault\u3002example:8200",
    "https://\u24e5ault.example:8200",
    "https://vault.example:\u0668\u0662\u0660\u0660",
    "https://[::1",
    "https://::1]:8200",
    "https://[zz]:8200",
    "https://vault.example;x:8200",
    "https://" + "v" * 3_000,
]


@pytest.mark.parametrize("address", NO_ADDRESS)
@pytest.mark.parametrize("named", [True, False])
def test_what_is_no_plain_address_of_a_server_is_refused(address: str, named: bool) -> None:
    key = VaultKey(token=SECRET, address=SensitiveText(VAULT)) if named else GIVEN["vault"]
    found = judged(VaultMasterKey(address, "transit", "k"), key)
    assert isinstance(found, Refusal)
    assert "password" not in found.message


ELSEWHERE = [
    "http://vault.example:8200",
    "https://vault.example",
    "https://vault.example:443",
    "https://vault.example:8201",
    "https://vault.example:0",
    "https://vault.example.:8200",
    "https://vault.example:8200/x",
    "https://vault.example.evil.example:8200",
    "https://evil.example/vault.example:8200",
    "https://vault-example:8200",
    "https://xvault.example:8200",
    "https://vault.example:82000",
    "https://xn--vult-53d.example:8200",
    "https://127.0.0.1:8200",
    "https://[::1]:8200",
    "https://[::1]vault.example:8200",
    OTHER_VAULT,
]
"""Addresses beside VAULT."""


@pytest.mark.parametrize("address", ELSEWHERE)
@pytest.mark.parametrize(
    ("given_key", "trust"),
    [
        (VaultKey(token=SECRET, address=SensitiveText(VAULT)), NOBODY),
        (VaultKey(token=SECRET, address=SensitiveText(VAULT + "/")), VaultTrust(allowed=tuple(ELSEWHERE))),
        (VaultKey(token=SECRET, pinned_address=VAULT), NOBODY),
        (VaultKey(), VaultTrust(allowed=(VAULT,))),
        (VaultKey(), VaultTrust(own=VAULT)),
        (VaultKey(kubernetes_role=SECRET), VaultTrust(own=VAULT)),
        (VaultKey(address=SensitiveText(OTHER_VAULT)), VaultTrust(own=VAULT)),
        (VaultKey(pinned_address=OTHER_VAULT), VaultTrust(own=VAULT)),
        (VaultKey(token=SECRET), VaultTrust(allowed=(VAULT,), naming_required=True)),
        (VaultKey(token=SECRET), VaultTrust(first=VAULT)),
    ],
)
def test_a_token_goes_to_no_server_but_the_one_that_is_named(
    address: str, given_key: VaultKey, trust: VaultTrust
) -> None:
    found = judge(VaultMasterKey(address, "transit", "k"), given_key, trust)
    assert isinstance(found, Refusal)
    assert CANARY not in found.message


@pytest.mark.parametrize(
    ("given_key", "trust", "named"),
    [
        (VaultKey(token=SECRET, address=SensitiveText("HTTPS://VAULT.example:8200/\n")), NOBODY, True),
        (VaultKey(token=SECRET, pinned_address=VAULT), NOBODY, True),
        (VaultKey(token=SECRET, pinned_address=OTHER_VAULT), VaultTrust(allowed=(OTHER_VAULT, VAULT)), True),
        (VaultKey(token=SECRET), VaultTrust(allowed=(VAULT + "/",), naming_required=True), True),
        (VaultKey(token=SECRET), VaultTrust(own=VAULT, naming_required=True), True),
        (VaultKey(token=SECRET, address=SensitiveText(VAULT)), VaultTrust(naming_required=True), True),
        (VaultKey(token=SECRET, pinned_address=VAULT), VaultTrust(naming_required=True), True),
        (VaultKey(), VaultTrust(own=VAULT), True),
        (VaultKey(), VaultTrust(allowed=(VAULT,)), True),
        (VaultKey(token=SECRET), NOBODY, False),
        (VaultKey(role_id=SECRET), NOBODY, False),
        (VaultKey(kubernetes_role=SECRET, kubernetes_token=SECRET), NOBODY, False),
        (VaultKey(token=SECRET), VaultTrust(first=VAULT), False),
        (VaultKey(token=SECRET), VaultTrust(allowed=(OTHER_VAULT,)), False),
    ],
)
def test_a_token_goes_to_the_server_that_is_named_or_to_the_first_where_none_is(
    given_key: VaultKey, trust: VaultTrust, named: bool
) -> None:
    asked = VaultMasterKey(VAULT, "transit", "k")
    assert judge(asked, given_key, trust) == asked
    assert is_named(VAULT, given_key, trust) is named


@pytest.mark.parametrize(
    ("given_key", "trust", "says"),
    [
        (VaultKey(token=SECRET, address=SensitiveText(VAULT)), NOBODY, "spec.provider.vault.address names another"),
        (VaultKey(token=SECRET, pinned_address=VAULT), NOBODY, f"the token was sent to {VAULT} until now"),
        (VaultKey(token=SECRET, pinned_address=VAULT), NOBODY, f"set spec.provider.vault.address to {OTHER_VAULT}"),
        (VaultKey(token=SECRET), VaultTrust(naming_required=True), "which nothing allows"),
        (VaultKey(token=SECRET), VaultTrust(first=VAULT), "a second Vault"),
        (VaultKey(), NOBODY, "--allow-vault-address"),
    ],
)
def test_a_refusal_of_a_vault_says_what_to_do(given_key: VaultKey, trust: VaultTrust, says: str) -> None:
    found = judge(VaultMasterKey(OTHER_VAULT, "transit", "k"), given_key, trust)
    assert isinstance(found, Refusal)
    assert OTHER_VAULT in found.message
    assert says in found.message


# Names and patterns


@pytest.mark.parametrize(
    ("key", "fails", "field"),
    [
        (
            AwsKey(key_id=SECRET, allowed_keys=("arn:aws:kms:*:111122223333:key/*",)),
            AwsMasterKey(ARN.replace("111122223333", "999999999999")),
            "aws",
        ),
        (GcpKey(access_token=SECRET, allowed_keys=("projects/p/*",)), GcpMasterKey(GCP), "gcp"),
        (
            GcpKey(access_token=SECRET, allowed_keys=("projects/p/locations/*/keyRings/*/cryptoKeys/k",)),
            GcpMasterKey(GCP + "2"),
            "gcp",
        ),
        (
            VaultKey(token=SECRET, allowed_keys=("transit/keys/*",)),
            VaultMasterKey(VAULT, "team/transit", "k"),
            "vault",
        ),
        (
            HuaweiKey(access_key=SECRET, secret_key=SECRET, project_id=SECRET, allowed_keys=("cn-north-1:*",)),
            HuaweiMasterKey(HUAWEI),
            "h",
        ),
    ],
)
def test_a_key_that_no_pattern_takes_is_refused_and_the_field_is_reported(
    key: DecryptionKey, fails: MasterKey, field: str
) -> None:
    found = judge(fails, key, NOBODY)
    assert isinstance(found, Refusal)
    assert f"spec.provider.{field}" in found.message
    assert "allowedKeys does not list" in found.message


@pytest.mark.parametrize(
    ("key", "passes"),
    [
        (AwsKey(key_id=SECRET, allowed_keys=("x", "arn:aws:kms:*:111122223333:key/*")), AwsMasterKey(ARN)),
        (
            GcpKey(access_token=SECRET, allowed_keys=("projects/p/locations/*/keyRings/*/cryptoKeys/*",)),
            GcpMasterKey(GCP),
        ),
        (VaultKey(token=SECRET, allowed_keys=("transit/keys/*",)), VaultMasterKey(VAULT, "transit", "k")),
        (
            HuaweiKey(access_key=SECRET, secret_key=SECRET, project_id=SECRET, allowed_keys=("tr-*-1:*",)),
            HuaweiMasterKey(HUAWEI),
        ),
    ],
)
def test_a_key_that_one_pattern_takes_passes(key: DecryptionKey, passes: MasterKey) -> None:
    assert judge(passes, key, NOBODY) == passes


@pytest.mark.parametrize(
    ("name", "pattern", "takes"),
    [
        ("abc", "abc", True),
        ("abc", "a*c", True),
        ("ac", "a*c", True),
        ("abc", "*", True),
        ("a:c", "a*c", False),
        ("a/c", "a*c", False),
        ("a/b/c", "a/*/c", True),
        ("abc", "ab", False),
        ("abc", "bc", False),
        ("abc\n", "abc", False),
        ("abc\n", "abc*", True),
        ("a.c", "a.c", True),
        ("abc", "a.c", False),
        ("abc", "a[b]c", False),
        ("a[b]c", "a[b]c", True),
        ("abc", "", False),
        ("a?c", "a?c", True),
        ("ac", "ab?c", False),
        ("a\\c", "a\\c", True),
        ("a:b/c", "**", True),
        ("a\n:b/c", "a**c", True),
        ("a:b/c", "a:**/c", True),
        ("x:b/c", "a**", False),
    ],
)
def test_a_star_stands_for_anything_but_separators_and_all_else_for_itself(
    name: str, pattern: str, takes: bool
) -> None:
    assert matches(name, pattern) is takes


def test_a_key_of_another_kind_is_never_given_to_a_request() -> None:
    requests: tuple[MasterKey, ...] = (
        AwsMasterKey(ARN),
        GcpMasterKey(GCP),
        AzureMasterKey(AZURE, "k", ""),
        VaultMasterKey(VAULT, "transit", "k"),
        HuaweiMasterKey(HUAWEI),
    )
    for asked in requests:
        for provider, key in GIVEN.items():
            assert isinstance(judge(asked, key, NOBODY), Refusal) is (provider != provider_of(asked))


@pytest.mark.parametrize("kind", [AgeMasterKey, PgpMasterKey])
def test_a_recipient_is_any_one_line_of_plain_text(kind: type[AgeMasterKey | PgpMasterKey]) -> None:
    for name in ("age1" + "q" * 58, "ssh-ed25519 AAAA a@b", "A" * 2_048):
        assert judged(kind(name)) == kind(name)
    for name in ("", "a\nb", "\x1b[31m", "\u00e9", "A" * 2_049, "a\0"):
        assert isinstance(judged(kind(name)), Refusal)


@pytest.mark.parametrize(
    ("key", "recipients", "allowed"),
    [
        (AgeMasterKey("age1x"), (), True),
        (AgeMasterKey("age1x"), ("age1y", "age1x"), True),
        (AgeMasterKey("age1xy"), ("age1x",), False),
        (AwsMasterKey(ARN, ROLE), ("arn:aws:kms:*:111122223333:key/*",), True),
        (AwsMasterKey(ARN), ("arn:aws:kms:*:999999999999:key/*",), False),
        (GcpMasterKey(GCP), ("projects/p/**",), True),
        (GcpMasterKey(GCP), ("projects/*",), False),
        (AzureMasterKey(AZURE, "k", "1"), (f"{AZURE}/**",), True),
        (AzureMasterKey("https://w.vault.azure.net", "k", "1"), (f"{AZURE}/**",), False),
        (VaultMasterKey(VAULT, "team/transit", "k"), (f"{VAULT}/v1/team/transit/keys/*",), True),
        (VaultMasterKey(VAULT, "team/transit", "k"), (f"{VAULT}/v1/*/keys/*",), False),
        (VaultMasterKey(OTHER_VAULT, "transit", "k"), (f"{VAULT}/**",), False),
        (HuaweiMasterKey(HUAWEI), ("tr-west-1:*",), True),
        (PgpMasterKey("A" * 40), ("B" * 40,), False),
        (AgeMasterKey("\x1b[31m\n"), ("age1x",), False),
    ],
)
def test_a_policys_list_of_recipients_takes_whole_names_only(
    key: MasterKey, recipients: tuple[str, ...], allowed: bool
) -> None:
    found = allowed_by_policy(key, recipients)
    assert (found is None) is allowed
    if found is not None:
        assert name_of(key) in found.message
        assert found.message.isprintable()


# What holds of all

ANY_TEXT = st.text(max_size=40)
_PARTS = (
    *("https://", "http://", "//", "/", "\\", "@", ":", "#", "?", ".", "..", "%2e", "[", "]", "::1", "\n", "\t"),
    *("vault.example", "vault.example:8200", "evil.example", ":443", ":80", "user:password@", "\u0430", "\uff0e"),
    *("v.vault.azure.net", "VAULT.EXAMPLE", "eu-west-1", "transit", " ", "a", "0"),
)
HOSTILE = st.lists(st.sampled_from(_PARTS), max_size=8).map("".join)
SOME = HOSTILE | ANY_TEXT | st.sampled_from([VAULT, OTHER_VAULT, AZURE, ARN, GCP, HUAWEI, ROLE, "transit", "k", ""])
ANY_KEY: st.SearchStrategy[MasterKey] = st.one_of(
    st.builds(AgeMasterKey, SOME),
    st.builds(PgpMasterKey, SOME),
    st.builds(AwsMasterKey, SOME, SOME, st.lists(st.tuples(ANY_TEXT, ANY_TEXT), max_size=3).map(tuple), SOME),
    st.builds(GcpMasterKey, SOME),
    st.builds(AzureMasterKey, SOME, SOME, SOME),
    st.builds(VaultMasterKey, SOME, SOME, SOME),
    st.builds(HuaweiMasterKey, SOME),
)


HOSTS = st.from_regex(r"[A-Za-z0-9.-]{1,20}|\[[0-9a-f:]{2,9}\]", fullmatch=True)
PORTS = st.none() | st.integers(0, 70_000)
PATHS = st.lists(st.from_regex(r"[A-Za-z0-9._@:=+-]{0,4}", fullmatch=True), max_size=3).map("/".join)
ADDRESSES = st.builds(
    lambda scheme, host, port, path: f"{scheme}://{host}" + (f":{port}" if port is not None else "") + path,
    st.sampled_from(["http", "https", "HTTPS", "ftp"]),
    HOSTS,
    PORTS,
    PATHS.map(lambda path: "/" + path if path else ""),
)


@given(ADDRESSES | SOME)
def test_an_address_in_its_one_form_stays_as_it_is(text: str) -> None:
    once = normal_address(text)
    if once is None:
        return
    assert normal_address(once) == once
    assert once.isascii()
    assert once.isprintable()
    assert not once.endswith("/")
    scheme, _, authority = once.split("/")[:3]
    assert authority == authority.lower()
    assert "@" not in authority
    assert not authority.endswith({"http:": ":80", "https:": ":443"}[scheme])


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", ["vault.example", "10.0.0.1", "[fd00::1]", "vault"])
@pytest.mark.parametrize("port", ["", ":8200", ":1", ":65535"])
@pytest.mark.parametrize("path", ["", "/a", "/a/b.c"])
def test_every_plain_address_is_its_own_form(scheme: str, host: str, port: str, path: str) -> None:
    address = f"{scheme}://{host}{port}{path}"
    assert normal_address(address) == address
    assert normal_address(address.upper().replace(path.upper(), path) + "/") == address


@given(SOME, st.sampled_from([VaultKey(token=SECRET, address=SensitiveText(VAULT)), VaultKey()]))
def test_what_passes_for_a_named_vault_has_that_vaults_host_whoever_reads_the_url(
    address: str, given_key: VaultKey
) -> None:
    found = judge(VaultMasterKey(address, "transit", "k"), given_key, VaultTrust(own=VAULT))
    if isinstance(found, VaultMasterKey):
        # By urllib, and by RFC 3986's own expression (appendix B), as other libraries read it
        for url in (urllib.parse.urlsplit(found.address).netloc, _authority(found.address)):
            assert url == "vault.example:8200"
        assert found.address == VAULT
    else:
        assert isinstance(found, Refusal)


def _authority(url: str) -> str:
    found = re.match(r"^(([^:/?#]+):)?(//([^/?#]*))?([^?#]*)(\?([^#]*))?(#(.*))?", url)
    assert found is not None
    return found[4]


@given(st.lists(SOME, min_size=2, max_size=6))
def test_of_vaults_that_nobody_names_one_run_is_let_to_one_only(addresses: list[str]) -> None:
    trust, passed = NOBODY, set()
    for address in addresses:
        found = judge(VaultMasterKey(address, "transit", "k"), VaultKey(token=SECRET), trust)
        if isinstance(found, VaultMasterKey):
            passed.add(found.address)
            trust = attrs.evolve(trust, first=found.address)
    assert len(passed) <= 1


@given(ANY_KEY, st.sampled_from(["aws", "gcp", "azure", "vault", "huawei", "age", "pgp"]))
def test_what_passes_passes_again_unchanged_and_is_of_safe_characters(asked: MasterKey, provider: str) -> None:
    found = judge(asked, GIVEN[provider], NOBODY)
    if isinstance(found, Refusal):
        assert found.message.isprintable()
        assert CANARY not in found.message
        return
    assert judge(found, GIVEN[provider], NOBODY) == found
    match found:
        case AwsMasterKey():
            assert (found.role, found.profile) == ("", "")
            assert re.fullmatch(r"[a-z0-9-]+", found.arn.split(":")[3])
        case AzureMasterKey():
            authority = _authority(found.vault_url)
            assert found.vault_url == f"https://{authority}"
            assert re.fullmatch(r"[A-Za-z0-9-]+(\.[a-z]+){3}", authority)
        case GcpMasterKey():
            assert {".", "..", ""}.isdisjoint(found.resource_id.split("/"))
        case VaultMasterKey():
            assert found.address == normal_address(found.address)
            assert {".", "..", ""}.isdisjoint([*found.engine_path.split("/"), found.key_name])
        case HuaweiMasterKey():
            assert re.fullmatch(r"[a-z0-9-]+", found.key_id.split(":")[0])


LONG: st.SearchStrategy[MasterKey] = st.one_of(
    st.builds(AgeMasterKey, st.just("a" * 5_000)),
    st.builds(AwsMasterKey, st.just("b\n" * 5_000)),
    st.builds(VaultMasterKey, st.just("https://" + "c" * 5_000), st.just("d" * 5_000), SOME),
)


@given(ANY_KEY | LONG)
def test_a_name_is_one_short_line(key: MasterKey) -> None:
    name = name_of(key)
    assert name.isprintable()
    assert name.isascii()
    assert len(name) <= 220


PLAIN = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=20)


@given(PLAIN, PLAIN, st.sampled_from(["https", "http", "ftp"]), st.sampled_from(["vault", "azure"]))
def test_neither_a_name_nor_a_refusal_holds_the_user_and_password_of_a_url(
    user: str, password: str, scheme: str, kind: str
) -> None:
    url = f"{scheme}://{user}-{CANARY}:{password}-{CANARY}@host.example"
    key: MasterKey = VaultMasterKey(url, "transit", "k") if kind == "vault" else AzureMasterKey(url, "k", "")
    for given_key in (GIVEN[kind], AzureKey(client_secret=SECRET, allowed_vaults=(AZURE,))):
        found = judge(key, given_key, NOBODY)
        assert isinstance(found, Refusal)
        assert CANARY not in found.message
    assert CANARY not in name_of(key)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (AgeMasterKey("age1x"), "age age1x"),
        (PgpMasterKey("ABCD"), "pgp ABCD"),
        (AwsMasterKey(ARN, ROLE), f"AWS KMS {ARN}"),
        (GcpMasterKey(GCP), f"GCP KMS {GCP}"),
        (AzureMasterKey(AZURE, "k", "1"), f"Azure Key Vault {AZURE}/keys/k/1"),
        (VaultMasterKey(VAULT, "transit", "k"), f"Vault {VAULT}/v1/transit/keys/k"),
        (HuaweiMasterKey(HUAWEI), f"Huawei Cloud KMS {HUAWEI}"),
        (AgeMasterKey("a\n\x1b[31m\u00e9"), "age a??[31m?"),
        (VaultMasterKey("https://u:p@vault.example", "t", "k"), "Vault https://vault.example/v1/t/keys/k"),
    ],
)
def test_a_name_tells_the_kind_and_where_the_key_is(key: MasterKey, name: str) -> None:
    assert name_of(key) == name


@pytest.mark.parametrize(
    "given_key",
    [
        VaultKey(token=SECRET, address=SensitiveText(OTHER_VAULT)),
        VaultKey(token=SECRET, pinned_address=OTHER_VAULT),
        VaultKey(token=SECRET),
        VaultKey(role_id=SECRET, secret_id=SECRET),
        VaultKey(kubernetes_role=SECRET, kubernetes_token=SECRET),
    ],
    ids=["the spec", "a status, which may be forged", "nobody but the file", "AppRole", "Kubernetes"],
)
def test_by_a_policy_a_token_goes_to_no_server_that_it_does_not_list_whoever_names_it(given_key: VaultKey) -> None:
    asked = VaultMasterKey(OTHER_VAULT, "sops", "k")
    for allowed in ((NO_SERVER,), (VAULT,), (f"{OTHER_VAULT}.evil",), ("https://*.org",)):
        bound = attrs.evolve(given_key, allowed_addresses=allowed)
        found = judged(asked, bound)
        assert isinstance(found, Refusal)
        assert "keyServices" in found.message
        # What Krapao's own operator lists is no tenant's choice.
        if given_key.address is None:
            assert judged(asked, bound, VaultTrust(allowed=(OTHER_VAULT,))) == asked
    for listed in ((OTHER_VAULT,), (VAULT, "https://*.example")):
        assert judged(asked, attrs.evolve(given_key, allowed_addresses=listed)) == asked


def test_a_policy_opens_no_server_that_the_spec_does_not_name() -> None:
    key = VaultKey(token=SECRET, address=SensitiveText(VAULT), allowed_addresses=("**",))
    assert isinstance(judged(VaultMasterKey(OTHER_VAULT, "sops", "k"), key), Refusal)
