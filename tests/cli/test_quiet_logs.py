"""Commands that print for people show warnings of the code that they share with the services, and no other lines."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import structlog
from jiemi.cli.logs import quiet_logs
quiet_logs()
log = structlog.get_logger("jiemi.miwen")
log.debug("quiet")
log.info("quiet")
try:
    raise ValueError("canary-5d1e")
except ValueError:
    log.warning("loud", number=1, exc_info=True)
print("said")
"""


def test_warnings_alone_are_shown_beside_what_is_printed_and_without_the_text_of_an_exception() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "said\n"
    assert done.stderr.startswith("[warning")
    assert done.stderr.count("[") == 1
    assert all(each in done.stderr for each in ("loud", "number=1", "ValueError at"))
    assert "quiet" not in done.stderr
    assert "canary" not in done.stderr
