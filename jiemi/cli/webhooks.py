"""The port for webhooks: where it is served (`--webhooks-listen`), and what decides while another Miwen is active."""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable

import structlog
import trio

from jiemi.cli.errors import CommandError
from jiemi.cli.miwen_flags import MiwenFlags
from jiemi.miwen.kubernetes.port import Kubernetes
from jiemi.miwen.report.metrics import MiwenMetrics
from jiemi.miwen.service import Webhooks
from jiemi.miwen.webhooks.forwarder import Forwarder
from jiemi.miwen.webhooks.genuine import Verifier
from jiemi.miwen.webhooks.receiver import Outcome, Receiver
from jiemi.miwen.webhooks.secrets import WebhookSecrets
from jiemi.rpc.address import ANY_HOST, TcpAddress, parse_address


def webhooks_address(flags: MiwenFlags) -> TcpAddress | None:
    """Where to listen; None where no webhooks are received.

    Raises:
        CommandError: a flag is no TCP address, or the flags do not go together.
    """
    if flags.webhooks_listen is None:
        if flags.webhooks_address is not None or flags.webhooks_proxies:
            raise CommandError("--webhooks-address and --webhooks-proxies need --webhooks-listen")
        return None
    if flags.webhooks_address is not None:
        _tcp("--webhooks-address", TcpAddress, flags.webhooks_address)
    address = _tcp("--webhooks-listen", parse_address, flags.webhooks_listen)
    if flags.webhooks_listen.removeprefix("tcp:").rpartition(":")[2] != str(address.port):
        raise CommandError("--webhooks-listen: give host:port")
    return address


def identity_with_address(identity: str, flags: MiwenFlags, listens: TcpAddress | None) -> str:
    """The identity in the Lease, with where this Miwen's port for webhooks is reached, so that others send them on."""
    if listens is None or flags.webhooks_address is None:
        return identity
    return f"{identity}@{TcpAddress(flags.webhooks_address, listens.port)}"


async def serve_webhooks(
    flags: MiwenFlags,
    address: TcpAddress | None,
    kubernetes: Kubernetes,
    metrics: MiwenMetrics,
    nursery: trio.Nursery,
) -> Webhooks | None:
    """Serve the port in the nursery, and follow the Secrets that declare webhooks; nothing where there is no address.

    Raises:
        CommandError: it can't listen there.
    """
    if address is None:
        return None

    def count(outcome: Outcome) -> None:
        metrics.webhook(outcome.value)

    secrets = WebhookSecrets(kubernetes, random=random.random, counts=metrics.watches)
    metrics.webhooks = lambda: len(secrets.webhooks)
    receiver = Receiver(count, flags.webhooks_proxies)
    host = None if address.host == ANY_HOST else address.host
    try:
        port = await nursery.start(receiver.serve, host, address.port)
    except OSError as error:
        raise CommandError(f"--webhooks-listen: can't listen on {address}: {error.strerror}") from error
    await nursery.start(secrets.run)
    structlog.get_logger("jiemi.miwen").info("webhooks", address=f"tcp:{address.host}:{port}")
    return Webhooks(receiver, Verifier(secrets.webhooks, _now))


def forward(webhooks: Webhooks, holder: Callable[[], str]) -> None:
    """Send webhooks on while this Miwen waits for its turn.

    Args:
        holder: the identity of the active one, as the Lease has it.
    """

    def active() -> tuple[str, int] | None:
        _, at, text = holder().rpartition("@")
        try:
            address = parse_address(text) if at else None
        except ValueError:
            return None
        return (address.host, address.port) if isinstance(address, TcpAddress) else None

    webhooks.receiver.taker = Forwarder(webhooks.verifier, active)


def _tcp(flag: str, read: Callable[[str], object], text: str) -> TcpAddress:
    try:
        address = read(text)
    except ValueError as error:
        raise CommandError(f"{flag}: {error}") from error
    if not isinstance(address, TcpAddress):
        raise CommandError(f"{flag}: give host:port")
    return address


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
