"""Identities of Krapao's own Pod: lent where the operator says so, with its own token files, and sent nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio
from doubles.aws import Aws, open_aws
from doubles.azure import Azure, open_azure
from doubles.gcp import Gcp, open_gcp
from doubles.vault import Vault, open_vault
from support.krapao.key_services import KeyService, lent

from jiemi.core.content.formats import Format
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.krapao.decryption.port import RenderingShare
from jiemi.krapao.decryption.sops import SopsDecrypter
from jiemi.krapao.operator_environment import AMBIENT_PROVIDERS, AmbientBounds, OperatorEnvironment
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.keys import AwsKey, AzureKey, DecryptionKey, GcpKey, VaultKey

PLAIN = b"a: SECRET-VALUE\n"
ROLE_TOKEN = "canary-web-identity-token"


@pytest.fixture(scope="module")
def aws() -> Iterator[Aws]:
    with open_aws() as aws:
        yield aws


@pytest.fixture(scope="module")
def gcp() -> Iterator[Gcp]:
    with open_gcp() as gcp:
        yield gcp


@pytest.fixture(scope="module")
def azure() -> Iterator[Azure]:
    with open_azure() as azure:
        yield azure


@pytest.fixture(scope="module")
def vault() -> Iterator[Vault]:
    with open_vault() as vault:
        yield vault


def encrypted(sops: Path, options: tuple[str, ...], environment: dict[str, str]) -> bytes:
    unused = AwsKey()
    return KeyService("any", options, environment, unused, unused).encrypt(sops, PLAIN, "yaml")


URL = "https://git.example/team-a/app.git"


class Lender:
    """Makes decrypters of a Krapao whose own environment is given."""

    def __init__(self, nursery: trio.Nursery, settings: KrapaoSettings) -> None:
        self._nursery = nursery
        self._settings = settings

    def lending(self, environment: dict[str, str], *providers: str, vault: str | None = None) -> SopsDecrypter:
        return self.lending_within(environment, lent(*providers), vault=vault)

    def lending_within(
        self, environment: dict[str, str], bounds: AmbientBounds, *, vault: str | None = None
    ) -> SopsDecrypter:
        operator = OperatorEnvironment.of(environment, bounds)
        # The endpoints of doubles stand in the operator's environment too, as they do in a private cloud.
        endpoints = {name: value for name, value in environment.items() if "ENDPOINT" in name}
        operator = attrs.evolve(operator, network={**operator.network, **endpoints})
        changed = attrs.evolve(self._settings, operator=operator, own_vault_address=vault)
        return SopsDecrypter(self._nursery, changed)


@pytest.fixture
def lender(nursery: trio.Nursery, settings: KrapaoSettings, sops_path: Path, runtime: Path) -> Lender:
    return Lender(nursery, attrs.evolve(settings, sops=sops_path, runtime_dir=runtime))


async def opens(decrypter: SopsDecrypter, data: bytes, key: DecryptionKey) -> None:
    assert (
        b"SECRET-VALUE"
        in (await decrypter.decrypt(data, Format.YAML, (key,), rendering=RenderingShare(repository=URL))).plain.reveal()
    )


async def refuses(
    decrypter: SopsDecrypter, data: bytes, key: DecryptionKey, reason: str, *, repository: str = URL
) -> str:
    with pytest.raises(JiemiError) as caught:
        await decrypter.decrypt(data, Format.YAML, (key,), rendering=RenderingShare(repository=repository))
    assert caught.value.failure.reason == reason, str(caught.value)
    return caught.value.failure.text


async def test_aws_by_a_web_identity_token_as_eks_gives_it(
    lender: Lender, aws: Aws, sops_path: Path, tmp_path: Path
) -> None:
    role = aws.create_role("krapao", web_identity_token=ROLE_TOKEN)
    data = encrypted(sops_path, ("--kms", aws.create_key()), aws.environment())
    token = tmp_path / "token"
    token.write_text(ROLE_TOKEN)
    environment = {
        "AWS_ROLE_ARN": role,
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_KMS": aws.endpoint,
        "AWS_ENDPOINT_URL_STS": aws.endpoint,
    }
    await opens(lender.lending(environment, "aws"), data, AwsKey())
    assert "assumed-role/krapao/" in str(aws.askers[-1])
    message = await refuses(lender.lending(environment, "gcp"), data, AwsKey(), "AmbientIdentityNotAllowed")
    assert "--allow-ambient-identity aws" in message
    # A server that the Decryptor names does not get Krapao's token.
    elsewhere = AwsKey(sts_endpoint=SensitiveText("http://127.0.0.1:9"))
    assert "aws.stsEndpoint" in await refuses(lender.lending(environment, "aws"), data, elsewhere, "KeyInvalid")


async def test_gcp_by_a_file_of_the_pods_own(lender: Lender, gcp: Gcp, sops_path: Path, tmp_path: Path) -> None:
    data = encrypted(sops_path, ("--gcp-kms", gcp.create_key("ambient")), gcp.environment())
    file = tmp_path / "account.json"
    file.write_text(gcp.account.key_file)
    environment = {"GOOGLE_APPLICATION_CREDENTIALS": str(file), "SOPS_GCP_KMS_ENDPOINT": gcp.endpoint}
    await opens(lender.lending(environment, "gcp"), data, GcpKey())
    await refuses(lender.lending(environment), data, GcpKey(), "AmbientIdentityNotAllowed")


async def test_azure_by_a_federated_token_as_workload_identity_gives_it(
    lender: Lender, azure: Azure, sops_path: Path
) -> None:
    data = encrypted(sops_path, ("--azure-kv", azure.create_key("ambient")), azure.environment())
    environment = azure.federated_environment()
    await opens(lender.lending(environment, "azure"), data, AzureKey())
    await refuses(lender.lending(environment), data, AzureKey(), "AmbientIdentityNotAllowed")
    wrong = azure.wrong_federated_environment()
    await refuses(lender.lending(wrong, "azure"), data, AzureKey(), "KeyServiceDenied")
    assert azure.refused_hosts == []


async def test_vault_by_the_operators_token_at_the_operators_server_alone(
    lender: Lender, vault: Vault, sops_path: Path
) -> None:
    data = encrypted(sops_path, ("--hc-vault-transit", vault.create_key("ambient")), vault.environment())
    environment = {"VAULT_TOKEN": vault.root_token}
    await opens(lender.lending(environment, "vault", vault=vault.address), data, VaultKey())
    seen = len(vault.requests)
    # Neither the file nor the Decryptor may say where the operator's token goes.
    for decrypter, key in (
        (lender.lending(environment, "vault", vault="https://vault.example:8200"), VaultKey()),
        (lender.lending(environment, "vault"), VaultKey()),
        (lender.lending(environment, "vault"), VaultKey(address=SensitiveText(vault.address))),
        (lender.lending(environment, "vault"), VaultKey(pinned_address=vault.address)),
        (lender.lending(environment, "vault"), VaultKey(kubernetes_role=SensitiveText("r"))),
    ):
        message = await refuses(decrypter, data, key, "DestinationNotAllowed")
        assert "Krapao's own identity goes only where its operator says" in message
    assert len(vault.requests) == seen


@pytest.mark.parametrize("provider", AMBIENT_PROVIDERS)
def test_nothing_of_krapaos_environment_is_lent_that_is_not_asked_for(provider: str) -> None:
    environment = {"AWS_SECRET_ACCESS_KEY": "a", "VAULT_TOKEN": "canary-b", "AZURE_CLIENT_SECRET": "c", "OTHER": "d"}
    operator = OperatorEnvironment.of(environment, lent(provider))
    assert set(operator.ambient) == {provider}
    assert "OTHER" not in operator.identity(provider)
    assert len(operator.identity(provider)) <= 1
    assert "canary-b" not in repr(operator)


async def test_an_identity_is_lent_for_the_keys_and_repositories_that_the_operator_names_and_no_others(
    lender: Lender, vault: Vault, sops_path: Path
) -> None:
    data = encrypted(sops_path, ("--hc-vault-transit", vault.create_key("bound")), vault.environment())
    token = vault.create_token(keys={"transit/keys/bound"})
    environment = {"VAULT_ADDR": vault.address, "VAULT_TOKEN": token}
    ours, everything = "https://git.example/team-a/**", ("**",)
    key = f"{vault.address}/v1/transit/keys/bound"

    def lending(keys: tuple[str, ...], *repositories: str) -> SopsDecrypter:
        return lender.lending_within(environment, AmbientBounds({"vault": keys}, repositories), vault=vault.address)

    await opens(lending((key,), ours), data, VaultKey())
    await opens(lending((f"{vault.address}/v1/transit/keys/*",), "**"), data, VaultKey())
    vault.requests.clear()
    # No bound lends nothing; neither does one for another key, provider or repository.
    for keys in ((), (f"{vault.address}/v1/transit/keys/other",), (f"{vault.address}/v1/*",)):
        message = await refuses(lending(keys, ours), data, VaultKey(), "AmbientIdentityNotAllowed")
        assert "--ambient-key" in message
    elsewhere = (
        "https://git.example/team-b/app.git",
        "https://git.example.evil/team-a/app.git",
        "https://git.example/team-a/../team-b/app.git",
        "https://git.example/team-a/%2E%2e/team-b/app.git",
        "https://git.example/team-a/%252e%252e/team-b/app.git",
        "https://git.example/team-a//app.git",
        "https://git.example/team-a/x%2f..%2fapp.git",
        "http://git.example/team-a/app.git",
        "",
    )
    for url in elsewhere:
        decrypter = lending(everything, ours)
        message = await refuses(decrypter, data, VaultKey(), "AmbientIdentityNotAllowed", repository=url)
        assert "--ambient-repository" in message
    # The key service was asked for none of them, and a Decryptor's own token needs no bound.
    assert vault.requests == []
    own = VaultKey(address=SensitiveText(vault.address), token=SensitiveText(token))
    await opens(lending(()), data, own)


async def test_a_file_that_names_a_second_key_beside_the_one_that_is_lent_is_opened_by_that_one_only(
    lender: Lender, vault: Vault, sops_path: Path
) -> None:
    keys = ",".join((vault.create_key("not-lent"), vault.create_key("is-lent")))
    data = encrypted(sops_path, ("--hc-vault-transit", keys), vault.environment())
    token = vault.create_token(keys={"transit/keys/not-lent", "transit/keys/is-lent"})
    environment = {"VAULT_ADDR": vault.address, "VAULT_TOKEN": token}
    bounds = AmbientBounds({"vault": (f"{vault.address}/v1/transit/keys/is-lent",)}, ("**",))
    vault.requests.clear()
    await opens(lender.lending_within(environment, bounds, vault=vault.address), data, VaultKey())
    assert "not-lent" not in str(vault.requests)
    assert "is-lent" in str(vault.requests)
