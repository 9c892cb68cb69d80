"""One repository with one tenant's credentials: its files, and the slots that its work waits for."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing
from krapao.git.clone_checks import HEAD, NOBODY, fails
from support.krapao.work_tree import Work

from jiemi.core.errors import JiemiError
from jiemi.core.urls import parse_url
from jiemi.demo.git_server import Asked, GitServer
from jiemi.krapao.git import clone as module
from jiemi.krapao.git.clones import Clones
from jiemi.krapao.git.port import Advertised
from jiemi.krapao.git.revision import match_files
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.contract import FileEntry, FilesRequest


async def test_a_revision_is_listed_fetched_once_and_read(
    git_server: GitServer, repository: Path, work: Work, settings: KrapaoSettings, threads_before: None
) -> None:
    first = work.commit({"a/b.yaml": "one", "top.yaml": "t"})
    work.push(repository)
    async with Clones(settings).open(parse_url(git_server.url_of("r.git")), NOBODY) as store:
        assert await store.advertised(HEAD) == Advertised(first, first, "HEAD")
        assert git_server.count(Asked.LS_REFS) == 1
        assert git_server.count(Asked.FETCH) == 0
        for _ in range(3):
            await store.fetch(Advertised(first, first))
        assert git_server.count(Asked.FETCH) == 1
        assert await store.read(first, "a/b.yaml", max_bytes=100) == b"one"
        assert await store.read(first, "./a//b.yaml", max_bytes=3) == b"one"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("gone.yaml", "FileNotFound"),
        ("dir/gone", "FileNotFound"),
        ("x/y", "FileNotFound"),
        ("link/x", "NotAFile"),
        ("dir", "NotAFile"),
        ("link", "NotAFile"),
        ("module", "NotAFile"),
        ("../x", "FileNotFound"),
        ("dir/../../x", "FileNotFound"),
        ("/x", "FileNotFound"),
        ("", "FileNotFound"),
        (".", "FileNotFound"),
        ("x\0", "FileNotFound"),
        ("dir\\x", "FileNotFound"),
        ("\ud800", "FileNotFound"),
        ("big", "LimitExceeded"),
    ],
)
async def test_what_is_no_file_of_the_revision_is_not_read(
    git_server: GitServer, repository: Path, work: Work, settings: KrapaoSettings, path: str, reason: str
) -> None:
    (work.path / "link").symlink_to("/etc")
    work.commit({"x": "one", "dir/x": "y", "big": "a" * 5_000})
    work.git("update-index", "--add", "--cacheinfo", "160000,0123456789012345678901234567890123456789,module")
    work.git("commit", "--quiet", "-m", "module")
    work.push(repository)
    async with Clones(settings).open(parse_url(git_server.url_of("r.git")), NOBODY) as store:
        found = await store.advertised(HEAD)
        await store.fetch(found)
        await fails(reason, store.read(found.revision, path, max_bytes=4_999))


async def test_the_files_of_a_revision_that_match_come_with_gits_own_hashes(
    git_server: GitServer, repository: Path, work: Work, settings: KrapaoSettings
) -> None:
    (work.path / "link.yaml").symlink_to("/etc")
    names = ("a.yaml", "b/c.yaml", "b/d/e.yaml", "b/f.md")
    work.commit({**dict.fromkeys(names, "same"), "a.yaml": "other", ".sops.yaml": "root", "b/.sops.yaml": "deeper"})
    work.git("update-index", "--add", "--cacheinfo", "160000,0123456789012345678901234567890123456789,module.yaml")
    work.git("commit", "--quiet", "-m", "module")
    work.push(repository)
    revision = work.git("rev-parse", "HEAD")

    def entry(path: str, config: str) -> FileEntry:
        return FileEntry(path, work.git("rev-parse", f"HEAD:{path}"), work.git("rev-parse", f"HEAD:{config}"))

    async with Clones(settings).open(parse_url(git_server.url_of("r.git")), NOBODY) as store:
        found = await store.advertised(HEAD)
        assert found.revision == revision
        with pytest.raises(JiemiError, match="RevisionNotFound"):
            await store.files(FilesRequest(revision, ("**",)), max_bytes=100)
        await store.fetch(found)
        for patterns in (("**",), ("b/**", "*.yaml"), ("b/d/e.yaml", "b/*", "./a.yaml", "b/c.yaml")):
            assert (await store.files(FilesRequest(revision, patterns, ("*.md",)), max_bytes=100)).entries == (
                entry("a.yaml", ".sops.yaml"),
                entry("b/c.yaml", "b/.sops.yaml"),
                entry("b/d/e.yaml", "b/.sops.yaml"),
            )
        [alone] = (await store.files(FilesRequest(revision, ("b/f.md",), ("*.md",)), max_bytes=100)).entries
        assert alone == entry("b/f.md", "b/.sops.yaml")
        # One that is too large is passed over, as where it is read.
        for max_bytes, config in ((5, entry("a.yaml", ".sops.yaml").config), (3, None)):
            for pattern in ("b/f.md", "**/f.md"):
                [alone] = (await store.files(FilesRequest(revision, (pattern,)), max_bytes=max_bytes)).entries
                assert alone.config == config
        for path in ("link.yaml", "module.yaml", "b"):
            await fails("NotAFile", store.files(FilesRequest(revision, (path,)), max_bytes=100))
        assert "or give spec.source.files b/** for all files in it" in await fails(
            "NotAFile", store.files(FilesRequest(revision, ("**", "b/")), max_bytes=100)
        )


async def test_a_search_that_is_cancelled_or_takes_too_long_ends_its_thread(
    git_server: GitServer,
    repository: Path,
    work: Work,
    settings: KrapaoSettings,
    threads_before: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    revision = work.commit({"x": "one"})
    work.push(repository)
    token, reached = trio.lowlevel.current_trio_token(), trio.Event()

    def search_for_ever(*_, check, **__) -> None:  # type: ignore[no-untyped-def]
        token.run_sync_soon(reached.set)
        while True:
            check()

    quick = attrs.evolve(settings, search_timeout_seconds=0.1)
    async with Clones(quick).open(parse_url(git_server.url_of("r.git")), NOBODY) as store:
        await store.fetch(await store.advertised(HEAD))
        monkeypatch.setattr(module, "match_files", search_for_ever)
        told = await fails("Timeout", store.files(FilesRequest(revision, ("**",)), max_bytes=1))
        assert told.startswith("looking through the folders took longer than 0.1 s. ")
        for pattern in ("**", "x"):
            reached = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(store.files, FilesRequest(revision, (pattern,)), max_bytes=1))
                with trio.fail_after(5):
                    await reached.wait()
                nursery.cancel_scope.cancel()


async def test_a_clone_that_a_search_finds_damaged_is_recreated(
    git_server: GitServer, repository: Path, work: Work, settings: KrapaoSettings
) -> None:
    revision = work.commit({"a/x": "one", "big": os.urandom(5_000)})
    work.push(repository)
    async with Clones(settings).open(parse_url(git_server.url_of("r.git")), NOBODY) as store:
        for pattern in ("**", "a/x"):
            found = await store.advertised(HEAD)
            await store.fetch(found)
            [pack] = settings.state_dir.rglob("*.pack")
            pack.chmod(0o600)
            pack.write_bytes(pack.read_bytes()[:40] + b"\0" * 3_000)
            await fails("StorageFailed", store.files(FilesRequest(revision, (pattern,)), max_bytes=10))
        await store.fetch(found)
        assert len((await store.files(FilesRequest(revision, ("**",)), max_bytes=10)).entries) == 2


async def test_searches_of_one_repository_leave_places_to_others(
    git_server: GitServer, repository: Path, work: Work, settings: KrapaoSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = work.commit({"x": "one"})
    for name in ("r.git", "other.git"):
        git_server.create(name)
        work.push(git_server.root / name)
    clones = Clones(settings)
    token = trio.lowlevel.current_trio_token()
    send, receive = trio.open_memory_channel[None](10)

    def hang(objects, request, *, check, **options):  # type: ignore[no-untyped-def]
        if request.patterns == ("slow/**",):
            token.run_sync_soon(send.send_nowait, None)
        while request.patterns == ("slow/**",):
            check()
        return match_files(objects, request, check=check, **options)

    monkeypatch.setattr(module, "match_files", hang)
    async with (
        clones.open(parse_url(git_server.url_of("r.git")), NOBODY) as slow,
        clones.open(parse_url(git_server.url_of("other.git")), NOBODY) as store,
        trio.open_nursery() as nursery,
    ):
        for each in (slow, store):
            await each.fetch(Advertised(revision, revision))
        for _ in range(6):
            nursery.start_soon(lambda: slow.files(FilesRequest(revision, ("slow/**",)), max_bytes=1))
        with trio.fail_after(10):
            for _ in range(2):  # half of the places
                await receive.receive()
            assert len((await store.files(FilesRequest(revision, ("**",)), max_bytes=1)).entries) == 1
            assert (
                len((await slow.files(FilesRequest(revision, ("x",)), max_bytes=1)).entries) == 1
            )  # a path needs no place
        nursery.cancel_scope.cancel()


async def test_a_revision_that_is_not_here_or_not_there_has_a_typed_reason(
    git_server: GitServer, repository: Path, work: Work, settings: KrapaoSettings
) -> None:
    work.commit({"x": "one"})
    work.push(repository)
    gone = "1" * 40
    async with Clones(settings).open(parse_url(git_server.url_of("r.git")), NOBODY) as store:
        await fails("RevisionNotFound", store.read(gone, "x", max_bytes=10))
        await fails("RevisionNotFound", store.fetch(Advertised(gone, gone)))
        assert not list(settings.state_dir.rglob("*.pack"))


async def test_a_damaged_clone_costs_one_error_and_is_recreated(
    git_server: GitServer, repository: Path, work: Work, settings: KrapaoSettings
) -> None:
    work.commit({"x": "one", "big": os.urandom(5_000)})
    work.push(repository)
    async with Clones(settings).open(parse_url(git_server.url_of("r.git")), NOBODY) as store:
        found = await store.advertised(HEAD)
        await store.fetch(found)
        [pack] = settings.state_dir.rglob("*.pack")
        pack.chmod(0o600)
        pack.write_bytes(pack.read_bytes()[:40] + b"\0" * 3_000)
        await fails("StorageFailed", store.read(found.revision, "x", max_bytes=10))
        await store.fetch(found)
        assert await store.read(found.revision, "x", max_bytes=10) == b"one"
