"""Who owns which field of an object, as a real API server keeps it in metadata.managedFields.

Each field manager has an entry for what it applied and one for what it changed otherwise (one more for the status). A
field is a path to a value that is no map; a list is one value here, and so is an empty map. Versions of an API group
are not kept apart.
https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, MutableMapping
from typing import Any

import attrs
from fakes.copies import copied

Path = tuple[str, ...]

EXISTS = "."
"""Last part of the path of a map itself: who made the map owns it, unless by an apply."""

_MAPS: frozenset[Path] = frozenset(
    {("data",), ("binaryData",), ("stringData",), ("metadata", "labels"), ("metadata", "annotations")}
)
_SERVER_SET = (
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "name",
    "namespace",
    "resourceVersion",
    "uid",
)
_NOT_MANAGED = frozenset({("apiVersion",), ("kind",), *(("metadata", field) for field in _SERVER_SET)})


@attrs.frozen
class By:
    """Whose entry it is."""

    manager: str
    operation: str
    subresource: str = ""


@attrs.define
class Entry:
    """What one of them owns.

    Attributes:
        time: of the last change that it made; None where it made none (it only shares what was there).
    """

    fields: set[Path]
    time: str | None = None


Entries = dict[By, Entry]


@attrs.frozen
class Conflict:
    """Another manager owns a field with another value."""

    manager: str
    path: Path


def leaves(obj: Mapping[str, Any], *, exists: bool = True) -> dict[Path, Any]:
    """The fields of an object with their values.

    Args:
        exists: whether the maps themselves are among them.
    """
    found: dict[Path, Any] = {}

    def walk(value: Mapping[str, Any], path: Path) -> None:
        for key, inner in value.items():
            place = (*path, key)
            if place in _NOT_MANAGED:
                continue
            if isinstance(inner, Mapping) and inner:
                if exists and place in _MAPS:
                    found[*place, EXISTS] = None
                walk(inner, place)
            else:
                found[place] = inner

    walk(obj, ())
    return found


def read(obj: Mapping[str, Any]) -> Entries:
    """The entries of an object."""
    return {
        By(entry["manager"], entry["operation"], entry.get("subresource", "")): Entry(
            set(_paths(entry["fieldsV1"])), entry.get("time")
        )
        for entry in obj["metadata"].get("managedFields", [])
    }


def write(obj: MutableMapping[str, Any], entries: Entries) -> None:
    """Put the entries into an object. One that owns nothing is left out."""
    listed = []
    for by, entry in sorted(entries.items(), key=lambda each: (each[0].operation != "Apply", each[0].manager)):
        if entry.fields:
            listed.append(
                {"manager": by.manager, "operation": by.operation, "apiVersion": obj["apiVersion"]}
                | ({"time": entry.time} if entry.time is not None else {})
                | {"fieldsType": "FieldsV1", "fieldsV1": _tree(entry.fields)}
                | ({"subresource": by.subresource} if by.subresource else {})
            )
    obj["metadata"].pop("managedFields", None)
    if listed:
        obj["metadata"]["managedFields"] = listed


def updated(old: Mapping[str, Any] | None, new: MutableMapping[str, Any], manager: str, *, now: str) -> None:
    """Write into `new` who owns its fields, after `manager` made it of `old` in any way but by an apply.

    The manager then owns, alone, what differs; what is gone is nobody's. What stayed is as it was. Where nothing was
    owned (managedFields were taken out), nothing is until the next apply.
    """
    entries = read(old) if old is not None else {}
    if old is not None and not entries:
        write(new, entries)
        return
    before, after = leaves(old or {}), leaves(new)
    changed = {path for path, value in after.items() if path not in before or before[path] != value}
    gone = before.keys() - after.keys()
    for entry in entries.values():
        entry.fields -= changed | gone
    for subresource in ("", "status"):
        mine = {path for path in changed if (path[0] == "status") == (subresource == "status")}
        if mine:
            entry = entries.setdefault(By(manager, "Update", subresource), Entry(set()))
            entry.fields |= mine
            entry.time = now
    write(new, entries)


def applied(
    live: Mapping[str, Any] | None, body: Mapping[str, Any], manager: str, *, take_over: bool, now: str
) -> dict[str, Any] | list[Conflict]:
    """The object after a server-side apply, with who owns its fields; or what keeps it from being.

    The manager then owns what it gave, and alone where the value was another. What it gave before and gives no more is
    removed, unless another owns it too.
    """
    entries = read(live) if live is not None else {}
    if live is not None and not entries:
        entries[By("before-first-apply", "Update")] = Entry(set(leaves(live)), now)
    me = By(manager, "Apply")
    before = entries.pop(me, Entry(set()))
    wanted = leaves(body, exists=False)
    there = leaves(live or {})
    conflicts = [
        Conflict(by.manager, path)
        for by, entry in entries.items()
        for path in sorted(entry.fields & wanted.keys())
        if there.get(path) != wanted[path]
    ]
    if conflicts and not take_over:
        return conflicts
    for entry in entries.values():
        entry.fields -= {conflict.path for conflict in conflicts}
    new = copied(dict(live)) if live is not None else {}
    merge(new, body)
    owned_by_others: set[Path] = set().union(*(entry.fields for entry in entries.values()))
    maps_of_others = {path[:-1] for path in owned_by_others if path[-1] == EXISTS}
    for path in before.fields - wanted.keys() - owned_by_others:
        remove(new, path, keep=maps_of_others)
    changed = live is None or leaves(new) != there
    entries[me] = Entry(set(wanted), now if changed else before.time)
    write(new, entries)
    return new


def merge(live: MutableMapping[str, Any], body: Mapping[str, Any]) -> None:
    """Put the fields of `body` into `live`."""
    for key, value in body.items():
        if isinstance(value, Mapping) and isinstance(live.get(key), dict):
            merge(live[key], value)
        else:
            live[key] = copied(value)


def remove(obj: MutableMapping[str, Any], path: Path, *, keep: Collection[Path] = ()) -> None:
    """Take a field out, and the maps around it that are then empty, but those in `keep`."""
    around: list[tuple[MutableMapping[str, Any], str]] = []
    place = obj
    for part in path[:-1]:
        if not isinstance(place.get(part), dict):
            return
        around.append((place, part))
        place = place[part]
    place.pop(path[-1], None)
    for depth in range(len(around), 0, -1):
        holder, part = around[depth - 1]
        if holder[part] or path[:depth] in keep:
            return
        del holder[part]


def _paths(tree: Mapping[str, Any]) -> Iterable[Path]:
    for key, inner in tree.items():
        part = key if key == EXISTS else key.removeprefix("f:")
        if inner:
            yield from ((part, *rest) for rest in _paths(inner))
        else:
            yield (part,)


def _tree(paths: Iterable[Path]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path in sorted(paths):
        place = tree
        for part in path:
            place = place.setdefault(part if part == EXISTS else f"f:{part}", {})
    return tree
