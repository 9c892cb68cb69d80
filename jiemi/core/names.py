"""Whether a text can be a name in Kubernetes.

A name from an encrypted file is decrypted text until it is known to be a name that an object can have: sops encrypts
every value of a file, `metadata.name` too, where its rules say nothing else. A name that the API server would refuse
may be anything, a password in the wrong line for example, so it is never shown. One that it takes is in the object's
path, in the inventory and in messages, which docs/hostile-repository.md says.

https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
"""

from __future__ import annotations

import re

NamespacedName = tuple[str, str]
"""Namespace and name of an object, where the kind is clear from the context."""

_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_SEGMENT = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9.:_@]{0,251}[A-Za-z0-9])?")
_KIND = re.compile(r"[A-Za-z](?:[-A-Za-z0-9]{0,61}[A-Za-z0-9])?")
_VERSION = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")

_MANAGER = re.compile(r"[A-Za-z0-9][-_./A-Za-z0-9]{0,63}")

_OF_SEGMENTS = frozenset({"rbac.authorization.k8s.io", "networking.k8s.io", "certificates.k8s.io"})
"""API groups with kinds whose names may have colons or capitals: system:admin, 2001:db8::1."""

_OF_LABELS = frozenset({("", "Namespace"), ("", "Service")})


def is_object_name(name: str, *, group: str, kind: str) -> bool:
    """Whether an object of that kind can have the name.

    Custom resources and most kinds have names of the form of a DNS subdomain. OpenShift's own API servers take others.
    """
    if (group, kind) in _OF_LABELS:
        return _LABEL.fullmatch(name) is not None
    if group in _OF_SEGMENTS or group.endswith(".openshift.io"):
        return _SEGMENT.fullmatch(name) is not None
    return _SUBDOMAIN.fullmatch(name) is not None


_LABEL_RULE = (
    "at most 63 characters, small letters, digits and - only, a letter or digit first and last (RFC 1123, DNS label)"
)

NAMESPACE_RULE = _LABEL_RULE
"""What a namespace's name must be, for a message."""


def name_rule(*, group: str, kind: str) -> str:
    """What the name of an object of that kind must be, for a message."""
    if (group, kind) in _OF_LABELS:
        return _LABEL_RULE
    if group in _OF_SEGMENTS or group.endswith(".openshift.io"):
        return "at most 253 characters, letters, digits and -._:@ only, a letter or digit first and last"
    return (
        "at most 253 characters, small letters, digits, - and . only, a letter or digit first and last (RFC 1123, DNS "
        "subdomain)"
    )


def is_namespace_name(name: str) -> bool:
    """Whether a namespace can have the name."""
    return _LABEL.fullmatch(name) is not None


def is_manager_name(name: str) -> bool:
    """Whether a field manager's name has the form of one. The API server takes any text, from any client; tools use
    words and paths."""
    return _MANAGER.fullmatch(name) is not None


def is_kind(kind: str) -> bool:
    """Whether a kind can be called so."""
    return _KIND.fullmatch(kind) is not None


def is_api_version(api_version: str) -> bool:
    """Whether it is a version, of an API group or of the core: "apps/v1", "v1"."""
    group, slash, version = api_version.rpartition("/")
    return _VERSION.fullmatch(version) is not None and (not slash or _SUBDOMAIN.fullmatch(group) is not None)
