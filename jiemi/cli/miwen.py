"""`jiemi miwen`: build the settings, connect both ports, run."""

from __future__ import annotations

import contextlib
import datetime
import os
import random
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import attrs
import trio

from jiemi.cli.errors import CommandError
from jiemi.cli.krapao_places import KrapaoPlaces, places_of
from jiemi.cli.log_levels import follow_file, levels_of_flag
from jiemi.cli.logs import configure_logs
from jiemi.cli.metrics import pages_of, watch_loops
from jiemi.cli.miwen_flags import MiwenFlags
from jiemi.cli.running import forbid_core_dumps, run_until_signalled
from jiemi.cli.session_secrets import secret_name, secret_of_file
from jiemi.cli.tls_identities import identity_of_folder
from jiemi.cli.traces import exporter_of, running
from jiemi.cli.webhooks import forward, identity_with_address, serve_webhooks, webhooks_address
from jiemi.concurrency.memory import keep_trimmed
from jiemi.core.decisions.policy import Policy, read_policy
from jiemi.core.names import NAMESPACE_RULE, is_object_name
from jiemi.core.objects.protected import DEFAULT_NAMESPACE, Protection, require_openable
from jiemi.core.objects.take_over import DECLARATIVE_MANAGERS
from jiemi.miwen.certificates.renewal import Lifetimes
from jiemi.miwen.certificates.secrets import CertificateSecrets
from jiemi.miwen.kubernetes.access import pods_namespace
from jiemi.miwen.kubernetes.connection import KubernetesSettings
from jiemi.miwen.kubernetes.port import Account, Kubernetes
from jiemi.miwen.kubernetes.real import open_kubernetes
from jiemi.miwen.leadership.elector import Elector
from jiemi.miwen.reconcile.tenancy import Tenancy
from jiemi.miwen.report.metrics import MiwenMetrics
from jiemi.miwen.service import MiwenPorts, MiwenSettings, Webhooks, run_miwen
from jiemi.miwen.session_secret import SessionSecretStore
from jiemi.miwen.watch.krapao_pods import follow_krapaos
from jiemi.rpc.bridge import open_bridge
from jiemi.rpc.channel import ClientTls
from jiemi.rpc.client import ClientSettings, SecretSource
from jiemi.rpc.contract import MEBIBYTE
from jiemi.rpc.krapaos import connect_all
from jiemi.rpc.tls import IdentitySource, TlsIdentity
from jiemi.rpc.tls_names import PARTS
from jiemi.tracing.spans import Tracer

_SHORTEST_LIFETIME = datetime.timedelta(hours=1)
_SHORTEST_SPREAD = datetime.timedelta(minutes=10)
"""Five times what the kubelet takes to change a mounted Secret."""


def run(flags: MiwenFlags) -> None:
    """Run Miwen until it is signalled.

    Raises:
        CommandError: a flag can't be used.
    """
    log_filter = configure_logs(flags.log_format, levels_of_flag(flags.log_level))
    places = places_of(flags.krapao)
    if flags.session_secret is not None and flags.session_secret_file is not None:
        raise CommandError("--session-secret and --session-secret-file exclude each other")
    secret_at = secret_name("--session-secret", flags.session_secret) if flags.session_secret is not None else None
    _require_private_way(places, flags)
    tls_at = secret_name("--tls-secret", flags.tls_secret) if flags.tls_secret is not None else None
    lease_at = secret_name("--lease", flags.lease) if flags.lease is not None else None
    settings = miwen_settings(flags)
    metrics = MiwenMetrics()
    exporter = exporter_of(flags, metrics, service="miwen")
    tracer = Tracer(exporter.ended, flags.traces_ratio) if exporter is not None else None
    webhooks_at = webhooks_address(flags)
    pages = pages_of(flags.metrics_listen, metrics, service="miwen")
    kubernetes_settings = KubernetesSettings(
        kubeconfig=flags.kubeconfig,
        context=flags.context,
        namespaces=_namespaces(flags),
        environment=dict(os.environ),
    )

    async def main() -> None:
        async with (
            running(exporter),
            open_bridge() as bridge,
            open_kubernetes(kubernetes_settings) as kubernetes,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(keep_trimmed)
            if flags.log_level_file is not None:
                nursery.start_soon(follow_file, flags.log_level_file, log_filter)
            nursery.start_soon(watch_loops, metrics.health, bridge)
            metrics.requests = kubernetes.requests.snapshot
            to_krapao = _ToKrapao(flags, kubernetes, tls_at, secret_at)
            metrics.certificate_ends = lambda: to_krapao.certificate_ends
            webhooks = await serve_webhooks(flags, webhooks_at, kubernetes, metrics, nursery)

            async def work() -> None:
                async with (
                    to_krapao.used(),
                    trio.open_nursery() as working,
                    connect_all(
                        places.peers,
                        bridge=bridge,
                        settings=ClientSettings(),
                        secret=to_krapao.secret,
                        tls=to_krapao.tls,
                    ) as krapaos,
                ):
                    metrics.krapaos = krapaos.shares
                    if places.service is not None:
                        slices = kubernetes.endpoint_slices
                        followed = partial(follow_krapaos, random=random.random, counts=metrics.watches)
                        working.start_soon(followed, slices, *places.service, krapaos)
                    for keep in to_krapao.keeping:
                        working.start_soon(keep)
                    ports = MiwenPorts(kubernetes, krapaos, _now, random.random, metrics, tracer, webhooks)
                    await working.start(partial(run_miwen, ports, settings))
                    metrics.health.ready()
                    await trio.sleep_forever()

            if lease_at is None:
                await work()
                return
            identity = identity_with_address(f"{socket.gethostname()}_{uuid.uuid4()}", flags, webhooks_at)
            elector = Elector(kubernetes.leases, lease_at, identity, kubernetes.fence, _now)
            await _lead(elector, work, metrics, webhooks, tracer)

    if flags.alive_file is not None:
        try:
            flags.alive_file.touch()
        except OSError as error:
            raise CommandError(f"--alive-file {flags.alive_file} can't be written: {error.strerror}") from error
    forbid_core_dumps()
    run_until_signalled(main, on_signal=metrics.health.stopping, beside=pages)


async def _lead(
    elector: Elector,
    work: Callable[[], Awaitable[None]],
    metrics: MiwenMetrics,
    webhooks: Webhooks | None,
    tracer: Tracer | None,
) -> None:
    """Work whenever this Miwen is the active one, until cancelled."""
    if webhooks is not None:
        forward(webhooks, lambda: elector.holder, tracer)
    metrics.leading = lambda: elector.leading
    metrics.health.ready()  # one that waits its turn is as it should be
    await elector.lead(work)


class _ToKrapao:
    """What Miwen shows to Krapao, and what makes it.

    Attributes:
        secret, tls: as of `jiemi.rpc.client.connect`.
        certificate_ends: when the certificate ends that was shown last, in seconds since 1970; None: none is shown.
        keeping: what runs meanwhile.
    """

    def __init__(
        self,
        flags: MiwenFlags,
        kubernetes: Kubernetes,
        tls_at: tuple[str, str] | None,
        secret_at: tuple[str, str] | None,
    ) -> None:
        self.keeping: list[Callable[[], Awaitable[None]]] = []
        self.secret: SecretSource | None = None
        if flags.session_secret_file is not None:
            self.secret = secret_of_file(flags.session_secret_file)
        elif secret_at is not None:
            store = SessionSecretStore(kubernetes, *secret_at)
            self.keeping.append(store.provide)
            self.secret = store.read
        identity: IdentitySource | None = None
        if flags.tls_dir is not None:
            identity = identity_of_folder(flags.tls_dir)
        elif tls_at is not None:
            lifetimes = _lifetimes(flags) if flags.make_certificates else None
            certificates = CertificateSecrets(kubernetes, *tls_at, lifetimes=lifetimes, now=_now)
            if lifetimes is not None:
                self.keeping.append(certificates.keep)
            identity = certificates.identity
        self.tls = ClientTls(partial(self._show, identity), flags.krapao_name) if identity is not None else None
        self.certificate_ends: float | None = None

    @contextlib.asynccontextmanager
    async def used(self) -> AsyncIterator[None]:
        """While the context lasts, Krapaos are asked. A Miwen that waits for its turn shows no certificate: it reads a
        newer one when its turn comes."""
        try:
            yield
        finally:
            self.certificate_ends = None

    async def _show(self, identity: IdentitySource) -> TlsIdentity:
        shown = await identity()
        self.certificate_ends = shown.not_after.timestamp()
        return shown


def miwen_settings(flags: MiwenFlags) -> MiwenSettings:
    """What the flags say, as Miwen takes it.

    Raises:
        CommandError: a flag can't be used.
    """
    own = [] if flags.own_namespace is None else [flags.own_namespace]
    for flag, name in (
        *(("--namespace", name) for name in flags.namespaces),
        *(("--own-namespace", name) for name in own),
    ):
        # One that nobody has would be no bound, and protect nothing.
        if not is_object_name(name, group="", kind="Namespace"):
            raise CommandError(f"{flag}: no namespace can have that name: {NAMESPACE_RULE}")
    return MiwenSettings(
        interval_seconds=flags.interval_seconds,
        alive_file=flags.alive_file,
        policy=_read_policy(flags.policy) if flags.policy is not None else None,
        tenancy=Tenancy(
            default_service_account=_account_name(flags.default_service_account),
            own_namespace_only=flags.no_cross_namespace,
            namespaces=frozenset(_namespaces(flags)),
            protection=Protection(_own_namespace(flags), frozenset(map(_openable, flags.allow_protected))),
            require_full_mac=flags.require_full_mac,
            require_verify=flags.require_verify,
            merged_managers=_managers(flags.take_over_from),
        ),
        decryptor_memory_bytes=flags.decryptor_memory_mebibytes * MEBIBYTE,
        instance=socket.gethostname(),
    )


def _require_private_way(places: KrapaoPlaces, flags: MiwenFlags) -> None:
    """Refuse to send credentials over a network in plain text, unless a flag asks for that.

    Raises:
        CommandError: the flags do not go together.
    """
    given = [
        name
        for name, value in (
            ("--tls-dir", flags.tls_dir),
            ("--tls-secret", flags.tls_secret),
            ("--insecure-plain-tcp", flags.insecure_plain_tcp or None),
        )
        if value is not None
    ]
    if len(given) > 1:
        raise CommandError(f"{given[0]} and {given[1]} exclude each other")
    if flags.make_certificates and flags.tls_secret is None:
        raise CommandError("--make-certificates needs --tls-secret, the Secret that Miwen's own certificate goes to")
    if (over_tcp := places.over_tcp) is not None and not given:
        raise CommandError(
            f"--krapao {over_tcp}: credentials and decrypted secrets go over this connection, so give --tls-secret, "
            f"the Secret with Miwen's certificate (with --make-certificates Miwen makes it), or --tls-dir, a folder "
            f"with {', '.join(PARTS)}. A unix socket (--krapao unix:/path) needs none"
        )


def _lifetimes(flags: MiwenFlags) -> Lifetimes:
    """Raises CommandError: certificates can't be that short-lived."""
    lifetime = datetime.timedelta(seconds=flags.certificate_lifetime_seconds)
    if lifetime < _SHORTEST_LIFETIME:
        raise CommandError(
            "--certificate-lifetime: the shortest is 1h, because a renewed certificate takes a minute or two until it "
            "is in Krapao's volume"
        )
    return attrs.evolve(Lifetimes(), certificate=lifetime, spread=max(lifetime / 30, _SHORTEST_SPREAD))


def _namespaces(flags: MiwenFlags) -> tuple[str, ...]:
    """Those that are given, each once, in their order."""
    return tuple(dict.fromkeys(flags.namespaces))


def _own_namespace(flags: MiwenFlags) -> str:
    return flags.own_namespace or (pods_namespace() if flags.kubeconfig is None else None) or DEFAULT_NAMESPACE


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
