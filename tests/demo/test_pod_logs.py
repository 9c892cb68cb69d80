"""What containers of a node write, followed."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from jiemi.demo.pod_logs import follow_pod_logs

TIME = "2026-01-01T00:00:00.000000000Z"


class _Followed:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: list[tuple[str, str]] = []

    async def new(self) -> list[tuple[str, str]]:
        """The lines since the last time, once the follower has looked again."""
        await trio.sleep(1)
        lines, self.lines = self.lines, []
        return lines

    def write(self, container: str, text: str, *, pod: str = "jiemi_repository-0_uid", mode: str = "a") -> Path:
        path = self.folder / pod / container / "0.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open(mode) as file:
            file.write(text)
        return path


@pytest.fixture
async def followed(tmp_path: Path, nursery: trio.Nursery) -> _Followed:
    made = _Followed(tmp_path)
    nursery.start_soon(follow_pod_logs, tmp_path, "jiemi", lambda name, line: made.lines.append((name, line)))
    return made


async def test_whole_lines_come_with_their_containers_name_as_they_are_written(
    followed: _Followed, autojump_clock: trio.testing.MockClock
) -> None:
    assert await followed.new() == []
    followed.write("krapao", f"{TIME} stdout F one two\n{TIME} stderr F thr")
    followed.write("other", f"{TIME} stdout F not ours\n", pod="default_other_uid")
    assert await followed.new() == [("krapao", "one two")]
    followed.write("krapao", "ee\n")
    followed.write("miwen", f"{TIME} stdout F four\n", pod="jiemi_miwen-5f_uid")
    assert sorted(await followed.new()) == [("krapao", "three"), ("miwen", "four")]
    assert await followed.new() == []


async def test_the_parts_of_a_long_line_are_one_line(
    followed: _Followed, autojump_clock: trio.testing.MockClock
) -> None:
    followed.write("krapao", f"{TIME} stdout P long, \n{TIME} stdout P:x longer, \n")
    assert await followed.new() == []
    followed.write("krapao", f"{TIME} stdout F longest\n")
    assert await followed.new() == [("krapao", "long, longer, longest")]


async def test_a_log_that_begins_anew_is_followed_from_its_begin(
    followed: _Followed, autojump_clock: trio.testing.MockClock
) -> None:
    path = followed.write("krapao", f"{TIME} stdout F before\n")
    assert await followed.new() == [("krapao", "before")]
    path.rename(path.with_suffix(".20260101"))
    followed.write("krapao", f"{TIME} stdout F after the rotation\n")
    assert await followed.new() == [("krapao", "after the rotation")]
    path.unlink()
    assert await followed.new() == []
    followed.write("krapao", f"{TIME} stdout F again\n")
    assert await followed.new() == [("krapao", "again")]


async def test_what_is_no_line_of_such_a_log_ends_nothing(
    followed: _Followed, autojump_clock: trio.testing.MockClock
) -> None:
    followed.write("krapao", "\n\nnonsense\n" + "x" * 100_000 + f"\n{TIME} stdout F right\n")
    assert ("krapao", "right") in await followed.new()
