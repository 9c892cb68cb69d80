"""Each provider with a key service to talk to, as the tests of decryption use it: the real gpg and sops, and doubles.

A `KeyService` encrypts files with the real sops for one key of its, and gives Decryptors' keys: the right one, and one
that is not. Its switches make it refuse and vanish.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import attrs
import pyrage
from doubles.aws import open_aws
from doubles.azure import open_azure
from doubles.gcp import open_gcp
from doubles.huawei import open_huawei
from doubles.serving import Double
from doubles.vault import open_vault
from support.paths import DATA

from jiemi.core.sensitive import SensitiveText
from jiemi.krapao.operator_environment import AmbientBounds, OperatorEnvironment
from jiemi.rpc.keys import AgeKey, AwsKey, AzureKey, DecryptionKey, GcpKey, HuaweiKey, PgpKey, VaultKey


def lent(*providers: str) -> AmbientBounds:
    """The identities of these providers, for every key and repository."""
    return AmbientBounds(dict.fromkeys(providers, ("**",)), ("**",))


def secret(text: str) -> SensitiveText:
    return SensitiveText(text)


@attrs.define
class KeyService:
    """A provider, ready to use.

    Attributes:
        provider: as in the spec.
        options: of `sops encrypt`, that name the key.
        environment: of that sops.
        right: opens what was encrypted.
        wrong: a key of the same kind that does not.
        double: the service that is played; None for age and pgp, which need none.
        operator: what Krapao's own environment gives its holders.
    """

    provider: str
    options: tuple[str, ...]
    environment: Mapping[str, str]
    right: DecryptionKey
    wrong: DecryptionKey
    double: Double | None = None
    operator: OperatorEnvironment = OperatorEnvironment()

    def encrypt(self, sops: Path, plain: bytes, kind: str, *more: str) -> bytes:
        """A file in one of sops's formats, encrypted by the real sops."""
        argv = [str(sops), "encrypt", "--input-type", kind, "--output-type", kind, *self.options, *more]
        with tempfile.TemporaryDirectory() as home:
            environment = {
                "HOME": home,
                "PATH": "/usr/bin:/bin",
                "SOPS_DISABLE_VERSION_CHECK": "1",
                "AWS_EC2_METADATA_DISABLED": "true",
                "AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential",
                **self.environment,
            }
            done = subprocess.run(
                [*argv, "--filename-override", f"x.{kind}"],
                input=plain,
                env=environment,
                capture_output=True,
                check=False,
            )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout


@contextlib.contextmanager
def open_age() -> Iterator[KeyService]:
    right, wrong = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    options = ("--age", str(right.to_public()))
    yield KeyService("age", options, {}, AgeKey(secret(str(right))), AgeKey(secret(str(wrong))))


PGP_FINGERPRINT = "23306C6391D0E22B5F4B45FFFB9A04CF402264B8"


@contextlib.contextmanager
def open_pgp() -> Iterator[KeyService]:
    with tempfile.TemporaryDirectory(prefix="gpg-", dir="/dev/shm") as home:
        base = ["gpg", "--homedir", home, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
        subprocess.run([*base, "--import", DATA / "pgp-test-key.asc"], check=True, capture_output=True)
        generate = ["--quick-gen-key", "Other <other@jiemi.invalid>", "ed25519", "default", "never"]
        subprocess.run([*base, *generate], check=True, capture_output=True)
        other = subprocess.run(
            [*base, "--armor", "--export-secret-keys", "other@jiemi.invalid"], check=True, capture_output=True
        ).stdout.decode()
        right = PgpKey(secret((DATA / "pgp-test-key.asc").read_text()))
        try:
            yield KeyService("pgp", ("--pgp", PGP_FINGERPRINT), {"GNUPGHOME": home}, right, PgpKey(secret(other)))
        finally:
            subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True)


@contextlib.contextmanager
def open_aws_kms() -> Iterator[KeyService]:
    with open_aws() as aws:

        def key(environment: Mapping[str, str]) -> AwsKey:
            return AwsKey(
                key_id=secret(environment["AWS_ACCESS_KEY_ID"]),
                access_key=secret(environment["AWS_SECRET_ACCESS_KEY"]),
                region=secret("us-east-1"),
                endpoint=secret(aws.endpoint),
                sts_endpoint=secret(aws.endpoint),
            )

        yield KeyService(
            "aws",
            ("--kms", aws.create_key()),
            aws.environment(),
            key(aws.environment()),
            key(aws.wrong_environment()),
            aws,
        )


@contextlib.contextmanager
def open_gcp_kms() -> Iterator[KeyService]:
    with open_gcp() as gcp:

        def key(environment: Mapping[str, str]) -> GcpKey:
            return GcpKey(service_account=secret(environment["GOOGLE_CREDENTIALS"]), endpoint=secret(gcp.endpoint))

        yield KeyService(
            "gcp",
            ("--gcp-kms", gcp.create_key("k")),
            gcp.environment(),
            key(gcp.environment()),
            key(gcp.wrong_environment()),
            gcp,
        )


@contextlib.contextmanager
def open_azure_key_vault() -> Iterator[KeyService]:
    with open_azure() as azure:

        def key(environment: Mapping[str, str]) -> AzureKey:
            return AzureKey(
                tenant_id=secret(environment["AZURE_TENANT_ID"]),
                client_id=secret(environment["AZURE_CLIENT_ID"]),
                client_secret=secret(environment["AZURE_CLIENT_SECRET"]),
            )

        yield KeyService(
            "azure",
            ("--azure-kv", azure.create_key("k")),
            azure.environment(),
            key(azure.environment()),
            key(azure.wrong_environment()),
            azure,
            OperatorEnvironment.of(azure.environment(), lent()),
        )


@contextlib.contextmanager
def open_vault_transit() -> Iterator[KeyService]:
    with open_vault() as vault:

        def key(environment: Mapping[str, str]) -> VaultKey:
            return VaultKey(address=secret(vault.address), token=secret(environment["VAULT_TOKEN"]))

        yield KeyService(
            "vault",
            ("--hc-vault-transit", vault.create_key("k")),
            vault.environment(),
            key(vault.environment()),
            key(vault.wrong_environment()),
            vault,
        )


@contextlib.contextmanager
def open_huawei_kms() -> Iterator[KeyService]:
    with open_huawei() as huawei:

        def key(environment: Mapping[str, str]) -> HuaweiKey:
            return HuaweiKey(
                access_key=secret(environment["HUAWEICLOUD_SDK_AK"]),
                secret_key=secret(environment["HUAWEICLOUD_SDK_SK"]),
                project_id=secret(environment["HUAWEICLOUD_SDK_PROJECT_ID"]),
            )

        yield KeyService(
            "huawei",
            ("--hckms", huawei.create_key()),
            huawei.environment(),
            key(huawei.environment()),
            key(huawei.wrong_environment()),
            huawei,
            OperatorEnvironment.of(huawei.environment(), lent()),
        )


OPEN: Mapping[str, Callable[[], contextlib.AbstractContextManager[KeyService]]] = {
    "age": open_age,
    "aws": open_aws_kms,
    "azure": open_azure_key_vault,
    "gcp": open_gcp_kms,
    "huawei": open_huawei_kms,
    "pgp": open_pgp,
    "vault": open_vault_transit,
}
