"""Kubernetes Events about Decryptors: what `kubectl describe decryptor` and `kubectl events` show below the status.

`EventRecorder.record` decides at once, by what it knows of the Decryptor (`event_rate`), and puts what is to be written
into a queue; one task, `EventRecorder.run`, writes the queue. So nothing that has something to report waits for the API
server, and an Event that can't be written is nobody's failure.
"""

from __future__ import annotations

import datetime
from collections import OrderedDict, deque
from collections.abc import Callable

import attrs
import structlog
import trio

from jiemi.core.api.decryptor import ObjectMeta
from jiemi.core.decisions.schedule import watch_retry_seconds
from jiemi.core.errors import JiemiError
from jiemi.core.reasons import NO_ANSWER
from jiemi.miwen.kubernetes.port import JsonObject, Kubernetes
from jiemi.miwen.report.event_object import DECRYPTOR, EventContent, EventObjects, ObjectKind
from jiemi.miwen.report.event_rate import EventRate, Reserve, Verdict

QUEUE_LIMIT = 1000
"""Events that wait to be written, as client-go's; the oldest goes when there are more."""
MAX_DECRYPTORS = 16_384
"""How many Decryptors are known, the ones with the latest Events. Of one that is forgotten, something may be written
twice. With fewer than there are in a cluster, a round of all of them would find none known: so it is well above."""
TRIES = 6
"""Of one Event while the API server can't be reached: 31 seconds of waiting."""
MAX_FORBIDDEN = 100
"""In how many namespaces a missing right is logged at a time: where it is missing in more, it is the same right."""
SHUTDOWN_SECONDS = 2.0
"""How long the end of Miwen may wait for what is queued. The last Events are what a user will look for (it was rolled
back, it was suspended); but the API server may be why Miwen ends, and a Pod that ends late is killed."""

_log = structlog.get_logger("jiemi.miwen.report")


@attrs.frozen
class EventCounts:
    """A snapshot.

    Attributes:
        written: Events that the API server took.
        left_out: Events beyond a Decryptor's rate, or that fell out of the queue. Repeats are not counted.
        failed: Events that the API server refused, or that it could not be asked to take.
    """

    written: int = 0
    left_out: int = 0
    failed: int = 0


class EventRecorder:
    """Reports what happens to Decryptors.

    Args:
        kubernetes: the cluster in which Events are written.
        instance: the name of this Miwen: the Pod's or the host's.
        now: the wall clock, with a timezone.
        random: gives a number in [0, 1), for jitter.
    """

    def __init__(
        self,
        kubernetes: Kubernetes,
        *,
        instance: str,
        now: Callable[[], datetime.datetime],
        random: Callable[[], float],
    ) -> None:
        self._kubernetes = kubernetes
        self._objects = EventObjects(instance)
        self._now = now
        self._random = random
        self._queue: deque[_Queued] = deque()
        self._news = trio.Event()
        self._rates: OrderedDict[str, EventRate] = OrderedDict()
        self._counts = EventCounts()
        self._forbidden_in: set[str] = set()

    @property
    def counts(self) -> EventCounts:
        """How many there were until now."""
        return self._counts

    def record(
        self,
        decryptor: ObjectMeta,
        content: EventContent,
        *,
        transition: bool = False,
        reserve: Reserve = Reserve.NONE,
        kind: ObjectKind = DECRYPTOR,
    ) -> None:
        """Report something, unless that was reported already. Neither waits nor raises; from a trio task only.

        Args:
            decryptor: the Decryptor that it is about, or another object.
            content: what it says. What differs in its note is no repeat.
            transition: it is a change of state, such as Recovered or Resumed, or the first Failed after Ready: written
                though the same was reported within the hour, because something else was true in between. Without it,
                Failed, Recovered, Failed within an hour would end with Recovered.
            reserve: when it is written though the Decryptor's rate is used up.
            kind: of the object that it is about.
        """
        now = trio.current_time()
        rate = self._rate(decryptor.uid, now)
        verdict = rate.take(content.key, now, transition=transition, reserve=reserve)
        if verdict is Verdict.DROPPED:
            _log.debug("event_dropped", namespace=decryptor.namespace, name=decryptor.name, reason=content.reason)
            self._count(left_out=1)
        if verdict is not Verdict.WRITE:
            return
        if len(self._queue) >= QUEUE_LIMIT:
            self._leave_out(self._queue.popleft())
            self._count(left_out=1)
        others = rate.take_left_out(content.key)
        event = self._objects.make(decryptor, content, now=self._now(), others_left_out=others, kind=kind)
        self._queue.append(_Queued(decryptor.namespace, decryptor.name, event, content.key, rate, others))
        self._news.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write what is recorded, until cancelled. What is queued then has `SHUTDOWN_SECONDS` to be written."""
        task_status.started()
        try:
            while True:
                while not self._queue:
                    self._news = trio.Event()
                    await self._news.wait()
                await self._write_next(tries=TRIES)
        finally:
            with trio.move_on_after(SHUTDOWN_SECONDS, shield=True):
                while self._queue:
                    await self._write_next(tries=1)
            if self._queue:
                _log.warning("events_not_written", reason="Timeout", number=len(self._queue))
                self._count(failed=len(self._queue))
                self._queue.clear()

    async def _write_next(self, *, tries: int) -> None:
        queued = self._queue.popleft()
        try:
            await self._write(queued, tries=tries)
        except BaseException:
            # It may have been written; under its name it is not written twice.
            self._queue.appendleft(queued)
            raise

    async def _write(self, queued: _Queued, *, tries: int) -> None:
        failures = 0
        while True:
            try:
                await self._kubernetes.create_event(queued.namespace, queued.event)
            except JiemiError as error:
                failures += 1
                if error.failure.reason not in NO_ANSWER or failures >= tries:
                    self._leave_out(queued)
                    self._count(failed=1)
                    self._log_failure(queued, error)
                    return
                await trio.sleep(watch_retry_seconds(failures, random=self._random()))
            else:
                self._count(written=1)
                if queued.namespace in self._forbidden_in:
                    self._forbidden_in.remove(queued.namespace)
                    _log.info("events_allowed", namespace=queued.namespace)
                return

    def _log_failure(self, queued: _Queued, error: JiemiError) -> None:
        failure = error.failure
        if failure.reason == "EventForbidden":
            # Logged once for each namespace: it is the same for each Event of it, and a right may be there in one
            # namespace and not in another. One that is written there shows that it is worth logging again.
            if queued.namespace not in self._forbidden_in and len(self._forbidden_in) < MAX_FORBIDDEN:
                self._forbidden_in.add(queued.namespace)
                _log.warning("events_forbidden", reason=failure.reason, message=failure.text)
            return
        _log.warning(
            "event_not_written",
            namespace=queued.namespace,
            name=queued.name,
            event_reason=queued.event["reason"],
            reason=failure.reason,
            message=failure.text,
        )

    def _leave_out(self, queued: _Queued) -> None:
        """It will not be written: the next one counts it, and the same is tried when it is recorded again."""
        queued.rate.leave_out(queued.key, others=queued.others_left_out)

    def _rate(self, uid: str, now: float) -> EventRate:
        rate = self._rates.setdefault(uid, EventRate(now))
        self._rates.move_to_end(uid)
        if len(self._rates) > MAX_DECRYPTORS:
            self._rates.popitem(last=False)
        return rate

    def _count(self, *, written: int = 0, left_out: int = 0, failed: int = 0) -> None:
        counts = self._counts
        self._counts = EventCounts(counts.written + written, counts.left_out + left_out, counts.failed + failed)


@attrs.frozen
class _Queued:
    """An Event that waits to be written.

    Attributes:
        namespace, name: the Decryptor's.
        key: what a repeat of it has too.
        rate: the Decryptor's.
        others_left_out: how many others its note counts.
    """

    namespace: str
    name: str
    event: JsonObject
    key: bytes
    rate: EventRate
    others_left_out: int
