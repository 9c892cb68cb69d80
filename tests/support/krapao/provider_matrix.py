"""What each provider says in each case, for every format: the table that tests hold and the docs show."""

from __future__ import annotations

from collections.abc import Mapping

from jiemi.core.api.provider import PROVIDERS
from jiemi.core.content.formats import Format

FORMATS = (Format.YAML, Format.JSON, Format.DOTENV, Format.INI, Format.BINARY)
OUTCOMES = ("right key", "wrong key", "denied", "unreachable", "tampered")

_LOCAL = ("age", "pgp")


def _row(local: str | None, remote: str | None) -> dict[str, str | None]:
    return {provider: local if provider in _LOCAL else remote for provider in PROVIDERS}


EXPECTED: Mapping[str, Mapping[str, str | None]] = {
    "right key": _row(None, None),
    "wrong key": _row("KeyMissing", "KeyServiceDenied"),
    "denied": _row("-", "KeyServiceDenied"),
    "unreachable": _row("-", "KeyServiceUnreachable"),
    "tampered": _row("MacMismatch", "MacMismatch"),
}
"""The reason by outcome and provider; None where the file opens, "-" where there is no service that could do so."""


def matrix_table() -> str:
    """The table, in Markdown: a row for each provider and format."""
    head = f"| provider | format | {' | '.join(OUTCOMES)} |\n| --- | --- |{' --- |' * len(OUTCOMES)}\n"
    return head + "".join(
        f"| {provider} | {format.value} | {' | '.join(_cell(EXPECTED[outcome][provider]) for outcome in OUTCOMES)} |\n"
        for provider in PROVIDERS
        for format in FORMATS
    )


def _cell(reason: str | None) -> str:
    return "opens" if reason is None else reason if reason == "-" else f"`{reason}`"
