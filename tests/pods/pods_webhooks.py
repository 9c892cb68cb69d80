"""deploy/webhooks as it is shipped: a signed push by way of its Service is in the cluster at once."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pods.conftest import PODS, ROOT
from support.canaries.forms import forms_of, found_in
from support.kubernetes.kubectl import Kubectl
from support.pods.demo import Demo, until
from support.webhooks.requests import SECRET, Request, request

from jiemi.demo.content import EXPECTED

_WEBHOOK = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "hook", "labels": {"jiemi.cr/webhook": "github"}},
    "stringData": {"token": SECRET},
}
_SOON_SECONDS = 30
"""The Decryptor's interval is an hour meanwhile."""


@pytest.fixture
def received(installed: Kubectl, tmp_path: Path) -> Iterator[Kubectl]:
    """An overlay with the component, as docs/operations.md has it."""
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    wanted = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(ROOT / "deploy", overlay)],
        "components": [os.path.relpath(ROOT / "deploy" / "webhooks", overlay)],
    }
    (overlay / "kustomization.yaml").write_text(json.dumps(wanted))
    installed("apply", "-k", str(overlay))
    installed("rollout", "status", "deployment/miwen", "--timeout=55s")
    yield installed
    installed("apply", "-k", str(ROOT / "deploy"))
    installed("delete", "service,networkpolicy", "webhooks")
    installed("rollout", "status", "deployment/miwen", "--timeout=55s")
    until("all Pods are ready", lambda: installed("get", "pods").count("1/1") == PODS)


def _deliver(address: str, port: int, sent: Request) -> int:
    """Send it as an Ingress passes it on; returns the status of the answer."""
    connection = http.client.HTTPConnection(address, port, timeout=20)
    try:
        fields = {**dict(sent.fields), "X-Forwarded-For": "192.0.2.7"}
        connection.request("POST", "/webhooks/default/hook", sent.body, fields)
        return connection.getresponse().status
    finally:
        connection.close()


def _addresses(received: Kubectl) -> list[tuple[str, int]]:
    """Of the Service, and of each Miwen: one of them waits for its turn, and sends on what it gets."""
    service = json.loads(received("get", "service", "webhooks", "--output=json"))["spec"]
    selector = ",".join(f"{name}={value}" for name, value in service["selector"].items())
    pods = json.loads(received("get", "pods", f"--selector={selector}", "--output=json"))["items"]
    live = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    assert len(live) == 2
    return [(service["clusterIP"], service["ports"][0]["port"]), *((pod["status"]["podIP"], 8080) for pod in live)]


async def test_a_signed_push_is_deployed_at_once_and_an_unsigned_one_is_refused(received: Kubectl, demo: Demo) -> None:
    until("the Secret is there", lambda: demo.plain() == EXPECTED)
    demo.kubectl("patch", "decryptor", "demo", "--type=merge", '--patch={"spec": {"interval": "1h"}}')
    until("the interval is taken up", lambda: _observed(demo))
    demo.kubectl("apply", "-f", "-", given=_WEBHOOK)
    url = demo.repository.url

    def push() -> Request:
        return request("github", urls=(url, url))

    addresses = _addresses(received)
    try:
        for host, port in addresses:
            until("the webhook is taken up", lambda host=host, port=port: _deliver(host, port, push()) == 202)  # type: ignore[misc]
        for number, (host, port) in enumerate(addresses):
            greeting = f"Hello by webhook {number}"
            before = demo.plain()
            demo.push(greeting)
            forged = push()
            assert _deliver(host, port, forged.without("x-hub-signature-256")) == 403
            assert _deliver(host, port, forged.with_body(forged.body + b" ")) == 403
            assert demo.plain() == before
            assert _deliver(host, port, push()) == 202
            until("it is deployed", lambda wanted=greeting: demo.plain()["greeting"] == wanted, seconds=_SOON_SECONDS)  # type: ignore[misc]
            until("the status says so", lambda: demo.revision() == demo.repository.head(), seconds=_SOON_SECONDS)
        logs = received("logs", "--selector=app.kubernetes.io/component=miwen", "--tail=-1")
        assert logs
        assert found_in({"logs": logs.encode()}, forms_of(SECRET)) == []
    finally:
        demo.kubectl("delete", "secret", "hook")


def _observed(demo: Demo) -> bool:
    found = demo.decryptor()
    ready = next(each for each in found["status"]["conditions"] if each["type"] == "Ready")
    return bool(ready["status"] == "True" and ready["observedGeneration"] == found["metadata"]["generation"])
