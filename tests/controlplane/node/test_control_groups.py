"""The control group of a node's Pods, in both versions, and what a killed run leaves of it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jiemi.controlplane.locks import locked_folder
from jiemi.controlplane.node import control_groups
from jiemi.controlplane.node.control_groups import ControlGroupError, held

NUMBER = 4_194_305
"""Greater than any process id (pid_max in proc_sys_kernel(5))."""

NAME = f"jiemi-node-{NUMBER}"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(control_groups, "ROOT", tmp_path)
    return tmp_path


def _version_1(root: Path) -> None:
    for name in ("cpu,cpuacct", "memory", "cpuset", "unified"):
        (root / name).mkdir()
        (root / name / "cgroup.procs").touch()
    (root / "cpu").symlink_to("cpu,cpuacct")  # as systemd makes them
    for name, value in (("cpuset.cpus", "0-1\n"), ("cpuset.mems", "0\n")):
        (root / "cpuset" / name).write_text(value)


def _version_2(root: Path) -> None:
    (root / "cgroup.controllers").write_text("")
    (root / "cgroup.subtree_control").write_text("")
    (root / "cgroup.procs").touch()


def test_in_version_1_it_is_made_in_each_hierarchy_and_removed_with_all_below(root: Path) -> None:
    _version_1(root)
    assert control_groups.can_be_made()
    with held(NUMBER) as (name, left):
        assert name == NAME
        assert (root / "cpuset" / NAME / "cpuset.cpus").read_text() == "0-1\n"
        for each in ("cpuset.cpus", "cpuset.mems"):  # the kernel's files go with their group
            (root / "cpuset" / NAME / each).unlink()
        for hierarchy in ("memory", "unified"):
            (root / hierarchy / NAME / "kubepods" / "pod-1").mkdir(parents=True)
    assert left == []
    assert not list(root.rglob(NAME))


def test_in_version_2_it_is_one(root: Path) -> None:
    _version_2(root)
    with held(NUMBER) as (_, left):
        assert (root / NAME).is_dir()
    assert left == []
    assert not (root / NAME).exists()


def test_what_can_not_be_removed_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_groups, "_END_SECONDS", 0.2)
    _version_2(root)
    with held(NUMBER) as (_, left):
        (root / NAME / "in-use").touch()
    assert left == [root / NAME]


def test_processes_that_are_about_to_be_gone_are_waited_for(root: Path) -> None:
    _version_2(root)
    with held(NUMBER) as (_, left):
        busy = root / NAME / "in-use"
        busy.touch()
        ending = threading.Timer(0.3, busy.unlink)
        ending.start()
    ending.join()
    assert left == []
    assert not (root / NAME).exists()


def test_the_next_run_removes_groups_of_one_that_was_killed_and_no_others(root: Path) -> None:
    _version_1(root)
    killed, living = "jiemi-node-1", "jiemi-node-2"  # process ids say nothing: there are namespaces of them
    for hierarchy in ("memory", "unified"):
        for name in (killed, living, "kubepods"):
            (root / hierarchy / name / "kubepods").mkdir(parents=True)
    for each in ("cpuset.cpus", "cpuset.mems"):
        (root / "cpuset" / each).write_text("")
    with locked_folder(root / "memory" / living), locked_folder(root / "unified" / living), held(NUMBER):
        assert not list(root.rglob(killed))
        assert len(list(root.glob(f"*/{living}/kubepods"))) == 2
        for each in ("cpuset.cpus", "cpuset.mems"):
            (root / "cpuset" / NAME / each).unlink()
    assert len(list(root.glob("*/kubepods/kubepods"))) == 2


def test_that_it_can_not_be_made_is_said(root: Path) -> None:
    assert not control_groups.can_be_made()
    _version_2(root)
    (root / NAME).touch()
    with pytest.raises(ControlGroupError, match=f"can't be made: .*{NAME}"), held(NUMBER):
        pass


def _top_of_version_2() -> Path | None:
    """Where this machine has version 2 with a controller, be it beside version 1."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    tops = [Path(folder) for folder, kind in mounts if kind == "cgroup2"]
    return next((each for each in tops if (each / "cgroup.controllers").read_text().split()), None)


@pytest.mark.skipif(os.geteuid() != 0, reason="control groups are made by root")
@pytest.mark.skipif(_top_of_version_2() is None, reason="on this machine version 1 has all controllers")
def test_a_real_one_of_version_2_has_all_controllers_and_no_group_has_them_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    top = _top_of_version_2()
    assert top is not None
    monkeypatch.setattr(control_groups, "ROOT", top)
    before = (top / "cgroup.subtree_control").read_text()
    with held(NUMBER) as (name, left):
        has = set((top / name / "cgroup.controllers").read_text().split())
        there = set((top / "cgroup.controllers").read_text().split())
        assert has >= there & {"cpu", "cpuset", "hugetlb", "memory", "pids"} > set()
        (top / name / "kubepods").mkdir()
    assert left == []
    assert not (top / NAME).exists()
    assert (top / "cgroup.subtree_control").read_text() == before


@pytest.mark.skipif(os.geteuid() != 0 or not control_groups.can_be_made(), reason="control groups are made by root")
def test_real_ones_of_a_killed_process_are_removed_by_the_next() -> None:
    script = (
        "import time\n"
        "from jiemi.controlplane.node.control_groups import held\n"
        f"with held({NUMBER}) as (name, left):\n"
        "    print(name, flush=True)\n"
        "    time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process, process.stdout:
        assert process.stdout.readline().strip() == NAME
        with held(NUMBER + 1):
            assert list(control_groups.ROOT.glob(f"**/{NAME}"))
        process.kill()
    assert list(control_groups.ROOT.glob(f"**/{NAME}"))
    with held(NUMBER + 1) as (_, left):
        assert not list(control_groups.ROOT.glob(f"**/{NAME}"))
    assert left == []
