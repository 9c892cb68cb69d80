"""The links that `just lint` follows."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

LINKS = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "links.py"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "b.md").write_text("# First `word`\n\n## Second, with a comma\n")
    return tmp_path


@pytest.mark.parametrize(
    "link", ["c.md", "b.md#third", "#nothing", "../b.md", "b.md#second,-with-a-comma", "b.md#First-word"]
)
def test_a_link_that_leads_nowhere_is_found(folder: Path, link: str) -> None:
    document = folder / "a.md"
    document.write_text(f"# Here\n\nSee [this]({link}).\n")
    assert list(LINKS["broken"](document)) == [link]


def test_a_module_that_is_gone_is_found_by_the_end_of_its_path() -> None:
    modules = ["jiemi/miwen/reconcile/pruning.py", "jiemi/core/text.py"]
    text = "`pruning.py`, `reconcile/pruning.py`, `apply/pruning.py`, `ext.py`, `core/gone.py` and text.py"
    assert list(LINKS["gone"](text, modules)) == ["apply/pruning.py", "ext.py", "core/gone.py"]


@pytest.mark.parametrize(
    "link", ["b.md", "b.md#first-word", "b.md#second-with-a-comma", "#here", "https://example.com/nothing", "."]
)
def test_a_link_that_leads_somewhere_is_not(folder: Path, link: str) -> None:
    document = folder / "a.md"
    document.write_text(f"# Here\n\nSee [this]({link}), and:\n\n```\n[no link](nowhere.md)\n```\n")
    assert list(LINKS["broken"](document)) == []
