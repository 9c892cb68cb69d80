"""Decrypted documents, as ordered Kubernetes manifests."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveBytes

_FIRST = ("Namespace", "CustomResourceDefinition", "ServiceAccount", "ClusterRole", "Role")
"""Kinds that others in the same file may need, in the order in which they are applied; the rest keeps the file's
order."""

_SERVER_SET = (
    "creationTimestamp",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
)
"""Metadata that only the API server sets. `kubectl get -o yaml` prints it, people encrypt and commit that, and a
server-side apply with it is refused."""


@attrs.frozen
class Manifest:
    """One object to apply.

    Attributes:
        body: the whole object; sensitive, so it is not in the repr.
        document: number of its document in the file, from 1, for messages.
    """

    body: Mapping[str, Any] = attrs.field(repr=False)
    document: int

    @property
    def label(self) -> str:
        """Kind and name, for messages: "Secret default/demo"."""
        metadata = self.body["metadata"]
        namespace = metadata.get("namespace")
        name = f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])
        return f"{self.body['kind']} {name}"


def read_manifests(documents: Iterable[SensitiveBytes], *, path: str) -> tuple[Manifest, ...]:
    """The objects of a file, in the order in which they are to be applied.

    A `List` (as `kubectl get -o yaml` prints several objects) stands for its items.

    Args:
        documents: JSON texts, as Krapao renders them.
        path: of the file, for messages.

    Raises:
        JiemiError: NotAKubernetesObject, naming the document.
    """
    manifests: list[Manifest] = []
    for number, document in enumerate(documents, start=1):
        where = f"document {number} of {path}"
        manifests += [Manifest(body, number) for body in _objects(json.loads(document.reveal()), where)]
    if not manifests:
        raise JiemiError("NotAKubernetesObject", f"{path} holds no document at all")
    return tuple(sorted(manifests, key=lambda manifest: _rank(manifest.body["kind"])))


def _rank(kind: str) -> int:
    return _FIRST.index(kind) if kind in _FIRST else len(_FIRST)


def _objects(value: Any, where: str) -> Iterator[Mapping[str, Any]]:
    if not isinstance(value, dict):
        raise JiemiError("NotAKubernetesObject", f"{where} is no mapping")
    for field in ("apiVersion", "kind"):
        if not isinstance(value.get(field), str) or not value[field]:
            raise JiemiError("NotAKubernetesObject", f"{where} has no {field}")
    if value["kind"].endswith("List") and isinstance(value.get("items"), list):
        for index, item in enumerate(value["items"]):
            yield from _objects(item, f"{where}, items[{index}]")
        return
    metadata = value.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        raise JiemiError("NotAKubernetesObject", f"{where} has no metadata.name")
    if not isinstance(metadata.get("namespace", ""), str):
        raise JiemiError("NotAKubernetesObject", f"metadata.namespace of {where} is no text")
    plain = {name: part for name, part in metadata.items() if name not in _SERVER_SET}
    yield {name: part for name, part in value.items() if name != "status"} | {"metadata": plain}
