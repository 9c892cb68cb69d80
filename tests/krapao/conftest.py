"""What the tests of Krapao need: repositories to follow, keys, sops."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from support.krapao.age_files import AgePair, Encrypter
from support.krapao.work_tree import Work
from support.network.addresses import LOOPBACK
from support.processes.threads import own_threads

from jiemi.demo.git_server import GitServer, serve_git
from jiemi.krapao.confinement.processes import adopt_orphans
from jiemi.krapao.settings import KrapaoSettings


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


@pytest.fixture(scope="session")
def age_pair() -> AgePair:
    return AgePair()


@pytest.fixture(scope="session")
def other_age_pair() -> AgePair:
    return AgePair()


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
