"""Patterns of names: ARNs, resource ids, addresses, paths, namespaces.

`*` stands for any characters but `:` and `/`, so that it never reaches into the next part of a name; `**` stands for
any characters at all; all else stands for itself. A pattern is for the whole name.
"""

from __future__ import annotations

import functools
import re

_STARS = re.compile(r"(\*\*|\*)")


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern takes a name."""
    return _compiled(pattern).fullmatch(name) is not None


@functools.lru_cache(maxsize=1_000)
def _compiled(pattern: str) -> re.Pattern[str]:
    # Each star is possessive or bounded by what it may not cross, so that no name makes matching slow.
    parts = {"**": ".*", "*": "[^:/]*"}
    return re.compile("".join(parts.get(part, re.escape(part)) for part in _STARS.split(pattern)), re.DOTALL)
