"""Clones over ssh, git:// and file://, and https with a certificate that nobody signed."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import attrs
import paramiko
import pytest
import trio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from support.krapao.work_tree import Work

from jiemi.concurrency.calls import Interrupter, run_blocking
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.demo.git_server import GitServer, git_environment
from jiemi.krapao.git.clones import Clones
from jiemi.krapao.git.meter import Meter
from jiemi.krapao.git.port import Advertised, Ref
from jiemi.krapao.git.transports import _TcpClient
from jiemi.krapao.git.urls import parse_url
from jiemi.krapao.git.wire import write_though_closed
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.contract import FilesRequest, GitCredentials

GIT = shutil.which("git") or "git"
NOBODY = GitCredentials()


async def fails(reason: str, settings: KrapaoSettings, url: str, credentials: GitCredentials = NOBODY) -> str:
    async with Clones(settings).open(parse_url(url, allow_file=True), credentials) as store:
        with pytest.raises(JiemiError) as caught:
            await store.advertised(Ref())
    assert caught.value.failure.reason == reason, str(caught.value)
    return caught.value.failure.text


async def follow(settings: KrapaoSettings, url: str, credentials: GitCredentials, work, bare: Path) -> None:  # type: ignore[no-untyped-def]
    """Clone, then follow a second commit and an annotated tag."""
    async with Clones(settings).open(parse_url(url, allow_file=True), credentials) as store:
        for content in ("one", "two"):
            work.commit({"x": content})
            work.git("tag", "-f", "-a", "v1", "-m", "tag")
            work.push(bare, "HEAD:refs/heads/main", "v1")
            for ref in (Ref(), Ref(tag="v1"), Ref(branch="main")):
                found = await store.advertised(ref)
                await store.fetch(found)
                assert await store.read(found.revision, "x", max_bytes=10) == content.encode()


async def pin(settings: KrapaoSettings, url: str, credentials: GitCredentials, work, bare: Path) -> None:  # type: ignore[no-untyped-def]
    """Fetch commits by their hashes, wherever they are, and be told of what is none."""
    async with Clones(settings).open(parse_url(url, allow_file=True), credentials) as store:

        async def fetch(name: str) -> str:
            wanted = await store.advertised(Ref(commit=name))
            assert wanted == Advertised(name, name)
            await store.fetch(wanted)
            return (await store.read(name, "x", max_bytes=10)).decode()

        async def refuses(name: str) -> str:
            with pytest.raises(JiemiError) as caught:
                await fetch(name)
            return caught.value.failure.reason

        assert await refuses("1" * 40) == "RevisionNotFound"  # of an empty repository
        first = work.commit({"x": "one"})
        work.git("checkout", "--quiet", "-b", "other")
        other = work.commit({"x": "other"})
        work.git("checkout", "--quiet", "main")
        work.commit({"x": "two"})
        work.git("tag", "-a", "v1", "-m", "tag")
        work.push(bare, "main", "other", "v1")
        assert [await fetch(first), await fetch(other)] == ["one", "other"]
        for named in ("v1", "v1^{tree}", "v1:x"):
            assert await refuses(work.git("rev-parse", named)) == "RefNotFound"
        for gone in ("1" * 40, "2" * 64):
            assert await refuses(gone) == "RevisionNotFound"
        # Its HEAD names a branch that is not there.
        work.git("--git-dir", str(bare), "symbolic-ref", "HEAD", "refs/heads/nowhere")
        newest = work.commit({"x": "three"})
        work.push(bare)
        assert [await fetch(newest), await fetch(first)] == ["three", "one"]


# ssh


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
        return paramiko.AUTH_SUCCESSFUL if key.asbytes() in self.accepted else paramiko.AUTH_FAILED

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

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
            assert process.stdout is not None
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
def ssh(tmp_path: Path, work) -> Iterator[tuple[str, SshServer]]:  # type: ignore[no-untyped-def]
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
        message = await fails(
            "HostKeyUnknown", settings, f"ssh://{where}/r.git", GitCredentials(ssh=key, known_hosts=lines)
        )
        assert where in message
        assert "ecdsa-sha2-nistp256 SHA256:" in message
    of_another_type = known(where, paramiko.RSAKey.generate(2048))
    await fails(
        "HostKeyUnknown", settings, f"ssh://{where}/r.git", GitCredentials(ssh=key, known_hosts=of_another_type)
    )
    assert server.users == []


async def test_what_the_host_or_the_key_refuses_is_told(ssh: tuple[str, SshServer], settings: KrapaoSettings) -> None:
    where, _ = ssh
    url = f"ssh://{where}/r.git"
    assert "credentials.ssh gives no private key" in await fails("RepositoryAccessDenied", settings, url)
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
        message = await fails("RepositoryAccessDenied", settings, url, credentials)
        assert says in message
        assert "SECRET" not in message
    right = GitCredentials(ssh=SensitiveText(CLIENT_KEY), known_hosts=known(where))
    await fails("RepositoryNotFound", settings, f"ssh://{where}/gone.git", right)


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
                while not server.commands:  # noqa: ASYNC110 - a port tells nobody that it is open
                    await trio.sleep(0.01)
            began = trio.current_time()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - began < 2


# git:// and file://


@pytest.fixture
async def git_daemon(tmp_path: Path, work) -> AsyncIterator[tuple[str, Path]]:  # type: ignore[no-untyped-def]
    root = tmp_path / "daemon"
    root.mkdir()
    work.git("init", "--quiet", "--bare", "--initial-branch=main", str(root / "r.git"))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    run = [GIT, "-c", "safe.directory=*", "daemon", "--reuseaddr", "--export-all", f"--base-path={root}"]
    run += ["--listen=127.0.0.1", f"--port={port}", str(root)]
    with subprocess.Popen(  # noqa: ASYNC220 - a fork and exec
        run, env=git_environment(GIT, root), stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            with trio.fail_after(10):
                while True:
                    try:
                        (await trio.open_tcp_stream("127.0.0.1", port)).socket.close()
                        break
                    except OSError:
                        await trio.sleep(0.02)
            yield f"git://127.0.0.1:{port}", root
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)


async def test_a_repository_is_followed_over_git(
    git_daemon: tuple[str, Path], work: Work, settings: KrapaoSettings
) -> None:
    url, root = git_daemon
    await follow(settings, f"{url}/r.git", NOBODY, work, root / "r.git")
    await fails("RepositoryNotFound", settings, f"{url}/gone.git")


async def test_a_commit_is_pinned_over_git(git_daemon: tuple[str, Path], work: Work, settings: KrapaoSettings) -> None:
    url, root = git_daemon
    await pin(settings, f"{url}/r.git", NOBODY, work, root / "r.git")


async def test_what_a_git_host_said_is_read_though_it_closed_while_it_was_written_to(settings: KrapaoSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        location = parse_url(f"git://127.0.0.1:{server.getsockname()[1]}/r.git")

        def talk(interrupter: Interrupter) -> bytes | None:
            with _TcpClient.opened(location, settings, Meter(interrupter, 1_000, "")) as client:
                proto, _, _ = client._connect(b"upload-pack", b"/r.git")
                host, _ = server.accept()
                host.sendall(b"0013ERR not our ref")
                host.close()  # the command is unread, so this resets the connection
                for _ in range(3):
                    proto.write_pkt_line(b"want")
                return proto.read_pkt_line()

        with trio.fail_after(10):
            assert await run_blocking(talk, limiter=trio.CapacityLimiter(1)) == b"ERR not our ref"


def test_a_host_that_takes_too_long_to_be_written_to_is_not_taken_for_one_that_closed() -> None:
    def send(data: bytes) -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        write_though_closed(send)(b"x")


async def test_a_silent_git_host_is_left_when_cancelled_or_late(settings: KrapaoSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"git://127.0.0.1:{server.getsockname()[1]}/r.git"
        began = trio.current_time()
        async with Clones(settings).open(parse_url(url), NOBODY) as store:
            with trio.move_on_after(0.2):
                await store.advertised(Ref())
        assert trio.current_time() - began < 2
        await fails("HostUnreachable", attrs.evolve(settings, connect_timeout_seconds=0.2), url)


async def test_a_file_url_is_followed_where_it_is_allowed_and_refused_elsewhere(
    work: Work, settings: KrapaoSettings, tmp_path: Path
) -> None:
    bare = tmp_path / "bare.git"
    work.git("init", "--quiet", "--bare", "--initial-branch=main", str(bare))
    allowed = attrs.evolve(settings, allow_file_urls=True)
    await follow(allowed, f"file://{bare}", NOBODY, work, bare)
    await fails("RepositoryNotFound", allowed, f"file://{tmp_path}/gone.git")
    await fails("SchemeNotAllowed", settings, f"file://{bare}")


async def test_a_commit_is_pinned_in_a_file_url(work: Work, settings: KrapaoSettings, tmp_path: Path) -> None:
    bare = tmp_path / "bare.git"
    work.git("init", "--quiet", "--bare", "--initial-branch=main", str(bare))
    await pin(attrs.evolve(settings, allow_file_urls=True), f"file://{bare}", NOBODY, work, bare)


async def test_a_commit_is_pinned_over_http(git_server: GitServer, work: Work, settings: KrapaoSettings) -> None:
    url = git_server.create("r.git")
    await pin(settings, url, NOBODY, work, git_server.root / "r.git")


async def test_a_sha256_repository_is_followed_too(settings: KrapaoSettings, tmp_path: Path, work: Work) -> None:
    sha256 = type(work)(tmp_path / "work256", "sha256")
    revision = sha256.commit({"x": "one"})
    assert len(revision) == 64
    bare = tmp_path / "r256.git"
    sha256.git("clone", "--quiet", "--bare", str(sha256.path), str(bare))
    async with Clones(attrs.evolve(settings, allow_file_urls=True)).open(
        parse_url(f"file://{bare}", allow_file=True), NOBODY
    ) as store:
        await store.fetch(await store.advertised(Ref()))
        assert await store.read(revision, "x", max_bytes=10) == b"one"
        assert await store.advertised(Ref(commit=revision)) == Advertised(revision, revision)
        for pattern in ("x", "*"):
            [entry] = await store.files(FilesRequest(revision, (pattern,)), max_bytes=10)
            assert (entry.path, entry.blob) == ("x", sha256.git("rev-parse", "HEAD:x"))


# https


def serve_once(answer: Callable[[socket.socket], None]) -> tuple[socket.socket, threading.Thread]:
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as connection:
            answer(connection)

    thread = threading.Thread(target=run)
    thread.start()
    return listener, thread


async def test_a_certificate_that_nobody_signed_is_refused(settings: KrapaoSettings, tmp_path: Path) -> None:
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    certificate = builder.sign(key, hashes.SHA256())
    pem = tmp_path / "pem"
    pem.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    for answer, reason in (
        (lambda sock: context.wrap_socket(sock, server_side=True).close(), "TlsVerificationFailed"),
        (lambda sock: sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n"), "HostUnreachable"),
    ):
        listener, thread = serve_once(answer)
        with listener:
            await fails(reason, settings, f"https://127.0.0.1:{listener.getsockname()[1]}/r.git")
            thread.join()
