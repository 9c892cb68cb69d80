"""What strangers at Krapao's port cost, and what an honest client waits for meanwhile: `just bench-port [NAME…]`.

A Krapao process listens on TCP with TLS, under the memory limit of deploy/. An honest client asks for the head of a URL
that no host can have, ten times a second. Each kind of stranger tries for 15 s, sixteen at a time. Printed are how
often they tried, the honest client's median, 99th percentile and longest wait, the processor time of Krapao's for each
try, and the most memory that it had used by then.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import random
import re
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import attrs
import structlog
import trio
from rpc import hostile_peer
from support.kubernetes.deploy_manifests import shipped_limit_bytes
from support.network.addresses import LOOPBACK_FLAGS
from support.network.tls_folders import HOUR, TestAuthority, TlsPair, now, tls_pair
from support.processes.memory_limits import MemoryGroup, memory_group

from jiemi.cli.tls_identities import identity_of_folder
from jiemi.core.errors import JiemiError
from jiemi.rpc.address import TcpAddress, parse_address
from jiemi.rpc.bridge import open_bridge
from jiemi.rpc.channel import ClientTls
from jiemi.rpc.client import ClientSettings, connect
from jiemi.rpc.source import GitCredentials, Source
from jiemi.rpc.tls_names import KRAPAO_NAME, MIWEN_NAME

_SECONDS = 15.0
_AT_ONCE = 16
_IDLE = 2_000
_MUTATED = 10_000


@attrs.define
class Port:
    """Krapao, and who may come in.

    Attributes:
        waited: seconds of each honest answer since the list was emptied.
    """

    address: TcpAddress
    process: subprocess.Popen[bytes]
    group: MemoryGroup
    pair: TlsPair
    folder: Path
    waited: list[float] = attrs.field(factory=list)

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def context(self, folder: Path | None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.pair.authority.issued.certificate_pem().decode())
        context.maximum_version = version
        if folder is not None:
            context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        return context

    @contextlib.asynccontextmanager
    async def tls(self, context: ssl.SSLContext) -> AsyncIterator[trio.SSLStream[trio.SocketStream]]:
        async with await trio.open_tcp_stream(self.address.host, self.address.port) as plain:
            stream: trio.SSLStream[trio.SocketStream] = trio.SSLStream(plain, context, server_hostname=KRAPAO_NAME)
            await stream.do_handshake()
            yield stream


Try = Callable[[], Awaitable[None]]


def _raw(port: Port, said: bytes) -> Try:
    async def attempt() -> None:
        async with await trio.open_tcp_stream(port.address.host, port.address.port) as stream:
            await stream.send_all(said)
            while await stream.receive_some():
                pass

    return attempt


def _with(port: Port, context: ssl.SSLContext) -> Try:
    async def attempt() -> None:
        async with port.tls(context) as stream:
            await stream.send_all(hostile_peer.bootstrap() + hostile_peer.open_session())
            while await stream.receive_some():
                pass

    return attempt


def _mutated(port: Port, randomness: random.Random) -> Try:
    """A good certificate, and messages of which some bytes are others."""
    context = port.context(port.pair.miwen)
    good = hostile_peer.bootstrap() + hostile_peer.open_session() + hostile_peer.open_repository(2, "probe:")

    async def attempt() -> None:
        data = bytearray(good)
        for _ in range(randomness.randint(1, 12)):
            data[randomness.randrange(len(data))] = randomness.randrange(256)
        async with port.tls(context) as stream:
            await stream.send_all(bytes(data))
            with trio.move_on_after(0.2):
                while await stream.receive_some():
                    pass

    return attempt


def _tries(port: Port) -> dict[str, Try]:
    authority, folder = port.pair.authority, port.folder
    other = TestAuthority().write(folder / "other", MIWEN_NAME)
    named = authority.write(folder / "named", MIWEN_NAME, hosts=("somebody",))
    expired = authority.write(
        folder / "expired", MIWEN_NAME, made_at=now() - 3 * HOUR, lifetime=HOUR + datetime.timedelta(minutes=1)
    )
    return {
        "no certificate": _with(port, port.context(None)),
        "another authority": _with(port, port.context(other)),
        "another name": _with(port, port.context(named)),
        "expired": _with(port, port.context(expired)),
        "TLS 1.2": _with(port, port.context(port.pair.miwen, ssl.TLSVersion.TLSv1_2)),
        "plain bytes": _raw(port, hostile_peer.bootstrap() + hostile_peer.open_session()),
    }


async def _many(attempt: Try, *, count: int | None) -> int:
    """Try again and again, sixteen at a time; returns how often."""
    tried = 0

    async def one() -> None:
        nonlocal tried
        while count is None or tried < count:
            tried += 1
            with contextlib.suppress(trio.BrokenResourceError, OSError), trio.move_on_after(20):
                await attempt()

    with trio.move_on_after(_SECONDS if count is None else 600):
        async with trio.open_nursery() as nursery:
            for _ in range(_AT_ONCE):
                nursery.start_soon(one)
    return tried


async def _idle(port: Port) -> int:
    """Connections that say nothing, two thousand; then nothing happens. Those that Krapao ends are not made again."""
    count = 0
    async with contextlib.AsyncExitStack() as stack:

        async def some() -> None:
            nonlocal count
            while count < _IDLE:
                count += 1
                await stack.enter_async_context(await trio.open_tcp_stream(port.address.host, port.address.port))

        with trio.fail_after(600):
            async with trio.open_nursery() as nursery:
                for _ in range(_AT_ONCE):
                    nursery.start_soon(some)
        await trio.sleep(_SECONDS)
    return count


async def _honest(port: Port) -> None:
    settings = ClientSettings(wait_for_connection_seconds=60, backoff_first_seconds=0.05, backoff_most_seconds=0.2)
    tls = ClientTls(identity_of_folder(port.pair.miwen))
    async with (
        open_bridge() as bridge,
        connect(port.address, bridge=bridge, settings=settings, tls=tls) as krapao,
        krapao.open(Source("probe:"), GitCredentials()) as repository,
    ):
        while True:
            began = time.monotonic()
            try:
                await repository.head(max_age_seconds=0)
            except JiemiError as error:
                if error.failure.reason not in ("InvalidUrl", "SchemeNotAllowed"):
                    raise
            port.waited.append(time.monotonic() - began)
            await trio.sleep(0.1)


async def _measure(port: Port, name: str, attack: Callable[[], Awaitable[int]]) -> None:
    await trio.sleep(1)
    port.waited.clear()
    cpu = port.cpu_seconds()
    tried = await attack()
    cpu = port.cpu_seconds() - cpu
    await trio.sleep(0.5)
    assert port.process.poll() is None
    assert port.group.kills == 0
    waited = sorted(port.waited)
    p99 = waited[min(len(waited) - 1, int(len(waited) * 0.99))]
    each = cpu / tried * 1_000 if tried else 0
    print(
        f"{name:18} {tried:6} {statistics.median(waited) * 1_000:9.1f} {p99 * 1_000:7.1f} {waited[-1] * 1_000:8.1f}"
        f" {each:7.2f} {port.group.peak_bytes // 1024**2:5}",
        flush=True,
    )


async def main(port: Port, chosen: list[str]) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    tries = _tries(port)
    attacks: dict[str, Callable[[], Awaitable[int]]] = {
        name: partial(_many, attempt, count=None) for name, attempt in tries.items()
    }
    attacks["mutated messages"] = partial(_many, _mutated(port, random.Random(1)), count=_MUTATED)
    attacks["idle connections"] = partial(_idle, port)

    async def nothing() -> int:
        await trio.sleep(_SECONDS)
        return 0

    print("stranger            tries median ms  p99 ms  longest  CPU ms   MiB")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_honest, port)
        await _measure(port, "(none)", nothing)
        for name, attack in attacks.items():
            if not chosen or name in chosen:
                await _measure(port, name, attack)
        nursery.cancel_scope.cancel()


def run() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="jiemi-bench-") as name,
        memory_group(shipped_limit_bytes("repository.yaml")) as group,
    ):
        folder = Path(name)
        pair = tls_pair(folder)
        log = folder / "log"
        command = [
            *(sys.executable, "-m", "jiemi", "krapao", "--listen", "tcp:127.0.0.1:0", "--tls-dir", str(pair.krapao)),
            *("--state-dir", str(folder / "state"), "--log-format", "json", *LOOPBACK_FLAGS),
        ]
        with log.open("wb") as output:
            process = group.popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + 30
            while (found := re.search(r'"(tcp:127\.0\.0\.1:\d+)"', log.read_text())) is None:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            address = parse_address(found[1])
            assert isinstance(address, TcpAddress)
            trio.run(main, Port(address, process, group, pair, folder), sys.argv[1:])
            print(f"log: {len(log.read_text().splitlines())} lines")
        finally:
            process.terminate()
            process.wait(30)


if __name__ == "__main__":
    run()
