"""What the tests of Krapao need: repositories to follow, keys, sops."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pyrage
import pytest
from support.network.addresses import LOOPBACK
from support.processes.threads import own_threads

from jiemi.demo.git_server import GitServer, git_environment, serve_git
from jiemi.krapao.confinement.processes import adopt_orphans
from jiemi.krapao.settings import KrapaoSettings

GIT = shutil.which("git") or "git"


class Work:
    """A work tree to make commits in."""

    def __init__(self, path: Path, object_format: str = "sha1") -> None:
        self.path = path
        path.mkdir(parents=True)
        self._env = git_environment(GIT, path.parent) | {
            "GIT_AUTHOR_NAME": "a",
            "GIT_AUTHOR_EMAIL": "a@example.com",
            "GIT_COMMITTER_NAME": "a",
            "GIT_COMMITTER_EMAIL": "a@example.com",
        }
        self.git("init", "--quiet", "--initial-branch=main", f"--object-format={object_format}")

    def git(self, *arguments: str) -> str:
        run = [GIT, "-c", "protocol.file.allow=always", *arguments]
        return subprocess.run(
            run, cwd=self.path, env=self._env, check=True, capture_output=True, text=True
        ).stdout.strip()

    def commit(self, files: dict[str, bytes | str], message: str = "x") -> str:
        """Write the files, commit everything; returns the revision."""
        for name, content in files.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def push(self, bare: Path, *refs: str) -> None:
        """Push by path, so that no server counts it."""
        self.git("push", "--quiet", "--force", str(bare), *(refs or ("HEAD:refs/heads/main",)))


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(tmp_path / "work")


@pytest.fixture
async def git_server(tmp_path: Path) -> AsyncIterator[GitServer]:
    root = tmp_path / "repositories"
    root.mkdir()
    async with serve_git(root) as server:
        yield server


@pytest.fixture
def settings(tmp_path: Path) -> KrapaoSettings:
    state = tmp_path / "state"
    state.mkdir()
    return KrapaoSettings(state_dir=state, addresses=LOOPBACK, git_timeout_seconds=20, connect_timeout_seconds=5)


@pytest.fixture(scope="session")
def sops_path(tools: dict[str, Path]) -> Path:
    """The sops program, the one that the whole suite resolves."""
    return tools["sops"]


class AgePair:
    """A fresh age identity."""

    def __init__(self) -> None:
        identity = pyrage.x25519.Identity.generate()
        self.private = str(identity)
        self.public = str(identity.to_public())


@pytest.fixture(scope="session")
def age_pair() -> AgePair:
    return AgePair()


@pytest.fixture(scope="session")
def other_age_pair() -> AgePair:
    return AgePair()


class Encrypter:
    """Runs `sops encrypt`."""

    def __init__(self, sops: Path, home: Path) -> None:
        self._sops = sops
        self._home = home

    def __call__(self, plain: str, *options: str, kind: str = "yaml", env: dict[str, str] | None = None) -> bytes:
        run = [str(self._sops), "encrypt", "--input-type", kind, "--output-type", kind, *options]
        run += ["--filename-override", f"x.{kind}"]
        environment = {
            "HOME": str(self._home),
            "SOPS_DISABLE_VERSION_CHECK": "1",
            "PATH": "/usr/bin:/bin",
            **(env or {}),
        }
        done = subprocess.run(run, input=plain.encode(), env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout


@pytest.fixture(scope="session")
def encrypt(sops_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Encrypter:
    return Encrypter(sops_path, tmp_path_factory.mktemp("home"))


@pytest.fixture
def threads_before() -> Iterator[None]:
    """Checks that the test leaves no thread that works for git or a server."""
    before = own_threads()
    yield
    # The threads of a test's own servers end a moment after they were told to.
    deadline = time.monotonic() + 5
    while own_threads() - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert own_threads() - before == set()


@pytest.fixture
def runtime() -> Iterator[Path]:
    """A folder in memory that must be empty in the end."""
    path = Path("/dev/shm") / f"jiemi-test-{os.getpid()}"
    path.mkdir()
    adopt_orphans()
    yield path
    left = list(path.iterdir())
    subprocess.run(["rm", "-rf", str(path)], check=True)
    assert left == []
