"""Which layout the state folder has, and what becomes of one that another release left.

    STATE/layout           the number of the layout, in decimal
    STATE/lock             held by the Krapao that uses the folder; the same in every layout
    STATE/repositories/    the clones (`jiemi.krapao.git.clones`); each layout keeps them below this name
    STATE/set-aside-N/     clones of a layout N that this release does not know

Clones can be made again, so an older layout need not be understood: it is migrated where there is a function for that,
and removed otherwise. A newer one comes from a release that may be installed again soon, so it is set aside as it is,
and goes as soon as the volume has no space left, or is started by a release that knows its number. Nothing is
read in it, and nothing of it is served.

Releases before there was a number have layout 1. The number is written once that is done, so that what was cut off
begins again.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

log = structlog.get_logger("jiemi.krapao.git")

LAYOUT = 1
"""That of this release. It grows when a Krapao of the release before would misread what is below `repositories/`."""

Migrations = Mapping[int, Callable[[Path], None]]
"""By the layout that they begin with: each makes the next one of STATE/repositories, in place. It may be cut off at any
moment and begins again, so it takes what it did already as done. It must be quick: the service waits for it."""

MIGRATIONS: Migrations = {}
_NUMBER = re.compile(r"[0-9]{1,6}\n?")
_SET_ASIDE = "set-aside-"
_GOING = "removed-layout-"


def repositories(state_dir: Path) -> Path:
    """Where the clones are."""
    return state_dir / "repositories"


def prepare(state_dir: Path, *, layout: int = LAYOUT, migrations: Migrations = MIGRATIONS) -> None:
    """Have a state folder that this release can use. Its lock must be held.

    Args:
        state_dir: there already.
        layout: that is wanted.
        migrations: from layouts before it.

    Raises:
        OSError: it can't be read or written.
    """
    found = _found(state_dir)
    if found is None:
        _set_aside(state_dir, "unknown", layout)
    elif found > layout:
        _set_aside(state_dir, str(found), layout)
    elif found < layout:
        _migrate(state_dir, found, layout, migrations)
    if found != layout or not (state_dir / "layout").exists():
        _write(state_dir, layout)
    _take_out(state_dir, layout)


def remove_set_aside(state_dir: Path) -> bool:
    """Remove what was set aside, for its space. Returns whether there was any."""
    found = list(state_dir.glob(f"{_SET_ASIDE}*"))
    for folder in found:
        shutil.rmtree(folder, ignore_errors=True)
        log.info("set_aside_removed", folder=folder.name)
    return bool(found)


def _found(state_dir: Path) -> int | None:
    """The layout that is there; None where that can't be read from its file."""
    try:
        text = (state_dir / "layout").read_text(errors="replace")
    except FileNotFoundError:
        return 1
    return int(text) if _NUMBER.fullmatch(text) else None


def _write(state_dir: Path, layout: int) -> None:
    written = state_dir / "layout.new"
    written.write_text(f"{layout}\n")
    written.rename(state_dir / "layout")


def _set_aside(state_dir: Path, found: str, layout: int) -> None:
    clones = repositories(state_dir)
    if not clones.exists():
        return
    target = state_dir / f"{_SET_ASIDE}{found}"
    if target.exists():  # of an earlier time
        _hide(target)
    clones.rename(target)
    log.warning("newer_store_set_aside", layout=found, known_layout=layout, folder=str(target))


def _migrate(state_dir: Path, found: int, layout: int, migrations: Migrations) -> None:
    clones = repositories(state_dir)
    if not clones.exists():
        return
    steps = range(found, layout)
    if all(step in migrations for step in steps):
        for step in steps:
            migrations[step](clones)
            _write(state_dir, step + 1)
        log.info("store_migrated", layout=found, to_layout=layout)
        return
    _hide(clones)
    log.warning("older_store_removed", layout=found, known_layout=layout)


def _hide(folder: Path) -> None:
    folder.rename(folder.with_name(f"{_GOING}{time.monotonic_ns()}"))


def _take_out(state_dir: Path, layout: int) -> None:
    """What goes: what a release set aside that knew less, and what is hidden. The store's next look at the volume
    removes it (`folders.remove_leftovers`); the start does not wait for that."""
    for folder in list(state_dir.iterdir()):
        number = folder.name.removeprefix(_SET_ASIDE)
        if number != folder.name and number.isdecimal() and int(number) <= layout:
            _hide(folder)
    for folder in list(state_dir.glob(f"{_GOING}*")):
        clones = repositories(state_dir)
        clones.mkdir(mode=0o700, exist_ok=True)
        folder.rename(clones / folder.name)
