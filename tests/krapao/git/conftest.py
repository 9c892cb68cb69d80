"""A repository to follow, and a daemon of git that serves one."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from support.krapao.work_tree import Work

from jiemi.demo.git_server import GitServer, git_environment

GIT = shutil.which("git") or "git"


@pytest.fixture
def repository(git_server: GitServer) -> Path:
    git_server.create("r.git")
    return git_server.root / "r.git"


@pytest.fixture
async def git_daemon(tmp_path: Path, work: Work) -> AsyncIterator[tuple[str, Path]]:
    root = tmp_path / "daemon"
    root.mkdir()
    work.git("init", "--quiet", "--bare", "--initial-branch=main", str(root / "r.git"))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    run = [GIT, "-c", "safe.directory=*", "daemon", "--reuseaddr", "--export-all", f"--base-path={root}"]
    run += ["--listen=127.0.0.1", f"--port={port}", str(root)]
    with subprocess.Popen(  # noqa: ASYNC220 - a fork and exec
        run, env=git_environment(GIT, root), stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            with trio.fail_after(10):
                while True:
                    try:
                        (await trio.open_tcp_stream("127.0.0.1", port)).socket.close()
                        break
                    except OSError:
                        await trio.sleep(0.02)
            yield f"git://127.0.0.1:{port}", root
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
