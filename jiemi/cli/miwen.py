"""`jiemi miwen`: build the settings, connect both ports, run."""

from __future__ import annotations

import datetime
import os
import random
import socket
from pathlib import Path

import trio

from jiemi.cli.errors import CommandError
from jiemi.cli.metrics import metrics_address_of, start_metrics
from jiemi.cli.running import forbid_core_dumps, run_until_signalled
from jiemi.core.policy import Policy, read_policy
from jiemi.core.takeover import DECLARATIVE_MANAGERS
from jiemi.miwen.kubernetes.port import Account
from jiemi.miwen.kubernetes.real import KubernetesSettings, open_kubernetes
from jiemi.miwen.metrics import MiwenMetrics
from jiemi.miwen.reconcile import Tenancy
from jiemi.miwen.service import MiwenSettings, run_miwen
from jiemi.rpc.address import ANY_HOST, TcpAddress, parse_address
from jiemi.rpc.bridge import open_bridge
from jiemi.rpc.client import ClientSettings, connect


def run(
    *,
    krapao: str,
    kubeconfig: Path | None,
    context: str | None,
    namespace: str | None,
    interval_seconds: float,
    alive_file: Path | None,
    policy: Path | None,
    default_service_account: str | None,
    no_cross_namespace: bool,
    take_over_from: str | None,
    metrics_listen: str | None,
) -> None:
    """Run Miwen until it is signalled.

    Raises:
        CommandError: a flag can't be used.
    """
    try:
        address = parse_address(krapao)
        if isinstance(address, TcpAddress) and (address.port == 0 or address.host == ANY_HOST):
            raise ValueError(f"{address} is an address to listen on; name Krapao's host and port")
    except ValueError as error:
        raise CommandError(f"--krapao: {error}") from error
    settings = MiwenSettings(
        interval_seconds=interval_seconds,
        alive_file=alive_file,
        policy=_read_policy(policy) if policy is not None else None,
        tenancy=Tenancy(
            default_service_account=_account_name(default_service_account),
            own_namespace_only=no_cross_namespace,
            limited=namespace is not None,
            merged_managers=_managers(take_over_from),
        ),
        instance=socket.gethostname(),
    )
    metrics_address = metrics_address_of(metrics_listen) if metrics_listen is not None else None
    kubernetes_settings = KubernetesSettings(
        kubeconfig=kubeconfig, context=context, namespace=namespace, environment=dict(os.environ)
    )

    async def main() -> None:
        async with (
            open_bridge() as bridge,
            connect(address, bridge=bridge, settings=ClientSettings()) as client,
            open_kubernetes(kubernetes_settings) as kubernetes,
            trio.open_nursery() as nursery,
        ):
            metrics = MiwenMetrics(requests=kubernetes.requests.snapshot)
            if metrics_address is not None:
                await start_metrics(nursery, metrics.registry, metrics_address, service="miwen")
            await run_miwen(kubernetes, client, settings, now=_now, random=random.random, metrics=metrics)

    if alive_file is not None:
        try:
            alive_file.touch()
        except OSError as error:
            raise CommandError(f"--alive-file {alive_file} can't be written: {error.strerror}") from error
    forbid_core_dumps()
    run_until_signalled(main)


def _managers(names: str | None) -> frozenset[str]:
    if names is None:
        return frozenset(DECLARATIVE_MANAGERS)
    return frozenset(name for each in names.split(",") if (name := each.strip()))


def _account_name(name: str | None) -> str | None:
    """Raises CommandError: no ServiceAccount can have that name. Never goes on as Miwen itself instead."""
    if name is not None and not Account("default", name).is_possible:
        raise CommandError("--default-service-account: no ServiceAccount can have that name")
    return name


def _read_policy(path: Path) -> Policy:
    """Raises CommandError: it can't be read, or is no policy. Never goes on without one that was asked for."""
    try:
        return read_policy(path.read_text())
    except OSError as error:
        raise CommandError(f"--policy {path} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise CommandError(f"--policy {path}: {error}") from error


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
