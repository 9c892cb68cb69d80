"""Which sops and gpg Krapao runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jiemi.cli.errors import CommandError
from jiemi.cli.programs import find_gpg, find_sops, own_command
from jiemi.controlplane.pins import PINS, Tool


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sops that `jiemi tools` has, and nothing on the PATH."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return program(tmp_path / "cache" / "jiemi" / "tools" / "sops" / PINS[Tool.SOPS].version / "sops")


def test_the_sops_that_jiemi_tools_has_is_used_where_none_is_on_the_path(cached: Path, tmp_path: Path) -> None:
    assert find_sops(None) == cached
    on_path = program(tmp_path / "bin" / "sops")
    assert find_sops(None) == on_path
    given = program(tmp_path / "other" / "sops")
    assert find_sops(given) == given


def test_without_a_program_nothing_is_found(cached: Path) -> None:
    cached.unlink()
    assert find_sops(None) is None
    assert find_gpg(None) is None


@pytest.mark.parametrize("kind", ["missing", "folder", "not executable"])
@pytest.mark.parametrize(("find", "flag"), [(find_sops, "--sops"), (find_gpg, "--gpg")])
def test_a_program_that_is_given_and_can_not_be_run_is_an_error(
    cached: Path, tmp_path: Path, find: Callable[[Path | None], Path | None], flag: str, kind: str
) -> None:
    given = tmp_path / "given"
    if kind == "folder":
        given.mkdir()
    elif kind == "not executable":
        given.write_text("")
    with pytest.raises(CommandError) as caught:
        find(given)
    said = str(caught.value)
    assert said.startswith(f"{flag} {given} ")
    assert ("does not exist" in said) == (kind == "missing")
    assert ("jiemi tools sops" in said) == (flag == "--sops")


@pytest.mark.parametrize("flag", ["--sops", "--gpg"])
@pytest.mark.parametrize("command", ["krapao", "doctor"])
def test_krapao_and_doctor_do_not_start_with_such_a_flag(tmp_path: Path, command: str, flag: str) -> None:
    more = ["--state-dir", str(tmp_path / "state"), "--listen", f"unix:{tmp_path}/s"] if command == "krapao" else []
    argv = [*own_command(), command, flag, "/nonexist/program", *more]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {flag} /nonexist/program does not exist: ")
    assert not (tmp_path / "state").exists()


def test_own_command_runs_from_anywhere(tmp_path: Path) -> None:
    assert own_command()[0] == sys.executable
    done = subprocess.run(
        [*own_command(), "--version"], cwd=tmp_path, env=dict(os.environ), capture_output=True, check=True
    )
    assert done.stdout.startswith(b"jiemi ")
