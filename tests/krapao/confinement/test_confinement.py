"""A confined program does its work, and can do nothing else; and nothing of it is left."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from support.krapao.age_files import AgePair, Encrypter

import jiemi
from jiemi.krapao.confinement import kernel
from jiemi.krapao.confinement import spawn as module
from jiemi.krapao.confinement.probe import probe
from jiemi.krapao.confinement.seccomp import MACHINES, REFUSED, connect_program, filter_program
from jiemi.krapao.confinement.spawn import (
    LIBRARIES,
    LOADERS,
    MEASURES,
    Command,
    Confinement,
    MeasureFailed,
    Measures,
    Sandbox,
    Streams,
    spawn,
)

PROGRAMS_PATH = os.environ.get("PATH", os.defpath)
PYTHON = Path(sys.executable).resolve()
DATA = Path(__file__).parents[2] / "data"
SYSTEM = Confinement(
    network=False,
    read_execute=(PYTHON, Path(sys.base_prefix), Path("/usr/bin"), Path("/bin"), *LOADERS),
    read=LIBRARIES,
)
NOBODY = 65534

HELPERS = """
import ctypes, errno, json, os, signal, socket, subprocess, sys, threading
libc = ctypes.CDLL(None, use_errno=True)

def attempt(act, *arguments):
    try:
        act(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"

def call(number, *arguments):
    result = libc.syscall(*map(ctypes.c_long, (number, *arguments)))
    return "done" if result >= 0 else errno.errorcode[ctypes.get_errno()]

def make(*arguments):
    return attempt(lambda: socket.socket(*arguments).close())

def read(path):
    return attempt(lambda: open(path, "rb").read(1))

def write(path):
    return attempt(lambda: open(path, "ab").close())

def tell(**facts):
    print(json.dumps(facts))
"""


@pytest.fixture(scope="session")
def measures(tmp_path_factory: pytest.TempPathFactory) -> Measures:
    return trio.run(partial(probe, folder=tmp_path_factory.mktemp("probe"), programs_path=PROGRAMS_PATH))


@pytest.fixture
def home() -> Iterator[Path]:
    """Short enough for a socket in it."""
    with tempfile.TemporaryDirectory(prefix="jiemi-test-") as folder:
        yield Path(folder)


@attrs.frozen
class Ended:
    returncode: int
    stdout: bytes
    stderr: bytes


async def run(
    argv: Sequence[str | Path],
    confinement: Confinement,
    measures: Measures,
    *,
    stdin: bytes = b"",
    env: dict[str, str] | None = None,
    cwd: Path = Path("/"),
) -> Ended:
    files = [os.memfd_create(name) for name in ("in", "out", "err")]
    try:
        os.pwrite(files[0], stdin, 0)
        command = Command(
            [str(each) for each in argv],
            env=env or {"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            cwd=cwd,
            sandbox=Sandbox(confinement, measures),
        )
        process = await spawn(command, Streams(stdin=files[0], stdout=files[1], stderr=files[2]))
        await end(process, kill=False)
        return Ended(process.returncode, *(os.pread(each, 1_000_000, 0) for each in files[1:]))
    finally:
        for each in files:
            os.close(each)


async def end(process: subprocess.Popen[bytes], *, kill: bool = True) -> None:
    if kill:
        process.kill()
    descriptor = os.pidfd_open(process.pid)
    try:
        with trio.fail_after(30):
            await trio.lowlevel.wait_readable(descriptor)
    finally:
        os.close(descriptor)
        process.kill()
        process.wait()


async def facts(script: str, confinement: Confinement, measures: Measures, *arguments: object) -> dict[str, Any]:
    argv: list[str | Path] = [PYTHON, "-I", "-S", "-c", HELPERS + script, *map(str, arguments)]
    ended = await run(argv, confinement, measures)
    assert ended.returncode == 0, ended.stderr.decode()
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


@contextlib.asynccontextmanager
async def sleeping(confinement: Confinement | None, measures: Measures) -> AsyncIterator[subprocess.Popen[bytes]]:
    """A process of the same user with a secret in its environment."""
    nothing = subprocess.DEVNULL
    env = {"SECRET": "x"}
    if confinement is None:
        process = subprocess.Popen(  # noqa: ASYNC220
            ["/usr/bin/sleep", "100"],
            env=env,
            start_new_session=True,
            stdin=nothing,
            stdout=nothing,
            stderr=nothing,
        )
    else:
        sandbox = Sandbox(confinement, measures)
        process = await spawn(Command(["/usr/bin/sleep", "100"], env=env, cwd=Path("/"), sandbox=sandbox), Streams())
    try:
        yield process
    finally:
        with trio.CancelScope(shield=True):
            await end(process)


def threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith("confined")]


async def until(holds: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not holds():  # noqa: ASYNC110 - nothing reports it
            await trio.sleep(0.002)


async def no_thread_is_left() -> None:
    """Each ends by itself, a moment after its child."""
    await until(lambda: not threads())


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names


def marks() -> set[tuple[str, ...]]:
    """What each of our threads may do."""
    names = ("CapEff", "NoNewPrivs", "Seccomp_filters")
    statuses = [each.read_text().splitlines() for each in Path("/proc/self/task").glob("*/status")]
    networks = [str(each.readlink()) for each in Path("/proc/self/task").glob("*/ns/net")]
    return {(*(line for line in each if line.startswith(names)), *set(networks)) for each in statuses}


def children() -> set[str]:
    """Of all threads: a child belongs to the one that forked it."""
    lists = Path("/proc/self/task").glob("*/children")
    return {pid for each in lists for pid in each.read_text().split()}


# Sockets


async def test_without_network_only_unix_sockets_can_be_made(measures: Measures) -> None:
    script = """
tell(
    inet=make(socket.AF_INET), inet6=make(socket.AF_INET6), packet=make(socket.AF_PACKET, socket.SOCK_RAW),
    netlink=make(socket.AF_NETLINK, socket.SOCK_RAW), crypto=make(38, socket.SOCK_SEQPACKET), vsock=make(40),
    unix=make(socket.AF_UNIX), pair=attempt(socket.socketpair),
)
"""
    refused = dict.fromkeys(("inet", "inet6", "packet", "netlink", "crypto", "vsock"), "EPERM")
    done = dict.fromkeys(("unix", "pair"), "done")
    assert await facts(script, SYSTEM, measures) == refused | done
    script = "tell(inet=make(socket.AF_INET), unix=make(socket.AF_UNIX), pair=attempt(socket.socketpair))"
    closed = attrs.evolve(SYSTEM, unix_sockets=False)
    assert await facts(script, closed, measures) == dict.fromkeys(("inet", "unix", "pair"), "EPERM")


async def test_with_network_tcp_and_udp_work_and_no_other_family(measures: Measures) -> None:
    script = """
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10)
tell(
    got=connection.recv(10).decode(), udp=make(socket.AF_INET, socket.SOCK_DGRAM), inet6=make(socket.AF_INET6),
    addresses=attempt(socket.getaddrinfo, "127.0.0.1", 1), interfaces=attempt(socket.if_nameindex),
    raw=make(socket.AF_INET, socket.SOCK_RAW, 1), ping=make(socket.AF_INET, socket.SOCK_DGRAM, 1),
    sctp=make(socket.AF_INET, socket.SOCK_STREAM, 132), mptcp=make(socket.AF_INET, socket.SOCK_STREAM, 262),
    netfilter=make(socket.AF_NETLINK, socket.SOCK_RAW, 12), routes=make(socket.AF_NETLINK, socket.SOCK_RAW, 0),
    packet=make(socket.AF_PACKET, socket.SOCK_RAW), unix=make(socket.AF_UNIX),
)
"""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with listener.accept()[0] as connection:
                connection.sendall(b"hello")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, answer)
            confinement = attrs.evolve(SYSTEM, network=True)
            assert await facts(script, confinement, measures, listener.getsockname()[1]) == {
                "got": "hello",
                **dict.fromkeys(("udp", "inet6", "addresses", "interfaces", "routes", "unix"), "done"),
                **dict.fromkeys(("raw", "netfilter", "packet"), "EPERM"),
                **dict.fromkeys(("ping", "sctp", "mptcp"), "EPROTONOSUPPORT"),
            }


# Files


@pytest.mark.parametrize("abi", range(1, 8))
async def test_files_outside_can_be_neither_read_nor_changed_under_any_abi(
    measures: Measures, tmp_path: Path, abi: int
) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    inside.mkdir()
    (outside / "file").write_text("x")
    script = """
outside, inside = sys.argv[1:]
file = outside + "/file"
os.symlink(file, inside + "/link")
open(inside + "/file", "w").close()
server = socket.socket(socket.AF_UNIX)
tell(
    read=read(file), list=attempt(os.listdir, outside), root=attempt(os.listdir, "/"), link=read(inside + "/link"),
    passwd=read("/etc/passwd"), write=write(file), new=write(outside + "/new"), remove=attempt(os.unlink, file),
    folder=attempt(os.mkdir, outside + "/new"), socket=attempt(server.bind, outside + "/s"),
    hard=attempt(os.link, file, inside + "/hard") in ("EXDEV", "EACCES"),
    moved=attempt(os.rename, inside + "/file", outside + "/moved") in ("EXDEV", "EACCES"),
    chmod=attempt(os.chmod, file, 0o777), chown=attempt(os.chown, file, -1, -1), times=attempt(os.utime, file),
    truncate=attempt(os.truncate, file, 0), attribute=attempt(os.setxattr, file, "user.x", b"x"),
    device=attempt(os.mknod, inside + "/null", 0o20600, os.makedev(1, 3)),
    within=[
        write(inside + "/a"), attempt(os.rename, inside + "/a", inside + "/b"), attempt(os.unlink, inside + "/b"),
        attempt(os.mkdir, inside + "/c"), attempt(server.bind, inside + "/s"), attempt(os.rmdir, inside + "/c"),
        attempt(os.ftruncate, os.open(inside + "/file", os.O_RDWR), 0), attempt(os.mkfifo, inside + "/f"),
    ],
    devices=[read("/dev/zero"), read("/dev/urandom"), read("/dev/null"), write("/dev/null"), write("/dev/zero")],
)
"""
    confinement = attrs.evolve(SYSTEM, write=(inside,))
    found = await facts(script, confinement, attrs.evolve(measures, landlock=abi), outside, inside)
    assert set(found.pop("within")) == {"done"}
    assert found.pop("devices") == ["done", "done", "done", "done", "EACCES"]
    assert (found.pop("hard"), found.pop("moved")) == (True, True)
    refused_calls = {name: found.pop(name) for name in ("chmod", "chown", "times", "truncate", "attribute")}
    assert set(refused_calls.values()) == {"EPERM"}
    assert set(found.values()) == {"EACCES"}, found
    assert [each.name for each in outside.iterdir()] == ["file"]


async def test_each_list_gives_its_own_rights_and_what_does_not_exist_none(measures: Measures, tmp_path: Path) -> None:
    for name in ("read", "run", "write"):
        (tmp_path / name).mkdir()
        shutil.copy("/usr/bin/true", tmp_path / name / "true")
    single = tmp_path / "single"
    single.write_text("x")
    script = """
folder = sys.argv[1]
def run(name):
    return attempt(subprocess.run, [folder + "/" + name + "/true"])
tell(
    run=[run(name) for name in ("read", "run", "write")],
    write=[write(folder + "/" + name + "/new") for name in ("read", "run", "write")],
    read=[read(folder + "/" + name + "/true") for name in ("read", "run", "write")],
    single=[read(folder + "/single"), write(folder + "/single")],
    later=attempt(os.listdir, folder + "/later"),
)
"""
    confinement = attrs.evolve(
        SYSTEM,
        read=(*SYSTEM.read, tmp_path / "read", single, tmp_path / "later", single / "none"),
        read_execute=(*SYSTEM.read_execute, tmp_path / "run"),
        write=(tmp_path / "write",),
    )
    assert await facts(script, confinement, measures, tmp_path) == {
        "run": ["EACCES", "done", "EACCES"],
        "write": ["EACCES", "EACCES", "done"],
        "read": ["done", "done", "done"],
        "single": ["done", "EACCES"],
        "later": "ENOENT",
    }


# Other processes


@pytest.mark.parametrize("confined", [False, True])
async def test_other_processes_of_the_user_are_out_of_reach(measures: Measures, confined: bool) -> None:
    script = """
pid = int(sys.argv[1])
proc = f"/proc/{pid}/"
own = f"/proc/{os.getpid()}/environ"
tell(
    own=read(own), environ=read(proc + "environ"), memory=read(proc + "mem"), maps=read(proc + "maps"),
    link=attempt(os.readlink, proc + "fd/0"), reopened=read(proc + "fd/0"), folder=attempt(os.listdir, proc + "cwd/"),
    signal=attempt(os.kill, pid, 0), term=attempt(os.kill, pid, signal.SIGTERM),
    attach=call(101 if os.uname().machine == "x86_64" else 117, 16, pid, 0, 0),
    limits=call(302 if os.uname().machine == "x86_64" else 261, pid, 7, 0, 0),
    priority=attempt(os.setpriority, os.PRIO_PROCESS, pid, 19), affinity=attempt(os.sched_setaffinity, pid, {0}),
    take=call(438, os.pidfd_open(pid), 0, 0),
)
"""
    async with sleeping(SYSTEM if confined else None, measures) as other:
        seeing = attrs.evolve(SYSTEM, read=(*SYSTEM.read, Path("/proc")))
        found = await facts(script, seeing, measures, other.pid)
        assert found.pop("own") == "done"
        assert set(found.values()) <= {"EPERM", "EACCES"}, found
        blind = await facts('tell(own=read("/proc/self/environ"), proc=attempt(os.listdir, "/proc"))', SYSTEM, measures)
        assert blind == {"own": "EACCES", "proc": "EACCES"}
        assert other.poll() is None


async def test_no_privilege_is_left_not_even_roots(measures: Measures) -> None:
    script = """
lines = dict(line.split(":") for line in open("/proc/self/status").read().splitlines())
tell(**{name: lines[name].strip() for name in ("CapEff", "CapPrm", "CapInh", "CapAmb", "NoNewPrivs", "Seccomp")})
"""
    seeing = attrs.evolve(SYSTEM, read=(*SYSTEM.read, Path("/proc")))
    assert await facts(script, seeing, measures) == {
        **dict.fromkeys(("CapEff", "CapPrm", "CapInh", "CapAmb"), "0" * 16),
        "NoNewPrivs": "1",
        "Seccomp": "2",
    }


# System calls


async def test_calls_that_lead_out_are_refused_and_those_for_threads_and_children_are_not(measures: Measures) -> None:
    script = """
x86 = os.uname().machine == "x86_64"
def start():
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
def spawn():
    assert os.waitpid(os.posix_spawn("/usr/bin/true", ["true"], {}), 0)[1] == 0
def fork():
    pid = os.fork() or os._exit(0)
    os.waitpid(pid, 0)
NEW_USER = 0x10000000
tell(
    refused=[
        call(425, 8, 0), call(272 if x86 else 97, NEW_USER), call(56 if x86 else 220, NEW_USER | 17, 0, 0, 0, 0),
        call(250 if x86 else 219, 0, -3, 1), call(321 if x86 else 280, 0, 0, 0), call(323 if x86 else 282, 0),
        call(135 if x86 else 92, 0x0040000), call(101 if x86 else 117, 0, 0, 0, 0), call(161 if x86 else 51, 0),
        call(16 if x86 else 29, 0, 0x5412, 0), call(29 if x86 else 194, 0, 4096, 0o1600),
        call(254 if x86 else 27, 0, 0, 0),
    ],
    unknown=[call(435, 0, 0), call(470), call(5000)] + ([call(0x40000000 + 39)] if x86 else []),
    allowed=[attempt(start), attempt(spawn), attempt(fork), attempt(subprocess.run, ["/usr/bin/true"])],
)
"""
    found = await facts(script, SYSTEM, measures)
    assert found["refused"] == ["EPERM"] * len(found["refused"])
    assert found["unknown"] == ["ENOSYS"] * len(found["unknown"])
    assert found["allowed"] == ["done"] * 4


async def test_children_of_the_child_are_confined_too(measures: Measures, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    inner = HELPERS + f"tell(inet=make(socket.AF_INET), file=read({str(tmp_path / 'file')!r}), ring=call(425, 8, 0))"
    shell = 'cat "$0"/file; (setsid "$@" &) | cat'
    ended = await run(["/bin/sh", "-c", shell, tmp_path, PYTHON, "-I", "-S", "-c", inner], SYSTEM, measures)
    assert json.loads(ended.stdout) == {"inet": "EPERM", "file": "EACCES", "ring": "EPERM"}
    assert b"Permission denied" in ended.stderr


KILL, ALLOW, ASK = "kill", "allow", "ask"


def decide(program: bytes, architecture: int, number: int, *arguments: int) -> str:
    """What the kernel would answer: an interpreter of the few instructions that the filter is made of."""
    padded = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, architecture, 0, *padded)
    code = list(struct.iter_unpack("=HBBI", program))
    at = accumulator = 0
    while True:
        operation, if_so, if_not, operand = code[at]
        at += 1
        if operation == 0x20:
            accumulator = struct.unpack_from("<I", data, operand)[0]
        elif operation == 0x54:
            accumulator &= operand
        elif operation == 0x06:
            return {0x7FFF0000: ALLOW, 0x80000000: KILL, 0x7FC00000: ASK}.get(operand) or errno.errorcode[
                operand & 0xFFFF
            ]
        else:
            tests = {0x15: accumulator == operand, 0x35: accumulator >= operand, 0x45: accumulator & operand != 0}
            at += if_so if tests[operation] else if_not


@pytest.mark.parametrize("machine", list(MACHINES))
@pytest.mark.parametrize("network", [False, True])
def test_the_filter_decides_alike_on_each_machine(machine: str, network: bool) -> None:
    program = filter_program(MACHINES[machine], network=network, unix_sockets=True)
    own = MACHINES[machine].audit_architecture
    ask = partial(decide, program, own)
    numbers = {  # asm/unistd_64.h and asm-generic/unistd.h
        "x86_64": {"read": 0, "ptrace": 101, "socket": 41, "clone": 56, "prlimit": 302, "ioctl": 16, "execve": 59},
        "aarch64": {"read": 63, "ptrace": 117, "socket": 198, "clone": 220, "prlimit": 261, "ioctl": 29, "execve": 221},
    }[machine]
    assert decide(program, 0x40000003, numbers["read"]) == KILL  # i386
    assert [ask(numbers[name]) for name in ("read", "execve", "ptrace")] == [ALLOW, ALLOW, "EPERM"]
    assert [ask(each) for each in (435, 470, 0x40000000, -1)] == ["ENOSYS"] * 4
    socket_number = numbers["socket"]
    internet = ALLOW if network else "EPERM"
    assert [ask(socket_number, family, 1, 0) for family in (1, 2, 10)] == [ALLOW, internet, internet]
    assert ask(socket_number, 2, 0o4000 | 0o2000000 | 2, 17) == internet
    assert ask(socket_number, 2 | 1 << 32, 1, 0) == internet  # the kernel takes an int
    assert ask(socket_number, 16, 3, 0) == internet
    assert [ask(socket_number, *each) for each in ((16, 3, 12), (17, 3, 0), (38, 5, 0), (2, 3, 0))] == ["EPERM"] * 4
    assert ask(numbers["clone"], 0x003D0F00) == ALLOW  # pthread_create(3)
    assert [ask(numbers["clone"], 1 << bit | 17) for bit in (17, 25, 26, 27, 28, 29, 30)] == ["EPERM"] * 7
    assert [ask(numbers["prlimit"], 0, 7), ask(numbers["prlimit"], 1, 7)] == [ALLOW, "EPERM"]
    assert [ask(numbers["ioctl"], 0, request) for request in (0x5401, 0x5412, 0x541C)] == [ALLOW, "EPERM", "EPERM"]
    column = MACHINES[machine].column
    refused = {pair[column] for pair in REFUSED.values()} - {None}
    always = {number for number in range(470) if ask(number, 1) == ask(number, 0) == "EPERM"}
    assert always - {socket_number} == refused


@pytest.mark.parametrize(("machine", "number"), [("x86_64", 42), ("aarch64", 203)])
def test_the_filter_of_connections_asks_about_those_alone(machine: str, number: int) -> None:
    program = connect_program(MACHINES[machine])
    own = MACHINES[machine].audit_architecture
    assert [each for each in range(500) if decide(program, own, each) != ALLOW] == [number]
    assert decide(program, own, number) == ASK
    assert decide(program, 0x40000003, number) == KILL


# The programs that this is for


SOPS_ENVIRONMENT = {"PATH": "/nonexistent", "LC_ALL": "C", "SOPS_DISABLE_VERSION_CHECK": "1", "GOTRACEBACK": "none"}


async def test_sops_decrypts_with_no_right_but_to_its_own_file(
    measures: Measures, sops_path: Path, home: Path, encrypt: Encrypter, age_pair: AgePair
) -> None:
    confinement = Confinement(network=False, unix_sockets=False, read_execute=(sops_path,), write=(home,))
    env = {**SOPS_ENVIRONMENT, "HOME": str(home), "SOPS_AGE_KEY": age_pair.private}
    helped = await run([sops_path, "decrypt", "--help"], confinement, measures, env=env, cwd=home)
    assert (helped.returncode, b"sops decrypt" in helped.stdout) == (0, True)
    encrypted = encrypt("a: text\n", "--age", age_pair.public)
    argv = [str(sops_path), "decrypt", "--input-type", "yaml", "--output-type", "yaml"]
    ended = await run(argv, confinement, measures, stdin=encrypted, env=env, cwd=home)
    assert (ended.returncode, ended.stdout) == (0, b"a: text\n"), ended.stderr


async def test_sops_decrypts_by_a_key_service_that_is_confined_too(
    measures: Measures, sops_path: Path, home: Path, encrypt: Encrypter, age_pair: AgePair
) -> None:
    (home / "opener").mkdir()
    address = home / "s"
    env = {**SOPS_ENVIRONMENT, "HOME": str(home)}
    command = Command(
        [str(sops_path), "keyservice", "--network", "unix", "--address", str(address)],
        env={**env, "SOPS_AGE_KEY": age_pair.private},
        cwd=home,
        sandbox=Sandbox(Confinement(network=True, read_execute=(sops_path,), write=(home,)), measures),
    )
    service = await spawn(command, Streams())
    try:
        await until(address.exists)
        argv = [str(sops_path), "decrypt", "--enable-local-keyservice=false", "--keyservice", f"unix://{address}"]
        argv += ["--input-type", "yaml", "--output-type", "yaml"]
        opener = Confinement(network=False, read_execute=(sops_path,), write=(home / "opener",))
        encrypted = encrypt("a: text\n", "--age", age_pair.public)
        ended = await run(argv, opener, measures, stdin=encrypted, env=env, cwd=home / "opener")
        assert (ended.returncode, ended.stdout) == (0, b"a: text\n"), ended.stderr
        assert service.poll() is None
    finally:
        with trio.CancelScope(shield=True):
            await end(service)


async def test_gpg_and_its_agent_work_without_network(measures: Measures, home: Path) -> None:
    gpg, agent = Path(shutil.which("gpg") or "gpg"), Path(shutil.which("gpg-agent") or "gpg-agent")
    (home / "gpg.conf").write_text("batch\nno-tty\nno-autostart\ndisable-dirmngr\ntrust-model always\n")
    env = {"GNUPGHOME": str(home), "HOME": str(home), "PATH": "/nonexistent", "LC_ALL": "C"}
    confinement = Confinement(network=False, read_execute=(gpg, agent, *LOADERS), read=LIBRARIES, write=(home,))
    started = await run([agent, "--homedir", home, "--no-detach", "--daemon"], confinement, measures, env=env, cwd=home)
    assert started.returncode == 0, started.stderr
    try:
        key = (DATA / "pgp-test-key.asc").read_bytes()
        imported = await run([gpg, "--status-fd", "1", "--import"], confinement, measures, stdin=key, env=env, cwd=home)
        assert b"IMPORT_OK 17" in imported.stdout, imported.stderr
        fingerprint = imported.stdout.split(b"IMPORT_OK 17 ")[1].split()[0].decode()
        encrypt = [str(gpg), "--encrypt", "--recipient", fingerprint]
        encrypted = await run(encrypt, confinement, measures, stdin=b"text", env=env, cwd=home)
        ended = await run([gpg, "--decrypt"], confinement, measures, stdin=encrypted.stdout, env=env, cwd=home)
        assert (ended.returncode, ended.stdout) == (0, b"text"), ended.stderr
    finally:
        with trio.CancelScope(shield=True):
            kill = [shutil.which("gpg-connect-agent") or "", "--homedir", str(home), "killagent", "/bye"]
            await trio.run_process(kill, env=env, capture_stdout=True)


# Without privileges, as in a pod that runs as no root and has no capability

UNPRIVILEGED = """
import json, os, socket, subprocess, sys, trio
from pathlib import Path
from jiemi.krapao.confinement.spawn import LIBRARIES, LOADERS, Command, Confinement, MeasureFailed, Measures
from jiemi.krapao.confinement.spawn import Sandbox, Streams, spawn
from jiemi.krapao.confinement.probe import probe

async def main():
    folder = Path(sys.argv[1])
    measures = await probe(folder=folder, programs_path=os.environ["PATH"])
    confinement = Confinement(network=False, read_execute=(Path("/usr/bin"), *LOADERS), read=LIBRARIES)
    promised = Measures(no_new_privileges=True, network_namespace=True)
    (folder / "file").write_text("x")
    script = f"cat {folder}/file; cat /proc/{os.getpid()}/environ; kill -0 {os.getpid()}; exit 3"
    failed, status = None, None
    output = os.memfd_create("output")
    try:
        await start(confinement, promised, output, "exit 0")
    except MeasureFailed as error:
        failed = str(error)
    process = await start(confinement, measures, output, script)
    status = await trio.to_thread.run_sync(process.wait)
    print(json.dumps({
        "uid": os.getuid(), "describe": measures.describe(), "network": measures.cut_network, "failed": failed,
        "status": status, "output": os.pread(output, 1000, 0).decode(),
    }))

async def start(confinement, measures, output, script):
    sandbox = Sandbox(confinement, measures)
    env = {"LC_ALL": "C", "PATH": "/usr/bin"}
    command = Command(["/usr/bin/sh", "-c", script], env=env, cwd=Path("/"), sandbox=sandbox)
    return await spawn(command, Streams(stdout=output, stderr=output))

trio.run(main)
"""


def without_privileges(needed: list[Path], scratch: Path) -> list[str]:
    """What to put before a command so that it runs as another user, with no capability.

    That user may not be able to reach what it needs (a Python in root's home), so that is mounted in the same place
    in an empty home, in a mount namespace.
    """
    if os.getuid() != 0:
        return []
    lines = ["set -e"]
    for at, path in enumerate(needed):
        closed = [each for each in path.parents if not each.stat().st_mode & 0o001]
        if closed:
            (scratch / str(at)).mkdir()
            lines.insert(1, f"mount --bind '{path}' '{scratch / str(at)}'")
            lines.append(f"mountpoint -q '{closed[-1]}' || mount -t tmpfs -o mode=755 tmpfs '{closed[-1]}'")
            lines.append(f"mkdir -p '{path}' && mount --bind '{scratch / str(at)}' '{path}'")
    lines.append('exec "$@"')
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all"]
    drop += ["--bounding-set=-all", "--no-new-privs", "--"]
    return ["unshare", "--mount", "--", "sh", "-c", "\n".join(lines), "sh", *drop]


async def test_without_privileges_all_but_the_network_namespace_is_there() -> None:
    packages = [Path(jiemi.__file__).parents[1], Path(trio.__file__).parents[1]]
    with tempfile.TemporaryDirectory(prefix="jiemi-test-") as name:
        work, scratch = Path(name, "work"), Path(name, "scratch")
        for each in (work.parent, work, scratch):
            each.mkdir(exist_ok=True)
            each.chmod(0o777)
        env = {"PATH": PROGRAMS_PATH, "PYTHONPATH": os.pathsep.join(map(str, packages)), "PYTHONDONTWRITEBYTECODE": "1"}
        before = without_privileges([PYTHON.parents[1], *packages], scratch)
        argv = [*before, str(PYTHON), "-c", UNPRIVILEGED, str(work)]
        ended = await trio.run_process(argv, env=env, capture_stdout=True, cwd="/")
    found = json.loads(ended.stdout)
    assert found.pop("uid") == (os.getuid() or NOBODY)
    output = [line.rsplit(": ", 1)[-1] for line in found.pop("output").splitlines() if line]
    assert output == ["Permission denied", "Permission denied", "Operation not permitted"]
    assert found == {
        "describe": f"no new privileges, seccomp, Landlock (ABI {kernel.landlock_abi()}), a check of each connection, "
        "an end with Krapao's own; not to be had: a network namespace (Operation not permitted)",
        "network": True,
        "failed": "[Errno 1] a network namespace: Operation not permitted",
        "status": 3,
    }


# Nothing is left


HELD = """
import os, subprocess, sys, trio
from pathlib import Path
from jiemi.krapao.confinement.spawn import Command, Confinement, Measures, Sandbox, Streams, spawn

async def main():
    sandbox = Sandbox(
        Confinement(network=False, read_execute=(Path("/usr/bin"),)),
        Measures(no_new_privileges=True, seccomp=True, landlock=1, setpriv=Path(sys.argv[1])),
    )
    process = await spawn(Command(["/usr/bin/sleep", "100"], env={}, cwd=Path("/"), sandbox=sandbox), Streams())
    while Path(f"/proc/{process.pid}/comm").read_text() != "sleep\\n":  # setpriv at first
        await trio.sleep(0.005)
    await trio.sleep(0.2)  # while which the thread that started it must stay
    print(process.pid, flush=True)
    await trio.sleep_forever()

trio.run(main)
"""


async def test_a_killed_parent_leaves_no_child(measures: Measures) -> None:
    assert measures.setpriv is not None
    env = {**os.environ, "PYTHONPATH": str(Path(jiemi.__file__).parents[1])}
    argv = [sys.executable, "-c", HELD, str(measures.setpriv)]
    parent = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE)  # noqa: ASYNC220
    assert parent.stdout is not None
    with parent, parent.stdout as output:
        pid = int(output.readline())
        assert running(pid)
        parent.send_signal(signal.SIGKILL)
    await until(lambda: not running(pid))


def running(pid: int) -> bool:
    with contextlib.suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "Z":  # whoever adopted it will reap it; perhaps we are who
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        return state != "Z"
    return False


async def test_two_hundred_starts_leave_no_thread_descriptor_or_child_and_no_mark_on_us(measures: Measures) -> None:
    confinement = attrs.evolve(SYSTEM, read_execute=(Path("/usr/bin/true"), *LOADERS))
    await run(["/usr/bin/true"], confinement, measures)
    await no_thread_is_left()
    before = len(descriptors()), children()
    (mark_before,) = marks()

    async def some() -> None:
        for _ in range(25):
            assert (await run(["/usr/bin/true"], confinement, measures)).returncode == 0

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(some)
    await no_thread_is_left()
    assert (len(descriptors()), children()) == before
    assert marks() == {mark_before}


async def test_the_thread_stays_until_the_child_is_at_its_end(measures: Measures) -> None:
    async with sleeping(SYSTEM, measures):
        await trio.sleep(0.05)
        assert [each.name for each in threads()] == ["confined sleep"]
    await no_thread_is_left()


async def test_a_start_that_began_is_not_cancelled_and_one_that_did_not_is_not_begun(
    measures: Measures, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, launched = threading.Event(), []
    real = module._launch

    def launch(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        launched.append(threading.current_thread())
        go_on.wait(10)
        return real(*arguments, **options)

    monkeypatch.setattr(module, "_launch", launch)
    before = children()
    with trio.CancelScope() as scope:
        scope.cancel()
        async with sleeping(SYSTEM, measures):
            pytest.fail("it was started")
    assert (scope.cancelled_caught, launched) == (True, [])

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:

            async def cancel() -> None:
                await until(lambda: bool(launched))  # the loop goes on while the thread works
                scope.cancel()
                await trio.sleep(0.02)
                go_on.set()

            nursery.start_soon(cancel)
            async with sleeping(SYSTEM, measures) as process:
                assert process.poll() is None
                await trio.sleep_forever()
    assert scope.cancelled_caught
    await no_thread_is_left()
    assert children() == before


@pytest.mark.parametrize("with_setpriv", [False, True])
async def test_what_can_not_be_run_is_an_error_and_leaves_nothing(
    measures: Measures, tmp_path: Path, with_setpriv: bool
) -> None:
    measures = measures if with_setpriv else attrs.evolve(measures, setpriv=None)
    (tmp_path / "text").write_text("x")
    before = descriptors(), children()
    with pytest.raises(FileNotFoundError):
        await run([tmp_path / "none"], SYSTEM, measures)
    with pytest.raises(PermissionError):
        await run([tmp_path / "text"], SYSTEM, measures)
    with pytest.raises(FileNotFoundError):
        await run(["/usr/bin/true"], SYSTEM, measures, cwd=tmp_path / "none")
    await no_thread_is_left()
    assert (descriptors(), children()) == before


async def test_a_measure_that_fails_now_starts_nothing(
    measures: Measures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for measure, function in (
        ("no_new_privileges", "gain_no_privileges"),
        ("seccomp", "filter_calls"),
        ("landlock", "restrict_files"),
        ("network_namespace", "leave_network"),
    ):

        def fail(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(kernel, function, fail)
            with pytest.raises(MeasureFailed) as caught:
                await run(["/usr/bin/touch", tmp_path / "file"], attrs.evolve(SYSTEM, write=(tmp_path,)), measures)
        assert (caught.value.measure, caught.value.errno) == (measure, errno.ENOSPC)
        assert MEASURES[measure] in str(caught.value)
    await no_thread_is_left()
    assert os.listdir(tmp_path) == []  # noqa: PTH208


# Finding out


async def test_the_probe_finds_everything_here_and_says_so(measures: Measures) -> None:
    assert [name for name in MEASURES if getattr(measures, name)] == list(MEASURES)
    assert measures.describe() == (
        f"no new privileges, seccomp, a network namespace, Landlock (ABI {measures.landlock}), a check of each "
        "connection, an end with Krapao's own"
    )
    assert measures.cut_network
    assert Measures().describe() == "nothing"
    assert Measures(landlock=5).describe() == "Landlock (ABI 5) without a bound to signals"
    assert not Measures(landlock=7).cut_network


async def test_the_probe_believes_effects_not_return_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: object, **__: object) -> None:
        pass

    def fail() -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    setpriv = tmp_path / "bin" / "setpriv"
    setpriv.parent.mkdir()
    setpriv.write_text("#!/bin/sh\nexit 1\n")
    setpriv.chmod(0o755)
    monkeypatch.setattr(kernel, "filter_calls", nothing)
    monkeypatch.setattr(kernel, "leave_network", fail)
    found = await probe(folder=tmp_path, programs_path=str(setpriv.parent))
    assert attrs.asdict(found) | {"landlock": 0} == {
        "no_new_privileges": True,
        "seccomp": False,
        "landlock": 0,
        "network_namespace": False,
        "connects": True,
        "setpriv": None,
        "missing": (
            ("seccomp", "it has no effect"),
            ("network_namespace", "Operation not permitted"),
            ("setpriv", "a program confined by it does not run"),
        ),
    }
    assert found.landlock == kernel.landlock_abi()
    monkeypatch.setattr(kernel, "landlock_abi", lambda: 0)
    monkeypatch.setattr(kernel, "has_filters", lambda: False)
    found = await probe(folder=tmp_path, programs_path="")
    assert found.missing == (
        ("seccomp", "not in this kernel"),
        ("network_namespace", "Operation not permitted"),
        ("landlock", "not in this kernel"),
        ("connects", "not in this kernel"),
        ("setpriv", "no such program"),
    )
    monkeypatch.setattr(kernel, "gain_no_privileges", nothing)
    assert (await probe(folder=tmp_path, programs_path="")).describe().startswith("nothing; not to be had: no new")
    assert os.listdir(tmp_path) == ["bin"]  # noqa: PTH208
