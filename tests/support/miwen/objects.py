"""Objects for the tests of loops, and what Events say."""

from __future__ import annotations

from typing import Any

from support.miwen.world import World


def config(name: str = "app", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def deployment(name: str = "app", **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": {"spec": {"priority": 1}}, **more},
    }


def notes(world: World, *reasons: str) -> list[str]:
    """What the Events say, in their order; of these reasons, if some are given."""
    events = [obj for key, obj in world.cluster.objects.items() if key[1] == "Event"]
    events.sort(key=lambda each: each["metadata"]["name"])
    return [f"{each['reason']}: {each['note']}" for each in events if not reasons or each["reason"] in reasons]
