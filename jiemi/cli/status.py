"""`jiemi status`: the Decryptors as a table, and what to do where one is not in sync."""

from __future__ import annotations

import os
from pathlib import Path

import trio
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jiemi.cli.console import table_console
from jiemi.cli.errors import CommandError
from jiemi.cli.kubeconfigs import find_kubeconfig
from jiemi.core.decryptor import Decryptor, read_decryptor
from jiemi.core.decryptor_status import Condition
from jiemi.core.errors import REASONS
from jiemi.core.status import SHORT_REVISION
from jiemi.miwen.kubernetes.port import Kubernetes
from jiemi.miwen.kubernetes.real import KubernetesSettings, open_kubernetes

_PAGE_LIMIT = 500


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
    _print(decryptors, table_console())


async def _list(kubernetes: Kubernetes) -> list[Decryptor]:
    decryptors: list[Decryptor] = []
    token: str | None = None
    while True:
        page = await kubernetes.list_decryptors(limit=_PAGE_LIMIT, continue_token=token)
        decryptors += [read_decryptor(obj) for obj in page.items]
        token = page.continue_token
        if token is None:
            return decryptors


def _print(decryptors: list[Decryptor], console: Console) -> None:
    if not decryptors:
        console.print("no Decryptors here")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("NAMESPACE", "NAME", "STATUS", "ID", "REVISION", "DEPLOYED", "REASON"):
        table.add_column(column, no_wrap=True)
    for decryptor in decryptors:
        table.add_row(*_row(decryptor))
    console.print(table)
    for decryptor in decryptors:
        ready = _ready(decryptor)
        if ready is not None and ready.status != "True":
            console.print()
            console.print(Text(f"{decryptor.meta.namespace}/{decryptor.meta.name}: {ready.message}", style="red"))
            if ready.reason in REASONS:
                console.print(Text(f"  {REASONS[ready.reason].remedy}"))


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
