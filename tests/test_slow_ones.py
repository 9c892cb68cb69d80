"""What `just test-fast` leaves out is there."""

from __future__ import annotations

import re
from pathlib import Path

import conftest
import pytest


@pytest.mark.parametrize("name", conftest.SLOW)
def test_each_test_that_is_named_as_slow_exists(name: str) -> None:
    text = (Path(__file__).parent / name).read_text()
    defined = re.findall(r"^(?:async )?def (test_\w+)\(", text, re.MULTILINE)
    assert defined
    assert set(conftest.SLOW[name]) <= set(defined)
