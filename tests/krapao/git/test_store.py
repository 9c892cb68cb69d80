"""What clones take of the volume, of whom, and which go; on a volume that is full, and on one that is deleted."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from support.krapao.work_tree import Work

from jiemi.concurrency.calls import Interrupter
from jiemi.core.errors import JiemiError
from jiemi.core.urls import Location, parse_url
from jiemi.demo.git_server import GitServer
from jiemi.krapao.confinement.spawn import Measures
from jiemi.krapao.git.clones import Clones
from jiemi.krapao.git.folders import VolumeFullError, storage
from jiemi.krapao.git.port import GitStore, Ref
from jiemi.krapao.git.store import Kept, Store, longest_unused
from jiemi.krapao.reading.reader import Reading
from jiemi.krapao.repositories import Repositories
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.source import GitCredentials, Source

NOBODY = GitCredentials()
TENANT_SHARE = 700_000
CLONE = 200_000
"""A clone of one small commit takes less, inodes counted."""


def folders(settings: KrapaoSettings) -> set[str]:
    """The repositories that are on the volume, by the last part of their URLs."""
    return {path.read_text().strip().rpartition("/")[2] for path in (settings.state_dir / "repositories").glob("*/url")}


async def fetch(clones: Clones, url: str, tenant: str = "") -> None:
    location = parse_url(url)
    with clones.charge(location, tenant):
        async with clones.open(location, NOBODY) as store:
            await store.fetch(await store.advertised(Ref()))


def make(git_server: GitServer, work: Work, *names: str, size: int = 10) -> None:
    work.commit({"x": os.urandom(size)})
    for name in names:
        git_server.create(name)
        work.push(git_server.root / name)


# The account


def test_the_longest_unused_go_first_until_enough_is_gone() -> None:
    clones = [Kept("c", 10, 3.0), Kept("a", 10, 1.0), Kept("b", 10, 2.0)]
    assert [each.name for each in longest_unused(clones, 15)] == ["a", "b"]
    assert list(longest_unused(clones, 0)) == []
    assert [each.name for each in longest_unused(clones, 1_000)] == ["a", "b", "c"]


def a_clone(root: Path, name: str, files: int, used: float) -> None:
    folder = root / name
    folder.mkdir(parents=True)
    for number in range(files):
        (folder / str(number)).write_bytes(b"x")
        os.utime(folder / str(number), (used, used))
    os.utime(folder, (used, used))


def test_many_small_files_count_as_the_inodes_that_they_take(tmp_path: Path) -> None:
    for number in range(3):
        a_clone(tmp_path, f"clone-{number}", 100, used=1_000.0 + number)
    store = Store(tmp_path, 2 * 101 * 16 * 1024, 10**9, lambda _: None)
    store.read(Interrupter())
    store.trim()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["clone-1", "clone-2"]


def test_what_was_on_its_way_out_when_a_process_ended_goes_at_the_next_look(tmp_path: Path) -> None:
    a_clone(tmp_path, "removed-a-1", 3, used=1.0)
    a_clone(tmp_path, "kept", 3, used=1.0)
    a_clone(tmp_path / "kept", "removed-1-2", 3, used=1.0)
    Store(tmp_path, 10**9, 10**9, lambda _: None).read(Interrupter())
    assert [each.name for each in tmp_path.iterdir()] == ["kept"]
    assert sorted(each.name for each in (tmp_path / "kept").iterdir()) == ["0", "1", "2"]


def test_a_clone_that_is_opened_meanwhile_stays(tmp_path: Path) -> None:
    a_clone(tmp_path, "a", 3, used=1.0)
    a_clone(tmp_path, "b", 3, used=2.0)
    asked: list[str] = []

    def opened_when_asked_again(name: str) -> tuple[str, ...] | None:
        asked.append(name)
        return () if name == "a" and asked.count("a") > 1 else None

    store = Store(tmp_path, 0, 10**9, opened_when_asked_again)
    store.read(Interrupter())
    store.trim()
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


# Spellings


SPELLINGS = [
    "{url}/r.git",
    "{url}//r.git",
    "{url}/./r.git",
    "{url}/r.git/",
    "{url}/r.git//",
    "{url}/%72.git",
    "{url}/r%2egit",
    "{url}/%2E/r.git",
    "{url}///././r.git/./",
]


async def test_one_repository_has_one_clone_however_its_url_is_spelled(
    git_server: GitServer, work: Work, settings: KrapaoSettings
) -> None:
    make(git_server, work, "r.git")
    clones = Clones(settings)
    many = [f"{git_server.url}{'/' * (1 + number)}r.git" for number in range(40)]
    for url in (*(each.format(url=git_server.url) for each in SPELLINGS), *many):
        await fetch(clones, url)
    assert len(list((settings.state_dir / "repositories").iterdir())) == 1
    assert {hit.path for hit in git_server.hits} == {"/r.git/info/refs", "/r.git/git-upload-pack"}


# Shares


async def test_a_tenant_beyond_its_share_loses_its_own_unused_clones_and_nobody_elses(
    git_server: GitServer, work: Work, settings: KrapaoSettings
) -> None:
    make(git_server, work, "theirs.git", *(f"{number}.git" for number in range(8)))
    clones = Clones(attrs.evolve(settings, max_tenant_store_bytes=TENANT_SHARE))
    await fetch(clones, git_server.url_of("theirs.git"), "other")
    for number in range(8):
        await fetch(clones, git_server.url_of(f"{number}.git"), "greedy")
    left = folders(settings)
    assert {"theirs.git", "7.git", "6.git"} <= left
    assert not {"0.git", "1.git", "2.git"} & left
    assert (len(left) - 1) * CLONE <= TENANT_SHARE + CLONE


async def test_a_tenant_that_has_more_open_than_its_share_is_reported_so_and_the_others_are_served(
    git_server: GitServer, work: Work, settings: KrapaoSettings
) -> None:
    names = [f"{number}.git" for number in range(8)]
    make(git_server, work, "theirs.git", *names)
    clones = Clones(attrs.evolve(settings, max_tenant_store_bytes=TENANT_SHARE))
    refused = 0
    async with trio.open_nursery() as nursery:
        opened = []
        for name in names:
            location = parse_url(git_server.url_of(name))
            release = trio.Event()
            store = await nursery.start(_hold, clones, location, "greedy", release)
            opened.append(release)
            try:
                await store.fetch(await store.advertised(Ref()))
            except JiemiError as error:
                assert error.failure.reason == "LimitExceeded"
                assert "share of Krapao's volume" in error.failure.text
                refused += 1
        assert 2 <= refused <= 6
        await fetch(clones, git_server.url_of("theirs.git"), "other")
        # One that both follow is served too, because the other has room.
        shared = parse_url(git_server.url_of(names[-1]))
        with clones.charge(shared, "other"):
            async with clones.open(shared, NOBODY) as store:
                await store.fetch(await store.advertised(Ref()))
        for release in opened:
            release.set()
    # And when it closes some, there is room again.
    await fetch(clones, git_server.url_of("0.git"), "greedy")


async def _hold(
    clones: Clones, location: Location, tenant: str, release: trio.Event, task_status: trio.TaskStatus[GitStore]
) -> None:
    with clones.charge(location, tenant):
        async with clones.open(location, NOBODY) as store:
            task_status.started(store)
            await release.wait()


async def test_a_pack_may_bring_no_more_than_is_left_of_the_share(
    git_server: GitServer, work: Work, settings: KrapaoSettings
) -> None:
    make(git_server, work, "big.git", size=900_000)
    limited = attrs.evolve(settings, max_tenant_store_bytes=300_000, max_refs_bytes=10_000)
    with pytest.raises(JiemiError, match=r"LimitExceeded: .*charged to this namespace"):
        await fetch(Clones(limited), git_server.url_of("big.git"), "greedy")
    assert not list(settings.state_dir.rglob("*.pack"))
    await fetch(Clones(limited), git_server.url_of("big.git"))  # where nobody says who asks, nobody has a share


async def test_the_volume_knows_of_tenants_only_what_it_needs_and_remembers_it(
    git_server: GitServer, work: Work, settings: KrapaoSettings
) -> None:
    make(git_server, work, *(f"{number}.git" for number in range(5)))
    limited = attrs.evolve(settings, max_tenant_store_bytes=TENANT_SHARE)
    for number in range(3):
        await fetch(Clones(limited), git_server.url_of(f"{number}.git"), "canary-namespace")
    for path in settings.state_dir.rglob("*"):
        assert b"canary" not in path.name.encode() + (path.read_bytes() if path.is_file() else b"")
    # A later process charges them to the same tenant.
    for number in (3, 4):
        await fetch(Clones(limited), git_server.url_of(f"{number}.git"), "canary-namespace")
    assert "4.git" in folders(settings)
    assert "0.git" not in folders(settings)


async def test_a_fetch_makes_room_before_and_after_it_and_not_only_every_ten_minutes(
    git_server: GitServer, work: Work, settings: KrapaoSettings
) -> None:
    names = [f"{number}.git" for number in range(6)]
    make(git_server, work, *names)
    clones = Clones(attrs.evolve(settings, max_store_bytes=3 * CLONE))
    for name in names:
        await fetch(clones, git_server.url_of(name))
        assert len(folders(settings)) <= 4
    assert names[-1] in folders(settings)


async def _unconfined() -> Measures:
    return Measures()


async def test_opened_repositories_are_charged_to_the_tenant_that_opens_them(tmp_path: Path) -> None:
    charged: list[str] = []

    @contextlib.contextmanager
    def charge(location: object, tenant: str) -> Iterator[None]:
        charged.append(tenant)
        yield
        charged.remove(tenant)

    @contextlib.asynccontextmanager
    async def open_store(*_: object) -> AsyncIterator[None]:
        yield None

    class Owner:
        def own(self, *_: object) -> None:
            """Nothing is decrypted here."""

    async with trio.open_nursery() as nursery:
        settings = KrapaoSettings(state_dir=tmp_path)
        store: Any = open_store
        owner: Any = Owner()
        reading = Reading(settings, _unconfined)
        krapao = Repositories(nursery, store, owner, settings, reading, charge)
        async with krapao.open(Source("https://git.example/r"), NOBODY, "one"):
            async with krapao.open(Source("https://git.example/r"), NOBODY, "two"):
                assert charged == ["one", "two"]
            assert charged == ["one"]
        assert charged == []


# A full volume


class FullOnce:
    """A disk that has no space left for a while, at one kind of call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, error: int, times: int) -> None:
        self.left = times
        real = getattr(owner, name)

        def call(*arguments: object, **named: object) -> object:
            if self.left:
                self.left -= 1
                raise OSError(error, os.strerror(error))
            return real(*arguments, **named)

        monkeypatch.setattr(owner, name, call)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["mkdir", "touch", "write_text", "rename"])
async def test_a_full_volume_loses_what_nobody_needs_and_the_fetch_is_tried_once_more(
    git_server: GitServer, work: Work, settings: KrapaoSettings, monkeypatch: pytest.MonkeyPatch, call: str, error: int
) -> None:
    make(git_server, work, "old.git", "open.git", "new.git")
    clones = Clones(settings)
    await fetch(clones, git_server.url_of("old.git"))
    location = parse_url(git_server.url_of("open.git"))
    async with clones.open(location, NOBODY) as kept:
        await kept.fetch(await kept.advertised(Ref()))
        FullOnce(monkeypatch, Path, call, error, times=1)
        await fetch(clones, git_server.url_of("new.git"))
        assert {"open.git", "new.git"} <= folders(settings)


async def test_a_volume_that_stays_full_is_reported_to_the_one_who_fetches(
    git_server: GitServer, work: Work, settings: KrapaoSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(git_server, work, "a.git", "b.git")
    clones = Clones(settings)
    full = FullOnce(monkeypatch, Path, "touch", errno.ENOSPC, times=100)
    with pytest.raises(JiemiError, match=r"StorageFailed: Krapao's volume is full, and no clone is left"):
        await fetch(clones, git_server.url_of("a.git"))
    assert full.left == 99  # nothing could be removed, so nothing was tried again
    assert not list(settings.state_dir.rglob("*.pack"))
    full.left = 0
    await fetch(clones, git_server.url_of("a.git"))


def test_only_a_lack_of_space_counts_as_a_full_volume() -> None:
    for number, kind in ((errno.ENOSPC, VolumeFullError), (errno.EDQUOT, VolumeFullError), (errno.EROFS, JiemiError)):
        with pytest.raises(JiemiError) as caught, storage():
            raise OSError(number, os.strerror(number))
        assert type(caught.value) is kind
        assert caught.value.failure.reason == "StorageFailed"


ON_A_SMALL_VOLUME = """
import json, subprocess, sys
from pathlib import Path
import trio
from support.network.addresses import LOOPBACK
from jiemi.core.errors import JiemiError
from jiemi.krapao.git.clones import Clones
from jiemi.krapao.git.port import Ref
from jiemi.krapao.settings import KrapaoSettings
from jiemi.core.urls import Location, parse_url
from jiemi.rpc.source import GitCredentials

state, options, urls, held = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])
subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(state)], check=True)
told = []

async def main():
    clones = Clones(KrapaoSettings(state_dir=state, addresses=LOOPBACK))
    async with trio.open_nursery() as nursery:
        for number, url in enumerate(urls):
            location = parse_url(url)
            async def hold(task_status):
                async with clones.open(location, GitCredentials()) as store:
                    task_status.started(store)
                    if number < held:
                        await trio.sleep_forever()
                    try:
                        found = await store.advertised(Ref())
                        await store.fetch(found)
                        told.append(len(await store.read(found.revision, "x", max_bytes=10**8)))
                    except JiemiError as error:
                        told.append(str(error.failure))
            store = await nursery.start(hold)
            if number < held:
                try:
                    found = await store.advertised(Ref())
                    await store.fetch(found)
                    told.append(len(await store.read(found.revision, "x", max_bytes=10**8)))
                except JiemiError as error:
                    told.append(str(error.failure))
            else:
                while len(told) <= number:
                    await trio.sleep(0.01)
        nursery.cancel_scope.cancel()

trio.run(main)
left = sorted(path.read_text().strip().rpartition("/")[2] for path in state.glob("repositories/*/url"))
print(json.dumps({"told": told, "left": left}))
"""


async def on_a_small_volume(
    settings: KrapaoSettings, options: str, urls: list[str], held: int = 0
) -> tuple[list[object], list[str]]:
    """Fetch one after the other on a tmpfs of its own; the first so many stay open.

    Returns:
        What each fetch came to: the size of the file, or a failure; and which clones are left.
    """
    argv = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", ON_A_SMALL_VOLUME]
    argv += [str(settings.state_dir), options, json.dumps(urls), str(held)]
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parents[2]}:{Path(__file__).parents[3]}"}
    done = await trio.run_process(argv, env=environment, capture_stdout=True, capture_stderr=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout.decode().splitlines()[-1])
    return found["told"], found["left"]


async def test_a_disk_that_is_really_full_evicts_what_nobody_has_open_and_serves_on(
    git_server: GitServer, work: Work, settings: KrapaoSettings
) -> None:
    names = [f"{number}.git" for number in range(6)]
    make(git_server, work, *names, size=1_000_000)
    told, left = await on_a_small_volume(settings, "size=4m", [git_server.url_of(name) for name in names], held=1)
    assert told == [1_000_000] * 6
    assert {"0.git", "5.git"} <= set(left)


async def test_a_disk_without_inodes_evicts_too(git_server: GitServer, work: Work, settings: KrapaoSettings) -> None:
    names = [f"{number}.git" for number in range(8)]
    make(git_server, work, *names)
    urls = [git_server.url_of(name) for name in names]
    told, left = await on_a_small_volume(settings, "size=16m,nr_inodes=45", urls, held=1)
    assert told == [10] * 8
    assert {"0.git", "7.git"} <= set(left)


async def test_a_disk_that_holds_nothing_but_what_is_open_fails_one_fetch_and_spoils_nothing(
    git_server: GitServer, work: Work, settings: KrapaoSettings
) -> None:
    make(git_server, work, "0.git", "1.git", size=1_500_000)
    make(git_server, work, "2.git", size=3_000_000)
    make(git_server, work, "3.git", size=10)
    urls = [git_server.url_of(f"{number}.git") for number in (0, 1, 2, 0)]
    told, left = await on_a_small_volume(settings, "size=4m", urls, held=2)
    assert told[:2] == [1_500_000] * 2
    assert str(told[2]).startswith("StorageFailed: Krapao's volume is full")
    assert told[3] == 1_500_000
    assert {"0.git", "1.git"} <= set(left)


# A folder that is deleted


async def test_whatever_is_deleted_of_the_state_folder_is_made_again(
    git_server: GitServer, work: Work, settings: KrapaoSettings
) -> None:
    git_server.create("r.git")
    clones = Clones(settings)
    async with clones.open(parse_url(git_server.url_of("r.git")), NOBODY) as store:

        async def fetched(number: int) -> None:
            found = await store.advertised(Ref())
            for attempt in range(2):  # a clone of which a part is gone may cost one error
                try:
                    await store.fetch(found)
                    assert await store.read(found.revision, "x", max_bytes=10) == str(number).encode()
                    return
                except JiemiError as error:
                    assert attempt == 0, str(error)
                    assert error.failure.reason in ("StorageFailed", "RevisionNotFound")

        root = settings.state_dir
        for number, pattern in enumerate(
            ("", "*", "*/*", "*/*/*", "*/*/*/objects", "*/*/*/objects/pack", "*/*/*/revisions", "*/*/*/objects/pack/*")
        ):
            for again in range(2):
                work.commit({"x": str(2 * number + again)})
                work.push(git_server.root / "r.git")
                await fetched(2 * number + again)
                for path in [root] if not pattern else list(root.glob(pattern)):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                # The same revision again, then another one.
                await fetched(2 * number + again)


async def test_a_file_in_place_of_a_clone_fails_that_clone_only(
    git_server: GitServer, work: Work, settings: KrapaoSettings
) -> None:
    make(git_server, work, "r.git", "other.git")
    clones = Clones(settings)
    await fetch(clones, git_server.url_of("r.git"))
    [folder] = (settings.state_dir / "repositories").iterdir()
    shutil.rmtree(folder)
    folder.write_text("not a folder")
    with pytest.raises(JiemiError, match="StorageFailed"):
        await fetch(clones, git_server.url_of("r.git"))
    await fetch(clones, git_server.url_of("other.git"))
