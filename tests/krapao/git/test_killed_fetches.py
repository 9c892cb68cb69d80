"""Krapao is killed at any moment of a fetch: what the next one says is right, and nothing of the killed one stays."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import attrs
import pytest
import trio
from krapao.git.clone_checks import files_under
from support.krapao.work_tree import Work
from support.paths import ROOT

from jiemi.demo.git_server import GitServer
from jiemi.krapao.settings import KrapaoSettings


@attrs.frozen
class Fetches:
    """The program of `support.krapao.killed_fetches`, running."""

    url: str
    state: Path
    asked: IO[str]
    answers: IO[str]

    async def run(self, kill_after: float | None) -> tuple[bool, dict[str, object] | None]:
        """One fetch; returns whether it was killed, and what it read."""
        asked = {"url": self.url, "state": str(self.state), "kill_after": kill_after}
        self.asked.write(json.dumps(asked) + "\n")
        self.asked.flush()
        with trio.fail_after(30):
            line = await trio.to_thread.run_sync(self.answers.readline, abandon_on_cancel=True)
        answer = json.loads(line)
        return answer["killed"], answer["answer"]


@pytest.fixture
def fetches(git_server: GitServer, repository: Path, settings: KrapaoSettings) -> Iterator[Fetches]:
    argv = [sys.executable, "-m", "support.krapao.killed_fetches"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}"}
    with subprocess.Popen(argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Fetches(git_server.url_of(repository.name), settings.state_dir, process.stdin, process.stdout)
        process.stdin.close()
        process.wait(10)


@pytest.mark.parametrize("kills", [30, pytest.param(200, marks=pytest.mark.soak)])
async def test_a_killed_fetch_spoils_nothing(fetches: Fetches, repository: Path, work: Work, kills: int) -> None:
    made = random.Random(kills)
    files = {f"a/{number}.yaml": made.randbytes(30_000) for number in range(10)}
    killed = 0
    longest = 0.25
    for number in range(kills):
        changed = made.choice(sorted(files))
        files[changed] = made.randbytes(made.choice((10, 30_000, 600_000)))
        revision = work.commit(files, f"commit {number}")
        work.push(repository)
        was_killed, read = await fetches.run(made.uniform(0, longest))
        killed += was_killed
        # Those that are through before they are killed make the next ones be killed sooner.
        longest = max(longest * 0.8, 0.05) if read is not None else min(longest * 1.2, 1.0)
        was_killed, read = await fetches.run(None)
        assert not was_killed
        assert read is not None
        assert read["revision"] == revision
        assert read["files"] == {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
        assert read["failures"] == [], "a killed fetch cost the next one an error"
        remains = [
            path
            for path in files_under(fetches.state)
            if ".new" in str(path)
            or "removed-" in str(path)
            or (path.parent.name == "pack" and "pack-" not in path.name)
        ]
        assert not remains
    assert killed > kills / 4, "most were through before they were killed"
