"""Two real Krapaos: each repository is one's, and the other one serves it as soon as that is killed."""

from __future__ import annotations

import json
import signal
import socket
import urllib.request

import pytest
from support.e2e.lab import Lab, Repository, until
from support.metrics_pages import samples

from jiemi.core.rendezvous import ranking
from jiemi.rpc.krapaos import key_of
from jiemi.rpc.source import Source

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-several-krapaos"
REPOSITORIES = 6


def _secret(name: str, value: str) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"k": value}})


def test_a_killed_krapao_s_repositories_are_served_by_the_other_until_it_is_back(lab: Lab) -> None:
    lab.namespace(NAMESPACE)
    _, first = lab.start_krapao(name="first")
    krapao, second = lab.start_krapao(name="second")
    port = _free_port()
    miwen = lab.start_miwen(
        first, NAMESPACE, "--krapao", second, "--metrics-listen", f"127.0.0.1:{port}", interval="2s"
    )

    def shares(of: str = "jiemi_krapao_repositories") -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return {labels["krapao"]: value for labels, value in samples(answer.read().decode(), of)}

    # The git server's port is another each time, and so is who comes first in the ranking of each repository.
    repositories: dict[str, Repository] = {}
    for wanted in [first, second] * (REPOSITORIES // 2):
        repository = lab.repository()
        while ranking(key_of(Source(repository.url)), [first, second])[0] != wanted:
            repository = lab.repository()
        repositories[f"r{len(repositories)}"] = repository

    def push(value: str) -> None:
        revisions = {
            name: repository.commit({"secret.enc.yaml": lab.encrypt(_secret(name, value))})
            for name, repository in repositories.items()
        }
        if value == "one":
            for name, repository in repositories.items():
                lab.admin.apply(lab.decryptor(NAMESPACE, name, repository.url)).ok()
        for name, revision in revisions.items():
            lab.until_synced(NAMESPACE, name, revision)
            assert lab.data(NAMESPACE, name) == {"k": value}

    push("one")
    spread = shares()
    assert spread == {first: REPOSITORIES / 2, second: REPOSITORIES / 2}

    krapao.end(signal.SIGKILL)
    push("two")
    assert shares() == {first: REPOSITORIES, second: 0}
    assert shares("jiemi_krapao_lost") == {first: 0, second: 1}

    lab.start_krapao(name="second")
    until("each has its own again", lambda: shares() == spread)
    push("three")
    assert shares() == spread

    logged = miwen.log_text()
    assert logged.count("krapao_lost") == logged.count("krapao_is_back") == 1
    assert str(lab.identity) not in lab.logs()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port
