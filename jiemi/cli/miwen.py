"""`jiemi miwen`: build the settings, connect both ports, run."""

from __future__ import annotations

import datetime
import os
import random
from pathlib import Path

from jiemi.cli.errors import CommandError
from jiemi.cli.running import forbid_core_dumps, run_until_signalled
from jiemi.core.policy import Policy, read_policy
from jiemi.miwen.kubernetes.real import KubernetesSettings, open_kubernetes
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
) -> None:
    """Run Miwen until it is signalled."""
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
    )
    kubernetes_settings = KubernetesSettings(
        kubeconfig=kubeconfig, context=context, namespace=namespace, environment=dict(os.environ)
    )

    async def main() -> None:
        async with (
            open_bridge() as bridge,
            connect(address, bridge=bridge, settings=ClientSettings()) as client,
            open_kubernetes(kubernetes_settings) as kubernetes,
        ):
            await run_miwen(kubernetes, client, settings, now=_now, random=random.random)

    if alive_file is not None:
        try:
            alive_file.touch()
        except OSError as error:
            raise CommandError(f"--alive-file {alive_file} can't be written: {error.strerror}") from error
    forbid_core_dumps()
    run_until_signalled(main)


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
