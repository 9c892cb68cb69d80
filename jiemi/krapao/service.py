"""Krapao's service: the port `Krapao` of the contract over real git and real sops.

    async with open_service(settings) as krapao:
        async with krapao.open(source, credentials) as repository:
            ...

It holds the volume (one Krapao at a time, by a lock on a file that ends with the process), all workers, and the
task that keeps the volume within its bound.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import structlog
import trio

from jiemi.core.errors import JiemiError
from jiemi.krapao.confinement.processes import adopt_orphans
from jiemi.krapao.decryption.sops import open_decrypter
from jiemi.krapao.git.clones import Clones
from jiemi.krapao.git.layout import prepare
from jiemi.krapao.metrics import KrapaoMetrics
from jiemi.krapao.repositories import Repositories
from jiemi.krapao.settings import KrapaoSettings
from jiemi.krapao.volume_watch import LOCK

log = structlog.get_logger("jiemi.krapao")

_PRUNE_SECONDS = 600

KrapaoService = Repositories
"""What `open_service` gives: the port `Krapao`."""


@contextlib.asynccontextmanager
async def open_service(settings: KrapaoSettings, metrics: KrapaoMetrics | None = None) -> AsyncIterator[KrapaoService]:
    """Run Krapao's service for as long as the context lasts. It can be used as soon as the context is entered.

    Args:
        metrics: where it counts; its own where nobody reads them.

    Raises:
        JiemiError: StorageFailed where the state folder can't be used, or another Krapao uses it.
    """
    adopt_orphans()
    with _volume(settings.state_dir) as volume:
        metrics = metrics if metrics is not None else KrapaoMetrics()
        clones = Clones(settings, volume.hold, metrics)
        try:
            async with open_decrypter(settings, metrics) as decrypter, trio.open_nursery() as nursery:
                nursery.start_soon(_keep_within_bound, clones)
                opened = Repositories(nursery, clones.open, decrypter, settings, decrypter.reading, clones.charge)
                metrics.listings = opened.listings
                yield opened
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            # What the caller's own block raised leaves as it was raised, out of the nurseries here.
            error: BaseException = group
            while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
                error = error.exceptions[0]
            if error is not group:
                raise error from None
            raise


class _Volume:
    """The state folder, for this Krapao alone: by a lock on a file in it, which ends with the process."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._lock: int | None = None
        self._mutex = threading.Lock()

    def hold(self) -> None:
        """Take the folder, or make sure that it is still there and ours: somebody may have deleted it.

        Raises:
            OSError: it can't be used.
            JiemiError: StorageFailed: another Krapao uses it.
        """
        with self._mutex:
            path = self._state_dir / LOCK
            if self._lock is not None and _is_same(path, self._lock):
                return
            self._state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(lock)
                raise JiemiError("StorageFailed", "another Krapao uses this state folder") from error
            try:
                prepare(self._state_dir)
            except BaseException:
                os.close(lock)
                raise
            if self._lock is not None:
                log.warning("state_folder_made_again", folder=str(self._state_dir))
                os.close(self._lock)
            self._lock = lock

    def close(self) -> None:
        with self._mutex:
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None


def _is_same(path: Path, descriptor: int) -> bool:
    try:
        there, ours = path.stat(), os.fstat(descriptor)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


@contextlib.contextmanager
def _volume(state_dir: Path) -> Iterator[_Volume]:
    volume = _Volume(state_dir)
    try:
        try:
            volume.hold()
        except OSError as error:
            raise JiemiError("StorageFailed", f"Krapao's state folder: {error.strerror}") from error
        yield volume
    finally:
        volume.close()


async def _keep_within_bound(clones: Clones) -> None:
    """At the start and from time to time, remove clones that nobody needs. Has no deadline: it lasts as long as the
    service."""
    while True:
        try:
            await clones.prune()
        except (OSError, JiemiError) as error:
            log.warning("prune_failed", error=str(error))
        await trio.sleep(_PRUNE_SECONDS)
