"""Two Miwens on a real API server, with the rights that deploy/ gives: one works, and the other takes over."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from support.e2e.lab import Lab, Repository, Service, until
from support.e2e.scene import METRICS, Scene, forget_decryptors, metrics_page, secret
from support.kubernetes.api_server import ApiServer
from support.metrics_pages import total
from support.monitoring.examples import described
from support.network.tls_folders import TlsPair, tls_pair

pytestmark = pytest.mark.e2e

LEASE = "/apis/coordination.k8s.io/v1/namespaces/jiemi/leases/jiemi-miwen"


@attrs.define
class Pair:
    """Two Miwens.

    Attributes:
        tls: by which they and Krapao know each other.
        running: those that run.
    """

    scene: Scene
    address: str
    repository: Repository
    tls: TlsPair
    running: list[Service] = attrs.field(factory=list)
    numbers: Iterator[int] = attrs.field(factory=itertools.count)

    def start(self) -> Service:
        lab = self.scene.lab
        made = lab.start(
            *("miwen", "--krapao", self.address, "--kubeconfig", lab.service_account_kubeconfig("jiemi", "miwen")),
            *("--interval", "1s", "--lease", "jiemi/jiemi-miwen", "--log-format", "json"),
            *("--tls-dir", self.tls.miwen, *METRICS),
        )
        self.running.append(made)
        return made

    def active(self) -> Service | None:
        """Who did not lose the Lease since it got it; None where it is nobody or both."""
        found = [each for each in self.running if _is_active(each)]
        return found[0] if len(found) == 1 else None

    def until_active(self) -> Service:
        found: Service = until("one is active", self.active, on_failure=self.scene.lab.logs)
        return found

    def follows_a_push(self) -> float:
        """Seconds until a push is deployed."""
        value = f"v{next(self.numbers)}"
        self.scene.commit(self.repository, secret("app", value=value))
        began = time.monotonic()
        until(
            "the push is deployed",
            lambda: self.scene.data("app") == {"value": value},
            on_failure=self.scene.lab.logs,
        )
        return time.monotonic() - began

    def lease(self) -> dict[str, Any]:
        found: dict[str, Any] = self.scene.lab.admin.call("GET", LEASE).ok()["spec"]
        return found


_OF_THE_ACTIVE_ONE = {
    *("jiemi_certificate_not_after_timestamp_seconds", "jiemi_krapao_reachable", "jiemi_krapao_lost"),
    *("jiemi_decryptor_ready", "jiemi_decryptor_info", "jiemi_slots_used"),
}


def _metrics_of(service: Service) -> set[str]:
    """The names of what it shows now."""
    return {each.name for each in described(metrics_page(service))}


def _is_active(service: Service) -> bool:
    if service.process.poll() is not None:
        return False
    events = [json.loads(line)["event"] for line in service.log_text().splitlines() if line.startswith("{")]
    return events.count("lease_acquired") > events.count("lease_lost")


@pytest.fixture
def pair(lab: Lab, installed: ApiServer) -> Iterator[Pair]:
    forget_decryptors(lab)
    installed.call("DELETE", LEASE)
    scene = Scene(lab, lab.namespace("e2e-leader"))
    tls = tls_pair(lab.folder / "leader")
    _, address = lab.start_krapao_on_tcp(tls, name="leader")
    made = Pair(scene, address, lab.repository(), tls)
    made.start()
    made.start()
    scene.commit(made.repository, secret("app", value="first"))
    scene.put("app", made.repository.url)
    until("it is applied", lambda: scene.data("app") == {"value": "first"}, on_failure=lab.logs)
    yield made
    for service in made.running:
        if service.process.poll() is None:
            os.kill(service.process.pid, signal.SIGCONT)
    lab.end_services()
    forget_decryptors(lab)
    installed.call("DELETE", LEASE)


def test_whoever_is_lost_the_other_goes_on_and_one_that_stood_still_writes_nothing(pair: Pair) -> None:
    took: dict[str, list[float]] = {"killed": [], "ended": []}
    for how, number in (("ended", signal.SIGTERM), ("killed", signal.SIGKILL)) * 2:
        active = pair.until_active()
        began = time.monotonic()
        active.process.send_signal(number)
        active.process.wait(20)
        pair.running.remove(active)
        until("the other is active", pair.active, on_failure=pair.scene.lab.logs)
        took[how].append(time.monotonic() - began)
        pair.follows_a_push()
        pair.start()
    sys.stderr.write(f"\ntaken over after SIGTERM: {took['ended']}, after SIGKILL: {took['killed']} (seconds)\n")

    # One that stands still for longer than the Lease lasts, in the middle of whatever it does.
    stopped = pair.until_active()
    assert _metrics_of(stopped) >= _OF_THE_ACTIVE_ONE
    os.kill(stopped.process.pid, signal.SIGSTOP)
    [other] = [each for each in pair.running if each is not stopped]
    until("the other is active", lambda: _is_active(other), on_failure=pair.scene.lab.logs)
    pair.follows_a_push()
    transitions = pair.lease()["leaseTransitions"]
    os.kill(stopped.process.pid, signal.SIGCONT)
    until("it knows", lambda: "lease_lost" in stopped.log_text(), on_failure=stopped.log_text)
    pair.follows_a_push()
    assert pair.until_active() is other
    assert pair.lease()["leaseTransitions"] == transitions, "it did not take it back"
    assert transitions == 5
    # What it shows is what one shows that was never the active one, so no alert is made or hidden by what it knew.
    waiting = _metrics_of(stopped)
    assert not _OF_THE_ACTIVE_ONE & waiting
    assert total(metrics_page(stopped), "jiemi_leading") == 0
    assert _metrics_of(other) >= _OF_THE_ACTIVE_ONE


def test_without_the_right_to_the_lease_nothing_is_done_and_the_log_says_what_to_grant(
    pair: Pair, installed: ApiServer
) -> None:
    lab = pair.scene.lab
    installed.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "bare", "namespace": "jiemi"}}
    ).ok()
    bare = lab.start(
        *("miwen", "--krapao", pair.address, "--kubeconfig", lab.service_account_kubeconfig("jiemi", "bare")),
        *("--lease", "jiemi/other", "--log-format", "json", "--tls-dir", pair.tls.miwen),
    )
    line = until(
        "the log says it",
        lambda: next((each for each in bare.log_text().splitlines() if "lease_not_reached" in each), None),
        on_failure=bare.log_text,
    )
    assert json.loads(line)["reason"] == "LeaseForbidden"
    assert "`get`" in json.loads(line)["message"]
    assert bare.process.poll() is None
