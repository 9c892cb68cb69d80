"""`jiemi run-all --cluster node`: from nothing to Pods that follow a repository, and nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support.pods.cluster import given
from support.pods.demo import until

from jiemi.controlplane.node import control_groups

MARK = "jiemi-run-"
PLACES = (Path("/dev/shm"), Path("/var/tmp"))
_STEPS = ("tools", "images", "node", "deploy/", "Pods", "demo repository", "Decryptor", "Secret")
_END_SECONDS = 90


def _run_all(*arguments: str) -> subprocess.Popen[str]:
    images = Path(given("IMAGES").split(":")[0]).parent
    return subprocess.Popen(
        [sys.executable, "-m", "jiemi", "run-all", "--cluster", "node", f"--images={images}", *arguments],
        env={**os.environ, "COLUMNS": "80"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _left(pid: int) -> list[str]:
    """What a run left: folders, control groups, mounts, processes."""
    found = [str(path) for place in PLACES for path in place.glob(f"{MARK}{pid}-*")]
    found += [str(path) for path in control_groups.ROOT.glob(f"**/{control_groups.PREFIX}{pid}")]
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if f"{MARK}{pid}-" in line]
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"{MARK}{pid}-" in line:
            found.append(line)
    return found


@pytest.fixture
def started() -> Iterator[subprocess.Popen[str]]:
    """A run of which nothing is left in the end."""
    process = _run_all("--interval", "10s")
    try:
        yield process
        assert _left(process.pid) == []
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _until_said(process: subprocess.Popen[str], begin: str) -> None:
    """Read what it says until a line begins so."""
    assert process.stdout is not None
    assert any(line.startswith(begin) for line in process.stdout)


def _sh(lines: Sequence[str], *commands: str) -> str:
    """Type commands in another terminal, after the line that it says to type first."""
    [go] = [line.strip() for line in lines if line.startswith("  . ")]
    done = subprocess.run(
        ["bash", "-ec", "; ".join((go, *commands))], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_ends_with_0_once_the_secret_is_there_and_leaves_nothing() -> None:
    process = _run_all("--exit-after-sync")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    for step in _STEPS:
        assert f"✓ {step}" in output
    assert max(len(line) for line in output.splitlines() if line.startswith("✓")) <= 80
    assert " krapao │" in output
    assert "  miwen │" in output
    strangers = [line for line in output.splitlines() if not line.startswith(("✓", "  miwen │", " krapao │"))]
    assert strangers == []
    assert "AGE-SECRET-KEY" not in output
    assert "demo-password-not-a-secret" not in output
    assert _left(process.pid) == []


def test_a_pushed_change_follows_as_the_last_lines_say_and_ctrl_c_ends_it(started: subprocess.Popen[str]) -> None:
    lines: list[str] = []
    assert started.stdout is not None
    reader = threading.Thread(target=lambda: lines.extend(started.stdout or ()))
    reader.start()
    try:
        until("it says what to type", lambda: any("Ctrl-C ends everything" in line for line in lines))
        commands = [line.strip() for line in lines if line.startswith("  ")]
        assert "In another terminal, as root (sh, bash or zsh):" in [line.strip() for line in lines]
        [change] = [line for line in commands if line.startswith("sops set ")]
        [push] = [line for line in commands if line.startswith("git commit")]
        [look] = [line for line in commands if line.startswith("kubectl get secret")]
        said = _sh(lines, "jiemi status", look, change, push, "git rev-parse HEAD")
        assert "default    demo  Sync" in said
        assert "Hello from git" in said
        followed = f"✓ follows {said.split()[-1][:12]} after "
        until("the push is followed", lambda: any(line.startswith(followed) for line in lines))
        assert "Hello again" in _sh(lines, look)
        assert _sh(lines, "kubectl get pods -n jiemi").count("1/1") == 4
    finally:
        started.send_signal(signal.SIGINT)
        started.wait(_END_SECONDS)
        reader.join()
    assert started.returncode == 0
    assert lines[-1].strip() == "stopping …"


def test_a_run_that_is_killed_ends_all_the_same_and_the_next_removes_what_it_left() -> None:
    killed = _run_all()
    _until_said(killed, "✓ node")
    killed.kill()
    killed.communicate(timeout=_END_SECONDS)
    until("the kernel has ended what it ran", lambda: not [each for each in _left(killed.pid) if " " in each])
    process = _run_all()
    _until_said(process, "✓ images")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=_END_SECONDS)
    assert _left(killed.pid) == []
    assert _left(process.pid) == []
