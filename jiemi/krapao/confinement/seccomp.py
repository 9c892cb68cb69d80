"""The system calls that a confined program may not make, as a program for the kernel's filter. Pure.

A filter of seccomp(2) sees a call's number and its arguments, but nothing that they point to. So it is written as a
table of numbers that are refused, and a few rules that look at plain arguments. What is refused is what a program that
opens files, talks to a socket and starts threads has no use for: ways to look into other processes, to leave or change
namespaces and mounts, and parts of the kernel in which its worst errors were found. The list began as the complement of
the profile that container runtimes apply (https://docs.docker.com/engine/security/seccomp/) and goes further, since
what runs here is known.

A refused call fails with EPERM. clone3(2) has its flags in memory, where no filter sees them; it fails with ENOSYS, on
which glibc and Go make threads by clone(2), as they must under container runtimes (https://github.com/moby/moby/pull/42681).
So do calls that are newer than this table. Calls of another architecture (int 0x80 on x86-64) end the program.

Where connections are judged one by one, a second filter hands each connect(2) to Krapao; the stricter of two wins.

The machine's instructions: https://docs.kernel.org/userspace-api/seccomp_filter.html and `struct sock_filter`.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Mapping

import attrs

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _ASK, _FAIL, _KILL = 0x7FFF0000, 0x7FC00000, 0x00050000, 0x80000000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
"""Offsets in `struct seccomp_data`; an argument has 8 bytes, the lower half first on both machines."""

_X32_BIT = 0x40000000
_NEWEST = 469
"""file_setattr, of Linux 6.17. What is newer than this table is refused as unknown, not let through unread."""

_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_SOCK_TYPE_MASK, _SOCK_STREAM, _SOCK_DGRAM = 0xF, 1, 2
_IPPROTO_IP, _IPPROTO_TCP, _IPPROTO_UDP = 0, 6, 17
_NETLINK_ROUTE = 0
_CLONE_NEW = 0x7E020000
"""Every CLONE_NEW… that clone(2) knows: mounts, cgroup, host name, IPC, users, processes, network."""
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C


@attrs.frozen
class Machine:
    """What differs between processor architectures.

    Attributes:
        audit_architecture: AUDIT_ARCH_… of linux/audit.h.
        column: in the table of numbers.
        x32: whether the kernel may have a second set of numbers, with one bit more.
    """

    audit_architecture: int
    column: int
    x32: bool


MACHINES: Mapping[str, Machine] = {
    "x86_64": Machine(0xC000003E, 0, x32=True),
    "aarch64": Machine(0xC00000B7, 1, x32=False),
}
"""By `platform.machine()`."""

REFUSED: Mapping[str, tuple[int | None, int | None]] = {
    # Other processes: their memory, descriptors and secrets. The kernel lets processes of one user do this to each
    # other (ptrace(2), "Ptrace access mode checking").
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    # Other processes: their share of the processor. All of these take a process id; see also prlimit64 below.
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    # Memory and messages that all processes of a user share (sysvipc(7), mq_overview(7))
    "shmget": (29, 194),
    "shmctl": (31, 195),
    "shmat": (30, 196),
    "semget": (64, 190),
    "semctl": (66, 191),
    "semtimedop": (220, 192),
    "semop": (65, 193),
    "msgget": (68, 186),
    "msgctl": (71, 187),
    "msgrcv": (70, 188),
    "msgsnd": (69, 189),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    # Parts of the kernel whose errors gave processes all rights; io_uring also does calls that no filter sees
    # (https://security.googleblog.com/2023/06/learnings-from-kctf-vrps-42-linux.html)
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "fanotify_init": (300, 262),
    "lookup_dcookie": (212, 18),
    "modify_ldt": (154, None),
    "uselib": (134, None),
    "mbind": (237, 235),
    "set_mempolicy": (238, 237),
    "set_mempolicy_home_node": (450, 450),
    "personality": (135, 92),  # turns address randomisation off
    # Keys of the kernel's keyrings, which are no part of any namespace (keyrings(7))
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    # Namespaces and mounts
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "statmount": (457, 457),
    "listmount": (458, 458),
    # Files by number instead of path, around every folder's rights (open_by_handle_at(2))
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    # What Landlock leaves to the file's owner ("Current limitations" of its manual), who is the same here: changing a
    # file's mode, owner, times and attributes by its path, and watching what happens in a folder. Descriptors of files
    # that may be opened can still be used for all that (fchmod and so on). Truncating is left out by old ones only.
    "chmod": (90, None),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "removexattrat": (466, 466),
    "file_setattr": (469, 469),
    "truncate": (76, 45),
    "inotify_add_watch": (254, 27),
    # The machine's own state. Each needs a capability too; the two do not depend on each other.
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "acct": (163, 89),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "iopl": (172, None),
    "ioperm": (173, None),
    "lsm_set_self_attr": (460, 460),
}
"""By name, the number on x86-64 and on aarch64, which lacks some older ones. From the kernel's system call tables."""

_CONNECT = (42, 203)
_SOCKET, _SOCKETPAIR, _CLONE, _CLONE3, _PRLIMIT64, _IOCTL = (
    (41, 198),
    (53, 199),
    (56, 220),
    (435, 435),
    (302, 261),
    (16, 29),
)

_Instruction = tuple[int, int, int, int]
"""`struct sock_filter`: operation, how many instructions to leave out if it is so, and if not, operand."""


def filter_program(machine: Machine, *, network: bool, unix_sockets: bool) -> bytes:
    """The filter, as an array of `struct sock_filter`.

    Args:
        network: whether sockets for TCP and UDP may be made, and the netlink sockets by which libc asks for addresses.
        unix_sockets: whether sockets of unix(7) may be made.
    """
    column = machine.column
    program = [
        _load(_ARCHITECTURE),
        (_EQUAL, 1, 0, machine.audit_architecture),
        _give(_KILL),
        _load(_NUMBER),
    ]
    if machine.x32:
        program += [(_AT_LEAST, 0, 1, _X32_BIT), _fail(errno.ENOSYS)]
    program += [(_AT_LEAST, 0, 1, _NEWEST + 1), _fail(errno.ENOSYS)]
    for numbers in REFUSED.values():
        program += _when(numbers[column], [_fail(errno.EPERM)])
    program += _when(_CLONE3[column], [_fail(errno.ENOSYS)])
    program += _when(_CLONE[column], [_load_argument(0), (_ANY_BIT, 1, 0, _CLONE_NEW), _give(_ALLOW), _fail()])
    # Limits of other processes; its own are given as process 0 by glibc, musl and Go
    program += _when(_PRLIMIT64[column], _only_if(0, [0]))
    # Putting characters into a terminal's input, which a shell outside would read (ioctl_tty(2))
    program += _when(
        _IOCTL[column],
        [_load_argument(1), (_EQUAL, 2, 0, _TIOCSTI), (_EQUAL, 1, 0, _TIOCLINUX), _give(_ALLOW), _fail()],
    )
    program += _when(_SOCKET[column], _socket(network=network, unix_sockets=unix_sockets))
    program += _when(_SOCKETPAIR[column], _only_if(0, [_AF_UNIX]) if unix_sockets else [_fail()])
    program.append(_give(_ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def connect_program(machine: Machine) -> bytes:
    """The filter that asks about each connect(2), as an array of `struct sock_filter`. For use beside the other."""
    program = [
        _load(_ARCHITECTURE),
        (_EQUAL, 1, 0, machine.audit_architecture),
        _give(_KILL),
        _load(_NUMBER),
        *_when(_CONNECT[machine.column], [_give(_ASK)]),
        _give(_ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _socket(*, network: bool, unix_sockets: bool) -> list[_Instruction]:
    """socket(domain, type, protocol): no other family than is needed, for old ones are where errors hide."""
    body = [_load_argument(0)]
    if unix_sockets:
        body += [(_EQUAL, 0, 1, _AF_UNIX), _give(_ALLOW)]
    if network:
        # glibc's getaddrinfo and Go's net.Interfaces ask for this machine's addresses (rtnetlink(7))
        routes = _only_if(2, [_NETLINK_ROUTE])
        body += [(_EQUAL, 0, len(routes), _AF_NETLINK), *routes]
        # No raw sockets, no SCTP. Go tries MPTCP first and makes do with TCP.
        streams = _only_if(2, [_IPPROTO_IP, _IPPROTO_TCP, _IPPROTO_UDP], errno.EPROTONOSUPPORT)
        body += [
            (_EQUAL, 2, 0, _AF_INET),
            (_EQUAL, 1, 0, _AF_INET6),
            _fail(),
            _load_argument(1),
            (_AND, 0, 0, _SOCK_TYPE_MASK),
            (_EQUAL, 2, 0, _SOCK_STREAM),
            (_EQUAL, 1, 0, _SOCK_DGRAM),
            _fail(),
            *streams,
        ]
    else:
        body.append(_fail())
    return body


def _when(number: int | None, body: list[_Instruction]) -> list[_Instruction]:
    """The body, which returns on every way through it, for one call; the call's number stays loaded for the others."""
    return [(_EQUAL, 0, len(body), number), *body] if number is not None else []


def _only_if(argument: int, values: Iterable[int], otherwise: int = errno.EPERM) -> list[_Instruction]:
    body = [_load_argument(argument)]
    for value in values:
        body += [(_EQUAL, 0, 1, value), _give(_ALLOW)]
    return [*body, _fail(otherwise)]


def _load(offset: int) -> _Instruction:
    return (_LOAD, 0, 0, offset)


def _load_argument(index: int) -> _Instruction:
    """Its lower half: all of an int, which the kernel takes no more of."""
    return _load(_ARGUMENTS + 8 * index)


def _give(action: int) -> _Instruction:
    return (_RETURN, 0, 0, action)


def _fail(number: int = errno.EPERM) -> _Instruction:
    return _give(_FAIL | number)
