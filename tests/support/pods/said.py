"""What Jiemi's Pods say, wherever somebody may read it."""

from __future__ import annotations

import json
from collections.abc import Mapping

from support.kubernetes.kubectl import Kubectl
from support.pods.demo import Demo
from support.pods.rotation import page
from support.pods.running import not_ending
from support.traces.collector import Collector


def what_is_said(installed: Kubectl, demo: Demo, traced: Collector, *, pods: int) -> Mapping[str, bytes]:
    """Logs, Events, the Pods themselves, the Decryptors with their status, metrics, and the spans that were sent.

    Args:
        pods: how many there are that are not about to end.
    """
    said = {
        component: installed("logs", f"--selector=app.kubernetes.io/component={component}", "--tail=-1")
        for component in ("miwen", "repository")
    }
    said |= {kind: demo.kubectl("get", kind, "--output=yaml") for kind in ("events", "decryptors")}
    said |= {name: installed("get", name, "--output=yaml") for name in ("events", "pods")}
    found = not_ending(json.loads(installed("get", "pods", "--output=json"))["items"])
    assert len(found) == pods
    said |= {f"metrics of {pod['metadata']['name']}": page(pod) for pod in found}
    spans = {f"spans {number}": body for number, body in enumerate(traced.bodies)}
    assert all(said.values())
    assert spans
    return {name: text.encode() for name, text in said.items()} | spans
