"""All clones of one Krapao: which of them leave the volume. test_store.py has the rules."""

from __future__ import annotations

import os
from pathlib import Path

import attrs
from krapao.git.clone_checks import HEAD, NOBODY
from support.krapao.work_tree import Work

from jiemi.core.urls import parse_url
from jiemi.demo.git_server import GitServer
from jiemi.krapao.git.clones import Clones
from jiemi.krapao.settings import KrapaoSettings


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
