"""Credential values, resolved: a literal is its text, a reference is read from a Secret of the Decryptor's namespace.

What is resolved lives as long as the tick that needs it (the repository's credentials: as long as the repository is
open).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from jiemi.core.decryptor import CredentialValue, Decryptor, DecryptorSpec
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.miwen.kubernetes_port import Kubernetes
from jiemi.rpc.contract import GitCredentials
from jiemi.rpc.keys import AgeKey, DecryptionKey, PgpKey

_SUPPORTED = ("age", "pgp")


class CredentialReader:
    """Resolves the credential values of one Decryptor, reading each Secret once.

    Args:
        kubernetes: where the Secrets are.
        namespace: the Decryptor's; no other is ever read.
    """

    def __init__(self, kubernetes: Kubernetes, namespace: str) -> None:
        self._kubernetes = kubernetes
        self._namespace = namespace
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
            return await self._kubernetes.get_secret(self._namespace, name)
        except JiemiError as error:
            if error.failure.reason != "SecretNotFound":
                raise
            message = f"there is no Secret {self._namespace}/{name}, which {at}.secretName names"
            raise JiemiError("SecretNotFound", message) from error


async def git_credentials(decryptor: Decryptor, spec: DecryptorSpec, kubernetes: Kubernetes) -> GitCredentials:
    """What the repository's host asks for.

    Raises:
        JiemiError: as `CredentialReader.read`.
    """
    credentials = spec.source.repository.credentials
    if credentials is None:
        return GitCredentials()
    reader = CredentialReader(kubernetes, decryptor.meta.namespace)
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


def require_supported_provider(spec: DecryptorSpec) -> None:
    """Refuse a spec of which this release can use no provider.

    Raises:
        JiemiError: ProviderNotSupportedYet.
    """
    named = spec.provider.named()
    if not any(name in _SUPPORTED for name in named):
        fields = ", ".join(f"spec.provider.{name}" for name in named)
        raise JiemiError(
            "ProviderNotSupportedYet", f"{fields} is accepted, but this release decrypts with age and pgp only"
        )


async def decryption_keys(
    decryptor: Decryptor, spec: DecryptorSpec, kubernetes: Kubernetes
) -> tuple[DecryptionKey, ...]:
    """The keys that the providers give.

    Raises:
        JiemiError: as `CredentialReader.read`.
    """
    reader = CredentialReader(kubernetes, decryptor.meta.namespace)
    keys: list[DecryptionKey] = []
    if spec.provider.age is not None:
        keys.append(AgeKey(await reader.read(spec.provider.age.private_key, "spec.provider.age.privateKey")))
    if spec.provider.pgp is not None:
        keys.append(PgpKey(await reader.read(spec.provider.pgp.private_key, "spec.provider.pgp.privateKey")))
    return tuple(keys)
