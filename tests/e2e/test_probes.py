"""What the kubelet's probes see of real services, and what SIGTERM does to work that is in flight."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import attrs
import pytest
from ruamel.yaml import YAML
from support.e2e.lab import Lab, Service, git_server, until
from support.e2e.scene import METRICS, Scene, secret
from support.e2e.timeline import page_of, port_of
from support.metrics_pages import total

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-probes"
GRACE_SECONDS = 10
"""A third of what deploy/ gives them."""
MANY = 400


@pytest.fixture
def scene(lab: Lab) -> Iterator[Scene]:
    lab.namespace(NAMESPACE)
    yield Scene(lab, NAMESPACE)
    path = f"/apis/jiemi.cr/v1alpha1/namespaces/{NAMESPACE}/decryptors"
    for item in lab.admin.call("GET", path).ok()["items"]:
        lab.admin.call("DELETE", f"{path}/{item['metadata']['name']}").ok()
    lab.end_services()


def probe(service: Service, path: str, *, seconds: float = 5) -> int | None:
    """The status of the answer; None where there is none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port_of(service)}{path}", timeout=seconds) as page:
            status: int = page.status
            return status
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, urllib.error.URLError):
        return None


@attrs.define
class Readiness:
    """The answers of /readyz, asked all the time."""

    answers: list[int | None] = attrs.field(factory=list)

    @property
    def in_turn(self) -> list[int | None]:
        """Each answer once for as long as it stays the same."""
        return [answer for answer, _ in groupby(self.answers)]


@contextmanager
def watched(service: Service) -> Iterator[Readiness]:
    seen, over = Readiness(), threading.Event()

    def look() -> None:
        while not over.is_set():
            seen.answers.append(probe(service, "/readyz"))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        until("it is asked", lambda: len(seen.answers) > 5)
        yield seen
    finally:
        over.set()
        thread.join()


@contextmanager
def silent_host() -> Iterator[str]:
    """A port that takes connections, and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def children_of(pid: int) -> set[int]:
    """All processes below one."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
    found, more = set[int](), {pid}
    while more := {child for child, parent in parents.items() if parent in more}:
        found |= more
    return found


def ended(service: Service) -> float:
    """Send SIGTERM; returns how long it took to end, and requires that it ended well."""
    began = time.monotonic()
    assert service.end(signal.SIGTERM) == 0, service.log_text()[-2_000:]
    return time.monotonic() - began


def test_krapao_that_is_asked_to_end_is_first_no_longer_ready_and_abandons_what_is_in_flight(scene: Scene) -> None:
    krapao, address = scene.lab.start_krapao(*METRICS, name="probes")
    scene.lab.start_miwen(address, NAMESPACE, *METRICS)
    repository, _ = scene.follow("app", secret("probes-app", a="one"))
    with silent_host() as host:
        scene.put("hanging", f"{host}/r.git")
        until("it is being listed", lambda: total(page_of(krapao) or "", "jiemi_slots_used", slots="listings") == 1)
        holders = children_of(krapao.process.pid)
        assert holders, "a process holds the key"
        with watched(krapao) as readiness:
            took = ended(krapao)
            time.sleep(0.1)
        assert took < GRACE_SECONDS
        assert readiness.in_turn in ([200, 503, None], [200, None]), "once it is not ready it is so no more"
        assert not {pid for pid in holders if Path(f"/proc/{pid}").exists()}
    # And nothing is lost: another one goes on.
    scene.lab.start_krapao(*METRICS, name="probes")
    scene.until_settled("app", scene.commit(repository, secret("probes-app", a="two")))
    assert scene.data("probes-app") == {"a": "two"}


def test_miwen_that_is_asked_to_end_in_the_middle_of_an_apply_ends_soon_and_another_one_goes_on(scene: Scene) -> None:
    _, address = scene.lab.start_krapao(*METRICS, name="probes")
    miwen = scene.lab.start_miwen(address, NAMESPACE, *METRICS)
    objects = (
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"many-{number}"}, "data": {"a": "one"}}
        for number in range(MANY)
    )
    repository = scene.lab.repository({"many.yaml": "\n---\n".join(map(json.dumps, objects)).encode()})
    manifest = scene.decryptor("many", repository.url)
    del manifest["spec"]["source"]["fileToDecrypt"]
    manifest["spec"]["source"]["files"] = ["*.yaml"]
    scene.lab.admin.apply(manifest).ok()

    def there() -> int:
        items = scene.lab.admin.call("GET", f"/api/v1/namespaces/{NAMESPACE}/configmaps").ok()["items"]
        return sum(item["metadata"]["name"].startswith("many-") for item in items)

    until("it applies", lambda: there() > 20)
    with watched(miwen) as readiness:
        took = ended(miwen)
        time.sleep(0.1)
    assert took < GRACE_SECONDS
    assert readiness.in_turn in ([200, 503, None], [200, None])
    assert there() < MANY, "it was in the middle"
    scene.lab.start_miwen(address, NAMESPACE, *METRICS)
    status = scene.until_settled("many", repository.run("rev-parse", "HEAD"))
    assert there() == len(status["inventory"]) == MANY


def test_a_git_host_that_is_down_or_silent_fails_no_probe(scene: Scene, tmp_path: Path) -> None:
    krapao, address = scene.lab.start_krapao(*METRICS, name="probes")
    miwen = scene.lab.start_miwen(address, NAMESPACE, *METRICS)
    with git_server(tmp_path) as gone:
        scene.put("gone", gone.create("gone.git"))
        scene.lab.until_reason(NAMESPACE, "gone", "RefNotFound")
    scene.lab.until_reason(NAMESPACE, "gone", "HostUnreachable")
    with silent_host() as host:
        scene.put("silent", f"{host}/r.git")
        until("it is being listed", lambda: total(page_of(krapao) or "", "jiemi_slots_used", slots="listings") == 1)
        for service in (krapao, miwen):
            assert (probe(service, "/healthz"), probe(service, "/readyz")) == (200, 200)


def test_a_miwen_that_does_not_reach_the_api_server_lives_and_is_not_ready(scene: Scene, tmp_path: Path) -> None:
    config = YAML(typ="safe").load(scene.lab.kubeconfig.read_text())
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{closed}"
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(config))
    _, address = scene.lab.start_krapao(*METRICS, name="probes")
    miwen = scene.lab.start_miwen(address, NAMESPACE, *METRICS, kubeconfig=kubeconfig)
    until("it has tried", lambda: '"watch_interrupted"' in miwen.log_text(), on_failure=miwen.log_text)
    assert (probe(miwen, "/healthz"), probe(miwen, "/readyz")) == (200, 503)
    assert total(page_of(miwen) or "", "jiemi_watch_open", resource="decryptors") == 0
    assert ended(miwen) < GRACE_SECONDS


def test_a_process_that_stands_still_answers_no_probe_until_it_goes_on(scene: Scene) -> None:
    krapao, _ = scene.lab.start_krapao(*METRICS, name="probes")
    until("it is ready", lambda: probe(krapao, "/readyz") == 200)
    krapao.process.send_signal(signal.SIGSTOP)
    try:
        assert probe(krapao, "/healthz", seconds=0.5) is None
    finally:
        krapao.process.send_signal(signal.SIGCONT)
    assert probe(krapao, "/healthz") == 200
