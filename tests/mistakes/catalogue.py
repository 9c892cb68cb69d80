"""All rows, and the table of them in docs/troubleshooting.md."""

from __future__ import annotations

from collections.abc import Sequence

from mistakes import of_credentials, of_files, of_objects, of_repositories, of_signatures
from mistakes.mistake import EXAMPLE, Mistake

CHAPTERS: Sequence[tuple[str, Sequence[Mistake]]] = (
    ("Keys and the Secrets that hold them", of_credentials.KEYS),
    ("Access to the repository", of_credentials.HOSTS),
    ("The repository's URL and ref", of_repositories.URLS),
    ("Signatures", of_signatures.SIGNATURES),
    ("Paths of files", of_repositories.PATHS),
    ("Encrypted files", of_files.ENCRYPTED),
    ("What files hold", of_files.FORMS),
    ("Objects", of_objects.OBJECTS),
    ("Rights and order", of_objects.RIGHTS),
)

MISTAKES: Sequence[Mistake] = tuple(mistake for _, mistakes in CHAPTERS for mistake in mistakes)


def table() -> str:
    """Every row, in Markdown."""
    lines = ["| what was done | what Jiemi says |", "| --- | --- |"]
    for chapter, mistakes in CHAPTERS:
        lines.append(f"| **{chapter}** | |")
        lines += [f"| {_cell(each.done)} | `{each.reason}`: {_cell(each.text(EXAMPLE))} |" for each in mistakes]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """A text that Markdown shows as it is."""
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;").replace("_", "\\_")
