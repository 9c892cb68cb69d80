"""Alerts of deploy/monitoring, fired by their causes: services that are killed, hosts and key services that are down.

The pages of the real services are recorded, and promtool says which of the shipped rules fire when. A second is two
minutes of Prometheus's time here (support.e2e.timeline), so an interval of 1 s is one of 2 minutes.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from support.e2e.lab import Lab, Service, git_server, until
from support.e2e.scene import METRICS, Scene, secret
from support.e2e.timeline import Timeline, page_of
from support.e2e.vault_files import OF_VAULT
from support.metrics_pages import total
from support.monitoring.promtool import Promtool

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-alerts"


@attrs.define
class Place:
    scene: Scene
    krapao: Service
    miwen: Service
    promtool: Promtool
    folder: Path

    def timeline(self) -> Timeline:
        return Timeline.begin({"krapao": self.krapao, "miwen": self.miwen}, self.folder)

    def start_krapao(self) -> str:
        self.krapao, address = self.scene.lab.start_krapao(*METRICS, name="alerts")
        return address

    def start_miwen(self, address: str) -> None:
        self.miwen = self.scene.lab.start_miwen(address, NAMESPACE, *METRICS)


@pytest.fixture
def place(lab: Lab, promtool: Promtool, tmp_path: Path) -> Iterator[Place]:
    lab.namespace(NAMESPACE)
    krapao, address = lab.start_krapao(*METRICS, name="alerts")
    miwen = lab.start_miwen(address, NAMESPACE, *METRICS)
    place = Place(Scene(lab, NAMESPACE), krapao, miwen, promtool, tmp_path)
    yield place
    path = f"/apis/jiemi.cr/v1alpha1/namespaces/{NAMESPACE}/decryptors"
    for item in lab.admin.call("GET", path).ok()["items"]:
        place.scene.delete_decryptor(item["metadata"]["name"])
    lab.end_services()


def test_a_krapao_that_is_killed_is_missed_and_its_decryptors_with_it_and_then_all_is_well_again(place: Place) -> None:
    place.scene.follow("app", secret("alerts-app", a="one"))
    timeline = place.timeline()
    timeline.go_on(5)
    place.krapao.end(signal.SIGKILL)
    timeline.go_on(32)
    place.start_krapao()
    timeline.services["krapao"] = place.krapao
    until("Krapao is reached", lambda: total(page_of(place.miwen) or "", "jiemi_krapao_reachable") == 1)
    until("the Decryptor is ready", lambda: total(page_of(place.miwen) or "", "jiemi_decryptor_ready") == 1)
    timeline.go_on(3)
    down = {"JiemiKrapaoDown": 1}
    lost = down | {"JiemiKrapaoUnreachable": 1, "JiemiDecryptorNotReady": 1}
    timeline.require(place.promtool, {4: {}, 8: {}, 12: down, 36: lost, 39: {}})


def test_a_miwen_that_is_killed_is_missed(place: Place) -> None:
    place.scene.follow("app", secret("alerts-app", a="one"))
    timeline = place.timeline()
    timeline.go_on(5)
    place.miwen.end(signal.SIGKILL)
    timeline.go_on(8)
    timeline.require(place.promtool, {4: {}, 9: {}, 12: {"JiemiMiwenDown": 1}})


def test_a_git_host_that_is_down_is_reported_for_its_decryptor_only(place: Place, tmp_path: Path) -> None:
    lab, scene = place.scene.lab, place.scene
    scene.follow("app", secret("alerts-app", a="one"))
    with git_server(tmp_path / "theirs") as theirs:
        url = theirs.create("theirs.git")
        source = lab.repository()
        scene.commit(source, secret("alerts-theirs", a="one"))
        source.run("push", "--quiet", str(theirs.root / "theirs.git"), "HEAD:main")
        scene.put("theirs", url)
        until("it is deployed", lambda: scene.data("alerts-theirs") == {"a": "one"})
        timeline = place.timeline()
        timeline.go_on(3)
    timeline.go_on(48)
    krapao = page_of(place.krapao) or ""
    assert total(krapao, "jiemi_git_requests_total", operation="listing", outcome="HostUnreachable") > 0
    assert total(krapao, "jiemi_repositories", listing="failed") == 1
    not_ready = {"JiemiDecryptorNotReady": 1}
    timeline.require(place.promtool, {3: {}, 16: {}, 24: not_ready, 50: not_ready | {"JiemiRepositoryNotSeen": 1}})


def test_a_key_service_that_is_down_is_reported(place: Place) -> None:
    repository = place.scene.lab.repository()
    repository.commit({"secret.enc.yaml": OF_VAULT.encode()})
    place.scene.put("vault", repository.url, provider={"vault": {"token": {"literal": "canary-token"}}})
    place.scene.lab.until_reason(NAMESPACE, "vault", "KeyServiceUnreachable")
    timeline = place.timeline()
    timeline.go_on(14)
    krapao = page_of(place.krapao) or ""
    assert total(krapao, "jiemi_key_requests_total", provider="vault", outcome="unreachable") > 0
    timeline.require(place.promtool, {9: {}, 12: {"JiemiKeyServiceUnreachable": 1}})
