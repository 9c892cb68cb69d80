"""Git credentials from a whole Secret, in the form that Flux's GitRepository and many tools write.

https://fluxcd.io/flux/components/source/gitrepositories/#secret-reference describes it. Which keys count follows from
the URL's scheme, so one Secret may serve repositories over https and over ssh. What contradicts itself or lacks its
other half is refused, because a host that gets half of it answers with less than what is said here.
"""

from __future__ import annotations

from collections.abc import Mapping

from jiemi.core.errors import JiemiError
from jiemi.core.near import some_of
from jiemi.core.sensitive import SensitiveText
from jiemi.core.urls import CREDENTIALS_FIELD, Scheme
from jiemi.rpc.source import GitCredentials

_HTTP: Mapping[str, str] = {
    "username": "username",
    "password": "token",
    "bearerToken": "bearer",
}
_HTTPS: Mapping[str, str] = {
    **_HTTP,
    "ca.crt": "ca_bundle",
    "caFile": "ca_bundle",
    "tls.crt": "client_certificate",
    "certFile": "client_certificate",
    "tls.key": "client_key",
    "keyFile": "client_key",
    "githubAppID": "github_app_id",
    "githubAppPrivateKey": "github_app_private_key",
    "githubAppInstallationID": "github_app_installation_id",
    "githubAppInstallationOwner": "github_app_installation_owner",
    "githubAppBaseURL": "github_app_base_url",
}
_SSH: Mapping[str, str] = {
    "identity": "ssh",
    "known_hosts": "known_hosts",
    "password": "passphrase",
}
_FORMS: Mapping[Scheme, Mapping[str, str]] = {Scheme.HTTP: _HTTP, Scheme.HTTPS: _HTTPS, Scheme.SSH: _SSH}
"""The keys of a Secret that count, and what each is in the contract."""

_CONTRADICTIONS = (
    ("bearer", "username"),
    ("bearer", "token"),
    ("github_app_id", "username"),
    ("github_app_id", "token"),
    ("github_app_id", "bearer"),
    ("github_app_installation_id", "github_app_installation_owner"),
)

_APP = "githubAppID"

_JSON_NAMES = {"known_hosts": "knownHosts", "ca_bundle": "caBundle"}

Values = Mapping[str, SensitiveText]
"""What a Secret holds, by its keys."""


def paths_of(scheme: Scheme) -> dict[str, str]:
    """The keys that count for a scheme, and the path of the single value that each is like."""
    return {
        key: f"{CREDENTIALS_FIELD}.{_JSON_NAMES.get(field, field)}" for key, field in _FORMS.get(scheme, {}).items()
    }


def credentials_of(values: Values, scheme: Scheme, *, where: str, keys: tuple[str, ...]) -> GitCredentials:
    """The credentials in a Secret.

    Args:
        values: of the keys that count (`paths_of`) and are there.
        where: the Secret and the field that names it, for messages.
        keys: all that the Secret has.

    Raises:
        JiemiError: SecretKeyNotFound where a part is missing; InvalidSpec where parts contradict each other.
    """
    form = _FORMS.get(scheme, {})
    found: dict[str, tuple[str, SensitiveText]] = {}
    for key, field in form.items():
        value = values.get(key)
        if value is None:
            continue
        if field in found and found[field][1] != value:
            raise _contradiction(found[field][0], key, where)
        found.setdefault(field, (key, value))
    if not found:
        raise _nothing(scheme, form, where, keys)
    _require_whole(found, where, keys)
    return GitCredentials(**{field: value for field, (_, value) in found.items()})


def _require_whole(found: Mapping[str, tuple[str, SensitiveText]], where: str, keys: tuple[str, ...]) -> None:
    for one, other in _CONTRADICTIONS:
        if one in found and other in found:
            raise _contradiction(found[one][0], found[other][0], where)
    for field, other, missing in (
        ("username", "token", "password"),
        ("token", "username", "username"),
        ("client_certificate", "client_key", "tls.key"),
        ("client_key", "client_certificate", "tls.crt"),
        ("known_hosts", "ssh", "identity"),
        ("passphrase", "ssh", "identity"),
        ("github_app_id", "github_app_private_key", "githubAppPrivateKey"),
        ("github_app_private_key", "github_app_id", _APP),
        ("github_app_installation_id", "github_app_id", _APP),
        ("github_app_installation_owner", "github_app_id", _APP),
        ("github_app_base_url", "github_app_id", _APP),
    ):
        if field in found and other not in found:
            raise JiemiError(
                "SecretKeyNotFound",
                f"{where} has the key {found[field][0]!r} without {missing!r}{_there(missing, keys)}",
                f"Add the key {missing!r} to the Secret.",
            )


def _contradiction(one: str, other: str, where: str) -> JiemiError:
    return JiemiError(
        "InvalidSpec", f"{where} has the keys {one!r} and {other!r}, which contradict each other", "Remove one of them."
    )


def _nothing(scheme: Scheme, form: Mapping[str, str], where: str, keys: tuple[str, ...]) -> JiemiError:
    if not form:
        return JiemiError(
            "InvalidSpec",
            f"{where} is of no use for a {scheme.value}:// URL, which takes no credentials",
            f"Remove {CREDENTIALS_FIELD}, or use the repository's https:// or ssh:// URL.",
        )
    if _APP in keys:
        return JiemiError(
            "InvalidSpec",
            f"{where} is for a GitHub App, which is logged in as over https only",
            "Use the repository's https:// URL, or give a deploy key.",
        )
    wanted = ", ".join(form)
    return JiemiError(
        "SecretKeyNotFound",
        f"{where} has none of the keys for a {scheme.value}:// URL ({wanted}){_there(next(iter(form)), keys)}",
        "Add the keys that the host asks for, or name single values in place of secretName.",
    )


def _there(like: str, keys: tuple[str, ...]) -> str:
    return f"; it has the keys {some_of(like, keys)}" if keys else "; it has no keys at all"
