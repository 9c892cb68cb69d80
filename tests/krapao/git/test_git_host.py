"""Conversations with a host: their ends, in time and by a cancellation, and the slots that they take."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import trio
import trio.testing
from krapao.git.clone_checks import HEAD, NOBODY, fails, files_under
from support.krapao.work_tree import Work

from jiemi.core.urls import parse_url
from jiemi.demo.git_server import Asked, Fault, Framing, GitServer, serve_git
from jiemi.krapao.git.clones import Clones
from jiemi.krapao.git.port import Advertised
from jiemi.krapao.settings import KrapaoSettings


@pytest.mark.parametrize("asked", [Asked.REFS, Asked.LS_REFS, Asked.FETCH])
async def test_a_cancelled_operation_ends_at_once_and_leaves_no_thread_and_no_file(
    git_server: GitServer, repository: Path, work: Work, settings: KrapaoSettings, asked: Asked, threads_before: None
) -> None:
    work.commit({"x": "one"})
    work.push(repository)
    reached = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def on_asked(what: Asked) -> None:
        if what is asked:
            token.run_sync_soon(reached.set)

    async with Clones(settings).open(parse_url(git_server.url_of("r.git")), NOBODY) as store:
        found = await store.advertised(HEAD)
        git_server.fault = Fault(hang=True, asked=frozenset({asked}))
        git_server.on_asked = on_asked
        async with trio.open_nursery() as nursery:
            if asked is Asked.FETCH:
                nursery.start_soon(store.fetch, found)
            else:
                nursery.start_soon(_ask, store)
            with trio.fail_after(5):
                await reached.wait()
            began = trio.current_time()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - began < 1
        assert {each.name for each in files_under(settings.state_dir)} <= {"url"}


async def _ask(store) -> None:  # type: ignore[no-untyped-def]
    await store.advertised(HEAD)


async def test_a_host_that_never_answers_costs_one_deadline(
    git_server: GitServer, repository: Path, settings: KrapaoSettings
) -> None:
    git_server.fault = Fault(hang=True)
    location = parse_url(git_server.url_of("r.git"))
    async with Clones(attrs.evolve(settings, git_timeout_seconds=0.3)).open(location, NOBODY) as store:
        assert "no git server answers" in await fails("HostUnreachable", store.advertised(HEAD))
        git_server.fault = Fault(hang=True, asked=frozenset({Asked.LS_REFS}))
        assert "took longer than 0.3 s" in await fails("Timeout", store.advertised(HEAD))
    async with Clones(attrs.evolve(settings, connect_timeout_seconds=0.2)).open(location, NOBODY) as store:
        assert "did not answer within 0.2 s" in await fails("HostUnreachable", store.advertised(HEAD))
        git_server.fault = Fault(hang=True)
        assert "no git server answers" in await fails("HostUnreachable", store.advertised(HEAD))


async def test_a_host_that_is_not_there_is_unreachable(settings: KrapaoSettings) -> None:
    for url in ("http://127.0.0.1:1/r.git", "git://127.0.0.1:1/r.git"):
        async with Clones(settings).open(parse_url(url), NOBODY) as store:
            assert "no git server answers at 127.0.0.1:1: " in await fails("HostUnreachable", store.advertised(HEAD))


@pytest.mark.parametrize("framing", Framing)
async def test_answers_that_end_in_any_way_http_allows_are_read_and_hold_no_place(
    git_server: GitServer,
    repository: Path,
    work: Work,
    settings: KrapaoSettings,
    threads_before: None,
    framing: Framing,
) -> None:
    git_server.framing = framing
    revision = work.commit({"a.yaml": "one"})
    work.push(repository)
    one_place = Clones(attrs.evolve(settings, listing_concurrency=1, git_concurrency=1))
    with trio.fail_after(20):
        for _ in range(3):
            async with one_place.open(parse_url(git_server.url_of("r.git")), NOBODY) as store:
                assert (await store.advertised(HEAD)).revision == revision
                await store.fetch(Advertised(revision, revision))
                assert await store.read(revision, "a.yaml", max_bytes=10) == b"one"


async def test_hosts_that_hang_leave_places_to_other_hosts(
    git_server: GitServer, repository: Path, work: Work, tmp_path: Path, settings: KrapaoSettings
) -> None:
    revision = work.commit({"a.yaml": "one"})
    work.push(repository)
    (tmp_path / "slow").mkdir()
    async with serve_git(tmp_path / "slow") as slow:
        slow.fault = Fault(hang=True)
        clones = Clones(attrs.evolve(settings, listing_concurrency=4))

        async def hang(number: int) -> None:
            async with clones.open(parse_url(f"{slow.url}/{number}.git"), NOBODY) as store:
                await store.advertised(HEAD)

        async with trio.open_nursery() as nursery:
            for number in range(12):
                nursery.start_soon(hang, number)
            await trio.testing.wait_all_tasks_blocked(0.05)
            with trio.fail_after(5):
                async with clones.open(parse_url(git_server.url_of("r.git")), NOBODY) as store:
                    assert (await store.advertised(HEAD)).revision == revision
            nursery.cancel_scope.cancel()
