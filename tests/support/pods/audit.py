"""What the API server's audit log says of Miwen's Pods: which of them wrote when, and who had the Lease then."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs

POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {
            "level": "Request",
            "users": ["system:serviceaccount:jiemi:miwen"],
            "verbs": ["create", "update"],
            "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}],
        },
        # Metadata: what was written is nowhere in the log.
        {
            "level": "Metadata",
            "users": ["system:serviceaccount:jiemi:miwen"],
            "verbs": ["create", "update", "patch", "delete", "deletecollection"],
        },
        {"level": "None"},
    ],
}
"""Each write of Miwen's ServiceAccount, and of the Lease what was written."""

_POD = "authentication.kubernetes.io/pod-name"


@attrs.frozen
class Write:
    """A write that succeeded.

    Attributes:
        pod: the Pod whose token was shown.
        what: verb, resource, namespace and name.
        began, ended: when the API server got it and had answered it, in seconds since 1970.
        holder: of a write of the Lease, whose it is from then on; "": nobody's.
    """

    pod: str
    what: str
    began: float
    ended: float
    holder: str | None = None


@attrs.frozen
class Tenure:
    """The time for which a Pod had the Lease, in seconds since 1970; infinite where it has not ended."""

    holder: str
    began: float
    ended: float

    @property
    def pod(self) -> str:
        return self.holder.partition("_")[0]


def read_audit(log: Path) -> list[Write]:
    """The writes that succeeded, in the order in which they ended."""
    found = [write for line in log.read_text().splitlines() if (write := _write(json.loads(line))) is not None]
    return sorted(found, key=lambda write: write.ended)


def tenures(writes: Iterable[Write]) -> list[Tenure]:
    """Who had the Lease when.

    A tenure begins when the write that took the Lease was answered; it ends when another process's begins, or when its
    own that gives it up does.
    """
    found: list[Tenure] = []
    for write in writes:
        if write.holder is None:
            continue
        now = found[-1] if found else None
        if now is not None and now.holder == write.holder:
            continue
        if now is not None and now.ended > write.began:
            found[-1] = attrs.evolve(now, ended=write.began)
        if write.holder:
            found.append(Tenure(write.holder, write.ended, float("inf")))
    return found


def without_the_lease(writes: Sequence[Write]) -> list[Write]:
    """The writes of Pods that did not have the Lease from the write's begin to its end."""
    all_tenures = tenures(writes)
    return [
        write
        for write in writes
        if write.holder is None
        and not any(
            each.pod == write.pod and each.began <= write.began and write.ended <= each.ended for each in all_tenures
        )
    ]


def require_the_lease(log: Path, *, changed_hands: bool = True) -> None:
    """Fail where a Miwen wrote without the Lease, or where too little happened to know.

    Args:
        changed_hands: whether another Miwen got the Lease meanwhile.
    """
    writes = read_audit(log)
    assert len(writes) > 20
    assert len(tenures(writes)) > changed_hands
    assert without_the_lease(writes) == []


def _write(event: Any) -> Write | None:
    if event.get("stage") != "ResponseComplete" or not 200 <= event["responseStatus"]["code"] < 300:
        return None
    at = event.get("objectRef") or {}
    (pod,) = event["user"]["extra"][_POD]
    resource = "/".join(filter(None, (at.get("resource"), at.get("subresource"))))
    name = "/".join(filter(None, (at.get("namespace"), at.get("name"))))
    holder = event["requestObject"]["spec"].get("holderIdentity") or "" if resource == "leases" else None
    return Write(
        pod,
        f"{event['verb']} {resource} {name}",
        _seconds(event["requestReceivedTimestamp"]),
        _seconds(event["stageTimestamp"]),
        holder,
    )


def _seconds(timestamp: str) -> float:
    return datetime.datetime.fromisoformat(timestamp).timestamp()
