"""The Secrets that a Decryptor's spec names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from jiemi.core.decryptor import DecryptorSpec
from jiemi.core.errors import Failure
from jiemi.core.provider import CredentialValue


def secret_names(spec: DecryptorSpec | Failure) -> frozenset[str]:
    """All of them; none where the spec can't be read."""
    return git_secret_names(spec) | key_secret_names(spec)


def git_secret_names(spec: DecryptorSpec | Failure) -> frozenset[str]:
    """Those that the repository's host is asked with."""
    return frozenset(_names(spec.source.repository.credentials)) if isinstance(spec, DecryptorSpec) else frozenset()


def key_secret_names(spec: DecryptorSpec | Failure) -> frozenset[str]:
    """Those that open the files."""
    return frozenset(_names(spec.provider)) if isinstance(spec, DecryptorSpec) else frozenset()


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, CredentialValue):
        if value.secret_name is not None:
            yield value.secret_name
    elif attrs.has(type(value)):
        for attribute in attrs.fields(type(value)):
            yield from _names(getattr(value, attribute.name))
