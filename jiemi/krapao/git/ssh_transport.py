"""ssh for git: paramiko, with nothing from this machine. No agent, no ~/.ssh, no password, no prompt.

The host proves itself first: its key must be among the known_hosts lines of the credentials or of the operator, and
only key types that those lines have are offered, so that a host with several keys shows the one that is known. Then
the key of the credentials is offered, and `git-upload-pack` runs with the path in quotes.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import IO, Any, cast

import paramiko
from dulwich.client import GitClient, TraditionalGitClient
from dulwich.protocol import Protocol

from jiemi.concurrency import calls
from jiemi.core.errors import JiemiError
from jiemi.core.urls import CREDENTIALS_FIELD, Location
from jiemi.krapao.git import known_hosts
from jiemi.krapao.git.host_keys import TYPES, HostTransport, nothing_in_common, shown_key
from jiemi.krapao.git.meter import PACKET_LENGTH, Meter
from jiemi.krapao.git.routes import connect
from jiemi.krapao.git.ssh_keys import private_key
from jiemi.krapao.git.wire import write_though_closed
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.source import GitCredentials

_HOW_TO_TRUST = (
    "If the host publishes this fingerprint, add its line (`jiemi known-hosts HOST` prints it) to "
    f"{CREDENTIALS_FIELD}.knownHosts or to Krapao's --ssh-known-hosts file."
)
_NO_AUTHORITIES = "Krapao looks at no certificates of hosts, so the line @cert-authority lets none in. "

_MAX_STDERR_BYTES = 16 * 1024


@contextlib.contextmanager
def ssh_client(
    location: Location, credentials: GitCredentials, settings: KrapaoSettings, meter: Meter
) -> Iterator[GitClient]:
    """A dulwich client over ssh.

    Raises:
        JiemiError: RepositoryAccessDenied where the credentials hold no usable key.
    """
    key = private_key(credentials)
    with contextlib.ExitStack() as stack:
        yield _SshClient(location, credentials, settings, meter, key, stack)


class _SshClient(TraditionalGitClient):
    """Opens the one connection that a git operation needs; the stack closes it."""

    def __init__(
        self,
        location: Location,
        credentials: GitCredentials,
        settings: KrapaoSettings,
        meter: Meter,
        key: paramiko.PKey,
        stack: contextlib.ExitStack,
    ) -> None:
        super().__init__(thin_packs=True, quiet=True)
        self._location = location
        self._credentials = credentials
        self._settings = settings
        self._meter = meter
        self._key = key
        self._stack = stack

    def _connect(
        self, cmd: bytes, path: str | bytes, protocol_version: int | None = None
    ) -> tuple[Protocol, Callable[[], bool], IO[bytes] | None]:
        raw = path if isinstance(path, bytes) else path.encode()
        command = b"git-" + cmd + b" " + _quote(raw.removeprefix(b"/") if raw.startswith(b"/~") else raw)
        channel = self._open_channel()
        channel.exec_command(command)
        stream = channel.makefile("rb")
        proto = Protocol(_Answer(stream, self._location, self._meter).read, write_though_closed(channel.sendall))
        # Nothing is read before `done` is sent, so nothing needs to know whether there is something to read.
        return proto, lambda: False, cast(IO[bytes], _Stderr(channel))

    def _open_channel(self) -> paramiko.Channel:
        timeout = self._settings.connect_timeout_seconds
        transport = self._connected(timeout)
        self._meet_host(transport, timeout)
        self._log_in(transport)
        channel = transport.open_session(timeout=timeout)
        channel.settimeout(timeout)
        with contextlib.suppress(paramiko.SSHException):
            channel.set_environment_variable("GIT_PROTOCOL", "version=2")  # hosts that don't take it speak version 0
        return channel

    def _connected(self, timeout: float) -> paramiko.Transport:
        sock = connect(self._location, self._credentials, self._settings)
        self._stack.callback(sock.close)
        self._stack.enter_context(calls.interruptible_socket(self._meter.interrupter, sock))
        transport = HostTransport(cast(socket.socket, _Counted(sock, self._meter)))
        self._stack.callback(transport.packetizer.complete_handshake)  # ends the timer of one that was never completed
        self._stack.callback(transport.close)  # ends its thread and waits for it
        transport.banner_timeout = transport.auth_timeout = transport.handshake_timeout = timeout
        return transport

    def _meet_host(self, transport: paramiko.Transport, timeout: float) -> None:
        lines = self._credentials.known_hosts.reveal() if self._credentials.known_hosts is not None else ""
        if len(lines) > known_hosts.MAX_CHARACTERS:
            raise JiemiError(
                "LimitExceeded",
                f"{CREDENTIALS_FIELD}.knownHosts is longer than {known_hosts.MAX_CHARACTERS} characters",
                "Leave only the lines of this repository's host there.",
            )
        known = known_hosts.lookup(
            f"{lines}\n{self._settings.ssh_known_hosts}", self._location.host, self._location.port
        )
        options = transport.get_security_options()
        wanted = [kind for kind in options.key_types if _base_type(kind) in known.types]
        if wanted:
            options.key_types = tuple(wanted)
        where = self._location.authority
        try:
            key = shown_key(transport, timeout)
        except paramiko.SSHException as error:
            if self._meter.interrupter.interrupted:
                raise calls.Interrupted("the call was cancelled") from error
            if self._meter.failure is not None:
                raise JiemiError.of(self._meter.failure) from error
            certain = nothing_in_common(error, transport, where)
            if certain is not None:
                raise certain from error
            if wanted and isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
                other = self._other_key(timeout)
                raise JiemiError(
                    "HostKeyUnknown",
                    f"{where} shows no key of a known type ({', '.join(sorted(known.types))}){other}",
                    _how_to_trust(known),
                ) from error
            raise JiemiError("GitProtocolError", f"{where} does not speak ssh as it should") from error
        shown = f"{key.get_name()} {known_hosts.fingerprint(key.asbytes())}"
        if key.asbytes() in known.revoked:
            raise JiemiError(
                "HostKeyUnknown",
                f"{where} shows a key that known_hosts revokes: {shown}",
                "Find out who answers there; take the line @revoked out only if the key is good after all.",
            )
        if (key.get_name(), key.asbytes()) not in known.accepted:
            difference = "another than the known ones" if known.accepted else "not known"
            raise JiemiError(
                "HostKeyUnknown",
                f"{where}: its key is {difference}: {shown}",
                _how_to_trust(known),
            )
        self._meter.is_git = True  # it is the host that the Decryptor's or the operator's lines name

    def _other_key(self, timeout: float) -> str:
        """The key that the host shows where every type is taken, for a message; "" where it shows none now."""
        try:
            key = shown_key(self._connected(timeout), timeout)
        except paramiko.ssh_exception.IncompatiblePeer:
            return f", and no other that Krapao takes ({', '.join(kind for kinds in TYPES for kind in kinds)})"
        except (paramiko.SSHException, OSError):
            return ""
        return f", but {key.get_name()} {known_hosts.fingerprint(key.asbytes())}"

    def _log_in(self, transport: paramiko.Transport) -> None:
        user = self._location.user
        shown = f"user {user}" if user is not None else f"the user of {CREDENTIALS_FIELD}.username"
        if user is None and self._credentials.username is not None:
            user = self._credentials.username.reveal().strip()
        elif user is None:
            user, shown = "git", "user git, as spec.source.repository.url names none"
        where = self._location.authority
        try:
            left = transport.auth_publickey(user, self._key)
        except paramiko.BadAuthenticationType as error:
            raise JiemiError(
                "RepositoryAccessDenied",
                f"{where} takes no key for {shown}",
                "Use an account of the host that a key alone lets in.",
            ) from error
        except paramiko.AuthenticationException as error:
            raise JiemiError(
                "RepositoryAccessDenied",
                f"{where} refused the key in {CREDENTIALS_FIELD}.ssh for {shown}",
                "Give the host the public half of that key (as a deploy key of the repository), or correct the user in "
                "the URL.",
            ) from error
        except paramiko.SSHException as error:
            raise JiemiError("GitProtocolError", f"{where} ended the ssh talk early") from error
        if left:
            raise JiemiError(
                "RepositoryAccessDenied",
                f"{where} wants more than the key in {CREDENTIALS_FIELD}.ssh",
                "Use an account of the host that a key alone lets in.",
            )


def _how_to_trust(known: known_hosts.HostKeys) -> str:
    return f"{_NO_AUTHORITIES}{_HOW_TO_TRUST}" if known.has_authority else _HOW_TO_TRUST


def _base_type(kind: str) -> str:
    """The key type behind a signature algorithm (RFC 8332)."""
    return "ssh-rsa" if kind.startswith("rsa-sha2-") else kind


def _quote(path: bytes) -> bytes:
    """A path for the host's shell, quoted as git's own sq_quote does."""
    return b"'" + path.replace(b"'", b"'\\''").replace(b"!", b"'\\!'") + b"'"


class _Answer:
    """What the command on the host prints."""

    def __init__(self, stream: paramiko.ChannelFile, location: Location, meter: Meter) -> None:
        self._stream = stream
        self._location = location
        self._meter = meter
        self._is_git = False

    def read(self, size: int) -> bytes:
        data = self._meter.look(bytes(self._stream.read(size)))
        if not self._is_git and len(data) >= 4 and not PACKET_LENGTH.match(data):
            raise JiemiError(
                "GitProtocolError",
                f"{self._location.authority} lets the key in, but what runs there then does not answer as git does",
                "Look what `ssh USER@HOST git-upload-pack PATH` prints there: it may be a login shell that runs "
                "nothing, or one whose start-up files print something.",
            )
        self._is_git = True
        return data


class _Counted:
    """The socket as paramiko reads it, on its own thread: all that comes is counted, whatever ssh makes of it."""

    def __init__(self, sock: socket.socket, meter: Meter) -> None:
        self._sock = sock
        self._meter = meter

    def recv(self, size: int) -> bytes:
        data = self._sock.recv(size)
        try:
            self._meter.arrived(len(data))
        except (JiemiError, calls.Interrupted):
            return b""  # the end of the stream ends paramiko's thread in good order; the meter keeps what it was
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class _Stderr:
    """The last words of a command that ended; looked at to find the reason, never shown."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def readlines(self) -> list[bytes]:
        self._channel.settimeout(2)
        text = b""
        with contextlib.suppress(OSError):
            while len(text) < _MAX_STDERR_BYTES and (more := self._channel.recv_stderr(4_096)):
                text += more
        return text.splitlines(keepends=True)
