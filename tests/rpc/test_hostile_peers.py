"""Hostile peers at the port of a real `jiemi krapao` under the memory limit of deploy/, beside an honest one.

The process must live, an honest client must be served all the time, and each hostile connection must end as its row
says. What it costs at most is far below the limit: the rest is for decryptions and fetches.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio
from rpc import hostile_peer
from rpc.port_attacks import ATTACKS, MEBIBYTE, Attack, End, Scene, table
from support.kubernetes.deploy_manifests import shipped_limit_bytes
from support.network.addresses import LOOPBACK_FLAGS
from support.processes.memory_limits import MemoryGroup, memory_group

from jiemi.core.api.doc_tables import with_tables
from jiemi.rpc.address import UnixAddress
from jiemi.rpc.bridge import open_bridge
from jiemi.rpc.client import ClientSettings, connect
from jiemi.rpc.framing import FrameReader, Kind, read_head
from jiemi.rpc.source import GitCredentials, Source

ROOT = Path(__file__).parents[2]

MAX_PEAK_BYTES = 1_400 * MEBIBYTE
"""Python's own 80 MiB, the 896 MiB that peers may have charged, and what their messages take while they are read."""

HONEST_CPU_SECONDS = 5.0
"""The most processor time of Krapao's in which an honest question may go unanswered. In its own time, and not the
clock's, because that says the same on a machine that others use too."""

ENDED_SECONDS = 180.0


@attrs.define
class Victim:
    """Krapao, and the honest client beside it.

    Attributes:
        path: of its socket.
        silent: URL of a repository on a host that says nothing.
        asked: how often the honest client asked.
        slowest_seconds, slowest_cpu_seconds: the longest that it waited since these were set to 0, by the clock and in
            processor time of Krapao's.
        failures: what it was told instead of an answer.
    """

    path: str
    silent: str
    group: MemoryGroup
    process: subprocess.Popen[bytes]
    log: Path
    asked: int = 0
    slowest_seconds: float = 0
    slowest_cpu_seconds: float = 0
    failures: list[str] = attrs.field(factory=list)


@pytest.fixture(scope="module")
def victim() -> Iterator[Victim]:
    with (
        tempfile.TemporaryDirectory(prefix="jiemi-port-", dir="/dev/shm") as name,
        memory_group(shipped_limit_bytes("repository.yaml")) as group,
        socket.create_server(("127.0.0.1", 0), backlog=1_000) as silent,
    ):
        folder = Path(name)
        path, log = folder / "krapao.sock", folder / "log"
        arguments = (
            "--listen",
            f"unix:{path}",
            "--state-dir",
            folder / "state",
            "--runtime-dir",
            folder,
            *LOOPBACK_FLAGS,
        )
        with log.open("wb") as output:
            process = group.popen(
                [sys.executable, "-m", "jiemi", "krapao", *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(os.environ),
            )
        try:
            deadline = time.monotonic() + 30
            while not path.exists():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            url = f"git://127.0.0.1:{silent.getsockname()[1]}/x.git"
            found = Victim(str(path), url, group, process, log)
            with _honest_client(found):
                yield found
        finally:
            process.terminate()
            try:
                process.wait(30)
            finally:
                process.kill()
                process.wait()


@contextlib.contextmanager
def _honest_client(victim: Victim) -> Iterator[None]:
    """Asks for an answer ten times a second, in a thread with a trio of its own."""
    scopes: list[tuple[trio.CancelScope, trio.lowlevel.TrioToken]] = []

    async def ask() -> None:
        settings = ClientSettings(wait_for_connection_seconds=60, head_timeout_seconds=ENDED_SECONDS)
        with trio.CancelScope() as scope:
            scopes.append((scope, trio.lowlevel.current_trio_token()))
            async with (
                open_bridge() as bridge,
                connect(UnixAddress(victim.path), bridge=bridge, settings=settings) as krapao,
                krapao.open(Source("probe:"), GitCredentials()) as repository,
            ):
                while True:
                    began, cpu_began = time.monotonic(), _cpu_seconds(victim.process.pid)
                    try:
                        await repository.head(max_age_seconds=0)
                    except Exception as error:  # noqa: BLE001 - told by the test
                        if "InvalidUrl" not in str(error) and "SchemeNotAllowed" not in str(error):
                            victim.failures.append(str(error))
                    victim.asked += 1
                    victim.slowest_seconds = max(victim.slowest_seconds, time.monotonic() - began)
                    cpu_seconds = _cpu_seconds(victim.process.pid) - cpu_began
                    victim.slowest_cpu_seconds = max(victim.slowest_cpu_seconds, cpu_seconds)
                    await trio.sleep(0.1)

    thread = threading.Thread(target=trio.run, args=(ask,))
    thread.start()
    try:
        yield
    finally:
        for scope, token in scopes:
            token.run_sync_soon(scope.cancel)
        thread.join()


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Speaker:
    """A connection, what it was answered, and whether it was closed."""

    def __init__(self, path: str, *, reads: bool = True) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._socket.settimeout(ENDED_SECONDS)
        self._answered = 0
        self._changed = threading.Condition()
        self.closed = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        if reads:
            self._reader.start()

    def _read(self) -> None:
        frames = FrameReader(2**40)
        with contextlib.suppress(OSError):
            while data := self._socket.recv(MEBIBYTE):
                heads = [read_head(frame) for frame in frames.feed(data)]
                with self._changed:
                    self._answered += sum(head.kind is Kind.RETURN for head in heads)
                    self._changed.notify_all()
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def say(self, data: bytes) -> bool:
        """Whether it could be said."""
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return not self.closed

    def until_answered(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.closed or self._answered >= count, ENDED_SECONDS)

    def until_closed(self, seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.closed, seconds)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._reader.ident is not None:
            self._reader.join(ENDED_SECONDS)
        self._socket.close()


def _assert_well(victim: Victim, asked_before: int) -> None:
    deadline = time.monotonic() + ENDED_SECONDS
    while victim.asked < asked_before + 2:
        assert time.monotonic() < deadline, "the honest client is not served any more"
        time.sleep(0.05)
    assert victim.process.poll() is None, victim.log.read_text()[-3_000:]
    assert victim.group.kills == 0
    assert victim.failures == []
    assert victim.slowest_cpu_seconds < HONEST_CPU_SECONDS
    assert victim.group.peak_bytes < MAX_PEAK_BYTES


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda each: each.name)
def test_krapao_lives_and_serves_others_whatever_a_peer_does(victim: Victim, attack: Attack) -> None:
    victim.slowest_seconds = victim.slowest_cpu_seconds = 0
    asked = victim.asked
    speaker = Speaker(victim.path, reads=attack.reads)
    try:
        said_all = speaker.say(hostile_peer.bootstrap() + hostile_peer.open_session())
        for piece in attack.says(Scene(victim.silent, speaker.until_answered)):
            said_all = said_all and speaker.say(piece)
            if not said_all:
                break
        if attack.end is End.CLOSED:
            assert not said_all or speaker.until_closed(ENDED_SECONDS)
        else:
            assert said_all
            assert not speaker.until_closed(1)
        _assert_well(victim, victim.asked)
    finally:
        speaker.close()
    sys.stdout.write(
        f"{attack.name}: honest {victim.slowest_seconds:.2f} s at most, {victim.slowest_cpu_seconds:.2f} s of CPU "
        f"({victim.asked - asked} asked); peak {victim.group.peak_bytes // MEBIBYTE} MiB\n"
    )


def test_connections_that_come_and_go_thousands_of_times_leave_nothing_behind(victim: Victim) -> None:
    victim.slowest_seconds = victim.slowest_cpu_seconds = 0
    before = _files_of(victim)
    for number in range(10_000):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(victim.path)
            if number % 2:
                sock.sendall(hostile_peer.bootstrap() + hostile_peer.open_session()[: number % 100])
    _assert_well(victim, victim.asked)
    deadline = time.monotonic() + ENDED_SECONDS
    while _files_of(victim) > before + 2:
        assert time.monotonic() < deadline, "connections that are gone stay open"
        time.sleep(0.1)


def _files_of(victim: Victim) -> int:
    return sum(1 for _ in Path(f"/proc/{victim.process.pid}/fd").iterdir())


def test_sixty_four_idle_sessions_keep_nobody_out(victim: Victim) -> None:
    """The honest client has its connection; a new one, like the probe's, gets one too."""
    speakers = [Speaker(victim.path) for _ in range(64)]
    try:
        for speaker in speakers:
            speaker.say(hostile_peer.bootstrap() + hostile_peer.open_session())
        probe = subprocess.run(
            [sys.executable, "-m", "jiemi", "probe", "krapao", "--address", f"unix:{victim.path}", "--timeout", "60s"],
            capture_output=True,
            check=False,
        )
        assert probe.returncode == 0, probe.stderr
        _assert_well(victim, victim.asked)
    finally:
        for speaker in speakers:
            speaker.close()


def test_the_log_says_what_was_done_and_is_not_filled_by_it(victim: Victim) -> None:
    """Runs after the attacks above, on their log."""
    lines = victim.log.read_text().splitlines()
    assert any("connection_closed" in line for line in lines)
    told = Counter(json.loads(line)["event"] for line in lines)
    assert max(told.values()) < 100, told


def test_the_document_shows_every_row() -> None:
    document = ROOT / "docs" / "operations.md"
    text = document.read_text()
    assert with_tables(text, {"port": table()}) == text, "write it again: `just docs`"
