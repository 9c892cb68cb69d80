"""`jiemi miwen`: build the settings, connect both ports, run."""

from __future__ import annotations

import datetime
import os
import random
import socket
from functools import partial
from pathlib import Path

import trio

from jiemi.cli.errors import CommandError
from jiemi.cli.logs import configure_logs
from jiemi.cli.metrics import pages_of, watch_loops
from jiemi.cli.miwen_flags import MiwenFlags
from jiemi.cli.running import forbid_core_dumps, run_until_signalled
from jiemi.cli.session_secrets import secret_name, secret_of_file
from jiemi.concurrency.memory import keep_trimmed
from jiemi.core.decisions.policy import Policy, read_policy
from jiemi.core.names import NAMESPACE_RULE, is_object_name
from jiemi.core.objects.protected import DEFAULT_NAMESPACE, Protection, require_openable
from jiemi.core.objects.take_over import DECLARATIVE_MANAGERS
from jiemi.miwen.kubernetes.access import pods_namespace
from jiemi.miwen.kubernetes.connection import KubernetesSettings
from jiemi.miwen.kubernetes.port import Account
from jiemi.miwen.kubernetes.real import open_kubernetes
from jiemi.miwen.reconcile.tenancy import Tenancy
from jiemi.miwen.report.metrics import MiwenMetrics
from jiemi.miwen.service import MiwenPorts, MiwenSettings, run_miwen
from jiemi.miwen.session_secret import SessionSecretStore
from jiemi.rpc.address import ANY_HOST, Address, TcpAddress, parse_address
from jiemi.rpc.bridge import open_bridge
from jiemi.rpc.client import ClientSettings, SecretSource, connect
from jiemi.rpc.contract import MEBIBYTE


def run(flags: MiwenFlags) -> None:
    """Run Miwen until it is signalled.

    Raises:
        CommandError: a flag can't be used.
    """
    configure_logs(flags.log_format)
    address = _krapaos_address(flags.krapao)
    if flags.session_secret is not None and flags.session_secret_file is not None:
        raise CommandError("--session-secret and --session-secret-file exclude each other")
    secret_at = secret_name(flags.session_secret) if flags.session_secret is not None else None
    settings = miwen_settings(flags)
    metrics = MiwenMetrics()
    pages = pages_of(flags.metrics_listen, metrics, service="miwen")
    kubernetes_settings = KubernetesSettings(
        kubeconfig=flags.kubeconfig,
        context=flags.context,
        namespace=flags.namespace,
        environment=dict(os.environ),
    )

    async def main() -> None:
        async with (
            open_bridge() as bridge,
            open_kubernetes(kubernetes_settings) as kubernetes,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(keep_trimmed)
            nursery.start_soon(watch_loops, metrics.health, bridge)
            secret: SecretSource | None = None
            if flags.session_secret_file is not None:
                secret = secret_of_file(flags.session_secret_file)
            elif secret_at is not None:
                store = SessionSecretStore(kubernetes, *secret_at)
                nursery.start_soon(store.provide)
                secret = store.read
            async with connect(address, bridge=bridge, settings=ClientSettings(), secret=secret) as client:
                metrics.requests = kubernetes.requests.snapshot
                ports = MiwenPorts(kubernetes, client, _now, random.random, metrics)
                await nursery.start(partial(run_miwen, ports, settings))
                metrics.health.ready()
                await trio.sleep_forever()

    if flags.alive_file is not None:
        try:
            flags.alive_file.touch()
        except OSError as error:
            raise CommandError(f"--alive-file {flags.alive_file} can't be written: {error.strerror}") from error
    forbid_core_dumps()
    run_until_signalled(main, on_signal=metrics.health.stopping, beside=pages)


def miwen_settings(flags: MiwenFlags) -> MiwenSettings:
    """What the flags say, as Miwen takes it.

    Raises:
        CommandError: a flag can't be used.
    """
    for flag, name in (("--namespace", flags.namespace), ("--own-namespace", flags.own_namespace)):
        # One that nobody has would be no bound, and protect nothing.
        if name is not None and not is_object_name(name, group="", kind="Namespace"):
            raise CommandError(f"{flag}: no namespace can have that name: {NAMESPACE_RULE}")
    return MiwenSettings(
        interval_seconds=flags.interval_seconds,
        alive_file=flags.alive_file,
        policy=_read_policy(flags.policy) if flags.policy is not None else None,
        tenancy=Tenancy(
            default_service_account=_account_name(flags.default_service_account),
            own_namespace_only=flags.no_cross_namespace,
            limited=flags.namespace is not None,
            protection=Protection(_own_namespace(flags), frozenset(map(_openable, flags.allow_protected))),
            require_full_mac=flags.require_full_mac,
            merged_managers=_managers(flags.take_over_from),
        ),
        decryptor_memory_bytes=flags.decryptor_memory_mebibytes * MEBIBYTE,
        instance=socket.gethostname(),
    )


def _own_namespace(flags: MiwenFlags) -> str:
    return flags.own_namespace or (pods_namespace() if flags.kubeconfig is None else None) or DEFAULT_NAMESPACE


def _krapaos_address(text: str) -> Address:
    """Raises CommandError: nothing can be reached there."""
    try:
        address = parse_address(text)
        if isinstance(address, TcpAddress) and (address.port == 0 or address.host == ANY_HOST):
            raise ValueError(f"{address} is an address to listen on; name Krapao's host and port")
    except ValueError as error:
        raise CommandError(f"--krapao: {error}") from error
    return address


def _managers(names: str | None) -> frozenset[str]:
    if names is None:
        return frozenset(DECLARATIVE_MANAGERS)
    return frozenset(name for each in names.split(",") if (name := each.strip()))


def _account_name(name: str | None) -> str | None:
    """Raises CommandError: no ServiceAccount can have that name. Never goes on as Miwen itself instead."""
    if name is not None and not Account("default", name).is_possible:
        raise CommandError("--default-service-account: no ServiceAccount can have that name")
    return name


def _openable(text: str) -> str:
    """Raises CommandError: it opens nothing."""
    try:
        return require_openable(text)
    except ValueError as error:
        raise CommandError(f"--allow-protected {text}: {error}") from error


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
