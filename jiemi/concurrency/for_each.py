"""Several things at once, as one step that fails as one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import trio

T = TypeVar("T")


async def for_each(items: Iterable[T], do: Callable[[T], Awaitable[None]], *, at_once: int) -> None:
    """Do something with each item, begun in their order.

    Args:
        at_once: how many are under way at most.

    Raises:
        Whatever `do` raised first; the others are cancelled, and none is left when it arrives here.
    """
    places = trio.Semaphore(at_once)
    first: Exception | None = None

    async def one(item: T) -> None:
        nonlocal first
        try:
            await do(item)
        except Exception as error:  # noqa: BLE001 - it goes on below, without a group around it
            first = first or error
            nursery.cancel_scope.cancel()
        finally:
            places.release()

    async with trio.open_nursery() as nursery:
        for item in items:
            await places.acquire()
            nursery.start_soon(one, item)
    if first is not None:
        raise first
