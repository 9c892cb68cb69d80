"""Webhooks of the Pods that run: sent to their Service, and to each Miwen."""

from __future__ import annotations

import http.client
import json

from support.kubernetes.kubectl import Kubectl
from support.pods.demo import Demo, until
from support.pods.running import not_ending
from support.webhooks.requests import SECRET, Request, request

WEBHOOK = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "hook", "labels": {"jiemi.cr/webhook": "github"}},
    "stringData": {"token": SECRET},
}
SOON_SECONDS = 30
"""The Decryptor's interval is an hour meanwhile."""


def signed_push(demo: Demo) -> Request:
    """A webhook that says that the demo's repository moved."""
    return request("github", urls=(demo.repository.url, demo.repository.url))


def deliver(address: str, port: int, sent: Request) -> int:
    """Send it as an Ingress passes it on; returns the status of the answer."""
    connection = http.client.HTTPConnection(address, port, timeout=20)
    try:
        fields = {**dict(sent.fields), "X-Forwarded-For": "192.0.2.7"}
        connection.request("POST", "/webhooks/default/hook", sent.body, fields)
        return connection.getresponse().status
    finally:
        connection.close()


def addresses_of(received: Kubectl) -> list[tuple[str, int]]:
    """Of the Service, and of each Miwen: one of them waits for its turn, and sends on what it gets."""
    service = json.loads(received("get", "service", "webhooks", "--output=json"))["spec"]
    selector = ",".join(f"{name}={value}" for name, value in service["selector"].items())
    live = not_ending(json.loads(received("get", "pods", f"--selector={selector}", "--output=json"))["items"])
    assert len(live) == 2
    return [(service["clusterIP"], service["ports"][0]["port"]), *((pod["status"]["podIP"], 8080) for pod in live)]


def look_hourly(demo: Demo) -> None:
    """Have the Decryptor looked at each hour, so that what is seen sooner was seen by a webhook."""
    demo.kubectl("patch", "decryptor", "demo", "--type=merge", '--patch={"spec": {"interval": "1h"}}')
    until("the interval is taken up", lambda: _observed(demo))


def taken_up(demo: Demo, address: tuple[str, int]) -> None:
    """Wait until that address takes webhooks."""
    until("the webhook is taken up", lambda: _deliver_or_none(*address, signed_push(demo)) == 202)


def _deliver_or_none(address: str, port: int, sent: Request) -> int | None:
    try:
        return deliver(address, port, sent)
    except OSError:
        return None  # a Pod that has just gone or come


def _observed(demo: Demo) -> bool:
    found = demo.decryptor()
    ready = next(each for each in found["status"]["conditions"] if each["type"] == "Ready")
    return bool(ready["status"] == "True" and ready["observedGeneration"] == found["metadata"]["generation"])
