"""The sets of fields that managers hold, as `metadata.managedFields` has them: trees of the parts of paths.

"f:data" is a field, 'k:{"name":"app"}' an element of a list by its keys, 'v:1' one by its value, and "." the field or
element itself beside what is in it. No value of a field is in them.
https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/#ObjectMeta (FieldsV1)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jiemi.core.objects.identity import group_of
from jiemi.core.objects.managed_fields import FIELD_MANAGER

Tree = dict[str, Any]

MEMBER = "."
"""The field or element itself."""


def our_fields(metadata: Mapping[str, Any]) -> Tree:
    """The fields that we applied; none where we applied none."""
    return next((dict(entry["fieldsV1"]) for entry in _entries(metadata) if is_ours(entry)), {})


def our_version(metadata: Mapping[str, Any]) -> Any:
    """The apiVersion that we applied the object in; None where we did not."""
    return next((entry.get("apiVersion") for entry in _entries(metadata) if is_ours(entry)), None)


def is_same_group(version: Any, ours: Any) -> bool:
    """Whether two apiVersions are of one API group. Its versions mostly name their fields alike; where they do not,
    what is ours has another name in the other's entry, and that entry keeps it."""
    return isinstance(version, str) and isinstance(ours, str) and group_of(version) == group_of(ours)


def is_ours(entry: Mapping[str, Any]) -> bool:
    """Whether an entry is that of what we applied."""
    return (entry.get("manager"), entry.get("operation"), entry.get("subresource") or "") == (
        FIELD_MANAGER,
        "Apply",
        "",
    )


def _entries(metadata: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    found = metadata.get("managedFields")
    for entry in found if isinstance(found, list) else ():
        if isinstance(entry, Mapping) and isinstance(entry.get("fieldsV1"), Mapping):
            yield entry


def others(metadata: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The entries of others that are well-formed, except those of subresources."""
    for entry in _entries(metadata):
        if not is_ours(entry) and not entry.get("subresource") and isinstance(entry.get("manager"), str):
            yield entry


def replaced(metadata: Mapping[str, Any], changed: Mapping[int, Tree]) -> list[Any]:
    """managedFields with other fields in some entries; those that hold nothing are left out."""
    listed = []
    for entry in metadata["managedFields"]:
        if id(entry) not in changed:
            listed.append(entry)
        elif changed[id(entry)]:
            listed.append({**entry, "fieldsV1": changed[id(entry)]})
    return listed


def carried_over(before: Iterable[Any], after: Iterable[Any], now: Iterable[Any]) -> list[Any] | None:
    """managedFields as they are now, changed as was meant when they were read; None where nothing is left to change.

    What others have written since stays.

    Args:
        before: managedFields as they were read.
        after: as they were meant to be then.
        now: as they are.
    """
    was, wanted, listed = _by_owner(before), _by_owner(after), list(now)
    current = _by_owner(listed)
    for owner in was | wanted:
        old, new, found = (side[owner]["fieldsV1"] if owner in side else {} for side in (was, wanted, current))
        fields = new if found == old else union(minus(found, minus(old, new)), minus(new, old))
        if fields == found:
            continue
        if owner not in current:
            listed.append({**wanted[owner], "fieldsV1": fields})
            continue
        place = next(number for number, entry in enumerate(listed) if entry is current[owner])
        listed[place : place + 1] = [{**current[owner], "fieldsV1": fields}] if fields else []
    return listed if _by_owner(listed) != current else None


def _by_owner(listed: Iterable[Any]) -> dict[tuple[str, ...], Mapping[str, Any]]:
    """The well-formed entries by what distinguishes them for the API server."""
    return {
        tuple(str(entry.get(name) or "") for name in ("manager", "operation", "subresource", "apiVersion")): entry
        for entry in _entries({"managedFields": list(listed)})
    }


def is_element(name: str) -> bool:
    """Whether a path's part is an element of a list: k: by its keys, v: by its value."""
    return name.startswith(("k:", "v:"))


def union(one: Tree, other: Mapping[str, Any]) -> Tree:
    """The fields of both."""
    joined = dict(one)
    for name, inner in other.items():
        if name not in joined:
            joined[name] = inner
        elif inner or joined[name]:
            # A field that is held itself has a "." once something below it is held too.
            left, right = joined[name] or {MEMBER: {}}, inner or {MEMBER: {}}
            joined[name] = union(left, right)
    return joined


def minus(one: Mapping[str, Any], other: Mapping[str, Any]) -> Tree:
    """Fields without exactly those of another tree."""
    left: Tree = {}
    for name, inner in one.items():
        if name not in other:
            left[name] = inner
        elif inner and other[name] and (kept := minus(inner, other[name])):
            left[name] = kept
    return left
