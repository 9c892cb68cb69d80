"""`jiemi run-all`: from nothing to a Secret that follows, and nothing is left, whenever it ends."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.e2e.lab import until

pytestmark = pytest.mark.e2e

MEMORY = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path("/tmp")
MARK = "jiemi-run-"

_PIDS: list[int] = []
"""The run of the test."""


def _folders(pid: int) -> list[Path]:
    return list(MEMORY.glob(f"{MARK}{pid}-*"))


def _processes(pid: int) -> list[str]:
    """Command lines of processes that work in the folder of a run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"{MEMORY}/{MARK}{pid}-" in line:
            found.append(f"{entry.name} {line}")
    return found


def _start(tools: dict[str, Path], *arguments: str) -> subprocess.Popen[str]:
    given = [f"--{name}={tools[name]}" for name in ("sops", "etcd", "kube-apiserver")]
    process = subprocess.Popen(
        [sys.executable, "-m", "jiemi", "run-all", "--cluster", "embedded", *given, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    _PIDS.append(process.pid)
    return process


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    _PIDS.clear()
    yield
    assert len(_PIDS) == 1
    assert _processes(_PIDS[0]) == []
    assert _folders(_PIDS[0]) == []


def test_it_ends_with_0_once_the_demo_secret_is_there(tools: dict[str, Path]) -> None:
    abandoned = MEMORY / f"{MARK}{2**22 + 1}-killed"  # a number that no process has (proc_sys_kernel(5), pid_max)
    abandoned.mkdir()
    process = _start(tools, "--exit-after-sync")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert not abandoned.exists(), "what a killed run left is removed by the next"
    for step in ("tools", "cluster", "CustomResourceDefinition", "demo repository", "Krapao", "Miwen", "Secret"):
        assert f"✓ {step}" in output
    assert max(len(line) for line in output.splitlines() if line.startswith("✓")) <= 80
    assert "miwen │" in output
    # All that is shown are its steps and the lines of the two services; not what its own client of the cluster logs.
    strangers = [line for line in output.splitlines() if not line.startswith(("✓", "  miwen │", " krapao │"))]
    assert strangers == []
    assert "AGE-SECRET-KEY" not in output
    assert "demo-password-not-a-secret" not in output


def test_it_ends_with_another_status_when_the_secret_does_not_come(tools: dict[str, Path]) -> None:
    process = _start(tools, "--exit-after-sync", "--timeout", "1ms")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    assert "did not appear within" in output


def test_a_pushed_change_follows_as_the_last_lines_say(tools: dict[str, Path]) -> None:
    process = _start(tools, "--interval", "1s")
    lines: list[str] = []
    assert process.stdout is not None
    reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()))
    reader.start()
    try:
        until("it says what to type", lambda: any("Ctrl-C ends everything" in line for line in lines))
        commands = [line.strip() for line in lines if line.startswith("  ")]
        [change] = [line for line in commands if line.startswith("sops set ")]
        [go] = [line for line in commands if line.startswith(". ")]
        [push] = [line for line in commands if line.startswith("git commit")]
        script = f"{go}; jiemi status; {change}; {push}; git rev-parse HEAD"
        done = subprocess.run(["bash", "-ec", script], check=False, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert "default    demo  Sync" in done.stdout
        followed = f"✓ follows {done.stdout.split()[-1][:12]} after "
        until(
            "the pushed change is applied",
            lambda: any(line.startswith(followed) for line in lines),
            on_failure=lambda: "".join(lines),
        )
        assert any(" in_sync default/demo, id 2, revision " in line for line in lines)
        # One that changes nothing, and one that can't be opened
        nothing = "touch x; git add x; git commit -qm x; git push -q"
        subprocess.run(["bash", "-ec", f"{go}; {nothing}"], check=True, capture_output=True, timeout=60)
        until(
            "it is said to change nothing", lambda: any(" changes nothing in secret.enc.yaml" in each for each in lines)
        )
        spoilt = "sed -i 's/^    mac: .*/    mac: x/' secret.enc.yaml; git commit -qam spoilt; git push -q"
        subprocess.run(["bash", "-ec", f"{go}; {spoilt}"], check=True, capture_output=True, timeout=60)
        until(
            "it is said not to be followed",
            lambda: any(line.startswith("✗ ") and " is not followed: " in line for line in lines),
            on_failure=lambda: "".join(lines),
        )
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        reader.join()
        process.stdout.close()
    assert lines[-1].strip() == "stopping …"


_SIGNALS = [signal.SIGINT] * 5 + [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]


def _catches(pid: int, number: int) -> bool:
    """Whether a process has a handler of its own for a signal (proc(5): SigCgt, a mask in hexadecimal)."""
    [caught] = re.findall(r"^SigCgt:\t(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(caught, 16) >> (number - 1) & 1)


@pytest.mark.parametrize("number", range(len(_SIGNALS)))
def test_ctrl_c_at_any_moment_leaves_nothing_behind(tools: dict[str, Path], number: int) -> None:
    process = _start(tools)
    # A different moment in each run of the suite: from the first import to after the sync.
    time.sleep(random.Random().uniform(0.8, 1.2 * (number + 1)))
    if _SIGNALS[number] != signal.SIGINT:
        # Before it catches these it has made nothing, and ends as every process does.
        until("the signal is caught", lambda: _catches(process.pid, _SIGNALS[number]))
    process.send_signal(_SIGNALS[number])
    output, _ = process.communicate(timeout=30)
    # Where an interrupt comes inside of an exec() of text, as attrs makes classes, CPython ends by the signal in the
    # end, though it was caught: 130 for a shell, as the exit status is.
    assert process.returncode in (0, 130, -signal.SIGINT), output
    assert "Traceback" not in output
