"""Krapao as a process, with the real git and sops, and Miwen over a cluster in memory: one trace, and logs with its id.

tests/e2e/test_traces.py has the same with a real cluster, and both as processes.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import structlog
import trio
from fakes.kubernetes import FakeCluster, FakeKubernetes
from pyrage import x25519
from support.canaries.forms import forms_of, found_in
from support.e2e.lab import git_server
from support.krapao.work_tree import Work
from support.network.addresses import LOOPBACK_FLAGS
from support.traces.collector import Collector, Seen, collector, is_whole, paths

from jiemi.cli.programs import find_sops
from jiemi.demo.git_server import GitServer
from jiemi.miwen.report.metrics import MiwenMetrics
from jiemi.miwen.service import MiwenPorts, MiwenSettings, run_miwen
from jiemi.otlp.endpoint import read_endpoint
from jiemi.otlp.exporter import Exporter
from jiemi.rpc.address import UnixAddress
from jiemi.rpc.bridge import open_bridge
from jiemi.rpc.client import ClientSettings, connect
from jiemi.tracing.current import add_trace
from jiemi.tracing.spans import Tracer

pytestmark = pytest.mark.e2e

PLAIN = "canary-plaintext-both-77d0"
CALL = "miwen:tick miwen:decrypt miwen:render miwen:krapao.render krapao:krapao.render"


@attrs.define
class Stage:
    """What a test works with."""

    cluster: FakeCluster
    work: Work
    bare: Path
    url: str
    identity: x25519.Identity
    collector: Collector
    krapao_log: Path
    lines: list[Any]
    exporter: Exporter

    def encrypted(self, **values: str) -> bytes:
        manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "demo"}, "stringData": values}
        sops = find_sops(None)
        assert sops is not None, "`jiemi tools sops` gets one"
        flags = ("--age", str(self.identity.to_public()), "--input-type", "yaml", "--output-type", "yaml")
        return subprocess.run(
            [str(sops), "encrypt", *flags, "--filename-override", "secret.enc.yaml"],
            input=json.dumps(manifest).encode(),
            check=True,
            capture_output=True,
        ).stdout

    def push(self, content: bytes) -> str:
        revision = self.work.commit({"secret.enc.yaml": content})
        self.work.push(self.bare)
        return revision

    def follow(self) -> None:
        source = {"repository": {"url": self.url}, "fileToDecrypt": "secret.enc.yaml"}
        spec = {"provider": {"age": {"privateKey": {"literal": str(self.identity)}}}, "source": source}
        metadata = {"name": "demo", "namespace": "default"}
        self.cluster.put({"apiVersion": "jiemi.cr/v1alpha1", "kind": "Decryptor", "metadata": metadata, "spec": spec})

    async def trace_of(self, **attributes: object) -> list[Seen]:
        """The spans of the first tick with these attributes, once those of both services have come."""
        with trio.fail_after(40):
            while True:
                for spans in self.collector.traces().values():
                    ticks = [each for each in spans if each.name == "tick"]
                    if is_whole(spans) and any(attributes.items() <= each.attributes.items() for each in ticks):
                        return spans
                await trio.sleep(0.05)

    def krapao_lines(self, trace_id: str) -> list[Any]:
        found = [json.loads(line) for line in self.krapao_log.read_text().splitlines()]
        return [line for line in found if line.get("trace_id") == trace_id]


@pytest.fixture
def git() -> Iterator[tuple[GitServer, Path]]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name, git_server(Path(name)) as server:
        yield server, Path(name)


@contextlib.asynccontextmanager
async def stage(git: tuple[GitServer, Path]) -> AsyncIterator[Stage]:
    server, folder = git
    url, cluster, socket, log = server.create("app.git"), FakeCluster(), folder / "k.sock", folder / "krapao.log"
    with collector() as it, log.open("wb") as output:
        arguments = ["krapao", "--listen", f"unix:{socket}", "--state-dir", folder / "state", "--runtime-dir", folder]
        arguments += ["--sops", find_sops(None), "--log-level", "debug", "--traces-endpoint", it.url, *LOOPBACK_FLAGS]
        command = [sys.executable, "-m", "jiemi", *map(str, arguments)]
        process = subprocess.Popen(command, stderr=output)  # noqa: ASYNC220 - it starts in a moment
        exporter = Exporter(read_endpoint(it.url), {"service.name": "jiemi-miwen"})
        try:
            with trio.fail_after(40):
                while not socket.exists():  # noqa: ASYNC110 - of another process's doing
                    await trio.sleep(0.05)
            with structlog.testing.capture_logs(processors=[add_trace]) as lines:
                async with (
                    exporter.running(),
                    open_bridge() as bridge,
                    connect(UnixAddress(str(socket)), bridge=bridge, settings=ClientSettings()) as client,
                    trio.open_nursery() as nursery,
                ):
                    tracer = Tracer(exporter.ended)
                    ports = MiwenPorts(FakeKubernetes(cluster), client, _now, lambda: 0.5, MiwenMetrics(), tracer)
                    nursery.start_soon(run_miwen, ports, MiwenSettings(interval_seconds=0.5))
                    work = Work(folder / "work")
                    bare = folder / "git" / "app.git"
                    yield Stage(cluster, work, bare, url, x25519.Identity.generate(), it, log, lines, exporter)
                    nursery.cancel_scope.cancel()
        finally:
            process.terminate()
            assert process.wait(15) == 0


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


async def test_a_push_is_one_trace_and_the_lines_of_both_have_its_id_and_nothing_holds_a_secret(
    git: tuple[GitServer, Path],
) -> None:
    async with stage(git) as it:
        it.push(it.encrypted(value="one"))
        it.follow()
        await it.trace_of(**{"jiemi.woken_by": "start"})
        second = it.push(it.encrypted(value=PLAIN))
        spans = await it.trace_of(**{"jiemi.woken_by": "interval", "jiemi.revision": second})
        lines = list(it.lines)
    assert {
        "miwen:tick",
        "miwen:tick miwen:head miwen:krapao.head krapao:krapao.head krapao:listing",
        "miwen:tick miwen:files miwen:krapao.files krapao:krapao.files krapao:fetch",
        f"{CALL} krapao:read",
        f"{CALL} krapao:decrypt krapao:sops",
        f"{CALL} krapao:decrypt krapao:key_request",
        "miwen:tick miwen:apply miwen:apply.object",
        "miwen:tick miwen:status",
    } <= paths(spans)
    assert not [each for each in spans if each.reason]
    [tick] = [each for each in spans if not each.parent]
    assert tick.links == ()
    ours = {line["event"] for line in lines if line.get("trace_id") == tick.trace_id}
    assert {"tick_began", "files_compared", "call_ended", "object_applied", "in_sync", "status_written"} <= ours
    theirs = {line["event"] for line in it.krapao_lines(tick.trace_id)}
    assert {"listed", "moved", "fetch", "files", "key_request", "decrypted", "render"} <= theirs
    told = {f"request {number}": body for number, body in enumerate(it.collector.bodies)}
    told |= {"krapao": it.krapao_log.read_bytes(), "miwen": repr(lines).encode()}
    assert found_in(told, forms_of(PLAIN, str(it.identity))) == []


async def test_the_spans_of_both_have_the_reason_of_a_failure(git: tuple[GitServer, Path]) -> None:
    async with stage(git) as it:
        it.push(it.encrypted(value=PLAIN).replace(b"data:", b"data:A", 1))
        it.follow()
        spans = await it.trace_of(**{"jiemi.reason": "MacMismatch"})
        lines = list(it.lines)
    failed = {f"{each.service}:{each.name}": each.reason for each in spans if each.reason}
    assert failed == dict.fromkeys(
        (
            "jiemi-miwen:tick",
            "jiemi-miwen:render",
            "jiemi-miwen:krapao.render",
            "jiemi-krapao:krapao.render",
            "jiemi-krapao:decrypt",
        ),
        "MacMismatch",
    )
    [tick] = [each for each in spans if not each.parent]
    [line] = [line for line in it.krapao_lines(tick.trace_id) if line["event"] == "render_failed"]
    assert line["reason"] == "MacMismatch"
    assert [line["reason"] for line in lines if line["event"] == "not_in_sync"] == ["MacMismatch"]
