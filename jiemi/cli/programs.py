"""Which sops and gpg are used: what a flag names, what is on the search path, what `jiemi tools` got."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from jiemi.cli.errors import CommandError
from jiemi.cli.tools import tool_settings
from jiemi.controlplane.pins import Tool
from jiemi.controlplane.tools import find_cached
from jiemi.krapao.decryption.sops import find_program

GET_SOPS = "`jiemi tools sops` gets one"
GET_GPG = "install GnuPG, or give --gpg PATH"


def find_sops(given: Path | None) -> Path | None:
    """The sops to use, or None where there is none: the one on the PATH before the one that `jiemi tools` has.

    Args:
        given: the path that a flag gave, which goes before all others; or None.

    Raises:
        CommandError: what is given can't be run.
    """
    found = _find(given, "sops", GET_SOPS)
    if found is not None:
        return found
    cached = find_cached(Tool.SOPS, tool_settings())
    return cached.path if cached is not None else None


def find_gpg(given: Path | None) -> Path | None:
    """The gpg to use, or None; as `find_sops`, but without the cache of tools."""
    return _find(given, "gpg", GET_GPG)


def own_command() -> list[str]:
    """The command line with which a shell starts this installation of jiemi from any folder."""
    return [sys.executable, "-m", "jiemi"]


def _find(given: Path | None, name: str, get: str) -> Path | None:
    found = find_program(given, name, os.environ.get("PATH", os.defpath))
    if given is not None and found is None:
        what = "is no program that may be run" if given.exists() else "does not exist"
        raise CommandError(f"--{name} {given} {what}: {get}")
    return found
