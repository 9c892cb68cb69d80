"""The chapters about logs and traces have what there is."""

from __future__ import annotations

import pytest
from support.paths import ROOT

from jiemi.cli.log_levels import AREAS
from jiemi.miwen.state.mailbox import Wake

OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
[LOGS] = [chapter for chapter in OPERATIONS.split("\n## ") if chapter.startswith("Logs\n")]


@pytest.mark.parametrize("word", [each.value for each in Wake])
def test_what_may_wake_a_look_is_explained(word: str) -> None:
    assert f"`{word}`" in LOGS


@pytest.mark.parametrize("area", AREAS)
def test_each_area_is_in_the_table(area: str) -> None:
    last = area.rpartition(".")[2]
    assert f"`{area}`" in LOGS or f"`.{last}`" in LOGS


def test_what_a_reader_copies_or_sees_in_a_terminal_fits_80_columns() -> None:
    for chapter in OPERATIONS.split("\n## "):
        if chapter.startswith(("Logs\n", "Traces\n")):
            assert not [line for line in chapter.splitlines() if line.startswith("    ") and len(line) > 80 + 4]
