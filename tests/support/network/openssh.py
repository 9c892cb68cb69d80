"""OpenSSH's own server on loopback, with an account `git` whose login shell is git-shell.

It runs as root in a mount namespace of its own, where /etc/passwd has that account, and in a process namespace that
ends with it. So nothing of the machine is changed, and no process of it is left, however a test ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from jiemi.controlplane.node.isolation import SEARCH_PATH

DEBIAN_PACKAGES = ("openssh-server", "openssh-client", "git", "util-linux", "mount")
"""Where the programs below come from on Debian and Ubuntu."""

_PROGRAMS = ("sshd", "ssh-keygen", "ssh-keyscan", "git-shell", "unshare", "mount")

USER, HOME = "git", Path("/srv/git")
_UID = 64_900
"""Of no account of Debian's (60000 to 64999 are for packages that ask for one)."""

_START = """
mount -t tmpfs -o mode=0755 tmpfs /srv
mkdir -m 0755 /srv/git
mount --bind "$1/home" /srv/git
mount --bind "$1/passwd" /etc/passwd
mount --bind "$1/group" /etc/group
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir -m 0755 /run/sshd
exec "$2" -D -e -f "$1/sshd_config"
"""


def missing_requirements() -> list[str]:
    """What this machine lacks for the server, each as a phrase; empty where it lacks nothing."""
    if os.uname().sysname != "Linux":
        return ["Linux"]
    missing = [] if os.geteuid() == 0 else ["root"]
    programs = [each for each in _PROGRAMS if shutil.which(each, path=SEARCH_PATH) is None]
    return [*missing, f"the programs {', '.join(programs)}"] if programs else missing


def program(name: str) -> str:
    """The path of one of the programs."""
    found = shutil.which(name, path=SEARCH_PATH)
    assert found is not None, f"{name} is not installed"
    return found


def keygen(*arguments: str) -> str:
    """What ssh-keygen prints."""
    run = [program("ssh-keygen"), *arguments]
    return subprocess.run(run, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout


@attrs.frozen
class KeyFile:
    """A key that ssh-keygen made."""

    path: Path

    @classmethod
    def make(cls, path: Path, kind: str, *, bits: int = 0, form: str = "", passphrase: str = "") -> KeyFile:
        """Make one.

        Args:
            kind: of `ssh-keygen -t`.
            bits: of `-b`; 0 for the usual size.
            form: of `-m`: "PEM", "PKCS8", or "" for OpenSSH's.
        """
        size = ["-b", str(bits)] if bits else []
        shape = ["-m", form] if form else []
        keygen("-q", "-t", kind, *size, *shape, "-N", passphrase, "-C", "", "-f", str(path))
        return cls(path)

    @property
    def private(self) -> str:
        return self.path.read_text()

    @property
    def public(self) -> str:
        """Its type and the key in base64, as lines of authorized_keys and known_hosts have them."""
        return " ".join(self.path.with_name(f"{self.path.name}.pub").read_text().split()[:2])

    @property
    def fingerprint(self) -> str:
        return keygen("-l", "-f", str(self.path)).split()[1]


@attrs.define
class Sshd:
    """A running server.

    Attributes:
        port: where it listens, on 127.0.0.1.
        folder: where its files are; `home` there is the home of the account.
    """

    port: int
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def wait_for(self, words: str) -> None:
        """Until its log has the words."""
        deadline = time.monotonic() + 10
        while words not in self.log():
            assert time.monotonic() < deadline, f"{words!r} is not in:\n{self.log()}"
            time.sleep(0.02)

    def known(self, *keys: KeyFile, port: int = 0) -> str:
        """Lines of known_hosts that say its keys."""
        return "".join(f"[127.0.0.1]:{port or self.port} {key.public}\n" for key in keys)

    def kill(self) -> None:
        """End it and all of its connections, at once."""
        self.process.send_signal(signal.SIGKILL)  # unshare's child gets it, too, and with that end all below it
        self.process.wait()


def make_home(folder: Path, authorized: Sequence[str]) -> Path:
    """The home of the account.

    Args:
        authorized: lines of authorized_keys.
    """
    home = folder / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "authorized_keys").write_text("".join(f"{line}\n" for line in authorized))
    # Tests push by path, as root.
    (home / ".gitconfig").write_text("[safe]\n\tdirectory = *\n")
    return home


@contextlib.contextmanager
def sshd(
    folder: Path,
    host_keys: Sequence[KeyFile],
    options: Mapping[str, str] | None = None,
    *,
    login_shell: str = "git-shell",
) -> Iterator[Sshd]:
    """Serve what is in the home that `make_home` made.

    Args:
        folder: of the test's own; its files are written there.
        host_keys: those that it shows.
        options: of sshd_config, before what is set here.
        login_shell: the program that is the account's login shell.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings = [
        *((options or {}).items()),
        ("Port", str(port)),
        ("ListenAddress", "127.0.0.1"),
        *(("HostKey", str(key.path)) for key in host_keys),
        ("AuthorizedKeysFile", f"{HOME}/.ssh/authorized_keys"),
        ("AcceptEnv", "GIT_PROTOCOL"),
        ("PasswordAuthentication", "no"),
        ("KbdInteractiveAuthentication", "no"),
        ("PermitRootLogin", "no"),
        ("UsePAM", "no"),
        ("StrictModes", "no"),
        ("PidFile", "none"),
        ("LogLevel", "VERBOSE"),
    ]
    (folder / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in settings))
    (folder / "passwd").write_text(
        "root:*:0:0::/root:/usr/sbin/nologin\n"
        "sshd:*:64901:64901::/run/sshd:/usr/sbin/nologin\n"
        f"{USER}:*:{_UID}:{_UID}::{HOME}:{program(login_shell)}\n"
    )
    (folder / "group").write_text(f"root:x:0:\nsshd:x:64901:\n{USER}:x:{_UID}:\n")
    run = [program("unshare"), "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    run += ["/bin/sh", "-ec", _START, "sh", str(folder), program("sshd")]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(run, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={"PATH": SEARCH_PATH}) as process,
    ):
        server = Sshd(port, folder, process)
        try:
            server.wait_for("Server listening on")
            yield server
        finally:
            server.kill()
