"""What a hostile file could reach from within: an opener's environment, files, memory and network; and what is left of
a Krapao that is killed in the middle."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio
from doubles.vault import Vault, open_vault
from hostile.cases_bombs import laughs, pgp_bomb
from hostile.lab import Keys, Lab, secret
from hostile.left import children, require_no_canary
from support.processes.ended import is_ended

import jiemi
from jiemi.core.content.formats import Format
from jiemi.core.errors import JiemiError
from jiemi.krapao.confinement.spawn import Measures
from jiemi.krapao.decryption.sops import SopsDecrypter, open_decrypter
from jiemi.krapao.settings import KrapaoSettings

MEBIBYTE = 1024 * 1024
MAX_RESIDENT_BYTES = 768 * MEBIBYTE
"""What one process may really take. deploy/ gives Krapao 2 GiB for all; an honest file of 4 MiB takes 130 MiB."""

HERE = Path("/proc/self/ns/net").readlink()
"""Our own network namespace."""

_ETHERNET, _ALL_PROTOCOLS = 14, 3
_TCP = 6


@pytest.fixture
def silent_vault(lab: Lab) -> Iterator[Vault]:
    """The tenant's own Vault, which takes the token and never answers."""
    with open_vault() as vault:
        vault.silent = True
        yield vault


def _keys(lab: Lab, vault: Vault) -> Keys:
    return (lab.vault_key(address=secret(vault.address)), lab.age)


async def _until(condition: Callable[[], bool], seconds: float = 10) -> None:
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - nothing tells of it
            await trio.sleep(0.005)


def _runs(word: str, among: list[int]) -> list[int]:
    """The processes whose second argument is the word: `sops decrypt`, `sops keyservice`."""
    found = []
    for pid in among:
        with contextlib.suppress(OSError):
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if len(arguments) > 1 and arguments[1] == word.encode() and b"setpriv" not in arguments[0]:
                found.append(pid)
    return found


def _memory(pid: int) -> Iterator[bytes]:
    """All that a process may read in its own memory."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            matched = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+)", line)
            assert matched is not None
            first, last, rights = matched.groups()
            if rights.startswith("rw"):
                with contextlib.suppress(OSError, ValueError, OverflowError):
                    memory.seek(int(first, 16))
                    left = int(last, 16) - int(first, 16)
                    while left > 0 and (part := memory.read(min(left, 64 * MEBIBYTE))):
                        left -= len(part)
                        yield part


@attrs.frozen
class Running:
    """An opener and its holder, while the opener waits for a data key."""

    opener: int
    holder: int


@contextlib.asynccontextmanager
async def _held_up(
    lab: Lab, settings: KrapaoSettings, measures: Measures, vault: Vault, data: bytes
) -> AsyncIterator[Running]:
    async with open_decrypter(settings) as decrypter, trio.open_nursery() as nursery:
        decrypter._measures = measures
        nursery.start_soon(_decrypt, decrypter, data, _keys(lab, vault))
        await _until(lambda: len(vault.requests) > 0)
        [opener], [holder] = _runs("decrypt", children()), _runs("keyservice", children())
        yield Running(opener, holder)
        nursery.cancel_scope.cancel()


async def _decrypt(decrypter: SopsDecrypter, data: bytes, keys: Keys) -> None:
    with contextlib.suppress(JiemiError):
        await decrypter.decrypt(data, Format.YAML, keys)


async def test_an_opener_holds_no_credential_in_its_environment_files_or_memory(
    lab: Lab, settings: KrapaoSettings, measures: Measures, silent_vault: Vault
) -> None:
    data = lab.asks_vault(silent_vault.address)
    async with _held_up(lab, settings, measures, silent_vault, data) as running:
        opener = Path(f"/proc/{running.opener}")
        environment = (opener / "environ").read_bytes()
        require_no_canary(lab, "an opener's environment", [environment, (opener / "cmdline").read_bytes()])
        assert b"\0VAULT_TOKEN=" not in environment
        require_no_canary(lab, "an opener's memory", _memory(running.opener))
        # The same look finds the token where it is.
        token = lab.credentials["vault"].encode()
        assert any(token in part for part in _memory(running.holder))


def _open_kinds(pid: int) -> list[str]:
    """What a process's open descriptors are, without numbers."""
    links = [str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()]
    return sorted(re.sub(r":?\[.*|/memfd:| \(deleted\)", "", each) for each in links)


async def test_an_opener_has_nothing_open_but_its_pipes_and_one_socket(
    lab: Lab, settings: KrapaoSettings, measures: Measures, silent_vault: Vault
) -> None:
    data = lab.asks_vault(silent_vault.address)
    async with _held_up(lab, settings, measures, silent_vault, data) as running:
        kinds = _open_kinds(running.opener)
        assert [each for each in kinds if each == "socket"] == ["socket"]
        assert {each for each in kinds if not each.startswith("anon_inode")} <= {"pipe", "socket", "stderr"}


async def test_an_opener_is_confined_as_krapao_says(
    lab: Lab, settings: KrapaoSettings, measures: Measures, silent_vault: Vault
) -> None:
    data = lab.asks_vault(silent_vault.address)
    async with _held_up(lab, settings, measures, silent_vault, data) as running:
        opener = Path(f"/proc/{running.opener}")
        status = dict(line.split(":\t", 1) for line in (opener / "status").read_text().splitlines() if ":\t" in line)
        assert measures.cut_network
        assert int(status["Seccomp"]) == (2 if measures.seccomp else 0)
        assert int(status["NoNewPrivs"]) == measures.no_new_privileges
        assert int(status["CapEff"], 16) == 0 or not measures.no_new_privileges
        if measures.network_namespace:
            assert (opener / "ns/net").readlink() != HERE
            devices = [line.split(":")[0].strip() for line in (opener / "net/dev").read_text().splitlines()[2:]]
            assert set(devices) <= {"lo"}
            for name in ("tcp", "tcp6", "udp", "udp6", "raw", "packet"):
                assert len((opener / "net" / name).read_text().splitlines()) == 1, name
            assert (opener / "net/route").read_text().count("\n") <= 1


class Capture:
    """The ports that packets on the loopback device come from and go to; None where this user may not look."""

    def __init__(self, listening: socket.socket | None) -> None:
        self._listening = listening

    def ports(self) -> set[int]:
        found: set[int] = set()
        while self._listening is not None:
            try:
                packet = self._listening.recv(128)
            except BlockingIOError:
                break
            version = packet[_ETHERNET] >> 4 if len(packet) > _ETHERNET else 0
            if version == 4 and packet[_ETHERNET + 9] == _TCP:
                at = _ETHERNET + (packet[_ETHERNET] & 15) * 4
                found.update(struct.unpack_from("!HH", packet, at))
        return found

    @property
    def looks(self) -> bool:
        return self._listening is not None


@pytest.fixture
def capture() -> Iterator[Capture]:
    try:
        listening = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_PROTOCOLS))
    except PermissionError:
        yield Capture(None)
        return
    with listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * MEBIBYTE)
        listening.bind(("lo", 0))
        listening.setblocking(False)
        yield Capture(listening)


async def test_no_packet_goes_to_who_a_file_names(
    lab: Lab, settings: KrapaoSettings, measures: Measures, capture: Capture
) -> None:
    port, connections = lab.stranger.port, lab.stranger.connections
    capture.ports()
    async with open_decrypter(settings) as decrypter:
        decrypter._measures = measures
        for data, keys in (
            (lab.asks_vault(lab.stranger.address), (lab.age,)),
            (lab.asks_vault(lab.stranger.address), (lab.named_vault,)),
            (lab.asks_aws(), (lab.age,)),
            (lab.asks_azure(f"https://127.0.0.1:{port}"), (lab.azure(),)),
            (lab.asks_gcp("projects/p/locations/global/keyRings/r/cryptoKeys/k"), (lab.age,)),
            (lab.asks_huawei(f"127.0.0.1:{port}"), (lab.huawei(),)),
        ):
            with pytest.raises(JiemiError):
                await decrypter.decrypt(data, Format.YAML, keys)
            assert port not in capture.ports()
    assert lab.stranger.connections == connections
    socket.create_connection(("127.0.0.1", port)).close()
    await _until(lambda: lab.stranger.connections == connections + 1)
    assert not capture.looks or port in capture.ports()  # it would have been seen


def _resident(pid: int) -> int:
    """Memory that a process really takes, in bytes; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


@pytest.mark.parametrize("role", ["opener", "holder"])
async def test_a_bomb_takes_no_memory_that_the_other_tenants_need(
    role: str, lab: Lab, settings: KrapaoSettings, measures: Measures
) -> None:
    keys: Keys
    if role == "opener":
        data, keys, word = lab.file() + b"---\n" + laughs(), (lab.age,), "decrypt"
    else:
        data, keys, word = lab.asks_pgp(pgp_bomb(4)), (lab.pgp,), "keyservice"
    most = 0

    async def watch(scope: trio.CancelScope) -> None:
        nonlocal most
        while most <= MAX_RESIDENT_BYTES:
            for pid in _runs(word, children()):
                most = max(most, _resident(pid))
            await trio.sleep(0.01)
        scope.cancel()

    async with open_decrypter(settings) as decrypter, trio.open_nursery() as nursery:
        decrypter._measures = measures
        nursery.start_soon(watch, nursery.cancel_scope)
        await _decrypt(decrypter, data, keys)
        nursery.cancel_scope.cancel()
    assert 0 < most <= MAX_RESIDENT_BYTES


KRAPAO = """
import base64, json, sys
from pathlib import Path
import trio
from jiemi.core.content.formats import Format
from jiemi.core.sensitive import SensitiveText
from jiemi.core.address_rules import AddressRules, read_network
from jiemi.krapao.confinement.processes import adopt_orphans
from jiemi.krapao.decryption.sops import open_decrypter
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.keys import AgeKey, PgpKey, VaultKey

given = json.load(sys.stdin)
settings = KrapaoSettings(
    **{name: Path(given[name]) for name in ("state_dir", "runtime_dir", "sops")},
    addresses=AddressRules((read_network("127.0.0.0/8"),)),
)
keys = (
    AgeKey(SensitiveText(given["age"])),
    PgpKey(SensitiveText(given["pgp"])),
    VaultKey(address=SensitiveText(given["address"]), token=SensitiveText(given["token"])),
)

async def main():
    async with open_decrypter(settings) as decrypter:
        for data, key in zip(given["files"], keys):
            await decrypter.decrypt(base64.b64decode(data), Format.YAML, (key,))

adopt_orphans()
trio.run(main)
"""


def _start_krapao(lab: Lab, settings: KrapaoSettings, vault: Vault, script: Path) -> subprocess.Popen[bytes]:
    """A Krapao of its own, which opens an age and a pgp file, and then waits for a Vault that says nothing."""
    script.write_text(KRAPAO)
    files = (lab.file(), lab.asks_pgp(lab.gpg.encrypt(lab.data_key)), lab.asks_vault(vault.address))
    given = {
        "state_dir": str(settings.state_dir),
        "runtime_dir": str(settings.runtime_dir),
        "sops": str(settings.sops),
        "age": lab.age.private_key.reveal(),
        "pgp": lab.pgp.private_key.reveal(),
        "address": vault.address,
        "token": lab.credentials["vault"],
        "files": [base64.b64encode(each).decode() for each in files],
    }
    krapao = subprocess.Popen(
        [sys.executable, script],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(jiemi.__file__).parents[1])},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    assert krapao.stdin is not None
    with krapao.stdin:
        krapao.stdin.write(json.dumps(given).encode())
    return krapao


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                found += [child, *_descendants(child)]
    return found


def _is_ended(pid: int) -> bool:
    """Whether a process has ended. One that came to us is reaped."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    return is_ended(pid)


async def test_a_krapao_that_is_killed_leaves_no_holder_and_the_next_one_no_key(
    lab: Lab, settings: KrapaoSettings, measures: Measures, silent_vault: Vault, tmp_path: Path
) -> None:
    krapao = _start_krapao(lab, settings, silent_vault, tmp_path / "krapao.py")
    try:
        await _until(lambda: len(silent_vault.requests) > 0, 20)
        left = _descendants(krapao.pid)
        assert (len(_runs("decrypt", left)), len(_runs("keyservice", left))) == (1, 3)
        assert list(settings.runtime_dir.iterdir()) != []
        krapao.send_signal(signal.SIGKILL)
        krapao.wait()
        assert measures.setpriv is not None
        holders = _runs("keyservice", left) + _runs("decrypt", left)
        await _until(lambda: all(_is_ended(pid) for pid in holders))
    finally:
        krapao.kill()
        krapao.wait()
    # Its folders, in memory, go when the next Krapao starts.
    async with open_decrypter(settings) as decrypter:
        await decrypter.measures()
    assert list(settings.runtime_dir.iterdir()) == []
    for pid in itertools.filterfalse(
        _is_ended, left
    ):  # a gpg-agent without its folder ends by itself, but after a minute or two
        assert b"gpg-agent" in Path(f"/proc/{pid}/cmdline").read_bytes()  # noqa: ASYNC240
        os.kill(pid, signal.SIGKILL)
        await _until(partial(_is_ended, pid))
