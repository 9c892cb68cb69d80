"""The folders of `jiemi run-all`: those of killed runs are removed, and no other."""

from __future__ import annotations

import os
from pathlib import Path

from jiemi.cli.run_all import folder
from jiemi.controlplane.locks import locked_folder

NOBODY = 4_194_305
"""Greater than any process id (pid_max in proc_sys_kernel(5))."""


def test_folders_of_killed_runs_are_removed_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    names = {name: tmp_path / f"jiemi-run-{name}" for name in (f"{NOBODY}-killed", f"{NOBODY}-elsewhere", "x-odd")}
    for each in names.values():
        (each / "below").mkdir(parents=True)
    mine = tmp_path / f"jiemi-run-{os.getpid()}-mine"
    other = tmp_path / "jiemi-of-another"
    for each in (mine, other):
        each.mkdir()
    with locked_folder(names[f"{NOBODY}-elsewhere"]), folder._folder(tmp_path) as made:
        assert made.parent == tmp_path
        left = {each.name for each in tmp_path.iterdir()}
        assert left == {names[f"{NOBODY}-elsewhere"].name, mine.name, other.name, made.name}
    assert not made.exists()
