"""`jiemi probe miwen`: whether Miwen's event loop runs, for Kubernetes probes. The kubelet asks often, so that nothing
heavy is imported here."""

from __future__ import annotations

import time

from jiemi.cli.command_flags import ProbeMiwenFlags
from jiemi.cli.errors import CommandError


def run(flags: ProbeMiwenFlags) -> None:
    """Look at the age of the file that Miwen touches.

    Raises:
        CommandError: it is not there, or too old.
    """
    try:
        age_seconds = time.time() - flags.alive_file.stat().st_mtime
    except OSError as error:
        raise CommandError(f"{flags.alive_file} can't be read: {error.strerror}") from error
    if age_seconds > flags.max_age_seconds:
        raise CommandError(f"{flags.alive_file} was touched {age_seconds:.0f} s ago")
