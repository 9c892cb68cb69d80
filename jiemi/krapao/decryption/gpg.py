"""A keyring for one run: a GNUPGHOME of its own on a tmpfs, with its agent, and nothing of either afterwards.

gpg keeps secret keys with gpg-agent, which gpg normally starts by itself as a daemon that outlives it, in a session
of its own. Here the agent is started first, and made to stay in the session that it was started in (`--no-detach`; it
forks all the same), and gpg is set to start none (`no-autostart`). So ending that session ends the agent, and the
agent never holds a pipe of ours.
There is no pinentry, no smart card daemon and no key server: a key that would ask for anything fails.

The folder's path must be short, because the agent's socket is in there: sun_path of unix(7) has 108 bytes. Where the
user has a folder in /run/user, GnuPG puts the sockets there instead, into one that is named after the keyring's path,
and nobody removes it (`_gnupg_socketdir_internal` in its common/homedir.c); so that is removed here too.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import socket
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path

import attrs
import trio

from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.krapao.confinement.private_folders import private_folder, require_memory, write_file
from jiemi.krapao.confinement.processes import Finished, Limits, run_program, running
from jiemi.krapao.confinement.spawn import LIBRARIES, LOADERS, Command, Confinement, Measures, Sandbox
from jiemi.krapao.decryption.mistaken_keys import instead_of_key
from jiemi.rpc.keys import PgpKey, named_parts

_FIELD = "spec.provider.pgp.privateKey"
_PRIVATE = "BEGIN PGP PRIVATE KEY BLOCK"
_BLOCK_END = re.compile(r"(?:(?<=-----END PGP PRIVATE KEY BLOCK-----)|(?<=-----END PGP PUBLIC KEY BLOCK-----))\s+")
_PASSPHRASE_FIELD = "spec.provider.pgp.passphrase"  # noqa: S105 - a name, public
_MAX_LINE_BYTES = 2_000
_END_AGENT_SECONDS = 0.5
GPG_FILES = tuple(map(Path, ("/etc/gnupg", "/usr/lib/gnupg", "/usr/lib/gnupg2", "/usr/libexec", "/usr/share/gnupg")))
"""What gpg and its agent read and run beside themselves."""
_MAX_HOME_CHARACTERS = 107 - len("/S.gpg-agent.browser")
_SOCKET_BASES = ("/run/gnupg", "/run", "/var/run/gnupg", "/var/run")
_Z_BASE_32 = "ybndrfg8ejkmcpqxot1uwisza345h769"
_UNPROTECTED = re.compile(rb"\(\s*(10:)?protection\s*(4:)?none\s*\)")
_SECRET_KEY_FLAG = 16
"""Of IMPORT_OK in GnuPG's doc/DETAILS: contains a private key."""

GPG_CONF = """\
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
"""gpg asks nobody, starts nothing and looks nothing up. Verifying signatures uses it too."""

# The agent protects a key again when it is first used, and unlocks it at each use. Both would take as long as the count
# that it finds by trying is meant to take a thief; here the passphrase is in its memory, and the key on no disk.
_AGENT_CONF = """\
disable-scdaemon
no-allow-external-cache
allow-preset-passphrase
s2k-count 65536
no-allow-loopback-pinentry
pinentry-program /nonexistent/pinentry
"""


@attrs.frozen
class Keyring:
    """Where gpg finds the keys.

    Attributes:
        environment: what gpg needs in its environment.
        fingerprints: of the secret keys.
        expires_at: when the first of them expires (seconds since the epoch), or None where none does.
    """

    environment: dict[str, str]
    fingerprints: tuple[str, ...]
    expires_at: int | None = None


@contextlib.asynccontextmanager
async def open_keyring(
    key: PgpKey, *, gpg: Path, runtime_dir: Path, limits: Limits, measures: Measures
) -> AsyncIterator[Keyring]:
    """A keyring with a key's keys, for as long as the context lasts. Its making has no deadline but the caller's.

    Raises:
        JiemiError: KeyInvalid; GpgMissing; StorageFailed; Timeout; LimitExceeded; InternalError.
    """
    require_memory(runtime_dir)
    with private_folder(runtime_dir) as home, _sockets(home):
        if len(str(home)) > _MAX_HOME_CHARACTERS:
            raise JiemiError("StorageFailed", "the path of Krapao's runtime folder is too long for a socket in it")
        _configure(home)
        environment = {"GNUPGHOME": str(home), "HOME": str(home), "PATH": "/nonexistent", "LC_ALL": "C"}
        sandbox = Sandbox(
            Confinement(
                network=False,
                read_execute=(gpg, gpg.with_name("gpg-agent"), *GPG_FILES, *LOADERS),
                read=(*GPG_FILES, *LIBRARIES),
                write=(home,),
            ),
            measures,
        )
        runner = _Runner(gpg, home, environment, limits, sandbox)
        async with _agent(runner):
            names: dict[str, str] = {}
            locked = False
            for name, text in named_parts(key, _FIELD):
                before = _key_files(home)
                found = [each for block in _blocks(text) for each in await _import(block, name, text, runner)]
                files = _key_files(home) - before
                if found and not files and names.keys() >= set(found):
                    continue  # an origin before had the same key
                locked |= _require_usable(files, name, has_passphrase=key.passphrase is not None)
                names |= {each: name for each in found if each not in names}
            if locked and key.passphrase is not None:
                await _unlock(key.passphrase, names, runner)
            yield Keyring(environment, tuple(names), await _expiry(runner))


@attrs.frozen
class _Runner:
    """How gpg's programs are run for one keyring."""

    gpg: Path
    home: Path
    environment: dict[str, str]
    limits: Limits
    sandbox: Sandbox

    def command(self, *argv: str) -> Command:
        """One of them, as it is started."""
        return Command(argv, env=self.environment, cwd=self.home, sandbox=self.sandbox)

    async def run(self, *arguments: str, stdin: bytes, what: str) -> Finished:
        """Run gpg to its end. Raises JiemiError as `run_program`."""
        return await run_program(
            self.command(str(self.gpg), "--homedir", str(self.home), "--batch", *arguments),
            stdin=stdin,
            limits=self.limits,
            what=what,
            missing="GpgMissing",
        )


def _key_files(home: Path) -> frozenset[Path]:
    return frozenset((home / "private-keys-v1.d").glob("*.key"))


def _blocks(text: str) -> Iterator[str]:
    """The armored blocks of a key, one after the other; text without one is one that gpg will refuse.

    Public blocks beside private ones are left out: `gpg --export --armor` before `--export-secret-keys` in one file,
    which `gpg --import` takes. They open nothing.
    """
    text = text.strip() + "\n"
    blocks = [block for block in _BLOCK_END.split(text) if block.strip()]
    private = [block for block in blocks if _PRIVATE in block]
    yield from (private or blocks)


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


def end_agent(home: Path) -> None:
    """Ask the agent of a keyring to end, if one is there: one whose Krapao was killed runs on, with the key in it.

    By KILLAGENT of its protocol (GnuPG's manual, "Agent KILLAGENT"). Blocking, for a second at most.
    """
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_END_AGENT_SECONDS)
        connection.connect(str(home / "S.gpg-agent"))
        connection.recv(_MAX_LINE_BYTES)  # its greeting
        connection.sendall(b"KILLAGENT\n")
        connection.recv(_MAX_LINE_BYTES)


def _configure(home: Path) -> None:
    write_file(home / "gpg.conf", GPG_CONF)
    write_file(home / "gpg-agent.conf", _AGENT_CONF)
    write_file(home / "common.conf", "")  # so that no distribution's default brings keyboxd in


@contextlib.asynccontextmanager
async def _agent(runner: _Runner) -> AsyncIterator[None]:
    program = runner.gpg.with_name("gpg-agent")
    if not program.is_file():
        raise JiemiError(
            "GpgMissing",
            f"{runner.gpg} is there, but no gpg-agent beside it",
            "Install all of GnuPG beside Krapao (on Debian the packages gpg and gpg-agent).",
        )
    async with running(
        runner.command(str(program), "--homedir", str(runner.home), "--no-detach", "--daemon"),
        limits=runner.limits,
        missing="GpgMissing",
    ) as process:
        if await process.wait() != 0:  # it makes its socket, forks, and leaves
            raise JiemiError("InternalError", f"gpg-agent did not start: it ended with status {process.returncode}")
        yield


async def _import(block: str, name: str, text: str, runner: _Runner) -> list[str]:
    """Import a block of a key's text; the fingerprints of the private keys in it."""
    if "BEGIN PGP PUBLIC KEY BLOCK" in block and _PRIVATE not in block:
        raise JiemiError(
            "KeyInvalid",
            f"{name} is a public key, which opens nothing",
            "Export the private key with `gpg --export-secret-keys --armor KEY`, and put all of its output there.",
        )
    finished = await runner.run(
        "--status-fd", "1", "--import", stdin=block.encode("utf-8", "replace"), what="importing the pgp key"
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
        if (instead := instead_of_key(text, provider="pgp")) is not None:
            raise JiemiError("KeyInvalid", f"{name} is {instead[0]}", instead[1])
        raise JiemiError(
            "KeyInvalid",
            f"{name} is no private key that gpg can read",
            "Put the whole output of `gpg --export-secret-keys --armor KEY` there, with its line breaks.",
        )
    return found


async def _expiry(runner: _Runner) -> int | None:
    """When the first key or subkey expires that can decrypt (GnuPG's doc/DETAILS, fields 7 and 12)."""
    finished = await runner.run("--with-colons", "--list-keys", stdin=b"", what="listing the pgp keys")
    found = []
    for line in finished.stdout.decode("ascii", "replace").splitlines():
        fields = line.split(":")
        if fields[0] in ("pub", "sub") and len(fields) > 11 and "e" in fields[11] and fields[6].isdecimal():
            found.append(int(fields[6]))
    return min(found, default=None)


def _require_usable(found: Iterable[Path], name: str, *, has_passphrase: bool) -> bool:
    """Refuse keys that can't be used without asking somebody, which gpg would not say before it decrypts.

    gpg-agent keeps one file a key (GnuPG's agent/keyformat.txt), as it came in the import: protected or not.

    Args:
        found: the files of what was imported.
        name: where it comes from, for messages.

    Returns:
        Whether any is protected.
    """
    files = [path.read_bytes() for path in found]
    if not any(b"private-key" in each and b"shadowed-private-key" not in each for each in files):
        raise JiemiError(
            "KeyInvalid",
            f"{name} holds no secret part, only a stub of a key that is kept elsewhere (a smart card, say)",
            "Export the key with `gpg --export-secret-keys --armor KEY` where its secret part is, or encrypt the file "
            "for a key that can be exported.",
        )
    locked = [b"protected-private-key" in each and _UNPROTECTED.search(each) is None for each in files]
    if all(locked) and not has_passphrase:
        raise JiemiError(
            "KeyInvalid",
            f"{name} is protected by a passphrase, and {_PASSPHRASE_FIELD} gives none",
            f"Put the key's passphrase into {_PASSPHRASE_FIELD}, or give a key without one.",
        )
    return any(locked)


async def _unlock(passphrase: SensitiveText, names: Mapping[str, str], runner: _Runner) -> None:
    """Give the passphrase to the agent for each key, and see that it is the right one.

    By PRESET_PASSPHRASE of the agent's own protocol (GnuPG's manual, "Agent PRESET_PASSPHRASE"), so that it is on no
    command line and in no file.
    """
    hexadecimal = passphrase.reveal().rstrip("\r\n").encode("utf-8", "replace").hex().upper()
    stream = await trio.open_unix_socket(runner.home / "S.gpg-agent")
    async with stream:
        answers = _Lines(stream)
        await answers.expect_ok()
        for path in (runner.home / "private-keys-v1.d").glob("*.key"):
            await stream.send_all(f"PRESET_PASSPHRASE {path.stem} -1 {hexadecimal}\n".encode())
            await answers.expect_ok()
    for fingerprint, name in names.items():
        # Only using a key shows whether the passphrase opens it.
        sealed = await runner.run("--encrypt", "--recipient", fingerprint, stdin=b"x", what="trying the pgp key")
        if sealed.returncode != 0:
            continue  # it has expired, say: it may open what it was used for, but no longer seals anything
        opened = await runner.run("--decrypt", stdin=sealed.stdout, what="trying the pgp key")
        if opened.returncode != 0:
            raise JiemiError(
                "KeyInvalid",
                f"{_PASSPHRASE_FIELD} is not the passphrase of {name}",
                f"Correct the passphrase in {_PASSPHRASE_FIELD}; the key itself can be read.",
            )


class _Lines:
    """Lines of the agent's answers (Assuan: https://www.gnupg.org/documentation/manuals/assuan/)."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._rest = b""

    async def expect_ok(self) -> None:
        """Raises JiemiError where the next answer is no OK."""
        while b"\n" not in self._rest:
            data = await self._stream.receive_some(4096)
            if not data or len(self._rest) > _MAX_LINE_BYTES:
                break
            self._rest += bytes(data)
        line, _, self._rest = self._rest.partition(b"\n")
        if not line.startswith(b"OK"):
            raise JiemiError("InternalError", "gpg-agent took no passphrase: it is of a version that can't be used")
