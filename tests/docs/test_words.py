"""The words that `just lint` does not let in."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

WORDS = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "words.py"))


@pytest.mark.parametrize(
    "line",
    [
        "It is made anew.",
        "a kind that is served no more",
        "a task each, and",
        "an object each.",
        "all but those",
        "one whose own name is",
        "Status tells what is wrong.",
        "what was told before",
        "Tell it once.",
        "objects: as whom.",
        "no one may write it",
    ],
)
def test_a_word_of_the_list_is_found_with_its_line_unless_the_line_allows_it(line: str) -> None:
    [(number, word, _)] = WORDS["found"](f"first\n{line}\n")
    assert number == 2
    assert word in line
    assert not list(WORDS["found"](f"{line}  # words: allow"))


@pytest.mark.parametrize(
    "line",
    [
        "no more than three",
        "no more retries",
        "on a terminal each line",
        "begin again",
        "no one-time password",
        "retell",
    ],
)
def test_plain_words_are_accepted(line: str) -> None:
    assert not list(WORDS["found"](line))
