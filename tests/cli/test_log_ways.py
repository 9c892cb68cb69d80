"""Every way to standard error of a service ends in its log, as JSON, with no value that a text was made of."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from support.canaries.forms import forms_of, found_in

CANARY = "canary-in-a-log-91b7"

_SET_UP = f"""
import asyncio, faulthandler, gc, logging, os, sys, threading, warnings
from jiemi.cli.logs import configure_logs
from jiemi.cli.outputs import LogFormat
import structlog, trio
from jiemi.core.sensitive import SensitiveBytes, SensitiveText
configure_logs(LogFormat(sys.argv[1]))
CANARY = {CANARY!r}

class Leaking(Exception):
    def __str__(self): return CANARY
    __repr__ = __str__

class Thing:
    def __repr__(self): return CANARY
"""

_LIBRARIES = (
    "dulwich.client",
    "kubernetes.client.rest",
    "urllib3.connectionpool",
    "paramiko.transport",
    "capnp",
    "asyncio",
)

WAYS = {
    "structlog, a sensitive value": """
structlog.get_logger("jiemi.rpc").warning("x", token=SensitiveText(CANARY), content=SensitiveBytes(CANARY.encode()))
""",
    "structlog, an exception": """
try: raise Leaking(CANARY) from ValueError(CANARY)
except Leaking: structlog.get_logger("jiemi.rpc").exception("x")
""",
    **{
        f"{name}, {what}": f"""
log = logging.getLogger({name!r})
try: raise Leaking(CANARY)
except Leaking as error:
    {line}
"""
        for name in _LIBRARIES
        for what, line in {
            "an argument": 'log.warning("it says %s of %r", CANARY, Thing())',
            "a made text": 'log.error(f"it says {CANARY}")',
            "a made text with arguments": 'log.error(f"it says {CANARY} of %s", 1)',
            "an exception": 'log.error("failed", exc_info=True, stack_info=True)',
            "an exception as the text": "log.error(error)",
            "arguments that do not fit": 'log.error("%d %d", CANARY)',
            "fields": 'log.error("failed", extra={"token": CANARY})',
        }.items()
    },
    "warnings": "warnings.warn(f'it says {CANARY}', ResourceWarning, source=Thing()); warnings.warn(CANARY)",
    "sys.excepthook": "raise Leaking(CANARY) from ValueError(CANARY)",
    "sys.excepthook, from trio": """
async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail)
async def fail(): raise Leaking(CANARY)
trio.run(main)
""",
    "threading.excepthook": """
def fail(): raise Leaking(CANARY)
thread = threading.Thread(target=fail, name="worker"); thread.start(); thread.join()
""",
    "sys.unraisablehook": """
class Falls:
    def __del__(self): raise Leaking(CANARY)
Falls()
""",
    "a coroutine that nobody awaits": """
async def never(canary): pass
never(CANARY); gc.collect()
""",
    "a trio task's async generator": """
async def generate():
    try:
        while True: yield CANARY
    finally:
        raise Leaking(CANARY)
async def main():
    async for _ in generate(): break
    gc.collect()
trio.run(main)
""",
    "trio's instruments": """
class Broken(trio.abc.Instrument):
    def before_run(self): raise Leaking(CANARY)
async def main(): pass
trio.run(main, instruments=[Broken()])
""",
    "asyncio's loop": """
async def main():
    task = asyncio.ensure_future(fail()); await asyncio.sleep(0); await asyncio.sleep(0); del task; gc.collect()
async def fail(): raise Leaking(CANARY)
asyncio.run(main())
""",
}


def run(script: str, form: str = "json") -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONWARNINGS": "always"}
    return subprocess.run(
        [sys.executable, "-c", _SET_UP + script, form],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )


@pytest.mark.parametrize("way", [name for name in WAYS if not name.startswith(_LIBRARIES)])
def test_no_way_to_standard_error_shows_a_value(way: str) -> None:
    _require_no_canary(WAYS[way])


@pytest.mark.parametrize("library", _LIBRARIES)
def test_what_a_library_logs_shows_no_value(library: str) -> None:
    _require_no_canary("\n".join(script for name, script in WAYS.items() if name.startswith(library)), lines=7)


def _require_no_canary(script: str, lines: int = 1) -> None:
    done = run(script)
    found: list[Any] = [json.loads(line) for line in done.stderr.splitlines()]
    assert len(found) >= lines, "it was logged"
    assert all({"event", "level", "logger", "timestamp"} <= set(line) for line in found)
    said = {"json": done.stderr.encode(), "console": run(script, "console").stderr.encode()}
    assert said["console"]
    assert found_in(said, forms_of(CANARY)) == []


def test_a_canary_that_is_printed_by_itself_is_found() -> None:
    assert found_in({"shown": run("print(CANARY, file=sys.stderr)").stderr.encode()}, forms_of(CANARY)) == ["shown"]


def test_of_a_librarys_line_the_constant_text_and_the_place_are_there() -> None:
    done = run('def f(x): logging.getLogger("a.library").warning("no answer from %s", x)\nf(CANARY)')
    line = json.loads(done.stderr)
    assert (line["event"], line["logger"], line["level"]) == ("no answer from %s", "a.library", "warning")
    assert line["place"].endswith(" f")


def test_what_was_not_caught_is_named_by_its_type_and_place_and_ends_the_process_as_before() -> None:
    done = run("def f(): raise Leaking(CANARY)\nf()")
    line = json.loads(done.stderr)
    assert (line["event"], line["level"]) == ("exception_uncaught", "critical")
    assert line["exception"].startswith("Leaking at <string>:")
    assert done.returncode == 1


def test_a_crash_of_the_interpreter_shows_functions_and_lines_and_no_value() -> None:
    script = "faulthandler.enable()\ndef f(x): os.abort()\nf(CANARY)"
    done = run(script)
    assert "Fatal Python error: Aborted" in done.stderr
    assert found_in({"": done.stderr.encode()}, forms_of(CANARY)) == []


def test_no_library_writes_past_the_log() -> None:
    script = """
import jiemi.cli.krapao, jiemi.cli.miwen
own = [logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger)
       and (not logger.propagate or [each for each in logger.handlers if not isinstance(each, logging.NullHandler)])]
print(own, len(logging.root.manager.loggerDict))
"""
    done = run(script)
    assert done.stderr == ""
    own, _, number = done.stdout.rpartition(" ")
    assert own == "[]"
    assert int(number) > 20
