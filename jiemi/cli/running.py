"""Run an async command until it ends or the user (or the kubelet) asks it to.

What a signal does, in this order: `on_signal` is called, so a service is no longer ready; the command is cancelled,
which abandons what is in flight and cleans up; and when the command has ended, what was served beside it ends too. So
probes are answered for as long as the command cleans up.
"""

from __future__ import annotations

import resource
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import trio


class Beside(Protocol):
    """What is served beside a command."""

    def __call__(self, *, task_status: trio.TaskStatus[Any]) -> Awaitable[None]:
        """Serve until cancelled; started once it is served."""
        ...


def run_until_signalled(
    main: Callable[[], Awaitable[None]],
    *,
    on_signal: Callable[[], None] = lambda: None,
    beside: Beside | None = None,
) -> None:
    """Run `main` under trio until it ends; SIGINT, SIGTERM, SIGQUIT and SIGHUP cancel it, and it cleans up.

    Args:
        on_signal: called when a signal came, before the clean-up.
        beside: started before `main`, and cancelled after it has ended.
    """
    trio.run(_run, main, on_signal, beside)


def forbid_core_dumps() -> None:
    """Keep this process and its children from leaving their memory, which holds keys and plaintext, in a core file."""
    # The soft limit only: gpg ends with an error where it may not set the hard one itself.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


async def _run(main: Callable[[], Awaitable[None]], on_signal: Callable[[], None], beside: Beside | None) -> None:
    # The receiver stays open until main has ended, so that a second Ctrl-C does not cut the clean-up short.
    # A terminal that is closed ends it too, unless it was started to outlive that (nohup).
    ends = [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        ends.append(signal.SIGHUP)
    with trio.open_signal_receiver(*ends) as signals:
        if beside is None:
            await _run_main(main, on_signal, signals)
            return
        async with trio.open_nursery() as nursery:
            await nursery.start(beside)
            await _run_main(main, on_signal, signals)
            nursery.cancel_scope.cancel()


async def _run_main(
    main: Callable[[], Awaitable[None]], on_signal: Callable[[], None], signals: AsyncIterator[int]
) -> None:
    async with trio.open_nursery() as nursery:

        async def run_main() -> None:
            await main()
            nursery.cancel_scope.cancel()

        nursery.start_soon(run_main)
        async for _ in signals:
            on_signal()
            nursery.cancel_scope.cancel()
            break
