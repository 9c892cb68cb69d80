"""Signers, and what verifies what they sign."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from support.krapao.pgp_keys import gpg_home_in_memory
from support.krapao.work_tree import Work
from support.signing.signers import raw_object

from jiemi.concurrency.askers import Askers
from jiemi.core.errors import JiemiError
from jiemi.krapao.confinement.probe import probe
from jiemi.krapao.confinement.spawn import Measures
from jiemi.krapao.git.port import Advertised, SignedObjects
from jiemi.krapao.settings import KrapaoSettings
from jiemi.krapao.signatures.verifier import Verifier
from jiemi.rpc.verification import Verification, Verified


@pytest.fixture(scope="session")
def gpg_home() -> Iterator[Path]:
    yield from gpg_home_in_memory()


@attrs.define
class Judge:
    """Verifies objects of a work tree."""

    verifier: Verifier

    async def commit(self, work: Work, verification: Verification, name: str = "HEAD") -> Verified:
        revision = work.git("rev-parse", f"{name}^{{commit}}")
        objects = SignedObjects(raw_object(work, "commit", revision))
        return await self.verifier.verify(verification, objects, Advertised(revision, revision), Askers(""))

    async def tag(self, work: Work, verification: Verification, name: str, *, ref: str | None = None) -> Verified:
        revision, target = work.git("rev-parse", f"{name}^{{commit}}"), work.git("rev-parse", name)
        tags: list[bytes] = []
        sha = target
        while sha != revision:
            tags.append(raw_object(work, "tag", sha))
            sha = tags[-1].split()[1].decode()
        objects = SignedObjects(raw_object(work, "commit", revision), tuple(tags))
        wanted = Advertised(revision, target, ref or f"refs/tags/{name}")
        return await self.verifier.verify(verification, objects, wanted, Askers(""))

    async def refusal(self, work: Work, verification: Verification, name: str = "HEAD", *, tag: bool = False) -> str:
        """The reason, and the text."""
        with pytest.raises(JiemiError) as caught:
            await (self.tag if tag else self.commit)(work, verification, name)
        return str(caught.value)


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    settings = KrapaoSettings(state_dir=tmp_path / "state")

    async def measures() -> Measures:
        return await probe(folder=settings.runtime_dir, programs_path=settings.programs_path)

    return Judge(Verifier(settings, measures))


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(tmp_path / "work")
