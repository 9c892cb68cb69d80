"""The conditions of a status: one of each type, and the time of each moves only as its status does."""

from __future__ import annotations

import datetime
from collections.abc import Collection

import attrs

from jiemi.core.api.decryptor_status import Condition, DecryptorStatus

SYNCED = "Synced"
"""Reason of the Ready condition while the cluster follows the repository."""

PLANNED = "Planned"
"""Reason of the Ready condition while mode: DryRun has its plan."""


def rfc3339(moment: datetime.datetime) -> str:
    """A moment in UTC as RFC 3339 text with seconds: "2026-11-24T03:00:00Z"."""
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def condition(status: DecryptorStatus | None, kind: str) -> Condition | None:
    """The condition of that type."""
    conditions = status.conditions if status is not None else ()
    return next((each for each in conditions if each.type == kind), None)


def is_ready(status: DecryptorStatus | None, generation: int) -> bool:
    """Whether the status says that this generation of the spec is ready (kstatus: and observed)."""
    ready = condition(status, "Ready")
    return (
        status is not None and status.observed_generation == generation and ready is not None and ready.status == "True"
    )


def with_condition(before: DecryptorStatus, new: Condition, *, without: Collection[str] = ()) -> tuple[Condition, ...]:
    """The conditions with this one in its place; its time is kept while its status stays."""
    conditions: list[Condition] = []
    found = False
    for old in before.conditions:
        if old.type in without:
            continue
        if old.type != new.type:
            conditions.append(old)
            continue
        found = True
        since = old.last_transition_time if old.status == new.status else new.last_transition_time
        conditions.append(attrs.evolve(new, last_transition_time=since))
    return tuple(conditions) if found else (*conditions, new)


def without_condition(status: DecryptorStatus, kind: str) -> tuple[Condition, ...]:
    """The conditions without the one of that type."""
    return tuple(each for each in status.conditions if each.type != kind)
