"""How long a module may be. (Parameters, branches and complexity are ruff's: pyproject.toml.)"""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MAX_LINES = 400
"""More than that is two things, and each of them has a name."""


@pytest.mark.parametrize("folder", ["jiemi", "docs"])
def test_no_module_is_longer_than_one_thing_is(folder: str) -> None:
    modules = list((ROOT / folder).rglob("*.py"))
    assert modules
    assert [str(each) for each in modules if len(each.read_text().splitlines()) > MAX_LINES] == []
