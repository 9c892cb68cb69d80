"""The credentials of a repository: from single values, or from a whole Secret."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs

from jiemi.core.api.decryptor import Decryptor
from jiemi.core.api.provider import CredentialValue
from jiemi.core.api.repository_credentials import GitHubApp
from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.credential_limits import require_total, values_of
from jiemi.core.sensitive import SensitiveText
from jiemi.core.urls import CREDENTIALS_FIELD, Scheme, parse_url
from jiemi.miwen.kubernetes.port import Kubernetes
from jiemi.miwen.reconcile.credentials import CredentialReader, reader_of
from jiemi.miwen.reconcile.repository_proxy import proxy_values
from jiemi.miwen.reconcile.whole_secret import credentials_of, paths_of
from jiemi.miwen.state.loop_state import SecretVersions
from jiemi.rpc.source import GitCredentials

_Read = Callable[[CredentialValue | None, str], Awaitable[SensitiveText | None]]

_AS_IT_IS = frozenset(
    {
        *("identity", "known_hosts", "ca.crt", "caFile", "tls.crt", "certFile", "tls.key", "keyFile"),
        "githubAppPrivateKey",
    }
)
"""Keys of a whole Secret whose values are files; no other value has a line break at its end."""


async def git_credentials(
    decryptor: Decryptor, spec: DecryptorSpec, kubernetes: Kubernetes, versions: SecretVersions
) -> GitCredentials:
    """The credentials that the host of the repository asks for, and those of the proxy to it.

    Args:
        versions: as of `CredentialReader`.

    Raises:
        JiemiError: as `CredentialReader.read`.
    """
    found = await _of_host(decryptor, spec, kubernetes, versions)
    proxy = await proxy_values(decryptor, spec, kubernetes, versions)
    return attrs.evolve(found, **proxy) if proxy else found


async def _of_host(
    decryptor: Decryptor, spec: DecryptorSpec, kubernetes: Kubernetes, versions: SecretVersions
) -> GitCredentials:
    credentials = spec.source.repository.credentials
    if credentials is None:
        return GitCredentials()
    at = "spec.source.repository.credentials"
    if credentials.secret_name is not None:
        reader = CredentialReader(kubernetes, decryptor.meta.namespace, versions, ())
        found = await _read_whole(reader, decryptor, spec, credentials.secret_name)
        require_total(values_of(found), at)
        return found
    reader = reader_of(decryptor, spec, kubernetes, versions, at)

    async def read(value: CredentialValue | None, name: str) -> SensitiveText | None:
        return None if value is None else await reader.read(value, f"{at}.{name}")

    found = GitCredentials(
        # A file that `kubectl create secret --from-file` read ends with a newline that is no part of a name or token.
        username=_stripped(await read(credentials.username, "username")),
        token=_stripped(await read(credentials.token, "token")),
        bearer=_stripped(await read(credentials.bearer, "bearer")),
        ca_bundle=await read(credentials.ca_bundle, "caBundle"),
        client_certificate=await read(credentials.client_certificate, "clientCertificate"),
        client_key=await read(credentials.client_key, "clientKey"),
        passphrase=_without_line_end(await read(credentials.passphrase, "passphrase")),
        ssh=await read(credentials.ssh, "ssh"),
        known_hosts=await read(credentials.known_hosts, "knownHosts"),
        **await _read_app(credentials.github_app, read),
    )
    require_total(values_of(found), at)
    return found


async def _read_app(app: GitHubApp | None, read: _Read) -> dict[str, SensitiveText | None]:
    if app is None:
        return {}
    return {
        "github_app_id": _stripped(await read(app.app_id, "githubApp.appId")),
        "github_app_private_key": await read(app.private_key, "githubApp.privateKey"),
        "github_app_installation_id": _stripped(await read(app.installation_id, "githubApp.installationId")),
        "github_app_installation_owner": _stripped(await read(app.installation_owner, "githubApp.installationOwner")),
        "github_app_base_url": _stripped(await read(app.base_url, "githubApp.baseUrl")),
    }


def _stripped(text: SensitiveText | None) -> SensitiveText | None:
    return None if text is None else SensitiveText.shared(text.reveal().strip())


def _without_line_end(text: SensitiveText | None) -> SensitiveText | None:
    """A passphrase may have spaces at its ends."""
    return None if text is None else SensitiveText.shared(text.reveal().rstrip("\r\n"))


async def _read_whole(reader: CredentialReader, decryptor: Decryptor, spec: DecryptorSpec, name: str) -> GitCredentials:
    scheme = parse_url(spec.source.repository.url, allow_file=True).scheme  # whether it may be followed, Krapao says
    found = await reader.read_keys(name, CREDENTIALS_FIELD, paths_of(scheme))
    values = {key: _cleaned(key, value, scheme) for key, value in found.items()}
    where = f"Secret {decryptor.meta.namespace}/{name}, which {CREDENTIALS_FIELD}.secretName names,"
    return credentials_of(values, scheme, where=where, keys=reader.keys_of(name))


def _cleaned(key: str, value: SensitiveText, scheme: Scheme) -> SensitiveText:
    """A value of a whole Secret, as a single one is read."""
    if key == "password" and scheme is Scheme.SSH:
        return _without_line_end(value) or value
    return value if key in _AS_IT_IS else _stripped(value) or value
