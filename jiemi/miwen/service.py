"""Miwen, whole: it follows the Decryptors, runs their loops and shows that it is alive.

follow (list, watch) -> Decryptors (one task per Decryptor) -> DecryptorLoop (ticks) -> Reconciler -> Krapao, Kubernetes

Ticks of different Decryptors share the registry (which Decryptor has an object, and which depend on one another) and
the watches of objects and Secrets, which wake the loops.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable
from pathlib import Path

import attrs
import structlog
import trio

from jiemi.concurrency.fair_limiter import FairLimiter
from jiemi.core.decisions.policy import Policy
from jiemi.core.decisions.schedule import DEFAULT_INTERVAL_SECONDS
from jiemi.core.memory import DEFAULT_TOTAL_BYTES, MemoryBudget
from jiemi.core.objects.identity import ObjectKey
from jiemi.miwen.controller.decryptor_watch import follow
from jiemi.miwen.controller.loop import DecryptorLoop
from jiemi.miwen.controller.supervisor import Decryptors
from jiemi.miwen.kubernetes.discovery import Resource
from jiemi.miwen.kubernetes.port import JsonObject, Kubernetes
from jiemi.miwen.reconcile.limits import TurnedAway
from jiemi.miwen.reconcile.reconciler import Reconciler
from jiemi.miwen.reconcile.tenancy import Tenancy
from jiemi.miwen.reconcile.timing import Timing
from jiemi.miwen.report.events import EventRecorder
from jiemi.miwen.report.measured_krapao import MeasuredKrapao
from jiemi.miwen.report.metrics import MiwenMetrics
from jiemi.miwen.state.followed_sources import FollowedSources
from jiemi.miwen.state.registry import Registry
from jiemi.miwen.watch.object_watches import ObjectWatches
from jiemi.miwen.webhooks.genuine import Verifier
from jiemi.miwen.webhooks.intake import Intake
from jiemi.miwen.webhooks.pushes import Pushes
from jiemi.miwen.webhooks.receiver import Receiver
from jiemi.miwen.webhooks.secrets import WebhookSecrets
from jiemi.miwen.webhooks.unusable import report_unusable
from jiemi.rpc.contract import Krapao
from jiemi.tracing.spans import Tracer

_log = structlog.get_logger("jiemi.miwen")

ALIVE_INTERVAL_SECONDS = 10.0
"""How often the alive file is touched; `jiemi probe miwen` calls it dead after several of these."""


@attrs.frozen
class MiwenSettings:
    """How Miwen works, as the operator sets it.

    Attributes:
        interval_seconds: how often each Decryptor asks for the newest revision.
        max_concurrent_deployments: how many Decryptors are decrypted and applied at once. Each holds its decrypted
            documents in memory meanwhile (4 MiB; one of them 32 MiB). Namespaces share the slots fairly.
        deploy_timeout_seconds: the longest time that one of them may take.
        alive_file: a file that is touched every `ALIVE_INTERVAL_SECONDS` while the event loop runs, or None.
        policy: the policy of the operator, or None where everything is allowed.
        tenancy: the other bounds of the operator.
        decryptor_memory_bytes: what all Decryptors together may hold in memory: specs, statuses, credentials. One
            namespace gets a third of it at most.
        instance: the name under which this process reports Events, for example that of its Pod.
    """

    interval_seconds: float = DEFAULT_INTERVAL_SECONDS
    max_concurrent_deployments: int = 8
    deploy_timeout_seconds: float = 300.0
    alive_file: Path | None = None
    policy: Policy | None = None
    tenancy: Tenancy = Tenancy()
    decryptor_memory_bytes: int = DEFAULT_TOTAL_BYTES
    instance: str = "miwen"


@attrs.frozen
class Webhooks:
    """The port that git hosts send to, served by whoever runs Miwen: also while another is the active one.

    Attributes:
        receiver: the port.
        verifier: which requests are genuine.
        secrets: the Secrets that declare them, of which those that can't be used are reported; None: nothing is.
    """

    receiver: Receiver
    verifier: Verifier
    secrets: WebhookSecrets | None = None


@attrs.frozen
class MiwenPorts:
    """What Miwen reaches outside of itself.

    Attributes:
        kubernetes: the cluster.
        krapao: the repository service.
        now: the wall clock.
        random: gives a number in [0, 1), for jitter.
        metrics: what is counted.
        tracer: where the spans of ticks go; None where no traces are collected.
        webhooks: the port that git hosts send to; None where none is served.
    """

    kubernetes: Kubernetes
    krapao: Krapao
    now: Callable[[], datetime.datetime]
    random: Callable[[], float]
    metrics: MiwenMetrics = attrs.field(factory=MiwenMetrics)
    tracer: Tracer | None = None
    webhooks: Webhooks | None = None


async def run_miwen(
    ports: MiwenPorts, settings: MiwenSettings, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Run until cancelled. Started once every Decryptor that exists has its task."""
    with ports.metrics.working():
        await _run(ports, settings, task_status)


async def _run(ports: MiwenPorts, settings: MiwenSettings, task_status: trio.TaskStatus[None]) -> None:
    kubernetes, metrics, now, random = ports.kubernetes, ports.metrics, ports.now, ports.random
    registry = Registry(own_namespace_only=settings.tenancy.own_namespace_only)

    def on_change(resource: Resource, metadata: JsonObject, *, deleted: bool) -> None:
        key = ObjectKey(resource.group, resource.kind, metadata.get("namespace") or "", metadata["name"])
        if (key.group, key.kind) == ("", "Secret"):
            registry.secret_changed(key.namespace, key.name)
        registry.see(key, metadata, deleted=deleted)

    async with trio.open_nursery() as nursery:
        if settings.alive_file is not None:
            nursery.start_soon(_show_life, trio.Path(settings.alive_file))
        events = EventRecorder(kubernetes, now=now, instance=settings.instance, random=random)
        metrics.events = lambda: events.counts
        await nursery.start(lambda task_status: events.run(task_status=task_status))
        budget = MemoryBudget(settings.decryptor_memory_bytes)
        watches = ObjectWatches(kubernetes, nursery, on_change, random=random, counts=metrics.watches)
        slots = FairLimiter(settings.max_concurrent_deployments)
        metrics.watch_slots("deployments", slots)
        reconciler = Reconciler(
            kubernetes,
            registry,
            watches,
            now,
            Timing(settings.interval_seconds, settings.deploy_timeout_seconds),
            slots,
            settings.policy,
            settings.tenancy,
            budget,
        )
        sources = FollowedSources(ports.tracer)
        krapao = MeasuredKrapao(ports.krapao, metrics)
        loop = DecryptorLoop(kubernetes, krapao, reconciler, events, metrics, random, ports.tracer, sources)
        turned_away = TurnedAway(kubernetes, budget, events, metrics, now=now)
        metrics.turned_away = lambda: len(turned_away.keys())
        decryptors = Decryptors(nursery, loop.run, registry, budget, turned_away, loop.report_deleted)
        nursery.start_soon(turned_away.run, decryptors.put)
        await nursery.start(
            lambda task_status: follow(kubernetes, decryptors, random=random, metrics=metrics, task_status=task_status)
        )
        with contextlib.ExitStack() as stack:
            if ports.webhooks is not None:
                if ports.webhooks.secrets is not None:
                    nursery.start_soon(report_unusable, ports.webhooks.secrets, events)
                own = settings.tenancy.protection.own_namespace
                pushes = Pushes(registry, sources)
                nursery.start_soon(pushes.run)
                intake = Intake(ports.webhooks.verifier, own, pushes.moved, ports.tracer)
                stack.enter_context(ports.webhooks.receiver.taking(intake))
            task_status.started()
            await trio.sleep_forever()


async def _show_life(file: trio.Path) -> None:
    while True:
        try:
            await file.touch()
        except OSError as error:
            # The probe reports it; a full disk is no reason to stop following.
            _log.warning("alive_file_not_touched", file=str(file), error=error.strerror)
        await trio.sleep(ALIVE_INTERVAL_SECONDS)
