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
from krapao_services import KeyService

from jiemi.core.documents import Format
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.krapao.decryption.environments import AMBIENT_PROVIDERS, OperatorEnvironment
from jiemi.krapao.decryption.sops import SopsDecrypter
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


class Lender:
    """Makes decrypters of a Krapao whose own environment is given."""

    def __init__(self, nursery: trio.Nursery, settings: KrapaoSettings) -> None:
        self._nursery = nursery
        self._settings = settings

    def lending(self, environment: dict[str, str], *providers: str, vault: str | None = None) -> SopsDecrypter:
        operator = OperatorEnvironment.of(environment, frozenset(providers))
        # The endpoints of doubles stand in the operator's environment too, as they do in a private cloud.
        endpoints = {name: value for name, value in environment.items() if "ENDPOINT" in name}
        operator = attrs.evolve(operator, network={**operator.network, **endpoints})
        changed = attrs.evolve(self._settings, operator=operator, own_vault_address=vault)
        return SopsDecrypter(self._nursery, changed)


@pytest.fixture
def lender(nursery: trio.Nursery, settings: KrapaoSettings, sops_path: Path, runtime: Path) -> Lender:
    return Lender(nursery, attrs.evolve(settings, sops=sops_path, runtime_dir=runtime))


async def opens(decrypter: SopsDecrypter, data: bytes, key: DecryptionKey) -> None:
    assert b"SECRET-VALUE" in (await decrypter.decrypt(data, Format.YAML, (key,))).plain.reveal()


async def refuses(decrypter: SopsDecrypter, data: bytes, key: DecryptionKey, reason: str) -> str:
    with pytest.raises(JiemiError) as caught:
        await decrypter.decrypt(data, Format.YAML, (key,))
    assert caught.value.failure.reason == reason, str(caught.value)
    return caught.value.failure.message


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
    environment = {"AWS_SECRET_ACCESS_KEY": "a", "VAULT_TOKEN": "b", "AZURE_CLIENT_SECRET": "c", "OTHER": "d"}
    lent = OperatorEnvironment.of(environment, frozenset({provider}))
    assert set(lent.ambient) == {provider}
    assert "OTHER" not in lent.identity(provider)
    assert len(lent.identity(provider)) <= 1
    assert "b" not in repr(lent)
