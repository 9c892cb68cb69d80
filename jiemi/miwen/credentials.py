"""Credential values, resolved: a literal is its text, a reference is read from a Secret of the Decryptor's namespace.

What is resolved lives as long as the tick that needs it (the repository's credentials: as long as the repository is
open).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, MutableMapping
from typing import Any

import attrs

from jiemi.core.decryptor import Decryptor, DecryptorSpec
from jiemi.core.errors import JiemiError
from jiemi.core.fields import json_name
from jiemi.core.provider import CredentialValue, VaultProvider
from jiemi.core.sensitive import SensitiveText
from jiemi.miwen.kubernetes.port import Kubernetes
from jiemi.rpc.contract import GitCredentials
from jiemi.rpc.keys import AgeKey, AwsKey, AzureKey, DecryptionKey, GcpKey, HuaweiKey, PgpKey, VaultKey


class CredentialReader:
    """Resolves the credential values of one Decryptor, reading each Secret once.

    Args:
        kubernetes: where the Secrets are.
        namespace: the Decryptor's; no other is ever read.
        versions: gets the resourceVersion of each Secret that is read, by its name.
    """

    def __init__(self, kubernetes: Kubernetes, namespace: str, versions: MutableMapping[str, str]) -> None:
        self._kubernetes = kubernetes
        self._namespace = namespace
        self._versions = versions
        self._secrets: dict[str, Mapping[str, Any]] = {}

    async def read(self, value: CredentialValue, at: str) -> SensitiveText:
        """The text of one value.

        Args:
            value: of the spec.
            at: its path, for messages: "spec.provider.age.privateKey".

        Raises:
            JiemiError: SecretNotFound, SecretKeyNotFound, SecretValueEmpty, SecretForbidden, InvalidSpec,
            ClusterUnavailable.
        """
        if value.literal is not None:
            if not value.literal.reveal().strip():
                raise JiemiError("InvalidSpec", f"the value is empty @ {at}.literal")
            return value.literal
        if value.secret_name is None or value.key is None:
            raise JiemiError("InvalidSpec", f"give either literal, or secretName together with key @ {at}")
        name, key = value.secret_name, value.key
        if name not in self._secrets:
            self._secrets[name] = await self._read_secret(name, at)
        where = f"key {key!r} of Secret {self._namespace}/{name}, which {at} names"
        data = self._secrets[name].get("data")
        if not isinstance(data, Mapping) or key not in data:
            raise JiemiError("SecretKeyNotFound", f"there is no {where}")
        try:
            text = base64.b64decode(str(data[key] or ""), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise JiemiError("SecretValueEmpty", f"no text (UTF-8) is in {where}") from None
        if not text.strip():
            raise JiemiError("SecretValueEmpty", f"nothing is in {where}")
        return SensitiveText(text)

    async def _read_secret(self, name: str, at: str) -> Mapping[str, Any]:
        try:
            secret = await self._kubernetes.get_secret(self._namespace, name)
        except JiemiError as error:
            if error.failure.reason != "SecretNotFound":
                raise
            message = f"there is no Secret {self._namespace}/{name}, which {at}.secretName names"
            raise JiemiError("SecretNotFound", message) from error
        metadata = secret.get("metadata")
        version = metadata.get("resourceVersion") if isinstance(metadata, Mapping) else None
        if isinstance(version, str):
            self._versions[name] = version
        return secret


async def git_credentials(
    decryptor: Decryptor, spec: DecryptorSpec, kubernetes: Kubernetes, versions: MutableMapping[str, str]
) -> GitCredentials:
    """What the repository's host asks for.

    Args:
        versions: as of `CredentialReader`.

    Raises:
        JiemiError: as `CredentialReader.read`.
    """
    credentials = spec.source.repository.credentials
    if credentials is None:
        return GitCredentials()
    reader = CredentialReader(kubernetes, decryptor.meta.namespace, versions)
    at = "spec.source.repository.credentials"

    async def read(value: CredentialValue | None, name: str) -> SensitiveText | None:
        return None if value is None else await reader.read(value, f"{at}.{name}")

    return GitCredentials(
        # A file that `kubectl create secret --from-file` read ends with a newline that is no part of a name or token.
        username=_stripped(await read(credentials.username, "username")),
        token=_stripped(await read(credentials.token, "token")),
        ssh=await read(credentials.ssh, "ssh"),
        known_hosts=await read(credentials.known_hosts, "knownHosts"),
    )


def _stripped(text: SensitiveText | None) -> SensitiveText | None:
    return None if text is None else SensitiveText(text.reveal().strip())


async def decryption_keys(
    decryptor: Decryptor,
    spec: DecryptorSpec,
    kubernetes: Kubernetes,
    versions: MutableMapping[str, str],
    *,
    vault_address: str | None,
) -> tuple[DecryptionKey, ...]:
    """The keys that the providers give.

    Args:
        versions: as of `CredentialReader`.
        vault_address: the Vault server of an earlier decryption (status.vaultAddress), or None.

    Raises:
        JiemiError: as `CredentialReader.read`.
    """
    reader = CredentialReader(kubernetes, decryptor.meta.namespace, versions)
    provider = spec.provider
    keys: list[DecryptionKey] = []
    if provider.age is not None:
        keys.append(AgeKey(await reader.read(provider.age.private_key, "spec.provider.age.privateKey")))
    if provider.pgp is not None:
        keys.append(PgpKey(**await _read_fields(reader, provider.pgp, "spec.provider.pgp")))
    if provider.aws is not None:
        keys.append(AwsKey(**await _read_fields(reader, provider.aws, "spec.provider.aws")))
    if provider.azure is not None:
        keys.append(AzureKey(**await _read_fields(reader, provider.azure, "spec.provider.azure")))
    if provider.gcp is not None:
        keys.append(GcpKey(**await _read_fields(reader, provider.gcp, "spec.provider.gcp")))
    if provider.huawei is not None:
        keys.append(HuaweiKey(**await _read_fields(reader, provider.huawei, "spec.provider.huawei")))
    if provider.vault is not None:
        keys.append(await _vault_key(reader, provider.vault, vault_address))
    return tuple(keys)


async def _vault_key(reader: CredentialReader, vault: VaultProvider, pinned: str | None) -> VaultKey:
    at = "spec.provider.vault"
    logins: dict[str, Any] = {}
    if vault.app_role is not None:
        found = await _read_fields(reader, vault.app_role, f"{at}.appRole")
        logins |= {"role_id": found["role_id"], "secret_id": found["secret_id"], "app_role_mount": found["mount_path"]}
    if vault.kubernetes is not None:
        found = await _read_fields(reader, vault.kubernetes, f"{at}.kubernetes")
        logins |= {f"kubernetes_{name}": found[name] for name in ("role", "token")}
        logins["kubernetes_mount"] = found["mount_path"]
    own = await _read_fields(reader, attrs.evolve(vault, app_role=None, kubernetes=None), at)
    del own["app_role"], own["kubernetes"]
    return VaultKey(**own, **logins, pinned_address=pinned)


async def _read_fields(reader: CredentialReader, provider: Any, at: str) -> dict[str, Any]:
    """Each field of a provider by its name: values resolved, all else as it is."""
    found: dict[str, Any] = {}
    for attribute in attrs.fields(type(provider)):
        value = getattr(provider, attribute.name)
        if isinstance(value, CredentialValue):
            value = await reader.read(value, f"{at}.{json_name(attribute)}")
        found[attribute.name] = value
    return found
