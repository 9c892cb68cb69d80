"""The loop of one Decryptor.

It ticks when it starts, when the spec or a Secret that it names changes, when its repository moves, when one of its
objects drifts, and every interval. A mailbox holds only the latest value of what the loop follows: ten changes during
one tick cause one more tick, with the last of them. After each tick the loop reports (`reports`), writes the status
(`status_writer`) and decides when it ticks again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import attrs
import structlog
import trio

from jiemi.core.api.decryptor import Decryptor
from jiemi.core.api.decryptor_status import DecryptorStatus
from jiemi.core.api.durations import duration_seconds
from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.decisions.schedule import next_delay_seconds
from jiemi.core.decisions.status import blank
from jiemi.core.errors import Failure
from jiemi.core.objects.drift import Observation
from jiemi.core.objects.inventory import by_key
from jiemi.core.trace_context import TraceContext
from jiemi.miwen.controller.counting import Counting
from jiemi.miwen.controller.reports import Reports, report_deleted
from jiemi.miwen.controller.status_writer import StatusWriter
from jiemi.miwen.kubernetes.discovery import Resource
from jiemi.miwen.kubernetes.port import Kubernetes
from jiemi.miwen.reconcile.phases import PhaseTimes
from jiemi.miwen.reconcile.reconciler import Reconciler
from jiemi.miwen.reconcile.status_draft import StatusDraft
from jiemi.miwen.reconcile.tick import ReconcileContext, ReconcileResult
from jiemi.miwen.report.events import EventRecorder
from jiemi.miwen.report.metrics import MiwenMetrics
from jiemi.miwen.state.followed_source import Member
from jiemi.miwen.state.followed_sources import FollowedSources
from jiemi.miwen.state.loop_state import LoopState, SecretVersions
from jiemi.miwen.state.mailbox import Mailbox, Wake
from jiemi.miwen.state.open_repository import OpenRepository, tenant_of
from jiemi.miwen.watch.object_watches import NotSynced
from jiemi.rpc.contract import Head, Krapao
from jiemi.tracing.current import current, new_trace
from jiemi.tracing.spans import AnySpan, Tracer

REWATCH_SECONDS = 30.0
"""How often a kind that can't be watched is asked about again."""

_log = structlog.get_logger("jiemi.miwen.controller")


@attrs.frozen
class DecryptorLoop:
    """Runs the loops.

    Attributes:
        kubernetes: where the status is written.
        krapao: where repositories are opened.
        reconciler: what carries out a tick.
        events: what users see.
        metrics: what operators see.
        random: gives a number in [0, 1), for jitter.
        tracer: where the spans of ticks go; None where no traces are collected.
        sources: what Decryptors follow, and so which of them a move of a repository wakes.
    """

    kubernetes: Kubernetes
    krapao: Krapao
    reconciler: Reconciler
    events: EventRecorder
    metrics: MiwenMetrics
    random: Callable[[], float]
    tracer: Tracer | None = None
    sources: FollowedSources = attrs.field(factory=FollowedSources)

    async def run(self, mailbox: Mailbox) -> None:
        """Follow one Decryptor until cancelled."""
        registry = self.reconciler.registry
        await registry.complete.wait()
        try:
            with registry.following(mailbox):
                async with trio.open_nursery() as nursery:
                    await self._run(mailbox, nursery)
        finally:
            registry.repositories.set_awake(mailbox.latest.meta.key, awake=True)
            self.reconciler.forget(mailbox.latest.meta.key)
            self.metrics.follow(mailbox.latest.meta.key, None)

    def report_deleted(self, mailbox: Mailbox) -> None:
        """The Decryptor is deleted: log it, and say in an Event what stays of what it applied."""
        report_deleted(mailbox, self.events)

    async def _run(self, mailbox: Mailbox, nursery: trio.Nursery) -> None:
        began, written = mailbox.latest, mailbox.take_status()
        writer = StatusWriter(self.kubernetes, self.events, self.reconciler.now, began, written)
        reports = Reports(self.events, self.metrics, written)
        counting = Counting(self.metrics, self.reconciler.now, self.reconciler.timing.interval_of)
        state = _loop_state(written)
        believed = self.reconciler.tenancy.believed(written, mailbox.latest.meta.namespace)
        status = believed or blank(_file(mailbox.latest))
        mailbox.set_inventory(by_key(status.inventory))
        news = _News()

        def on_moved(head: Head) -> None:
            # Our own question may be what makes Krapao see that the ref moved: the tick that asked knows it already.
            news.revision, news.trace = head.revision, current()
            if not news.ticking and head.revision != state.head_revision:
                mailbox.wake(Wake.REPOSITORY)

        repositories = self._opens(mailbox, on_moved, nursery)
        compared: set[Resource] = set()
        failures = _Failures()

        def settle() -> None:
            mailbox.end_tick()
            if news.end_tick() not in (None, state.head_revision):
                mailbox.wake(Wake.REPOSITORY)

        by_itself = Wake.START
        while True:
            decryptor = mailbox.begin_tick()
            woken_by = ",".join(sorted(cause.value for cause in mailbox.woken_by or {by_itself}))
            seen_by = news.begin_tick()  # often its own question, which then woke nothing
            seen_by = seen_by if Wake.REPOSITORY in mailbox.woken_by else mailbox.pushed_by
            with self._traced(decryptor, woken_by, seen_by) as tick:
                counting.begin_tick()
                writer.begin_tick(decryptor, woken_by, seen_by)
                phases = PhaseTimes()
                draft = StatusDraft(status, decryptor.meta.generation, self.reconciler.now, mailbox.set_inventory)
                context = ReconcileContext(
                    decryptor, draft, repositories, state, mailbox, writer.write, settle, phases=phases
                )
                result = await self.reconciler.tick(context)
                settle()
                reports.report(decryptor, result)
                status = result.status or status
                unwritten = await writer.end_tick(result.status)
                failure = unwritten or result.failure
                self._remember(context, result, status, failure)
                counting.end_tick(mailbox.latest, state, status, failure, conclusive=result.conclusive, phases=phases)
                failures.count(failure, decryptor, state.head_revision)
                tick.set(revision=state.head_revision)
                if failure is not None:
                    tick.fail(failure.reason)
                delay = self._delay(decryptor, result, failure, failures.in_a_row)
                _log.debug(
                    "tick_ended",
                    reason=failure.reason if failure is not None else None,
                    revision=state.head_revision,
                    conclusive=result.conclusive,
                    next_seconds=round(delay, 1),
                    **{f"{phase.value}_ms": round(seconds * 1000) for phase, seconds in phases.seconds},
                )
            by_itself = Wake.INTERVAL if failure is None and result.requeue_after_seconds is None else Wake.RETRY
            for resource in state.watching - compared:
                nursery.start_soon(self._compare, mailbox, state, resource)
            compared = set(state.watching)
            await mailbox.wait(delay)

    @contextlib.contextmanager
    def _traced(self, decryptor: Decryptor, woken_by: str, seen_by: TraceContext | None) -> Iterator[AnySpan]:
        """One tick: its log lines have one id, and its spans are one trace.

        Args:
            woken_by: the causes.
            seen_by: the trace of the call that saw the repository move, or of the webhook, where that is a cause.
        """
        meta = decryptor.meta
        shown = {"namespace": meta.namespace, "name": meta.name}
        attributes = {
            "k8s.namespace.name": meta.namespace,
            "decryptor": meta.name,
            "generation": meta.generation,
            "woken_by": woken_by,
        }
        with new_trace(self.tracer, "tick", shown=shown, attributes=attributes, link=seen_by) as tick:
            seen = {"seen_by": seen_by.trace_id} if seen_by is not None else {}
            _log.debug("tick_began", woken_by=woken_by, generation=meta.generation, **seen)
            yield tick

    def _opens(self, mailbox: Mailbox, on_moved: Callable[[Head], None], nursery: trio.Nursery) -> OpenRepository:
        """What opens the Decryptor's repository."""
        key = mailbox.latest.meta.key
        member = Member(key, on_moved, on_push=lambda: mailbox.wake(Wake.PUSH))
        return OpenRepository(self.krapao, tenant_of(key[0]), nursery, member, self.sources, random=self.random)

    def _remember(
        self, context: ReconcileContext, result: ReconcileResult, status: DecryptorStatus, failure: Failure | None
    ) -> None:
        """A tick has ended: count what is held until the next one, and note which moves of the repository concern
        it."""
        files, meta = self.reconciler.files, context.decryptor.meta
        files.count_held(meta.key, context.state, status)
        settled = files.settled(context, result, failure)
        rests = context.repositories.end_tick(meta.generation, *(settled or (None, None)))
        self.reconciler.registry.repositories.set_awake(meta.key, awake=not rests)

    def _delay(self, decryptor: Decryptor, result: ReconcileResult, failure: Failure | None, failures: int) -> float:
        retry = decryptor.spec.retry_interval if isinstance(decryptor.spec, DecryptorSpec) else None
        delay = next_delay_seconds(
            self.reconciler.timing.interval_of(decryptor),
            failed=failure.kind if failure is not None else None,
            failures_in_a_row=failures,
            random=self.random(),
            retry_seconds=duration_seconds(retry) if retry is not None else None,
        )
        return delay if result.requeue_after_seconds is None else min(delay, result.requeue_after_seconds)

    async def _compare(self, mailbox: Mailbox, state: LoopState, resource: Resource) -> None:
        """Once a kind is watched, look for objects that were deleted while nobody watched."""

        def namespaces() -> set[str]:
            return {
                key.namespace for key in mailbox.inventory if (key.group, key.kind) == (resource.group, resource.kind)
            }

        if not await self.reconciler.watches.synced(resource, namespaces()):
            mailbox.wake(Wake.KIND_WATCHED)  # the status says why
            while not self.reconciler.watches.known(resource, namespaces()):
                await trio.sleep(REWATCH_SECONDS)
                if resource not in state.watching:
                    return  # nobody asks for it any longer
            mailbox.wake(Wake.KIND_WATCHED)
        for key in mailbox.inventory:
            if (key.group, key.kind) != (resource.group, resource.kind):
                continue
            try:
                version = self.reconciler.watches.version_of(key.group, key.kind, key.namespace, key.name)
            except NotSynced:
                return
            if version is None:
                mailbox.see(key, Observation("", None))
        state.is_compared = True


def _loop_state(status: DecryptorStatus | None) -> LoopState:
    """What the status of an earlier Miwen says."""
    observed = status.observed_secrets if status is not None else ()
    return LoopState(secrets=SecretVersions({each.name: each.resource_version for each in observed}))


def _file(decryptor: Decryptor) -> str:
    return decryptor.spec.source.described if isinstance(decryptor.spec, DecryptorSpec) else ""


class _Failures:
    """How many ticks failed in a row, since somebody last did something that may have solved the problem.

    After a change of the spec, a request or a push, nobody waits as long as the failures before it had made the pauses.
    """

    def __init__(self) -> None:
        self.in_a_row = 0
        self._revision: str | None = None
        self._asked: tuple[int, str | None] | None = None

    def count(self, failure: Failure | None, decryptor: Decryptor, revision: str | None) -> None:
        """A tick has ended.

        Args:
            decryptor: as the tick had it.
            revision: the one that it found, or None where it found none.
        """
        asked = (decryptor.meta.generation, decryptor.meta.reconcile_at)
        is_new = asked != self._asked or revision not in (None, self._revision)
        self._asked, self._revision = asked, revision or self._revision
        if failure is None:
            self.in_a_row = 0
        else:
            self.in_a_row = 1 if is_new else self.in_a_row + 1


class _News:
    """The newest revision that Krapao has reported since the tick began."""

    revision: str | None = None
    trace: TraceContext | None = None
    ticking = False

    def begin_tick(self) -> TraceContext | None:
        """Returns the trace of the call that saw the revision which was reported last before the tick, if one was."""
        trace, self.trace = self.trace, None
        self.revision, self.ticking = None, True
        return trace

    def end_tick(self) -> str | None:
        """The newest revision that was reported during the tick, or None."""
        self.ticking = False
        return self.revision
