"""How much each area of a service logs, and how that changes while it runs (`--log-level`, `--log-level-file`).

    info,jiemi.rpc=debug

An area is the name of a logger, and so of the rooms of the code; one that is not named is like the one around it. The
file is read again and again, so a ConfigMap that is mounted changes the levels of a Pod within a minute or two. A
content that can't be used changes nothing; without the file, or where it is empty, the flag holds.

The levels of libraries can't be lowered: at debug, some log what they send and receive.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs
import structlog
import trio

from jiemi.cli.errors import CommandError

AREAS = (
    "jiemi.krapao",
    "jiemi.krapao.decryption",
    "jiemi.krapao.git",
    "jiemi.krapao.network",
    "jiemi.memory",
    "jiemi.miwen",
    "jiemi.miwen.apply",
    "jiemi.miwen.certificates",
    "jiemi.miwen.controller",
    "jiemi.miwen.kubernetes",
    "jiemi.miwen.leadership",
    "jiemi.miwen.reconcile",
    "jiemi.miwen.report",
    "jiemi.miwen.state",
    "jiemi.miwen.watch",
    "jiemi.miwen.webhooks",
    "jiemi.otlp",
    "jiemi.process",
    "jiemi.rpc",
)
"""Every name of a logger. The same for both services, so that one text can be given to both."""

LEVELS: Mapping[str, int] = MappingProxyType(
    {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
)

_READ_SECONDS = 5.0
_MOST_BYTES = 4096

_log = structlog.get_logger("jiemi.process")


@attrs.frozen
class Levels:
    """The least level of the lines that are written.

    Attributes:
        usual: where no area says otherwise.
        areas: by the name of an area; it holds for those below it too.
    """

    usual: int = logging.INFO
    areas: Mapping[str, int] = MappingProxyType({})

    def of(self, area: str) -> int:
        """That of an area."""
        while area:
            if area in self.areas:
                return self.areas[area]
            area = area.rpartition(".")[0]
        return self.usual


def read_levels(text: str) -> Levels:
    """What a text such as `info,jiemi.rpc=debug` means.

    Raises:
        ValueError: it means nothing; the message says what is wrong and what there is.
    """
    usual: int | None = None
    areas: dict[str, int] = {}
    for part in text.replace("\n", ",").split(","):
        if not (each := part.strip()):
            continue
        area, equals, name = (half.strip() for half in each.rpartition("="))
        level = LEVELS.get(name)
        if level is None:
            raise ValueError(f"{name[:64]!r} is no level; the levels are {', '.join(LEVELS)}")
        if not equals:
            if usual is not None:
                raise ValueError("it has two levels without an area; write one, and AREA=LEVEL for the others")
            usual = level
        elif area not in AREAS and area != "jiemi":
            raise ValueError(f"{area[:64]!r} is no area; the areas are {', '.join(AREAS)}")
        elif area in areas:
            raise ValueError(f"the area {area} is there twice")
        else:
            areas[area] = level
    return Levels(logging.INFO if usual is None else usual, areas)


def levels_of_flag(text: str) -> Levels:
    """Raises CommandError: as `read_levels`."""
    try:
        return read_levels(text)
    except ValueError as error:
        raise CommandError(f"--log-level: {error}") from error


class LevelFilter:
    """A processor of structlog that drops lines below their area's level.

    Attributes:
        levels: those that hold now.
    """

    def __init__(self, levels: Levels) -> None:
        self._levels = levels
        self._of: dict[str, int] = {}

    @property
    def levels(self) -> Levels:
        return self._levels

    @levels.setter
    def levels(self, levels: Levels) -> None:
        # From now on for all threads: each line looks into one of the two.
        self._levels, self._of = levels, {}

    def __call__(self, logger: Any, method: str, event: Any) -> Any:
        area, known = logger.area, self._of
        least = known.get(area)
        if least is None:
            least = known[area] = self._levels.of(area)
        if _NUMBERS[method] < least:
            raise structlog.DropEvent
        return event


_NUMBERS = {**LEVELS, "warn": logging.WARNING, "exception": logging.ERROR, "critical": logging.CRITICAL}


async def follow_file(path: Path, filter: LevelFilter) -> None:
    """Have the levels of a file hold, as it is at each moment, until cancelled.

    Args:
        filter: has those of the flag now, which hold where the file says nothing.
    """
    given = filter.levels
    before: str | OSError | ValueError | None = ""
    while True:
        # On a thread, because a volume may hang; then it stays behind, and holds nothing.
        found = await trio.to_thread.run_sync(_content, path, abandon_on_cancel=True)
        if str(found) != str(before):
            before = found
            _use(found, path, filter, given)
        await trio.sleep(_READ_SECONDS)


def _use(found: str | OSError | ValueError, path: Path, filter: LevelFilter, given: Levels) -> None:
    if isinstance(found, Exception):
        why = (found.strerror or type(found).__name__) if isinstance(found, OSError) else str(found)
        _log.error("log_levels_not_changed", file=str(path), why=why)
        return
    try:
        levels = read_levels(found) if found.strip() else given
    except ValueError as error:
        _log.error("log_levels_not_changed", file=str(path), why=str(error))
        return
    if levels != filter.levels:
        filter.levels = levels
        _log.info("log_levels_changed", file=str(path), levels=shown(levels))


def shown(levels: Levels) -> str:
    """The levels as a flag has them."""
    names = {number: name for name, number in LEVELS.items()}
    return ",".join((names[levels.usual], *(f"{area}={names[level]}" for area, level in sorted(levels.areas.items()))))


def _content(path: Path) -> str | OSError | ValueError:
    """The file; empty where it is not there, and what is wrong where it can't be read. Never waits for a writer."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return error
    try:
        found = os.read(descriptor, _MOST_BYTES + 1)
        if len(found) > _MOST_BYTES:
            return ValueError(f"it is longer than {_MOST_BYTES} bytes")
        return found.decode()
    except OSError as error:
        return error
    except UnicodeDecodeError:
        return ValueError("it is no UTF-8 text")
    finally:
        os.close(descriptor)
