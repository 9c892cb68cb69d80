"""The Secrets that a Decryptor's spec names."""

from __future__ import annotations

from collections.abc import Mapping

from jiemi.core.api.decryptor_status import SecretVersion
from jiemi.core.api.spec import DecryptorSpec, credential_values
from jiemi.core.errors import Failure

_OF_GIT = "spec.source.repository.credentials."
_OF_KEYS = "spec.provider."
_OF_SIGNERS = "spec.source.repository.verify."


def secret_names(spec: DecryptorSpec | Failure) -> frozenset[str]:
    """All of them; none where the spec can't be read."""
    return _names(spec, "spec.")


def git_secret_names(spec: DecryptorSpec | Failure) -> frozenset[str]:
    """Those that the repository's host is asked with."""
    return _names(spec, _OF_GIT)


def key_secret_names(spec: DecryptorSpec | Failure) -> frozenset[str]:
    """Those that open the files."""
    return _names(spec, _OF_KEYS)


def verify_secret_names(spec: DecryptorSpec | Failure) -> frozenset[str]:
    """The one with the public keys of those whose signatures count."""
    return _names(spec, _OF_SIGNERS)


def _names(spec: DecryptorSpec | Failure, below: str) -> frozenset[str]:
    if isinstance(spec, Failure):
        return frozenset()
    values = [value for at, value in credential_values(spec) if at.startswith(below)]
    names = {value.secret_name for value in values if value.secret_name is not None}
    credentials = spec.source.repository.credentials
    if credentials is not None and credentials.secret_name is not None and _OF_GIT.startswith(below):
        names.add(credentials.secret_name)
    verify = spec.source.repository.verify
    if verify is not None and _OF_SIGNERS.startswith(below):
        names.add(verify.secret_name)
    return frozenset(names)


def observed_secrets_of(spec: DecryptorSpec, versions: Mapping[str, str]) -> tuple[SecretVersion, ...]:
    """The Secrets that the spec names, in the versions that were read."""
    names = sorted(secret_names(spec) & set(versions))
    return tuple(SecretVersion(name, versions[name]) for name in names)
