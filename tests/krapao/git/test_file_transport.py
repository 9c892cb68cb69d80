"""Clones of file:// URLs."""

from __future__ import annotations

from pathlib import Path

import attrs
from krapao.git.clone_checks import NOBODY
from krapao.git.following import follow, listing_fails, pin
from support.krapao.work_tree import Work

from jiemi.core.urls import parse_url
from jiemi.krapao.git.clones import Clones
from jiemi.krapao.git.port import Advertised, Ref
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.contract import FilesRequest


async def test_a_file_url_is_followed_where_it_is_allowed_and_refused_elsewhere(
    work: Work, settings: KrapaoSettings, tmp_path: Path
) -> None:
    bare = tmp_path / "bare.git"
    work.git("init", "--quiet", "--bare", "--initial-branch=main", str(bare))
    allowed = attrs.evolve(settings, allow_file_urls=True)
    await follow(allowed, f"file://{bare}", NOBODY, work, bare)
    await listing_fails("RepositoryNotFound", allowed, f"file://{tmp_path}/gone.git")
    await listing_fails("SchemeNotAllowed", settings, f"file://{bare}")


async def test_a_commit_is_pinned_in_a_file_url(work: Work, settings: KrapaoSettings, tmp_path: Path) -> None:
    bare = tmp_path / "bare.git"
    work.git("init", "--quiet", "--bare", "--initial-branch=main", str(bare))
    await pin(attrs.evolve(settings, allow_file_urls=True), f"file://{bare}", NOBODY, work, bare)


async def test_a_sha256_repository_is_followed_too(settings: KrapaoSettings, tmp_path: Path, work: Work) -> None:
    sha256 = type(work)(tmp_path / "work256", "sha256")
    revision = sha256.commit({"x": "one"})
    assert len(revision) == 64
    bare = tmp_path / "r256.git"
    sha256.git("clone", "--quiet", "--bare", str(sha256.path), str(bare))
    async with Clones(attrs.evolve(settings, allow_file_urls=True)).open(
        parse_url(f"file://{bare}", allow_file=True), NOBODY
    ) as store:
        await store.fetch(await store.advertised(Ref()))
        assert await store.read(revision, "x", max_bytes=10) == b"one"
        assert await store.advertised(Ref(commit=revision)) == Advertised(revision, revision)
        for pattern in ("x", "*"):
            [entry] = (await store.files(FilesRequest(revision, (pattern,)), max_bytes=10)).entries
            assert (entry.path, entry.blob) == ("x", sha256.git("rev-parse", "HEAD:x"))
