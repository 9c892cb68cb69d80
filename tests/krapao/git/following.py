"""What each transport must do: follow a repository, pin a commit, and fail with a typed reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from krapao.git.clone_checks import NOBODY
from support.krapao.work_tree import Work

from jiemi.core.errors import JiemiError
from jiemi.core.urls import parse_url
from jiemi.krapao.git.clones import Clones
from jiemi.krapao.git.port import Advertised, Ref
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.source import GitCredentials


async def listing_fails(reason: str, settings: KrapaoSettings, url: str, credentials: GitCredentials = NOBODY) -> str:
    async with Clones(settings).open(parse_url(url, allow_file=True), credentials) as store:
        with pytest.raises(JiemiError) as caught:
            await store.advertised(Ref())
    assert caught.value.failure.reason == reason, str(caught.value)
    return caught.value.failure.text


async def follow(settings: KrapaoSettings, url: str, credentials: GitCredentials, work: Work, bare: Path) -> None:
    """Clone, then follow a second commit and an annotated tag."""
    async with Clones(settings).open(parse_url(url, allow_file=True), credentials) as store:
        for content in ("one", "two"):
            work.commit({"x": content})
            work.git("tag", "-f", "-a", "v1", "-m", "tag")
            work.push(bare, "HEAD:refs/heads/main", "v1")
            for ref in (Ref(), Ref(tag="v1"), Ref(branch="main")):
                found = await store.advertised(ref)
                await store.fetch(found)
                assert await store.read(found.revision, "x", max_bytes=10) == content.encode()


async def pin(settings: KrapaoSettings, url: str, credentials: GitCredentials, work: Work, bare: Path) -> None:
    """Fetch commits by their hashes, wherever they are, and get a typed reason for what is none."""
    async with Clones(settings).open(parse_url(url, allow_file=True), credentials) as store:

        async def fetch(name: str) -> str:
            wanted = await store.advertised(Ref(commit=name))
            assert wanted == Advertised(name, name)
            await store.fetch(wanted)
            return (await store.read(name, "x", max_bytes=10)).decode()

        async def refuses(name: str) -> str:
            with pytest.raises(JiemiError) as caught:
                await fetch(name)
            return caught.value.failure.reason

        assert await refuses("1" * 40) == "RevisionNotFound"  # of an empty repository
        first = work.commit({"x": "one"})
        work.git("checkout", "--quiet", "-b", "other")
        other = work.commit({"x": "other"})
        work.git("checkout", "--quiet", "main")
        work.commit({"x": "two"})
        work.git("tag", "-a", "v1", "-m", "tag")
        work.push(bare, "main", "other", "v1")
        assert [await fetch(first), await fetch(other)] == ["one", "other"]
        for named in ("v1", "v1^{tree}", "v1:x"):
            assert await refuses(work.git("rev-parse", named)) == "RefNotFound"
        for gone in ("1" * 40, "2" * 64):
            assert await refuses(gone) == "RevisionNotFound"
        # Its HEAD names a branch that is not there.
        work.git("--git-dir", str(bare), "symbolic-ref", "HEAD", "refs/heads/nowhere")
        newest = work.commit({"x": "three"})
        work.push(bare)
        assert [await fetch(newest), await fetch(first)] == ["three", "one"]
