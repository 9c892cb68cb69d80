"""A git server over ssh on loopback."""

from __future__ import annotations

import contextlib
import io
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import paramiko
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_SUCCEEDED

from jiemi.demo.git_server import git_environment

GIT = shutil.which("git") or "git"


class SshServer(paramiko.ServerInterface):
    """Lets the accepted keys in and runs git-upload-pack."""

    def __init__(self, root: Path, accepted: list[bytes]) -> None:
        self.root = root
        self.accepted = accepted
        self.silent = False
        self.commands: list[bytes] = []
        self.users: list[str] = []
        self.env: dict[str, str] = {}
        self.advertise: Callable[[bytes], bytes] = lambda data: data
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
                advertise = self.advertise
                while data := process.stdout.read1(65_536):
                    channel.sendall(advertise(data))
                    advertise = bytes
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


@contextlib.contextmanager
def ssh_server(
    root: Path, accepted: list[bytes], host_keys: Sequence[paramiko.PKey]
) -> Iterator[tuple[int, SshServer]]:
    """Serve the bare repositories under a folder. Gives the port.

    Args:
        accepted: public keys of the clients that are let in, as on the wire.
        host_keys: those that it shows, one of each type.
    """
    server = SshServer(root, accepted)
    transports: list[paramiko.Transport] = []
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)

        def accept() -> None:
            while not stop.is_set():
                with contextlib.suppress(TimeoutError, paramiko.SSHException, EOFError, OSError):
                    transport = paramiko.Transport(listener.accept()[0])
                    transports.append(transport)
                    for key in host_keys:
                        transport.add_server_key(key)
                    transport.start_server(event=threading.Event(), server=server)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()[1], server
        finally:
            stop.set()
            thread.join()
            for transport in transports:
                transport.close()
            server.join()
