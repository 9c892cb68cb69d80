"""The entry points. They import the commands, which takes a moment; Ctrl-C must not end that in a traceback."""

from __future__ import annotations

import sys
from collections.abc import Mapping

_INTERRUPTED = 130

EXTRAS: Mapping[str, str] = {
    "dulwich": "krapao",
    "google": "krapao",
    "h2": "krapao",
    "kubernetes": "miwen",
    "paramiko": "krapao",
    "re2": "krapao",
}
"""Which extra of the package brings what some commands import and others do not: by the name that is imported."""


def main() -> None:
    """The `jiemi` command."""
    _run(None)


def kubectl_main() -> None:
    """The `kubectl-jiemi` command, which kubectl runs for `kubectl jiemi …`."""
    _run("kubectl jiemi")


def _run(name: str | None) -> None:
    try:
        from jiemi.cli.logs import quiet_logs  # noqa: PLC0415 - inside of the try
        from jiemi.cli.main import app  # noqa: PLC0415

        quiet_logs()
        app(prog_name=name)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        sys.exit(f"error: this command is not installed here: pip install 'jiemi[{EXTRAS[package]}]' ({package})")
