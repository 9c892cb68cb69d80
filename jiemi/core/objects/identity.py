"""Which object: names of objects of any kind, and whose they are.

Objects that Jiemi applies carry two labels, which name their Decryptor. By them one watch of a kind sees the objects of
all Decryptors and no others, and whoever meets such an object knows where it comes from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import attrs

NAME_LABEL = "jiemi.cr/decryptor-name"
"""Name of the object's Decryptor, as a label's value."""

NAMESPACE_LABEL = "jiemi.cr/decryptor-namespace"
"""Namespace of the object's Decryptor."""

_LABEL_CHARACTERS = 63
"""https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set"""

_HASH_CHARACTERS = 12

SERVER_SET = frozenset(
    {
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "generation",
        "managedFields",
        "resourceVersion",
        "selfLink",
        "uid",
    }
)
"""Metadata that only the API server sets. `kubectl get -o yaml` prints it, people encrypt and commit that, and a
server-side apply with it is refused."""


@attrs.frozen
class ObjectKey:
    """An object, whatever version of its API group it is read by.

    Attributes:
        group: "" is the core group.
        kind: "Secret".
        namespace: "" for kinds that have none.
        name: the object's.
    """

    group: str
    kind: str
    namespace: str
    name: str

    @property
    def label(self) -> str:
        """Kind and name, for messages: "Secret default/demo", "Namespace demo"."""
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@attrs.frozen
class ObjectRef:
    """An object by one version of its API group.

    Attributes:
        api_version: "v1", "apps/v1".
        kind: "Secret".
        namespace: "" for kinds that have none.
        name: the object's.
    """

    api_version: str
    kind: str
    namespace: str
    name: str

    @property
    def key(self) -> ObjectKey:
        return ObjectKey(group_of(self.api_version), self.kind, self.namespace, self.name)

    @property
    def label(self) -> str:
        """As `ObjectKey.label`."""
        return self.key.label


def group_of(api_version: str) -> str:
    """The API group of an apiVersion; "" is the core group."""
    return api_version.rpartition("/")[0]


@attrs.frozen
class Owner:
    """A Decryptor, as the labels of its objects name it.

    Attributes:
        namespace: the Decryptor's.
        name: the label's value: the Decryptor's name, or where it is too long, its beginning and a hash of it.
    """

    namespace: str
    name: str

    @classmethod
    def of(cls, namespace: str, name: str) -> Owner:
        """The owner that a Decryptor is."""
        if len(name) > _LABEL_CHARACTERS:
            digest = hashlib.sha256(name.encode()).hexdigest()[:_HASH_CHARACTERS]
            name = f"{name[: _LABEL_CHARACTERS - _HASH_CHARACTERS - 1].rstrip('-.')}-{digest}"
        return cls(namespace, name)

    @classmethod
    def in_labels(cls, labels: Any) -> Owner | None:
        """The owner that an object's labels name, or None."""
        if not isinstance(labels, Mapping):
            return None
        namespace, name = labels.get(NAMESPACE_LABEL), labels.get(NAME_LABEL)
        return cls(namespace, name) if isinstance(namespace, str) and isinstance(name, str) else None

    @property
    def labels(self) -> dict[str, str]:
        """The labels of this owner's objects."""
        return {NAME_LABEL: self.name, NAMESPACE_LABEL: self.namespace}

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"
