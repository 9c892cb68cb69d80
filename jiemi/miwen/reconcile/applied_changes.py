"""What one tick did to objects, for an Event: which were added, changed and recreated, and by which commit."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from jiemi.core.decisions.status import SHORT_REVISION
from jiemi.core.objects.identity import ObjectKey
from jiemi.core.text import first_of

_MAX_SHOWN = 10


@attrs.define
class Changes:
    """Collects what is done to objects.

    Attributes:
        revision: the commit by which it is done; "" until something is done.
        known: as which resourceVersions an object was seen before, by its key. Taken before anything is applied: what
            is seen later may be what was just applied.
        added: objects that were not applied before: they were created, or taken over.
        changed: objects that differ from before.
        applied: objects of which it is not known whether they differ, because they were not seen since Miwen began.
        unchanged: how many objects are as they were.
    """

    revision: str = ""
    known: Mapping[ObjectKey, frozenset[str]] = attrs.field(factory=dict)
    added: list[ObjectKey] = attrs.field(factory=list)
    changed: list[ObjectKey] = attrs.field(factory=list)
    applied: list[ObjectKey] = attrs.field(factory=list)
    unchanged: int = 0

    @property
    def something(self) -> bool:
        """Whether an object may differ from before."""
        return bool(self.added or self.changed or self.applied)

    def add(self, key: ObjectKey, version: str, *, was_applied: bool) -> None:
        """An object was applied.

        Args:
            version: its resourceVersion since then.
            was_applied: whether it was applied before.
        """
        known = self.known.get(key)
        if not was_applied:
            self.added.append(key)
        elif not known:
            self.applied.append(key)
        elif version not in known:
            self.changed.append(key)
        else:
            self.unchanged += 1

    def __str__(self) -> str:
        """ "by 0123456789ab: added Secret a/b; changed ConfigMap a/c; 3 unchanged"; "" where there is nothing to
        report."""
        if not self.something:
            return ""
        parts = [
            f"{what} {_listed(keys)}"
            for what, keys in (("added", self.added), ("changed", self.changed), ("applied", self.applied))
            if keys
        ]
        if self.unchanged:
            parts.append(f"{self.unchanged} unchanged")
        return f"by {self.revision[:SHORT_REVISION]}: {'; '.join(parts)}"


def _listed(keys: list[ObjectKey]) -> str:
    shown = sorted(key.label for key in keys)
    return first_of(shown, _MAX_SHOWN)
