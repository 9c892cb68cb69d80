"""What a target of fuzzing is."""

from __future__ import annotations

from collections.abc import Callable

import attrs


@attrs.frozen
class Target:
    """One thing that is fuzzed.

    Attributes:
        check: what became of an input; raises where it broke a rule.
        begin: inputs to begin with.
        tokens: words of the format.
        max_bytes: the longest input.
        max_seconds: processor time that one input may take.
    """

    check: Callable[[bytes], str]
    begin: tuple[bytes, ...]
    tokens: tuple[bytes, ...]
    max_bytes: int = 4 * 1024
    max_seconds: float = 5
