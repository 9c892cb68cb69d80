"""The numbers that the filters are made of are the kernel's own (tests/data/syscalls)."""

from __future__ import annotations

import pytest
from support.paths import DATA

from jiemi.krapao.confinement import seccomp
from jiemi.krapao.confinement.seccomp import MACHINES, REFUSED

RULED = {
    "connect": seccomp._CONNECT,
    "socket": seccomp._SOCKET,
    "socketpair": seccomp._SOCKETPAIR,
    "clone": seccomp._CLONE,
    "clone3": seccomp._CLONE3,
    "prlimit64": seccomp._PRLIMIT64,
    "ioctl": seccomp._IOCTL,
}
"""The calls whose arguments are looked at, or that Krapao is asked about."""


def kernel_table(machine: str) -> dict[str, int]:
    """The numbers of a machine's system calls, by name."""
    lines = (line.split() for line in (DATA / "syscalls" / f"{machine}.txt").read_text().splitlines())
    return {name: int(number) for number, name in lines}


@pytest.mark.parametrize("machine", MACHINES)
def test_each_call_has_the_number_that_the_kernel_gives_it_or_is_not_there(machine: str) -> None:
    table, column = kernel_table(machine), MACHINES[machine].column
    assert len(table) > 300
    for calls in (REFUSED, RULED):
        assert {name: numbers[column] for name, numbers in calls.items()} == {name: table.get(name) for name in calls}


@pytest.mark.parametrize("machine", MACHINES)
def test_what_is_newer_than_the_table_begins_after_file_setattr(machine: str) -> None:
    table = kernel_table(machine)
    assert table["file_setattr"] == seccomp._NEWEST
    assert {name for name, number in table.items() if number > seccomp._NEWEST} == {"listns", "rseq_slice_yield"}
