"""Cheap files are read in a thread; dear ones in a confined process that is bounded, and leaves nothing behind."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from jiemi.concurrency.askers import Askers
from jiemi.concurrency.fair_limiter import FairLimiter
from jiemi.core.content.formats import Format
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveBytes
from jiemi.krapao.confinement.probe import probe
from jiemi.krapao.confinement.spawn import Measures
from jiemi.krapao.fair_threads import FairThreads
from jiemi.krapao.reading import reader as reading_module
from jiemi.krapao.reading.plain import PlainLimits, read_plain
from jiemi.krapao.reading.reader import Documents, Reading
from jiemi.krapao.settings import KrapaoSettings

CANARY = "canary-5e1d0c"
DEAR = b"- a\n" * 9_000
SEALED = b"ENC[AES256_GCM,data:YQ==,iv:YQ==,tag:YQ==,type:str]"


@attrs.define
class Lab:
    """A reading, and what became of its programs."""

    reading: Reading
    settings: KrapaoSettings
    measures: Callable[[], Awaitable[Measures]]
    parsers: FairLimiter
    pids: list[int]
    seen: list[str]
    started: trio.Event

    async def plain(
        self, data: bytes, format: Format = Format.YAML, *, whole: bool = False, key: str = "a"
    ) -> Documents | None:
        return await self.reading.plain(data, format, whole=whole, threads=self.threads(key))

    async def decrypted(self, data: bytes, format: Format = Format.YAML) -> Documents:
        return await self.reading.decrypted(SensitiveBytes(data), format, threads=self.threads("a"))

    def threads(self, tenant: str) -> FairThreads:
        return FairThreads(self.parsers, Askers(tenant))

    def limit(self, **changes: Any) -> None:
        self.reading = Reading(attrs.evolve(self.settings, **changes), self.measures)

    def require_nothing_left(self) -> None:
        for pid in self.pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


@pytest.fixture
async def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    settings = KrapaoSettings(state_dir=tmp_path)
    found = await probe(folder=tmp_path, programs_path=settings.programs_path)
    pids: list[int] = []
    seen: list[str] = []
    begun = trio.Event()

    async def measures() -> Measures:
        return found

    give_way = reading_module._give_way

    def started(pid: int) -> None:
        pids.append(pid)
        begun.set()
        files = (Path(f"/proc/{pid}/{name}") for name in ("cmdline", "environ", "status", "limits"))
        seen.extend(file.read_text("utf-8", "replace") for file in files)
        give_way(pid)

    monkeypatch.setattr(reading_module, "_give_way", started)
    return Lab(Reading(settings, measures), settings, measures, FairLimiter(2), pids, seen, begun)


def values(found: Documents | None) -> list[object]:
    assert found is not None
    return [json.loads(each.reveal()) for each in found]


async def failure(read: Awaitable[object]) -> JiemiError:
    with pytest.raises(JiemiError) as caught:
        await read
    return caught.value


async def test_cheap_files_start_no_program(lab: Lab) -> None:
    assert values(await lab.plain(b"a: off\n---\nb: x\n")) == [{"a": False}, {"b": "x"}]
    assert values(await lab.decrypted(b"a: off\n---\nb: x\n")) == [{"a": "off"}, {"b": "x"}]
    assert values(await lab.plain(b"A=b\n", Format.DOTENV)) == [{"A": "b"}]
    await lab.plain(b"a: '" + b"x" * 400_000 + b"'\n")
    assert await lab.plain(bytes(range(256)) * 12_000, Format.BINARY, whole=True) == ()
    assert await lab.plain(b"[a]\n" + b"b = c\n" * 100_000, Format.INI, whole=True) == ()
    assert lab.pids == []


@pytest.mark.parametrize(
    ("data", "format"),
    [
        (DEAR, Format.YAML),
        (b"a: |\n" + b"  a line of a large text\n" * 20_000 + b"---\nb: off\n", Format.YAML),
        (json.dumps([{"a": 1}] * 9_000).encode(), Format.JSON),
        (b"".join(b"A%d=b\n" % number for number in range(9_000)), Format.DOTENV),
        (b"a: [" + b"1, " * 2_900 + b"]\nb: &b [" + b"2, " * 50 + b"]\nc: [" + b"*b, " * 80 + b"]", Format.YAML),
    ],
)
async def test_what_a_program_reads_is_what_a_thread_reads(lab: Lab, data: bytes, format: Format) -> None:
    expected = read_plain(data, format, whole=False, limits=PlainLimits(documents=1_000, bytes=1 << 23))
    found = await lab.plain(data, format)
    assert found is not None
    assert tuple(each.reveal() for each in found) == expected
    assert len(lab.pids) == 1
    lab.require_nothing_left()


async def test_a_dear_file_is_wanted_whole_refused_or_given_to_sops_as_a_cheap_one_is(lab: Lab) -> None:
    assert await lab.plain(DEAR, whole=True) == ()
    assert await lab.plain(b"'sops': x\na: " + SEALED + b"\nb:\n" + DEAR) is None
    lost = await failure(lab.plain(DEAR + b"- " + SEALED))
    assert lost.failure.reason == "NotEncrypted"
    bad = await failure(lab.plain(DEAR + b"]"))
    assert bad.failure.message == "document 1, line 9001: it is not YAML"
    assert len(lab.pids) == 4
    lab.require_nothing_left()


async def test_a_decrypted_file_that_is_dear_is_read_in_a_program_as_sops_means_it(lab: Lab) -> None:
    data = b"---\n" + b"- off\n" * 3_000 + b"---\na: 0o17\n"
    assert values(await lab.decrypted(data)) == [["off"] * 3_000, {"a": 15}]
    assert values(await lab.decrypted(json.dumps({"a": [1] * 9_000}).encode())) == [{"a": [1] * 9_000}]
    assert len(lab.pids) == 2
    lab.require_nothing_left()


async def test_what_a_mac_covers_is_found_out_in_a_program_where_that_is_dear(lab: Lab) -> None:
    async def mac_only(data: bytes, format: Format = Format.YAML) -> bool:
        return await lab.reading.mac_only(data, format, threads=lab.threads("a"))

    tail = b"sops:\n  mac_only_encrypted: true\n"
    assert not await mac_only(b"a:\n" + DEAR)
    assert await mac_only(b"a: 1\n" + tail)
    assert await mac_only(b"a=" + b"-" * 90_000 + b"\nsops_mac_only_encrypted=true\n", Format.DOTENV)
    assert lab.pids == [], "the name is nowhere, or the file is small, or has lines only"
    assert await mac_only(b"a:\n" + DEAR + tail)
    assert not await mac_only(b"a:\n" + DEAR + tail.replace(b"true", b"false"))
    assert len(lab.pids) == 2
    lab.limit(decrypt_cpu_seconds=1, decrypt_timeout_seconds=1)
    assert await mac_only(b"a:\n" + b"- [1, 2]\n" * 190_000 + tail.replace(b"true", b"false")), "it can't be told"
    lab.require_nothing_left()


async def test_lost_values_are_counted_in_a_program_where_that_is_dear(lab: Lab) -> None:
    async def lost(data: bytes, plain: bytes) -> bool:
        return await lab.reading.lost_values(data, SensitiveBytes(plain), threads=lab.threads("a"))

    assert await lost(b"a: x\n---\nb: null\n", b"a: null\n---\nb: null\n")
    assert not await lost(b"a: x\nsops: null\n---\nb: null\n", b"a: y\n---\nb: null\n")
    assert lab.pids == []
    more = b"---\n" + b"- null\n" * 2_000
    assert await lost(b"a: x\n" + more, b"a: null\n" + more)
    assert not await lost(b"a: x\n" + more, b"a: y\n" + more)
    assert (await failure(lost(more + b"]", more))).failure.reason == "UnknownFormat"
    assert len(lab.pids) == 3
    lab.require_nothing_left()


async def test_the_program_is_confined_and_given_nothing_of_the_file(lab: Lab, tmp_path: Path) -> None:
    secret = b"- " + CANARY.encode() + b"\n"
    found = await lab.decrypted(b"---\n" + secret * 9_000)
    assert len(values(found)) == 1
    bad = await failure(lab.decrypted(b"---\n" + secret * 9_000 + CANARY.encode() + b": ]"))
    command, environment, status, limits, *_ = lab.seen
    assert environment.strip("\0") == ""
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    assert "CapEff:\t" + 16 * "0" in status
    assert f"Max data size             {lab.settings.decrypt_memory_bytes} " in limits
    assert f"Max cpu time              {lab.settings.decrypt_cpu_seconds} " in limits
    for told in (*lab.seen, str(bad), repr(bad), command):
        assert CANARY not in told
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - pathlib's is not for async functions


@pytest.mark.parametrize(
    ("changes", "data", "reason"),
    [
        ({"decrypt_memory_bytes": 24 << 20}, b"- a\n" * 190_000, "LimitExceeded"),
        ({"decrypt_cpu_seconds": 1}, b"a: b\r" * 190_000 + b"- a\n" * 190_000, "LimitExceeded"),
        ({"decrypt_timeout_seconds": 0.05}, b"- a\n" * 190_000, "Timeout"),
        ({"max_rendered_bytes": 1_000_000}, b'a: "' + b"\\0" * 400_000 + b'"', "LimitExceeded"),
        ({}, b"- a\n" * 200_001, "LimitExceeded"),
        ({}, b"{" * 4_000_000, "LimitExceeded"),
        ({}, b"-\n" * 2_000_000, "LimitExceeded"),
        ({}, b"a: &a '" + b"x" * 300_000 + b"'\nb: [" + b"*a, " * 4_000 + b"]", "LimitExceeded"),
        ({}, b'{"a": [' + b"[]," * 1_000_000 + b"[]]}", "LimitExceeded"),
    ],
)
async def test_a_bomb_ends_its_program_and_nothing_else(
    lab: Lab, changes: dict[str, object], data: bytes, reason: str
) -> None:
    lab.limit(**changes)
    error = await failure(lab.plain(data))
    assert error.failure.reason == reason
    lab.require_nothing_left()
    assert values(await lab.plain(b"a: b\n")) == [{"a": "b"}]


async def test_aliases_that_make_much_of_a_small_file_are_not_followed_in_a_thread(lab: Lab) -> None:
    lists = b"".join(b"l%d: [%s]\n" % (number, b",".join([b"*x"] * 60)) for number in range(40))
    data = b"x: &x [" + b"1," * 100 + b"1]\n" + lists.replace(b"\n", b"\n# " + b"k" * 50 + b"\n")
    assert (await failure(lab.plain(data))).failure.reason == "LimitExceeded"
    assert len(lab.pids) == 1


async def test_cancelling_leaves_no_program(lab: Lab) -> None:
    with trio.move_on_after(30) as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lab.plain, b"- a\n" * 190_000)
            await lab.started.wait()
            scope.cancel()
    assert scope.cancelled_caught
    lab.require_nothing_left()


async def test_one_who_has_many_dear_files_leaves_a_place_to_the_others(lab: Lab) -> None:
    ended: list[str] = []

    async def read(key: str) -> None:
        await lab.plain(DEAR, key=key)
        ended.append(key)

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(read, "a")
        await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.start_soon(read, "b")
        assert values(await lab.plain(b"c: d\n")) == [{"c": "d"}]
    assert len(ended) == 9
    assert ended.index("b") <= 2
