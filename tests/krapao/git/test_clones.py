"""Clones over http from the demo's git server: listing, fetching, reading, and every way to fail."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from support.krapao.work_tree import Work

from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.demo.git_server import Asked, Fault, Framing, GitServer, serve_git
from jiemi.krapao.git import clone as module
from jiemi.krapao.git.clones import Clones
from jiemi.krapao.git.port import Advertised, GitStore, Ref
from jiemi.krapao.git.revision import match_files
from jiemi.krapao.git.urls import parse_url
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.contract import FileEntry, FilesRequest, GitCredentials

NOBODY = GitCredentials()
HEAD = Ref()


def files_under(path: Path) -> list[Path]:
    return [each for each in path.rglob("*") if each.is_file()]


async def fails(reason: str, awaitable: Awaitable[object]) -> str:
    with pytest.raises(JiemiError) as caught:
        await awaitable
    assert caught.value.failure.reason == reason, str(caught.value)
    return caught.value.failure.text


@pytest.fixture
def repository(git_server: GitServer) -> Path:
    git_server.create("r.git")
    return git_server.root / "r.git"


async def test_a_revision_is_listed_fetched_once_and_read(
    git_server: GitServer, repository: Path, work: Work, settings: KrapaoSettings, threads_before: None
) -> None:
    first = work.commit({"a/b.yaml": "one", "top.yaml": "t"})
    work.push(repository)
    async with Clones(settings).open(parse_url(git_server.url_of("r.git")), NOBODY) as store:
        assert await store.advertised(HEAD) == Advertised(first, first)
        assert git_server.count(Asked.LS_REFS) == 1
        assert git_server.count(Asked.FETCH) == 0
        for _ in range(3):
            await store.fetch(Advertised(first, first))
        assert git_server.count(Asked.FETCH) == 1
        assert await store.read(first, "a/b.yaml", max_bytes=100) == b"one"
        assert await store.read(first, "./a//b.yaml", max_bytes=3) == b"one"


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


async def test_branches_tags_and_annotated_tags_name_commits(
    git_server: GitServer, repository: Path, work: Work, settings: KrapaoSettings
) -> None:
    first = work.commit({"x": "one"})
    work.git("tag", "light")
    work.git("tag", "-a", "v1", "-m", "annotated")
    work.git("tag", "-a", "v2", "-m", "of a tag", "v1")
    second = work.commit({"x": "two"})
    work.push(repository, "main", "HEAD:refs/heads/feature/ü", "--tags")
    async with Clones(settings).open(parse_url(git_server.url_of("r.git")), NOBODY) as store:
        assert (await store.advertised(Ref(branch="feature/ü"))).revision == second
        assert (await store.advertised(Ref(tag="light"))).revision == first
        for tag in ("v1", "v2"):
            found = await store.advertised(Ref(tag=tag))
            assert found.revision == first != found.target
            await store.fetch(found)
        assert await store.read(first, "x", max_bytes=10) == b"one"
        assert "branch gone" in await fails("RefNotFound", store.advertised(Ref(branch="gone")))
        await fails("RefNotFound", store.advertised(Ref(tag="v")))


async def test_an_empty_repository_has_no_head(
    git_server: GitServer, repository: Path, settings: KrapaoSettings
) -> None:
    async with Clones(settings).open(parse_url(git_server.url_of("r.git")), NOBODY) as store:
        assert "or is empty" in await fails("RefNotFound", store.advertised(HEAD))


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("gone.yaml", "FileNotFound"),
        ("dir/gone", "FileNotFound"),
        ("x/y", "FileNotFound"),
        ("link/x", "FileNotFound"),
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
            assert await store.files(FilesRequest(revision, patterns, ("*.md",)), max_bytes=100) == (
                entry("a.yaml", ".sops.yaml"),
                entry("b/c.yaml", "b/.sops.yaml"),
                entry("b/d/e.yaml", "b/.sops.yaml"),
            )
        [alone] = await store.files(FilesRequest(revision, ("b/f.md",), ("*.md",)), max_bytes=100)
        assert alone == entry("b/f.md", "b/.sops.yaml")
        # One that is too large is passed over, as where it is read.
        for max_bytes, config in ((5, entry("a.yaml", ".sops.yaml").config), (3, None)):
            for pattern in ("b/f.md", "**/f.md"):
                [alone] = await store.files(FilesRequest(revision, (pattern,)), max_bytes=max_bytes)
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

    def search_for_ever(*_: object, check: Callable[[], None], **__: object) -> None:
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
        assert len(await store.files(FilesRequest(revision, ("**",)), max_bytes=10)) == 2


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

    def hang(objects: Any, request: FilesRequest, *, check: Callable[[], None], **options: Any) -> Any:
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
            assert len(await store.files(FilesRequest(revision, ("**",)), max_bytes=1)) == 1
            assert len(await slow.files(FilesRequest(revision, ("x",)), max_bytes=1)) == 1  # a path needs no place
        nursery.cancel_scope.cancel()


async def test_a_revision_that_is_not_here_or_not_there_is_told(
    git_server: GitServer, repository: Path, work: Work, settings: KrapaoSettings
) -> None:
    work.commit({"x": "one"})
    work.push(repository)
    gone = "1" * 40
    async with Clones(settings).open(parse_url(git_server.url_of("r.git")), NOBODY) as store:
        await fails("RevisionNotFound", store.read(gone, "x", max_bytes=10))
        await fails("RevisionNotFound", store.fetch(Advertised(gone, gone)))
        assert not list(settings.state_dir.rglob("*.pack"))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(status=401), "RepositoryAccessDenied"),
        (Fault(status=403), "RepositoryAccessDenied"),
        (Fault(status=404), "RepositoryNotFound"),
        (Fault(status=500), "HostUnreachable"),
        (Fault(status=503), "HostUnreachable"),
        (Fault(status=302), "HostUnreachable"),
        (Fault(status=302, location="/loop.git/info/refs?service=git-upload-pack"), "HostUnreachable"),
        (Fault(status=500, asked=frozenset({Asked.LS_REFS})), "GitProtocolError"),
        (Fault(status=302, location="http://localhost:1/x"), "InvalidUrl"),
        (Fault(cut_after_bytes=10), "GitProtocolError"),
        (Fault(cut_after_bytes=0), "GitProtocolError"),
        (Fault(body=b"<html>"), "GitProtocolError"),
        (Fault(body=b"ffff" + b"x" * 70_000), "GitProtocolError"),
        (Fault(asked=frozenset({Asked.LS_REFS}), body=b"0010unborn HEAD\n0000"), "RefNotFound"),
        (Fault(asked=frozenset({Asked.LS_REFS}), body=b"0006\xff\xff0000"), "GitProtocolError"),
        (Fault(asked=frozenset({Asked.LS_REFS}), body=b"000bx HEAD\n0000"), "GitProtocolError"),
        (Fault(asked=frozenset({Asked.LS_REFS}), body=b"0016ERR token SECRET\n0000"), "GitProtocolError"),
    ],
)
async def test_a_listing_that_goes_wrong_has_a_typed_reason(
    git_server: GitServer, repository: Path, work: Work, settings: KrapaoSettings, fault: Fault, reason: str
) -> None:
    work.commit({"x": "one"})
    work.push(repository)
    git_server.fault = fault
    async with Clones(settings).open(parse_url(git_server.url_of("r.git")), NOBODY) as store:
        assert "SECRET" not in await fails(reason, store.advertised(HEAD))
        git_server.fault = None
        await store.advertised(HEAD)


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
            nursery.start_soon(
                store.fetch if asked is Asked.FETCH else _ask, *([found] if asked is Asked.FETCH else [store])
            )
            with trio.fail_after(5):
                await reached.wait()
            began = trio.current_time()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - began < 1
        assert {each.name for each in files_under(settings.state_dir)} <= {"url"}


async def _ask(store: GitStore) -> None:
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


async def test_credentials_open_the_repository_and_wrong_or_no_ones_do_not(
    tmp_path: Path, work: Work, settings: KrapaoSettings
) -> None:
    revision = work.commit({"x": "one"})
    root = tmp_path / "private"
    root.mkdir()
    async with serve_git(root, username="ann", token=SensitiveText("t0ken-ü")) as server:
        location = parse_url(server.create("r.git"))
        work.push(root / "r.git")
        clones = Clones(settings)
        right = GitCredentials(username=SensitiveText("ann"), token=SensitiveText("t0ken-ü\n"))
        async with clones.open(location, right) as store:
            found = await store.advertised(HEAD)
            await store.fetch(found)
            assert found.revision == revision
        wrong = GitCredentials(username=SensitiveText("ann"), token=SensitiveText("WRONG"))
        for credentials in (wrong, NOBODY):
            async with clones.open(location, credentials) as store:
                message = await fails("RepositoryAccessDenied", store.advertised(HEAD))
                assert "WRONG" not in message
        for each in files_under(settings.state_dir):
            assert b"t0ken" not in each.read_bytes()


async def test_a_redirect_on_the_same_host_is_followed_and_no_other(
    git_server: GitServer, repository: Path, work: Work, settings: KrapaoSettings
) -> None:
    revision = work.commit({"x": "one"})
    work.push(repository)
    async with Clones(settings).open(parse_url(git_server.url_of("old.git")), NOBODY) as store:
        git_server.fault = Fault(status=301, location="/r.git/info/refs?service=git-upload-pack")

        requests = 0

        def heal(asked: Asked) -> None:  # the answer to the second request is git's own
            nonlocal requests
            requests += 1
            if requests == 2:
                git_server.fault = None

        git_server.on_asked = heal
        assert (await store.advertised(HEAD)).revision == revision


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


async def test_a_volume_that_can_not_be_written_is_told(
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


async def test_clones_that_nobody_has_open_go_when_there_are_too_many_bytes(
    git_server: GitServer, repository: Path, work: Work, settings: KrapaoSettings
) -> None:
    git_server.create("other.git")
    work.commit({"x": os.urandom(20_000)})
    work.push(repository)
    work.push(git_server.root / "other.git")
    clones = Clones(attrs.evolve(settings, max_store_bytes=30_000))
    async with clones.open(parse_url(git_server.url_of("r.git")), NOBODY) as kept:
        await kept.fetch(await kept.advertised(HEAD))
        async with clones.open(parse_url(git_server.url_of("other.git")), NOBODY) as store:
            await store.fetch(await store.advertised(HEAD))
        await clones.prune()
        [folder] = (settings.state_dir / "repositories").iterdir()
        assert "/r.git" in (folder / "url").read_text()


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


async def test_a_redirect_that_two_parsers_read_differently_takes_no_credentials_along(
    git_server: GitServer, repository: Path, tmp_path: Path, settings: KrapaoSettings
) -> None:
    (tmp_path / "stranger").mkdir()
    async with serve_git(tmp_path / "stranger") as stranger:
        there, here = (server.url.removeprefix("http://") for server in (stranger, git_server))
        location = f"http://{there}\\@{here}/r.git/info/refs?service=git-upload-pack"
        git_server.fault = Fault(status=302, location=location)
        credentials = GitCredentials(token=SensitiveText("canary"))
        async with Clones(settings).open(parse_url(git_server.url_of("r.git")), credentials) as store:
            await fails("InvalidUrl", store.advertised(HEAD))
        assert stranger.hits == []


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


async def test_a_host_cannot_write_into_the_log(
    git_server: GitServer, repository: Path, settings: KrapaoSettings, caplog: pytest.LogCaptureFixture
) -> None:
    line = b"0" * 40 + b" refs/heads/main unknown-part:canary\n"
    git_server.fault = Fault(body=(b"%04x" % (len(line) + 4) + line) * 50 + b"0000", asked=frozenset({Asked.LS_REFS}))
    async with Clones(settings).open(parse_url(git_server.url_of("r.git")), NOBODY) as store:
        with pytest.raises(JiemiError):
            await store.advertised(HEAD)
    assert "canary" not in caplog.text
