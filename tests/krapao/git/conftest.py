"""A repository to follow."""

from __future__ import annotations

from pathlib import Path

import pytest

from jiemi.demo.git_server import GitServer


@pytest.fixture
def repository(git_server: GitServer) -> Path:
    git_server.create("r.git")
    return git_server.root / "r.git"
