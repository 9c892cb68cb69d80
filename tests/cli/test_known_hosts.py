"""`jiemi known-hosts`: every key of a host, as lines that Krapao then trusts."""

from __future__ import annotations

import io
import socket
import threading
from pathlib import Path

import paramiko
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import PrivateFormat
from support.krapao.ssh_keys import key_pair
from support.network.ssh_server import ssh_server

from jiemi.cli.main import app
from jiemi.krapao.git.known_hosts import fingerprint, lookup

OPENSSH = PrivateFormat.OpenSSH


def test_it_prints_each_key_of_the_host_with_its_fingerprint_and_krapao_trusts_the_lines(tmp_path: Path) -> None:
    keys = [
        paramiko.Ed25519Key.from_private_key(io.StringIO(key_pair("ed25519", OPENSSH)[0])),
        paramiko.ECDSAKey.generate(),
        paramiko.RSAKey.generate(2048),
    ]
    with ssh_server(tmp_path, [], keys) as (port, server):
        for host in (f"127.0.0.1:{port}", f"ssh://git@127.0.0.1:{port}/team/r.git"):
            result = CliRunner().invoke(app, ["known-hosts", host])
            assert result.exit_code == 0, result.output
            assert lookup(result.stdout, "127.0.0.1", port).accepted == {
                (each.get_name(), each.asbytes()) for each in keys
            }
            for key in keys:
                assert f"# {key.get_name()} {fingerprint(key.asbytes())}\n" in result.stdout
            assert "Compare the fingerprints" in result.stderr
        assert server.users == []


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("", "give HOST"),
        ("--", "give HOST"),
        ("a b", "give HOST"),
        ("https://git.example/r.git", "has no host keys"),
    ],
)
def test_what_is_no_ssh_host_is_refused(host: str, says: str) -> None:
    result = CliRunner().invoke(app, ["known-hosts", "--", host])
    assert result.exit_code == 1
    assert says in result.output


def test_a_host_that_does_not_answer_or_speaks_something_else_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def answer() -> None:
            with listener.accept()[0] as connection:
                connection.sendall(b"HTTP/1.1 400 No\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        result = CliRunner().invoke(app, ["known-hosts", f"127.0.0.1:{port}", "--timeout", "5s"])
        thread.join()
        assert (result.exit_code, f"127.0.0.1:{port} does not speak ssh" in result.output) == (1, True)
    result = CliRunner().invoke(app, ["known-hosts", f"127.0.0.1:{port}"])
    assert (result.exit_code, f"127.0.0.1:{port}: ConnectionRefusedError" in result.output) == (1, True)
