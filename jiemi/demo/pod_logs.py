"""What containers of this machine's node write, as it comes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import attrs
import trio

_POLL_SECONDS = 0.2
_READ_BYTES = 1 << 20
_LINE_BYTES = 64 * 1024


async def follow_pod_logs(folder: Path, namespace: str, on_line: Callable[[str, str], None]) -> None:
    """Give each line of a namespace's containers to `on_line`, with the container's name, until cancelled.

    Args:
        folder: kubelet's `podLogsDir`.

    Source: kubelet's layout NAMESPACE_POD_UID/CONTAINER/RESTARTS.log, and the CRI log format: a time, `stdout` or
    `stderr`, `F` for a whole line or `P` for a part of one, and the text (KEP-2411 and kuberuntime's logs package).
    """
    files: dict[Path, _File] = {}
    while True:
        for path in _logs(folder, namespace):
            lines = files.setdefault(path, _File(path)).new_lines()
            for line in lines:
                on_line(path.parent.name, line)
        await trio.sleep(_POLL_SECONDS)


def _logs(folder: Path, namespace: str) -> list[Path]:
    return sorted(folder.glob(f"{namespace}_*/*/*.log"))


@attrs.define
class _File:
    """A log that grows. kubelet begins a new file under the same name when one is full."""

    path: Path
    _inode: int = 0
    _offset: int = 0
    _rest: bytes = b""
    _part: str = ""

    def new_lines(self) -> list[str]:
        """The whole lines since the last time."""
        try:
            with self.path.open("rb") as file:
                found = os.fstat(file.fileno())
                if found.st_ino != self._inode or found.st_size < self._offset:
                    self._inode, self._offset, self._rest = found.st_ino, 0, b""
                file.seek(self._offset)
                read = file.read(_READ_BYTES)
        except FileNotFoundError:
            return []
        self._offset += len(read)
        *whole, self._rest = (self._rest + read).split(b"\n")
        self._rest = self._rest[:_LINE_BYTES]
        return [line for each in whole if (line := self._line(each)) is not None]

    def _line(self, raw: bytes) -> str | None:
        """A line of the log as the container wrote it; None for a part of one, which is kept."""
        _, _, rest = raw.decode("utf-8", "replace").partition(" ")
        _, _, rest = rest.partition(" ")
        tag, _, text = rest.partition(" ")
        self._part = (self._part + text)[:_LINE_BYTES]
        if tag.partition(":")[0] == "P":
            return None
        line, self._part = self._part, ""
        return line
