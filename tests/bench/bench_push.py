"""What a push costs that changes one file of a repository which many Decryptors follow.

    just bench-push [DECRYPTORS [PUSHES]]

So many Decryptors, one file with one Secret each, in namespaces and folders of 100, on the embedded control plane; the
repository over http. Each push changes one file, and a signed webhook reports it, as a git host does once the push is
done. It prints the seconds from the webhook until a watch shows the Secret with the new value, and the CPU time of
Miwen and Krapao for each push (children that ended included), beside that of an interval in which nothing happens.
"""

from __future__ import annotations

import base64
import contextlib
import json
import random
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import attrs
import urllib3
from bench.bench_follow import cpu_seconds, peak_mebibytes
from bench.bench_lab import open_lab
from support.e2e.lab import Lab, Repository, Service, until
from support.kubernetes.api_server import ApiServer
from support.processes.samples import children_of, holders_among
from support.webhooks.delivery import deliver, webhooks_port
from support.webhooks.requests import SECRET, request

PER_NAMESPACE = 100
IDLE_SECONDS = 180
"""An interval, in which each Decryptor looks once."""
APART_SECONDS = 1.0
"""From one push to the next. Pushes that come within half a second count as one burst."""

OWN_NAMESPACE = "jiemi"
"""A webhook there is for the Decryptors of all namespaces."""

NAME = "the-name-of-a-secret"
"""Stands in what is encrypted once for many. The files' MACs cover encrypted values only, and a name is none."""


class SecretWatch:
    """When each value of a Secret was seen first, by a watch of all Secrets in a thread."""

    def __init__(self, admin: ApiServer) -> None:
        self._admin = admin
        self._seen: dict[str, float] = {}
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(urllib3.exceptions.HTTPError):  # the API server ends
            for line in self._admin.watch("/api/v1/secrets", seconds=3600):
                now = time.monotonic()
                for value in (json.loads(line)["object"].get("data") or {}).values():
                    with self._news:
                        self._seen.setdefault(base64.b64decode(value).decode("utf-8", "replace"), now)
                        self._news.notify_all()

    def wait_for(self, value: str, seconds: float) -> float:
        """The time, by the monotonic clock, at which the value was seen."""
        with self._news:
            assert self._news.wait_for(lambda: value in self._seen, seconds), f"no Secret has {value}"
            return self._seen[value]


@attrs.frozen
class Bench:
    """What is measured: a repository, those who follow it, and the two services."""

    lab: Lab
    repository: Repository
    count: int
    krapao: Service
    miwen: Service
    watch: SecretWatch

    def spent(self) -> dict[str, float]:
        return {service.name: cpu_seconds(service.process.pid) for service in (self.krapao, self.miwen)}

    def idle(self) -> dict[str, float]:
        """CPU seconds of a second in which nothing happens. What held keys for the deployments has ended before: all of
        its time is counted when it ends."""
        until("no keys are held", lambda: not holders_among(children_of(self.krapao.process.pid)), seconds=120)
        before = self.spent()
        time.sleep(IDLE_SECONDS)
        return {name: (now - before[name]) / IDLE_SECONDS for name, now in self.spent().items()}

    def push(self, number: int, content: bytes, value: str) -> float:
        """Change one file. Returns the seconds from its webhook until the Secret has it."""
        self.repository.commit({path_of(number): content.replace(NAME.encode(), f"s{number}".encode())})
        url = self.repository.url
        began = time.monotonic()
        answer = deliver(self.miwen, request("github", urls=(url, url)), OWN_NAMESPACE, "hook")
        assert answer == 202, answer
        return self.watch.wait_for(value, 60) - began


def namespace_of(number: int) -> str:
    return f"bench-{number // PER_NAMESPACE}"


def path_of(number: int) -> str:
    return f"{namespace_of(number)}/s{number}.yaml"


def encrypted(lab: Lab, value: str) -> bytes:
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME}, "stringData": {"value": value}}
    return lab.encrypt_mac_only(json.dumps(manifest))


def follow(lab: Lab, count: int) -> Bench:
    """Have so many Decryptors follow one repository, all deployed."""
    template = encrypted(lab, "first-value")
    files = {path_of(n): template.replace(NAME.encode(), f"s{n}".encode()) for n in range(count)}
    repository = lab.repository(files)
    for name in {OWN_NAMESPACE, *(namespace_of(n) for n in range(count))}:
        lab.namespace(name)
    krapao, address = lab.start_krapao()
    webhook: dict[str, Any] = {"name": "hook", "namespace": OWN_NAMESPACE, "labels": {"jiemi.cr/webhook": "github"}}
    token = base64.b64encode(SECRET.encode()).decode()
    lab.admin.apply({"apiVersion": "v1", "kind": "Secret", "metadata": webhook, "data": {"token": token}}).ok()
    for n in range(count):
        lab.admin.apply(lab.decryptor(namespace_of(n), f"d{n}", repository.url, file=path_of(n))).ok()
    watch = SecretWatch(lab.admin)
    miwen = lab.start(
        *("miwen", "--krapao", address, "--kubeconfig", lab.kubeconfig, "--webhooks-listen", "127.0.0.1:0"),
        *("--decryptor-memory", "1024"),
    )
    until("webhooks are taken", lambda: webhooks_port(miwen), on_failure=miwen.log_text)
    bench = Bench(lab, repository, count, krapao, miwen, watch)
    until("all are deployed", lambda: _deployed(lab) == count, seconds=60 + count)
    return bench


def _deployed(lab: Lab) -> int:
    time.sleep(3)  # listing them takes the API server a while, too
    return sum(
        "True" in [each["status"] for each in found.get("status", {}).get("conditions", ()) if each["type"] == "Ready"]
        for found in _decryptors(lab)
    )


def _decryptors(lab: Lab) -> Iterator[dict[str, Any]]:
    yield from lab.admin.call("GET", "/apis/jiemi.cr/v1alpha1/decryptors").ok()["items"]


def measure(lab: Lab, count: int, pushes: int) -> None:
    values = [f"pushed-{number}" for number in range(pushes)]
    contents = [encrypted(lab, value) for value in values]
    began = time.monotonic()
    bench = follow(lab, count)
    print(f"{count} Decryptors deployed after {time.monotonic() - began:.0f} s", flush=True)
    idle = bench.idle()
    print("CPU of an idle second: " + ", ".join(f"{name} {value:.4f} s" for name, value in idle.items()), flush=True)
    before, began, took = bench.spent(), time.monotonic(), []
    chosen = random.Random(1)
    for number, (value, content) in enumerate(zip(values, contents, strict=True)):
        time.sleep(max(0.0, began + number * APART_SECONDS - time.monotonic()))
        took.append(bench.push(chosen.randrange(count), content, value))
    time.sleep(2)
    lasted = time.monotonic() - began
    after = bench.spent()
    ordered = sorted(took)
    print(
        f"{pushes} pushes in {lasted:.0f} s, seconds from webhook to Secret: p50 {statistics.median(ordered):.3f}, "
        f"p99 {ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]:.3f}, longest {ordered[-1]:.3f}"
    )
    each = {name: (after[name] - before[name]) / pushes for name in after}
    beyond = {name: each[name] - idle[name] * lasted / pushes for name in each}
    for what, figures in (("with what it costs to be there", each), ("beyond that", beyond)):
        shown = ", ".join(f"{name} {value:.3f} s" for name, value in figures.items())
        print(f"CPU for each push, {what}: {shown}, together {sum(figures.values()):.3f} s")
    for service in (bench.krapao, bench.miwen):
        print(f"peak memory of {service.name}: {peak_mebibytes(service.process.pid):.0f} MiB")


def main() -> None:
    count, pushes = (int(each) for each in [*sys.argv[1:3], *("300", "200")[len(sys.argv) - 1 :]])
    with open_lab() as (lab, _):
        measure(lab, count, pushes)


if __name__ == "__main__":
    main()
