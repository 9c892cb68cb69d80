"""Tenants whose hosts never answer, beside one that wants little: real connections, the real service."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from support.krapao.hostile_tenants import DEADLINE_SECONDS, NOBODY, Hostile, until
from support.krapao.work_tree import Work
from support.network.dripping_host import DrippingHost, dripping_host

from jiemi.core.errors import JiemiError
from jiemi.core.urls import Location
from jiemi.demo.git_server import Asked, Fault, GitServer, serve_git
from jiemi.krapao.confinement.spawn import Measures
from jiemi.krapao.git.port import Advertised, GitStore, Ref
from jiemi.krapao.reading.reader import Reading
from jiemi.krapao.repositories import Repositories
from jiemi.krapao.service import open_service
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.contract import RenderRequest
from jiemi.rpc.source import GitCredentials, Source


@pytest.fixture
async def hosts() -> AsyncIterator[list[DrippingHost]]:
    async with dripping_host() as one, dripping_host() as two:
        yield [one, two]


@pytest.fixture
def bare(git_server: GitServer) -> Path:
    git_server.create("r.git")
    return git_server.root / "r.git"


@pytest.mark.parametrize("tenants", [1, 2, 3, 10])
async def test_sixty_repositories_on_dripping_hosts_do_not_hold_up_another_tenants_push(
    git_server: GitServer, bare: Path, work: Work, hosts: list[DrippingHost], settings: KrapaoSettings, tenants: int
) -> None:
    work.commit({"a.yaml": "a: 1\n"})
    work.push(bare)
    patient = attrs.evolve(settings, connect_timeout_seconds=60, git_timeout_seconds=60)
    async with open_service(patient) as krapao, trio.open_nursery() as nursery:
        hostile = Hostile(nursery)
        async with krapao.open(Source(git_server.url_of("r.git")), NOBODY, "honest") as repository:
            with trio.fail_after(DEADLINE_SECONDS):
                await repository.head(max_age_seconds=0)
            for tenant in range(tenants):
                urls = [f"{hosts[number % 2].url}/{tenant}-{number}.git" for number in range(60)]
                hostile.head(krapao, urls, f"hostile-{tenant}")
            await until(lambda: sum(host.connected for host in hosts) >= 24)
            pushed = work.commit({"a.yaml": "a: 2\n"})
            work.push(bare)
            with trio.fail_after(DEADLINE_SECONDS):
                head = await repository.head(max_age_seconds=0)
                rendered = await repository.render(RenderRequest(pushed, "a.yaml", allow_plain=True))
            assert (head.revision, rendered.revision) == (pushed, pushed)
            assert hostile.ended.total() == 0
            assert sum(host.most_connected for host in hosts) <= settings.listing_concurrency + 1
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("tenants", [1, 2, 3, 7])
async def test_fetches_that_hang_do_not_hold_up_another_tenants_fetch(
    git_server: GitServer, bare: Path, work: Work, tmp_path: Path, settings: KrapaoSettings, tenants: int
) -> None:
    revision = work.commit({"a.yaml": "a: 1\n"})
    work.push(bare)
    patient = attrs.evolve(settings, connect_timeout_seconds=60, git_timeout_seconds=60)
    async with open_service(patient) as krapao, trio.open_nursery() as nursery, contextlib.AsyncExitStack() as stack:
        hostile = Hostile(nursery)
        slow = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            server = await stack.enter_async_context(serve_git(tmp_path / name))
            for number in range(tenants * 6):
                server.create(f"{number}.git")
                work.push(server.root / f"{number}.git")
            server.fault = Fault(hang=True, asked=frozenset({Asked.FETCH}))
            slow.append(server)
        for tenant in range(tenants):
            for number in range(6):
                for server in slow:
                    url = server.url_of(f"{tenant * 6 + number}.git")
                    hostile.render(krapao, url, (), f"hostile-{tenant}", 1)
        await until(lambda: sum(server.count(Asked.LS_REFS) for server in slow) >= 12 * tenants)
        await trio.testing.wait_all_tasks_blocked(0.5)
        async with krapao.open(Source(git_server.url_of("r.git")), NOBODY, "honest") as repository:
            with trio.fail_after(DEADLINE_SECONDS):
                await repository.head(max_age_seconds=0)
                rendered = await repository.render(RenderRequest(revision, "a.yaml", allow_plain=True))
            assert rendered.revision == revision
            assert hostile.ended.total() == 0
        nursery.cancel_scope.cancel()


async def test_who_follows_a_repository_too_does_not_wait_in_the_queue_of_who_asked_first(
    git_server: GitServer, bare: Path, work: Work, hosts: list[DrippingHost], settings: KrapaoSettings
) -> None:
    work.commit({"a.yaml": "a: 1\n"})
    work.push(bare)
    url = git_server.url_of("r.git")
    async with open_service(settings) as krapao, trio.open_nursery() as nursery:
        hostile = Hostile(nursery)
        hostile.head(krapao, [f"{hosts[number % 2].url}/{number}.git" for number in range(60)], "hostile")
        await until(lambda: sum(host.connected for host in hosts) >= 24)
        hostile.head(krapao, [url], "hostile")
        await trio.testing.wait_all_tasks_blocked(0.2)
        assert hostile.ended.total() == 0
        assert git_server.count(Asked.LS_REFS) == 0
        async with krapao.open(Source(url), NOBODY, "honest") as repository:
            with trio.fail_after(DEADLINE_SECONDS):
                await repository.head(max_age_seconds=0)
            await until(lambda: hostile.ended.total() == 1)  # they shared one listing
            assert git_server.count(Asked.LS_REFS) == 1
        nursery.cancel_scope.cancel()


async def test_another_ref_of_one_repository_does_not_wait_behind_a_tenant_that_follows_many(
    git_server: GitServer, bare: Path, work: Work, hosts: list[DrippingHost], settings: KrapaoSettings
) -> None:
    work.commit({"a.yaml": "a: 1\n"})
    work.push(bare)
    url = git_server.url_of("r.git")
    async with open_service(settings) as krapao, trio.open_nursery() as nursery:
        hostile = Hostile(nursery)
        hostile.head(krapao, [f"{hosts[number % 2].url}/{number}.git" for number in range(60)], "hostile")
        await until(lambda: sum(host.connected for host in hosts) >= 24)

        async def follow(number: int) -> None:
            async with krapao.open(Source(url, tag=f"v{number}"), NOBODY, "hostile") as repository:
                with contextlib.suppress(JiemiError):
                    await repository.head(max_age_seconds=0)
            hostile.ended["hostile"] += 1

        for number in range(50):
            nursery.start_soon(follow, number)
        await trio.testing.wait_all_tasks_blocked(0.2)
        async with krapao.open(Source(url), NOBODY, "honest") as repository:
            with trio.fail_after(DEADLINE_SECONDS):
                await repository.head(max_age_seconds=0)
        assert hostile.ended.total() == 0
        nursery.cancel_scope.cancel()


class ManyPlainFiles:
    """A store whose files take a while to be parsed. Every revision is here."""

    @contextlib.asynccontextmanager
    async def open(self, location: Location, credentials: GitCredentials) -> AsyncIterator[GitStore]:
        yield self  # type: ignore[misc]  # it has what a plain file needs of a store

    async def advertised(self, ref: Ref, askers: object = None, *, on_begin: Callable[[], None]) -> Advertised:
        await trio.lowlevel.checkpoint()
        on_begin()
        return Advertised("1" * 40, "1" * 40)

    async def read(
        self, revision: str, path: str, askers: object = None, *, max_bytes: int, into_submodules: bool = False
    ) -> bytes:
        await trio.lowlevel.checkpoint()
        if path == ".sops.yaml":
            raise JiemiError("FileNotFound", path)
        return b"a: 1\n" if path == "honest.yaml" else b"a:\n" + b"- [1, 2]\n" * 1_100


class Nobody:
    """Decrypts nothing."""

    def budget(self) -> None:
        """Nothing is taken of it."""

    def own(self, *_: object) -> None:
        """There are no keys."""


async def _unconfined() -> Measures:
    return Measures()


async def test_files_that_take_long_to_parse_do_not_hold_up_another_tenants(tmp_path: Path) -> None:
    done: list[str] = []
    async with trio.open_nursery() as workers, trio.open_nursery() as nursery:
        settings = KrapaoSettings(state_dir=tmp_path)
        decrypter: Any = Nobody()
        krapao = Repositories(workers, ManyPlainFiles().open, decrypter, settings, Reading(settings, _unconfined))

        async def render(tenant: str, path: str) -> None:
            async with krapao.open(Source("https://git.example/r.git"), NOBODY, tenant) as repository:
                await repository.head(max_age_seconds=60)
                await repository.render(RenderRequest("1" * 40, path, allow_plain=True))
            done.append(tenant)

        for number in range(20):
            nursery.start_soon(render, "hostile", f"{number}.yaml")
        await until(lambda: len(done) >= 1)
        before = len(done)
        with trio.fail_after(DEADLINE_SECONDS):
            await render("honest", "honest.yaml")
        assert done.index("honest") <= before + 3
        nursery.cancel_scope.cancel()
        workers.cancel_scope.cancel()


async def test_a_tenants_id_that_could_not_be_one_is_refused(settings: KrapaoSettings) -> None:
    async with open_service(settings) as krapao:
        for tenant in ("x" * 65, "a/b", "a b", "ä", "a\n"):
            async with krapao.open(Source("https://git.example/r.git"), NOBODY, tenant) as repository:
                with pytest.raises(JiemiError) as raised:
                    await repository.head(max_age_seconds=0)
                assert raised.value.failure.reason == "InvalidSpec"
