"""Which manager holds the fields of an object, by its metadata.

`metadata.managedFields` has an entry for each field manager and way of writing, with the paths of the fields that it
set last: https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management. No value is in it. What we
applied is one entry; it loses a field as soon as another writes another value there or takes the field out.

One way of writing is not kept like that: what is applied (server-side) into a Secret's `stringData` is in `data`, while
managedFields still has `data` as it was, and `stringData` as well. So a key that another applied there, later
than we did, counts as overwritten.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import attrs

FIELD_MANAGER = "jiemi"
"""The field manager that Jiemi applies as."""

_NAME_LIMIT_CHARACTERS = 128
"""Of a field manager's name: the API server's own limit."""

_MAX_OTHERS = 10
"""Managers of an object that are remembered, those that wrote last; of those that apply it may have thousands. As many
as the API server itself keeps apart of those that do not apply."""

_CONTROLLERS_OF_THE_CLUSTER = frozenset({"kube-controller-manager"})
"""Managers that fill in Secrets by design: the token, certificate and namespace of a ServiceAccount's."""


_NONE: Mapping[str, str] = MappingProxyType({})


@attrs.frozen
class FieldOwnership:
    """Whose an object's fields are.

    Attributes:
        fields: how many fields are ours.
        foreign_keys: keys of `data` that are not ours, each with the manager that wrote it.
        last_other: the manager other than us that wrote last (status apart), or None.
        overwritten: keys of ours that another applied through stringData since, each with that manager.
        others: the managers other than us that wrote last, each with a text that is another after each write that
            changed something.
        texts: how many of our fields are in stringData.
    """

    fields: int
    foreign_keys: Mapping[str, str]
    last_other: str | None
    overwritten: Mapping[str, str] = attrs.field(default=_NONE, eq=False)
    others: Mapping[str, str] = attrs.field(default=_NONE, eq=False)
    texts: int = attrs.field(default=0, eq=False)

    def last_writer(self, before: Mapping[str, str] | None) -> str | None:
        """The manager other than us that wrote last.

        Args:
            before: `others` of a state that was right, or None where none is known. With it, None is the answer where
                none of them has written since: whatever only takes fields out has none.
        """
        if before is None:
            return self.last_other
        news = [(mark, manager) for manager, mark in self.others.items() if before.get(manager) != mark]
        return max(news)[1] if news else None


def field_ownership(metadata: Mapping[str, Any]) -> FieldOwnership:
    """Read managedFields; entries that are not well-formed count for nothing."""
    ours = texts = 0
    our_keys: set[str] = set()
    our_time = ""
    foreign: dict[str, str] = {}
    applied: dict[str, tuple[str, str]] = {}
    others: dict[str, str] = {}
    last: tuple[str, str] | None = None
    for entry in _mappings(metadata.get("managedFields")):
        fields, manager = entry.get("fieldsV1"), _manager(entry)
        if not isinstance(fields, Mapping):
            continue
        if manager == FIELD_MANAGER and entry.get("operation") == "Apply" and not entry.get("subresource"):
            ours += _leaves(fields)
            our_keys |= set(_data_keys(fields))
            our_time = _time(entry)
            texts += sum(1 for _ in _data_keys(fields, "f:stringData"))
            continue
        if entry.get("subresource") == "status":
            continue
        time = _time(entry)
        last = max(last or ("", ""), (time, manager))
        others[manager] = max(others.get(manager, ""), f"{time} {_leaves(fields)}")
        for key in _data_keys(fields, "f:stringData"):
            applied[key] = max(applied.get(key, ("", "")), (time, manager))
        if manager not in _CONTROLLERS_OF_THE_CLUSTER:
            foreign |= dict.fromkeys(_data_keys(fields), manager)
    strange = {key: manager for key, manager in sorted(foreign.items()) if key not in our_keys}
    overwritten = {key: by for key, (time, by) in sorted(applied.items()) if key in our_keys and time > our_time}
    last_other = last[1] if last is not None else None
    if len(others) > _MAX_OTHERS:
        newest = sorted(others, key=lambda manager: (others[manager], manager))[-_MAX_OTHERS:]
        others = {manager: others[manager] for manager in newest}
    return FieldOwnership(ours, strange, last_other, overwritten or _NONE, others or _NONE, texts)


def _time(entry: Mapping[str, Any]) -> str:
    """When an entry was written last, to the second; "" where it does not say."""
    time = entry.get("time")
    return time if isinstance(time, str) else ""


def _manager(entry: Mapping[str, Any]) -> str:
    name = entry.get("manager")
    text = "".join(char for char in name if char.isprintable()) if isinstance(name, str) else ""
    return text[:_NAME_LIMIT_CHARACTERS] or "unknown"


def _leaves(fields: Mapping[str, Any]) -> int:
    count = 0
    open_ones = [fields]
    while open_ones:
        for value in open_ones.pop().values():
            if isinstance(value, Mapping) and value:
                open_ones.append(value)
            else:
                count += 1
    return count


def _data_keys(fields: Mapping[str, Any], part: str = "f:data") -> Iterator[str]:
    data = fields.get(part)
    for name in data if isinstance(data, Mapping) else ():
        if isinstance(name, str) and name.startswith("f:"):
            yield name.removeprefix("f:")


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    for each in value if isinstance(value, list) else ():
        if isinstance(each, Mapping):
            yield each
