"""A keyring for one run: a GNUPGHOME of its own on a tmpfs, with its agent, and nothing of either afterwards.

gpg keeps secret keys with gpg-agent, which gpg normally starts by itself as a daemon that outlives it, in a session
of its own. Here the agent is started first, and told to stay in the session that it was started in (`--no-detach`; it
forks all the same), and gpg is told to start none (`no-autostart`). So ending that session ends the agent, and the
agent never holds a pipe of ours.
There is no pinentry, no smart card daemon and no key server: a key that would ask for anything fails.

The folder's path must be short, for the agent's socket is in there: sun_path of unix(7) has 108 bytes.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import attrs
import trio

from jiemi.core.errors import JiemiError
from jiemi.krapao.processes import Limits, run_program, running
from jiemi.rpc.contract import PgpKey

_FIELD = "provider.pgp.privateKey"
_MAX_HOME_CHARACTERS = 107 - len("/S.gpg-agent.browser")
_AGENT_SECONDS = 10
_MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs"})
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


@contextlib.contextmanager
def private_folder(runtime_dir: Path) -> Iterator[Path]:
    """An empty folder that is gone afterwards. Blocking, but of memory."""
    try:
        path = Path(tempfile.mkdtemp(prefix="jiemi-", dir=runtime_dir))
    except OSError as error:
        raise JiemiError("StorageFailed", f"Krapao's runtime folder: {error.strerror}") from error
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def require_memory(path: Path) -> None:
    """Refuse a folder that is not on a tmpfs or ramfs.

    Raises:
        JiemiError: StorageFailed.
    """
    where, kind = Path("/"), ""
    try:
        resolved = path.resolve(strict=True)
        for line in Path("/proc/self/mounts").read_text().splitlines():  # the last one at a place is the one on top
            fields = line.split()
            mount = Path(fields[1].encode().decode("unicode_escape"))
            if resolved.is_relative_to(mount) and len(mount.parts) >= len(where.parts):
                where, kind = mount, fields[2]
    except OSError as error:
        raise JiemiError("StorageFailed", f"Krapao's runtime folder: {error.strerror}") from error
    if kind not in _MEMORY_FILE_SYSTEMS:
        raise JiemiError(
            "StorageFailed",
            "Krapao's runtime folder is not on a tmpfs, so no pgp key is put there; give one that is (`--runtime-dir`)",
        )


@contextlib.asynccontextmanager
async def open_keyring(
    keys: tuple[PgpKey, ...], *, gpg: Path, runtime_dir: Path, limits: Limits
) -> AsyncIterator[Keyring]:
    """A keyring with the keys, for as long as the context lasts.

    Raises:
        JiemiError: KeyInvalid; GpgMissing; StorageFailed; LimitExceeded.
    """
    require_memory(runtime_dir)
    with private_folder(runtime_dir) as home:
        if len(str(home)) > _MAX_HOME_CHARACTERS:
            raise JiemiError("StorageFailed", "the path of Krapao's runtime folder is too long for a socket in it")
        _configure(home)
        environment = {"GNUPGHOME": str(home), "HOME": str(home), "PATH": "/nonexistent", "LC_ALL": "C"}
        async with _agent(gpg, home, environment):
            fingerprints: list[str] = []
            for key in keys:
                fingerprints += await _import(key, gpg, home, environment, limits)
            yield Keyring(environment, tuple(dict.fromkeys(fingerprints)))


def _configure(home: Path) -> None:
    (home / "gpg.conf").write_text(_GPG_CONF)
    (home / "gpg-agent.conf").write_text(_AGENT_CONF)
    (home / "common.conf").write_text("")  # so that no distribution's default brings keyboxd in


@contextlib.asynccontextmanager
async def _agent(gpg: Path, home: Path, environment: dict[str, str]) -> AsyncIterator[None]:
    program = gpg.with_name("gpg-agent")
    if not program.is_file():
        raise JiemiError("GpgMissing", f"{gpg} is there, but no gpg-agent beside it")
    argv = [str(program), "--homedir", str(home), "--no-detach", "--daemon"]
    async with running(argv, env=environment, cwd=home) as process:
        with trio.move_on_after(_AGENT_SECONDS):
            await process.wait()  # it makes its socket, forks, and leaves
        if process.returncode != 0:
            raise JiemiError("DecryptionFailed", "gpg-agent did not start")
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
        what="gpg",
    )
    found = []
    for line in finished.stdout.decode("ascii", "replace").splitlines():
        fields = line.split()
        if fields[:2] == ["[GNUPG:]", "IMPORT_OK"] and len(fields) == 4 and int(fields[2]) & _SECRET_KEY_FLAG:
            found.append(fields[3])
    if not found:
        raise JiemiError(
            "KeyInvalid",
            f"{_FIELD} is no private key that gpg can read; give the whole text of `gpg --export-secret-keys --armor`, "
            "with its line breaks",
        )
    return found
