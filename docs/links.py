"""Links between the documents that lead nowhere, and modules that they name and that are gone: part of `just lint`.

Relative links are followed, with their anchors (a heading, as GitHub makes an anchor of it). It prints each that is
broken and ends with status 1 where there is one. Nothing is asked of the net.

A module is named in backticks, by the end of its path: `reconcile/pruning.py`, or `pruning.py`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_MODULE = re.compile(r"`([\w/]+\.py)`")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """The anchors of the headings of a document.

    https://docs.github.com/get-started/writing-on-github (section links): lower case, blanks become hyphens, and what
    is neither letter, digit, hyphen nor underscore goes.
    """
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def broken(path: Path) -> Iterator[str]:
    """The links of a document that lead nowhere."""
    text = path.read_text(encoding="utf-8")
    for link in _LINK.findall(_FENCE.sub("", text)):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        if not target.exists() or (anchor and target.is_file() and anchor not in anchors(target.read_text("utf-8"))):
            yield link


def gone(text: str, modules: Collection[str]) -> Iterator[str]:
    """The modules that a document names and that are not there.

    Args:
        modules: the paths of those that are, from the root of the repository.
    """
    for named in dict.fromkeys(_MODULE.findall(text)):
        if not any(f"/{module}".endswith(f"/{named}") for module in modules):
            yield named


def main() -> int:
    """Look at all documents. Returns the exit status."""
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.md")]
    modules = [
        path.relative_to(ROOT).as_posix()
        for folder in ("jiemi", "tests", "docs", "deploy")
        for path in (ROOT / folder).rglob("*.py")
    ]
    found = [(path, link) for path in sorted(documents) for link in broken(path)]
    found += [
        (path, module)
        for path in sorted(documents)
        if path.name != "CHANGELOG.md"
        for module in gone(path.read_text("utf-8"), modules)
    ]
    for path, link in found:
        sys.stdout.write(f"{path.relative_to(ROOT)}: {link} leads nowhere\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
