"""Decrypted documents, as ordered Kubernetes manifests."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import attrs

from jiemi.core.errors import Failure, JiemiError
from jiemi.core.objects.identity import SERVER_SET, group_of
from jiemi.core.objects.object_form import require_kind, require_names
from jiemi.core.sensitive import SensitiveBytes

STAGES: tuple[frozenset[str], ...] = (
    frozenset({"Namespace", "CustomResourceDefinition"}),
    frozenset({"ServiceAccount", "ClusterRole", "Role"}),
    frozenset({"ClusterRoleBinding", "RoleBinding"}),
    frozenset({"Secret", "ConfigMap"}),
)
"""Kinds that others may need, in the order in which they are applied. What is in none of them comes last."""

_SMALL_BYTES = 2 * 1024 * 1024
"""A document up to this size, larger than any object, is always read; a `List` may be longer."""

_MAX_PARTS = 1_500_000
"""The most commas, colons and brackets of a longer one. Each may stand for a mapping of some 70 bytes."""
_DATA_KINDS = frozenset({"Secret", "ConfigMap"})


@attrs.frozen
class Manifest:
    """One object to apply.

    Attributes:
        body: the whole object; sensitive, so it is not in the repr.
        document: number of its document in the file, from 1, for messages.
        file: path of the file.
        files: paths of all files that it is made of, where there are several.
    """

    body: Mapping[str, Any] = attrs.field(repr=False)
    document: int
    file: str = ""
    files: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """Paths of all files that it is made of."""
        return self.files or (self.file,)

    @property
    def api_version(self) -> str:
        return str(self.body["apiVersion"])

    @property
    def kind(self) -> str:
        return str(self.body["kind"])

    @property
    def group_kind(self) -> tuple[str, str]:
        """Its API group ("" is the core group) and kind."""
        return group_of(self.api_version), self.kind

    @property
    def stage(self) -> int:
        """When it is applied: an index of `STAGES`, or one more."""
        return next((index for index, kinds in enumerate(STAGES) if self.kind in kinds), len(STAGES))

    @property
    def label(self) -> str:
        """Kind and name, for messages: "Secret default/demo"."""
        metadata = self.body["metadata"]
        namespace = metadata.get("namespace")
        name = f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])
        return f"{self.body['kind']} {name}"


def read_manifests(
    documents: Iterable[SensitiveBytes], *, path: str, decrypted: bool = False, plain: Collection[int] = ()
) -> tuple[tuple[Manifest, ...], tuple[Failure, ...]]:
    """The objects of a file, in the order of the file, and what is wrong with the documents that hold none.

    A `List` (as `kubectl get -o yaml` prints several objects) stands for its items. So does a list of one kind, as the
    API server answers it; its items need not name their apiVersion and kind.

    Args:
        documents: JSON texts, as Krapao renders them.
        path: the file's path, for messages.
        decrypted: whether sops gave them. It writes `{}` for a document that is empty, holds comments only or is null,
            such as what a last `---` begins (stores/yaml of sops); these hold nothing.
        plain: indexes of those that it did not give, where it gave others.

    Returns:
        The objects, and a NotAKubernetesObject for each other document that names it.
    """
    manifests: list[Manifest] = []
    failures: list[Failure] = []
    for number, document in enumerate(documents, start=1):
        where = f"document {number} of {path}"
        try:
            _require_readable(document.reveal(), where)
            value = json.loads(document.reveal())
            by_sops = decrypted and number - 1 not in plain
            if not (by_sops and value == {}):
                manifests += [Manifest(body, number, path) for body in _objects(value, where)]
        except JiemiError as error:
            failures.append(error.failure)
    return tuple(manifests), tuple(failures)


def _require_readable(document: bytes, where: str) -> None:
    """Refuse a document that would take too much memory to be read at all, by what is quick to count.

    Raises:
        JiemiError: LimitExceeded.
    """
    if len(document) <= _SMALL_BYTES:
        return
    parts = sum(document.count(mark) for mark in (b",", b":", b"{", b"["))
    if parts > _MAX_PARTS:
        raise JiemiError("LimitExceeded", f"{where} has more values than can be read at once", "Split the document.")


def look_like_objects(documents: Iterable[SensitiveBytes]) -> bool:
    """Whether the documents of a file mean to be Kubernetes objects: each names an apiVersion and a kind."""
    found = [json.loads(document.reveal()) for document in documents]
    return bool(found) and all(isinstance(each, dict) and "apiVersion" in each and "kind" in each for each in found)


def with_encoded_data(manifest: Manifest) -> Manifest:
    """A Secret with its `stringData` as `data`, and any other manifest as it is.

    The API server keeps what is applied as stringData under that name among the owned fields, and not under data
    (tried with 1.37). So nobody's change of such a value would ever show there. A value that is null is the empty text
    (there too), stringData that is null is none, and of a key that is in both, stringData's value counts. What stays as
    it is, the API server refuses.
    """
    body = manifest.body
    if not _is_secret(manifest) or "stringData" not in body:
        return manifest
    texts, data = body["stringData"], body.get("data")
    if not isinstance(texts, Mapping | None) or not isinstance(data, Mapping | None):
        return manifest  # the API server says what is wrong with it
    if not all(isinstance(text, str | None) for text in (texts or {}).values()):
        return manifest
    try:
        encoded = {key: base64.b64encode((text or "").encode()).decode() for key, text in (texts or {}).items()}
    except UnicodeEncodeError:
        return manifest
    rest = {name: value for name, value in body.items() if name != "stringData"}
    if texts is None:
        return attrs.evolve(manifest, body=rest)
    return attrs.evolve(manifest, body={**rest, "data": {**(data or {}), **encoded}})


def without_nulls(manifest: Manifest) -> Manifest:
    """The manifest with the empty text for each null in its labels and annotations, and in the data of a Secret or
    ConfigMap; with no such map where the map itself is null.

    That is what the API server makes of them, but it takes each apply of a null for a change (tried with 1.37).
    """
    body = dict(manifest.body)
    names = (
        ("data", "binaryData", "stringData") if manifest.api_version == "v1" and manifest.kind in _DATA_KINDS else ()
    )
    metadata = _with_texts(body["metadata"], ("labels", "annotations"))
    return attrs.evolve(manifest, body=_with_texts(body, names) | {"metadata": metadata})


def _with_texts(part: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    changed = dict(part)
    for name in names:
        found = part.get(name)
        if isinstance(found, Mapping):
            changed[name] = {key: "" if value is None else value for key, value in found.items()}
        elif found is None:
            changed.pop(name, None)
    return changed


def described_keys(manifest: Manifest) -> frozenset[str]:
    """The keys that a Secret gives, in whatever form; none for other kinds."""
    if not _is_secret(manifest):
        return frozenset()
    parts = (manifest.body.get("data"), manifest.body.get("stringData"))
    return frozenset(str(key) for part in parts if isinstance(part, Mapping) for key in part)


def adjusted(
    manifest: Manifest, *, namespace: str | None, labels: Mapping[str, str], annotations: Mapping[str, str]
) -> Manifest:
    """The manifest with another namespace (None leaves its own) and with these labels and annotations.

    Raises:
        JiemiError: NotAKubernetesObject: its own labels or annotations are no mapping.
    """
    metadata = dict(manifest.body["metadata"])
    if namespace is not None:
        metadata["namespace"] = namespace
    for field, more in (("labels", labels), ("annotations", annotations)):
        own = metadata.get(field)
        if own is None:
            own = {}
        if not isinstance(own, Mapping):
            raise JiemiError(
                "NotAKubernetesObject",
                f"{manifest.label}: metadata.{field} is no mapping",
                f"Write metadata.{field} as NAME: VALUE, one a line.",
            )
        if own or more:
            metadata[field] = {**own, **more}
    return attrs.evolve(manifest, body={**manifest.body, "metadata": metadata})


@attrs.frozen
class MadeKind:
    """A kind that a CustomResourceDefinition makes."""

    group: str
    kind: str
    namespaced: bool
    versions: tuple[str, ...]


def made_kind(manifest: Manifest) -> MadeKind | None:
    """The kind that a CustomResourceDefinition makes, with the versions that are served; None for another manifest."""
    spec = manifest.body.get("spec")
    names = spec.get("names") if isinstance(spec, Mapping) else None
    if manifest.kind != "CustomResourceDefinition" or not isinstance(spec, Mapping) or not isinstance(names, Mapping):
        return None
    versions = spec.get("versions")
    served = tuple(
        str(version.get("name"))
        for version in (versions if isinstance(versions, list) else ())
        if isinstance(version, Mapping) and version.get("served") is True
    )
    return MadeKind(str(spec.get("group")), str(names.get("kind")), spec.get("scope") != "Cluster", served)


def _is_secret(manifest: Manifest) -> bool:
    return (manifest.api_version, manifest.kind) == ("v1", "Secret")


def _items(value: Mapping[str, Any]) -> list[Any] | None:
    """The items of a list; None for an object. A `List` may be empty in each way in which people write that."""
    items = value.get("items")
    if value["kind"].endswith("List") and isinstance(items, list):
        return items
    is_empty = items is None and (value["apiVersion"], value["kind"]) == ("v1", "List")
    return [] if is_empty else None


def _objects(value: Any, where: str) -> Iterator[Mapping[str, Any]]:
    require_kind(value, where)
    items = _items(value)
    if items is not None:
        kind = value["kind"].removesuffix("List")
        of_one_kind = {"apiVersion": value["apiVersion"], "kind": kind} if kind else {}
        for index, item in enumerate(items):
            named = {**of_one_kind, **item} if isinstance(item, dict) else item
            yield from _objects(named, f"{where}, items[{index}]")
        return
    require_names(value, where)
    # A null there is none, as for the API server: `namespace:` with nothing behind it.
    plain = {name: part for name, part in value["metadata"].items() if name not in SERVER_SET and part is not None}
    yield {name: part for name, part in value.items() if name != "status"} | {"metadata": plain}
