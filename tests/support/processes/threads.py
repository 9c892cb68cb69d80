"""The threads of a test."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


def own_threads() -> frozenset[threading.Thread]:
    """Those that run now, without those that trio keeps for the next call and ends after some idle seconds: to be
    compared before and after what must leave none."""
    return frozenset(each for each in threading.enumerate() if not each.name.startswith("Trio"))


@contextlib.contextmanager
def again_and_again(work: Callable[[], object], *, pause_seconds: float) -> Iterator[None]:
    """Call something in a thread, with pauses, until the end."""
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            work()
            over.wait(pause_seconds)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
