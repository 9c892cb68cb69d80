"""The list of ordinary mistakes in the docs is that of the tests, and each row says what it must."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from mistakes.catalogue import MISTAKES, table
from mistakes.mistake import EXAMPLE, Mistake

from jiemi.core.api.doc_tables import with_tables

DOCS = Path(__file__).parents[2] / "docs"


def test_the_list_in_the_docs_is_what_the_tests_make() -> None:
    text = (DOCS / "troubleshooting.md").read_text()
    assert text == with_tables(text, {"mistakes": table()}), "run `just docs`"


def test_there_are_sixty_at_least_and_no_name_is_there_twice() -> None:
    assert len(MISTAKES) >= 60
    assert max(Counter(mistake.name for mistake in MISTAKES).values()) == 1


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_each_text_is_two_sentences_at_least_and_fits_into_an_event(mistake: Mistake) -> None:
    text = mistake.text(EXAMPLE)
    assert text.endswith(".")
    assert ". " in text
    assert len(text.encode()) <= 1024
