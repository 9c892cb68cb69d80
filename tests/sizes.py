"""How much the largest tests do: enough to see what grows by each turn; all of it with `just test-full`."""

from __future__ import annotations

import os


def size(usual: int, full: int) -> int:
    """A number of objects or turns: the usual one, or the full one where JIEMI_TEST_FULL is set."""
    return full if os.environ.get("JIEMI_TEST_FULL") else usual
