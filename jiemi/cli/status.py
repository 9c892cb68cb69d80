"""`jiemi status`: the Decryptors as a table, and what to do where one is not in sync."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import compress
from pathlib import Path

import trio
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from jiemi.cli.console import table_console
from jiemi.cli.errors import CommandError
from jiemi.cli.kubeconfigs import find_kubeconfig
from jiemi.core.decryptor import Decryptor, read_decryptor
from jiemi.core.decryptor_status import Condition
from jiemi.core.errors import REASONS
from jiemi.core.status import RECONCILING, SHORT_REVISION, STALLED
from jiemi.miwen.kubernetes.port import Kubernetes
from jiemi.miwen.kubernetes.real import KubernetesSettings, open_kubernetes

_PAGE_LIMIT = 500

_COLUMNS = ("NAMESPACE", "NAME", "STATUS", "ID", "REVISION", "DEPLOYED", "REASON")
_SPARED = ("DEPLOYED", "ID", "REVISION")
"""Columns that a narrow terminal does without, the first one first."""
_UNFOLDED_COLUMNS = 1000

_TOLD_BY_READY = ("Ready", RECONCILING, STALLED)
"""Conditions whose message is Ready's, or about what is under way."""


def run(names: list[str], *, namespace: str | None, kubeconfig: Path | None, context: str | None) -> None:
    """Print the table.

    Raises:
        CommandError: a name is not there.
        JiemiError: the cluster does not answer.
    """

    async def read() -> list[Decryptor]:
        settings = KubernetesSettings(
            kubeconfig=find_kubeconfig(kubeconfig), context=context, namespace=namespace, environment=dict(os.environ)
        )
        async with open_kubernetes(settings) as kubernetes:
            return await _list(kubernetes)

    decryptors = sorted(trio.run(read), key=lambda decryptor: decryptor.meta.key)
    if names:
        missing = set(names) - {decryptor.meta.name for decryptor in decryptors}
        if missing:
            raise CommandError(f"there is no Decryptor {', '.join(sorted(missing))}")
        decryptors = [decryptor for decryptor in decryptors if decryptor.meta.name in names]
    print_decryptors(decryptors, table_console())


async def _list(kubernetes: Kubernetes) -> list[Decryptor]:
    decryptors: list[Decryptor] = []
    token: str | None = None
    while True:
        page = await kubernetes.list_decryptors(limit=_PAGE_LIMIT, continue_token=token)
        decryptors += [read_decryptor(obj) for obj in page.items]
        token = page.continue_token
        if token is None:
            return decryptors


def print_decryptors(decryptors: list[Decryptor], console: Console) -> None:
    """Print a row for each, and below the table what is to be said of them."""
    if not decryptors:
        console.print("no Decryptors here")
        return
    _print_table([_row(decryptor) for decryptor in decryptors], console)
    for decryptor in decryptors:
        lines = list(_remarks(decryptor))
        if lines:
            console.print()
        for line in lines:
            console.print(line)


def _print_table(rows: list[tuple[Text | str, ...]], console: Console) -> None:
    """Names and reasons are never cut: in a narrow terminal there are fewer columns, and at last longer lines."""
    for left_out in range(len(_SPARED) + 1):
        table = Table(box=None, header_style="bold", pad_edge=False)
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
    """What is wrong and what to do, and what the further conditions say (warnings, drift, suspended)."""
    name, status, ready = f"{decryptor.meta.namespace}/{decryptor.meta.name}", decryptor.status, _ready(decryptor)
    if ready is not None and ready.status != "True":
        yield Text(f"{name}: {ready.message}", style="red")
        failed = [each.reason for each in status.failed_objects] if status is not None else []
        for reason in dict.fromkeys((ready.reason, *failed)):
            if reason in REASONS:
                yield Text(f"  {REASONS[reason].remedy}")
    for condition in status.conditions if status is not None else ():
        if condition.type not in _TOLD_BY_READY and condition.status != "False":
            yield Text(f"{name}: {condition.type}: {condition.message}", style="yellow")


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


def _ready(decryptor: Decryptor) -> Condition | None:
    conditions = decryptor.status.conditions if decryptor.status is not None else ()
    return next((condition for condition in conditions if condition.type == "Ready"), None)
