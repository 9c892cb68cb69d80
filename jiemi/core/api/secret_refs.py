"""The Secrets that a Decryptor's spec names."""

from __future__ import annotations

from collections.abc import Mapping

from jiemi.core.api.decryptor_status import SecretVersion
from jiemi.core.api.spec import DecryptorSpec, credential_values
from jiemi.core.errors import Failure

_ALL = "spec."
_OF_GIT = "spec.source.repository."
_OF_KEYS = "spec.provider."
_OF_SIGNERS = "spec.source.repository.verify."


def secret_names(spec: DecryptorSpec | Failure) -> frozenset[str]:
    """All of them; none where the spec can't be read."""
    return _names(spec, _ALL)


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
    repository = spec.source.repository
    if below in (_ALL, _OF_GIT):
        whole = (repository.credentials, repository.proxy)
        names.update(each.secret_name for each in whole if each is not None and each.secret_name is not None)
    if below in (_ALL, _OF_SIGNERS) and repository.verify is not None:
        names.add(repository.verify.secret_name)
    return frozenset(names)


def observed_secrets_of(spec: DecryptorSpec, versions: Mapping[str, str]) -> tuple[SecretVersion, ...]:
    """The Secrets that the spec names, in the versions that were read."""
    names = sorted(secret_names(spec) & set(versions))
    return tuple(SecretVersion(name, versions[name]) for name in names)
