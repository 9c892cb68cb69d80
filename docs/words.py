"""Words that `just lint` does not let into the code and the docs, with plain ones in their place.

Usage: `python docs/words.py`. It prints each place and ends with status 1 where there is one. A line may keep its word
with `words: allow` in a comment on it.

CONTRIBUTING.md has the rules that the words belong to. It is not searched itself, because it quotes them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

SEARCHED = (
    "README.md",
    "CHANGELOG.md",
    "docs/*.md",
    "examples/**/*.md",
    "examples/**/*.yaml",
    "deploy/**/*.yaml",
    "install/**/*.yaml",
    "deploy/images/*",
    "schema/*.capnp",
    "jiemi/**/*.py",
    "tests/support/**/*.py",
    "justfile",
)

WORDS = {
    r"\banew\b": '"recreate" or "again"',
    r"\b(tell|tells|told|telling)\b": '"report", "say", "show", "notify" or "log"',
    r"\bno more(?=$|[.,;:)\"'|])": '"no longer", before the verb',
    r"\bwhose own\b": '"of its own", or say whose',
    r"\bbut those\b": '"except those"',
    r"\ban? \w+ each(?=$|[.,;:)])": '"one … per …"',
    r"\bas whom\b": "whose rights are used",
    r"\bno one\b(?!-)": '"nobody"',
}
"""Patterns, without regard to case, and what to write in their place."""

ALLOWED = "words: allow"


def found(text: str) -> Iterator[tuple[int, str, str]]:
    """The places in a text: the line's number from 1, the word, and what to write in its place."""
    for number, line in enumerate(text.splitlines(), 1):
        if ALLOWED in line:
            continue
        for pattern, plain in WORDS.items():
            for match in re.finditer(pattern, line, re.IGNORECASE):
                yield number, match[0], plain


def main() -> int:
    """Look at all files. Returns the exit status."""
    files = {path for pattern in SEARCHED for path in ROOT.glob(pattern) if path.is_file()}
    names = sorted(path.relative_to(ROOT).as_posix() for path in files)
    places = [(name, *each) for name in names for each in found((ROOT / name).read_text(encoding="utf-8"))]
    for name, number, word, plain in places:
        sys.stdout.write(f'{name}:{number}: "{word}": write {plain}\n')
    return 1 if places else 0


if __name__ == "__main__":
    sys.exit(main())
