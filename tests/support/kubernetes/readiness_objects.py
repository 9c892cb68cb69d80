"""Objects as controllers leave them, and what is said of their readiness."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from jiemi.core.objects.readiness import readiness
from jiemi.core.objects.readiness_facts import State

READY, PROGRESSING, FAILED = State.READY, State.PROGRESSING, State.FAILED
SECRET = "hunter2 is the password"


def made(
    kind: str,
    spec: Mapping[str, Any] | None = None,
    status: Mapping[str, Any] | None = None,
    *conditions: dict[str, Any],
    **metadata: Any,
) -> dict[str, Any]:
    """An object of "apps/v1 Deployment". Its conditions have messages that must not be repeated."""
    version, _, name = kind.rpartition(" ")
    obj: dict[str, Any] = {"apiVersion": version, "kind": name, "metadata": {"name": "x", **metadata}}
    if spec is not None:
        obj["spec"] = spec
    if status is not None or conditions:
        obj["status"] = {**(status or {}), **({"conditions": list(conditions)} if conditions else {})}
    return obj


def condition(kind: str, status: str = "True", reason: Any = "Why") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": SECRET}


def of(obj: Mapping[str, Any], *, now: datetime.datetime | None = None) -> tuple[State, str]:
    found = readiness(obj, now=now)
    return found.state, found.message
