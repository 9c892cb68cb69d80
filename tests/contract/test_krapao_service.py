"""The real service keeps the contract: real git over http, real sops, by itself and behind Cap'n Proto."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pyrage
import pytest
import trio
from contract.krapao_contract import Contents, KrapaoContract
from support.network.addresses import LOOPBACK

from jiemi.core.sensitive import SensitiveText
from jiemi.demo.git_server import git_environment, serve_git
from jiemi.krapao.service import open_service
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.address import UnixAddress
from jiemi.rpc.bridge import open_bridge
from jiemi.rpc.client import connect
from jiemi.rpc.contract import Krapao
from jiemi.rpc.keys import AgeKey, DecryptionKey
from jiemi.rpc.server import serve
from jiemi.rpc.source import GitCredentials

GIT = shutil.which("git") or "git"


class _World:
    """A git server with one private repository, and a work tree that pushes to it."""

    sops_path = ".sops.yaml"
    credentials = GitCredentials(username=SensitiveText("ann"), token=SensitiveText("token"))

    def __init__(self, work: Path, bare: Path, url: str, missing_url: str, sops: Path) -> None:
        self.krapao: Krapao
        self.url = url
        self.missing_url = missing_url
        self._work = work
        self._bare = bare
        self._sops = sops
        right, wrong = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
        self._recipient = str(right.to_public())
        self.keys: tuple[DecryptionKey, ...] = (AgeKey(SensitiveText(str(right))),)
        self.wrong_keys: tuple[DecryptionKey, ...] = (AgeKey(SensitiveText(str(wrong))),)
        self._git("init", "--quiet", "--initial-branch=main", str(work))
        (work / ".sops.yaml").write_text(f"creation_rules:\n- age: {self._recipient}\n")

    async def commit(self, files: Contents, *, branch: str | None = None, plain: Contents | None = None) -> str:
        return await trio.to_thread.run_sync(self._commit, files, branch, plain or {})

    async def tag(self, name: str, revision: str) -> None:
        self._git("push", "--quiet", str(self._bare), f"{revision}:refs/tags/{name}")

    async def sealed(self, text: str) -> str:
        return (await trio.to_thread.run_sync(self._encrypt, text.encode(), "binary")).decode()

    def _encrypt(self, plain: bytes, kind: str) -> bytes:
        run = [str(self._sops), "encrypt", "--age", self._recipient, "--input-type", kind, "--output-type", kind]
        run += ["--filename-override", "x.yaml"]
        env = {"HOME": str(self._work), "SOPS_DISABLE_VERSION_CHECK": "1"}
        return subprocess.run(run, input=plain, env=env, check=True, capture_output=True).stdout

    def _write(self, name: str, content: bytes) -> None:
        path = self._work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def _commit(self, files: Contents, branch: str | None, plain: Contents) -> str:
        if branch is not None:
            self._git("checkout", "--quiet", "-B", branch)
        for name, content in plain.items():
            self._write(name, _yaml(content))
        for name, content in files.items():
            self._write(name, self._encrypt(_yaml(content), "yaml"))
        self._git("add", "--all")
        self._git("commit", "--quiet", "-m", "x")
        self._git("push", "--quiet", "--force", str(self._bare), f"HEAD:refs/heads/{branch or 'main'}")
        revision = self._git("rev-parse", "HEAD")
        if branch is not None:
            self._git("checkout", "--quiet", "main")
        return revision

    def _git(self, *arguments: str) -> str:
        env = git_environment(GIT, self._work.parent)
        for who in ("AUTHOR", "COMMITTER"):
            env |= {f"GIT_{who}_NAME": "a", f"GIT_{who}_EMAIL": "a@example.com"}
        cwd = self._work if self._work.exists() else None
        return subprocess.run(
            [GIT, *arguments], cwd=cwd, env=env, check=True, capture_output=True, text=True
        ).stdout.strip()


def _yaml(documents: Sequence[object]) -> bytes:
    return "---\n".join(json.dumps(each, ensure_ascii=False) + "\n" for each in documents).encode()


class _OverGit(KrapaoContract):
    @pytest.fixture
    async def real(self, tmp_path: Path, tools: dict[str, Path]) -> AsyncIterator[_World]:
        root = tmp_path / "root"
        root.mkdir()
        async with serve_git(root, username="ann", token=SensitiveText("token")) as server:
            url = server.create("app.git")
            world = _World(tmp_path / "work", root / "app.git", url, server.url_of("missing.git"), tools["sops"])
            async with open_service(
                KrapaoSettings(state_dir=tmp_path / "state", sops=tools["sops"], addresses=LOOPBACK)
            ) as service:
                world.krapao = service
                yield world
                assert service.worker_count == 0


class TestKrapaoService(_OverGit):
    @pytest.fixture
    async def world(self, real: _World) -> _World:
        return real


class TestKrapaoServiceOverUnixSocket(_OverGit):
    @pytest.fixture
    async def world(self, real: _World, tmp_path: Path) -> AsyncIterator[_World]:
        async with open_bridge() as bridge, trio.open_nursery() as nursery:
            socket = UnixAddress(str(tmp_path / "krapao.sock"))
            address = await nursery.start(lambda **kw: serve(real.krapao, socket, bridge=bridge, **kw))
            async with connect(address, bridge=bridge) as client:
                real.krapao = client
                yield real
            nursery.cancel_scope.cancel()
