"""Commits for Krapao to follow, made by the real git."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from jiemi.demo.git_server import git_environment

GIT = shutil.which("git") or "git"


class Work:
    """A work tree to make commits in."""

    def __init__(self, path: Path, object_format: str = "sha1") -> None:
        self.path = path
        path.mkdir(parents=True)
        self._env = git_environment(GIT, path.parent) | {
            "GIT_AUTHOR_NAME": "a",
            "GIT_AUTHOR_EMAIL": "a@example.com",
            "GIT_COMMITTER_NAME": "a",
            "GIT_COMMITTER_EMAIL": "a@example.com",
        }
        self.git("init", "--quiet", "--initial-branch=main", f"--object-format={object_format}")

    def git(self, *arguments: str) -> str:
        run = [GIT, "-c", "protocol.file.allow=always", *arguments]
        return subprocess.run(
            run, cwd=self.path, env=self._env, check=True, capture_output=True, text=True
        ).stdout.strip()

    def commit(self, files: Mapping[str, bytes | str], message: str = "x") -> str:
        """Write the files, commit everything; returns the revision."""
        for name, content in files.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def push(self, bare: Path, *refs: str) -> None:
        """Push by path, so that no server counts it."""
        self.git("push", "--quiet", "--force", str(bare), *(refs or ("HEAD:refs/heads/main",)))
