"""What a signal does, in a process of its own: first it is no longer ready, and it is alive until it has ended."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

# A service whose clean-up lasts until somebody writes a line to it.
_SERVICE = """
import sys
import trio
from jiemi.cli.metrics import pages_of
from jiemi.cli.running import run_until_signalled
from jiemi.krapao.metrics import KrapaoMetrics

metrics = KrapaoMetrics()

async def main():
    metrics.health.ready()
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            print("cleaning up", metrics.health.readiness.value, flush=True)
            await trio.to_thread.run_sync(sys.stdin.readline)
            print("cleaned up", flush=True)

pages = pages_of("127.0.0.1:0", metrics, service="krapao")
run_until_signalled(main, on_signal=metrics.health.stopping, beside=pages)
"""


def _answer(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as page:
            return page.status, page.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_readiness_goes_first_and_the_probes_are_answered_until_all_is_cleaned_up(
    number: signal.Signals,
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _SERVICE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            found = re.search(r"tcp:127\.0\.0\.1:(\d+)", process.stdout.readline())
            assert found is not None
            port = int(found[1])
            while _answer(port, "/readyz") == (503, "starting\n"):
                time.sleep(0.01)
            assert _answer(port, "/readyz") == (200, "ready\n")
            process.send_signal(number)
            assert process.stdout.readline() == "cleaning up stopping\n"
            assert _answer(port, "/readyz") == (503, "stopping\n")
            assert _answer(port, "/healthz") == (200, "ok\n")
            process.stdin.write("go on\n")
            process.stdin.flush()
            assert process.stdout.readline() == "cleaned up\n"
            assert process.wait(10) == 0
        finally:
            process.kill()
    assert _is_refused(port)


def _is_refused(port: int) -> bool:
    try:
        _answer(port, "/readyz")
    except urllib.error.URLError:
        return True
    return False
