"""The kernel's calls by which a thread confines itself. Each holds for that thread alone, and for what it starts.

None of them can be undone: a thread that made one is good for one child, and then for nothing. What Python has no
function for is called by ctypes, without any of our own code compiled.

Errors are those of the kernel, as OSError.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import stat
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

from jiemi.krapao.confinement.seccomp import MACHINES, connect_program, filter_program

_libc = ctypes.CDLL(None, use_errno=True)

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38
_SECCOMP_MODE_FILTER = 2
_SECCOMP_CALL = {"x86_64": 317, "aarch64": 277}
_SECCOMP_SET_MODE_FILTER = 1
_NEW_LISTENER, _WAIT_KILLABLE = 1 << 3, 1 << 5
_CLONE_NEWNET = 0x40000000
_CAPABILITY_VERSION_3 = 0x20080522

# Landlock: https://docs.kernel.org/userspace-api/landlock.html and linux/landlock.h. Each group came with an ABI.
_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1 << 0
_RULE_PATH_BENEATH = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE = 1 << 4, 1 << 5
_MAKE_CHAR, _MAKE_DIR, _MAKE_REG, _MAKE_SOCK, _MAKE_FIFO, _MAKE_BLOCK, _MAKE_SYM = (1 << bit for bit in range(6, 13))
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_HANDLED_FILES = ((1, (1 << 13) - 1), (2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEV))
_HANDLED_TCP = 0b11
"""Binding and connecting, since ABI 4."""
_SCOPED = 0b11
"""Abstract unix sockets and signals, since ABI 6."""

_READ = _READ_FILE | _READ_DIR
_READ_EXECUTE = _READ | _EXECUTE
_WRITE = (
    _READ
    | (_WRITE_FILE | _TRUNCATE | _REMOVE_DIR | _REMOVE_FILE | _REFER)
    | (_MAKE_DIR | _MAKE_REG | _MAKE_SOCK | _MAKE_FIFO | _MAKE_SYM)
)
"""All that a folder of one's own is for. No programs, and no device files."""
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV

_DEVICES = (
    (Path("/dev/null"), _READ_FILE | _WRITE_FILE | _IOCTL_DEV),  # isatty(3) is an ioctl
    (Path("/dev/zero"), _READ_FILE),
    (Path("/dev/random"), _READ_FILE),
    (Path("/dev/urandom"), _READ_FILE),
)


def landlock_abi() -> int:
    """The version of Landlock that this kernel runs, or 0 where it has none, or may not be asked."""
    if sys.platform != "linux":
        return 0
    with contextlib.suppress(OSError):
        return _syscall(_LANDLOCK_CREATE_RULESET, 0, 0, _CREATE_RULESET_VERSION)
    return 0


def has_filters() -> bool:
    """Whether there is a filter for this machine's system calls."""
    return sys.platform == "linux" and sys.maxsize > 2**32 and platform.machine() in MACHINES


def gain_no_privileges() -> None:
    """Let no program that is started gain rights by its file (PR_SET_NO_NEW_PRIVS), and give up all capabilities.

    Together they hold for root too: its programs get all capabilities back only where nothing forbids new ones
    (capabilities(7), prctl(2)).
    """
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _check(_libc.capset(header, bytes(24)))


def leave_network() -> None:
    """Move into a network namespace of its own, with no interface but a loopback that is down. CAP_SYS_ADMIN only."""
    _check(_libc.unshare(ctypes.c_int(_CLONE_NEWNET)))


def filter_calls(*, network: bool, unix_sockets: bool) -> None:
    """Refuse system calls from now on; see confinement_seccomp. After `gain_no_privileges`, or with CAP_SYS_ADMIN."""
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(_filter(network, unix_sockets)))


def ask_about_connects() -> int:
    """Let each connect(2) wait from now on for an answer; see judged_connects. As `filter_calls`.

    Returns:
        The descriptor on which the kernel asks; closed by exec.
    """
    call, program = _SECCOMP_CALL[platform.machine()], ctypes.addressof(_connect_filter())
    # So that the signals by which Go interrupts its threads do not end the wait; before Linux 5.19 it asks once more.
    with contextlib.suppress(OSError):
        return _syscall(call, _SECCOMP_SET_MODE_FILTER, _NEW_LISTENER | _WAIT_KILLABLE, program)
    return _syscall(call, _SECCOMP_SET_MODE_FILTER, _NEW_LISTENER, program)


def restrict_files(
    abi: int, *, read_execute: Sequence[Path], read: Sequence[Path], write: Sequence[Path], network: bool
) -> None:
    """Enter a Landlock domain in which files outside of the lists can't be opened, made or removed.

    Paths that do not exist are left out; of files in the lists only the rights of files are given.
    The domain also keeps its processes from looking into those outside (ptrace(2), and so /proc/PID/environ, fd, mem).
    """
    handled = functools.reduce(int.__or__, (rights for since, rights in _HANDLED_FILES if since <= abi))
    ruleset = _create_ruleset(abi, handled, network=network)
    try:
        for paths, rights in ((read_execute, _READ_EXECUTE), (read, _READ), (write, _WRITE)):
            for path in paths:
                _allow(ruleset, path, rights & handled)
        for path, rights in _DEVICES:
            _allow(ruleset, path, rights & handled)
        _syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _create_ruleset(abi: int, handled: int, *, network: bool) -> int:
    """`struct landlock_ruleset_attr`, as long as that ABI knows it."""
    attributes = struct.pack("=Q", handled)
    if abi >= 4:
        attributes += struct.pack("=Q", 0 if network else _HANDLED_TCP)
    if abi >= 6:
        attributes += struct.pack("=Q", _SCOPED)
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    return _syscall(_LANDLOCK_CREATE_RULESET, ctypes.addressof(buffer), len(attributes), 0)  # closed by exec


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        if not stat.S_ISDIR(os.fstat(beneath).st_mode):
            rights &= _OF_FILES
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, beneath), 12)
        _syscall(_LANDLOCK_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.addressof(rule), 0)
    finally:
        os.close(beneath)


class _Filter(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


@functools.cache
def _filter(network: bool, unix_sockets: bool) -> _Filter:
    program = filter_program(MACHINES[platform.machine()], network=network, unix_sockets=unix_sockets)
    return _Filter(len(program) // 8, program)


@functools.cache
def _connect_filter() -> _Filter:
    program = connect_program(MACHINES[platform.machine()])
    return _Filter(len(program) // 8, program)


def _prctl(option: int, *arguments: int) -> None:
    full = (option, *arguments, *[0] * (4 - len(arguments)))
    _check(_libc.prctl(*map(ctypes.c_ulong, full)))


def _syscall(number: int, *arguments: int) -> int:
    result: int = _libc.syscall(*map(ctypes.c_long, (number, *arguments)))
    return _check(result)


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
