"""One bit of a clone is not what was written: every answer is right, or the clone is recreated and the next one is."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import attrs
import pytest
from krapao.git.clone_checks import NOBODY, files_under
from support.krapao.work_tree import Work

from jiemi.core.errors import JiemiError
from jiemi.core.urls import parse_url
from jiemi.demo.git_server import GitServer
from jiemi.krapao.git.clones import Clones
from jiemi.krapao.git.port import Advertised, GitStore
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.contract import FilesRequest

FLIPS_OF_A_FILE = 10
MAX_FILE_BYTES = 10_000


@attrs.frozen
class Revision:
    """A revision, and its files as git has them."""

    name: str
    files: dict[str, bytes]


@attrs.frozen
class Prepared:
    """A volume with two revisions; the third is on the host only."""

    url: str
    settings: KrapaoSettings
    revisions: tuple[Revision, Revision, Revision]


async def follow(store: GitStore, revision: Revision) -> dict[str, bytes]:
    """Have the revision here, as the worker of a repository does, and read all of it."""
    wanted = Advertised(revision.name, revision.name)
    await store.fetch(wanted)
    request = FilesRequest(revision.name, ("**", "a/1.yaml"), ("left-out/**",))
    found = await store.files(request, max_bytes=MAX_FILE_BYTES)
    assert {each.path: each.config is not None for each in found.entries} == dict.fromkeys(revision.files, True)
    return {path: await store.read(revision.name, path, max_bytes=MAX_FILE_BYTES) for path in revision.files}


@pytest.fixture
async def prepared(git_server: GitServer, repository: Path, work: Work, settings: KrapaoSettings) -> Prepared:
    made = random.Random(1)
    files = {f"a/{number}.yaml": made.randbytes(2_000).hex().encode() for number in range(6)}
    files["a/b/c/deep.yaml"] = b"deep"
    url = git_server.url_of("r.git")
    done = []
    for number in range(3):
        # One line of each differs, so that the second and third come as deltas against the first.
        files = {path: content + b"%d\n" % number for path, content in files.items()}
        name = work.commit({**files, ".sops.yaml": b"creation_rules: []\n"})
        work.push(repository)
        done.append(Revision(name, files))
        if number < 2:
            async with Clones(settings).open(parse_url(url), NOBODY) as store:
                assert await follow(store, done[-1]) == files
    [first, second, third] = done
    return Prepared(url, settings, (first, second, third))


async def recovers(settings: KrapaoSettings, prepared: Prepared, revision: Revision, where: str) -> int:
    """The revision is followed again and again until it is there.

    Returns:
        How often it was not.
    """
    async with Clones(settings).open(parse_url(prepared.url), NOBODY) as store:
        for failed in range(3):
            try:
                assert await follow(store, revision) == revision.files, where
            except JiemiError as error:
                assert error.failure.reason in ("StorageFailed", "RevisionNotFound"), f"{where}: {error.failure}"
            else:
                return failed
    raise AssertionError(f"{where}: it stays unreadable")


async def test_a_flipped_bit_leads_to_no_wrong_answer(prepared: Prepared, tmp_path: Path) -> None:
    pristine = prepared.settings.state_dir
    chosen = random.Random(2)
    failed = 0
    flipped = 0
    for file in sorted(files_under(pristine)):
        size = file.stat().st_size
        relative = file.relative_to(pristine)
        # The heads of packs and indexes are where sizes, counts and offsets are.
        for bit in {*chosen.sample(range(size * 8), min(size * 8, FLIPS_OF_A_FILE)), *range(96, min(size * 8, 104))}:
            state = tmp_path / "damaged"
            shutil.copytree(pristine, state)
            damaged = state / relative
            damaged.chmod(0o600)
            data = bytearray(damaged.read_bytes())
            data[bit // 8] ^= 1 << bit % 8
            damaged.write_bytes(data)
            settings = attrs.evolve(prepared.settings, state_dir=state)
            for revision in chosen.sample(prepared.revisions, 3):
                failed += await recovers(settings, prepared, revision, f"bit {bit} of {relative}, {revision.name}")
            flipped += 1
            shutil.rmtree(state)
    assert flipped >= 72
    assert failed, "no flip was seen by any reader"
