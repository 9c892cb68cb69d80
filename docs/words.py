"""Words that `just lint` does not let into jiemi/ and docs/, with plain ones in their place.

Usage: `python docs/words.py`. It prints each place and ends with status 1 where there is one. A line may keep its word
with `words: allow` in a comment on it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

WORDS = {
    r"\banew\b": '"recreate" or "again"',
    r"\bno more(?=$|[.,;:)\"'|])": '"no longer", before the verb',
    r"\bwhose own\b": '"of its own", or say whose',
    r"\bbut those\b": '"except those"',
    r"\ba \w+ each(?=$|[.,;:)])": '"one … per …"',
}
"""Patterns, and what to write in their place."""

ALLOWED = "words: allow"


def found(text: str) -> Iterator[tuple[int, str, str]]:
    """The places in a text: the line's number from 1, the word, and what to write in its place."""
    for number, line in enumerate(text.splitlines(), 1):
        if ALLOWED in line:
            continue
        for pattern, plain in WORDS.items():
            for match in re.finditer(pattern, line):
                yield number, match[0], plain


def main() -> int:
    """Look at all files. Returns the exit status."""
    files = [*(ROOT / "jiemi").rglob("*.py"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    places = [(path, *each) for path in sorted(files) for each in found(path.read_text(encoding="utf-8"))]
    for path, number, word, plain in places:
        sys.stdout.write(f'{path.relative_to(ROOT)}:{number}: "{word}": write {plain}\n')
    return 1 if places else 0


if __name__ == "__main__":
    sys.exit(main())
