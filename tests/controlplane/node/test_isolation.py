"""What a node needs of a machine, and what it leaves there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jiemi.controlplane.node import isolation

NOBODY = 65534
_SECONDS = 987_654
"""Which no other process sleeps for."""


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(isolation, "CONTROL_GROUPS", tmp_path)
    return tmp_path


def _left(control_group: str) -> list[Path]:
    with isolation.cleaned_up(control_group, []) as left:
        pass
    return left


def test_control_groups_of_version_1_are_made_in_each_hierarchy_and_removed_with_all_below(groups: Path) -> None:
    for name in ("cpu", "memory", "cpuset"):
        (groups / name).mkdir()
        (groups / name / "tasks").touch()
        (groups / name / "cgroup.procs").touch()
    for name, value in (("cpuset.cpus", "0-1\n"), ("cpuset.mems", "0\n")):
        (groups / "cpuset" / name).write_text(value)
    (groups / "unified").mkdir()  # version 2 beside version 1 has no controllers
    isolation.make_control_group("node-1")
    assert (groups / "cpuset" / "node-1" / "cpuset.cpus").read_text() == "0-1\n"
    assert not (groups / "unified" / "node-1").exists()
    (groups / "unified" / "cgroup.procs").touch()
    (groups / "unified" / "node-1" / "kubepods").mkdir(parents=True)
    for name in ("cpuset.cpus", "cpuset.mems"):  # the kernel's files go with their group
        (groups / "cpuset" / "node-1" / name).unlink()
    (groups / "memory" / "node-1" / "kubepods" / "pod-1").mkdir(parents=True)
    assert _left("node-1") == []
    assert not list(groups.rglob("node-1"))


def test_one_control_group_of_version_2(groups: Path) -> None:
    (groups / "cgroup.controllers").touch()
    isolation.make_control_group("node-1")
    assert (groups / "node-1").is_dir()
    assert _left("node-1") == []
    assert not (groups / "node-1").exists()


def test_what_can_not_be_removed_is_named(groups: Path) -> None:
    (groups / "cgroup.controllers").touch()
    isolation.make_control_group("node-1")
    (groups / "node-1" / "held").touch()
    assert _left("node-1") == [groups / "node-1"]


def test_the_folders_that_a_node_makes_are_removed_and_those_that_were_there_stay(groups: Path, tmp_path: Path) -> None:
    (groups / "cgroup.controllers").touch()
    there, made, never = (tmp_path / name for name in ("there", "made", "never"))
    there.mkdir()
    with isolation.cleaned_up("node-1", [str(there), str(made), str(never)]):
        made.mkdir()
    assert (there.exists(), made.exists(), never.exists()) == (True, False, False)


def test_what_a_machine_lacks_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(isolation, "SEARCH_PATH", str(tmp_path))
    monkeypatch.setattr(isolation, "CNI_FOLDERS", (tmp_path / "cni",))
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    missing = "; ".join(isolation.missing_requirements())
    assert "root" in missing
    assert "containerd, containerd-shim-runc-v2, ctr, runc, nft" in missing
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
