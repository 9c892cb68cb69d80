"""What a user can correct, as this command says it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jiemi.cli.errors import CommandError
from jiemi.controlplane.processes import ControlPlaneError
from jiemi.demo.content import DemoError
from jiemi.demo.services import ServiceEnded


@contextmanager
def as_command_errors() -> Iterator[None]:
    """Turn errors that the user can correct into CommandErrors."""
    try:
        yield
    except* (DemoError, ServiceEnded, ControlPlaneError, FileNotFoundError) as group:
        raise CommandError("\n".join(str(error) for error in _leaves(group))) from None


def _leaves(group: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
