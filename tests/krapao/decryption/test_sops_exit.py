"""What the end of a run of sops is taken for, where its status alone does not say it."""

from __future__ import annotations

import signal
from typing import cast

import pytest

from jiemi.core.content.formats import Format
from jiemi.krapao.confinement.processes import Finished
from jiemi.krapao.decryption.guard import Guard
from jiemi.krapao.decryption.sops_exit import explain_exit

_NEVER_ASKED = cast(Guard, None)
"""Only a run that had no data key asks its guard why."""


def reason(status: int, stderr: bytes) -> str:
    failure = explain_exit(Finished(status, b"", stderr), b"a: 1\n", Format.YAML, Format.JSON, _NEVER_ASKED).failure
    assert "canary" not in failure.text
    return failure.reason


@pytest.mark.parametrize(
    "stderr",
    [
        b"fatal error: out of memory allocating heap arena metadata\n\nruntime stack:\n",
        b"runtime: goroutine stack exceeds 1000000000-byte limit\nfatal error: stack overflow\n",
        b"fatal: morestack on g0\n",
        b"runtime/cgo: pthread_create failed: Resource temporarily unavailable\nSIGABRT: abort\n",
        b"SIGSEGV: segmentation violation\nPC=0x478e41 m=0 sigcode=128 addr=0x0\n",
        b"unexpected fault address 0x0\nfatal error: fault\n",
        b'time="2026-11-29T00:00:00Z" level=warning msg="canary"\nfatal error: runtime: out of memory\n',
        b"",
    ],
)
def test_what_the_runtime_of_go_ends_is_a_limit_whatever_it_says(stderr: bytes) -> None:
    assert reason(2, stderr) == "LimitExceeded"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGXCPU, signal.SIGABRT])
def test_what_a_signal_ends_is_a_limit(number: signal.Signals) -> None:
    assert reason(-number, b"") == "LimitExceeded"


@pytest.mark.parametrize(
    "stderr",
    [
        b"panic: canary\n\ngoroutine 1 [running]:\n",
        b'time="2026-11-29T00:00:00Z" level=warning msg="canary"\npanic: canary\n\ngoroutine 1 [running]:\n',
        b"Error reading from stdin: read /dev/stdin: canary\n",
        b"Error reading file: open canary: no such file or directory\n",
    ],
)
def test_a_fault_of_sops_and_an_input_it_can_not_read_are_no_limit(stderr: bytes) -> None:
    assert reason(2, stderr) == "DecryptionFailed"


@pytest.mark.parametrize("stderr", [b"fatal error: canary\n", b"runtime: canary\n"])
def test_words_of_a_file_that_sops_repeats_are_no_limit(stderr: bytes) -> None:
    assert reason(1, stderr) == "DecryptionFailed"
