"""The rows have names of their own, and the document shows them all."""

from __future__ import annotations

from pathlib import Path

from hostile.catalogue import CHAPTERS, table

from jiemi.core.api.doc_tables import with_tables

DOCUMENT = Path(__file__).parents[2] / "docs" / "hostile-repository.md"


def test_each_row_has_a_name_of_its_own() -> None:
    names = [case.name for _, cases in CHAPTERS for case in cases]
    assert len(names) == len(set(names))
    assert len(names) >= 70


def test_the_document_shows_every_row() -> None:
    text = DOCUMENT.read_text()
    assert with_tables(text, {"hostile": table()}) == text, "write it again: `just docs`"
