"""What an attacker meets: a tenant with credentials of every kind, another tenant, and services on loopback.

Every credential holds a canary. The stranger is whoever is not the tenant's own: what a hostile file names, and the
proxy of all holders, so that a request for any host of the clouds' would be heard there.
"""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pyrage
from doubles.serving import LOOPBACK, Answer, Double, Request, json_answer, serving
from doubles.stranger import Stranger, open_stranger
from doubles.vault import Vault, open_vault
from hostile import files

from jiemi.core.sensitive import SensitiveText
from jiemi.krapao.operator_environment import OperatorEnvironment
from jiemi.rpc.keys import AgeKey, AwsKey, AzureKey, DecryptionKey, GcpKey, HuaweiKey, PgpKey, VaultKey

DATA = Path(__file__).parents[1] / "data"
PGP_FINGERPRINT = "23306C6391D0E22B5F4B45FFFB9A04CF402264B8"


def secret(text: str) -> SensitiveText:
    return SensitiveText(text)


def canary(kind: str) -> str:
    return f"canary-{kind}-{secrets.token_hex(8)}"


class Redirecting(Double):
    """A Vault that sends whoever asks to another place."""

    def __init__(self, to: str) -> None:
        super().__init__()
        self.to = to
        self.address = ""

    def answer(self, request: Request) -> Answer:
        return Answer(307, b"", (("Location", f"{self.to}{request.path}"),))


class YesKms(Double):
    """An AWS KMS that opens everything to one data key, whoever asks. The tenant's own."""

    def __init__(self, data_key: bytes) -> None:
        super().__init__()
        self._data_key = data_key
        self.endpoint = ""

    def answer(self, request: Request) -> Answer:
        key = request.json().get("KeyId", "")
        return json_answer(200, {"Plaintext": base64.b64encode(self._data_key).decode(), "KeyId": key})


class Gpg:
    """gpg with the tenant's public key, as an attacker has it, and a home of its own."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self("--import", stdin=(DATA / "pgp-test-key.asc").read_bytes())

    def __call__(self, *arguments: str, stdin: bytes) -> bytes:
        base = ["gpg", "--homedir", str(self._home), "--batch", "--quiet", "--trust-model", "always", "--armor"]
        return subprocess.run([*base, *arguments], input=stdin, check=True, capture_output=True).stdout

    def sign(self, plain: bytes) -> str:
        """Signed with a key of the attacker's own."""
        secretly = ("--pinentry-mode", "loopback", "--passphrase", "")
        self(*secretly, "--quick-gen-key", "Evil <evil@jiemi.invalid>", "ed25519", "sign", "never", stdin=b"")
        return self(*secretly, "--local-user", "evil@jiemi.invalid", "--sign", stdin=plain).decode()

    def encrypt(self, plain: bytes, *options: str) -> str:
        return self(*options, "--recipient", PGP_FINGERPRINT, "--encrypt", stdin=plain).decode()


@attrs.frozen(kw_only=True)
class Lab:
    """All of it.

    Attributes:
        data_key: of the files here. An attacker who knows public keys only can still choose it.
        age, age_recipient: the tenant's.
        other, other_recipient, other_file: another tenant's, and a good file of theirs.
        plain: a canary that is what the files keep.
        credentials: canaries of the tenant's credentials, by kind.
        ambient: canaries of Krapao's own environment, by variable.
    """

    sops: Path
    data_key: bytes
    stranger: Stranger
    vault: Vault
    redirecting: Redirecting
    kms: YesKms
    gpg: Gpg
    age: AgeKey
    age_recipient: str
    other: AgeKey
    other_recipient: str
    other_file: bytes
    plain: str
    credentials: Mapping[str, str]
    ambient: Mapping[str, str]

    @property
    def canaries(self) -> tuple[str, ...]:
        """What nobody but the tenant's own services may see."""
        return (self.plain, *self.credentials.values(), *self.ambient.values())

    # The tenant's keys

    @property
    def pgp(self) -> PgpKey:
        return PgpKey(secret((DATA / "pgp-test-key.asc").read_text()))

    def vault_key(self, **fields: Any) -> VaultKey:
        given: dict[str, Any] = {"token": secret(self.credentials["vault"])}
        return VaultKey(**(given | fields))

    @property
    def named_vault(self) -> VaultKey:
        return self.vault_key(address=secret(self.vault.address))

    def aws(self, **fields: Any) -> AwsKey:
        given: dict[str, Any] = {
            "key_id": secret(self.credentials["aws-id"]),
            "access_key": secret(self.credentials["aws"]),
            "region": secret("us-east-1"),
            "endpoint": secret(self.kms.endpoint),
            "sts_endpoint": secret(self.kms.endpoint),
        }
        return AwsKey(**(given | fields))

    def gcp(self, **fields: Any) -> GcpKey:
        return GcpKey(access_token=secret(self.credentials["gcp"]), **fields)

    def azure(self, **fields: Any) -> AzureKey:
        given: dict[str, Any] = {
            "tenant_id": secret("00000000-0000-0000-0000-000000000001"),
            "client_id": secret("00000000-0000-0000-0000-000000000002"),
            "client_secret": secret(self.credentials["azure"]),
        }
        return AzureKey(**(given | fields))

    def huawei(self, **fields: Any) -> HuaweiKey:
        given: dict[str, Any] = {
            "access_key": secret(self.credentials["huawei-id"]),
            "secret_key": secret(self.credentials["huawei"]),
            "project_id": secret("0" * 32),
        }
        return HuaweiKey(**(given | fields))

    @property
    def operator(self) -> OperatorEnvironment:
        """Every request that leaves for another host goes through the stranger."""
        return OperatorEnvironment(network={"HTTPS_PROXY": self.stranger.address})

    # Files

    @property
    def tree(self) -> dict[str, object]:
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "x"},
            "stringData": {"password": self.plain, "user": "someone"},
        }

    @property
    def for_age(self) -> dict[str, Any]:
        return files.for_age(self.data_key, self.age_recipient)

    def file(self, *parts: Mapping[str, object], **fields: object) -> bytes:
        """The tenant's Secret in YAML, with a block of these parts; of none, of the tenant's age recipient."""
        sealed = files.seal_documents([self.tree], self.data_key)
        return files.as_yaml(
            {**sealed.documents[0], "sops": files.block(sealed, *(parts or (self.for_age,)), **fields)}
        )

    def asks_vault(self, address: str, *, engine: str = "transit", key: str = "k", enc: str = "vault:v1:AAAA") -> bytes:
        return self.file(vault_group(address, engine=engine, key=key, enc=enc))

    def asks_aws(self, arn: str = "arn:aws:kms:us-east-1:123456789012:key/k", **fields: object) -> bytes:
        entry = {"arn": arn, "created_at": files.NOW, "enc": "AAAA", "aws_profile": ""} | fields
        return self.file({"kms": [entry]})

    def asks_gcp(self, resource: str) -> bytes:
        return self.file({"gcp_kms": [{"resource_id": resource, "created_at": files.NOW, "enc": "AAAA"}]})

    def asks_azure(self, url: str, *, name: str = "k", version: str = "0" * 32) -> bytes:
        entry = {"vault_url": url, "name": name, "version": version, "created_at": files.NOW, "enc": "AAAA"}
        return self.file({"azure_kv": [entry]})

    def asks_huawei(self, key: str) -> bytes:
        return self.file({"hckms": [{"key_id": key, "created_at": files.NOW, "enc": "AAAA"}]})

    def asks_pgp(self, wrapped: str) -> bytes:
        return self.file(pgp_group(wrapped))

    def asks_age(self, wrapped: str, recipient: str = "") -> bytes:
        return self.file({"age": [{"recipient": recipient or self.age_recipient, "enc": wrapped}]})

    def in_vault(self, engine: str = "transit", key: str = "k") -> str:
        """The data key, wrapped by the tenant's Vault."""
        request = Request(
            "PUT",
            LOOPBACK,
            f"/v1/{engine}/encrypt/{key}",
            {},
            {"x-vault-token": self.vault.root_token},
            b'{"plaintext": "%s"}' % base64.b64encode(self.data_key),
        )
        found: str = json.loads(self.vault.answer(request).body)["data"]["ciphertext"]
        return found


def vault_group(address: str, *, engine: str = "transit", key: str = "k", enc: str = "vault:v1:AAAA") -> dict[str, Any]:
    entry = {"vault_address": address, "engine_path": engine, "key_name": key, "created_at": files.NOW, "enc": enc}
    return {"hc_vault": [entry]}


def pgp_group(wrapped: str) -> dict[str, object]:
    return {"pgp": [{"fp": PGP_FINGERPRINT, "created_at": files.NOW, "enc": wrapped}]}


@contextlib.contextmanager
def open_lab(sops: Path) -> Iterator[Lab]:
    """A laboratory on loopback, with one of everything."""
    data_key = secrets.token_bytes(32)
    tenant, other = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    with contextlib.ExitStack() as stack:
        stranger = stack.enter_context(open_stranger())
        vault = stack.enter_context(open_vault())
        vault.create_key("k")
        redirecting, kms = Redirecting(stranger.address), YesKms(data_key)
        redirecting.address = f"http://{LOOPBACK}:{stack.enter_context(serving(redirecting))}"
        kms.endpoint = f"http://{LOOPBACK}:{stack.enter_context(serving(kms))}"
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="jiemi-hostile-gpg-", dir="/dev/shm"))
        stack.callback(subprocess.run, ["gpgconf", "--homedir", home, "--kill", "all"], check=True)
        other_key = secrets.token_bytes(32)
        sealed = files.seal_documents([{"a": "of the next tenant"}], other_key)
        other_block = files.block(sealed, files.for_age(other_key, str(other.to_public())))
        yield Lab(
            sops=sops,
            data_key=data_key,
            stranger=stranger,
            vault=vault,
            redirecting=redirecting,
            kms=kms,
            gpg=Gpg(Path(home)),
            age=AgeKey(secret(str(tenant))),
            age_recipient=str(tenant.to_public()),
            other=AgeKey(secret(str(other))),
            other_recipient=str(other.to_public()),
            other_file=files.as_yaml({**sealed.documents[0], "sops": other_block}),
            plain=canary("plain"),
            credentials={
                "age": str(tenant),
                "other-age": str(other),
                "pgp": (DATA / "pgp-test-key.asc").read_text().splitlines()[3],
                "vault": vault.create_token(),
                "aws-id": "AKIA" + secrets.token_hex(8).upper(),
                "aws": canary("aws"),
                "gcp": canary("gcp"),
                "azure": canary("azure"),
                "huawei-id": secrets.token_hex(10).upper(),
                "huawei": canary("huawei"),
            },
            ambient={
                name: canary("ambient")
                for name in (
                    "AWS_ACCESS_KEY_ID",
                    "AWS_SECRET_ACCESS_KEY",
                    "AWS_SESSION_TOKEN",
                    "AZURE_CLIENT_SECRET",
                    "GOOGLE_OAUTH_ACCESS_TOKEN",
                    "HUAWEICLOUD_SDK_SK",
                    "VAULT_TOKEN",
                )
            },
        )


Keys = tuple[DecryptionKey, ...]
