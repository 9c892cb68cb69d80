"""`jiemi status`: the Decryptors as a table, and what to do where one is not in sync."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from itertools import compress

import click
import trio
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from jiemi.cli.command_flags import StatusFlags
from jiemi.cli.console import printable, table_console
from jiemi.cli.errors import CommandError
from jiemi.cli.kubeconfigs import find_kubeconfig
from jiemi.cli.outputs import Output
from jiemi.cli.running import run_until_signalled
from jiemi.cli.status_output import as_text
from jiemi.cli.status_watch import watch_decryptors
from jiemi.core.api.conditions import RECONCILING, SOURCE_VERIFIED, STALLED
from jiemi.core.api.decryptor import Decryptor, read_decryptor
from jiemi.core.api.decryptor_status import Condition, DecryptorStatus, VerificationStatus
from jiemi.core.decisions.status import (
    SHORT_REVISION,
)
from jiemi.miwen.kubernetes.connection import KubernetesSettings
from jiemi.miwen.kubernetes.kubeconfig import usual_namespace
from jiemi.miwen.kubernetes.port import Kubernetes
from jiemi.miwen.kubernetes.real import open_kubernetes

_PAGE_LIMIT = 500

_COLUMNS = ("NAMESPACE", "NAME", "STATUS", "ID", "REVISION", "DEPLOYED", "REASON")
_SPARED = ("DEPLOYED", "ID", "REVISION")
"""Columns that are left out in a narrow terminal, the first one first."""
_UNFOLDED_COLUMNS = 1000

_SAID_OTHERWISE = ("Ready", RECONCILING, STALLED, SOURCE_VERIFIED)
"""Conditions with the same message as Ready, or about what is under way, or in the line of who signed."""


def run(flags: StatusFlags) -> bool:
    """Print the Decryptors that the flags ask for.

    Returns:
        Whether all are Ready; True after a watch, which does not end by itself.

    Raises:
        CommandError: there is no Decryptor of a name, or the flags do not go together.
        JiemiError: the cluster does not answer.
    """
    if flags.all_namespaces and flags.namespace is not None:
        raise CommandError("--all-namespaces and --namespace exclude each other")
    if flags.watch and flags.output is not Output.TABLE:
        raise CommandError(f"--watch shows a table: it does not go with --output {flags.output}")
    found = find_kubeconfig(flags.kubeconfig)
    namespace = None if flags.all_namespaces else flags.namespace or usual_namespace(found, flags.context)
    settings = KubernetesSettings(
        kubeconfig=found,
        context=flags.context,
        namespaces=() if namespace is None else (namespace,),
        environment=dict(os.environ),
    )
    names = frozenset(flags.names)
    if flags.watch:
        run_until_signalled(partial(_watch, settings, names))
        return True

    async def read() -> list[Decryptor]:
        async with open_kubernetes(settings) as kubernetes:
            return await _list(kubernetes)

    decryptors = _chosen(trio.run(read), names)
    if flags.output is Output.TABLE:
        print_decryptors(decryptors, table_console(), namespace=namespace)
    else:
        click.echo(as_text(decryptors, yaml=flags.output is Output.YAML), nl=False)
    return all(_is_ready(each) for each in decryptors)


async def _watch(settings: KubernetesSettings, names: frozenset[str]) -> None:
    """Print them, and each change of one, until cancelled."""
    console = table_console()

    def show(decryptor: Decryptor) -> None:
        _print_table([_row(decryptor)], console, heads=False)
        for line in _remarks(decryptor):
            console.print(line)

    def show_all(decryptors: list[Decryptor]) -> None:
        print_decryptors(decryptors, console, namespace=next(iter(settings.namespaces), None))

    async with open_kubernetes(settings) as kubernetes:
        await watch_decryptors(
            kubernetes,
            show_all=show_all,
            show=show,
            gone=lambda key: console.print(Text(f"{'/'.join(key)} is deleted")),
            trouble=lambda failure: console.print(Text(f"{failure.message}; trying again", style="yellow")),
            wanted=lambda decryptor: not names or decryptor.meta.name in names,
        )


def _chosen(decryptors: list[Decryptor], names: frozenset[str]) -> list[Decryptor]:
    """Those that are wanted, in order.

    Raises:
        CommandError: one is not there.
    """
    missing = names - {decryptor.meta.name for decryptor in decryptors}
    if missing:
        raise CommandError(f"there is no Decryptor {', '.join(sorted(missing))}")
    chosen = [each for each in decryptors if not names or each.meta.name in names]
    return sorted(chosen, key=lambda decryptor: decryptor.meta.key)


async def _list(kubernetes: Kubernetes) -> list[Decryptor]:
    decryptors: list[Decryptor] = []
    token: str | None = None
    while True:
        page = await kubernetes.list_decryptors(limit=_PAGE_LIMIT, continue_token=token)
        decryptors += [read_decryptor(obj) for obj in page.items]
        token = page.continue_token
        if token is None:
            return decryptors


def print_decryptors(decryptors: list[Decryptor], console: Console, *, namespace: str | None = None) -> None:
    """Print a row for each, and below the table what is wrong with it.

    Args:
        namespace: the namespace that was asked for; None means all.
    """
    if not decryptors:
        console.print("no Decryptors" if namespace is None else f"no Decryptors in namespace {namespace} (-A: in all)")
        return
    _print_table([_row(decryptor) for decryptor in decryptors], console)
    for decryptor in decryptors:
        lines = list(_remarks(decryptor))
        if lines:
            console.print()
        for line in lines:
            console.print(line)


def _print_table(rows: list[tuple[Text | str, ...]], console: Console, *, heads: bool = True) -> None:
    """Names and reasons are never cut: in a narrow terminal there are fewer columns, and at last longer lines."""
    for left_out in range(len(_SPARED) + 1):
        table = Table(box=None, header_style="bold", pad_edge=False, show_header=heads)
        shown = [name not in _SPARED[:left_out] for name in _COLUMNS]
        for column in compress(_COLUMNS, shown):
            table.add_column(column, no_wrap=True, overflow="ignore")
        for row in rows:
            table.add_row(*compress(row, shown))
        width = Measurement.get(console, console.options.update(width=_UNFOLDED_COLUMNS), table).maximum
        if width <= console.width:
            break
    was, console.width = console.width, max(width, console.width)
    console.print(table)
    console.width = was


def _remarks(decryptor: Decryptor) -> Iterator[Text]:
    """What is wrong and what to do, as Miwen wrote it, and what the further conditions say (warnings, drift, …)."""
    name, status, ready = f"{decryptor.meta.namespace}/{decryptor.meta.name}", decryptor.status, _ready(decryptor)
    if ready is not None and ready.status != "True":
        yield Text(printable(f"{name}: {ready.message}"), style="red")
        if status is not None:
            yield from _failed(status, ready.message)
    if status is not None and status.verification is not None:
        yield Text(printable(f"{name}: {_signed(status, status.verification)}"))
    for condition in status.conditions if status is not None else ():
        if condition.type not in _SAID_OTHERWISE and condition.status != "False":
            yield Text(printable(f"{name}: {condition.type}: {condition.message}"), style="yellow")


def _signed(status: DecryptorStatus, found: VerificationStatus) -> str:
    """Who signed the deployed revision, or the newest one that was verified where that is another.

    In the past tense where something is refused now: what that is says the message of Ready.
    """
    short = found.revision[:SHORT_REVISION]
    is_deployed = found.revision == status.current.revision
    what = f"the deployed commit {short}" if is_deployed else f"commit {short}, which is not deployed,"
    verdict = next((each.status for each in status.conditions if each.type == SOURCE_VERIFIED), "")
    verb = "was" if verdict == "False" else "is"
    by_tag = f"{found.tag_signer} ({found.tag_key})"
    if found.signer is None:
        said = f"the tag {found.tag} of {what} {verb} signed by {by_tag}"
    else:
        tag = f", and its tag {found.tag} by {by_tag}" if found.tag_signer is not None else ""
        said = f"{what} {verb} signed by {found.signer} ({found.key}){tag}"
    return said if found.expires_at is None else f"{said}, valid until {found.expires_at}"


def _failed(status: DecryptorStatus, shown: str) -> Iterator[Text]:
    """The files and objects that failed, except those that are in the text that is shown already."""
    for file in status.failed_files:
        if file.message not in shown:
            is_named = file.message.startswith(f"{file.path}:") or f" of {file.path} " in file.message
            of = "" if is_named else f"{file.path}: "
            yield Text(printable(f"  {of}{file.reason}: {file.message}"))
    if status.more_failed_files:
        yield Text(f"  and {status.more_failed_files} more files")
    for each in status.failed_objects:
        if each.message not in shown:
            of = f"{each.namespace}/{each.name}" if each.namespace else each.name
            yield Text(printable(f"  {each.kind} {of}: {each.reason}: {each.message}"))
    if status.more_failed_objects:
        yield Text(f"  and {status.more_failed_objects} more objects")


def _row(decryptor: Decryptor) -> tuple[Text | str, ...]:
    meta, status = decryptor.meta, decryptor.status
    if status is None:
        return (meta.namespace, meta.name, Text("not seen by Miwen yet", style="yellow"), "", "", "", "")
    current, ready = status.current, _ready(decryptor)
    style = "green" if current.status == "Sync" else "red"
    return (
        meta.namespace,
        meta.name,
        Text(current.status, style=style),
        str(current.id),
        current.revision[:SHORT_REVISION],
        current.deployed_at or "",
        ready.reason if ready is not None else "",
    )


def _is_ready(decryptor: Decryptor) -> bool:
    ready = _ready(decryptor)
    return ready is not None and ready.status == "True" and decryptor.observed_generation == decryptor.meta.generation


def _ready(decryptor: Decryptor) -> Condition | None:
    conditions = decryptor.status.conditions if decryptor.status is not None else ()
    return next((condition for condition in conditions if condition.type == "Ready"), None)
