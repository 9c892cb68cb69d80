"""The proxy to the repository's host: its address and its login, from single values or from a Secret in Flux's form.

https://fluxcd.io/flux/components/source/gitrepositories/#proxy-secret-reference describes that form.
"""

from __future__ import annotations

from jiemi.core.api.decryptor import Decryptor
from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.errors import JiemiError
from jiemi.core.near import some_of
from jiemi.core.sensitive import SensitiveText
from jiemi.core.urls import PROXY_FIELD
from jiemi.miwen.kubernetes.port import Kubernetes
from jiemi.miwen.reconcile.credentials import CredentialReader, reader_of
from jiemi.miwen.state.loop_state import SecretVersions

_KEYS = {"address": "proxy_url", "username": "proxy_username", "password": "proxy_password"}
"""The keys of a Secret, and what each is in the contract."""


async def proxy_values(
    decryptor: Decryptor, spec: DecryptorSpec, kubernetes: Kubernetes, versions: SecretVersions
) -> dict[str, SensitiveText]:
    """The proxy's parts of the contract's credentials; none where the spec names no proxy.

    Args:
        versions: as of `CredentialReader`.

    Raises:
        JiemiError: as `CredentialReader.read`.
    """
    proxy = spec.source.repository.proxy
    if proxy is None:
        return {}
    if proxy.secret_name is not None:
        reader = CredentialReader(kubernetes, decryptor.meta.namespace, versions, ())
        found = await reader.read_keys(proxy.secret_name, PROXY_FIELD, {key: f"{PROXY_FIELD}.{key}" for key in _KEYS})
        _require_whole(found, f"Secret {decryptor.meta.namespace}/{proxy.secret_name}", reader, proxy.secret_name)
        return {_KEYS[key]: _without_line_end(value) for key, value in found.items()}
    reader = reader_of(decryptor, spec, kubernetes, versions, PROXY_FIELD)
    values = {"proxy_url": SensitiveText.shared(proxy.url or "")}
    if proxy.username is not None and proxy.password is not None:
        values["proxy_username"] = await reader.read(proxy.username, f"{PROXY_FIELD}.username")
        values["proxy_password"] = await reader.read(proxy.password, f"{PROXY_FIELD}.password")
    return {name: _without_line_end(value) for name, value in values.items()}


def _require_whole(found: dict[str, SensitiveText], secret: str, reader: CredentialReader, name: str) -> None:
    for missing in ("address", "username", "password"):
        is_needed = missing == "address" or "username" in found or "password" in found
        if is_needed and missing not in found:
            keys = reader.keys_of(name)
            raise JiemiError(
                "SecretKeyNotFound",
                f"{secret}, which {PROXY_FIELD}.secretName names, has nothing under the key {missing!r}"
                + (f"; it has the keys {some_of(missing, keys)}" if keys else "; it has no keys at all"),
                f"Add the key {missing!r} to the Secret.",
            )


def _without_line_end(text: SensitiveText) -> SensitiveText:
    """A file that `kubectl create secret --from-file` read ends with a newline that is no part of the value."""
    return SensitiveText.shared(text.reveal().rstrip("\r\n"))
