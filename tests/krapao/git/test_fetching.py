"""Fetches over http from the demo's git server: what comes, and what a failure leaves."""

from __future__ import annotations

import os
from pathlib import Path

import attrs
import pytest
from krapao.git.clone_checks import HEAD, NOBODY, fails, files_under
from support.krapao.work_tree import Work

from jiemi.core.urls import parse_url
from jiemi.demo.git_server import Asked, Fault, GitServer
from jiemi.krapao.git.clones import Clones
from jiemi.krapao.git.port import Ref
from jiemi.krapao.settings import KrapaoSettings


async def test_a_second_revision_brings_only_what_changed_and_both_stay_readable(
    git_server: GitServer, repository: Path, work: Work, settings: KrapaoSettings
) -> None:
    big = os.urandom(500_000)
    first = work.commit({"x": "one", "big": big})
    work.push(repository)
    async with Clones(settings).open(parse_url(git_server.url_of("r.git")), NOBODY) as store:
        await store.fetch(await store.advertised(HEAD))
        second = work.commit({"x": "two"})
        work.push(repository)
        await store.fetch(await store.advertised(HEAD))
        assert await store.read(first, "x", max_bytes=10) == b"one"
        assert await store.read(second, "x", max_bytes=10) == b"two"
        assert await store.read(second, "big", max_bytes=10**6) == big
        packs = sorted(each.stat().st_size for each in files_under(settings.state_dir) if each.suffix == ".pack")
        assert len(packs) == 2
        assert packs[0] < 10_000 < packs[1]


async def test_a_force_push_to_an_older_commit_is_followed_and_the_left_one_can_still_be_fetched(
    git_server: GitServer, repository: Path, work: Work, settings: KrapaoSettings
) -> None:
    first = work.commit({"x": "one"})
    second = work.commit({"x": "two"})
    work.push(repository)
    async with Clones(settings).open(parse_url(git_server.url_of("r.git")), NOBODY) as store:
        newest = await store.advertised(HEAD)
        assert newest.revision == second
        work.push(repository, f"{first}:refs/heads/main")
        assert (await store.advertised(HEAD)).revision == first
        await store.fetch(newest)
        assert await store.read(second, "x", max_bytes=10) == b"two"


FETCH = frozenset({Asked.FETCH})


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(asked=FETCH, cut_after_bytes=100), "GitProtocolError"),
        (Fault(asked=FETCH, cut_after_bytes=50_000), "GitProtocolError"),
        (Fault(asked=FETCH, body=b""), "GitProtocolError"),
        (Fault(asked=FETCH, body=b"000dpackfile\n0009\x01PACK0000"), "GitProtocolError"),
        (Fault(asked=FETCH, body=b"000dpackfile\n0008\x03boo0000"), "GitProtocolError"),
        (Fault(asked=FETCH, body=b"000dpackfile\n0008\x09boo0000"), "GitProtocolError"),
        (Fault(asked=FETCH, body=b"0011packfile-uris\n0000"), "GitProtocolError"),
        (Fault(asked=FETCH, status=500), "GitProtocolError"),
    ],
)
async def test_a_fetch_that_goes_wrong_leaves_nothing_and_the_next_one_works(
    git_server: GitServer, repository: Path, work: Work, settings: KrapaoSettings, fault: Fault, reason: str
) -> None:
    revision = work.commit({"x": "one", "big": os.urandom(200_000)})
    work.push(repository)
    async with Clones(settings).open(parse_url(git_server.url_of("r.git")), NOBODY) as store:
        found = await store.advertised(HEAD)
        git_server.fault = fault
        await fails(reason, store.fetch(found))
        assert [each.name for each in files_under(settings.state_dir)] == ["url"]
        git_server.fault = None
        await store.fetch(found)
        assert await store.read(revision, "x", max_bytes=10) == b"one"


async def test_a_pack_or_listing_beyond_its_bound_is_refused(
    git_server: GitServer, repository: Path, work: Work, settings: KrapaoSettings
) -> None:
    work.commit({"zeros": b"\0" * 3_000_000, "big": os.urandom(300_000)})
    work.push(repository)
    location = parse_url(git_server.url_of("r.git"))
    for changed in (
        attrs.evolve(settings, max_pack_bytes=50_000, max_refs_bytes=10_000),
        attrs.evolve(settings, max_object_bytes=2_000_000),
        attrs.evolve(settings, max_unpacked_bytes=3_100_000),
    ):
        async with Clones(changed).open(location, NOBODY) as store:
            found = await store.advertised(HEAD)
            await fails("LimitExceeded", store.fetch(found))
            assert not list(settings.state_dir.rglob("*.pack"))
    work.push(repository, *(f"HEAD:refs/heads/main-{number}" for number in range(40)))
    async with Clones(attrs.evolve(settings, max_refs_bytes=2_000)).open(location, NOBODY) as store:
        await store.advertised(HEAD)
        await fails("LimitExceeded", store.advertised(Ref(branch="main")))


async def test_a_clone_with_many_packs_is_recreated_and_the_old_one_goes(
    git_server: GitServer, repository: Path, work: Work, settings: KrapaoSettings
) -> None:
    location = parse_url(git_server.url_of("r.git"))
    async with Clones(attrs.evolve(settings, max_packs=3)).open(location, NOBODY) as store:
        found = []
        for number in range(5):
            work.commit({"x": str(number), "same": "s"})
            work.push(repository)
            found.append(await store.advertised(HEAD))
            await store.fetch(found[-1])
        [folder] = (settings.state_dir / "repositories").iterdir()
        assert sorted(each.name for each in folder.iterdir()) == ["2", "url"]
        assert len(list(folder.rglob("*.pack"))) == 2
        assert await store.read(found[-1].revision, "same", max_bytes=10) == b"s"
        await fails("RevisionNotFound", store.read(found[0].revision, "x", max_bytes=10))
        await store.fetch(found[0])
        assert await store.read(found[0].revision, "x", max_bytes=10) == b"0"


async def test_the_remains_of_a_killed_fetch_are_swept_and_an_old_clone_is_adopted(
    git_server: GitServer, repository: Path, work: Work, settings: KrapaoSettings
) -> None:
    work.commit({"x": "one"})
    work.push(repository)
    location = parse_url(git_server.url_of("r.git"))
    async with Clones(settings).open(location, NOBODY) as store:
        found = await store.advertised(HEAD)
        await store.fetch(found)
    [packs] = settings.state_dir.rglob("pack")
    (packs / "tmpabc.pack").write_bytes(b"half")
    (packs.parent.parent.parent / "2.new" / "objects").mkdir(parents=True)
    git_server.forget_hits()
    async with Clones(settings).open(location, NOBODY) as store:
        await store.fetch(found)
        assert await store.read(found.revision, "x", max_bytes=10) == b"one"
        assert git_server.hits == []
        work.commit({"x": "two"})
        work.push(repository)
        await store.fetch(await store.advertised(HEAD))
        assert not (packs / "tmpabc.pack").exists()


async def test_a_volume_that_can_not_be_written_is_reported(
    git_server: GitServer, repository: Path, work: Work, settings: KrapaoSettings, tmp_path: Path
) -> None:
    work.commit({"x": "one"})
    work.push(repository)
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    async with Clones(attrs.evolve(settings, state_dir=blocked)).open(
        parse_url(git_server.url_of("r.git")), NOBODY
    ) as store:
        await fails("StorageFailed", store.fetch(await store.advertised(HEAD)))
