"""Krapao and Miwen as processes of this machine."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from pathlib import Path

import trio

from jiemi.cli.errors import CommandError
from jiemi.cli.run_all.screen import Screen
from jiemi.demo.services import running_service

_POLL_SECONDS = 0.1
_SERVED_TIMEOUT_SECONDS = 30.0


async def start_processes(
    stack: AsyncExitStack, screen: Screen, *, folder: Path, kubeconfig: Path, sops: Path, interval_seconds: float
) -> None:
    """Start both, and show their log; they end with the stack.

    Args:
        folder: in memory, for the socket between them and for Krapao's clones.
        kubeconfig: for Miwen.
        sops: for Krapao.
        interval_seconds: Miwen's.

    Raises:
        CommandError: Krapao does not serve in time.
    """
    address = f"unix:{folder}/krapao.sock"
    with screen.step("Krapao") as done:
        await stack.enter_async_context(
            running_service(
                "krapao",
                _arguments(
                    "krapao",
                    listen=address,
                    state_dir=folder / "clones",
                    runtime_dir=folder,
                    sops=sops,
                    allow_address="127.0.0.0/8",  # where the demo's git server is
                    log_format="json",
                ),
                environment=dict(os.environ),
                on_line=screen.log,
            )
        )
        await _until_served(folder / "krapao.sock")
        done("serves on a unix socket")
    with screen.step("Miwen") as done:
        await stack.enter_async_context(
            running_service(
                "miwen",
                _arguments(
                    "miwen",
                    krapao=address,
                    kubeconfig=kubeconfig,
                    interval=f"{interval_seconds:f}s",
                    log_format="json",
                ),
                environment=dict(os.environ),
                on_line=screen.log,
            )
        )
        done(f"looks every {interval_seconds:g} s")


def _arguments(command: str, **options: object) -> list[str]:
    """A command line: `_arguments("krapao", state_dir=x)` is krapao --state-dir x."""
    return [command, *(part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value)))]


async def _until_served(socket: Path) -> None:
    with trio.move_on_after(_SERVED_TIMEOUT_SECONDS):
        while not await trio.Path(socket).exists():  # noqa: ASYNC110 - another process makes it
            await trio.sleep(_POLL_SECONDS)
        return
    raise CommandError(f"Krapao did not serve within {_SERVED_TIMEOUT_SECONDS:g} s; its log is above")
