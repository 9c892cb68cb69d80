"""How much each area logs: what flag and file say, and what becomes of a change while the service runs."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from support.paths import ROOT
from trio.testing import MockClock

from jiemi.cli.errors import CommandError
from jiemi.cli.log_levels import AREAS, LevelFilter, Levels, follow_file, levels_of_flag, read_levels, shown
from jiemi.cli.logs import configure_logs
from jiemi.cli.outputs import LogFormat


@pytest.mark.parametrize(
    ("text", "area", "level"),
    [
        ("", "jiemi.rpc", logging.INFO),
        ("warning", "jiemi.rpc", logging.WARNING),
        ("info,jiemi.rpc=debug", "jiemi.rpc", logging.DEBUG),
        ("info,jiemi.rpc=debug", "jiemi.miwen", logging.INFO),
        ("jiemi.miwen=debug", "jiemi.miwen.apply", logging.DEBUG),
        ("jiemi.miwen=debug,jiemi.miwen.apply=error", "jiemi.miwen.apply", logging.ERROR),
        ("jiemi=debug", "jiemi.krapao.git", logging.DEBUG),
        (" info \n jiemi.rpc = debug \n", "jiemi.rpc", logging.DEBUG),
    ],
)
def test_an_area_has_the_level_that_is_said_of_it_or_of_what_is_around_it(text: str, area: str, level: int) -> None:
    assert read_levels(text).of(area) == level
    assert read_levels(shown(read_levels(text))) == read_levels(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("verbose", "'verbose' is no level; the levels are debug, info, warning, error"),
        ("INFO", "'INFO' is no level"),
        ("info,jiemi.rcp=debug", "'jiemi.rcp' is no area; the areas are jiemi.krapao, "),
        ("paramiko=debug", "'paramiko' is no area"),
        ("jiemi.rpc=", "'' is no level"),
        ("info,debug", "two levels without an area"),
        ("jiemi.rpc=info,jiemi.rpc=debug", "jiemi.rpc is there twice"),
        ("x" * 10_000, "is no level"),
    ],
)
def test_what_is_no_level_or_area_is_said_with_those_that_there_are(text: str, said: str) -> None:
    with pytest.raises(CommandError) as caught:
        levels_of_flag(text)
    assert str(caught.value).startswith("--log-level: ")
    assert said in str(caught.value)
    assert len(str(caught.value)) < 700


def test_the_areas_are_the_loggers_of_the_code() -> None:
    found = set()
    for path in (ROOT / "jiemi").rglob("*.py"):
        found |= set(re.findall(r'(?:get_logger|rare_log)\("([^"]+)"\)', path.read_text()))
    assert found == set(AREAS)


@pytest.fixture
def autojump_clock(monkeypatch: pytest.MonkeyPatch) -> MockClock:
    """The clock must not jump while a thread reads: it reads at once."""

    async def run_sync(function: Callable[..., object], *arguments: object, **_: object) -> object:
        await trio.lowlevel.checkpoint()
        return function(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)
    return MockClock(autojump_threshold=0)


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def test_levels_change_for_loggers_that_have_logged_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", out := io.StringIO())
    found = configure_logs(LogFormat.JSON, read_levels("warning,jiemi.rpc=info"))
    rpc, git = structlog.get_logger("jiemi.rpc"), structlog.get_logger("jiemi.krapao.git")

    def log_all() -> list[tuple[str, str]]:
        for logger in (rpc, git):
            logger.debug("one")
            logger.info("two")
            logger.warning("three")
        said = [(line["logger"], line["event"]) for line in lines(out.getvalue())]
        out.truncate(0)
        out.seek(0)
        return said

    assert log_all() == [("jiemi.rpc", "two"), ("jiemi.rpc", "three"), ("jiemi.krapao.git", "three")]
    found.levels = read_levels("error,jiemi.krapao=debug")
    assert log_all() == [("jiemi.krapao.git", each) for each in ("one", "two", "three")]


async def test_the_file_holds_while_it_is_there_and_a_wrong_content_changes_nothing(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    file = tmp_path / "levels"
    filter = LevelFilter(read_levels("warning"))
    given, debug = filter.levels, read_levels("jiemi.rpc=debug")
    with structlog.testing.capture_logs() as logs:

        async def after(content: str | bytes | None) -> Levels:
            logs.clear()
            if content is None:
                file.unlink()
            else:
                file.write_bytes(content.encode() if isinstance(content, str) else content)
            await trio.sleep(11)
            return filter.levels

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow_file, file, filter)
            await trio.sleep(11)
            assert (filter.levels, logs) == (given, [])
            assert await after("jiemi.rpc=debug\n") == debug
            assert [(each["event"], each["levels"]) for each in logs] == [
                ("log_levels_changed", "info,jiemi.rpc=debug")
            ]
            for wrong, why in (
                ("loud", "'loud' is no level"),
                (b"\xff", "it is no UTF-8 text"),
                ("debug," * 1_000, "it is longer than 4096 bytes"),
            ):
                assert await after(wrong) == debug
                [line] = logs
                assert (line["event"], line["log_level"]) == ("log_levels_not_changed", "error")
                assert line["why"].startswith(why)
            await trio.sleep(100)
            assert len(logs) == 1, "it is said once"
            assert await after("error") == read_levels("error")
            assert await after("") == given
            assert await after("debug") == read_levels("debug")
            assert await after(None) == given
            nursery.cancel_scope.cancel()


async def test_a_file_that_is_replaced_as_the_kubelet_does_is_read_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    for number, text in enumerate(("debug", "error")):
        (tmp_path / f"v{number}").mkdir()
        (tmp_path / f"v{number}" / "levels").write_text(text)
    (tmp_path / "..data").symlink_to("v0")
    (tmp_path / "levels").symlink_to("..data/levels")
    filter = LevelFilter(Levels())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow_file, tmp_path / "levels", filter)
        await trio.sleep(11)
        assert filter.levels == read_levels("debug")
        (tmp_path / "next").symlink_to("v1")
        (tmp_path / "next").rename(tmp_path / "..data")
        await trio.sleep(11)
        assert filter.levels == read_levels("error")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
async def test_what_is_no_file_holds_nothing_up(tmp_path: Path, make: Any, autojump_clock: MockClock) -> None:
    make(tmp_path / "levels")
    filter = LevelFilter(Levels())
    with trio.move_on_after(30):
        await follow_file(tmp_path / "levels", filter)
    assert filter.levels == Levels()
