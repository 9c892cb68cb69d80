"""The flag `--metrics-listen` of both services."""

from __future__ import annotations

import structlog
import trio
from prometheus_client import CollectorRegistry

from jiemi.cli.errors import CommandError
from jiemi.metrics import serve_metrics
from jiemi.rpc.address import ANY_HOST, TcpAddress, parse_address


def metrics_address_of(text: str) -> TcpAddress:
    """Raises CommandError for what is no TCP address."""
    try:
        address = parse_address(text)
    except ValueError as error:
        raise CommandError(f"--metrics-listen: {error}") from error
    if not isinstance(address, TcpAddress):
        raise CommandError("--metrics-listen: give host:port")
    return address


async def start_metrics(
    nursery: trio.Nursery, registry: CollectorRegistry, address: TcpAddress, *, service: str
) -> None:
    """Serve the page in a task of the nursery; it is served when this returns.

    Raises:
        CommandError: it can't listen there.
    """
    host = None if address.host == ANY_HOST else address.host
    try:
        port = await nursery.start(serve_metrics, registry, host, address.port)
    except OSError as error:
        raise CommandError(f"--metrics-listen: can't listen on {address}: {error.strerror}") from error
    structlog.get_logger(f"jiemi.{service}").info("metrics", address=f"tcp:{address.host}:{port}", path="/metrics")
