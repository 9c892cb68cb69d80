"""The demo's git server: fetch and push with the real git, faults, and its end."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import trio
from support.processes.threads import own_threads

from jiemi.core.sensitive import SensitiveText
from jiemi.demo.git_server import Asked, Fault, git_environment, serve_git

GIT = shutil.which("git") or "git"


async def git(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    env = git_environment(GIT, cwd)
    for who in ("AUTHOR", "COMMITTER"):
        env |= {f"GIT_{who}_NAME": "a", f"GIT_{who}_EMAIL": "a@example.com"}
    return await trio.run_process(
        [GIT, *arguments], cwd=cwd, env=env, check=False, capture_stdout=True, capture_stderr=True
    )


async def test_git_itself_can_push_and_clone_and_each_request_is_kept_with_what_it_asks(tmp_path: Path) -> None:
    root, work = tmp_path / "root", tmp_path / "work"
    root.mkdir()
    work.mkdir()
    before = own_threads()
    async with serve_git(root) as server:
        url = server.create("a.git")
        (work / "f").write_bytes(b"x" * 3_000_000)
        for arguments in (
            ("init", "--quiet", "--initial-branch=main"),
            ("add", "f"),
            ("commit", "--quiet", "-m", "x"),
            ("-c", "core.compression=0", "push", "--quiet", url, "main"),  # large, so that git sends it in chunks
        ):
            done = await git(work, *arguments)
            assert done.returncode == 0, done.stderr
        assert server.count(Asked.PUSH) >= 1
        server.forget_hits()
        done = await git(tmp_path, "clone", "--quiet", "--depth=1", url, "clone")
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "clone" / "f").stat().st_size == 3_000_000
        assert [hit.asked for hit in server.hits] == [Asked.REFS, Asked.LS_REFS, Asked.FETCH]
        assert {hit.service for hit in server.hits} == {"git-upload-pack"}
        assert {hit.status for hit in server.hits} == {200}
        assert (await git(tmp_path, "ls-remote", server.url_of("gone.git"))).returncode != 0
        assert (await git(tmp_path, "ls-remote", server.url + "/../work")).returncode != 0
    assert own_threads() - before == set()


async def test_credentials_are_asked_for_and_faults_stand_in_for_answers(tmp_path: Path) -> None:
    async with serve_git(tmp_path, username="ann", token=SensitiveText("t0ken")) as server:
        url = server.create("a.git")
        assert (await git(tmp_path, "ls-remote", url)).returncode != 0
        assert {hit.status for hit in server.hits} == {401}
        with_token = url.replace("://", "://ann:t0ken@")
        assert (await git(tmp_path, "ls-remote", with_token)).returncode == 0
        assert "t0ken" not in repr(server)
        server.fault = Fault(status=500)
        assert b"500" in (await git(tmp_path, "ls-remote", with_token)).stderr


@pytest.mark.parametrize("hang", [True, False])
async def test_leaving_ends_connections_that_are_open(tmp_path: Path, hang: bool) -> None:
    before = own_threads()
    with trio.fail_after(10):
        async with serve_git(tmp_path) as server:
            server.create("a.git")
            reached = trio.Event()
            token = trio.lowlevel.current_trio_token()
            if hang:
                server.fault = Fault(hang=True)
                server.on_asked = lambda _: token.run_sync_soon(reached.set)
            else:  # half a request: nothing shows when it is there, and leaving must work at any moment
                reached.set()
            stream = await trio.open_tcp_stream("127.0.0.1", int(server.url.rpartition(":")[2]))
            await stream.send_all(
                b"GET /a.git/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: h\r\n\r\n" if hang else b"GET "
            )
            await reached.wait()
        await stream.aclose()
    assert own_threads() - before == set()
