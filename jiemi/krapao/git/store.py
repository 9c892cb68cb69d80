"""The account of the volume: what each clone takes, to whom it is charged, and which clones go when there is no room.

A clone is charged in full to every tenant that has it open, and once nobody has, to those who fetched into it last
(an opaque digest of each is in its folder). Clones that somebody has open never go. Of the others the longest unused go
first, at these moments:

    before a fetch      the tenants' own, while they are beyond their share; any, while all are beyond the bound
    after a fetch       any, while all are beyond the bound
    no space left       what was set aside (`layout`), the tenants' own, then any, until a part of the volume is free;
                        then it is tried once more
    from time to time   as after a fetch, with every folder looked at again

A tenant that is beyond its share with what it has open gets LimitExceeded, and nobody else does. What is under way at
once is not counted: all are beyond the bound by as much as runs at once (`git_concurrency` packs) at most.

Small files take more of a volume than their bytes: an inode, of which ext4 has one for each 16 KiB. So each entry
counts that much at least, and a bound of bytes bounds inodes too.

All methods are for worker threads, and may be called from several at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

import attrs
import structlog

from jiemi.concurrency.calls import Interrupted, Interrupter
from jiemi.core.errors import JiemiError
from jiemi.krapao.git.folders import TENANTS, remove, remove_leftovers

log = structlog.get_logger("jiemi.krapao.git")

_ENTRY_BYTES = 16 * 1024
_BLOCK_BYTES = 512
"""Of st_blocks (stat(2))."""

_MAX_RECORDED_TENANTS = 1_000
_FREE_SHARE_BYTES = 16
_FREE_SHARE_INODES = 64
_FREE_SHARE_OF_TENANT = 8
_DIGEST = re.compile(r"[0-9a-f]{32}")

OpenTenants = Callable[[str], Collection[str] | None]
"""The tenants that have a clone open, by its folder's name; None where nobody has it open."""


@attrs.frozen
class Kept:
    """A clone on the volume.

    Attributes:
        name: of its folder.
        bytes: that it takes, small files counted as the inodes that they take.
        used: when it was used last, in seconds since the epoch.
        tenants: digests of those who fetched into it.
    """

    name: str
    bytes: int
    used: float
    tenants: frozenset[str] = frozenset()


def digest(tenant: str) -> str:
    """What stands for a tenant on the volume."""
    return hashlib.sha256(b"tenant " + tenant.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def longest_unused(clones: Iterable[Kept], excess: int) -> Iterator[Kept]:
    """Clones to remove, the longest unused first, until so many bytes are gone."""
    for clone in sorted(clones, key=lambda each: (each.used, each.name)):
        if excess <= 0:
            return
        excess -= clone.bytes
        yield clone


class Store:
    """The account of one volume.

    Args:
        root: folder of the clones' folders.
        max_bytes: of all clones.
        max_tenant_bytes: of those that are charged to one tenant.
        open_tenants: asked for each folder just before it goes, so one that is opened meanwhile stays.
        remove_set_aside: removes what is on the volume beside the clones, and returns whether there was any.
    """

    def __init__(
        self,
        root: Path,
        max_bytes: int,
        max_tenant_bytes: int,
        open_tenants: OpenTenants,
        remove_set_aside: Callable[[], bool] = lambda: False,
    ) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._max_tenant_bytes = max_tenant_bytes
        self._open_tenants = open_tenants
        self._remove_set_aside = remove_set_aside
        self._lock = threading.Lock()
        self._clones: dict[str, Kept] = {}
        self._used: dict[str, float] = {}
        self._is_read = False

    @property
    def total_bytes(self) -> int:
        """What all clones take, as it was seen last. May be read from any thread."""
        return sum(clone.bytes for clone in list(self._clones.values()))

    def read(self, interrupter: Interrupter) -> None:
        """Look at every folder again, and remove what was on its way out when a process ended."""
        with self._lock:
            self._read(interrupter)

    def trim(self) -> None:
        """Remove what nobody has open while all are beyond the bound."""
        with self._lock:
            self._remove_until(self.total_bytes - self._max_bytes, self._unused())

    def before_fetch(self, name: str, tenants: Collection[str], interrupter: Interrupter) -> int:
        """Make room for a fetch into a clone.

        Args:
            tenants: that have it open; none where nobody says who they are, and then only the bound of all counts.

        Returns:
            How many bytes the fetch may bring before the tenants' share is used up.

        Raises:
            JiemiError: LimitExceeded: it is used up for each of the tenants.
        """
        with self._lock:
            if not self._is_read:
                self._read(interrupter)
            self._remember(name)
            # One that is recreated takes as much again for a while.
            expected = self._clones[name].bytes if name in self._clones else 0
            left = [self._make_room_for(each, name, expected) for each in map(digest, tenants)]
            if left and max(left) <= 0:
                raise JiemiError(
                    "LimitExceeded",
                    f"the clones that this namespace has open take more than its share of Krapao's volume, "
                    f"{self._max_tenant_bytes} bytes: follow fewer or smaller repositories, or raise "
                    "`jiemi krapao --max-tenant-store`",
                )
            self._remove_until(self.total_bytes + expected - self._max_bytes, self._unused(but=name))
            return max(left, default=self._max_bytes)

    def after_fetch(self, name: str, tenants: Collection[str]) -> None:
        """Take a clone that was fetched into to the account."""
        with self._lock:
            self._used[name] = time.time()
            self._record(name, tenants)
            self._remember(name)
            self._remove_until(self.total_bytes - self._max_bytes, self._unused(but=name))

    def closed(self, name: str) -> None:
        """A clone was in use until now. Blocks for no I/O."""
        self._used[name] = time.time()

    def free(self, name: str, tenants: Collection[str], wanted_bytes: int) -> bool:
        """The volume has no space left: remove what nobody has open, the tenants' own first.

        Args:
            wanted_bytes: that should be free in the end; a part of the volume is wanted in any case.

        Returns:
            Whether something was removed.
        """
        with self._lock:
            theirs = frozenset(map(digest, tenants))
            unused = sorted(self._unused(but=name), key=lambda each: (not theirs & each.tenants, each.used, each.name))
            removed = self._remove_set_aside()
            for clone in unused:
                if removed and self._has_room(wanted_bytes):
                    break
                removed = self._remove(clone) or removed
            return removed

    # Under the lock

    def _read(self, interrupter: Interrupter) -> None:
        found: dict[str, Kept] = {}
        remove_leftovers(self._root)
        with contextlib.suppress(OSError):
            for folder in self._root.iterdir():
                if interrupter.interrupted:
                    raise Interrupted("the call was cancelled")
                clone = _look_at(folder)
                if clone is not None:
                    found[clone.name] = clone
        self._clones = found
        self._is_read = True
        for name in self._used.keys() - found.keys():
            self._used.pop(name, None)

    def _remember(self, name: str) -> None:
        clone = _look_at(self._root / name)
        if clone is None:
            self._clones.pop(name, None)
        else:
            self._clones[name] = clone

    def _record(self, name: str, tenants: Collection[str]) -> None:
        """Who fetched, into the clone's folder. Without space it is left out: then nobody is charged later."""
        if not tenants:
            return
        path = self._root / name / TENANTS
        before = _recorded(path)
        after = list(dict.fromkeys([*sorted(map(digest, tenants)), *before]))[:_MAX_RECORDED_TENANTS]
        if after != before:
            with contextlib.suppress(OSError):
                path.write_text("".join(f"{each}\n" for each in after))

    def _make_room_for(self, tenant: str, name: str, expected: int) -> int:
        """Remove a tenant's unused clones while a fetch would take it beyond its share; returns what is left of it.

        How much a new clone will take is not known, so a part of the share is kept free where the tenant's own unused
        clones are in its way.
        """
        expected = max(expected, self._max_tenant_bytes // _FREE_SHARE_OF_TENANT)
        mine = [clone for clone in self._clones.values() if tenant in self._charged(clone)]
        excess = sum(clone.bytes for clone in mine) + expected - self._max_tenant_bytes
        names = {clone.name for clone in mine}
        removed = self._remove_until(excess, [each for each in self._unused(but=name) if each.name in names])
        return self._max_tenant_bytes - (sum(clone.bytes for clone in mine) - removed)

    def _charged(self, clone: Kept) -> frozenset[str]:
        tenants = self._open_tenants(clone.name)
        return frozenset(map(digest, tenants)) if tenants else clone.tenants

    def _unused(self, but: str = "") -> list[Kept]:
        return [
            attrs.evolve(clone, used=max(clone.used, self._used.get(clone.name, 0)))
            for clone in self._clones.values()
            if clone.name != but and self._open_tenants(clone.name) is None
        ]

    def _remove_until(self, excess: int, clones: Iterable[Kept]) -> int:
        """Returns how many bytes went."""
        return sum(clone.bytes for clone in list(longest_unused(clones, excess)) if self._remove(clone))

    def _remove(self, clone: Kept) -> bool:
        if self._open_tenants(clone.name) is not None:
            return False
        try:
            remove(self._root / clone.name)
        except OSError:  # a full volume may have no room for another name
            shutil.rmtree(self._root / clone.name, ignore_errors=True)
        self._clones.pop(clone.name, None)
        self._used.pop(clone.name, None)
        log.info("clone_removed", folder=clone.name, size_bytes=clone.bytes)
        return True

    def _has_room(self, wanted_bytes: int) -> bool:
        try:
            volume = os.statvfs(self._root)
        except OSError:
            return True
        wanted = max(wanted_bytes, volume.f_blocks * volume.f_frsize // _FREE_SHARE_BYTES)
        return volume.f_bavail * volume.f_frsize >= wanted and volume.f_favail >= volume.f_files // _FREE_SHARE_INODES


def _look_at(folder: Path) -> Kept | None:
    """What a clone takes; None where there is none."""
    size, used, found = 0, 0.0, False
    for at, inner, files in os.walk(folder):
        found = True
        if at == str(folder):
            for name in [each for each in inner if each.startswith("removed-")]:
                inner.remove(name)
                shutil.rmtree(folder / name, ignore_errors=True)
        for name in ("", *inner, *files):
            with contextlib.suppress(OSError):
                status = (Path(at) / name).stat()
                size += max(status.st_blocks * _BLOCK_BYTES, _ENTRY_BYTES) if name else 0
                used = max(used, status.st_mtime)
    if not found:
        return None
    return Kept(folder.name, size + _ENTRY_BYTES, used, frozenset(_recorded(folder / TENANTS)))


def _recorded(path: Path) -> list[str]:
    try:
        lines = path.read_text(errors="replace").split("\n")
    except OSError:
        return []
    return [line for line in lines[:_MAX_RECORDED_TENANTS] if _DIGEST.fullmatch(line)]
