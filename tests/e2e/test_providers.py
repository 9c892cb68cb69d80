"""Every provider end to end: the shipped examples' Decryptors, and the other ways to give credentials.

Real control plane, Krapao, Miwen, sops and gpg; the key services are doubles on loopback.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from doubles.aws import REGION, Aws
from doubles.azure import Azure
from doubles.gcp import Gcp
from doubles.vault import Vault, open_vault
from pyrage import x25519
from support.e2e.lab import Lab, Repository
from support.e2e.providers import (
    Services,
    example,
    in_secret,
    literals,
    new_pgp_key,
    open_pgp_recipient,
    open_services,
    operator_environment,
    provider_of,
    temporary_credentials,
    texts_of,
)
from support.krapao.key_services import KeyService, secret
from support.kubernetes.api_server import Manifest
from support.paths import DATA

from jiemi.rpc.keys import AgeKey, AwsKey, AzureKey, DecryptionKey, GcpKey, PgpKey, VaultKey

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-providers"
CLOUDS = ("aws", "azure", "gcp", "huawei", "vault")


@pytest.fixture(scope="module")
def services(lab: Lab) -> Iterator[Services]:
    """All key services, with a Krapao that reaches them and a Miwen that looks each second."""
    lab.namespace(NAMESPACE)
    with open_services(lab.folder) as services:
        _, address = lab.start_krapao(environment=services.environment)
        lab.start_miwen(address, NAMESPACE, interval="1s")
        yield services
        lab.end_services()


@pytest.fixture(autouse=True)
def tidied(lab: Lab, services: Services) -> Iterator[None]:
    """Each test leaves working services and no Decryptor that would go on failing beside the next."""
    yield
    services.switch_back()
    lab.admin.call("DELETE", f"/apis/jiemi.cr/v1alpha1/namespaces/{NAMESPACE}/decryptors").ok()


def _secret(name: str, **values: str) -> bytes:
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}
    return json.dumps(manifest).encode()


def _encrypted(lab: Lab, service: KeyService, name: str, value: str = "one") -> dict[str, bytes]:
    """A file with a Secret of that name."""
    return {"secret.enc.yaml": service.encrypt(lab.tools["sops"], _secret(name, value=value), "yaml")}


def _apply(lab: Lab, name: str, repository: Repository, provider: Mapping[str, Any]) -> None:
    lab.admin.apply(lab.decryptor(NAMESPACE, name, repository.url, provider=provider)).ok()


def _follows(lab: Lab, name: str, service: KeyService, provider: Mapping[str, Any]) -> None:
    """A file that the service encrypts is opened with that provider."""
    repository = lab.repository()
    revision = repository.commit(_encrypted(lab, service, name))
    _apply(lab, name, repository, provider)
    lab.until_synced(NAMESPACE, name, revision)
    assert lab.data(NAMESPACE, name) == {"value": "one"}


def _message(status: Mapping[str, Any]) -> str:
    [ready] = [condition for condition in status["conditions"] if condition["type"] == "Ready"]
    return str(ready["message"])


def _filled(lab: Lab, provider: str, form: str, texts: Mapping[str, str], more: Mapping[str, str]) -> Manifest:
    """The example of a provider with its credentials put in.

    Args:
        texts: by field of the example that holds a credential.
        more: further fields, which the first version has not.
    """
    manifest = example(provider)
    name = f"{provider}-{form}"
    manifest["metadata"] = {"name": name, "namespace": NAMESPACE}
    given = manifest["spec"]["provider"][provider]
    assert set(texts) <= set(given)
    given |= (literals if form == "literal" else in_secret(lab, NAMESPACE, f"{name}-key"))(texts)
    given |= literals(more)
    return manifest


def _key_of_the_example(services: Services, provider: str) -> KeyService:
    """The service with a key that the example may use: of its region, in its vault."""
    service = services.by_provider[provider]
    match service.double:
        case Aws() as aws:
            region = example("aws")["spec"]["provider"]["aws"]["region"]["literal"]
            assert region != REGION
            return attrs.evolve(service, options=("--kms", aws.create_key(region=region)))
        case Azure() as azure:
            assert example("azure")["spec"]["provider"]["azure"]["allowedVaults"] == ["https://team.vault.azure.net"]
            return attrs.evolve(service, options=("--azure-kv", azure.create_key("database", "team")))
    return service


@pytest.mark.parametrize("form", ["literal", "secret"])
@pytest.mark.parametrize("provider", ["aws", "azure", "gcp", "huawei", "pgp", "vault"])
def test_the_shipped_decryptor_of_a_provider_is_followed(
    lab: Lab, services: Services, provider: str, form: str
) -> None:
    """aws, gcp, pgp and vault have the first version's form. Beside url, file and credentials nothing is changed, but
    that the doubles of AWS and Google Cloud are no public ones: `endpoint` is an addition to that form."""
    service = _key_of_the_example(services, provider)
    given = texts_of(service.right)
    more = {field: text for field, text in given.items() if field in ("endpoint", "stsEndpoint")}
    wanted = example(provider)["spec"]["provider"][provider]
    texts = {field: text for field, text in given.items() if field in wanted and field != "region"}
    manifest = _filled(lab, provider, form, texts, more)
    source = manifest["spec"]["source"]
    name = manifest["metadata"]["name"]
    repository = lab.repository()
    encrypted = service.encrypt(lab.tools["sops"], _secret(name, value=provider), "yaml")
    files = {source["fileToDecrypt"]: encrypted, ".sops.yaml": b"creation_rules: []\n"}
    assert source.get("sopsPath", ".sops.yaml") == ".sops.yaml"
    source["repository"]["url"] = repository.url
    revision = repository.commit(files)
    lab.admin.apply(manifest).ok()
    status = lab.until_synced(NAMESPACE, name, revision)
    assert lab.data(NAMESPACE, name) == {"value": provider}
    expected = services.double("vault", Vault).address if provider == "vault" else None
    assert status.get("vaultAddress") == expected
    assert len(status["encryption"]["recipients"]) == 1


def test_a_vault_without_a_token_uses_the_operators_own_where_that_is_allowed(lab: Lab, services: Services) -> None:
    vault = services.double("vault", Vault)
    token = vault.create_token(keys={"transit/keys/k"})
    namespace = lab.namespace("e2e-providers-ambient")
    _, address = lab.start_krapao(
        *("--allow-ambient-identity", "vault"),
        *("--ambient-key", f"vault={vault.address}/v1/transit/keys/*", "--ambient-repository", f"{lab.git.url}/**"),
        name="ambient",
        environment={**operator_environment(), "VAULT_ADDR": vault.address, "VAULT_TOKEN": token},
    )
    lab.start_miwen(address, namespace, interval="1s")
    repository = lab.repository()
    revision = repository.commit(_encrypted(lab, services.by_provider["vault"], "ambient"))
    # The first version's `vault: {}`.
    lab.admin.apply(lab.decryptor(namespace, "ambient", repository.url, provider={"vault": {}})).ok()
    status = lab.until_synced(namespace, "ambient", revision)
    assert lab.data(namespace, "ambient") == {"value": "one"}
    assert vault.tokens_seen[-1] == token
    assert "vaultAddress" not in status, "the operator names it"

    # Another Krapao lends nothing.
    _apply(lab, "ambient", repository, {"vault": {}})
    status = lab.until_reason(NAMESPACE, "ambient", "AmbientIdentityNotAllowed")
    assert "--allow-ambient-identity vault" in _message(status)

    with open_vault() as other:
        service = KeyService("vault", ("--hc-vault-transit", other.create_key("k")), other.environment(), *_NO_KEYS)
        repository.commit(_encrypted(lab, service, "ambient", "two"))
        other.requests.clear()
        lab.until_reason(namespace, "ambient", "DestinationNotAllowed")
        assert other.requests == []
    lab.admin.call("DELETE", f"/apis/jiemi.cr/v1alpha1/namespaces/{namespace}/decryptors").ok()


_NO_KEYS: tuple[DecryptionKey, DecryptionKey] = (VaultKey(), VaultKey())
"""For a service that only encrypts."""


def _vault_service(vault: Vault, uri: str, *, namespace: str = "") -> KeyService:
    """A service that encrypts for that key."""
    return KeyService("vault", ("--hc-vault-transit", uri), vault.environment(namespace=namespace), *_NO_KEYS)


# AWS


def test_temporary_credentials_of_aws_open_a_file_with_their_session_token_only(lab: Lab, services: Services) -> None:
    aws, service = services.double("aws", Aws), services.by_provider["aws"]
    role = aws.create_role("deployer")
    key_id, access_key, token = temporary_credentials(aws, role)
    kept = attrs.evolve(
        service,
        options=("--kms", aws.create_key(only=[role])),
        environment={
            **aws.environment(),
            "AWS_ACCESS_KEY_ID": key_id,
            "AWS_SECRET_ACCESS_KEY": access_key,
            "AWS_SESSION_TOKEN": token,
        },
    )
    assert isinstance(service.right, AwsKey)
    key = attrs.evolve(service.right, key_id=secret(key_id), access_key=secret(access_key))
    whole = attrs.evolve(key, session_token=secret(token))
    _follows(lab, "aws-session", kept, provider_of(whole, form=in_secret(lab, NAMESPACE, "aws-session-key")))
    repository = lab.repository(_encrypted(lab, kept, "aws-no-session"))
    _apply(lab, "aws-no-session", repository, provider_of(key))
    lab.until_reason(NAMESPACE, "aws-no-session", "KeyServiceDenied")


def test_a_role_of_aws_is_assumed_where_the_spec_names_it_and_never_because_a_file_does(
    lab: Lab, services: Services
) -> None:
    aws, service = services.double("aws", Aws), services.by_provider["aws"]
    role, other = aws.create_role("reader"), aws.create_role("admin")
    arn = aws.create_key(only=[role, other])
    assert isinstance(service.right, AwsKey)
    with_role = provider_of(attrs.evolve(service.right, role_arn=secret(role)))
    # sops takes the role behind a plus, and writes it into the file.
    of_role = attrs.evolve(service, options=("--kms", f"{arn}+{role}"))
    _follows(lab, "aws-role", of_role, with_role)
    assert any(f"assumed-role/{role.rpartition('/')[2]}/" in (asker or "") for asker in aws.askers)

    of_other = attrs.evolve(service, options=("--kms", f"{arn}+{other}"))
    repository = lab.repository(_encrypted(lab, of_other, "aws-other-role"))
    aws.askers.clear()
    _apply(lab, "aws-other-role", repository, with_role)
    status = lab.until_reason(NAMESPACE, "aws-other-role", "DestinationNotAllowed")
    assert "spec.provider.aws.roleArn" in _message(status)
    assert aws.askers == []


# Vault


def _token_of(vault: Vault, **more: Any) -> VaultKey:
    return VaultKey(address=secret(vault.address), token=secret(vault.create_token(**more)))


def test_vault_is_opened_by_an_app_role(lab: Lab, services: Services) -> None:
    vault, service = services.double("vault", Vault), services.by_provider["vault"]
    role_id, secret_id = vault.create_app_role(keys={"transit/keys/k"}, mount="machines/approle")
    key = VaultKey(
        address=secret(vault.address),
        role_id=secret(role_id),
        secret_id=secret(secret_id),
        app_role_mount=secret("machines/approle"),
    )
    logins = vault.logins
    _follows(lab, "vault-app-role", service, provider_of(key, form=in_secret(lab, NAMESPACE, "vault-app-role-key")))
    assert vault.logins == logins + 1


def test_vault_is_opened_by_the_token_of_a_service_account_in_a_secret(lab: Lab, services: Services) -> None:
    vault, service = services.double("vault", Vault), services.by_provider["vault"]
    metadata = {"name": "deployer", "namespace": NAMESPACE}
    lab.admin.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}).ok()
    token = lab.admin.service_account(NAMESPACE, "deployer").token
    vault.create_kubernetes_role("deployer", {token}, keys={"transit/keys/k"})
    key = VaultKey(
        address=secret(vault.address), kubernetes_role=secret("deployer"), kubernetes_token=secret(f"{token}\n")
    )
    logins = vault.logins
    _follows(lab, "vault-kubernetes", service, provider_of(key, form=in_secret(lab, NAMESPACE, "vault-kubernetes-key")))
    assert vault.logins == logins + 1


@pytest.mark.parametrize("login", ["token", "appRole"])
def test_a_vault_under_an_authority_of_its_own_needs_the_ca_bundle(lab: Lab, login: str) -> None:
    name = f"vault-tls-{login.lower()}"
    with open_vault(tls=True) as vault:
        assert vault.authority is not None
        assert vault.address.startswith("https://")
        if login == "token":
            key = _token_of(vault)
        else:
            role_id, secret_id = vault.create_app_role()
            key = VaultKey(address=secret(vault.address), role_id=secret(role_id), secret_id=secret(secret_id))
        repository = lab.repository()
        revision = repository.commit(_encrypted(lab, _vault_service(vault, vault.create_key("k")), name))
        vault.requests.clear()
        _apply(lab, name, repository, provider_of(key))
        lab.until_reason(NAMESPACE, name, "KeyServiceUnreachable")
        assert vault.requests == []
        _apply(lab, name, repository, provider_of(attrs.evolve(key, ca_bundle=secret(vault.authority.pem))))
        lab.until_synced(NAMESPACE, name, revision)
        assert lab.data(NAMESPACE, name) == {"value": "one"}
        lab.admin.call("DELETE", f"/apis/jiemi.cr/v1alpha1/namespaces/{NAMESPACE}/decryptors/{name}").ok()


def test_a_key_of_a_namespace_of_vault_needs_that_namespace(lab: Lab, services: Services) -> None:
    vault = services.double("vault", Vault)
    uri = vault.create_key("of-the-team", namespace="team")
    key = _token_of(vault, namespace="team")
    service = _vault_service(vault, uri, namespace="team")
    _follows(lab, "vault-namespace", service, provider_of(attrs.evolve(key, namespace=secret("team"))))
    repository = lab.repository(_encrypted(lab, service, "vault-no-namespace"))
    _apply(lab, "vault-no-namespace", repository, provider_of(key))
    lab.until_reason(NAMESPACE, "vault-no-namespace", "KeyServiceDenied")


def test_the_vault_of_the_first_use_is_shown_and_no_file_leads_the_token_to_another(
    lab: Lab, services: Services
) -> None:
    vault, service = services.double("vault", Vault), services.by_provider["vault"]
    token = vault.create_token()
    unnamed = provider_of(VaultKey(token=secret(token)))
    repository = lab.repository()
    first = repository.commit(_encrypted(lab, service, "first-use"))
    with open_vault() as other:
        _apply(lab, "first-use", repository, unnamed)
        status = lab.until_synced(NAMESPACE, "first-use", first)
        assert status["vaultAddress"] == vault.address
        [trusted] = [each for each in status["conditions"] if each["type"] == "VaultAddressTrusted"]
        assert trusted["status"] == "True"
        assert vault.address in trusted["message"]

        elsewhere = _encrypted(lab, _vault_service(other, other.create_key("k")), "first-use", "two")
        other.requests.clear()
        second = repository.commit(elsewhere)
        status = lab.until_reason(NAMESPACE, "first-use", "DestinationNotAllowed")
        assert status["vaultAddress"] == vault.address
        assert (status["current"]["status"], status["current"]["revision"]) == ("NotSync", first)
        assert f"set spec.provider.vault.address to {other.address}" in _message(status)
        assert lab.data(NAMESPACE, "first-use") == {"value": "one"}
        assert other.requests == []

        _apply(lab, "first-use", repository, provider_of(_token_of(other)))
        status = lab.until_synced(NAMESPACE, "first-use", second)
        assert "vaultAddress" not in status
        assert token not in other.tokens_seen
        lab.admin.call("DELETE", f"/apis/jiemi.cr/v1alpha1/namespaces/{NAMESPACE}/decryptors/first-use").ok()


# The others


def test_an_access_token_opens_a_file_of_gcp(lab: Lab, services: Services) -> None:
    gcp = services.double("gcp", Gcp)
    token = gcp.create_token()
    key = GcpKey(access_token=secret(f"{token}\n"), endpoint=secret(gcp.endpoint))
    service = services.by_provider["gcp"]
    repository = lab.repository()
    revision = repository.commit(_encrypted(lab, service, "gcp-token"))
    asked = gcp.token_requests
    _apply(lab, "gcp-token", repository, provider_of(key, form=in_secret(lab, NAMESPACE, "gcp-token-key")))
    lab.until_synced(NAMESPACE, "gcp-token", revision)
    assert lab.data(NAMESPACE, "gcp-token") == {"value": "one"}
    assert gcp.bearers[-1] == token
    assert gcp.token_requests == asked


def test_a_certificate_opens_a_file_of_azure(lab: Lab, services: Services) -> None:
    azure, service = services.double("azure", Azure), services.by_provider["azure"]
    key = AzureKey(
        tenant_id=secret(azure.tenant_id),
        client_id=secret(azure.application.client_id),
        client_certificate=secret(azure.application.certificate),
    )
    _follows(lab, "azure-certificate", service, provider_of(key, form=in_secret(lab, NAMESPACE, "azure-certificate-k")))


PASSPHRASE_KEY = PgpKey(secret((DATA / "pgp-passphrase-key.asc").read_text()), secret("abc"))
"""Its passphrase is in tests/data/README.md."""


def test_a_pgp_key_under_a_passphrase_needs_the_right_one(lab: Lab) -> None:
    with open_pgp_recipient(PASSPHRASE_KEY) as service:
        key = attrs.evolve(PASSPHRASE_KEY, passphrase=secret("abc\n"))
        _follows(lab, "pgp-passphrase", service, provider_of(key, form=in_secret(lab, NAMESPACE, "pgp-passphrase-k")))
        repository = lab.repository(_encrypted(lab, service, "pgp-wrong-passphrase"))
    for passphrase, says in (("wrong", "spec.provider.pgp.passphrase"), (None, "by a passphrase")):
        key = attrs.evolve(PASSPHRASE_KEY, passphrase=secret(passphrase) if passphrase is not None else None)
        _apply(lab, "pgp-wrong-passphrase", repository, provider_of(key))
        message = _message(lab.until_reason(NAMESPACE, "pgp-wrong-passphrase", "KeyInvalid"))
        assert says.removeprefix("spec.") in message
        lab.admin.call("DELETE", f"/apis/jiemi.cr/v1alpha1/namespaces/{NAMESPACE}/decryptors/pgp-wrong-passphrase").ok()


def test_each_of_two_pgp_keys_in_one_value_opens_its_files(lab: Lab, services: Services) -> None:
    service = services.by_provider["pgp"]
    second = new_pgp_key("second")
    assert isinstance(service.right, PgpKey)
    both = PgpKey(secret(f"{second.private_key.reveal()}\n{service.right.private_key.reveal()}"))
    given = provider_of(both, form=in_secret(lab, NAMESPACE, "two-pgp-keys"))
    _follows(lab, "pgp-two-first", service, given)
    with open_pgp_recipient(second) as of_second:
        _follows(lab, "pgp-two-second", of_second, given)


def test_an_openssh_key_opens_an_age_file(lab: Lab, services: Services) -> None:
    private = Ed25519PrivateKey.generate()
    text = private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    public = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    service = attrs.evolve(services.by_provider["age"], options=("--age", public))
    form = in_secret(lab, NAMESPACE, "age-ssh-key")
    _follows(lab, "age-ssh", service, provider_of(AgeKey(secret(text)), form=form))


def test_each_of_two_age_identities_opens_its_files(lab: Lab, services: Services) -> None:
    service = services.by_provider["age"]
    second = x25519.Identity.generate()
    assert isinstance(service.right, AgeKey)
    both = AgeKey(secret(f"# the team's\n{second}\n\n# mine\n{service.right.private_key.reveal()}\n"))
    given = provider_of(both, form=in_secret(lab, NAMESPACE, "two-age-identities"))
    _follows(lab, "age-two-first", service, given)
    of_second = attrs.evolve(service, options=("--age", str(second.to_public())))
    _follows(lab, "age-two-second", of_second, given)


def test_a_file_that_is_divided_among_two_groups_needs_a_provider_of_each(
    lab: Lab, services: Services, tmp_path: Path
) -> None:
    age, vault = services.by_provider["age"], services.by_provider["vault"]
    groups = [{"age": [age.options[1]]}, {"hc_vault": [vault.options[1]]}]
    config = tmp_path / "shamir.sops.yaml"
    config.write_text(json.dumps({"creation_rules": [{"shamir_threshold": 2, "key_groups": groups}]}))
    divided = attrs.evolve(vault, options=(), environment={**vault.environment, "SOPS_CONFIG": str(config)})
    encrypted = _encrypted(lab, divided, "shamir")
    assert b"shamir_threshold: 2" in encrypted["secret.enc.yaml"]
    repository = lab.repository()
    revision = repository.commit(encrypted)
    for name, key in (("shamir-age", age.right), ("shamir-vault", vault.right)):
        _apply(lab, name, repository, provider_of(key))
        lab.until_reason(NAMESPACE, name, "KeyMissing")
    _apply(lab, "shamir", repository, provider_of(age.right, vault.right))
    status = lab.until_synced(NAMESPACE, "shamir", revision)
    assert lab.data(NAMESPACE, "shamir") == {"value": "one"}
    assert [recipient.split()[0] for recipient in status["encryption"]["recipients"]] == ["age", "Vault"]


def _raw_data(lab: Lab, name: str) -> dict[str, bytes]:
    found = lab.admin.call("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets/{name}").ok()
    return {key: base64.b64decode(value) for key, value in found["data"].items()}


@pytest.mark.parametrize(
    ("provider", "path", "kind", "plain", "expected"),
    [
        ("vault", "app.enc.env", "dotenv", b"USER=me\nPASSWORD=a=b # c\n", {"USER": b"me", "PASSWORD": b"a=b # c"}),
        ("gcp", "app.enc.ini", "ini", b"[db]\nuser = me\n", {"app.ini": b"[db]\nuser = me\n"}),
        ("aws", "store.enc.p12", "binary", b"\x00\xffraw\n", {"store.p12": b"\x00\xffraw\n"}),
    ],
    ids=["dotenv", "ini", "binary"],
)
def test_a_file_without_kubernetes_objects_becomes_the_target(
    lab: Lab,
    services: Services,
    provider: str,
    path: str,
    kind: str,
    plain: bytes,
    expected: Mapping[str, bytes],
) -> None:
    service = services.by_provider[provider]
    name = f"target-{kind}"
    repository = lab.repository()
    revision = repository.commit({path: service.encrypt(lab.tools["sops"], plain, kind)})
    manifest = lab.decryptor(NAMESPACE, name, repository.url, file=path, provider=provider_of(service.right))
    manifest["spec"]["target"] = {"name": name}
    lab.admin.apply(manifest).ok()
    lab.until_synced(NAMESPACE, name, revision)
    assert {key: value.rstrip() for key, value in _raw_data(lab, name).items()} == {
        key: value.rstrip() for key, value in expected.items()
    }


# Trouble that passes


@pytest.mark.parametrize("provider", CLOUDS)
def test_a_service_that_denied_is_asked_again_at_the_interval(lab: Lab, services: Services, provider: str) -> None:
    service = services.by_provider[provider]
    assert service.double is not None
    name = f"denied-{provider}"
    repository = lab.repository()
    revision = repository.commit(_encrypted(lab, service, name))
    service.double.deny = True
    _apply(lab, name, repository, provider_of(service.right))
    status = lab.until_reason(NAMESPACE, name, "KeyServiceDenied")
    assert (status["current"]["id"], status["current"]["status"]) == (0, "NotSync")
    assert lab.data(NAMESPACE, name) == {}
    service.double.deny = False
    status = lab.until_synced(NAMESPACE, name, revision)
    assert (status["current"]["id"], status["current"]["error_message"]) == (1, None)
    assert lab.data(NAMESPACE, name) == {"value": "one"}


def test_a_commit_for_a_key_that_is_allowed_ends_a_denial(lab: Lab, services: Services) -> None:
    vault = services.double("vault", Vault)
    service = _vault_service(vault, vault.create_key("of-others"))
    key = _token_of(vault, keys={"transit/keys/k"})
    repository = lab.repository(_encrypted(lab, service, "denied-commit"))
    _apply(lab, "denied-commit", repository, provider_of(key))
    lab.until_reason(NAMESPACE, "denied-commit", "KeyServiceDenied")
    revision = repository.commit(_encrypted(lab, services.by_provider["vault"], "denied-commit", "two"))
    status = lab.until_synced(NAMESPACE, "denied-commit", revision)
    assert status["current"]["id"] == 1
    assert lab.data(NAMESPACE, "denied-commit") == {"value": "two"}


@pytest.mark.parametrize("provider", CLOUDS)
def test_a_service_that_was_unreachable_and_is_back_is_followed_and_nothing_is_lost_meanwhile(
    lab: Lab, services: Services, provider: str
) -> None:
    service = services.by_provider[provider]
    assert service.double is not None
    name = f"unreachable-{provider}"
    repository = lab.repository()
    first = repository.commit(_encrypted(lab, service, name))
    _apply(lab, name, repository, provider_of(service.right))
    lab.until_synced(NAMESPACE, name, first)
    encrypted = _encrypted(lab, service, name, "two")
    service.double.break_connection = True
    second = repository.commit(encrypted)
    status = lab.until_reason(NAMESPACE, name, "KeyServiceUnreachable")
    assert (status["current"]["status"], status["current"]["revision"]) == ("NotSync", first)
    assert lab.data(NAMESPACE, name) == {"value": "one"}
    service.double.break_connection = False
    status = lab.until_synced(NAMESPACE, name, second)
    assert (status["current"]["id"], len(status["history"])) == (2, 1)
    assert lab.data(NAMESPACE, name) == {"value": "two"}
