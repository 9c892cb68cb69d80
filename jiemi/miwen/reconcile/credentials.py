"""Credential values, resolved: a literal is its text, a reference is read from a Secret of the Decryptor's namespace.

What is resolved lives as long as the tick that needs it; the credentials of a repository live as long as it is open.
"""

from __future__ import annotations

import base64
import binascii
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from jiemi.core.api.decryptor import Decryptor
from jiemi.core.api.fields import json_name
from jiemi.core.api.provider import AgeProvider, CredentialValue, PgpProvider, VaultProvider
from jiemi.core.api.spec import DecryptorSpec, credential_values
from jiemi.core.content.pgp_armor import armored
from jiemi.core.credential_limits import MAX_PRIVATE_KEYS, limit_bytes, require_total, size_bytes, values_of
from jiemi.core.errors import JiemiError
from jiemi.core.near import some_of
from jiemi.core.objects.drift import is_newer
from jiemi.core.patterns import matches
from jiemi.core.sensitive import SensitiveText
from jiemi.miwen.kubernetes.port import Kubernetes
from jiemi.miwen.reconcile.tick import ReconcileContext
from jiemi.miwen.state.loop_state import SecretVersions
from jiemi.miwen.watch.object_watches import NotSynced, ObjectWatches
from jiemi.rpc.keys import AgeKey, AwsKey, AzureKey, DecryptionKey, GcpKey, HuaweiKey, KeyOrigin, PgpKey, VaultKey


class CredentialReader:
    """Resolves credential values of one Decryptor, reading each Secret once.

    Only the values that are asked for are kept of a Secret, and none that is too long: a Secret may have a mebibyte,
    and many Decryptors may name it at once.

    Args:
        kubernetes: where the Secrets are.
        namespace: that of the Decryptor; no other is ever read.
        versions: remembers the resourceVersion of each Secret that is read.
        of: all values that are going to be read, as (path, value).
    """

    def __init__(
        self,
        kubernetes: Kubernetes,
        namespace: str,
        versions: SecretVersions,
        of: Iterable[tuple[str, CredentialValue]],
    ) -> None:
        self._kubernetes = kubernetes
        self._namespace = namespace
        self._versions = versions
        self._most: dict[tuple[str, str], int] = {}
        self._patterns: list[tuple[str, str, int]] = []
        for at, value in of:
            if value.secret_name is not None and value.key is not None:
                which = (value.secret_name, value.key)
                if _is_pattern(value, at):
                    self._patterns.append((value.secret_name, value.key, limit_bytes(at)))
                self._most[which] = max(self._most.get(which, 0), limit_bytes(at))
        self._secrets: dict[str, dict[str, _Found]] = {}
        self._keys: dict[str, tuple[str, ...]] = {}

    async def read(self, value: CredentialValue, at: str) -> SensitiveText:
        """The text of one value.

        Args:
            value: a value of the spec.
            at: its path in messages: "spec.provider.age.privateKey".

        Raises:
            JiemiError: SecretNotFound, SecretKeyNotFound, SecretValueEmpty, SecretForbidden, CredentialTooLarge,
            InvalidSpec, ClusterUnavailable.
        """
        if value.literal is not None:
            if not value.literal.reveal().strip():
                raise JiemiError(
                    "InvalidSpec", f"the value is empty @ {at}.literal", "Put the credential there, or name a Secret."
                )
            return value.literal
        if value.secret_name is None or value.key is None:
            raise JiemiError("InvalidSpec", f"give either literal, or secretName together with key @ {at}")
        return await self._value(value.secret_name, value.key, at)

    async def read_some(self, value: CredentialValue, at: str) -> list[tuple[str, SensitiveText]]:
        """The texts of a value whose key may be a pattern, each with the name of where it is from.

        Raises:
            JiemiError: as `read`.
        """
        if value.literal is not None or value.secret_name is None or value.key is None:
            return [(at, await self.read(value, at))]
        name = value.secret_name
        keys = [value.key]
        if _is_pattern(value, at):
            keys = sorted(key for key in await self._secret(name, at) if matches(key, value.key))
            if not keys:
                there = self._keys.get(name, ())
                raise JiemiError(
                    "SecretKeyNotFound",
                    f"no key of Secret {self._namespace}/{name} matches {value.key!r}, which {at}.key names; it has "
                    + (f"the keys {some_of(value.key, there)}" if there else "no keys at all"),
                    f"Correct {at}.key, or add such a key to the Secret.",
                )
        return [
            (f"{at} (key {key!r} of Secret {self._namespace}/{name})", await self._value(name, key, at)) for key in keys
        ]

    async def read_keys(self, name: str, at: str, paths: Mapping[str, str]) -> dict[str, SensitiveText]:
        """The texts of those keys of a Secret that are there and not empty.

        Args:
            at: the path of the field that names the Secret in its secretName.
            paths: the keys, and the path of a single value like each, whose bound it has.

        Raises:
            JiemiError: as `read`.
        """
        for key, path in paths.items():
            self._most[name, key] = limit_bytes(path)
        found = await self._secret(name, at)
        there = {
            key: await self._value(name, key, at, limit_bytes(path), may_be_empty=True)
            for key, path in paths.items()
            if key in found
        }
        return {key: value for key, value in there.items() if value.reveal().strip()}

    def keys_of(self, name: str) -> tuple[str, ...]:
        """The keys of a Secret that was read, or the first of very many."""
        return self._keys.get(name, ())

    async def _secret(self, name: str, at: str) -> dict[str, _Found]:
        if name not in self._secrets:
            self._secrets[name] = await self._read_secret(name, at)
        return self._secrets[name]

    async def _value(
        self, name: str, key: str, at: str, limit: int | None = None, *, may_be_empty: bool = False
    ) -> SensitiveText:
        limit = limit_bytes(at) if limit is None else limit
        secret = await self._secret(name, at)
        where = f"key {key!r} of Secret {self._namespace}/{name}, which {at} names"
        if key not in secret:
            raise self._no_such_key(name, key, at)
        found = secret[key]
        size = found if isinstance(found, int) else size_bytes(found) if found is not None else 0
        if size > limit:
            raise JiemiError(
                "CredentialTooLarge",
                f"{size} bytes, of {limit} at most, are in {where}",
                "Put the credential alone under that key.",
            )
        if found is None or isinstance(found, int):
            raise JiemiError(
                "SecretValueEmpty", f"no text (UTF-8) is in {where}", "Put the credential there as text, not as bytes."
            )
        if not may_be_empty and not found.reveal().strip():
            raise JiemiError("SecretValueEmpty", f"nothing is in {where}")
        return found

    def _no_such_key(self, name: str, key: str, at: str) -> JiemiError:
        keys = self._keys.get(name, ())
        if "*" in key:
            return JiemiError(
                "SecretKeyNotFound",
                f"Secret {self._namespace}/{name} has no key {key!r}, which {at}.key names",
                "Name one key: only the list privateKeys of age and pgp takes a key with *.",
            )
        missing = f"Secret {self._namespace}/{name} has no key {key!r}, which {at}.key names"
        if not keys:
            return JiemiError(
                "SecretKeyNotFound", f"{missing}; it has no keys at all", "Put the credential under that key."
            )
        there = f"the keys {some_of(key, keys)}" if len(keys) > 1 else f"the key {keys[0]}"
        return JiemiError(
            "SecretKeyNotFound", f"{missing}; it has {there}", f"Correct {at}.key, or add the key to the Secret."
        )

    async def _read_secret(self, name: str, at: str) -> dict[str, _Found]:
        data = await read_secret(self._kubernetes, self._namespace, name, at, self._versions)
        self._keys[name] = some_keys(data)
        most = {key: each for (of, key), each in self._most.items() if of == name and key in data}
        for of, pattern, limit in self._patterns:
            for key in data if of == name else ():
                if matches(key, pattern):
                    most[key] = max(most.get(key, 0), limit)
        return {key: _decoded(str(data[key] or ""), each) for key, each in most.items()}


async def read_secret(
    kubernetes: Kubernetes, namespace: str, name: str, at: str, versions: SecretVersions
) -> Mapping[str, object]:
    """The data of a Secret, as it is there: base64 by key.

    Args:
        at: the path of the field that names the Secret in its secretName.
        versions: remembers the resourceVersion.

    Raises:
        JiemiError: SecretNotFound, SecretForbidden, ClusterUnavailable.
    """
    try:
        secret = await kubernetes.get_secret(namespace, name)
    except JiemiError as error:
        if error.failure.reason != "SecretNotFound":
            raise
        raise JiemiError(
            "SecretNotFound",
            f"there is no Secret {namespace}/{name}, which {at}.secretName names",
            f"Create it in namespace {namespace} (Secrets of other namespaces are not read), or correct `secretName`.",
        ) from error
    metadata = secret.get("metadata")
    version = metadata.get("resourceVersion") if isinstance(metadata, Mapping) else None
    if isinstance(version, str):
        versions.was_read(name, version)
    data = secret.get("data")
    return data if isinstance(data, Mapping) else {}


_LISTS = ("spec.provider.age.privateKeys[", "spec.provider.pgp.privateKeys[")


def _is_pattern(value: CredentialValue, at: str) -> bool:
    """Whether a value stands for several keys of a Secret. A key of a Secret has no * itself."""
    return value.key is not None and "*" in value.key and at.startswith(_LISTS)


_MOST_KEYS = 100
"""How many keys of a Secret are kept, so that a message can name those that resemble a missing one."""


def some_keys(data: Mapping[str, object]) -> tuple[str, ...]:
    """The names of the keys of a Secret, as many as are worth comparing."""
    return tuple(itertools.islice((str(key) for key in data), _MOST_KEYS))


_Found = SensitiveText | int | None
"""A value of a Secret; its size in bytes where it is too long; None where it is no text."""


def _decoded(encoded: str, most: int) -> _Found:
    size = len(encoded) // 4 * 3 - encoded[-2:].count("=")
    if size > most:
        return size
    try:
        data = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return None
    try:
        text: str | None = data.decode()
    except UnicodeDecodeError:
        text = armored(data)
    return SensitiveText.shared(text) if text is not None else None


def reader_of(
    decryptor: Decryptor, spec: DecryptorSpec, kubernetes: Kubernetes, versions: SecretVersions, below: str
) -> CredentialReader:
    """A reader of the values below a path of the spec."""
    values = [(at, value) for at, value in credential_values(spec) if at.startswith(f"{below}.")]
    return CredentialReader(kubernetes, decryptor.meta.namespace, versions, values)


async def decryption_keys(
    decryptor: Decryptor,
    spec: DecryptorSpec,
    kubernetes: Kubernetes,
    versions: SecretVersions,
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
    reader = reader_of(decryptor, spec, kubernetes, versions, "spec.provider")
    provider = spec.provider
    keys: list[DecryptionKey] = []
    if provider.age is not None:
        keys.append(AgeKey(*await _private_keys(reader, provider.age, "spec.provider.age")))
    if provider.pgp is not None:
        text, origins = await _private_keys(reader, provider.pgp, "spec.provider.pgp")
        passphrase = provider.pgp.passphrase
        given = await reader.read(passphrase, "spec.provider.pgp.passphrase") if passphrase is not None else None
        keys.append(PgpKey(text, given, origins))
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
    require_total([value for key in keys for value in values_of(key)], "spec.provider")
    return tuple(keys)


async def _private_keys(
    reader: CredentialReader, provider: AgeProvider | PgpProvider, at: str
) -> tuple[SensitiveText, tuple[KeyOrigin, ...]]:
    """The private keys of a provider as one text, and where its lines are from, if from several places."""
    one = provider.private_key
    if one is not None and not provider.private_keys:
        return await reader.read(one, f"{at}.privateKey"), ()
    found = [(f"{at}.privateKey", await reader.read(one, f"{at}.privateKey"))] if one is not None else []
    for index, value in enumerate(provider.private_keys):
        found += await reader.read_some(value, f"{at}.privateKeys[{index}]")
    once: dict[str, str] = {}
    for name, text in found:
        once.setdefault(text.reveal().strip(), name)  # two patterns may take one key
    if len(once) > MAX_PRIVATE_KEYS:
        raise JiemiError(
            "CredentialTooLarge", f"{at}.privateKeys names {len(once)} private keys, of {MAX_PRIVATE_KEYS} at most"
        )
    texts = [(name, f"{text}\n") for text, name in once.items()]
    joined = SensitiveText.shared("".join(text for _, text in texts))
    size, limit = size_bytes(joined), limit_bytes(f"{at}.privateKeys")
    if size > limit:
        raise JiemiError(
            "CredentialTooLarge", f"the private keys of {at} have {size} bytes together, of {limit} at most"
        )
    return joined, tuple(KeyOrigin(name, len(text.splitlines())) for name, text in texts)


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


def have_changed(
    context: ReconcileContext, watches: ObjectWatches, names: Iterable[str], *, unwatched: bool = False
) -> bool:
    """Whether a Secret has changed since it was read.

    Args:
        unwatched: what Secrets count as that can't be watched: as changed, where it matters that none is missed.
    """
    changed = False
    for name in names:
        try:
            now = watches.version_of("", "Secret", context.decryptor.meta.namespace, name)
        except NotSynced:
            return unwatched and name in context.state.secrets.read
        if now is not None:
            context.state.secrets.was_watched(name)
        read = context.state.secrets.read.get(name)
        if read is not None and (now is not None or name in context.state.secrets.watched):
            changed |= now is None or is_newer(now, than=read)
    return changed
