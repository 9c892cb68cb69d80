"""Where a confined program connects to is judged when it connects, so a server that it asks can't send it elsewhere."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import json
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from support.krapao.key_services import open_aws_kms, open_gcp_kms, secret
from support.network.listening import listening

from jiemi.core.address_rules import AddressRules, read_address, read_network
from jiemi.core.content.formats import Format
from jiemi.core.errors import JiemiError
from jiemi.krapao.confinement.judged_connects import (
    ConnectJudge,
    granted_destinations,
    proxies,
    read_destination,
    resolvers,
)
from jiemi.krapao.confinement.probe import probe
from jiemi.krapao.confinement.processes import Limits, running
from jiemi.krapao.confinement.spawn import LIBRARIES, LOADERS, Command, Confinement, Sandbox
from jiemi.krapao.decryption.guard import Guard
from jiemi.krapao.decryption.sops import SopsDecrypter
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.keys import AwsKey, GcpKey

CANARY = "canary-58c1ab"
ONLY_ONE = AddressRules(allowed=(read_network("127.0.0.1"),))
"""The doubles listen there; the rest of loopback stays closed."""


def descriptors() -> set[str]:
    return {each.name for each in Path("/proc/self/fd").iterdir()}


def sockaddr(host: str, port: int) -> bytes:
    address = ipaddress.ip_address(host)
    if address.version == 4:
        return struct.pack("=H", socket.AF_INET) + struct.pack(">H", port) + address.packed + bytes(8)
    return struct.pack("=H", socket.AF_INET6) + struct.pack(">HI", port, 0) + address.packed + bytes(4)


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "::ffff:127.0.0.1"])
def test_a_socket_address_is_read(host: str) -> None:
    assert read_destination(sockaddr(host, 8200)) == (ipaddress.ip_address(host), 8200)


@pytest.mark.parametrize("raw", [b"", b"\1", b"\0\0", b"\1\0/run/x", struct.pack("=H", socket.AF_NETLINK) + bytes(10)])
def test_other_families_lead_nowhere(raw: bytes) -> None:
    assert read_destination(raw) is None
    assert ConnectJudge(AddressRules())(raw) == 0


@given(st.binary(max_size=130), st.sampled_from([0, 1, 2, 10, 16, 65535]))
def test_no_bytes_are_judged_wrongly(raw: bytes, family: int) -> None:
    judge = ConnectJudge(AddressRules())
    answer = judge(struct.pack("=H", family) + raw)
    shortest = {int(socket.AF_INET): 6, int(socket.AF_INET6): 22}.get(family)
    if shortest is None:
        assert answer == 0
    elif len(raw) < shortest:
        assert answer == errno.EINVAL
    else:
        address = raw[2:6] if family == socket.AF_INET else raw[6:22]
        forbidden = AddressRules().refusal(ipaddress.ip_address(address)) is not None
        assert (answer == errno.EACCES) >= forbidden


@pytest.mark.parametrize(
    ("rules", "host", "refused"),
    [
        (AddressRules(), "127.0.0.1", True),
        (AddressRules(), "::1", True),
        (AddressRules(), "::ffff:169.254.169.254", True),
        (AddressRules(), "169.254.169.254", True),
        (AddressRules(), "10.1.2.3", False),
        (AddressRules(), "93.184.216.34", False),
        (AddressRules(allowed=(read_network("127.0.0.0/8"),)), "127.0.0.1", False),
        (AddressRules(denied=(read_network("10.0.0.0/8"),)), "10.1.2.3", True),
        # What a cloud's library knows by itself stays open
        (AddressRules(denied=(read_network("0.0.0.0/0"),)), "93.184.216.34", False),
        (AddressRules(denied=(read_network("0.0.0.0/0"),)), "10.1.2.3", True),
        (AddressRules(denied=(read_network("0.0.0.0/0"),), allowed=(read_network("10.1.0.0/16"),)), "10.1.2.3", False),
    ],
)
def test_the_operators_rules_hold(rules: AddressRules, host: str, refused: bool) -> None:
    judge = ConnectJudge(rules)
    assert judge(sockaddr(host, 443)) == (errno.EACCES if refused else 0)
    assert judge.refusals == int(refused)


def test_resolvers_and_proxies_are_granted_at_their_ports_alone() -> None:
    resolv_conf = "# x\nsearch a b\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\nbad\n"
    judge = ConnectJudge(AddressRules(), resolvers(resolv_conf))
    assert judge(sockaddr("127.0.0.53", 53)) == judge(sockaddr("fe80::1", 53)) == 0
    assert judge(sockaddr("127.0.0.53", 54)) == judge(sockaddr("127.0.0.1", 53)) == errno.EACCES
    assert resolvers("nameserver\nnameserver x\n") == frozenset()
    assert resolvers("") == frozenset({(read_address("127.0.0.1"), 53), (read_address("::1"), 53)})


def test_proxies_are_read_as_go_reads_them() -> None:
    assert proxies({}) == ()
    environment = {"HTTPS_PROXY": "http://u:p@127.0.0.1:3128", "HTTP_PROXY": "proxy.example", "https_proxy": "x:y"}
    assert proxies(environment) == (("127.0.0.1", 3128), ("proxy.example", 80))
    assert proxies({"HTTPS_PROXY": "socks5://[::1]"}) == (("::1", 1080),)


async def test_a_proxy_is_looked_up() -> None:
    granted = await granted_destinations({"HTTPS_PROXY": "http://localhost:3128", "HTTP_PROXY": "http://127.0.0.9:1"})
    assert {(read_address("127.0.0.1"), 3128), (read_address("127.0.0.9"), 1)} <= granted


# A program


_PYTHON = Path(sys.executable).resolve()
_HOMES = {Path(each).resolve() for each in (sys.base_prefix, sys.base_exec_prefix)}
_PROGRAM = """
import socket, sys, time
found = []
for host, port in zip(sys.argv[2::2], sys.argv[3::2]):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        try:
            socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind).connect((host, int(port)))
            found.append("ok")
        except OSError as error:
            found.append(error.strerror)
open(sys.argv[1], "w").write("\\n".join(found))
time.sleep(100)
"""


async def test_a_program_is_kept_from_where_it_may_not_go_and_children_and_threads_of_it_too(tmp_path: Path) -> None:
    measures = await probe(folder=tmp_path, programs_path=os.environ["PATH"])
    assert measures.connects
    confinement = Confinement(
        network=True,
        judged_connects=True,
        read_execute=(_PYTHON, *_HOMES, *LOADERS),
        read=LIBRARIES,
        write=(tmp_path,),
    )
    judge = ConnectJudge(ONLY_ONE)
    with listening() as (open_port, came), listening(host="127.0.0.2") as (closed_port, none_came):
        found = tmp_path / "found"
        hosts = ("127.0.0.1", open_port, "127.0.0.2", closed_port, "169.254.169.254", 80, "::1", 80)
        argv = [str(_PYTHON), "-I", "-S", "-c", _PROGRAM, str(found), *map(str, hosts)]
        before = descriptors()
        async with (
            running(
                Command(argv, env={"LC_ALL": "C"}, cwd=tmp_path, sandbox=Sandbox(confinement, measures)),
                limits=Limits(seconds=30, cpu_seconds=10, memory_bytes=500 * 1024 * 1024, output_bytes=1),
                missing="InternalError",
            ) as program,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(program.answer_connects, judge)
            with trio.fail_after(30):
                while not found.exists() or not found.read_text():  # noqa: ASYNC110 - another process writes it
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        assert found.read_text().split("\n") == ["ok"] * 2 + ["Permission denied"] * 6
        assert judge.refusals == 6
        assert none_came == []
        assert len(came) == 1
        assert descriptors() <= before


async def test_answering_ends_with_the_program(tmp_path: Path) -> None:
    measures = await probe(folder=tmp_path, programs_path=os.environ["PATH"])
    confinement = Confinement(
        network=True, judged_connects=True, read_execute=(Path("/usr/bin"), *LOADERS), read=LIBRARIES
    )
    async with running(
        Command(["/usr/bin/sleep", "0.1"], env={}, cwd=tmp_path, sandbox=Sandbox(confinement, measures)),
        limits=Limits(seconds=30, cpu_seconds=10, memory_bytes=500 * 1024 * 1024, output_bytes=1),
        missing="InternalError",
    ) as program:
        with trio.fail_after(20):
            await program.answer_connects(ConnectJudge(AddressRules()))
            assert await program.wait() == 0


# sops


@contextlib.contextmanager
def _sends_to(target: str) -> Iterator[str]:
    """A server that answers each request with a redirect; its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def serve() -> None:
        with contextlib.suppress(OSError):
            while not ended.is_set():
                sock, _ = listener.accept()
                with sock, contextlib.suppress(OSError):
                    sock.settimeout(10)
                    sock.recv(65536)
                    head = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {target}\r\nContent-Length: 0\r\n"
                    sock.sendall(f"{head}Connection: close\r\n\r\n".encode())

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


MakeDecrypter = Callable[[AddressRules], SopsDecrypter]


@pytest.fixture
def decrypter_of(settings: KrapaoSettings, sops_path: Path, runtime: Path, nursery: trio.Nursery) -> MakeDecrypter:
    def make(rules: AddressRules) -> SopsDecrypter:
        changed = attrs.evolve(
            settings, sops=sops_path, runtime_dir=runtime, addresses=rules, key_service_timeout_seconds=5
        )
        return SopsDecrypter(nursery, changed)

    return make


def _by_endpoint(right: GcpKey, url: str) -> GcpKey:
    return attrs.evolve(right, endpoint=secret(url))


def _by_token_uri(right: GcpKey, url: str) -> GcpKey:
    assert right.service_account is not None
    account = json.loads(right.service_account.reveal())
    return attrs.evolve(right, service_account=secret(json.dumps(account | {"token_uri": url})))


@pytest.mark.parametrize("lead", [_by_endpoint, _by_token_uri])
async def test_a_server_that_a_decryptor_names_can_not_send_sops_to_a_forbidden_address(
    decrypter_of: MakeDecrypter,
    sops_path: Path,
    lead: Callable[[GcpKey, str], GcpKey],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        open_gcp_kms() as service,
        listening(host="127.0.0.2") as (port, came),
        _sends_to(f"http://127.0.0.2:{port}/latest/meta-data/") as url,
    ):
        assert isinstance(service.right, GcpKey)
        data = service.encrypt(sops_path, f"a: {CANARY}\n".encode(), "yaml")
        with pytest.raises(JiemiError) as caught:
            await decrypter_of(ONLY_ONE).decrypt(data, Format.YAML, (lead(service.right, url),))
        assert caught.value.failure.reason == "AddressNotAllowed"
        assert caught.value.failure.text.startswith("spec.provider.gcp: a server of the key service leads to an")
        assert "127.0.0.2" not in str(caught.value)
        assert came == []
        # The same key still works, and so does one that leads nowhere else.
        opened = await decrypter_of(ONLY_ONE).decrypt(data, Format.YAML, (service.right,))
        assert CANARY.encode() in opened.plain.reveal()


async def test_a_name_that_changes_after_it_was_judged_leads_nowhere_else(
    decrypter_of: MakeDecrypter, sops_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Krapao's own lookup says that all is well; sops's says loopback."""

    async def well(*_: object) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(Guard, "_refused_server", well)

    with open_aws_kms() as service, listening(host="127.0.0.2") as (port, came):
        assert isinstance(service.right, AwsKey)
        data = service.encrypt(sops_path, f"a: {CANARY}\n".encode(), "yaml")
        decrypter = decrypter_of(AddressRules())
        key = attrs.evolve(service.right, endpoint=secret(f"http://127.0.0.2:{port}"))
        with pytest.raises(JiemiError, match=r"AddressNotAllowed: spec\.provider\.aws: "):
            await decrypter.decrypt(data, Format.YAML, (key,))
        assert came == []
