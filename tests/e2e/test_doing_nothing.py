"""What an unchanged cluster costs, counted: a restart of Miwen, an idle minute, a push that is about one of many."""

from __future__ import annotations

import json
import math
import re
import socket
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest
from support.e2e.lab import Lab, Repository, Service, until

from jiemi.demo.git_server import Asked
from jiemi.miwen.watch.reflector import PAGE_LIMIT

pytestmark = pytest.mark.e2e

COUNT = 200

NAMESPACE = "e2e-doing-nothing"

_WRITING = {"POST", "PUT", "PATCH", "APPLY", "DELETE"}
_WRITTEN = {("jiemi.cr", "decryptors"), ("", "secrets"), ("events.k8s.io", "events")}
_READING = {Asked.REFS, Asked.LS_REFS, Asked.FETCH}
_SAMPLE = re.compile(r"(?P<name>\w+)\{(?P<labels>.*)\} (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def _samples(text: str, name: str) -> Iterator[tuple[dict[str, str], float]]:
    for line in text.splitlines():
        found = _SAMPLE.fullmatch(line)
        if found is not None and found["name"] == name:
            yield dict(_LABEL.findall(found["labels"])), float(found["value"])


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def _page(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        text: str = page.read().decode()
        return text


@attrs.frozen
class Counted:
    """Work that was done up to a moment, or between two."""

    decryptions: float
    writes: Counter[tuple[str, str]]
    git_requests: Counter[Asked]

    def __sub__(self, before: Counted) -> Counted:
        return Counted(
            self.decryptions - before.decryptions,
            self.writes - before.writes,
            self.git_requests - before.git_requests,
        )


@attrs.define
class Crowd:
    """Many Decryptors of one repository, a file and a Secret each."""

    lab: Lab
    repository: Repository
    krapao_address: str
    krapao_port: int
    miwen: Service
    miwen_port: int
    cold: Counted

    def git_requests(self) -> Counter[Asked]:
        """What the git host was asked for this repository, pushes left out."""
        path = urllib.parse.urlsplit(self.repository.url).path
        return Counter(hit.asked for hit in self.lab.git.hits if hit.path.startswith(path) and hit.asked in _READING)

    def counted(self) -> Counted:
        return Counted(self.decryptions(), self.writes(), self.git_requests())

    def decryptions(self) -> float:
        return sum(value for _, value in _samples(_page(self.krapao_port), "jiemi_decryptions_total"))

    def writes(self) -> Counter[tuple[str, str]]:
        """Writing requests by verb and resource, as the API server counts them, of what Miwen writes. Controllers of
        the cluster write Events too, of the core API group."""
        counted: Counter[tuple[str, str]] = Counter()
        for labels, value in _samples(self.lab.admin.text("/metrics"), "apiserver_request_total"):
            resource = "/".join(filter(None, (labels["resource"], labels["subresource"])))
            if labels["verb"] in _WRITING and (labels["group"], labels["resource"]) in _WRITTEN:
                counted[labels["verb"], resource] += int(value)
        return counted

    def looks(self) -> float:
        return sum(value for _, value in _samples(_page(self.miwen_port), "jiemi_reconcile_total"))

    def seen(self) -> Counter[str]:
        """How many Decryptors have seen which revision last."""
        return Counter(
            labels["seen"] for labels, _ in _samples(_page(self.miwen_port), "jiemi_decryptor_revision_info")
        )

    def start_miwen(self, interval: str) -> None:
        self.miwen_port = _free_port()
        listen = f"127.0.0.1:{self.miwen_port}"
        self.miwen = self.lab.start_miwen(self.krapao_address, NAMESPACE, "--metrics-listen", listen, interval=interval)

    def statuses(self) -> dict[str, object]:
        items = self.lab.admin.call("GET", f"/apis/jiemi.cr/v1alpha1/namespaces/{NAMESPACE}/decryptors").ok()["items"]
        return {item["metadata"]["name"]: item.get("status") for item in items}


def _secret(number: int, greeting: str) -> str:
    metadata = {"name": f"s{number}"}
    return json.dumps(
        {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"greeting": greeting}}
    )


@pytest.fixture(scope="module")
def crowd(lab: Lab) -> Iterator[Crowd]:
    lab.namespace(NAMESPACE)
    with ThreadPoolExecutor(2) as pool:
        texts = [_secret(number, "one") for number in range(COUNT)]
        files = dict(zip((f"s{number}.yaml" for number in range(COUNT)), pool.map(lab.encrypt, texts), strict=True))
    repository = lab.repository(files)
    lab.secret(NAMESPACE, "age", key=str(lab.identity))
    krapao_port = _free_port()
    _, address = lab.start_krapao("--metrics-listen", f"127.0.0.1:{krapao_port}", name="crowd")
    for number in range(COUNT):
        decryptor = lab.decryptor(
            NAMESPACE,
            f"d{number}",
            repository.url,
            file=f"s{number}.yaml",
            provider={"age": {"privateKey": {"secretName": "age", "key": "key"}}},
        )
        lab.admin.apply(decryptor).ok()
    service, port = lab.start_miwen(address, NAMESPACE, interval="2s"), 0
    nothing = Counted(0, Counter(), Counter())
    crowd = Crowd(lab, repository, address, krapao_port, service, port, nothing)
    lab.git.forget_hits()
    before = crowd.counted()
    revision = repository.run("rev-parse", "HEAD")
    for number in range(COUNT):
        lab.until_synced(NAMESPACE, f"d{number}", revision, seconds=120)
    until("the last Event is there", lambda: (crowd.writes() - before.writes)["POST", "events"] >= COUNT)
    crowd.cold = crowd.counted() - before
    yield crowd
    lab.end_services()


def test_a_cold_start_fetches_once_and_decrypts_and_applies_each_file_once(crowd: Crowd) -> None:
    assert crowd.cold.decryptions == COUNT
    # A status that a deployment begins, so that an end in the middle of it is noticed; and one that it is done.
    expected = {("APPLY", "secrets"): COUNT, ("PATCH", "decryptors/status"): 2 * COUNT, ("POST", "events"): COUNT}
    assert crowd.cold.writes == expected
    assert crowd.cold.git_requests[Asked.FETCH] == 1


def test_a_restart_with_many_unchanged_decryptors_decrypts_applies_and_writes_nothing(crowd: Crowd) -> None:
    time.sleep(3)  # the last Events are on their way
    assert crowd.miwen.end() == 0
    decryptions, writes, statuses = crowd.decryptions(), crowd.writes(), crowd.statuses()
    crowd.start_miwen("2s")
    until("every Decryptor was looked at twice", lambda: _answers(crowd.miwen_port) and crowd.looks() >= 2 * COUNT)
    assert crowd.decryptions() == decryptions
    assert crowd.writes() == writes
    assert crowd.statuses() == statuses
    requests = _requests(crowd)
    # One list each, in pages: the Decryptors, and their Secrets with the one that holds the key.
    assert requests["list", "decryptors"] == math.ceil(COUNT / PAGE_LIMIT)
    assert requests["list", "secrets"] == math.ceil((COUNT + 1) / PAGE_LIMIT)
    writing = {"apply", "patch", "create", "delete", "remove-fields", "set-managed-fields"}
    assert not [verb for verb, _ in requests if verb in writing]


def _requests(crowd: Crowd) -> Counter[tuple[str, str]]:
    counted: Counter[tuple[str, str]] = Counter()
    for labels, value in _samples(_page(crowd.miwen_port), "jiemi_kubernetes_requests_total"):
        counted[labels["verb"], labels["resource"]] += int(value)
    return counted


def _answers(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def test_a_push_that_changes_one_file_of_many_decrypts_one_and_applies_one(crowd: Crowd) -> None:
    counted, before = crowd.counted(), crowd.statuses()
    revision = crowd.repository.commit({"s7.yaml": crowd.lab.encrypt(_secret(7, "two"))})
    crowd.lab.until_synced(NAMESPACE, "d7", revision)
    until("every Decryptor has seen the commit", lambda: crowd.seen() == Counter({revision: COUNT}))
    assert crowd.lab.data(NAMESPACE, "s7") == {"greeting": "two"}
    made = crowd.counted() - counted
    assert made.decryptions == 1
    assert made.writes["APPLY", "secrets"] == 1
    assert made.writes["PATCH", "decryptors/status"] == 2
    assert made.git_requests[Asked.FETCH] == 1
    others = {name: status for name, status in crowd.statuses().items() if name != "d7"}
    assert others == {name: status for name, status in before.items() if name != "d7"}


def test_a_commit_that_is_about_none_of_them_writes_nothing(crowd: Crowd) -> None:
    counted = crowd.counted()
    revision = crowd.repository.commit({"README.md": b"nothing of theirs"})
    until("every Decryptor has seen the commit", lambda: crowd.seen() == Counter({revision: COUNT}))
    made = crowd.counted() - counted
    assert (made.decryptions, made.writes) == (0, Counter())
    assert made.git_requests[Asked.FETCH] == 1


def test_an_idle_interval_decrypts_writes_and_fetches_nothing(crowd: Crowd) -> None:
    counted, looks = crowd.counted(), crowd.looks()
    until("every Decryptor was looked at three times more", lambda: crowd.looks() >= looks + 3 * COUNT)
    made = crowd.counted() - counted
    assert (made.decryptions, made.writes, made.git_requests[Asked.FETCH]) == (0, Counter(), 0)
    # One listing serves all Decryptors that look at about the same time.
    assert 0 < made.git_requests[Asked.LS_REFS] < COUNT
