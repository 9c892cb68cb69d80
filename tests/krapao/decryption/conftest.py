"""What the tests of decryption need: a runtime folder in memory that must be empty in the end."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jiemi.krapao.confinement.processes import adopt_orphans


@pytest.fixture
def runtime() -> Iterator[Path]:
    path = Path("/dev/shm") / f"jiemi-test-{os.getpid()}"
    path.mkdir()
    adopt_orphans()
    yield path
    left = list(path.iterdir())
    subprocess.run(["rm", "-rf", str(path)], check=True)
    assert left == []
