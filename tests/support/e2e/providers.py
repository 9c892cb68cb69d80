"""What the end-to-end tests of providers share: every key service at once, and Decryptors for keys of theirs."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs
from doubles.aws import Aws
from doubles.azure import Azure
from doubles.huawei import Huawei
from doubles.moto_environment import moto_python
from doubles.serving import Double
from ruamel.yaml import YAML
from support.e2e.lab import Lab
from support.krapao.key_services import OPEN, KeyService, secret
from support.kubernetes.api_server import Manifest
from support.paths import ROOT

from jiemi.core.sensitive import SensitiveText
from jiemi.rpc.keys import DecryptionKey, PgpKey

EXAMPLES = ROOT / "examples"

D = TypeVar("D", bound=Double)

_GROUPS = {
    "role_id": ("appRole", "roleId"),
    "secret_id": ("appRole", "secretId"),
    "app_role_mount": ("appRole", "mountPath"),
    "kubernetes_role": ("kubernetes", "role"),
    "kubernetes_token": ("kubernetes", "token"),
    "kubernetes_mount": ("kubernetes", "mountPath"),
}
"""The fields of a Vault key that the spec has in a group."""


def example(provider: str) -> Manifest:
    """The Decryptor of examples/PROVIDER.yaml."""
    documents = YAML(typ="safe").load_all((EXAMPLES / f"{provider}.yaml").read_text())
    [decryptor] = [document for document in documents if document["kind"] == "Decryptor"]
    found: Manifest = decryptor
    return found


def texts_of(key: DecryptionKey) -> dict[str, str]:
    """The values of a key, by the path of the field that each has in the spec: "keyId", "appRole.roleId"."""
    found = {}
    for attribute in attrs.fields(type(key)):
        value = getattr(key, attribute.name)
        if isinstance(value, SensitiveText):
            found[".".join(_GROUPS.get(attribute.name, (_camel(attribute.name),)))] = value.reveal()
    return found


def _camel(name: str) -> str:
    return re.sub("_(.)", lambda match: match[1].upper(), name)


Form = Callable[[Mapping[str, str]], Mapping[str, Any]]
"""Makes the credential values of texts, by field."""


def literals(texts: Mapping[str, str]) -> Mapping[str, Any]:
    """Values that hold their texts."""
    return {field: {"literal": text} for field, text in texts.items()}


def in_secret(lab: Lab, namespace: str, name: str) -> Form:
    """Makes values that name a Secret, and the Secret."""

    def form(texts: Mapping[str, str]) -> Mapping[str, Any]:
        lab.secret(namespace, name, **texts)
        return {field: {"secretName": name, "key": field} for field in texts}

    return form


def provider_of(*keys: DecryptionKey, form: Form = literals) -> dict[str, Any]:
    """`spec.provider` of keys of different kinds."""
    texts = {f"{key.provider}.{field}": text for key in keys for field, text in texts_of(key).items()}
    found: dict[str, Any] = {key.provider: {} for key in keys}
    for path, value in form(texts).items():
        *groups, field = path.split(".")
        within = found
        for group in groups:
            within = within.setdefault(group, {})
        within[field] = value
    for key in keys:
        for guarded in ("allowed_keys", "allowed_vaults"):
            if patterns := getattr(key, guarded, ()):
                found[key.provider][_camel(guarded)] = list(patterns)
    return found


@attrs.frozen
class Services:
    """Every provider with its key service.

    Attributes:
        by_provider: the services.
        environment: of a Krapao that reaches them.
    """

    by_provider: Mapping[str, KeyService]
    environment: Mapping[str, str]

    def double(self, provider: str, kind: type[D]) -> D:
        """The double of a provider's service."""
        found = self.by_provider[provider].double
        assert isinstance(found, kind)
        return found

    def switch_back(self) -> None:
        """Let all doubles work again."""
        for service in self.by_provider.values():
            if service.double is not None:
                service.double.deny = service.double.break_connection = False
                assert service.double.refused_hosts == []


@contextlib.contextmanager
def open_services(folder: Path) -> Iterator[Services]:
    """All key services, on loopback.

    Args:
        folder: for the file of the authorities that Krapao trusts.
    """
    with contextlib.ExitStack() as stack:
        services = {provider: stack.enter_context(opened()) for provider, opened in OPEN.items()}
        azure, huawei = services["azure"].double, services["huawei"].double
        assert isinstance(azure, Azure)
        assert isinstance(huawei, Huawei)
        authorities = folder / "authorities.pem"
        authorities.write_text(azure.authority.pem + huawei.authority.pem)
        environment = {
            **operator_environment(),
            # Azure is behind a proxy that plays its hosts. Huawei's SDK takes no proxy, but addresses.
            "HTTPS_PROXY": azure.proxy,
            "SSL_CERT_FILE": str(authorities),
            **{name: value for name, value in huawei.environment().items() if value == huawei.address},
        }
        yield Services(services, environment)


def operator_environment() -> dict[str, str]:
    """The environment of this process without what leads elsewhere or names a credential."""
    return {
        name: value
        for name, value in os.environ.items()
        if re.match(r"(?i).*_proxy$|AWS_|AZURE_|GOOGLE_|VAULT_|HUAWEICLOUD_|SOPS_|SSL_CERT", name) is None
    }


@contextlib.contextmanager
def open_pgp_recipient(key: PgpKey) -> Iterator[KeyService]:
    """A service that encrypts for a pgp key."""
    with tempfile.TemporaryDirectory(prefix="gpg-", dir="/dev/shm") as home:
        base = [shutil.which("gpg") or "gpg", "--homedir", home, "--batch", "--quiet", "--pinentry-mode", "loopback"]
        passphrase = key.passphrase.reveal() if key.passphrase is not None else ""
        try:
            subprocess.run(
                [*base, "--passphrase", passphrase, "--import"],
                input=key.private_key.reveal().encode(),
                check=True,
                capture_output=True,
            )
            listed = subprocess.run([*base, "--list-keys", "--with-colons"], check=True, capture_output=True, text=True)
            fingerprint = next(line.split(":")[9] for line in listed.stdout.splitlines() if line.startswith("fpr:"))
            yield KeyService("pgp", ("--pgp", fingerprint), {"GNUPGHOME": home}, key, key)
        finally:
            subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True)


def new_pgp_key(name: str, passphrase: str = "") -> PgpKey:
    """A fresh key, under a passphrase where one is given."""
    with tempfile.TemporaryDirectory(prefix="gpg-", dir="/dev/shm") as home:
        base = ["gpg", "--homedir", home, "--batch", "--quiet", "--pinentry-mode", "loopback"]
        base += ["--passphrase", passphrase]
        try:
            generate = ["--quick-gen-key", f"{name} <{name}@jiemi.invalid>", "future-default", "default", "never"]
            subprocess.run([*base, *generate], check=True, capture_output=True)
            armored = subprocess.run([*base, "--armor", "--export-secret-keys"], check=True, capture_output=True)
            return PgpKey(secret(armored.stdout.decode()), secret(passphrase) if passphrase else None)
        finally:
            subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True)


def temporary_credentials(aws: Aws, role: str) -> tuple[str, str, str]:
    """Those that STS gives the user for a role: key id, secret key, session token; asked for with boto3."""
    script = (
        "import boto3, sys\n"
        "sts = boto3.client('sts', endpoint_url=sys.argv[1])\n"
        "got = sts.assume_role(RoleArn=sys.argv[2], RoleSessionName='laptop')['Credentials']\n"
        "print(got['AccessKeyId'], got['SecretAccessKey'], got['SessionToken'])\n"
    )
    environment = aws.environment()
    environment["AWS_DEFAULT_REGION"] = environment["AWS_REGION"]
    done = subprocess.run(
        [moto_python(), "-c", script, aws.endpoint, role], env=environment, check=True, capture_output=True, text=True
    )
    key_id, access_key, token = done.stdout.split()
    return key_id, access_key, token
