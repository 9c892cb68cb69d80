"""Where log lines go, and that a process does not end for one that can't be written."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
import structlog

from jiemi.cli.logs import LogFormat, configure_logs

_LOGS = """
import logging, sys
from jiemi.cli.logs import LogFormat, configure_logs
import structlog
configure_logs(LogFormat(sys.argv[1]))
for number in range(3):
    structlog.get_logger("ours").info("a_line", number=number)
    logging.getLogger("a_library").warning("a line %d", number)
print("worked to the end")
"""


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("stderr", ["2>/dev/full", "2> >(true)", "2>&-"])
def test_a_line_that_cannot_be_written_is_lost_and_the_process_goes_on(form: str, stderr: str) -> None:
    # ENOSPC (full(4)); EPIPE, as the reader has ended; a stream that was closed from the start.
    script = f'"$0" -c "$1" {form} {stderr}'
    done = subprocess.run(
        ["bash", "-c", script, sys.executable, _LOGS], check=False, capture_output=True, text=True, timeout=30
    )
    assert done.stdout == "worked to the end\n"
    assert done.returncode == 0


def test_lines_go_to_what_standard_error_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    before = structlog.get_config()
    first, second = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", first)
    configure_logs(LogFormat.JSON)
    try:
        log = structlog.get_logger("tests")
        log.info("one")
        monkeypatch.setattr(sys, "stderr", second)
        first.close()
        log.info("two")
    finally:
        structlog.configure(**before)
    assert '"event": "two"' in second.getvalue()
