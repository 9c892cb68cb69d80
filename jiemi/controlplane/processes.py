"""Several processes that belong together: started in order, watched, and ended in the reverse order."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import trio

from jiemi.controlplane import children

_GRACE_SECONDS = {"etcd": 10.0, "kube-apiserver": 5.0}
"""kube-apiserver needs 1.1 s, and more only for requests that are under way; its state is in etcd anyway."""
_GRACE_OF_OTHERS_SECONDS = 5.0
_GRACE_AFTER_DEATH_SECONDS = 1.0
"""The grace after the other one died, because kube-apiserver would wait for etcd."""
_LOG_TAIL_BYTES = 16_384
_QUOTED_LINES = 8


class ControlPlaneError(Exception):
    """The embedded control plane can't start or can't go on; the text says why, and where to look."""


@contextlib.asynccontextmanager
async def running(
    commands: Mapping[str, Sequence[str | Path]], logs: Path, *, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Mapping[str, int]]:
    """Run the commands in their order and end them in the reverse order. Yields their process ids.

    Args:
        commands: by name, each a program's absolute path and its arguments.
        logs: folder for what they write: NAME.log, and NAME.log.previous of the start before.
        environment: all of their environment; empty by default.

    Raises:
        ControlPlaneError: one can't start, or ended by itself.
    """
    death: ControlPlaneError | None = None
    body_error: BaseException | None = None
    started: dict[str, children.Child] = {}

    async def watch(name: str, child: children.Child, scope: trio.CancelScope) -> None:
        nonlocal death
        status = await child.wait()
        how = f"status {status}" if status >= 0 else f"signal {-status}"
        death = death or ControlPlaneError(f"{name} ended with {how}" + quote_log(logs / f"{name}.log"))
        scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            try:
                for name, command in commands.items():
                    started[name] = _start(command, logs / f"{name}.log", environment or {})
                    nursery.start_soon(watch, name, started[name], nursery.cancel_scope)
                yield {name: child.pid for name, child in started.items()}
            finally:
                # The watchers end before the children, so that they do not take an end for a death.
                nursery.cancel_scope.cancel()
                for name, child in reversed(started.items()):
                    grace = (
                        _GRACE_SECONDS.get(name, _GRACE_OF_OTHERS_SECONDS)
                        if death is None
                        else _GRACE_AFTER_DEATH_SECONDS
                    )
                    await child.end(grace_seconds=grace)
    except BaseExceptionGroup as group:
        # The watchers raise nothing, so what is in the nursery's group is the body's own error.
        body_error = group.exceptions[0] if len(group.exceptions) == 1 else group
    if death is not None:
        raise death from body_error
    if body_error is not None:
        raise body_error


def _start(command: Sequence[str | Path], log: Path, environment: Mapping[str, str]) -> children.Child:
    try:
        if log.exists():
            log.replace(log.with_name(f"{log.name}.previous"))
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            # It gets nothing of the user's environment: GODEBUG or a proxy there would change what is tested.
            return children.spawn(command, environment=environment, output=descriptor, directory=log.parent)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ControlPlaneError(f"{command[0]} can't be started: {error}") from error


def quote_log(path: Path) -> str:
    """The last lines of a log for an error's text; "" if there are none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    kept = [line[:500] for line in lines if line.strip()][-_QUOTED_LINES:]
    return "".join(f"\n  {line}" for line in kept)
