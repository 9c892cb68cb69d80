"""What the metrics say of one Decryptor."""

from __future__ import annotations

import re

import attrs

from jiemi.core.api.conditions import SUSPENDED, WARNINGS
from jiemi.core.api.decryptor_status import DecryptorStatus
from jiemi.core.decisions.conditions import PLANNED, SYNCED, condition, is_ready
from jiemi.core.reasons import REASONS

_REVISION = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_NO_REASON = "Progressing"
"""The reason that is shown where Ready has one that says how far a deployment has come, or none."""


@attrs.frozen
class Times:
    """When things last happened to a Decryptor, in seconds since 1970; None: not since Miwen started.

    Attributes:
        look: a look ended.
        success: a look ended after which all was as the repository says.
        repository_seen: the newest revision was known.
    """

    look: float | None = None
    success: float | None = None
    repository_seen: float | None = None


@attrs.frozen
class Followed:
    """What the metrics say of a Decryptor.

    Attributes:
        deployed: the revision that is deployed; "" where none is.
        seen: the newest revision that was seen; "" where none was.
        ready: whether it is ready.
        objects: how many it has in the cluster.
        drifted: how many of them differ and are not corrected.
        condition: the status of its condition Ready: "True", "False" or "Unknown".
        reason: the reason of that: of the table of reasons, or one of few words more.
        suspended: whether it is suspended.
        warnings: the types of its conditions that are warnings.
        interval_seconds: how often it is looked at.
        times: when things last happened to it.
    """

    deployed: str
    seen: str
    ready: bool
    objects: int
    drifted: int
    condition: str = "Unknown"
    reason: str = _NO_REASON
    suspended: bool = False
    warnings: tuple[str, ...] = ()
    interval_seconds: float = 0.0
    times: Times = Times()

    @classmethod
    def of(
        cls, status: DecryptorStatus, generation: int, seen: str | None, *, interval_seconds: float, times: Times
    ) -> Followed:
        """What a status says. It may be one that somebody else wrote: of that only what can be meant becomes a label.

        Args:
            seen: the newest revision that is known; None where none is.
        """
        ready = condition(status, "Ready")
        return cls(
            deployed=_revision(status.current.revision),
            seen=_revision(seen or status.last_attempted_revision or ""),
            ready=is_ready(status, generation),
            objects=len(status.inventory),
            drifted=0,
            condition=ready.status if ready is not None and ready.status in ("True", "False") else "Unknown",
            reason=_reason(ready.reason if ready is not None else ""),
            suspended=condition(status, SUSPENDED) is not None,
            warnings=tuple(kind for kind in WARNINGS if (found := condition(status, kind)) and found.status == "True"),
            interval_seconds=interval_seconds,
            times=times,
        )

    @property
    def info(self) -> dict[str, str]:
        """The labels of its state."""
        return {
            "ready": self.condition,
            "reason": self.reason,
            "suspended": str(self.suspended).lower(),
            "revision": self.deployed,
        }

    @property
    def gauges(self) -> tuple[float | None, ...]:
        """Its numbers, in the order in which the metrics name them."""
        times = self.times
        return (
            float(self.ready),
            self.objects,
            self.drifted,
            self.interval_seconds,
            times.look,
            times.success,
            times.repository_seen,
        )


def _revision(text: str) -> str:
    return text if _REVISION.fullmatch(text) else ""


def _reason(text: str) -> str:
    return text if text in REASONS or text in (SYNCED, PLANNED) else _NO_REASON
