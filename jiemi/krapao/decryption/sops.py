"""Decryption by three processes, none of which can do harm alone.

    opener   `sops decrypt`: reads the file on standard input. It holds no credential, has no network and sees no file
             but its own program; it asks for data keys on a socket
    guard    (`guard.py`, in this process): sees each request as a structure, and lets through what the Decryptor allows
    holder   (`holders.py`) `sops keyservice`: has the credentials of one Decryptor in its environment; reads no file

Of a YAML file with one document sops is asked for JSON. Its YAML can't be trusted with texts of several lines: one
that begins with a tab comes out as null (v3.13.3; stores/yaml drops the error of yaml.v3), and its JSON is read ten
times as fast. Its JSON in turn leaves out all documents but the first, so what may have several comes as YAML, and is
checked for values that were lost. dotenv and INI files come as JSON too; binary ones as they are.

A file that is wanted as it is comes as sops itself indents it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
from collections.abc import AsyncIterator, Hashable
from pathlib import Path

import attrs
import outcome
import structlog
import trio

from jiemi.concurrency.askers import Askers
from jiemi.concurrency.fair_limiter import FairLimiter, Slot
from jiemi.core.content.formats import Format
from jiemi.core.content.sops_config import Indents
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveBytes
from jiemi.krapao.confinement.private_folders import private_folder, remove_abandoned, write_file
from jiemi.krapao.confinement.probe import probe
from jiemi.krapao.confinement.processes import Finished, Limits, run_program
from jiemi.krapao.confinement.spawn import LIBRARIES, LOADERS, Command, Confinement, Measures, Sandbox
from jiemi.krapao.decryption.environments import EMPTY_ENVIRONMENT, NO_NETWORK_ENVIRONMENT
from jiemi.krapao.decryption.gpg import end_agent, remove_sockets
from jiemi.krapao.decryption.guard import Guard, KeyServices
from jiemi.krapao.decryption.holder_start import HolderPrograms
from jiemi.krapao.decryption.holders import Holders
from jiemi.krapao.decryption.port import Budget, Decrypted, RenderingShare, WantedForm
from jiemi.krapao.decryption.sops_exit import explain_exit, no_key
from jiemi.krapao.fair_threads import FairThreads
from jiemi.krapao.metrics import KrapaoMetrics
from jiemi.krapao.reading.reader import Reading
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.keys import DecryptionKey
from jiemi.tracing.current import span

log = structlog.get_logger("jiemi.krapao.decryption")

_SOPS_CONFIG = """\
stores:
  yaml:
    indent: {}
  json:
    indent: {}
"""
"""The .sops.yaml of each run, so that sops looks for none in the folders above."""

_READABLE = Indents(yaml=2)
"""For what is read here. With another indentation, its own of 4 too, sops writes what no YAML parser reads where a list
has a text of several lines that begins with a space or an empty one."""

_INDICATED = re.compile(rb"[|>][1-9][-+]?$", re.MULTILINE)
"""A block scalar that says how it is indented. Only such a one can be unreadable for that."""

_MAY_BEGIN_A_DOCUMENT = re.compile(rb"(?:^|[\n\r]|\xc2\x85|\xe2\x80[\xa8\xa9])(?:\xef\xbb\xbf)*(?:---|\.\.\.)")
"""Without one of these at the start of a line, as yaml.v3 sees lines, there is one document."""

_DOCUMENT = re.compile(r"^\ufeff*---(?=\s|$)", re.MULTILINE)
_NOTHING_YET = re.compile(r"\s*+(?:[#%][^\n]*+\s*+)*+")

_NO_TEXT = re.compile(rb"(?<!\\)(?:\\\\)*\\ufffd")
"""What Go's encoding/json writes for bytes that are no UTF-8. The character itself it writes as it is."""


@attrs.frozen
class _Run:
    """A file that is to be opened once, and what for.

    Attributes:
        output: the format in which sops is to write it.
        indents: how sops is to indent it.
        threads: for work that takes a while.
    """

    data: bytes
    format: Format
    output: Format
    indents: Indents
    budget: Budget
    askers: Askers
    threads: FairThreads


class SopsDecrypter:
    """The port `Decrypter` by the real sops. `open_decrypter` makes one."""

    def __init__(self, nursery: trio.Nursery, settings: KrapaoSettings, metrics: KrapaoMetrics | None = None) -> None:
        self._settings = settings
        self._metrics = metrics if metrics is not None else KrapaoMetrics()
        self._holders = Holders(nursery, settings)
        self._metrics.watch_holders(lambda: self._holders.count)
        self._limiter = FairLimiter(settings.decrypt_concurrency)
        self._metrics.watch_slots("decryptions", self._limiter)
        self._checkers = FairLimiter(1)
        self._preparing = trio.Lock()
        self.reading = Reading(settings, self.measures)
        self._measures: Measures | None = None
        self._limits = Limits(
            seconds=settings.decrypt_timeout_seconds,
            cpu_seconds=settings.decrypt_cpu_seconds,
            memory_bytes=settings.decrypt_memory_bytes,
            output_bytes=settings.max_rendered_bytes,
        )

    @property
    def holder_count(self) -> int:
        """How many processes hold credentials now."""
        return self._holders.count

    def own(self, owner: Hashable, keys: tuple[DecryptionKey, ...]) -> None:
        """As `Decrypter.own`."""
        self._holders.own(owner, keys)

    def budget(self) -> Budget:
        """As `Decrypter.budget`."""
        limits = self._limits
        return Budget(limits.seconds, self._settings.max_key_requests, limits.output_bytes)

    async def decrypt(
        self,
        data: bytes,
        format: Format,
        keys: tuple[DecryptionKey, ...],
        *,
        allowed_recipients: tuple[str, ...] = (),
        form: WantedForm = WantedForm(),  # noqa: B008 - frozen
        rendering: RenderingShare = RenderingShare(),  # noqa: B008 - frozen
    ) -> Decrypted:
        """As `Decrypter.decrypt`."""
        outcome_word = "cancelled"
        askers = rendering.askers or Askers()
        run = _Run(
            data,
            format,
            output=form.output or (format if form.whole else _output_format(data, format)),
            indents=form.indents if form.whole else _READABLE,
            budget=rendering.budget if rendering.budget is not None else self.budget(),
            askers=askers,
            threads=FairThreads(self._checkers, askers),
        )
        try:
            if form.output is not None:
                await _require_one_document(run)
            with span("decrypt"):
                found = await self._decrypt_in_slot(run, keys, allowed_recipients, rendering.repository)
            outcome_word = "ok"
        except JiemiError as error:
            outcome_word = error.failure.reason
            raise
        finally:
            self._metrics.decryption(outcome_word)
            log.debug("decrypted", outcome=outcome_word, format=format.value, size_bytes=len(data))
        return found

    async def _decrypt_in_slot(
        self, run: _Run, keys: tuple[DecryptionKey, ...], allowed_recipients: tuple[str, ...], repository: str
    ) -> Decrypted:
        settings, budget = self._settings, run.budget
        sops = find_program(settings.sops, "sops", settings.programs_path)
        if sops is None:
            raise JiemiError("SopsMissing", "Krapao finds no sops program at the path it was given, or on its path")
        gpg = find_program(settings.gpg, "gpg", settings.programs_path)
        guard: Guard | None = None

        async def in_slot(slot: Slot) -> Decrypted | None:
            nonlocal guard
            guard = None
            began = trio.current_time()
            with trio.move_on_after(max(0.0, budget.seconds)):
                programs = HolderPrograms(sops, gpg, await self.measures())
                guard = Guard(
                    keys,
                    KeyServices(self._holders, programs, settings, self._metrics),
                    allowed_recipients=allowed_recipients,
                    rendering=RenderingShare(askers=run.askers, repository=repository, budget=budget),
                )
                slot.is_slow = guard.waits_long
                try:
                    decrypted = await self._decrypt(run, sops, guard)
                except JiemiError:
                    budget.spend(trio.current_time() - began, guard.requests)
                    raise
                # A run whose slot is taken back begins again, with as much as the first time.
                budget.spend(trio.current_time() - began, guard.requests, len(decrypted.plain))
                return decrypted
            return None

        found = await self._limiter.run(run.askers, in_slot)  # waited for as long as the caller waits
        if found is not None:
            return found
        if guard is not None and guard.waited_for_others:
            raise no_key(run.data, guard)
        raise JiemiError(
            "Timeout", f"decrypting the file took longer than Krapao's limit of {self._limits.seconds:g} s"
        )

    async def measures(self) -> Measures:
        """What confines the processes here. The first time, it finds that out and removes what killed runs left."""
        async with self._preparing:
            if self._measures is None:
                for folder in remove_abandoned(self._settings.runtime_dir, end_agent):
                    remove_sockets(folder)
                self._measures = await self._probe()
                log.info("confinement", by=self._measures.describe())
                if not self._measures.cut_network:
                    log.warning("no_network_cut", why="openers are kept from the network by their environment only")
            return self._measures

    async def _probe(self) -> Measures:
        try:
            return await probe(folder=self._settings.runtime_dir, programs_path=self._settings.programs_path)
        except OSError as error:
            raise JiemiError(
                "InternalError", f"Krapao can't find out how to confine a process: {error.strerror}"
            ) from error

    async def _decrypt(self, run: _Run, sops: Path, guard: Guard) -> Decrypted:
        output, threads = run.output, run.threads

        async def opened(indents: Indents) -> bytes:
            with private_folder(self._settings.runtime_dir) as home:
                write_file(home / ".sops.yaml", _SOPS_CONFIG.format(indents.yaml, indents.json))
                finished = await self._open(run, home, sops, guard)
            if finished.returncode != 0:
                raise await threads.run(explain_exit, finished, run.data, run.format, output, guard)
            return finished.stdout

        plain = await opened(run.indents)
        if output is Format.YAML and run.indents != _READABLE and _INDICATED.search(plain) is not None:
            readable = await opened(_READABLE)
            if not await self._says_the_same(plain, readable, threads):
                plain = readable
        if output is Format.YAML and b"null" in plain:
            if await self.reading.lost_values(run.data, SensitiveBytes(plain), threads=threads):
                raise JiemiError(
                    "DecryptionFailed",
                    "sops loses a text of several lines that begins with a tab where a file has several documents, "
                    "begins with --- or is a value",
                    "Put that document into a file of its own, and encrypt what becomes a value as bytes "
                    "(--input-type binary).",
                )
        elif output is Format.JSON and b"\\ufffd" in plain and _NO_TEXT.search(plain) is not None:
            raise JiemiError("UnknownFormat", "a value of the file is no UTF-8 text", "Keep it as base64 under `data`.")
        return Decrypted(SensitiveBytes(plain), guard.vault_address, guard.key_expires_at)

    async def _says_the_same(self, plain: bytes, readable: bytes, threads: FairThreads) -> bool:
        """Whether a file means what another does. One that can't be compared counts as one that does."""
        try:
            wanted = await self.reading.decrypted(SensitiveBytes(readable), Format.YAML, threads=threads)
        except JiemiError:
            return True
        try:
            return wanted == await self.reading.decrypted(SensitiveBytes(plain), Format.YAML, threads=threads)
        except JiemiError:
            return False

    async def _open(self, run: _Run, home: Path, sops: Path, guard: Guard) -> Finished:
        """Run an opener beside its guard."""
        socket = home / "g"
        confinement = Confinement(network=False, read_execute=(sops, *LOADERS), read=(*LIBRARIES, home))
        command = Command(
            _opener_arguments(sops, socket, run.format, run.output),
            env={**EMPTY_ENVIRONMENT, **NO_NETWORK_ENVIRONMENT, "HOME": str(home), "XDG_CONFIG_HOME": str(home)},
            cwd=home,
            sandbox=Sandbox(confinement, guard.measures),
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(guard.serve, socket)
            with span("sops"), self._metrics.sops_run():
                result = await outcome.acapture(
                    run_program,
                    command,
                    stdin=run.data,
                    limits=attrs.evolve(self._limits, output_bytes=run.budget.output_bytes),
                    what="decrypting the file",
                    missing="SopsMissing",
                    on_started=guard.expect,
                )
            nursery.cancel_scope.cancel()
        return result.unwrap()  # out of the nursery, which would make a group of an error


@contextlib.asynccontextmanager
async def open_decrypter(
    settings: KrapaoSettings, metrics: KrapaoMetrics | None = None
) -> AsyncIterator[SopsDecrypter]:
    """A decrypter, for as long as the context lasts; then every process of its is ended."""
    async with trio.open_nursery() as nursery:
        yield SopsDecrypter(nursery, settings, metrics)
        nursery.cancel_scope.cancel()


def _opener_arguments(sops: Path, guard: Path, format: Format, output: Format) -> list[str]:
    # Flags before the word `decrypt` are silently ignored.
    return [
        *(str(sops), "decrypt", "--enable-local-keyservice=false", "--keyservice", f"unix://{guard}"),
        *("--input-type", format.value, "--output-type", output.value),
    ]


def find_program(given: Path | None, name: str, programs_path: str) -> Path | None:
    """A program's path, or None where there is none now."""
    if given is None:
        found = shutil.which(name, path=programs_path)
        return Path(found).absolute() if found is not None else None
    given = given.absolute()  # it runs in another folder
    return given if given.is_file() and os.access(given, os.X_OK) else None


def _output_format(data: bytes, format: Format) -> Format:
    if format in (Format.DOTENV, Format.INI):
        return Format.JSON
    if format is not Format.YAML:
        return format
    try:
        data.decode()
    except UnicodeDecodeError:  # yaml.v3 reads UTF-16 too, where document marks look different
        return format
    return Format.JSON if _MAY_BEGIN_A_DOCUMENT.search(data) is None else format


async def _require_one_document(run: _Run) -> None:
    """Refuse a file of which the format that is asked for could hold a part only."""
    if run.format is Format.YAML is not run.output and await run.threads.run(_has_several_documents, run.data):
        raise JiemiError(
            "UnknownFormat",
            f"it has several documents, of which sops would write the first only as {run.output.value}, which the "
            "name asks for",
            "Give it the ending .yaml.",
        )


def _has_several_documents(data: bytes) -> bool:
    """Whether a YAML file may have more than one document."""
    text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", "replace")
    lines = "\n".join(text.splitlines())
    begin = _NOTHING_YET.match(lines)
    marks = [mark.start() for mark in itertools.islice(_DOCUMENT.finditer(lines), 2)]
    return len(marks) > 1 or (len(marks) == 1 and begin is not None and marks[0] > begin.end())
