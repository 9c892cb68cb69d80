"""Files' contents -> documents: the cheap ones in a thread, the dear ones in a process with limits.

What a file may cost is estimated from how many characters it has that can begin anything (`_is_cheap`), and where
aliases make more of it than that, the thread gives up. Such a file is read by a program of its own (`reading_program`).
It is confined as an opener of sops is: no network, no file but Python's own, an empty environment, bounds on memory and
processor time, a lower priority, its input and output in pipes. It costs a Python's start, about 0.1 s. So neither a
tenant's memory bomb nor its slow file is felt in this process, which all share; and the program reads one file only, so
one that was taken over sees nobody else's.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import attr
import ruamel.yaml

import jiemi
from jiemi.concurrency.askers import Askers
from jiemi.concurrency.fair_limiter import FairLimiter, Slot
from jiemi.core.content.documents import parse_documents
from jiemi.core.content.formats import Format
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveBytes
from jiemi.krapao.confinement.processes import Finished, Limits, run_program
from jiemi.krapao.confinement.spawn import LIBRARIES, LOADERS, Command, Confinement, Measures, Sandbox
from jiemi.krapao.fair_threads import FairThreads
from jiemi.krapao.reading.kubectl_yaml.cursor import OverBudget
from jiemi.krapao.reading.lost_values import lost_values
from jiemi.krapao.reading.mac import is_mac_only_encrypted, names_mac_only
from jiemi.krapao.reading.plain import Kept, PlainLimits, read_plain
from jiemi.krapao.reading.words import ASK_SOPS, FAILED, OUT_OF_MEMORY
from jiemi.krapao.settings import KrapaoSettings

Documents = tuple[SensitiveBytes, ...]

_CHEAP_VALUES = 6_000
"""What is read in a thread: some 50 ms at most."""

_CHEAP_BYTES = 512 * 1024
_CHEAP_VALUES_OF_SOPS = 1_500
_CHEAP_BYTES_OF_SOPS = 64 * 1024
"""The same for YAML of sops's, whose reader takes five times as long."""

_MARKS = b"\n\r\x85\xa8\xa9,[]{}:-?!&*'\"\\"
"""At least one of them is before or behind each value; the third to fifth end line breaks of three kinds."""

_PROGRAMS = 2
_NICE = 5
_MAX_HEADER_BYTES = 64 * 1024
_BOOT = (
    "import sys; sys.path[:0] = sys.argv.pop(1).split('\\n'); from jiemi.krapao.reading import program as p; p.main()"
)


class Reading:
    """Reads for all workers.

    Args:
        measures: gives what confines a program here.

    Attributes:
        measures: the same.
    """

    def __init__(self, settings: KrapaoSettings, measures: Callable[[], Awaitable[Measures]]) -> None:
        self._settings = settings
        self.measures = measures
        self._programs = FairLimiter(_PROGRAMS)

    async def plain(
        self, data: bytes, format: Format, *, whole: bool, threads: FairThreads, kept: Kept = ()
    ) -> Documents | None:
        """What a plain file holds, as `read_plain`.

        Args:
            threads: where cheap files are read, and the tenants that wait for it.

        Raises:
            JiemiError: as `read_plain`; Timeout, InternalError.
        """
        settings = self._settings
        # Of these two nothing is taken apart, except the JSON that sops makes of a binary file.
        searched = format in (Format.INI, Format.BINARY) and not data.lstrip().startswith(b"{")
        if searched or _is_cheap(data, _CHEAP_VALUES, _CHEAP_BYTES):
            limits = PlainLimits(
                documents=settings.max_documents, bytes=settings.max_rendered_bytes, values=_CHEAP_VALUES
            )
            read = partial(read_plain, whole=whole, limits=limits, kept=kept)
            with contextlib.suppress(OverBudget):
                found = await threads.run(read, data, format)
                return _sensitive(found) if found is not None else None
        return _documents(*await self._run(threads.askers, data, "plain", *self._arguments(format, whole, kept)))

    async def decrypted(self, plain: SensitiveBytes, format: Format, *, threads: FairThreads) -> Documents:
        """What a decrypted file holds, as `parse_documents`; the arguments as for `plain`.

        Raises:
            JiemiError: as `parse_documents`; Timeout, InternalError.
        """
        data, settings = plain.reveal(), self._settings
        by_json = format is not Format.YAML or data.startswith(b"{")
        bounds = (_CHEAP_VALUES, _CHEAP_BYTES) if by_json else (_CHEAP_VALUES_OF_SOPS, _CHEAP_BYTES_OF_SOPS)
        if _is_cheap(data, *bounds):
            read = partial(parse_documents, max_documents=settings.max_documents, max_bytes=settings.max_rendered_bytes)
            return _sensitive(await threads.run(read, data, format))
        found = _documents(*await self._run(threads.askers, data, "decrypted", *self._arguments(format, False)))
        return found if found is not None else ()

    async def lost_values(self, data: bytes, plain: SensitiveBytes, *, threads: FairThreads) -> bool:
        """As `lost_values`; the other arguments and errors as for `decrypted`."""
        decrypted = plain.reveal()
        if all(_is_cheap(each, _CHEAP_VALUES_OF_SOPS, _CHEAP_BYTES_OF_SOPS) for each in (data, decrypted)):
            return await threads.run(lost_values, data, decrypted)
        (_, lost), _ = await self._run(threads.askers, data + decrypted, "lost", str(len(data)))
        return bool(lost)

    async def mac_only(self, data: bytes, format: Format, *, threads: FairThreads) -> bool:
        """As `is_mac_only_encrypted`; a file that takes too much to find out counts as one.

        Raises:
            JiemiError: InternalError.
        """
        if not await threads.run(names_mac_only, data, format):
            return False
        if format in (Format.DOTENV, Format.INI) or _is_cheap(data, _CHEAP_VALUES_OF_SOPS, _CHEAP_BYTES_OF_SOPS):
            return await threads.run(is_mac_only_encrypted, data, format)
        try:
            (_, found), _ = await self._run(threads.askers, data, "mac", format.value)
        except JiemiError as error:
            if error.failure.reason not in ("LimitExceeded", "Timeout"):
                raise
            return True
        return bool(found)

    def _arguments(self, format: Format, whole: bool, kept: Kept = ()) -> tuple[str, ...]:
        settings = self._settings
        bounds = (str(settings.max_documents), str(settings.max_rendered_bytes))
        return (format.value, str(int(whole)), *bounds, json.dumps(kept))

    async def _run(self, askers: Askers, data: bytes, *arguments: str) -> tuple[list[Any], bytes]:
        """The program's header and what is behind it."""
        settings = self._settings
        python, confinement, roots = _program()
        limits = Limits(
            seconds=settings.decrypt_timeout_seconds,
            cpu_seconds=settings.decrypt_cpu_seconds,
            memory_bytes=settings.decrypt_memory_bytes,
            output_bytes=settings.max_rendered_bytes + _MAX_HEADER_BYTES,
        )
        command = Command(
            [str(python), "-I", "-S", "-B", "-c", _BOOT, "\n".join(map(str, roots)), *arguments],
            env={},
            cwd=Path("/"),
            sandbox=Sandbox(confinement, await self.measures()),
        )

        async def in_slot(_: Slot) -> Finished:
            return await run_program(
                command,
                stdin=data,
                limits=limits,
                what="reading the file",
                missing="InternalError",
                on_started=_give_way,
            )

        return _answer(await self._programs.run(askers, in_slot))


def _give_way(pid: int) -> None:
    with contextlib.suppress(OSError):  # it has ended
        os.setpriority(os.PRIO_PROCESS, pid, _NICE)


def _is_cheap(data: bytes, values: int, size: int) -> bool:
    return len(data) <= size and len(data) - len(data.translate(None, _MARKS)) <= values


def _sensitive(found: tuple[bytes, ...]) -> Documents:
    return tuple(map(SensitiveBytes, found))


def _program() -> tuple[Path, Confinement, tuple[Path, ...]]:
    """Python, what it may read, and where its packages are."""
    python = Path(sys.executable).resolve()
    homes = {Path(each).resolve() for each in (sys.base_prefix, sys.base_exec_prefix)}
    packages = (Path(str(jiemi.__file__)).parent, Path(str(attr.__file__)).parent)
    roots = tuple(dict.fromkeys((*(each.parent for each in packages), Path(str(ruamel.yaml.__file__)).parents[2])))
    return (
        python,
        Confinement(
            network=False, unix_sockets=False, read_execute=(python, *LOADERS), read=(*homes, *LIBRARIES, *roots)
        ),
        roots,
    )


def _answer(finished: Finished) -> tuple[list[Any], bytes]:
    if finished.returncode < 0 or finished.returncode == OUT_OF_MEMORY:
        raise JiemiError("LimitExceeded", "reading the file took more processor time or memory than Krapao's limit")
    header, newline, rest = finished.stdout.partition(b"\n")
    if finished.returncode != 0 or not newline:
        raise JiemiError("InternalError", f"the program that reads files ended with status {finished.returncode}")
    answer: list[Any] = json.loads(header)
    if answer[0] == FAILED:
        _, reason, message, remedy = answer
        raise JiemiError(reason, message, remedy)
    return answer, rest


def _documents(answer: list[Any], rest: bytes) -> Documents | None:
    if answer[0] == ASK_SOPS:
        return None
    found, begin = [], 0
    for length in answer[1:]:
        found.append(SensitiveBytes(rest[begin : begin + length]))
        begin += length
    return tuple(found)
