"""A pinned commit that the host no longer gives: who may still read it from the shared clone (docs/operations.md)."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from support.krapao.work_tree import Work

from jiemi.concurrency.askers import Askers
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.core.urls import parse_url
from jiemi.demo.git_server import Asked, GitServer, serve_git
from jiemi.krapao.git.clones import Clones
from jiemi.krapao.git.port import Ref
from jiemi.krapao.settings import KrapaoSettings
from jiemi.krapao.worker import Worker
from jiemi.rpc.contract import FilesRequest
from jiemi.rpc.source import GitCredentials

OWNER = GitCredentials(username=SensitiveText("ann"), token=SensitiveText("token"))
AGAIN = GitCredentials(username=SensitiveText("ann"), token=SensitiveText("token\n"))
"""Other credentials to Krapao, which the host lets in too."""
STRANGER = GitCredentials(username=SensitiveText("eve"), token=SensitiveText("token"))


@pytest.fixture
async def private(tmp_path: Path) -> AsyncIterator[GitServer]:
    root = tmp_path / "private"
    root.mkdir()
    async with serve_git(root, username="ann", token=SensitiveText("token")) as server:
        yield server


@asynccontextmanager
async def opened(
    clones: Clones, url: str, credentials: GitCredentials, settings: KrapaoSettings
) -> AsyncIterator[Worker]:
    """A worker of its own, as each credentials get one."""
    async with clones.open(parse_url(url), credentials) as store, trio.open_nursery() as nursery:
        nothing: Any = None  # no file is opened here
        yield Worker(url, store, nothing, settings, nursery)
        nursery.cancel_scope.cancel()


async def test_a_pinned_commit_that_the_host_no_longer_gives_is_read_by_those_whom_the_host_lets_list_the_repository(
    private: GitServer, work: Work, settings: KrapaoSettings
) -> None:
    url = private.create("r.git")
    gone = work.commit({"x": "gone"})
    work.push(private.root / "r.git")
    clones, pin = Clones(settings), Ref(commit=gone)
    request = FilesRequest(gone, ("x",))
    async with opened(clones, url, OWNER, settings) as worker:
        await worker.head(pin, Askers(), max_age_seconds=0)
        assert len((await worker.files(pin, request, Askers())).entries) == 1
    # History is written again, and the host forgets what was there.
    shutil.rmtree(private.root / "r.git")
    private.create("r.git")
    work.git("checkout", "--quiet", "--orphan", "new")
    work.commit({"x": "new"})
    work.push(private.root / "r.git")
    private.forget_hits()
    async with opened(clones, url, AGAIN, settings) as worker:
        await worker.head(pin, Askers(), max_age_seconds=0)
        assert private.count(Asked.REFS) == 1  # the host was asked with these very credentials
        assert private.count(Asked.FETCH) == 0
        assert len((await worker.files(pin, request, Askers())).entries) == 1
    # Who may not list it gets nothing, whatever is on the volume.
    async with opened(clones, url, STRANGER, settings) as worker:
        for attempt in (worker.head(pin, Askers(), max_age_seconds=60), worker.files(pin, request, Askers())):
            with pytest.raises(JiemiError, match="RepositoryAccessDenied"):
                await attempt
    # A commit that no one pins is named by no listing any more.
    async with opened(clones, url, AGAIN, settings) as worker:
        with pytest.raises(JiemiError, match="RevisionNotFound"):
            await worker.files(Ref(), request, Askers())
    # And once the clone is gone from the volume, nobody gets the commit.
    shutil.rmtree(settings.state_dir / "repositories")
    async with opened(clones, url, AGAIN, settings) as worker:
        with pytest.raises(JiemiError, match="RefNotFound"):
            await worker.files(pin, request, Askers())
