"""What the rules of readiness look at in an object, and what they answer.

An object may be of any shape, since a custom resource's controller is anyone's: what is of another type than it should
be is as if it were not there. A message is made of our words, counts, and reasons that look like reasons; a condition's
message is never repeated, because it may quote a value.
"""

from __future__ import annotations

import datetime
import enum
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import attrs

D = TypeVar("D", bound=int | None)

_REASON = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")
"""The reasons that are shown. The API's own pattern allows more (a colon, 1024 characters), and so for more than names:
https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.34/#condition-v1-meta"""

_INT64 = range(-(2**63), 2**63)
"""Numbers of the Kubernetes API. Python's text of a number without bound can be refused."""


class State(enum.Enum):
    """How far an object is."""

    READY = "ready"
    """Nothing to wait for."""
    PROGRESSING = "progressing"
    """Its controller is still at it, or has not begun."""
    FAILED = "failed"
    """Its controller has given up, or says that it can't go on."""


@attrs.frozen
class Readiness:
    """What an object says of itself.

    Attributes:
        state: the progress that it has made.
        message: why, in a few words that are safe to show anyone; without the object's name.
    """

    state: State
    message: str


@attrs.frozen
class Condition:
    """One of an object's conditions; "" for what it does not give as text."""

    type: str
    status: str
    reason: str

    @property
    def shown_reason(self) -> str:
        """For messages: " (Reason)", or nothing where the reason is none that may be shown."""
        return f" ({self.reason})" if _REASON.fullmatch(self.reason) else ""


@attrs.frozen
class Facts:
    """What the rules look at, whatever shape the object is of."""

    metadata: Mapping[str, Any]
    spec: Mapping[str, Any]
    status: Mapping[str, Any]
    conditions: tuple[Condition, ...]
    now: datetime.datetime | None

    @classmethod
    def of(cls, obj: Mapping[str, Any], now: datetime.datetime | None) -> Facts:
        """Read an object of any shape."""
        status = mapping(obj.get("status"))
        conditions = tuple(
            Condition(text(each.get("type")), text(each.get("status")), text(each.get("reason")))
            for each in mappings(status.get("conditions"))
        )
        return cls(mapping(obj.get("metadata")), mapping(obj.get("spec")), status, conditions, now)

    def condition(self, kind: str) -> Condition | None:
        """The first condition of that type."""
        return next((each for each in self.conditions if each.type == kind), None)

    def is_true(self, kind: str) -> bool:
        """Whether there is a condition of that type, and its status is True."""
        found = self.condition(kind)
        return found is not None and found.status == "True"

    def count(self, name: str) -> int:
        """A number of the status; 0 where there is none, as controllers leave zeros out."""
        return number(self.status.get(name), 0)

    @property
    def replicas(self) -> int:
        """How many are wanted; the API server's default is 1."""
        return number(self.spec.get("replicas"), 1)


def by_condition(found: Condition | None, kind: str) -> Readiness:
    """Ready when the condition is True, and progressing otherwise."""
    if found is not None and found.status == "True":
        return ready(f"condition {kind} is True")
    status = found.status if found is not None and found.status in {"False", "Unknown"} else "not known"
    return progressing(f"condition {kind} is {status}{found.shown_reason if found is not None else ''}")


def behind(*counts: tuple[int, int, str]) -> Readiness | None:
    """The first of some counts that is less than what is wanted, as (is, wanted, of what)."""
    for found, wanted, what in counts:
        if found < wanted:
            return progressing(f"{what}: {found} of {wanted}")
    return None


def surplus(found: int, wanted: int) -> Readiness | None:
    """More replicas than are wanted; None where there are not."""
    return progressing(f"replicas that are yet to end: {found - wanted}") if found > wanted else None


def ready(message: str) -> Readiness:
    """Nothing to wait for."""
    return Readiness(State.READY, message)


def progressing(message: str) -> Readiness:
    """To be waited for."""
    return Readiness(State.PROGRESSING, message)


def failed(message: str) -> Readiness:
    """Not worth waiting for."""
    return Readiness(State.FAILED, message)


def mapping(value: Any) -> Mapping[str, Any]:
    """The value, if it is a mapping."""
    return value if isinstance(value, Mapping) else {}


def mappings(value: Any) -> tuple[Mapping[str, Any], ...]:
    """The mappings among a list's items."""
    return tuple(each for each in value if isinstance(each, Mapping)) if isinstance(value, list) else ()


def text(value: Any) -> str:
    """The value, if it is a text."""
    return value if isinstance(value, str) else ""


def number(value: Any, default: D) -> int | D:
    """The value, if it is a number of the API."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value in _INT64 else default
