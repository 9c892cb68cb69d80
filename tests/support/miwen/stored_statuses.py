"""Statuses as other releases, or people, may have left them."""

from __future__ import annotations

from typing import Any


def record(number: int, **fields: Any) -> dict[str, Any]:
    """A record as the first version wrote it."""
    return {
        "id": number,
        "revision": f"{number:040x}",
        "file_to_decrypt": "secret.enc.yaml",
        "deployed_at": "2022-11-24T03:00:00Z",
        "status": "Sync",
        "error_message": None,
        **fields,
    }


def entry(name: str, **fields: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "name": name, "file": "f.yaml", "fields": 3, **fields}


def condition(kind: str, **fields: Any) -> dict[str, Any]:
    made = {"type": kind, "status": "True", "reason": "Synced", "message": "m"}
    return {**made, "lastTransitionTime": "2026-11-24T03:00:00Z", **fields}


STORED: dict[str, Any] = {
    **{
        f"{number} entries": {"current": record(41), "history": [record(n) for n in range(number)]}
        for number in range(41)
    },
    "a null history": {"current": record(1), "history": None},
    "long texts": {
        "current": record(2, error_message="x" * 100_000, file_to_decrypt="y" * 100_000, deployed_at="z" * 9_000),
        "history": [record(1, revision="r" * 100_000)],
    },
    "many conditions": {
        "current": record(1),
        "conditions": [condition(f"Foreign{n}") for n in range(40)] + [condition("Ready")],
    },
    "conditions of one type": {"current": record(1), "conditions": [condition("Ready")] * 30},
    "conditions without a time": {
        "current": record(1),
        "conditions": [{"type": "Ready", "status": "True", "reason": "r", "message": "m"}, condition("Stalled")],
    },
    "conditions that are none": {
        "current": record(1),
        "conditions": [condition("Ready", lastTransitionTime="yesterday"), condition("Stalled", status="Maybe")],
    },
    "a day that does not exist": {
        "current": record(1),
        "conditions": [condition("Ready", lastTransitionTime="2026-02-31T00:00:00Z")],
    },
    "negative numbers": {
        "current": record(-3),
        "history": [record(-9)],
        "observedGeneration": -1,
        "deployedGeneration": -7,
    },
    "large numbers": {"current": record(2**70), "history": [record(2**63)], "observedGeneration": 2**64},
    "wrong types": {
        "current": "yes",
        "history": {"0": record(1)},
        "conditions": 7,
        "inventory": [1, None, "a", entry("a")],
    },
    "unknown words": {
        "current": record(1, status="Syncing"),
        "history": [record(0, status=""), record(0, status="NotSync")],
    },
    "unknown fields": {"current": record(1, more={"a": 1}), "newer": [1], "inventory": [entry("a", owner="b")]},
    "a large inventory": {
        "current": record(1),
        "inventory": [entry(f"n{n}") for n in range(3_000)],
        "deployedGeneration": 1,
    },
    "an inventory that is too large": {
        "current": record(1),
        "inventory": [entry(f"n{n}") for n in range(4_100)],
        "deployedGeneration": 1,
    },
    "a negative count of fields": {"current": record(1), "inventory": [entry("a", fields=-1)], "deployedGeneration": 1},
    "many of all else": {
        "current": record(1),
        "failedObjects": [{"kind": "k", "name": "n", "reason": "r", "message": "m" * 9_000}] * 50,
        "files": [{"path": f"p{n}", "blob": "b"} for n in range(1_100)],
        "observedSecrets": [{"name": f"n{n}", "resourceVersion": "1"} for n in range(200)],
        "encryption": {"recipients": ["r" * 5_000] * 100, "staleRecipients": ["s"] * 100},
        "plan": {
            "revision": "a",
            "created": -1,
            "changed": 0,
            "pruned": 0,
            "unchanged": 0,
            "objects": [{"action": "Create", "kind": "k", "name": f"n{n}"} for n in range(300)],
        },
    },
}
