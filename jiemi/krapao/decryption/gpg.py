"""A keyring for one run: a GNUPGHOME of its own on a tmpfs, with its agent, and nothing of either afterwards.

gpg keeps secret keys with gpg-agent, which gpg normally starts by itself as a daemon that outlives it, in a session
of its own. Here the agent is started first, and told to stay in the session that it was started in (`--no-detach`; it
forks all the same), and gpg is told to start none (`no-autostart`). So ending that session ends the agent, and the
agent never holds a pipe of ours.
There is no pinentry, no smart card daemon and no key server: a key that would ask for anything fails.

The folder's path must be short, for the agent's socket is in there: sun_path of unix(7) has 108 bytes. Where the user
has a folder in /run/user, GnuPG puts the sockets there instead, into one that is named after the keyring's path, and
nobody removes it (`_gnupg_socketdir_internal` in its common/homedir.c); so that is removed here too.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import attrs

from jiemi.core.errors import JiemiError
from jiemi.krapao.decryption.private_folders import private_folder, require_memory, write_file
from jiemi.krapao.decryption.processes import Limits, run_program, running
from jiemi.rpc.keys import PgpKey

_FIELD = "provider.pgp.privateKey"
_MAX_HOME_CHARACTERS = 107 - len("/S.gpg-agent.browser")
_SOCKET_BASES = ("/run/gnupg", "/run", "/var/run/gnupg", "/var/run")
_Z_BASE_32 = "ybndrfg8ejkmcpqxot1uwisza345h769"
_UNPROTECTED = re.compile(rb"\(\s*(10:)?protection\s*(4:)?none\s*\)")
_SECRET_KEY_FLAG = 16
"""Of IMPORT_OK in GnuPG's doc/DETAILS: contains a private key."""

_GPG_CONF = """\
batch
no-tty
no-autostart
no-greeting
disable-dirmngr
no-auto-key-retrieve
no-auto-key-locate
pinentry-mode error
trust-model always
"""
_AGENT_CONF = """\
disable-scdaemon
no-allow-external-cache
no-allow-loopback-pinentry
pinentry-program /nonexistent/pinentry
"""


@attrs.frozen
class Keyring:
    """Where gpg finds the keys.

    Attributes:
        environment: what gpg needs in its environment.
        fingerprints: of the secret keys.
    """

    environment: dict[str, str]
    fingerprints: tuple[str, ...]


@contextlib.asynccontextmanager
async def open_keyring(
    keys: tuple[PgpKey, ...], *, gpg: Path, runtime_dir: Path, limits: Limits
) -> AsyncIterator[Keyring]:
    """A keyring with the keys, for as long as the context lasts. Its making has no deadline but the caller's.

    Raises:
        JiemiError: KeyInvalid; GpgMissing; StorageFailed; Timeout; LimitExceeded; InternalError.
    """
    require_memory(runtime_dir)
    with private_folder(runtime_dir) as home, _sockets(home):
        if len(str(home)) > _MAX_HOME_CHARACTERS:
            raise JiemiError("StorageFailed", "the path of Krapao's runtime folder is too long for a socket in it")
        _configure(home)
        environment = {"GNUPGHOME": str(home), "HOME": str(home), "PATH": "/nonexistent", "LC_ALL": "C"}
        async with _agent(gpg, home, environment):
            fingerprints: list[str] = []
            for key in keys:
                fingerprints += await _import(key, gpg, home, environment, limits)
            _require_usable(home)
            yield Keyring(environment, tuple(dict.fromkeys(fingerprints)))


@contextlib.contextmanager
def _sockets(home: Path) -> Iterator[None]:
    try:
        yield
    finally:
        remove_sockets(home)


def remove_sockets(home: Path) -> None:
    """Remove the folder that GnuPG made for a keyring's sockets outside of it, if it did. Blocking, but of memory."""
    digest = int.from_bytes(hashlib.sha1(str(home).encode(), usedforsecurity=False).digest()[:15], "big")
    name = "d." + "".join(_Z_BASE_32[digest >> shift & 31] for shift in range(115, -1, -5))
    for base in _SOCKET_BASES:
        shutil.rmtree(Path(base, "user", str(os.getuid()), "gnupg", name), ignore_errors=True)


def _configure(home: Path) -> None:
    write_file(home / "gpg.conf", _GPG_CONF)
    write_file(home / "gpg-agent.conf", _AGENT_CONF)
    write_file(home / "common.conf", "")  # so that no distribution's default brings keyboxd in


@contextlib.asynccontextmanager
async def _agent(gpg: Path, home: Path, environment: dict[str, str]) -> AsyncIterator[None]:
    program = gpg.with_name("gpg-agent")
    if not program.is_file():
        raise JiemiError("GpgMissing", f"{gpg} is there, but no gpg-agent beside it")
    argv = [str(program), "--homedir", str(home), "--no-detach", "--daemon"]
    async with running(argv, env=environment, cwd=home, missing="GpgMissing") as process:
        if await process.wait() != 0:  # it makes its socket, forks, and leaves
            raise JiemiError("InternalError", f"gpg-agent did not start: it ended with status {process.returncode}")
        yield


async def _import(key: PgpKey, gpg: Path, home: Path, environment: dict[str, str], limits: Limits) -> list[str]:
    text = key.private_key.reveal().strip() + "\n"
    if "BEGIN PGP PUBLIC KEY BLOCK" in text and "BEGIN PGP PRIVATE KEY BLOCK" not in text:
        raise JiemiError("KeyInvalid", f"{_FIELD} is a public key; export it with `gpg --export-secret-keys --armor`")
    finished = await run_program(
        [str(gpg), "--homedir", str(home), "--batch", "--status-fd", "1", "--import"],
        stdin=text.encode("utf-8", "replace"),
        env=environment,
        cwd=home,
        limits=limits,
        what="importing the pgp key",
        missing="GpgMissing",
    )
    # GnuPG's doc/DETAILS. The first IMPORT_OK of a private key is for its public part, before the agent gets the other.
    statuses = [
        line.split()[1:]
        for line in finished.stdout.decode("ascii", "replace").splitlines()
        if line.startswith("[GNUPG:] ")
    ]
    imported = [each for each in statuses if each[:1] == ["IMPORT_OK"] and len(each) == 3]
    found = [each[2] for each in imported if int(each[1]) & _SECRET_KEY_FLAG]
    if not found and (imported or ["IMPORT_RES"] not in [each[:1] for each in statuses]):
        raise JiemiError(
            "InternalError", f"gpg could not give the key to its agent: it ended with status {finished.returncode}"
        )
    if not found:
        raise JiemiError(
            "KeyInvalid",
            f"{_FIELD} is no private key that gpg can read; give the whole text of `gpg --export-secret-keys --armor`, "
            "with its line breaks",
        )
    return found


def _require_usable(home: Path) -> None:
    """Refuse keys that can't be used without asking somebody, which gpg would not say before it decrypts.

    gpg-agent keeps one file a key (GnuPG's agent/keyformat.txt), as it came in the import: protected or not.
    """
    files = [path.read_bytes() for path in (home / "private-keys-v1.d").glob("*.key")]
    if not any(b"private-key" in each and b"shadowed-private-key" not in each for each in files):
        raise JiemiError("KeyInvalid", f"{_FIELD} holds no secret part, only a stub of a key that is kept elsewhere")
    if all(b"protected-private-key" in each and _UNPROTECTED.search(each) is None for each in files):
        raise JiemiError(
            "KeyInvalid",
            f"{_FIELD} is protected by a passphrase, which nobody can be asked for here; export it without one",
        )
