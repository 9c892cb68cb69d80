"""A flood of unsigned requests at the port for webhooks delays no push and fills no memory.

Ten thousand a second are tried, of which a busy machine makes fewer. The interval is ten minutes, so a push is deployed
only because its webhook was heard.
"""

from __future__ import annotations

import base64
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.e2e.lab import Lab, Repository, until
from support.e2e.scene import METRICS, Scene, metrics_page, secret
from support.metrics_pages import total
from support.processes.samples import memory_bytes
from support.webhooks.delivery import deliver, webhooks_port
from support.webhooks.requests import SECRET, request

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-flood"
SECONDS = 10.0
RATE = 10_000
MIB = 1024 * 1024


def _syncs(
    scene: Scene, repository: Repository, prefix: str, push: Callable[[], object], seconds: float
) -> list[float]:
    """How long pushes took until they were deployed, one after the other, in seconds."""
    took: list[float] = []
    until_at = time.monotonic() + seconds
    while time.monotonic() < until_at:
        value = {"value": f"{prefix}{len(took)}"}
        scene.commit(repository, secret("app", **value))
        began = time.monotonic()
        pushing = threading.Thread(target=push)
        pushing.start()
        until("it is deployed", lambda value=value: scene.data("app") == value)  # type: ignore[misc]
        took.append(time.monotonic() - began)
        pushing.join()
    return took


def test_a_flood_of_unsigned_requests_delays_no_sync_and_fills_no_memory(lab: Lab) -> None:
    lab.namespace(NAMESPACE)
    _, address = lab.start_krapao(name="flood")
    miwen = lab.start_miwen(address, NAMESPACE, "--webhooks-listen", "127.0.0.1:0", *METRICS)
    scene = Scene(lab, NAMESPACE)
    repository, _ = scene.follow("app", secret("app", value="first"), interval="10m")
    metadata = {"name": "hook", "namespace": NAMESPACE, "labels": {"jiemi.cr/webhook": "github"}}
    data = {"token": base64.b64encode(SECRET.encode()).decode()}
    lab.admin.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}).ok()
    until("the webhook is there", lambda: total(metrics_page(miwen), "jiemi_webhooks") == 1)

    heard: list[int | None] = []

    def push() -> None:
        heard.append(deliver(miwen, request("github", urls=(repository.url, repository.url)), NAMESPACE, "hook"))

    quiet = _syncs(scene, repository, "quiet", push, SECONDS)
    before = memory_bytes(miwen.process.pid)
    cpu = _cpu_seconds(miwen.process.pid)
    flood = subprocess.Popen(
        [sys.executable, "-m", "support.webhooks.flood", str(webhooks_port(miwen)), str(SECONDS + 2), str(RATE)],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        time.sleep(1)
        under = _syncs(scene, repository, "flood", push, SECONDS)
    finally:
        said, _ = flood.communicate(timeout=30)
    grown = memory_bytes(miwen.process.pid) - before
    cpu = _cpu_seconds(miwen.process.pid) - cpu
    sys.stderr.write(
        f"\nflood: {said.strip()}; CPU of Miwen {cpu:.1f} s, grown {grown / MIB:.1f} MiB\n"
        f"syncs: quiet {statistics.median(quiet):.2f} s (most {max(quiet):.2f}), "
        f"flooded {statistics.median(under):.2f} s (most {max(under):.2f})\n"
    )
    lab.end_services()
    assert set(heard) == {202}
    assert statistics.median(under) - statistics.median(quiet) <= 0.5
    assert grown < 16 * MIB
    assert tried(said) > RATE, said


def tried(said: str) -> int:
    """How many connections the flood tried."""
    counts = dict(each.split(": ") for each in said.strip().split(", "))
    return int(counts["tried"])


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
