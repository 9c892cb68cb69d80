"""Decryption by one run of `sops decrypt`: the file on standard input, the keys in an environment made from nothing.

sops looks for keys in many places and, as the file says, at key services in the net. Here it finds none: its home
is an empty folder, no variable that runs a command is set, and it runs in a network namespace of its own where that
is permitted (unshare(1)). Where it is not, the environment alone shuts the ways out: each cloud library is told of
an identity that does not exist and of proxies and addresses where nobody listens, and the list of Vault addresses
allows one that can't be.

Of a YAML file with one document sops is asked for JSON. Its YAML can't be trusted with texts of several lines: one
that begins with a tab comes out as null (v3.13.3; stores/yaml drops the error of yaml.v3), and its JSON is read ten
times as fast. Its JSON in turn leaves out all documents but the first, so what may have several comes as YAML, and is
checked for values that were lost.

How sops ended is told by its exit status first (cmd/sops/codes/codes.go of v3.13) and by phrases of its messages
second. Its messages quote keys' names and pieces of the file, so they are looked at and dropped; none of their text
goes on.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import structlog
import trio

from jiemi.core.documents import MAX_NODES, Format, parse_documents
from jiemi.core.errors import JiemiError, Kind
from jiemi.core.sensitive import SensitiveBytes
from jiemi.krapao.decryption import recipients
from jiemi.krapao.decryption.gpg import open_keyring, remove_sockets
from jiemi.krapao.decryption.private_folders import private_folder, remove_abandoned, write_file
from jiemi.krapao.decryption.processes import Finished, Limits, run_program
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.keys import AgeKey, DecryptionKey, PgpKey

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

_SOPS_CONFIG = """\
stores:
  yaml:
    indent: 2
"""
"""The .sops.yaml of each run, so that sops looks for none in the folders above. With its own indentation, of 4, sops
writes what no YAML parser reads where a list has a text of several lines that begins with a space or an empty one."""

_NOT_EXECUTED = (126, 127)
"""Of unshare(1), and of the shell that execvp(3) runs what is no program with. sops has no such status."""

_EXIT_DUMP, _EXIT_DECRYPT_MAC, _EXIT_DECRYPT_TREE = 4, 24, 25
_EXIT_MAC_MISMATCH, _EXIT_MAC_NOT_FOUND, _EXIT_NO_KEY = 51, 52, 128

_MAY_BEGIN_A_DOCUMENT = re.compile(rb"(?:^|[\n\r]|\xc2\x85|\xe2\x80[\xa8\xa9])(?:\xef\xbb\xbf)*(?:---|\.\.\.)")
"""Without one of these at the start of a line, as yaml.v3 sees lines, there is one document."""

_NO_TEXT = re.compile(rb"(?<!\\)(?:\\\\)*\\ufffd")
"""What Go's encoding/json writes for bytes that are no UTF-8. The character itself it writes as it is."""

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
        self._checkers = trio.CapacityLimiter(1)
        self._preparing = trio.Lock()
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
        async with self._limiter:  # waited for as long as the caller waits
            seconds = self._limits.seconds
            with trio.move_on_after(seconds):
                return await self._decrypt(sops, gpg, data, format, age, pgp)
        raise JiemiError("Timeout", f"decrypting the file took longer than Krapao's limit of {seconds:g} s")

    async def _decrypt(
        self,
        sops: Path,
        gpg: Path | None,
        data: bytes,
        format: Format,
        age: recipients.AgeIdentities,
        pgp: tuple[PgpKey, ...],
    ) -> SensitiveBytes:
        isolation = await self._prepare(sops)
        environment = dict(_ENVIRONMENT)
        if age.text:
            environment["SOPS_AGE_KEY"] = age.text
        if not pgp or gpg is None:
            with private_folder(self._settings.runtime_dir) as home:
                return await self._run(sops, isolation, data, format, home, environment, age.recipients)
        async with open_keyring(pgp, gpg=gpg, runtime_dir=self._settings.runtime_dir, limits=self._limits) as keyring:
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
        write_file(home / ".sops.yaml", _SOPS_CONFIG)
        output = _output_format(data, format)
        # Flags before the word `decrypt` are silently ignored.
        argv = [*isolation, str(sops), "decrypt", "--input-type", format.value, "--output-type", output.value]
        finished = await run_program(
            argv,
            stdin=data,
            env=environment,
            cwd=home,
            limits=self._limits,
            what="decrypting the file",
            missing="SopsMissing",
        )
        if finished.returncode == 0:
            plain = finished.stdout
            if output is Format.YAML and b"null" in plain:
                await trio.to_thread.run_sync(_require_all_values, data, plain, limiter=self._checkers)
            elif output is Format.JSON and b"\\ufffd" in plain and _NO_TEXT.search(plain) is not None:
                raise JiemiError(
                    "UnknownFormat", "a value of the file is no UTF-8 text: keep it as base64 under `data`"
                )
            return SensitiveBytes(plain)
        raise _explain(finished, data, format, offered)

    async def _prepare(self, sops: Path) -> tuple[str, ...]:
        """Once: find what to put before a command so that it has no network, and remove what killed runs left."""
        async with self._preparing:
            if self._isolation is None:
                for folder in remove_abandoned(self._settings.runtime_dir):
                    remove_sockets(folder)
                self._isolation = await self._probe(sops)
                log.info("network_isolation", by=" ".join(Path(each).name for each in self._isolation) or "environment")
            return self._isolation

    async def _probe(self, sops: Path) -> tuple[str, ...]:
        unshare = find_program(None, "unshare", self._settings.programs_path)
        if unshare is None:
            return ()
        # The user stays the same: as another one gpg would look for its agent elsewhere.
        for options in (("--net",), ("--user", "--map-current-user", "--net")):
            with private_folder(self._settings.runtime_dir) as home:
                try:
                    finished = await run_program(
                        [str(unshare), *options, "--", str(sops), "decrypt", "--help"],
                        stdin=b"",
                        env={**_ENVIRONMENT, "HOME": str(home)},
                        cwd=home,
                        limits=self._limits,
                        what="trying unshare",
                        missing="SopsMissing",
                    )
                except JiemiError as error:
                    if error.failure.kind is Kind.TRANSIENT:
                        raise
                    continue
            if finished.returncode == 0:
                return (str(unshare), *options, "--")
        return ()


def find_program(given: Path | None, name: str, programs_path: str) -> Path | None:
    """A program's path, or None where there is none now."""
    if given is None:
        found = shutil.which(name, path=programs_path)
        return Path(found).absolute() if found is not None else None
    given = given.absolute()  # it runs in another folder
    return given if given.is_file() and os.access(given, os.X_OK) else None


def _output_format(data: bytes, format: Format) -> Format:
    try:
        data.decode()
    except UnicodeDecodeError:  # yaml.v3 reads UTF-16 too, where document marks look different
        return format
    return Format.JSON if _MAY_BEGIN_A_DOCUMENT.search(data) is None else format


def _require_all_values(data: bytes, plain: bytes) -> None:
    """Refuse YAML of sops's in which values became null. Nulls are not encrypted, so the file has them all already."""
    if _nulls(plain) > _nulls(data):
        raise JiemiError(
            "DecryptionFailed",
            "sops loses a text of several lines that begins with a tab where a file has several documents (or begins "
            "with ---): put that document into a file of its own",
        )


def _nulls(data: bytes) -> int:
    documents = parse_documents(data, Format.YAML, max_documents=MAX_NODES)
    return sum(_nulls_in({**json.loads(each), "sops": 0}) for each in documents)


def _nulls_in(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(_nulls_in, value.values()))
    if isinstance(value, list):
        return sum(map(_nulls_in, value))
    return int(value is None)


def _explain(  # noqa: PLR0911 - a table
    finished: Finished, data: bytes, format: Format, offered: tuple[str, ...]
) -> JiemiError:
    """The reason for which sops ended with an error. No text of its own is in it."""
    status = finished.returncode
    words = " ".join(re.sub(r"[|\s]+", " ", finished.stderr.decode("utf-8", "replace")).split()).lower()
    if status in _NOT_EXECUTED:
        return JiemiError("SopsMissing", "Krapao's sops is there, but is no program that can be run")
    if words.startswith("unshare: "):
        return JiemiError("InternalError", "Krapao can't make a network namespace now, though it could before")
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
        return JiemiError("UnknownFormat", "the file holds what JSON has no form for, like NaN")
    if _NOT_ENCRYPTED.search(words):
        return JiemiError("NotEncrypted", "the file has no sops block: it is not encrypted with sops")
    if _NOT_THE_FORMAT.search(words):
        return JiemiError("UnknownFormat", f"the encrypted file is not {format.value}, as its name says")
    if _BLOCK_DAMAGED.search(words):
        return JiemiError("DecryptionFailed", "the file's sops block is damaged")
    return JiemiError("DecryptionFailed", f"sops ended with status {status}")
