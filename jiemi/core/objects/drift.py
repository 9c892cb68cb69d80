"""Whether an object is still as it was applied, by its metadata alone.

Three things are drift: a field of ours that another changed or took out, a key that another added to a Secret, and an
object that is gone. Fields of others are no drift: they stay theirs. A Secret's keys are an exception, since what is in
one is what a workload is given; those that were there when Jiemi took the object over stay nevertheless.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import attrs

from jiemi.core.api.decryptor_status import InventoryEntry
from jiemi.core.names import is_manager_name
from jiemi.core.objects.managed_fields import FieldOwnership, field_ownership
from jiemi.core.objects.take_over import sharers

_MAX_NAMES = 10
"""Of the keys that were added to a Secret; there may be 100,000."""

_LARGE = 50
"""Of how many keys of others an observation is large."""


class DriftKind(enum.Enum):
    CHANGED = "changed"
    ADDED = "got keys"
    DELETED = "deleted"


@attrs.frozen
class Observation:
    """An object as a watch showed it.

    Attributes:
        resource_version: the resourceVersion of that state.
        owned: the managers of its fields; None where the object was deleted.
        deleting: whether its deletion was asked for.
        sharers: the managers that held a field together with us.
        before: the other managers (`FieldOwnership.others`) when it was seen last as it should be; None where it never
        was.
    """

    resource_version: str
    owned: FieldOwnership | None
    deleting: bool = False
    before: Mapping[str, str] | None = attrs.field(default=None, eq=False)
    sharers: frozenset[str] = attrs.field(default=frozenset(), eq=False)

    @classmethod
    def of(cls, metadata: Mapping[str, Any], *, deleted: bool = False) -> Observation:
        """What metadata shows."""
        version = metadata.get("resourceVersion")
        return cls(
            version if isinstance(version, str) else "",
            None if deleted else field_ownership(metadata),
            metadata.get("deletionTimestamp") is not None,
            sharers=frozenset() if deleted else sharers(metadata),
        )

    def to_keep(self) -> Observation:
        """What is kept until the loop judges it. Where that would be much, the least that makes it look itself: many
        objects may each have a mebibyte of keys that others wrote."""
        owned = self.owned
        if owned is None or len(owned.foreign_keys) + len(owned.overwritten) <= _LARGE:
            return self
        return Observation(self.resource_version, None)


@attrs.frozen
class Drift:
    """What happened to an object.

    Attributes:
        kind: what.
        manager: the field manager that did it, as far as the API server keeps it; None where it does not.
        keys: names of the keys that were added, the first few.
        more: the number of others.
        resource_version: the resourceVersion of the state in which it was seen; "" where the object is gone.
    """

    kind: DriftKind
    manager: str | None = None
    keys: tuple[str, ...] = ()
    resource_version: str = attrs.field(default="", eq=False)
    more: int = 0

    def __str__(self) -> str:
        if self.kind is DriftKind.DELETED:
            return "was deleted (the API server does not keep by whom)"
        if self.manager is None:
            by = "a client that owns none of its fields"
        elif is_manager_name(self.manager):
            by = f"field manager {self.manager}"
        else:
            by = "a field manager whose name has not the form of one, and so is not shown"
        if self.kind is DriftKind.ADDED:
            more = f" and {self.more} more" if self.more else ""
            return f"got the keys {', '.join(self.keys)}{more} from {by}"
        return f"was changed by {by}"


def drift_of(entry: InventoryEntry, seen: Observation) -> Drift | None:
    """How an object differs from what was applied; None where it does not, or where that is not known."""
    if entry.fields is None:
        return None  # it is not known to have been applied
    if seen.owned is None:
        return Drift(DriftKind.DELETED)
    if seen.deleting:
        return None
    owned = seen.owned
    added = strange_keys(entry, owned)
    # What is ours in stringData was applied by a release that left nulls there, and changes of it do not show.
    if owned.fields < entry.fields or owned.overwritten or (owned.texts and _is_secret(entry)):
        by = next(iter(owned.overwritten.values()), None) or owned.last_writer(seen.before)
        return _with_keys(Drift(DriftKind.CHANGED, by, resource_version=seen.resource_version), added)
    if added:
        first = next(iter(added.values()))
        return _with_keys(Drift(DriftKind.ADDED, first, resource_version=seen.resource_version), added)
    return None


def _with_keys(drift: Drift, added: Mapping[str, str]) -> Drift:
    return attrs.evolve(drift, keys=tuple(added)[:_MAX_NAMES], more=max(0, len(added) - _MAX_NAMES))


def strange_keys(entry: InventoryEntry, owned: FieldOwnership) -> Mapping[str, str]:
    """Keys that others added to a Secret since it was taken over, each with its manager; none for other kinds."""
    if not _is_secret(entry):
        return {}
    return {key: manager for key, manager in owned.foreign_keys.items() if key not in entry.kept_keys}


def _is_secret(entry: InventoryEntry) -> bool:
    return (entry.api_version, entry.kind) == ("v1", "Secret")


def is_outdated(seen: Observation, applied: str) -> bool:
    """Whether an observation is of no interest once an object was applied as that resourceVersion.

    They are decimal numbers that grow (https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions,
    KEP-5504); of what is none, only equality is believed. An object that vanished unseen is reported with the version
    that was seen last, so for a deletion only an earlier one is outdated.
    """
    version = seen.resource_version
    if not (version.isdecimal() and applied.isdecimal()):
        return version == applied and seen.owned is not None
    return int(version) < int(applied) or (version == applied and seen.owned is not None)


def is_newer(version: str, *, than: str) -> bool:
    """Whether a resourceVersion is of a later state; of what is no number, whether it is of another."""
    if version.isdecimal() and than.isdecimal():
        return int(version) > int(than)
    return version != than
