"""What a node needs of a machine, and what it leaves there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jiemi.controlplane.node import control_groups, isolation

NOBODY = 65534
_SECONDS = 987_654
"""Which no other process sleeps for."""


def test_the_folders_that_a_node_makes_are_removed_and_those_that_were_there_stay(tmp_path: Path) -> None:
    there, made, never = (tmp_path / name for name in ("there", "made", "never"))
    there.mkdir()
    with isolation.removed_folders([str(there), str(made), str(never)]):
        made.mkdir()
    assert (there.exists(), made.exists(), never.exists()) == (True, False, False)


def test_what_a_machine_lacks_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(isolation, "SEARCH_PATH", str(tmp_path))
    monkeypatch.setattr(isolation, "CNI_FOLDERS", (tmp_path / "cni",))
    monkeypatch.setattr(control_groups, "ROOT", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    missing = "; ".join(isolation.missing_requirements())
    assert "root" in missing
    assert "containerd, containerd-shim-runc-v2, ctr, runc, nft" in missing
    assert f"control groups that it can make ({tmp_path} can't be written)" in missing
    assert f"bridge, host-local, loopback in {tmp_path / 'cni'}" in missing


@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces are made by root")
def test_what_runs_isolated_has_a_network_of_its_own_and_all_of_it_ends_with_the_first() -> None:
    script = (
        "import os, subprocess\n"
        f"subprocess.Popen(['sleep', '{_SECONDS}'])\n"
        "print(os.getpid(), open('/proc/net/dev').read().count(':'))\n"
    )
    done = subprocess.run(
        isolation.isolated([sys.executable, "-c", script]), capture_output=True, text=True, check=True, timeout=60
    )
    pid, interfaces = done.stdout.split()
    assert int(pid) <= 2
    assert interfaces == "1"
    left = subprocess.run(["pgrep", "-f", f"sleep {_SECONDS}"], capture_output=True, text=True, check=False)
    assert left.stdout == ""
