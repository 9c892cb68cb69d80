"""`jiemi doctor` checks what Krapao needs on this machine or in this Pod: programs, memory, its certificate, and what
confines the processes that decrypt.

It tests each for real, as Krapao does when it starts, and changes nothing.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import attrs
import trio
from rich.table import Table
from rich.text import Text

from jiemi.certificates import SERVER_AUTH
from jiemi.cli.command_flags import DoctorFlags
from jiemi.cli.console import table_console
from jiemi.cli.errors import CommandError
from jiemi.cli.programs import GET_GPG, GET_SOPS, find_gpg, find_sops
from jiemi.core.errors import JiemiError
from jiemi.krapao.confinement.private_folders import private_folder, require_memory
from jiemi.krapao.confinement.probe import probe
from jiemi.krapao.confinement.processes import Limits, adopt_orphans, run_program
from jiemi.krapao.confinement.spawn import LIBRARIES, LOADERS, MEASURES, Command, Confinement, Measures, Sandbox
from jiemi.krapao.decryption.environments import EMPTY_ENVIRONMENT
from jiemi.krapao.decryption.gpg import GPG_FILES
from jiemi.rpc.session_secret import SessionSecretError, read_secret_file
from jiemi.rpc.tls import TlsError, TlsFolder
from jiemi.rpc.tls_names import KEY

_STYLES = {"ok": "green", "warning": "yellow", "missing": "red"}
_LIMITS = Limits(seconds=20, cpu_seconds=10, memory_bytes=320 * 1024**2, output_bytes=64 * 1024)

TLS_IN_THE_POD = Path("/etc/krapao-tls")
"""Where deploy/repository.yaml mounts Krapao's certificate."""


@attrs.frozen
class Finding:
    """One line of the table: what was looked at; "ok", "warning" or "missing"; and a sentence."""

    name: str
    state: str
    text: str


@attrs.frozen
class _Program:
    """A program that Krapao runs.

    Attributes:
        name: as on the PATH.
        absent: the finding's state where it can't be run.
        what_for: why it is needed.
        get: what the user can do to have it.
    """

    name: str
    absent: str
    what_for: str
    get: str


_SOPS = _Program("sops", "missing", "needed for everything", GET_SOPS)
_GPG = _Program("gpg", "warning", "needed for pgp keys", GET_GPG)


def run(flags: DoctorFlags) -> None:
    """Print the findings.

    Raises:
        CommandError: something that Krapao needs is missing.
    """
    adopt_orphans()
    examined = trio.run(_examine, flags.runtime_dir, find_sops(flags.sops), find_gpg(flags.gpg))
    findings = [*examined, certificates(flags.tls_dir)]
    if flags.session_secret_file is not None:
        findings.append(session_secret(flags.session_secret_file))
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("WHAT", "STATE", "FINDING"):
        table.add_column(column, no_wrap=column != "FINDING")
    for finding in findings:
        table.add_row(finding.name, Text(finding.state, style=_STYLES[finding.state]), Text(finding.text))
    table_console().print(table)
    missing = [finding.name for finding in findings if finding.state == "missing"]
    if missing:
        raise CommandError(f"missing: {', '.join(missing)}")


async def _examine(runtime_dir: Path, sops: Path | None, gpg: Path | None) -> list[Finding]:
    path = os.environ.get("PATH", os.defpath)
    memory = _memory(runtime_dir)
    try:
        measures = await probe(folder=runtime_dir, programs_path=path)
    except OSError as error:
        return [memory, Finding("confinement", "missing", f"can't be tested: {error.strerror}")]
    return [
        await _examine_program(_SOPS, sops, runtime_dir, measures),
        await _examine_program(_GPG, gpg, runtime_dir, measures),
        memory,
        _swap(),
        *_confinement(measures),
    ]


def _memory(runtime_dir: Path) -> Finding:
    try:
        require_memory(runtime_dir)
    except JiemiError as error:
        return Finding("runtime folder", "warning", error.failure.text)
    return Finding("runtime folder", "ok", f"{runtime_dir} is in memory")


def _swap() -> Finding:
    try:
        lines = Path("/proc/swaps").read_text().splitlines()[1:]
    except OSError:
        return Finding("swap", "warning", "can't be determined; memory that is swapped is written to a disk")
    if lines:
        return Finding("swap", "warning", "is on: memory may be written to a disk; turn it off, or encrypt it")
    return Finding("swap", "ok", "is off")


def certificates(folder: Path | None, *, in_the_pod: Path = TLS_IN_THE_POD) -> Finding:
    """Whether Krapao's certificate can be used, and until when. Nothing of its key is shown.

    Args:
        folder: as a flag or the environment names it, or None.
        in_the_pod: looked at then, if it is there.
    """
    name = "certificate"
    if folder is None and not in_the_pod.exists():
        text = "no --tls-dir here; Krapao does not listen on TCP without one. A unix socket needs none"
        return Finding(name, "warning", text)
    folder = folder or in_the_pod
    try:
        identity = TlsFolder(folder, SERVER_AUTH).read()
        for_all = bool((folder / KEY).stat().st_mode & stat.S_IROTH)
    except TlsError as error:
        return Finding(name, "missing", f"{error}. {error.remedy}" if error.remedy else str(error))
    except OSError as error:
        return Finding(name, "missing", f"{folder / KEY} can't be read: {error.strerror}")
    if for_all:
        return Finding(name, "warning", f"every user of this machine may read {folder / KEY}: chmod o-r {folder / KEY}")
    return Finding(name, "ok", f"in {folder}, until {identity.not_after:%Y-%m-%d %H:%M} UTC")


def session_secret(file: Path) -> Finding:
    """Whether the session secret can be used. Nothing of it is shown."""
    name = "session secret"
    try:
        count = len(read_secret_file(file))
        for_all = bool(file.stat().st_mode & stat.S_IROTH)
    except SessionSecretError as error:
        return Finding(name, "missing", str(error))
    except OSError as error:
        return Finding(name, "missing", f"{file} can't be read: {error.strerror}")
    if for_all:
        return Finding(name, "warning", f"every user of this machine may read {file}: chmod o-r {file}")
    if count > 1:
        return Finding(name, "ok", f"{count} in {file}: Krapao takes each of them, Miwen shows the first")
    return Finding(name, "ok", f"in {file}")


async def _examine_program(needed: _Program, program: Path | None, runtime_dir: Path, measures: Measures) -> Finding:
    name, absent, what_for = needed.name, needed.absent, needed.what_for
    if program is None:
        return Finding(name, absent, f"none on the PATH; {what_for}: {needed.get}")
    if name == "gpg" and not program.with_name("gpg-agent").is_file():
        return Finding(name, absent, f"{program} has no gpg-agent beside it; {what_for}")
    try:
        with private_folder(runtime_dir) as home:
            confinement = Confinement(
                network=False, read_execute=(program, *LOADERS), read=(*LIBRARIES, *GPG_FILES), write=(home,)
            )
            command = Command(
                [str(program), "--version"],
                env={**EMPTY_ENVIRONMENT, "HOME": str(home), "GNUPGHOME": str(home)},
                cwd=home,
                sandbox=Sandbox(confinement, measures),
            )
            finished = await run_program(
                command, stdin=b"", limits=_LIMITS, what=f"{name} --version", missing="SopsMissing"
            )
    except JiemiError as error:
        return Finding(name, absent, error.failure.text)
    version = re.search(rb"\d+\.\d+(\.\d+)?", finished.stdout)
    if finished.returncode != 0 or version is None:
        return Finding(name, absent, f"{program} can't be run (status {finished.returncode}); {what_for}")
    return Finding(name, "ok", f"{version[0].decode()} at {program}")


def _confinement(measures: Measures) -> list[Finding]:
    why = dict(measures.missing)
    found = [
        Finding("network of openers", "ok", "is cut: no sockets except unix ones")
        if measures.cut_network
        else Finding("network of openers", "warning", "is not cut; only their environment keeps them off the network")
    ]
    for name, words in MEASURES.items():
        if getattr(measures, name):
            text = f"Landlock, ABI {measures.landlock}" if name == "landlock" else words
            found.append(Finding(name.replace("_", " "), "ok", text))
        else:
            # Only root can have it, and seccomp cuts the network as well, so there is no reason for a warning.
            state = "ok" if name == "network_namespace" and measures.seccomp else "warning"
            found.append(Finding(name.replace("_", " "), state, f"not available: {why.get(name, 'not asked for')}"))
    return found
