"""The NetworkPolicies of deploy/ as they are shipped, where they are enforced: who connects to whom, and who can't."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from pods.conftest import PODS
from support.kubernetes.kubectl import Kubectl
from support.pods.cluster import given
from support.pods.demo import Demo, until
from support.pods.network_policies import enforced
from support.pods.running import not_ending

from jiemi.controlplane.node.arguments import NODE_DEVICE
from jiemi.demo.content import EXPECTED

KRAPAO, METRICS, WEBHOOKS = 50208, 9090, 8080
_METADATA = "169.254.169.254"
_MIWEN = {"app.kubernetes.io/name": "jiemi", "app.kubernetes.io/component": "miwen"}

_CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).close()
except OSError:
    print("no")
else:
    print("yes")
"""


@attrs.frozen
class Stranger:
    """A Pod that tries to connect.

    Attributes:
        namespace: its namespace; "jiemi" is Jiemi's own.
        of_namespace: labels of that.
        labels: its own.
        reaches: those of `KRAPAO`, `METRICS` and `WEBHOOKS` that it should reach.
    """

    name: str
    namespace: str
    of_namespace: dict[str, str]
    labels: dict[str, str]
    reaches: frozenset[int]


STRANGERS = (
    Stranger("anybody", "strangers", {}, {}, frozenset()),
    Stranger("pretender", "pretenders", {}, _MIWEN, frozenset()),
    Stranger("neighbour", "jiemi", {}, {}, frozenset()),
    Stranger("prometheus", "monitoring", {"metrics": "enabled"}, {}, frozenset({METRICS})),
    Stranger("ingress", "ingress", {"webhooks": "enabled"}, {}, frozenset({WEBHOOKS})),
)


def _pod(stranger: Stranger, image: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": stranger.name, "namespace": stranger.namespace, "labels": stranger.labels},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "python",
                    "image": image,
                    "command": ["/opt/jiemi/bin/python", "-c", "import time; time.sleep(3600)"],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
        },
    }


@pytest.fixture
def strangers(received: Kubectl) -> Iterator[Kubectl]:
    """The Pods above, beside deploy/ with its webhooks."""
    image = received("get", "deployment", "miwen", "--output=jsonpath={.spec.template.spec.containers[0].image}")
    others = [each for each in STRANGERS if each.namespace != "jiemi"]
    for each in others:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": each.namespace}}
        namespace["metadata"] |= {"labels": each.of_namespace}  # type: ignore[operator]
        received("apply", "-f", "-", given=namespace)
    for each in STRANGERS:
        there, pod = attrs.evolve(received, namespace=each.namespace), _pod(each, image)
        # Not before the namespace has its ServiceAccount.
        until("the Pod is made", lambda there=there, pod=pod: bool(there("apply", "-f", "-", given=pod)))  # type: ignore[misc]
    for each in STRANGERS:
        there = attrs.evolve(received, namespace=each.namespace)
        there("wait", f"pod/{each.name}", "--for=condition=Ready", "--timeout=55s")
    yield received
    received("delete", "pod", *(each.name for each in STRANGERS if each.namespace == "jiemi"))
    received("delete", "namespace", *(each.namespace for each in others))


@pytest.fixture
def metadata_service() -> Iterator[None]:
    """A service at the address of the clouds' metadata, on the node."""
    address = ["ip", "address", "{}", f"{_METADATA}/32", "dev", NODE_DEVICE]
    subprocess.run([each.format("add") for each in address], check=True, timeout=30)
    with socket.create_server((_METADATA, 80)) as listener:
        answering = threading.Thread(target=_answer, args=(listener,))
        answering.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            answering.join()
            subprocess.run([each.format("delete") for each in address], check=True, timeout=30)


def _answer(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.close()


def _reaches(kubectl: Kubectl, pod: str, namespace: str, address: str, port: int) -> bool:
    there = attrs.evolve(kubectl, namespace=namespace)
    said = there("exec", pod, "--", "/opt/jiemi/bin/python", "-c", _CONNECT, address, str(port))
    return {"yes": True, "no": False}[said.strip()]


@attrs.frozen
class Targets:
    """The addresses of Jiemi's Pods."""

    krapao: str
    miwen: str

    @classmethod
    def of(cls, kubectl: Kubectl) -> Targets:
        def first(component: str) -> str:
            selector = f"--selector=app.kubernetes.io/component={component}"
            pods = not_ending(json.loads(kubectl("get", "pods", selector, "--output=json"))["items"])
            return str(pods[0]["status"]["podIP"])

        return cls(first("repository"), first("miwen"))

    def reached_by(self, kubectl: Kubectl, stranger: Stranger) -> set[tuple[str, int]]:
        tried = (("krapao", KRAPAO), ("krapao", METRICS), ("miwen", METRICS), ("miwen", WEBHOOKS))
        return {
            (name, port)
            for name, port in tried
            if _reaches(kubectl, stranger.name, stranger.namespace, getattr(self, name), port)
        }


_ALL = {("krapao", KRAPAO), ("krapao", METRICS), ("miwen", METRICS), ("miwen", WEBHOOKS)}


async def test_where_policies_are_enforced_who_should_connects_and_nobody_else(
    strangers: Kubectl, metadata_service: None, demo: Demo, tmp_path: Path
) -> None:
    until("the Secret is there", lambda: demo.plain() == EXPECTED)
    targets = Targets.of(strangers)
    # Without them, all do: so what is seen below is their work.
    for each in STRANGERS:
        assert targets.reached_by(strangers, each) == _ALL, each.name
    assert _reaches(strangers, "repository-0", "jiemi", _METADATA, 80)
    with enforced(Path(given("KUBE_ROUTER")), strangers.kubeconfig, tmp_path / "kube-router.log"):
        anybody = STRANGERS[0]
        until("the policies are enforced", lambda: not targets.reached_by(strangers, anybody))
        for each in STRANGERS:
            wanted = {(name, port) for name, port in _ALL if port in each.reaches}
            assert targets.reached_by(strangers, each) == wanted, each.name
        assert not _reaches(strangers, "repository-0", "jiemi", _METADATA, 80)
        # The two services go on: Miwen asks Krapao, which looks names up and fetches; a new Pod of each as well.
        demo.push("Hello behind policies")
        until("the push is deployed", lambda: demo.plain()["greeting"] == "Hello behind policies")
        for component in ("miwen", "repository"):
            strangers("delete", "pod", f"--selector=app.kubernetes.io/component={component}", "--wait=false")
        demo.push("Hello from new Pods")
        until("the push is deployed", lambda: demo.plain()["greeting"] == "Hello from new Pods")
        # The kubelet's probes reach them.
        until("all Pods are ready", lambda: strangers("get", "pods").count("1/1") == PODS + 1)
    until("nothing is enforced", lambda: Targets.of(strangers).reached_by(strangers, STRANGERS[0]) == _ALL)
