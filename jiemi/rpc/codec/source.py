"""Opening a repository: its source, its credentials, and the tenant that it is opened for."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import attrs

from jiemi.core.credential_limits import require_total, values_of
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.rpc.codec.fields import (
    Builder,
    Reader,
    get_credential,
    get_optional,
    get_text,
    get_texts,
    member_of,
    put_text,
    put_texts,
)
from jiemi.rpc.codec.verification import read_verification, write_verification
from jiemi.rpc.contract import require_tenant
from jiemi.rpc.source import MAX_SUBMODULE_HOSTS, GitCredentials, Source, Submodules, TagRange


def write_source(builder: Builder, source: Source) -> None:
    put_text(builder, "url", source.url)
    put_text(builder.ref, "branch", source.branch)
    put_text(builder.ref, "tag", source.tag)
    put_text(builder.ref, "commit", source.commit)
    put_text(builder.ref, "name", source.name)
    if source.tags is not None:
        tags = builder.ref.init("tags")
        put_text(tags, "versions", source.tags.versions)
        put_text(tags, "matching", source.tags.matching)
    if source.submodules is not None:
        put_texts(builder.init("submodules"), "hosts", source.submodules.hosts)


def read_source(reader: Reader) -> Source:
    """Raises JiemiError InvalidSpec for a kind of ref that is not known here; LimitExceeded."""
    source = _read_ref(reader)
    if not reader._has("submodules"):
        return source
    hosts = get_texts(reader.submodules, "hosts")
    if len(hosts) > MAX_SUBMODULE_HOSTS:
        raise JiemiError("LimitExceeded", f"spec.source.repository.submodules: more than {MAX_SUBMODULE_HOSTS} hosts")
    return attrs.evolve(source, submodules=Submodules(hosts))


def _read_ref(reader: Reader) -> Source:
    url, ref = get_text(reader, "url"), reader.ref
    match member_of(ref):
        case "head":
            return Source(url)
        case "branch":
            return Source(url, branch=get_text(ref, "branch"))
        case "tag":
            return Source(url, tag=get_text(ref, "tag"))
        case "commit":
            return Source(url, commit=get_text(ref, "commit"))
        case "name":
            return Source(url, name=get_text(ref, "name"))
        case "tags":
            return Source(url, tags=TagRange(get_text(ref.tags, "versions"), get_optional(ref.tags, "matching")))
    raise JiemiError("InvalidSpec", "this Krapao does not know the kind of ref that is asked for; upgrade it")


def write_tenant(builder: Builder, tenant: str) -> None:
    put_text(builder, "tenant", tenant)


def read_tenant(reader: Reader) -> str:
    """ "" where an older peer gives none.

    Raises:
        JiemiError: InvalidSpec where it is too long or has other characters.
    """
    tenant = get_text(reader, "tenant")
    require_tenant(tenant)
    return tenant


_ALWAYS_KNOWN = {"username": "username", "token": "token", "ssh": "ssh", "known_hosts": "knownHosts"}
"""The fields of credentials that every Krapao knows, by their names in the contract."""

_CREDENTIALS = {
    **_ALWAYS_KNOWN,
    "bearer": "bearer",
    "ca_bundle": "caBundle",
    "client_certificate": "clientCertificate",
    "client_key": "clientKey",
    "passphrase": "passphrase",
    "github_app_id": "githubAppId",
    "github_app_private_key": "githubAppPrivateKey",
    "github_app_installation_id": "githubAppInstallationId",
    "github_app_installation_owner": "githubAppInstallationOwner",
    "github_app_base_url": "githubAppBaseUrl",
    "proxy_url": "proxyUrl",
    "proxy_username": "proxyUsername",
    "proxy_password": "proxyPassword",
}

_AT = "spec.source.repository.credentials"

_VERIFY, _SUBMODULES = "verify", "submodules"
"""The names that stand for those of a `Source` among the fields that are required."""

_PATHS = {
    "githubAppId": f"{_AT}.githubApp.appId",
    "githubAppPrivateKey": f"{_AT}.githubApp.privateKey",
    "githubAppInstallationId": f"{_AT}.githubApp.installationId",
    "githubAppInstallationOwner": f"{_AT}.githubApp.installationOwner",
    "githubAppBaseUrl": f"{_AT}.githubApp.baseUrl",
    _VERIFY: f"spec.source.repository.{_VERIFY}",
    _SUBMODULES: f"spec.source.repository.{_SUBMODULES}",
    "proxyUrl": "spec.source.repository.proxy.url",
    "proxyUsername": "spec.source.repository.proxy.username",
    "proxyPassword": "spec.source.repository.proxy.password",
}
"""Where a Decryptor has the fields that are required and not just below its credentials."""


@attrs.frozen
class Opening:
    """What a repository is opened with."""

    source: Source
    credentials: GitCredentials
    tenant: str

    @property
    def required(self) -> tuple[str, ...]:
        """The names of those fields of the credentials that a Krapao may not know, and must not ignore; and `verify`
        and `submodules`, where the source has these."""
        verify = () if self.source.verification is None else (_VERIFY,)
        submodules = () if self.source.submodules is None else (_SUBMODULES,)
        return (
            verify
            + submodules
            + tuple(
                field
                for name, field in _CREDENTIALS.items()
                if name not in _ALWAYS_KNOWN and getattr(self.credentials, name) is not None
            )
        )

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        return source_bytes(self.source) + credentials_bytes(self.credentials)

    @property
    def method(self) -> str:
        """The method of a session that it is written for."""
        return "openRepositoryRequiring" if self.required else "openRepository"


def write_opening(builder: Builder, opening: Opening) -> None:
    """Fill a request of `Opening.method`."""
    write_source(builder.source, opening.source)
    write_credentials(builder.credentials, opening.credentials)
    write_tenant(builder, opening.tenant)
    if opening.required:
        put_texts(builder, "required", opening.required)
    if opening.source.verification is not None:
        write_verification(builder.init("verification"), opening.source.verification)


def read_opening(reader: Reader, *, requiring: bool) -> Opening:
    """Of a request of openRepository, or of openRepositoryRequiring.

    Raises:
        JiemiError: ProviderNotSupportedYet where a field is required that is not known here; InvalidSpec,
            LimitExceeded, CredentialTooLarge.
    """
    required = set(get_texts(reader, "required")) if requiring else set()
    unknown = sorted(required - set(_CREDENTIALS.values()) - {_VERIFY, _SUBMODULES})
    if unknown:
        raise too_old(unknown)
    source = read_source(reader.source)
    if requiring and reader._has("verification"):
        source = attrs.evolve(source, verification=read_verification(reader.verification))
    elif _VERIFY in required:
        raise JiemiError("InvalidSpec", f"{_path(_VERIFY)} is required, and does not say what must be signed")
    return Opening(source, read_credentials(reader.credentials), read_tenant(reader))


def too_old(fields: Sequence[str]) -> JiemiError:
    """For a Krapao that does not know fields that are required."""
    return JiemiError(
        "ProviderNotSupportedYet",
        f"Krapao is of an older release than Miwen and does not know {', '.join(map(_path, fields))}",
    )


def _path(required: str) -> str:
    """The path in a Decryptor of a field that is required."""
    return _PATHS.get(required, f"{_AT}.{required}")


def write_credentials(builder: Builder, credentials: GitCredentials) -> None:
    for name, field in _CREDENTIALS.items():
        value: SensitiveText | None = getattr(credentials, name)
        put_text(builder, field, None if value is None else value.reveal())


def read_credentials(reader: Reader) -> GitCredentials:
    """Raises JiemiError CredentialTooLarge: a caller is bound as a Decryptor is."""
    found = GitCredentials(
        **{
            name: get_credential(reader, field, _path(field))
            for name, field in _CREDENTIALS.items()
            if reader._has(field)
        }
    )
    require_total(values_of(found), _AT)
    return found


def source_bytes(source: Source) -> int:
    """About how many bytes of memory a source takes."""
    tags = () if source.tags is None else (source.tags.versions, source.tags.matching)
    verification = 0 if source.verification is None else source.verification.size
    hosts = () if source.submodules is None else source.submodules.hosts
    texts = (source.url, source.branch, source.tag, source.commit, source.name, *tags, *hosts)
    return verification + sum(map(sys.getsizeof, texts))


def credentials_bytes(credentials: GitCredentials) -> int:
    """About how many bytes of memory credentials take: text of four bytes a character where one needs that."""
    return sum(sys.getsizeof(value.reveal()) for value in values_of(credentials))
