"""Where log lines go, and that a process does not end for one that can't be written."""

from __future__ import annotations

import io
import logging
import subprocess
import sys

import pytest
import structlog

from jiemi.cli.logs import configure_logs
from jiemi.cli.outputs import LogFormat

_log = structlog.get_logger("tests")

_LOGS = """
import logging, sys
from jiemi.cli.logs import configure_logs
from jiemi.cli.outputs import LogFormat
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
    first, second = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", first)
    configure_logs(LogFormat.JSON)
    _log.info("one")
    monkeypatch.setattr(sys, "stderr", second)
    first.close()
    _log.info("two")
    assert '"event": "two"' in second.getvalue()


def test_the_test_before_this_one_left_logging_as_it_was() -> None:
    with structlog.testing.capture_logs() as logs:
        _log.debug("three")
    assert [each["event"] for each in logs] == ["three"]
    assert not any("_StandardError" in repr(getattr(each, "stream", "")) for each in logging.getLogger().handlers)
