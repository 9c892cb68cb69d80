"""Decryption by one run of `sops decrypt`: the file on standard input, the keys in an environment made from nothing.

sops looks for keys in many places and, as the file says, at key services in the net. Here it finds none: its home
is an empty folder, no variable that runs a command is set, and it runs in a network namespace of its own where that
is permitted (unshare(1)). Where it is not, the environment alone shuts the ways out: each cloud library is told of
an identity that does not exist and of proxies and addresses where nobody listens, and the list of Vault addresses
allows one that can't be.

How sops ended is told by its exit status first (cmd/sops/codes/codes.go of v3.13) and by phrases of its messages
second. Its messages quote keys' names and pieces of the file, so they are looked at and dropped; none of their text
goes on.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import attrs
import structlog
import trio

from jiemi.core.documents import Format
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveBytes
from jiemi.krapao import recipients
from jiemi.krapao.gpg import open_keyring, private_folder
from jiemi.krapao.processes import Finished, Limits, run_program
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.contract import AgeKey, DecryptionKey, PgpKey

log = structlog.get_logger("jiemi.krapao.sops")

_NOWHERE = "http://0.0.0.0:9"
"""An address of the discard port on no host: connecting fails at once, and Go does not exempt it from proxies."""

_ENVIRONMENT = {
    "PATH": "/nonexistent",
    "LC_ALL": "C",
    "SOPS_DISABLE_VERSION_CHECK": "1",
    "GOTRACEBACK": "none",  # a crash prints no stack, which would hold the file
    # No identity of the machine's own, and no metadata address (169.254.169.254) asked for one
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/nonexistent/aws",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent/aws",
    "AWS_ENDPOINT_URL": _NOWHERE,
    "AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential",
    "GOOGLE_APPLICATION_CREDENTIALS": "/nonexistent/gcp",
    "GCE_METADATA_HOST": "0.0.0.0:9",
    "SOPS_HC_VAULT_ALLOWLIST": "https://vault.invalid",
    "VAULT_ADDR": _NOWHERE,
    # Whatever still goes out goes nowhere
    "HTTP_PROXY": _NOWHERE,
    "HTTPS_PROXY": _NOWHERE,
    "ALL_PROXY": _NOWHERE,
    "NO_PROXY": "",
}

_EXIT_DUMP, _EXIT_DECRYPT_MAC, _EXIT_DECRYPT_TREE = 4, 24, 25
_EXIT_MAC_MISMATCH, _EXIT_MAC_NOT_FOUND, _EXIT_NO_KEY = 51, 52, 128

_OUT_OF_MEMORY = re.compile(r"out of memory|cannot allocate memory|failed to reserve|failed to create new os thread")
_NOT_ENCRYPTED = re.compile(r"sops metadata not found|no sops metadata")
_NOT_THE_FORMAT = re.compile(
    r"^(yaml: |could not unmarshal input data|invalid character|error unmarshal|unexpected end of json)"
)
_BLOCK_DAMAGED = re.compile(r"parsing time|version string empty|no major\.minor\.patch|sops entry|sops metadata|base64")


class SopsDecrypter:
    """Runs sops once for each file."""

    def __init__(self, settings: KrapaoSettings) -> None:
        self._settings = settings
        self._limiter = trio.CapacityLimiter(settings.decrypt_concurrency)
        self._probing = trio.Lock()
        self._isolation: tuple[str, ...] | None = None
        self._limits = Limits(
            seconds=settings.decrypt_timeout_seconds,
            cpu_seconds=settings.decrypt_cpu_seconds,
            memory_bytes=settings.decrypt_memory_bytes,
            output_bytes=settings.max_rendered_bytes,
        )

    async def decrypt(self, data: bytes, format: Format, keys: tuple[DecryptionKey, ...]) -> SensitiveBytes:
        sops = find_program(self._settings.sops, "sops", self._settings.programs_path)
        if sops is None:
            raise JiemiError("SopsMissing", "Krapao finds no sops program at the path it was given, or on its path")
        if not keys:
            raise JiemiError("KeyMissing", f"no key is given; the file is for: {recipients.of_file(data)}")
        age = recipients.read_age_keys(tuple(key for key in keys if isinstance(key, AgeKey)))
        pgp = tuple(key for key in keys if isinstance(key, PgpKey))
        gpg = find_program(self._settings.gpg, "gpg", self._settings.programs_path)
        if pgp and gpg is None:
            raise JiemiError("GpgMissing", "Krapao finds no gpg program, which a pgp key needs")
        async with self._limiter:
            isolation = await self._find_isolation(sops)
            environment = dict(_ENVIRONMENT)
            if age.text:
                environment["SOPS_AGE_KEY"] = age.text
            if not pgp or gpg is None:
                with private_folder(self._settings.runtime_dir) as home:
                    return await self._run(sops, isolation, data, format, home, environment, age.recipients)
            async with open_keyring(
                pgp, gpg=gpg, runtime_dir=self._settings.runtime_dir, limits=self._limits
            ) as keyring:
                environment |= keyring.environment
                environment["SOPS_GPG_EXEC"] = str(gpg)
                offered = (*age.recipients, *(f"pgp {each}" for each in keyring.fingerprints))
                home = Path(keyring.environment["GNUPGHOME"])
                return await self._run(sops, isolation, data, format, home, environment, offered)

    async def _run(
        self,
        sops: Path,
        isolation: tuple[str, ...],
        data: bytes,
        format: Format,
        home: Path,
        environment: dict[str, str],
        offered: tuple[str, ...],
    ) -> SensitiveBytes:
        environment["HOME"] = environment["XDG_CONFIG_HOME"] = str(home)
        # Flags before the word `decrypt` are silently ignored.
        argv = [*isolation, str(sops), "decrypt", "--input-type", format.value, "--output-type", format.value]
        try:
            finished = await run_program(
                argv, stdin=data, env=environment, cwd=home, limits=self._limits, what="decrypting the file"
            )
        except OSError as error:
            raise JiemiError("SopsMissing", f"Krapao's sops can't be run: {error.strerror}") from error
        if finished.returncode == 0:
            return SensitiveBytes(finished.stdout)
        raise _explain(finished, data, format, offered)

    async def _find_isolation(self, sops: Path) -> tuple[str, ...]:
        """What to put before a command so that it has no network; found out once."""
        async with self._probing:
            if self._isolation is None:
                self._isolation = await self._probe(sops)
                log.info("network_isolation", by=" ".join(Path(each).name for each in self._isolation) or "environment")
            return self._isolation

    async def _probe(self, sops: Path) -> tuple[str, ...]:
        unshare = find_program(None, "unshare", self._settings.programs_path)
        if unshare is None:
            return ()
        limits = attrs.evolve(self._limits, seconds=5, output_bytes=64 * 1024)
        for options in (("--net",), ("--user", "--map-root-user", "--net")):
            with private_folder(self._settings.runtime_dir) as home:
                finished = await run_program(
                    [str(unshare), *options, "--", str(sops), "--version"],
                    stdin=b"",
                    env={**_ENVIRONMENT, "HOME": str(home)},
                    cwd=home,
                    limits=limits,
                    what="unshare",
                )
            if finished.returncode == 0:
                return (str(unshare), *options, "--")
        return ()


def find_program(given: Path | None, name: str, programs_path: str) -> Path | None:
    """A program's path, or None where there is none now."""
    if given is None:
        found = shutil.which(name, path=programs_path)
        return Path(found) if found is not None else None
    return given if shutil.which(str(given)) is not None else None


def _explain(  # noqa: PLR0911 - a table
    finished: Finished, data: bytes, format: Format, offered: tuple[str, ...]
) -> JiemiError:
    """The reason for which sops ended with an error. No text of its own is in it."""
    status = finished.returncode
    words = " ".join(re.sub(r"[|\s]+", " ", finished.stderr.decode("utf-8", "replace")).split()).lower()
    if status < 0 or _OUT_OF_MEMORY.search(words):
        return JiemiError("LimitExceeded", "decrypting the file took more processor time or memory than Krapao's limit")
    if status == _EXIT_NO_KEY:
        given = ", ".join(offered[:5]) or "none"
        return JiemiError(
            "KeyMissing", f"no key given opens the file. It is for: {recipients.of_file(data)}. Given: {given}"
        )
    if status in (_EXIT_MAC_MISMATCH, _EXIT_MAC_NOT_FOUND, _EXIT_DECRYPT_MAC):
        return JiemiError("MacMismatch", "the file's MAC does not match its content: it was changed without sops")
    if status == _EXIT_DECRYPT_TREE:
        return JiemiError("MacMismatch", "a value of the file does not decrypt: it was changed without sops")
    if status == _EXIT_DUMP:
        return JiemiError("UnknownFormat", f"what the file decrypts to can't be written as {format.value}")
    if _NOT_ENCRYPTED.search(words):
        return JiemiError("NotEncrypted", "the file has no sops block: it is not encrypted with sops")
    if _NOT_THE_FORMAT.search(words):
        return JiemiError("UnknownFormat", f"the encrypted file is not {format.value}, as its name says")
    if _BLOCK_DAMAGED.search(words):
        return JiemiError("DecryptionFailed", "the file's sops block is damaged")
    return JiemiError("DecryptionFailed", f"sops ended with status {status}")
