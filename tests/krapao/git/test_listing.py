"""Listings over http from the demo's git server: what a ref names, and every way to fail."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
from krapao.git.clone_checks import HEAD, NOBODY, fails
from support.krapao.work_tree import Work

from jiemi.core.errors import JiemiError
from jiemi.core.urls import parse_url
from jiemi.demo.git_server import Asked, Fault, GitServer
from jiemi.krapao.git.clones import Clones
from jiemi.krapao.git.port import Ref
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.source import TagRange


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


async def test_a_range_follows_the_newest_tag_however_tags_move(
    git_server: GitServer, repository: Path, work: Work, settings: KrapaoSettings
) -> None:
    first = work.commit({"x": "one"})
    work.git("tag", "v1.0.0")
    work.git("tag", "-a", "v1.1.0", "-m", "annotated")
    work.git("tag", "-a", "v1.2.0", "-m", "of a tag", "v1.1.0")
    work.push(repository, "main", "--tags")
    ones = Ref(tags=TagRange("1.x"))
    async with Clones(settings).open(parse_url(git_server.url_of("r.git")), NOBODY) as store:
        found = await store.advertised(ones)
        assert (found.revision, found.ref) == (first, "refs/tags/v1.2.0")
        assert found.target != first
        await store.fetch(found)
        assert await store.read(first, "x", max_bytes=10) == b"one"
        # A tag is moved to another commit, and then a newer one is deleted.
        second = work.commit({"x": "two"})
        work.git("tag", "-f", "v1.2.0")
        work.push(repository, "main", "--tags", "--force")
        moved = await store.advertised(ones)
        assert (moved.revision, moved.ref) == (second, "refs/tags/v1.2.0")
        work.git("push", "--quiet", str(repository), ":refs/tags/v1.2.0")
        assert (await store.advertised(ones)).ref == "refs/tags/v1.1.0"
        # What is no commit is refused when it is fetched, as a tag that is named.
        blob = work.git("rev-parse", "HEAD:x")
        work.git("tag", "v1.9.0", blob)
        work.push(repository, "--tags")
        odd = await store.advertised(ones)
        assert odd.ref == "refs/tags/v1.9.0"
        assert "is no commit" in await fails("RefNotFound", store.fetch(odd))


async def test_a_ref_that_is_neither_branch_nor_tag_is_followed_by_its_full_name(
    git_server: GitServer, repository: Path, work: Work, settings: KrapaoSettings
) -> None:
    work.commit({"x": "one"})
    work.push(repository)
    change = work.commit({"x": "two"})
    work.push(repository, "HEAD:refs/pull/420/head", "HEAD:refs/merge-requests/1/head")
    async with Clones(settings).open(parse_url(git_server.url_of("r.git")), NOBODY) as store:
        for name in ("refs/pull/420/head", "refs/merge-requests/1/head"):
            found = await store.advertised(Ref(name=name))
            assert (found.revision, found.ref) == (change, name)
        await store.fetch(found)
        assert await store.read(change, "x", max_bytes=10) == b"two"
        gone = Ref(name="refs/pull/420/merge")
        assert "it has refs/pull/420/head" in await fails("RefNotFound", store.advertised(gone))
        git_server.forget_hits()
        assert "it has refs/pull/420/head" in await fails("RefNotFound", store.advertised(gone))
        assert git_server.count(Asked.LS_REFS) == 1


async def test_an_empty_repository_has_no_head(
    git_server: GitServer, repository: Path, settings: KrapaoSettings
) -> None:
    async with Clones(settings).open(parse_url(git_server.url_of("r.git")), NOBODY) as store:
        assert "or is empty" in await fails("RefNotFound", store.advertised(HEAD))


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


async def test_a_host_cannot_write_into_the_log(
    git_server: GitServer, repository: Path, settings: KrapaoSettings, caplog: pytest.LogCaptureFixture
) -> None:
    line = b"0" * 40 + b" refs/heads/main unknown-part:canary\n"
    git_server.fault = Fault(body=(b"%04x" % (len(line) + 4) + line) * 50 + b"0000", asked=frozenset({Asked.LS_REFS}))
    async with Clones(settings).open(parse_url(git_server.url_of("r.git")), NOBODY) as store:
        with pytest.raises(JiemiError):
            await store.advertised(HEAD)
    assert "canary" not in caplog.text


async def test_a_ref_that_stays_missing_takes_one_listing_per_look_and_says_what_is_there_now(
    git_server: GitServer, repository: Path, work: Work, settings: KrapaoSettings
) -> None:
    work.commit({"x": "one"})
    work.push(repository)
    wanted = Ref(branch="release")

    async def counted(expected: int, says: str) -> None:
        git_server.forget_hits()
        assert says in await fails("RefNotFound", store.advertised(wanted))
        assert git_server.count(Asked.LS_REFS) == expected

    async with Clones(settings).open(parse_url(git_server.url_of("r.git")), NOBODY) as store:
        await counted(2, "it has the branch main")
        await counted(1, "it has the branch main")
        work.push(repository, "HEAD:refs/heads/releases")
        await counted(1, "releases")
        # A listing that fails has shown nothing of the other refs; the next look asks for the one ref again.
        git_server.fault = Fault(status=500, asked=frozenset({Asked.LS_REFS}))
        await fails("GitProtocolError", store.advertised(wanted))
        git_server.fault = None
        await counted(2, "releases")
        revision = work.commit({"x": "two"})
        work.push(repository, "HEAD:refs/heads/release")
        git_server.forget_hits()
        for _ in range(2):
            assert (await store.advertised(wanted)).revision == revision
        assert git_server.count(Asked.LS_REFS) == 2
        work.push(repository, ":refs/heads/release")
        await counted(2, "releases")


async def test_refs_that_are_too_many_to_be_listed_keep_a_missing_one_missing(
    git_server: GitServer, repository: Path, work: Work, settings: KrapaoSettings
) -> None:
    work.commit({"x": "one"})
    work.push(repository, *(f"HEAD:refs/heads/b-{number}" for number in range(40)))
    few = attrs.evolve(settings, max_refs_bytes=2_500)
    async with Clones(few).open(parse_url(git_server.url_of("r.git")), NOBODY) as store:
        for _ in range(3):
            said = await fails("RefNotFound", store.advertised(Ref(branch="release")))
            assert "b-1" not in said
    assert git_server.count(Asked.LS_REFS) == 6  # each look tries to list them
