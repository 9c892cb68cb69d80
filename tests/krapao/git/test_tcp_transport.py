"""Clones over git://."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import attrs
import trio
from krapao.git.clone_checks import NOBODY
from krapao.git.following import follow, listing_fails, pin
from support.krapao.work_tree import Work

from jiemi.concurrency.calls import Interrupter, run_blocking
from jiemi.core.urls import parse_url
from jiemi.krapao.git.clones import Clones
from jiemi.krapao.git.meter import Meter
from jiemi.krapao.git.port import Ref
from jiemi.krapao.git.tcp_transport import TcpClient
from jiemi.krapao.settings import KrapaoSettings

GIT = shutil.which("git") or "git"


async def test_a_repository_is_followed_over_git(
    git_daemon: tuple[str, Path], work: Work, settings: KrapaoSettings
) -> None:
    url, root = git_daemon
    await follow(settings, f"{url}/r.git", NOBODY, work, root / "r.git")
    await listing_fails("RepositoryNotFound", settings, f"{url}/gone.git")


async def test_a_commit_is_pinned_over_git(git_daemon: tuple[str, Path], work: Work, settings: KrapaoSettings) -> None:
    url, root = git_daemon
    await pin(settings, f"{url}/r.git", NOBODY, work, root / "r.git")


async def test_what_a_git_host_said_is_read_though_it_closed_while_it_was_written_to(settings: KrapaoSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        location = parse_url(f"git://127.0.0.1:{server.getsockname()[1]}/r.git")

        def talk(interrupter: Interrupter) -> bytes | None:
            with TcpClient.opened(location, NOBODY, settings, Meter(interrupter, 1_000, "")) as client:
                assert isinstance(client, TcpClient)
                proto, _, _ = client._connect(b"upload-pack", b"/r.git")
                host, _ = server.accept()
                host.sendall(b"0013ERR not our ref")
                host.close()  # the command is unread, so this resets the connection
                for _ in range(3):
                    proto.write_pkt_line(b"want")
                line: bytes | None = proto.read_pkt_line()
                return line

        with trio.fail_after(10):
            assert await run_blocking(talk, limiter=trio.CapacityLimiter(1)) == b"ERR not our ref"


async def test_a_silent_git_host_is_left_when_cancelled_or_late(settings: KrapaoSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"git://127.0.0.1:{server.getsockname()[1]}/r.git"
        began = trio.current_time()
        async with Clones(settings).open(parse_url(url), NOBODY) as store:
            with trio.move_on_after(0.2):
                await store.advertised(Ref())
        assert trio.current_time() - began < 2
        await listing_fails("HostUnreachable", attrs.evolve(settings, connect_timeout_seconds=0.2), url)
