"""Clones over ssh."""

from __future__ import annotations

import base64
import contextlib
import io
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import attrs
import paramiko
import pytest
import trio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from krapao.git.following import follow, listing_fails, pin
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_SUCCEEDED
from support.krapao.work_tree import Work

from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.core.urls import parse_url
from jiemi.demo.git_server import git_environment
from jiemi.krapao.git.clones import Clones
from jiemi.krapao.git.port import Ref
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.contract import GitCredentials

GIT = shutil.which("git") or "git"


def private_key(kind: str, form: serialization.PrivateFormat) -> str:
    key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    if kind == "ed25519":
        key = ed25519.Ed25519PrivateKey.generate()
    elif kind == "ecdsa":
        key = ec.generate_private_key(ec.SECP256R1())
    else:
        key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


OPENSSH = serialization.PrivateFormat.OpenSSH
CLIENT_KEY = private_key("ed25519", OPENSSH)
HOST_KEY = paramiko.ECDSAKey.generate()


class SshServer(paramiko.ServerInterface):
    """Lets the accepted keys in and runs git-upload-pack."""

    def __init__(self, root: Path, accepted: list[bytes]) -> None:
        self.root = root
        self.accepted = accepted
        self.silent = False
        self.commands: list[bytes] = []
        self.users: list[str] = []
        self.env: dict[str, str] = {}
        self._threads: list[threading.Thread] = []

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self.users.append(username)
        return AUTH_SUCCESSFUL if key.asbytes() in self.accepted else AUTH_FAILED

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED

    def check_channel_env_request(self, channel: paramiko.Channel, name: bytes, value: bytes) -> bool:
        self.env = {name.decode(): value.decode()}
        return True

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self.commands.append(command)
        if not self.silent:
            thread = threading.Thread(target=self._run, args=(channel, command))
            self._threads.append(thread)
            thread.start()
        return True

    def _run(self, channel: paramiko.Channel, command: bytes) -> None:
        path = self.root / command.split(b"'")[1].decode().lstrip("/")
        env = git_environment(GIT, self.root) | self.env
        with subprocess.Popen(
            [GIT, "-c", "safe.directory=*", "upload-pack", str(path)],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            feeder = threading.Thread(target=self._feed, args=(channel, process))
            feeder.start()
            assert isinstance(process.stdout, io.BufferedReader)
            assert process.stderr is not None
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException):  # the client has gone
                while data := process.stdout.read1(65_536):
                    channel.sendall(data)
                channel.sendall_stderr(process.stderr.read())
                channel.send_exit_status(process.wait())
                channel.close()
            feeder.join()

    @staticmethod
    def _feed(channel: paramiko.Channel, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        with contextlib.suppress(OSError, EOFError), process.stdin:
            while data := channel.recv(65_536):
                process.stdin.write(data)
                process.stdin.flush()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()


@pytest.fixture
def ssh(tmp_path: Path, work: Work) -> Iterator[tuple[str, SshServer]]:
    root = tmp_path / "ssh"
    root.mkdir()
    work.git("init", "--quiet", "--bare", "--initial-branch=main", str(root / "r.git"))
    key = paramiko.Ed25519Key.from_private_key(io.StringIO(CLIENT_KEY))
    server = SshServer(root, [key.asbytes()])
    transports: list[paramiko.Transport] = []
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)

        def accept() -> None:
            while not stop.is_set():
                with contextlib.suppress(TimeoutError, paramiko.SSHException, EOFError, OSError):
                    transport = paramiko.Transport(listener.accept()[0])
                    transports.append(transport)
                    transport.add_server_key(HOST_KEY)
                    transport.start_server(event=threading.Event(), server=server)

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", server
        stop.set()
        thread.join()
        for transport in transports:
            transport.close()
        server.join()


def known(where: str, key: paramiko.PKey = HOST_KEY) -> SensitiveText:
    host, _, port = where.partition(":")
    return SensitiveText(f"[{host}]:{port} {key.get_name()} {base64.b64encode(key.asbytes()).decode()}\n")


async def test_a_repository_is_followed_over_ssh(
    ssh: tuple[str, SshServer], work: Work, settings: KrapaoSettings, threads_before: None
) -> None:
    where, server = ssh
    credentials = GitCredentials(ssh=SensitiveText("\n" + CLIENT_KEY.strip()), known_hosts=known(where))
    await follow(settings, f"ssh://{where}/r.git", credentials, work, server.root / "r.git")
    assert set(server.users) == {"git"}
    assert set(server.commands) == {b"git-upload-pack '/r.git'"}


async def test_a_commit_is_pinned_over_ssh(
    ssh: tuple[str, SshServer], work: Work, settings: KrapaoSettings, threads_before: None
) -> None:
    where, server = ssh
    credentials = GitCredentials(ssh=SensitiveText(CLIENT_KEY), known_hosts=known(where))
    await pin(settings, f"ssh://{where}/r.git", credentials, work, server.root / "r.git")


async def test_a_host_of_the_old_protocol_gives_tips_of_branches_and_says_so_of_other_commits(
    ssh: tuple[str, SshServer], work: Work, settings: KrapaoSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, server = ssh
    monkeypatch.setattr(SshServer, "check_channel_env_request", lambda *_: False)
    first = work.commit({"x": "one"})
    second = work.commit({"x": "two"})
    work.push(server.root / "r.git")
    credentials = GitCredentials(ssh=SensitiveText(CLIENT_KEY), known_hosts=known(where))
    async with Clones(settings).open(parse_url(f"ssh://{where}/r.git"), credentials) as store:
        await store.fetch(await store.advertised(Ref(commit=second)))
        with pytest.raises(JiemiError, match=r"RevisionNotFound: .* no longer gives out the revision"):
            await store.fetch(await store.advertised(Ref(commit=first)))
        assert await store.read(second, "x", max_bytes=10) == b"two"
    assert server.env == {}


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        ("ecdsa", OPENSSH),
        ("rsa", OPENSSH),
        ("rsa", serialization.PrivateFormat.TraditionalOpenSSL),
        ("ecdsa", serialization.PrivateFormat.TraditionalOpenSSL),
    ],
)
async def test_keys_of_each_kind_and_the_operators_known_hosts_are_taken(
    ssh: tuple[str, SshServer], work: Work, settings: KrapaoSettings, kind: str, form: serialization.PrivateFormat
) -> None:
    where, server = ssh
    text = private_key(kind, form)
    loader = paramiko.RSAKey if kind == "rsa" else paramiko.ECDSAKey
    server.accepted.append(loader.from_private_key(io.StringIO(text)).asbytes())
    work.commit({"x": "one"})
    work.push(server.root / "r.git")
    operator = attrs.evolve(settings, ssh_known_hosts=known(where).reveal())
    credentials = GitCredentials(username=SensitiveText("deploy"), ssh=SensitiveText(text))
    async with Clones(operator).open(parse_url(f"ssh://{where}/r.git"), credentials) as store:
        await store.fetch(await store.advertised(Ref()))
    assert set(server.users) == {"deploy"}


async def test_an_unknown_another_or_a_revoked_host_key_is_refused_with_its_fingerprint(
    ssh: tuple[str, SshServer], settings: KrapaoSettings
) -> None:
    where, server = ssh
    key = SensitiveText(CLIENT_KEY)
    revoked = SensitiveText("@revoked " + known(where).reveal() + known(where).reveal())
    for lines in (None, SensitiveText(""), known(where, paramiko.ECDSAKey.generate()), revoked):
        message = await listing_fails(
            "HostKeyUnknown", settings, f"ssh://{where}/r.git", GitCredentials(ssh=key, known_hosts=lines)
        )
        assert where in message
        assert "ecdsa-sha2-nistp256 SHA256:" in message
    of_another_type = known(where, paramiko.RSAKey.generate(2048))
    await listing_fails(
        "HostKeyUnknown", settings, f"ssh://{where}/r.git", GitCredentials(ssh=key, known_hosts=of_another_type)
    )
    assert server.users == []


async def test_a_refusal_of_the_host_or_of_the_key_has_a_typed_reason(
    ssh: tuple[str, SshServer], settings: KrapaoSettings
) -> None:
    where, _ = ssh
    url = f"ssh://{where}/r.git"
    assert "credentials.ssh gives no private key" in await listing_fails("RepositoryAccessDenied", settings, url)
    encrypted = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, OPENSSH, serialization.BestAvailableEncryption(b"p")
    )
    for text, says in (
        (private_key("ed25519", OPENSSH), "refused the key"),
        ("SECRET garbage", "is no private key"),
        (CLIENT_KEY.replace("\n", " "), "is no private key"),
        (encrypted.decode(), "passphrase"),
    ):
        credentials = GitCredentials(ssh=SensitiveText(text), known_hosts=known(where))
        message = await listing_fails("RepositoryAccessDenied", settings, url, credentials)
        assert says in message
        assert "SECRET" not in message
    right = GitCredentials(ssh=SensitiveText(CLIENT_KEY), known_hosts=known(where))
    await listing_fails("RepositoryNotFound", settings, f"ssh://{where}/gone.git", right)


async def test_cancelling_over_ssh_ends_the_connection_and_its_threads(
    ssh: tuple[str, SshServer], settings: KrapaoSettings
) -> None:
    where, server = ssh
    server.silent = True
    credentials = GitCredentials(ssh=SensitiveText(CLIENT_KEY), known_hosts=known(where))
    async with Clones(settings).open(parse_url(f"ssh://{where}/r.git"), credentials) as store:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.advertised, Ref())
            with trio.fail_after(10):
                while not server.commands:  # noqa: ASYNC110 - the server reports no command
                    await trio.sleep(0.01)
            began = trio.current_time()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - began < 2
