"""What a run may not leave: processes, threads, descriptors, files; and secrets where they don't belong."""

from __future__ import annotations

import contextlib
import os
import threading
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs
import trio
from hostile.lab import Lab

LEFT_SECONDS = 10


def children() -> list[int]:
    """Our children and zombies by now, and the orphans that came to us."""
    found = Path(f"/proc/self/task/{os.getpid()}/children")
    others = [Path(f"/proc/self/task/{each.native_id}/children") for each in threading.enumerate()]
    pids: set[int] = set()
    for path in {found, *others}:
        with contextlib.suppress(OSError):  # the thread has ended
            pids.update(map(int, path.read_text().split()))
    return sorted(pids)


def descriptors() -> list[str]:
    """What our open descriptors lead to, without the numbers of sockets and pipes."""
    found = []
    for entry in os.scandir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(str(Path(entry.path).readlink()).partition(":[")[0])
    return sorted(each for each in found if each != f"/proc/{os.getpid()}/fd")


def threads() -> list[str]:
    """Names of our threads, but for those that trio and the doubles keep for the next use."""
    return sorted(each.name for each in threading.enumerate() if not each.name.startswith(("Trio", "Thread-")))


@attrs.frozen
class Before:
    """What there was before a run."""

    children: list[int]
    descriptors: list[str]
    threads: list[str]

    @classmethod
    def now(cls) -> Before:
        return cls(children(), descriptors(), threads())

    def more_than(self, before: Before) -> list[object]:
        """What there is beyond what there was."""
        pairs = zip(attrs.astuple(self), attrs.astuple(before), strict=True)
        return [each for now, then in pairs for each in (Counter(now) - Counter(then)).elements()]

    async def require_again(self) -> None:
        """Wait until there is nothing more than there was; some of it ends a moment after its owner."""
        with trio.move_on_after(LEFT_SECONDS):
            while Before.now().more_than(self):  # noqa: ASYNC110 - nothing tells of it
                await trio.sleep(0.005)
        left = Before.now().more_than(self)
        assert not left, f"left over: {left}"


def contents(*roots: Path) -> Iterator[bytes]:
    """Of all files in these folders."""
    for root in roots:
        for path in root.rglob("*"):
            with contextlib.suppress(OSError):
                if path.is_file():
                    yield path.read_bytes()
                yield bytes(path.name, "utf-8", "surrogateescape")


def told(error: BaseException | None) -> str:
    """All that an error says, with what it carries along."""
    if error is None:
        return ""
    lines = traceback.format_exception(error)
    chain: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in chain:
        chain.append(at)
        at = at.__cause__ or at.__context__
    return "".join(lines) + "".join(repr((each, each.args, vars(each))) for each in chain)


def require_no_canary(lab: Lab, where: str, found: Iterable[bytes]) -> None:
    for data in found:
        for canary in lab.canaries:
            assert canary.encode() not in data, f"a canary is in {where}"
