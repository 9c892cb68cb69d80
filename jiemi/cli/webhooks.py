"""The port for webhooks: where it is served (`--webhooks-listen`), and what decides while another Miwen is active."""

from __future__ import annotations

import datetime
import random
import ssl
from collections.abc import Callable

import structlog
import trio

from jiemi.cli.errors import CommandError
from jiemi.cli.miwen_flags import MiwenFlags
from jiemi.core.address_rules import AddressRules, Network, read_network
from jiemi.miwen.kubernetes.port import Kubernetes
from jiemi.miwen.report.metrics import MiwenMetrics
from jiemi.miwen.service import Webhooks
from jiemi.miwen.webhooks.forwarder import Forwarder
from jiemi.miwen.webhooks.genuine import Verifier
from jiemi.miwen.webhooks.guarded_get import GuardedGet
from jiemi.miwen.webhooks.receiver import Outcome, Receiver
from jiemi.miwen.webhooks.secrets import WebhookSecrets
from jiemi.miwen.webhooks.signing_keys import SigningKeys
from jiemi.rpc.address import ANY_HOST, TcpAddress, parse_address
from jiemi.tracing.spans import Tracer


def webhooks_address(flags: MiwenFlags) -> TcpAddress | None:
    """Where to listen; None where no webhooks are received.

    Raises:
        CommandError: a flag is no TCP address, or the flags do not go together.
    """
    if flags.webhooks_listen is None:
        if flags.webhooks_allow_addresses or flags.webhooks_deny_addresses or flags.webhooks_ca_bundle:
            raise CommandError("--webhooks-allow-address, -deny-address and -ca-bundle need --webhooks-listen")
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

    keys = _guarded_get(flags)
    secrets = WebhookSecrets(kubernetes, random=random.random, counts=metrics.watches)
    metrics.count_webhooks([each.value for each in Outcome], lambda: (len(secrets.webhooks), len(secrets.unusable)))
    receiver = Receiver(count, flags.webhooks_proxies)
    host = None if address.host == ANY_HOST else address.host
    try:
        port = await nursery.start(receiver.serve, host, address.port)
    except OSError as error:
        raise CommandError(f"--webhooks-listen: can't listen on {address}: {error.strerror}") from error
    await nursery.start(secrets.run)
    structlog.get_logger("jiemi.miwen").info("webhooks", address=f"tcp:{address.host}:{port}")
    return Webhooks(receiver, Verifier(secrets.webhooks, _now, SigningKeys(keys.get)), secrets)


def forward(webhooks: Webhooks, holder: Callable[[], str], tracer: Tracer | None = None) -> None:
    """Send webhooks on while this Miwen waits for its turn.

    Args:
        holder: the identity of the active one, as the Lease has it.
        tracer: where the spans of deliveries go; None where no traces are collected.
    """

    def active() -> tuple[str, int] | None:
        _, at, text = holder().rpartition("@")
        try:
            address = parse_address(text) if at else None
        except ValueError:
            return None
        return (address.host, address.port) if isinstance(address, TcpAddress) else None

    webhooks.receiver.taker = Forwarder(webhooks.verifier, active, tracer)


def _guarded_get(flags: MiwenFlags) -> GuardedGet:
    """How the keys of hosts are looked up that sign by one of their own.

    Raises:
        CommandError: a flag is no network, or names no certificates.
    """
    tls = ssl.create_default_context()
    if flags.webhooks_ca_bundle is not None:
        try:
            tls.load_verify_locations(flags.webhooks_ca_bundle)
        except (OSError, ssl.SSLError) as error:
            why = f"--webhooks-ca-bundle {flags.webhooks_ca_bundle} holds no certificate that can be read"
            raise CommandError(why) from error
    rules = AddressRules(
        allowed=tuple(_network("--webhooks-allow-address", each) for each in flags.webhooks_allow_addresses),
        denied=tuple(_network("--webhooks-deny-address", each) for each in flags.webhooks_deny_addresses),
    )
    return GuardedGet(rules, tls)


def _network(flag: str, text: str) -> Network:
    try:
        return read_network(text)
    except ValueError as error:
        raise CommandError(f"{flag}: {text!r} is no address and no network such as 10.20.0.0/16") from error


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
