"""Each answer of docs/threat-model.md names tests that exist."""

from __future__ import annotations

import re

import pytest
from support.paths import ROOT

TEXT = (ROOT / "docs" / "threat-model.md").read_text()
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(test_\w+)`", TEXT)))


@pytest.mark.parametrize(("path", "test"), NAMED, ids=lambda each: each)
def test_a_test_that_is_named_exists(path: str, test: str) -> None:
    text = (ROOT / "tests" / path).read_text()
    assert re.search(rf"^(?:async )?def {test}\(", text, re.MULTILINE), f"{path} has no {test}"


def test_each_answer_names_one() -> None:
    rows = [line for line in TEXT.partition("## Threats and answers")[2].splitlines() if line.startswith("| ")]
    answers = [line for line in rows if not line.startswith(("| threat |", "| --- |"))]
    assert len(answers) > 30
    assert [line for line in answers if not re.search(r"`[\w/]+\.py::test_\w+` ?", line.rpartition(" | ")[2])] == []
