"""The entry points. They import the commands, which takes a moment; Ctrl-C must not end that in a traceback."""

from __future__ import annotations

import sys

_INTERRUPTED = 130


def main() -> None:
    """The `jiemi` command."""
    try:
        from jiemi.cli.main import app  # noqa: PLC0415 - inside of the try

        app()
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def kubectl_main() -> None:
    """The `kubectl-jiemi` command, which kubectl runs for `kubectl jiemi …`."""
    try:
        from jiemi.cli.main import app  # noqa: PLC0415 - inside of the try

        app(prog_name="kubectl jiemi", args=sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
