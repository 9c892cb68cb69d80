"""What a holder is started with: its own provider's variables and no others, and what is refused without a quote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from krapao.decryption.credential_samples import (
    CANARY,
    CERTIFICATE,
    VAULT,
    account,
    assert_says_nothing,
    certificate,
    made,
    secret,
)
from support.krapao.key_services import lent

from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.krapao.decryption.credential_files import service_account
from jiemi.krapao.decryption.environments import (
    CLIENT_TIMEOUT_SECONDS,
    EMPTY_ENVIRONMENT,
    CloudKey,
    Plan,
    given_name,
)
from jiemi.krapao.operator_environment import AMBIENT_PROVIDERS, OperatorEnvironment
from jiemi.rpc.keys import AwsKey, AzureKey, GcpKey, HuaweiKey, VaultKey

POD = {
    "PATH": "/usr/bin",
    "HOME": "/home/krapao",
    "LD_PRELOAD": "/evil.so",
    "SOPS_AGE_KEY": CANARY,
    "AWS_ACCESS_KEY_ID": "pod-id",
    "AWS_SECRET_ACCESS_KEY": "pod-secret",
    "AWS_ROLE_ARN": "arn:aws:iam::111122223333:role/pod",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/aws/token",
    "AWS_PROFILE": "not-taken",
    "AWS_ENDPOINT_URL": "https://not-taken.example",
    "AWS_REGION": "eu-west-1",
    "GOOGLE_APPLICATION_CREDENTIALS": "/var/run/gcp/credentials.json",
    "AZURE_TENANT_ID": "pod-tenant",
    "AZURE_CLIENT_ID": "pod-client",
    "AZURE_FEDERATED_TOKEN_FILE": "/var/run/azure/token",
    "VAULT_ADDR": VAULT,
    "VAULT_TOKEN": "pod-token",
    "VAULT_CACERT": "/etc/vault/ca.pem",
    "VAULT_SKIP_VERIFY": "true",
    "HUAWEICLOUD_SDK_AK": CANARY,
    "HUAWEICLOUD_SDK_PROJECT_ID": CANARY,
    "HUAWEICLOUD_SDK_IAM_ENDPOINT": "https://iam.cloud.example",
    "HUAWEICLOUD_SDK_REGION_KMS_TR_WEST_1": "https://kms.cloud.example",
    "HTTPS_PROXY": "http://proxy.example:3128",
    "NO_PROXY": "",
    "SSL_CERT_FILE": "/etc/ssl/ca.pem",
}
"""Krapao's own environment in a pod with everything."""


ALL = OperatorEnvironment.of(POD, lent(*AMBIENT_PROVIDERS))


NETWORK = {
    "HTTPS_PROXY": "http://proxy.example:3128",
    "SSL_CERT_FILE": "/etc/ssl/ca.pem",
    "HUAWEICLOUD_SDK_IAM_ENDPOINT": "https://iam.cloud.example",
    "HUAWEICLOUD_SDK_REGION_KMS_TR_WEST_1": "https://kms.cloud.example",
}


def added(found: Plan) -> Mapping[str, str]:
    """The variables that are not as they are for every process of sops's."""
    return {name: value for name, value in found.environment.items() if EMPTY_ENVIRONMENT.get(name) != value}


CERTIFICATE_AND_KEY = certificate()


VAULT_ALWAYS = {
    "VAULT_TOKEN": "token",
    "VAULT_ADDR": VAULT,
    "SOPS_HC_VAULT_ALLOWLIST": VAULT,
    "VAULT_MAX_RETRIES": "1",
    "VAULT_CLIENT_TIMEOUT": f"{CLIENT_TIMEOUT_SECONDS}s",
    "VAULT_DISABLE_REDIRECTS": "true",
}


AWS_ALWAYS = {"AWS_MAX_ATTEMPTS": "2", "AWS_RETRY_MODE": "standard"}


GCP_ALWAYS = {"SOPS_GCP_KMS_CLIENT_TYPE": "rest"}


OWN: list[tuple[CloudKey, dict[str, str]]] = [
    (
        AwsKey(key_id=secret("id"), access_key=secret("key")),
        {**AWS_ALWAYS, "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key"},
    ),
    (
        AwsKey(
            key_id=secret(" id\n"),
            access_key=secret("key\r\n"),
            session_token=secret("session"),
            region=secret("eu-west-1"),
            role_arn=secret("arn:aws:iam::111122223333:role/r"),
            endpoint=secret("http://127.0.0.1:1/"),
            sts_endpoint=secret("https://sts.example"),
        ),
        {
            **AWS_ALWAYS,
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "key",
            "AWS_SESSION_TOKEN": "session",
            "AWS_REGION": "eu-west-1",
            "AWS_ENDPOINT_URL_KMS": "http://127.0.0.1:1/",
            "AWS_ENDPOINT_URL_STS": "https://sts.example",
        },
    ),
    (GcpKey(access_token=secret("token\n")), {**GCP_ALWAYS, "GOOGLE_OAUTH_ACCESS_TOKEN": "token"}),
    (
        GcpKey(service_account=secret(account()), endpoint=secret("https://kms.example")),
        {
            **GCP_ALWAYS,
            "GOOGLE_CREDENTIALS": service_account(secret(account())),
            "SOPS_GCP_KMS_ENDPOINT": "https://kms.example",
        },
    ),
    (
        AzureKey(
            tenant_id=secret("t"),
            client_id=secret("c"),
            client_secret=secret("s"),
            authority_host=secret("https://login.microsoftonline.us"),
        ),
        {
            "AZURE_TENANT_ID": "t",
            "AZURE_CLIENT_ID": "c",
            "AZURE_CLIENT_SECRET": "s",
            "AZURE_AUTHORITY_HOST": "https://login.microsoftonline.us",
        },
    ),
    (
        AzureKey(tenant_id=secret("t"), client_id=secret("c"), client_certificate=secret(CERTIFICATE_AND_KEY)),
        {"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c"},
    ),
    (VaultKey(token=secret("not read here")), VAULT_ALWAYS),
    (
        VaultKey(role_id=secret("r"), secret_id=secret("s"), namespace=secret("team/a\n")),
        {**VAULT_ALWAYS, "VAULT_NAMESPACE": "team/a"},
    ),
    (
        HuaweiKey(access_key=secret("ak"), secret_key=secret("sk"), project_id=secret("p")),
        {"HUAWEICLOUD_SDK_AK": "ak", "HUAWEICLOUD_SDK_SK": "sk", "HUAWEICLOUD_SDK_PROJECT_ID": "p"},
    ),
]


@pytest.mark.parametrize(("key", "expected"), OWN)
def test_a_holder_gets_the_variables_of_its_own_credentials_and_no_others(
    key: CloudKey, expected: dict[str, str]
) -> None:
    found = made(key)
    assert added(found) == expected
    assert found.environment.keys() == EMPTY_ENVIRONMENT.keys() | expected.keys()
    assert found.read == ()


@pytest.mark.parametrize(("key", "expected"), OWN)
def test_of_krapaos_own_environment_a_key_with_credentials_gets_proxies_and_authorities_only(
    key: CloudKey, expected: dict[str, str]
) -> None:
    found = made(key, ALL)
    assert added(found) == NETWORK | expected
    assert found.read == ()


@pytest.mark.parametrize(("key", "expected"), OWN)
def test_a_plan_prints_without_its_variables(key: CloudKey, expected: dict[str, str]) -> None:
    shown = repr(made(key, ALL))
    assert shown.startswith("Plan(")
    assert not any(value in shown for name, value in expected.items() if len(value) > 8)
    assert CANARY not in shown
    assert "BEGIN" not in shown


def test_every_other_place_where_credentials_are_looked_for_is_shut() -> None:
    for key, _ in OWN:
        found = made(key).environment
        assert found["AWS_EC2_METADATA_DISABLED"] == "true"
        assert found["AWS_SHARED_CREDENTIALS_FILE"].startswith("/nonexistent")
        assert found["AWS_CONFIG_FILE"].startswith("/nonexistent")
        assert found["AZURE_TOKEN_CREDENTIALS"] == "EnvironmentCredential"
        assert found["GOOGLE_APPLICATION_CREDENTIALS"].startswith("/nonexistent")
        assert "169.254" not in found["GCE_METADATA_HOST"]
        assert found["PATH"] == "/nonexistent"
        assert found["GOTRACEBACK"] == "none"
        vault = VAULT if isinstance(key, VaultKey) else "https://vault.invalid"
        assert found["SOPS_HC_VAULT_ALLOWLIST"] == vault
        assert "HOME" not in found


def test_files_are_named_by_their_variables_and_not_put_into_the_environment() -> None:
    azure = made(AzureKey(tenant_id=secret("t"), client_id=secret("c"), client_certificate=secret(CERTIFICATE_AND_KEY)))
    assert azure.files == {"AZURE_CLIENT_CERTIFICATE_PATH": secret(CERTIFICATE_AND_KEY)}
    vault = made(VaultKey(token=secret("x"), ca_bundle=secret(CERTIFICATE)))
    assert vault.files == {"VAULT_CACERT": secret(CERTIFICATE)}
    for found in (azure, vault):
        assert not any("BEGIN" in value for value in found.environment.values())


AMBIENT: dict[str, CloudKey] = {"aws": AwsKey(), "gcp": GcpKey(), "azure": AzureKey(), "vault": VaultKey()}


@pytest.mark.parametrize("provider", AMBIENT_PROVIDERS)
@pytest.mark.parametrize("others", [True, False])
def test_an_identity_that_the_operator_does_not_lend_is_refused(provider: str, others: bool) -> None:
    allowed = frozenset(AMBIENT_PROVIDERS) - {provider} if others else frozenset[str]()
    with pytest.raises(JiemiError) as caught:
        made(AMBIENT[provider], OperatorEnvironment.of(POD, lent(*allowed)))
    assert caught.value.failure.reason == "AmbientIdentityNotAllowed"
    assert f"--allow-ambient-identity {provider}" in caught.value.failure.text


@pytest.mark.parametrize(
    ("provider", "expected", "read"),
    [
        (
            "aws",
            {
                **AWS_ALWAYS,
                "AWS_ACCESS_KEY_ID": "pod-id",
                "AWS_SECRET_ACCESS_KEY": "pod-secret",
                "AWS_ROLE_ARN": "arn:aws:iam::111122223333:role/pod",
                "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/aws/token",
                "AWS_REGION": "eu-west-1",
                "AWS_EC2_METADATA_DISABLED": "false",
            },
            ("/var/run/aws/token",),
        ),
        (
            "gcp",
            {**GCP_ALWAYS, "GOOGLE_APPLICATION_CREDENTIALS": "/var/run/gcp/credentials.json"},
            ("/var/run/gcp/credentials.json",),
        ),
        (
            "azure",
            {
                "AZURE_TENANT_ID": "pod-tenant",
                "AZURE_CLIENT_ID": "pod-client",
                "AZURE_FEDERATED_TOKEN_FILE": "/var/run/azure/token",
                "AZURE_TOKEN_CREDENTIALS": "WorkloadIdentityCredential",
            },
            ("/var/run/azure/token",),
        ),
        ("vault", {**VAULT_ALWAYS, "VAULT_CACERT": "/etc/vault/ca.pem"}, ("/etc/vault/ca.pem",)),
    ],
)
def test_an_identity_that_is_lent_is_that_of_its_provider_only(
    provider: str, expected: dict[str, str], read: tuple[str, ...]
) -> None:
    found = made(AMBIENT[provider], OperatorEnvironment.of(POD, lent(provider)))
    # GCP's metadata address is not looked at here: with a file of credentials nobody asks it.
    assert {name: value for name, value in added(found).items() if name != "GCE_METADATA_HOST"} == NETWORK | expected
    assert found.read == read


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"AZURE_FEDERATED_TOKEN_FILE": "/t"}, "WorkloadIdentityCredential"),
        ({"AZURE_CLIENT_SECRET": "s", "AZURE_CLIENT_ID": "c"}, "EnvironmentCredential"),
        ({}, "ManagedIdentityCredential"),
        ({"AZURE_CLIENT_ID": "c"}, "ManagedIdentityCredential"),
    ],
)
def test_azures_library_is_given_the_one_kind_of_identity_that_there_is(
    variables: dict[str, str], expected: str
) -> None:
    found = made(AzureKey(), OperatorEnvironment.of(variables, lent("azure")))
    assert found.environment["AZURE_TOKEN_CREDENTIALS"] == expected


def test_vaults_token_is_the_one_that_was_given_for_the_server_and_not_the_pods() -> None:
    found = made(VaultKey(), ALL, token="lent")
    assert found.environment["VAULT_TOKEN"] == "lent"
    assert "pod-token" not in found.environment.values()


@pytest.mark.parametrize(
    "key",
    [
        AwsKey(endpoint=secret(f"https://{CANARY}.example")),
        AwsKey(sts_endpoint=secret(f"https://{CANARY}.example")),
        GcpKey(endpoint=secret(f"https://{CANARY}.example")),
        AzureKey(authority_host=secret(f"https://{CANARY}.example")),
    ],
)
def test_krapaos_identity_never_goes_to_a_server_of_the_decryptors(key: CloudKey) -> None:
    with pytest.raises(JiemiError, match="stands without credentials of the Decryptor's own") as caught:
        made(key, ALL)
    assert caught.value.failure.reason == "KeyInvalid"
    assert_says_nothing(caught.value)


def test_only_the_variables_that_are_meant_are_taken_from_krapaos_environment() -> None:
    assert ALL.network == NETWORK
    assert ALL.ambient.keys() == set(AMBIENT_PROVIDERS)
    taken = {name for variables in ALL.ambient.values() for name in variables}
    assert taken.isdisjoint({"PATH", "HOME", "LD_PRELOAD", "SOPS_AGE_KEY", "AWS_PROFILE", "AWS_ENDPOINT_URL"})
    assert "VAULT_SKIP_VERIFY" not in taken
    assert OperatorEnvironment.of(POD, lent()).ambient == {}
    assert "pod-" not in repr(ALL)


BAD_TEXTS = {
    "two lines": f"{CANARY}\n{CANARY}",
    "a carriage return": f"{CANARY}\r{CANARY}",
    "a NUL": f"{CANARY}\0",
    "an escape": f"\x1b[31m{CANARY}",
    "a tab inside": f"{CANARY}\t{CANARY}",
    "a DEL": f"{CANARY}\x7f",
    "no ASCII": f"{CANARY}\u00e9",
    "a space of another kind": f"{CANARY}\u00a0{CANARY}",
    "half of a surrogate pair": f"{CANARY}\ud800",
    "too long": f"{CANARY}{'x' * 4_096}",
    "nothing": " \n",
}


FIELDS: dict[str, CloudKey] = {
    "aws.keyId": AwsKey(key_id=secret(), access_key=secret("key")),
    "aws.accessKey": AwsKey(key_id=secret("id"), access_key=secret()),
    "aws.sessionToken": AwsKey(key_id=secret("id"), access_key=secret("key"), session_token=secret()),
    "aws.region": AwsKey(key_id=secret("id"), access_key=secret("key"), region=secret()),
    "aws.endpoint": AwsKey(key_id=secret("id"), access_key=secret("key"), endpoint=secret()),
    "aws.stsEndpoint": AwsKey(key_id=secret("id"), access_key=secret("key"), sts_endpoint=secret()),
    "gcp.accessToken": GcpKey(access_token=secret()),
    "gcp.endpoint": GcpKey(access_token=secret("token"), endpoint=secret()),
    "azure.tenantId": AzureKey(tenant_id=secret(), client_id=secret("c"), client_secret=secret("s")),
    "azure.clientId": AzureKey(tenant_id=secret("t"), client_id=secret(), client_secret=secret("s")),
    "azure.clientSecret": AzureKey(tenant_id=secret("t"), client_id=secret("c"), client_secret=secret()),
    "azure.authorityHost": AzureKey(
        tenant_id=secret("t"), client_id=secret("c"), client_secret=secret("s"), authority_host=secret()
    ),
    "vault.namespace": VaultKey(token=secret("t"), namespace=secret()),
    "huawei.accessKey": HuaweiKey(access_key=secret(), secret_key=secret("sk"), project_id=secret("p")),
    "huawei.secretKey": HuaweiKey(access_key=secret("ak"), secret_key=secret(), project_id=secret("p")),
    "huawei.projectId": HuaweiKey(access_key=secret("ak"), secret_key=secret("sk"), project_id=secret()),
}
"""By the field's name, a key whose value there is the canary."""


def with_value(field: str, text: str) -> CloudKey:
    key = FIELDS[field]
    [name] = [each.name for each in attrs.fields(type(key)) if getattr(key, each.name) == secret()]
    change: Any = {name: SensitiveText(text)}
    return attrs.evolve(key, **change)


@pytest.mark.parametrize("name", BAD_TEXTS)
@pytest.mark.parametrize("field", FIELDS)
def test_a_credential_that_is_no_single_line_of_plain_text_is_refused_without_being_quoted(
    field: str, name: str
) -> None:
    with pytest.raises(JiemiError) as caught:
        made(with_value(field, BAD_TEXTS[name]))
    assert caught.value.failure.reason == "KeyInvalid"
    assert f"provider.{field} " in caught.value.failure.text
    assert_says_nothing(caught.value)


@given(st.sampled_from(sorted(FIELDS)), st.text(min_size=1))
def test_any_text_in_a_field_is_taken_as_it_is_or_refused(field: str, text: str) -> None:
    try:
        found = made(with_value(field, text))
    except JiemiError as error:
        assert error.failure.reason == "KeyInvalid"
        return
    assert text.strip() in found.environment.values()
    for name, value in found.environment.items():
        assert value.isprintable(), name
        assert value.isascii(), name


@pytest.mark.parametrize("field", [name for name in FIELDS if "ndpoint" in name or "Host" in name])
@pytest.mark.parametrize(
    "url",
    [
        CANARY,
        f"ftp://{CANARY}.example",
        f"https://user:{CANARY}@host.example",
        f"https://host.example?{CANARY}",
        f"https://host.example/{CANARY}/../x",
        "https://",
        f"unix:///{CANARY}",
    ],
)
def test_an_endpoint_that_is_no_url_of_a_server_is_refused_without_being_quoted(field: str, url: str) -> None:
    with pytest.raises(JiemiError, match="is no http:// or https:// URL of a server") as caught:
        made(with_value(field, url))
    assert caught.value.failure.reason == "KeyInvalid"
    assert_says_nothing(caught.value)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (AwsKey(key_id=secret()), "accessKey"),
        (AzureKey(client_id=secret(), client_secret=secret()), "tenantId and clientId"),
        (AzureKey(tenant_id=secret(), client_secret=secret()), "tenantId and clientId"),
        (AzureKey(tenant_id=secret("t"), client_id=secret("c"), client_certificate=secret()), "clientCertificate"),
        (
            AzureKey(tenant_id=secret("t"), client_id=secret("c"), client_certificate=secret(CERTIFICATE)),
            "with its private key",
        ),
        (
            AzureKey(
                tenant_id=secret("t"),
                client_id=secret("c"),
                client_certificate=secret(certificate(passphrase=CANARY.encode())),
            ),
            "without passphrase",
        ),
        (VaultKey(token=secret(), ca_bundle=secret()), "caBundle holds no certificate"),
        (VaultKey(token=secret(), ca_bundle=secret(CANARY + "\ud800")), "caBundle holds no certificate"),
        (
            VaultKey(token=secret(), ca_bundle=secret(CERTIFICATE.replace("M", "m"))),
            "caBundle holds no certificate",
        ),
    ],
)
def test_credentials_that_are_not_whole_are_refused_and_the_field_is_named(key: CloudKey, says: str) -> None:
    with pytest.raises(JiemiError) as caught:
        made(key, ALL)
    assert caught.value.failure.reason == "KeyInvalid"
    assert says in caught.value.failure.text
    assert_says_nothing(caught.value, CERTIFICATE.splitlines()[1])


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (AwsKey(), "Krapao's own aws identity"),
        (GcpKey(), "Krapao's own gcp identity"),
        (AzureKey(client_id=secret("c")), "Krapao's own azure identity"),
        (VaultKey(), "Krapao's own vault identity"),
        (AwsKey(key_id=secret(), access_key=secret()), "an AWS access key"),
        (
            AwsKey(key_id=secret(), access_key=secret(), role_arn=secret("arn:aws:iam::1:role/r\n")),
            "AWS role arn:aws:iam::1:role/r",
        ),
        (GcpKey(access_token=secret()), "a GCP access token"),
        (GcpKey(service_account=secret(account())), "GCP service account sops@p.iam.gserviceaccount.com"),
        (AzureKey(client_id=secret("client"), client_secret=secret()), "Azure client client"),
        (VaultKey(token=secret()), "a Vault token"),
        (VaultKey(role_id=secret(), secret_id=secret()), "a Vault token"),
        (HuaweiKey(access_key=secret(), secret_key=secret(), project_id=secret()), "a Huawei Cloud access key"),
    ],
)
def test_a_keys_name_is_a_public_one(key: CloudKey, name: str) -> None:
    assert given_name(key) == name
    assert CANARY not in name
