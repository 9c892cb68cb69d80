"""What a Lease says, as Kubernetes' own components use it for leader election (coordination.k8s.io/v1, LeaseSpec).

https://kubernetes.io/docs/concepts/architecture/leases/#leader-election

Nobody compares clocks: whoever waits takes the time from when *it* first saw the Lease as it is, so a clock that is
wrong does no harm.
"""

from __future__ import annotations

import datetime

import attrs

from jiemi.miwen.kubernetes.port import JsonObject

GIVEN_UP_SECONDS = 1
"""The duration that a Lease has which was given up, as client-go writes it (leaderelection.go, release)."""


@attrs.frozen
class LeaseRecord:
    """What is in a Lease.

    Attributes:
        holder: who has it; "" where nobody does.
        duration_seconds: how long it holds after it was renewed.
        acquired, renewed: when its holder got it, and renewed it last, as texts.
        transitions: how often it went from one to another.
    """

    holder: str = ""
    duration_seconds: float = 0
    acquired: str = ""
    renewed: str = ""
    transitions: int = 0

    @classmethod
    def read(cls, lease: JsonObject) -> LeaseRecord:
        """What a Lease says; what can't be read counts as missing, since anyone with the right may write into it."""
        spec = lease.get("spec")
        spec = spec if isinstance(spec, dict) else {}
        duration, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
        return cls(
            str(spec.get("holderIdentity") or ""),
            float(duration) if isinstance(duration, int) and duration > 0 else 0.0,
            str(spec.get("acquireTime") or ""),
            str(spec.get("renewTime") or ""),
            transitions if isinstance(transitions, int) and transitions >= 0 else 0,
        )

    @property
    def given_up(self) -> bool:
        """Whether its holder gave it up, and has stopped writing. One whose holder somebody else removed is another."""
        return not self.holder and bool(self.renewed) and self.duration_seconds == GIVEN_UP_SECONDS

    def spec(self) -> JsonObject:
        """It, as a Lease has it."""
        spec = {
            "holderIdentity": self.holder,
            "leaseDurationSeconds": max(int(self.duration_seconds), 1),
            "leaseTransitions": self.transitions,
        }
        times = {"acquireTime": self.acquired, "renewTime": self.renewed}
        return spec | {name: time for name, time in times.items() if time}


def as_text(now: datetime.datetime) -> str:
    """A time as a Lease has it (MicroTime: RFC 3339 with six digits)."""
    return now.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
