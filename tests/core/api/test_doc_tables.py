"""What the docs, .ci/run and the code say of the same thing is the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.krapao.provider_matrix import matrix_table

from jiemi.core.api.doc_tables import api_table, reasons_table, with_tables

REPOSITORY = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("path", "name", "table"), [("api.md", "api", api_table()), ("troubleshooting.md", "reasons", reasons_table())]
)
def test_the_tables_of_the_docs_are_what_the_code_says(path: str, name: str, table: str) -> None:
    text = (REPOSITORY / "docs" / path).read_text()
    assert with_tables(text, {name: table}) == text, "run `just docs`"


def test_a_text_without_the_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="marks of the table api"):
        with_tables("# nothing", {"api": api_table()})


def test_ci_runs_the_readmes_own_test_command() -> None:
    commands = [
        line[2:] for line in (REPOSITORY / "README.md").read_text().splitlines() if line.startswith("$ python3")
    ]
    assert len(commands) == 2
    assert commands[1].endswith("just test")
    assert commands[1] in (REPOSITORY / ".ci" / "run").read_text().splitlines()


def test_the_table_of_what_each_provider_answers_is_the_one_that_its_tests_hold() -> None:
    text = (REPOSITORY / "docs" / "decryption.md").read_text()
    assert with_tables(text, {"matrix": matrix_table()}) == text, "run `just docs`"
