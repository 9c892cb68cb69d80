"""What a push costs that changes one file of many, counted on a real API server, real git and real sops."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from support.e2e.lab import Lab, Repository, Service, until
from support.e2e.scene import METRICS, metrics_page, secret
from support.metrics_pages import samples, total
from support.webhooks.delivery import deliver, webhooks_port
from support.webhooks.requests import SECRET, request

from jiemi.demo.git_server import Asked

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-pushes"
COUNT = 40
INTERVAL = "1h"
"""No test waits for it."""


@attrs.define
class Crowd:
    """Many Decryptors of one repository, a file and a Secret each; and the last of them reaches its file by a link."""

    lab: Lab
    repository: Repository
    krapao: Service
    miwen: Service

    def file(self, number: int, value: str) -> dict[str, bytes | None]:
        return {f"{number % 4}/s{number}.yaml": self.lab.encrypt(json.dumps(secret(f"s{number}", value=value)))}

    def calls(self) -> Counter[str]:
        """How often Miwen called which method of Krapao, and looked at a Decryptor."""
        page, found = metrics_page(self.miwen), Counter[str]()
        for labels, value in samples(page, "jiemi_krapao_calls_total"):
            found[labels["method"]] += int(value)
        found["looks"] = int(sum(value for _, value in samples(page, "jiemi_reconcile_total")))
        return found

    def heads_answered(self) -> float:
        return total(metrics_page(self.miwen), "jiemi_krapao_calls_total", method="head", outcome="ok")

    def push(self, number: int, value: str, *, more: dict[str, bytes | None] | None = None) -> None:
        """Change a file, and wait until it is deployed."""
        self.repository.commit(self.file(number, value) | (more or {}))
        sent = request("github", urls=(self.repository.url, self.repository.url))
        assert deliver(self.miwen, sent, NAMESPACE, "hook") == 202
        until(
            f"s{number} is {value}",
            lambda: self.lab.data(NAMESPACE, f"s{number}") == {"value": value},
            on_failure=self.lab.logs,
        )

    def until_at_rest(self) -> Counter[str]:
        """Until nothing is called any more, which all that came before have led to."""
        last: list[Counter[str]] = []

        def is_at_rest() -> bool:
            last.append(self.calls())
            return len(last) > 5 and len({tuple(sorted(each.items())) for each in last[-5:]}) == 1

        until("all is at rest", is_at_rest)
        return last[-1]


@pytest.fixture(scope="module")
def crowd(lab: Lab) -> Iterator[Crowd]:
    lab.namespace(NAMESPACE)
    repository = lab.repository()
    krapao, address = lab.start_krapao(name="pushes")
    miwen = lab.start_miwen(address, NAMESPACE, "--webhooks-listen", "127.0.0.1:0", *METRICS, interval=INTERVAL)
    crowd = Crowd(lab, repository, krapao, miwen)
    files: dict[str, bytes | None] = {}
    for number in range(COUNT):
        files |= crowd.file(number, "first")
    (repository.clone / "link.yaml").symlink_to("0/s0.yaml")
    repository.commit(files)
    webhook: dict[str, Any] = {"name": "hook", "namespace": NAMESPACE, "labels": {"jiemi.cr/webhook": "github"}}
    hook = {"apiVersion": "v1", "kind": "Secret", "metadata": webhook, "stringData": {"token": SECRET}}
    lab.admin.apply(hook).ok()
    for number in range(COUNT):
        path = f"{number % 4}/s{number}.yaml"
        lab.admin.apply(lab.decryptor(NAMESPACE, f"d{number}", repository.url, file=path)).ok()
    until("webhooks are taken", lambda: webhooks_port(miwen), on_failure=lab.logs)
    revision = repository.run("rev-parse", "HEAD")
    for number in range(COUNT):
        lab.until_synced(NAMESPACE, f"d{number}", revision, seconds=120)
    yield crowd
    lab.end_services()


def test_a_push_that_changes_one_file_wakes_one_of_many(crowd: Crowd) -> None:
    for number in (7, 8, 7):
        before = crowd.until_at_rest()
        crowd.lab.git.forget_hits()
        crowd.push(number, f"pushed-{before['looks']}")
        made = crowd.until_at_rest() - before
        assert made == Counter(head=1, changes=1, files=1, render=1, looks=1)
        asked = Counter(hit.asked for hit in crowd.lab.git.hits)
        assert asked[Asked.FETCH] == 1


def test_a_sops_yaml_wakes_those_below_it_and_a_push_that_is_about_nobody_wakes_nobody(crowd: Crowd) -> None:
    before = crowd.until_at_rest()
    crowd.push(5, "with-rules", more={"1/.sops.yaml": b"creation_rules: []\n"})
    made = crowd.until_at_rest() - before
    assert (made["changes"], made["files"]) == (1, COUNT // 4)
    before = crowd.until_at_rest()
    crowd.push(6, "and-more", more={"README.md": b"of nobody", "other/x.yaml": b"a: b\n"})
    assert (crowd.until_at_rest() - before)["looks"] == 1


def test_what_a_link_leads_to_is_followed(crowd: Crowd) -> None:
    lab = crowd.lab
    target = {"target": {"name": "linked", "key": "file"}}
    decryptor = lab.decryptor(NAMESPACE, "linked", crowd.repository.url, file="link.yaml")
    decryptor["spec"] |= target
    lab.admin.apply(decryptor).ok()
    until("it is deployed", lambda: "first" in lab.data(NAMESPACE, "linked").get("file", ""), on_failure=lab.logs)
    crowd.push(0, "behind-the-link")
    until("it follows", lambda: "behind-the-link" in lab.data(NAMESPACE, "linked")["file"], on_failure=lab.logs)
    lab.delete_decryptor(NAMESPACE, "linked")


def test_a_forced_push_back_is_deployed(crowd: Crowd) -> None:
    crowd.push(9, "will-be-undone")
    crowd.repository.run("push", "--quiet", "--force", "origin", "HEAD~1:main")
    crowd.repository.run("reset", "--quiet", "--hard", "HEAD~1")
    before = crowd.until_at_rest()
    sent = request("github", urls=(crowd.repository.url, crowd.repository.url))
    assert deliver(crowd.miwen, sent, NAMESPACE, "hook") == 202
    until("it is back", lambda: crowd.lab.data(NAMESPACE, "s9") == {"value": "first"}, on_failure=crowd.lab.logs)
    assert (crowd.until_at_rest() - before)["looks"] == 1


def test_a_krapao_that_was_restarted_compares_again(crowd: Crowd) -> None:
    lab = crowd.lab
    crowd.krapao.end(signal.SIGKILL)
    crowd.krapao, _ = lab.start_krapao(name="pushes")
    answered = crowd.heads_answered()
    until("it is asked again", lambda: crowd.heads_answered() > answered, on_failure=lab.logs)
    before = crowd.until_at_rest()
    crowd.push(11, "after-the-restart")
    made = crowd.until_at_rest() - before
    assert (made["changes"], made["looks"]) == (1, 1)
