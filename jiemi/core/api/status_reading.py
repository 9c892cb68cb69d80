"""Read the status of a Decryptor: as late as it is wanted, and as much of it as can be read.

A status with thousands of objects takes some 10 ms to read, and each write of ours comes back as an event, so `Status`
keeps the JSON until someone asks. Whether the Decryptor is ready, which others may wait for, is read without the rest.

What can't be read (another release wrote it, or a person) does not take the rest with it: only the inventory says which
objects are to be deleted once they are no longer in git. A part that is lost makes what is deployed uncertain
(`deployed_generation`), so all is deployed again and the status is whole after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args, get_origin

import attrs

from jiemi.core.api.decryptor_status import (
    MAX_INVENTORY,
    MAX_OBJECTS,
    Condition,
    DecryptorStatus,
    InventoryEntry,
    StatusRecord,
)
from jiemi.core.api.fields import FieldError, api_attributes, json_name, structure, unstructure
from jiemi.core.api.status_bounds import fitted, fitted_part

T = TypeVar("T")


class Status:
    """The status of a Decryptor as JSON, read when it is first asked for. It compares as what is read compares.

    Args:
        raw: as the API server sent it; it must not change.
        file: what describes the Decryptor's files, for a status that does not name them.
    """

    __slots__ = ("_file", "_raw", "_read", "_ready", "_value")

    def __init__(self, raw: Any, file: str) -> None:
        self._raw = raw
        self._file = file
        self._read = False
        self._value: DecryptorStatus | None = None
        self._ready: tuple[Condition | None] | None = None

    @property
    def value(self) -> DecryptorStatus | None:
        """All of it; None where there is none, or nothing of it can be read."""
        if not self._read:
            self._value = read_status(self._raw, self._file)
            self._read = True
        return self._value

    @property
    def ready(self) -> Condition | None:
        """The condition Ready, as in `value`."""
        if self._ready is None:
            found = _part(self._raw, "conditions")
            conditions = _readable(found, Condition) if isinstance(found, list) else ()
            ready = next((each for each in conditions if each.type == "Ready"), None)
            self._ready = (fitted_part("conditions", ready) if ready is not None else None,)
        return self._ready[0]

    @property
    def observed_generation(self) -> int | None:
        """As in `value`."""
        found = _part(self._raw, "observedGeneration")
        return fitted_part("observed_generation", found) if type(found) is int else None

    def of_readiness(self) -> Status:
        """What `ready` and `observed_generation` say, without the rest, which may be a megabyte."""
        ready = [unstructure(self.ready)] if self.ready is not None else []
        return Status({"conditions": ready, "observedGeneration": self.observed_generation}, self._file)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Status):
            return NotImplemented
        # The same JSON is the common case, and takes far less than reading it.
        return (self._raw, self._file) == (other._raw, other._file) or self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)

    def __repr__(self) -> str:
        return repr(self.value)


def read_status(value: Any, file: str) -> DecryptorStatus | None:
    """The status, or as much of it as can be read, within the bounds of its schema; None where that is nothing.

    Args:
        value: JSON.
        file: what describes the Decryptor's files, for a status that does not name them.
    """
    if not isinstance(value, Mapping) or not value:
        return None
    plain = {name: part for name, part in value.items() if part is not None}
    try:
        found: DecryptorStatus | None = structure(plain, DecryptorStatus, "status")
    except FieldError:
        found = _salvaged(plain, file)
    return fitted(_with_room(found)) if found is not None else None


def _with_room(status: DecryptorStatus) -> DecryptorStatus:
    """The status with an inventory that leaves room for what is deployed next, where it is one that Jiemi never writes.
    What is known to have been applied stays first."""
    if len(status.inventory) <= MAX_INVENTORY:
        return status
    by_certainty = sorted(status.inventory, key=lambda entry: entry.fields is None)
    kept = set(map(id, by_certainty[: MAX_INVENTORY - MAX_OBJECTS]))
    inventory = tuple(entry for entry in status.inventory if id(entry) in kept)
    return attrs.evolve(status, inventory=inventory, deployed_generation=None)


def _salvaged(value: Mapping[str, Any], file: str) -> DecryptorStatus | None:
    """What can be read of a status that can't be read whole."""
    found: dict[str, Any] = {}
    for attribute, hint in api_attributes(DecryptorStatus):
        part = value.get(json_name(attribute))
        if get_origin(hint) is tuple:
            item = get_args(hint)[0]
            if isinstance(part, list) and (read := tuple(_readable(part, item))):
                found[attribute.name] = read
        elif part is not None and (one := _read_or_none(part, hint)) is not None:
            found[attribute.name] = one
    if not found:
        return None
    if "current" not in found:
        # The deployments go on to be counted from the last one that is known.
        *history, last = found.get("history") or (StatusRecord(0, "", file, None, "NotSync"),)
        found |= {"current": attrs.evolve(last, status="NotSync"), "history": tuple(history)}
    return DecryptorStatus(**found | {"deployed_generation": None})


def _readable(items: list[Any], cls: type[T]) -> Iterator[T]:
    """Those of a list that can be read."""
    for item in items:
        read = _read_or_none(item, cls)
        if read is None and cls is InventoryEntry and isinstance(item, Mapping):
            read = _identified(item)  # type: ignore[assignment] # they are of the class
        if read is not None:
            yield read


def _identified(item: Mapping[str, Any]) -> InventoryEntry | None:
    """The entry of an object that can be identified, though more of its entry can't be read.

    What was applied stays so (`fields` is there). Where it is not known which keys of it are another's, it counts as
    not applied by us: then the next apply keeps what it finds.
    """
    identity = ("apiVersion", "kind", "name", "namespace")
    entry = _read_or_none({name: item[name] for name in identity if name in item}, InventoryEntry)
    if entry is None:
        return None
    file = item.get("file")
    if isinstance(file, str):
        entry = attrs.evolve(entry, file=file)
    rest = {name: item[name] for name in ("apiVersion", "kind", "name", "keptKeys") if name in item}
    keys = _read_or_none(rest, InventoryEntry)
    if keys is None or item.get("fields") is None:
        return entry
    return attrs.evolve(entry, fields=item["fields"] if type(item["fields"]) is int else 0, kept_keys=keys.kept_keys)


def _read_or_none(value: Any, cls: type[T]) -> T | None:
    try:
        return structure(value, cls, "status")
    except FieldError:
        return None


def _part(raw: Any, name: str) -> Any:
    return raw.get(name) if isinstance(raw, Mapping) else None
