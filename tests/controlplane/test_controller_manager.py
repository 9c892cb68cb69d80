"""Which controllers run, and from when on they are taken to work."""

from __future__ import annotations

from pathlib import Path

import pytest

from jiemi.controlplane.controller_manager import ControllerManagerSettings, is_ready
from jiemi.controlplane.loopback import Answer


@pytest.mark.parametrize(
    ("controllers", "runs"),
    [
        (("*",), True),
        (("*", "-a-controller"), False),
        (("*", "-b-controller"), True),
        (("a-controller",), True),
        (("-a-controller", "a-controller"), True),
        (("b-controller",), False),
        ((), False),
    ],
)
def test_what_is_said_of_a_controller_counts_before_what_is_said_of_all(
    controllers: tuple[str, ...], runs: bool
) -> None:
    assert ControllerManagerSettings(Path("/x"), controllers).runs("a-controller") is runs


@pytest.mark.parametrize(
    ("status", "body", "ready"),
    [
        (200, b"[+]namespace-controller ok\n[+]job-controller ok\nhealthz check passed\n", True),
        (200, b"[+]ping ok\nhealthz check passed\n", False),
        (200, b"ok", False),
        (500, b"[+]namespace-controller ok\n[-]job-controller failed: reason withheld\n", False),
        (0, b"", False),
    ],
)
def test_they_work_once_its_health_lists_them_and_not_when_it_only_answers(
    status: int, body: bytes, ready: bool
) -> None:
    assert is_ready(Answer(status, body)) is ready
