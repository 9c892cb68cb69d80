"""What an apply would change in an object, as the names of its fields.

The object in the cluster is compared with the one that the API server's dry run gives, so both have the defaults. Only
names get into the result, never values: logs and a status are read by more people than may read the object.

- A Secret's and a ConfigMap's keys are named "data.KEY", labels and annotations as "metadata.labels.KEY". What is
  below such a key is its value, whatever it is.
- All else is named by its path, "spec.template.spec.containers[0].image", down to a number of levels; of what differs
  further below, the path at the last level is named. A part that is only on one side is named by its own path alone.

What the API server sets is ignored, and so is kubectl's note of what it applied: that is a copy of the whole object,
values and all. Metadata, labels, annotations and data that are empty or null are the same as none, and a value in them
that is null is the empty text, as they are for the API server.

Names of fields may be any text. They are made printable and are cut, and their number is bounded.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Literal

import attrs

from jiemi.core.objects.identity import SERVER_SET

MAX_NAMES = 50
"""How many names a difference holds; the rest is counted."""

MAX_LEVELS = 6
"""How deep a path goes, indices included: enough for the image of a Deployment's container."""

NAME_LIMIT_CHARACTERS = 200
"""Of one name."""

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""https://kubernetes.io/docs/reference/labels-annotations-taints/#kubectl-kubernetes-io-last-applied-configuration"""

_HOLDS_VALUES = frozenset({"Secret", "ConfigMap"})
"""Kinds with data. In any group: another's Secret is hardly meant to be read more widely."""

_DATA = ("data", "binaryData", "stringData")

_Side = Literal["added", "changed", "removed"]


@attrs.frozen
class Difference:
    """What an apply would do to an object.

    Attributes:
        action: Create where there is no such object.
        added: names of fields or keys that the object gets.
        changed: the names of those that get another value.
        removed: the names of those that it loses.
        more: the number of names that are left out, of all three.
    """

    action: Literal["Create", "Change", "Unchanged"]
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    more: int = 0


def difference(live: Mapping[str, Any] | None, planned: Mapping[str, Any]) -> Difference:
    """What would become of an object.

    Args:
        live: the object as it is in the cluster, or None where it is not there.
        planned: the object as it would be. Best from a dry run; of a Secret that is not, stringData is read as the API
            server would.

    Returns:
        Always an answer: nothing is raised, whatever JSON the two are.
    """
    before = _Parts.of(live if live is not None else _identity(planned), planned)
    names = before.differences(_Parts.of(planned, live))
    named = list(islice(names, MAX_NAMES))
    more = sum(1 for _ in names)
    action: Literal["Create", "Change", "Unchanged"] = "Change" if named else "Unchanged"
    return Difference(
        action if live is not None else "Create",
        added=tuple(name for side, name in named if side == "added"),
        changed=tuple(name for side, name in named if side == "changed"),
        removed=tuple(name for side, name in named if side == "removed"),
        more=more,
    )


def _identity(planned: Any) -> dict[str, Any]:
    """What a new object has before it has anything: what names it is no news."""
    metadata = _mapping(_mapping(planned).get("metadata"))
    return {
        **_only(_mapping(planned), "apiVersion", "kind"),
        "metadata": _only(metadata, "name", "namespace"),
    }


@attrs.frozen
class _Parts:
    """An object in parts that are named in different ways, without what is ignored."""

    fields: Mapping[str, Any]
    labels: Mapping[str, Any]
    annotations: Mapping[str, Any]
    data: Mapping[str, Any]

    @classmethod
    def of(cls, obj: Any, other: Any) -> _Parts:
        """Take an object apart.

        Args:
            obj: the object.
            other: what it is compared with. If one of the two holds values, both are treated as if they do.
        """
        fields = {name: part for name, part in _mapping(obj).items() if name != "status"}
        metadata = {name: part for name, part in _taken(fields, "metadata").items() if name not in SERVER_SET}
        labels, annotations = _taken(metadata, "labels"), _taken(metadata, "annotations")
        annotations.pop(_LAST_APPLIED, None)
        if metadata:
            fields["metadata"] = metadata
        holds_values = any(_kind_of(each) in _HOLDS_VALUES for each in (obj, other))
        return cls(fields, _texts(labels), _texts(annotations), _data(fields) if holds_values else {})

    def differences(self, after: _Parts) -> Iterator[tuple[_Side, str]]:
        yield from _differences(self.data, after.data, "data", levels=1)
        yield from _differences(self.labels, after.labels, "metadata.labels", levels=1)
        yield from _differences(self.annotations, after.annotations, "metadata.annotations", levels=1)
        yield from _differences(self.fields, after.fields, "", levels=MAX_LEVELS)


def _data(fields: dict[str, Any]) -> dict[str, Any]:
    """The keys that a Secret or ConfigMap holds, taken out of its fields, and under each what it has in which field."""
    parts = {field: _taken(fields, field) for field in _DATA}
    # https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/secret-v1/: stringData is never
    # given back; it is merged into data.
    if _kind_of(fields) == "Secret":
        parts["data"].update({key: _as_data(value) for key, value in _texts(parts.pop("stringData")).items()})
    keys: dict[str, Any] = {}
    for field, part in parts.items():
        for key, value in _texts(part).items():
            keys.setdefault(key, {})[field] = value
    return keys


def _texts(part: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: "" if value is None else value for key, value in part.items()}


def _as_data(value: Any) -> Any:
    return base64.b64encode(value.encode(errors="surrogatepass")).decode() if isinstance(value, str) else value


def _differences(before: Any, after: Any, path: str, *, levels: int) -> Iterator[tuple[_Side, str]]:
    """The names of what differs, in order.

    Args:
        path: the path of the two values.
        levels: the number of names that may be put behind the path.
    """
    if levels and isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}, key=str):
            name = _behind(path, key)
            if key not in before:
                yield "added", name
            elif key not in after:
                yield "removed", name
            else:
                yield from _differences(before[key], after[key], name, levels=levels - 1)
    elif levels and isinstance(before, list) and isinstance(after, list):
        for index in range(max(len(before), len(after))):
            name = _cut(f"{path}[{index}]")
            if index >= len(before):
                yield "added", name
            elif index >= len(after):
                yield "removed", name
            else:
                yield from _differences(before[index], after[index], name, levels=levels - 1)
    elif not _is_same(before, after):
        yield "changed", path


def _is_same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal. A loop, because `==` raises where values are nested deeper than the stack."""
    pairs = [(one, other)]
    while pairs:
        left, right = pairs.pop()
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            if left.keys() != right.keys():
                return False
            pairs += [(left[key], right[key]) for key in left]
        elif isinstance(left, list) and isinstance(right, list):
            if len(left) != len(right):
                return False
            pairs += zip(left, right, strict=True)
        elif not _is_same_scalar(left, right):
            return False
    return True


def _is_same_scalar(left: Any, right: Any) -> bool:
    """The same for two values of which at most one has parts."""
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left) and math.isnan(right):
        return True  # no JSON, but Python's parser reads it
    # true is no 1, though Python says so.
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def _behind(path: str, key: Any) -> str:
    # Cut first: a key may be as long as the object.
    text = "".join(char if char.isprintable() else "?" for char in str(key)[: NAME_LIMIT_CHARACTERS + 1]) or '""'
    return _cut(f"{path}.{text}" if path else text)


def _cut(name: str) -> str:
    return name if len(name) <= NAME_LIMIT_CHARACTERS else name[: NAME_LIMIT_CHARACTERS - 1] + "…"


def _taken(fields: dict[str, Any], name: str) -> dict[str, Any]:
    """A mapping, taken out of the fields; one that is null or empty is taken out too. What is no mapping stays."""
    part = fields.get(name)
    if part is not None and not isinstance(part, Mapping):
        return {}
    fields.pop(name, None)
    return dict(part or {})


def _only(fields: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: fields[name] for name in names if name in fields}


def _kind_of(obj: Any) -> str:
    kind = _mapping(obj).get("kind")
    return kind if isinstance(kind, str) else ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
