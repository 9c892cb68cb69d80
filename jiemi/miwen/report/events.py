"""Kubernetes Events about Decryptors: what `kubectl describe decryptor` and `kubectl events` show below the status.

`EventRecorder.record` decides at once, by what it knows of the Decryptor, and puts what is to be written into a queue;
one task, `EventRecorder.run`, writes the queue. So nobody who has something to tell waits for the API server, and an
Event that can't be written is nobody's failure.

What is not written, so that neither a look each minute nor two who fight over a field fill etcd:

- Repeats: the same type, reason and note about the same Decryptor within an hour. An hour is what the API server keeps
  an Event for (kube-apiserver --event-ttl), so what still holds is written again when the one before it goes. After a
  restart of Miwen, what still holds is written once more.
- What is beyond a Decryptor's rate: 25 at once and one more each 5 minutes, the numbers of client-go's spam filter
  (tools/record/events_cache.go). The note of the next one tells how many different Events were left out,
  or could not be written.

Events are an audit, so some are written though that rate is used up: deletions, rollbacks, and a failure that was not
told within the hour. They have a reserve, 100 at once and one more each 30 seconds: nobody needs more of them, and who
commits another broken file each second does not fill etcd either.

No `series` is written. client-go (tools/events/event_broadcaster.go) takes Events that differ in their notes only for
one series, shows the first note for all, and patches a count into it; that needs the right to patch Events, and hides
the one thing that is new, for example another manager's name. Here each note is a line of its own.

kubectl describe sorts by a time that events.k8s.io/v1 does not allow to be set, and so shows Events in the order of
their names. Names therefore begin, after the Decryptor's, with the time.

https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/; what the API server takes is in
pkg/apis/core/validation/events.go of kubernetes/kubernetes.
"""

from __future__ import annotations

import datetime
import enum
import hashlib
import re
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, Literal

import attrs
import structlog
import trio

from jiemi.core.api.decryptor import API_VERSION, KIND, ObjectMeta
from jiemi.core.decisions.schedule import watch_retry_seconds
from jiemi.core.errors import JiemiError, one_line
from jiemi.core.objects.identity import ObjectRef
from jiemi.core.reasons import NO_ANSWER
from jiemi.miwen.kubernetes.port import JsonObject, Kubernetes

EVENT_API_VERSION = "events.k8s.io/v1"
EVENT_KIND = "Event"
CONTROLLER = "jiemi.cr/miwen"
"""Who reports: kubectl describe shows it under From."""

NOTE_BYTES = 1024
WORD_BYTES = 128
"""The longest reason, action and reportingInstance."""
NAME_CHARACTERS = 253

QUEUE_LIMIT = 1000
"""Events that wait to be written, as client-go's; the oldest goes when there are more."""
REPEAT_SECONDS = 3600.0
BURST = 25
REFILL_SECONDS = 300.0
RESERVE_BURST = 100
RESERVE_REFILL_SECONDS = 30.0
MAX_DECRYPTORS = 16_384
"""How many Decryptors are known, the ones with the latest Events. Of one that is forgotten, something may be written
twice. With fewer than there are in a cluster, a round of all of them would find none known: so it is well above."""
TRIES = 6
"""Of one Event while the API server can't be reached: 31 seconds of waiting."""
SHUTDOWN_SECONDS = 2.0
"""How long the end of Miwen may wait for what is queued. The last Events tell what a user will look for (it was rolled
back, it was suspended); but the API server may be why Miwen ends, and a Pod that ends late is killed."""

_MAX_KEYS = 100
"""How many different Events of a Decryptor that were left out are told apart; beyond, repeats count too."""
_DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_NO_WORD = re.compile(r"[^A-Za-z0-9]")

EventType = Literal["Normal", "Warning"]

_log = structlog.get_logger("jiemi.miwen")


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


class Reserve(enum.Enum):
    """When an Event is written beyond the rate."""

    NONE = "never"
    NEW = "unless the same was written within the hour"
    ALL = "always"


class EventRecorder:
    """Tells what happens to Decryptors.

    Args:
        kubernetes: where Events are written.
        instance: which Miwen this is: the Pod's or the host's name.
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
        self._instance = _cut(one_line(instance), WORD_BYTES) or "unknown"
        self._now = now
        self._random = random
        self._queue: deque[_Queued] = deque()
        self._news = trio.Event()
        self._rations: OrderedDict[str, _TokenBucket] = OrderedDict()
        self._last_stamp = 0
        self._counts = EventCounts()
        self._forbidden_in: str | None = None

    @property
    def counts(self) -> EventCounts:
        """How many there were until now."""
        return self._counts

    def record(
        self,
        decryptor: ObjectMeta,
        *,
        type: EventType,
        reason: str,
        action: str,
        note: str,
        related: ObjectRef | None = None,
        transition: bool = False,
        reserve: Reserve = Reserve.NONE,
    ) -> None:
        """Tell of something, unless that was told already. Neither waits nor raises; from a trio task only.

        Args:
            decryptor: which it is about.
            type: Warning where someone should look.
            reason: why it is told, in CamelCase: "Drifted".
            action: what was done or tried, in CamelCase: "Apply".
            note: a sentence that anyone who may read the Decryptor's Events may read. It is made one line and cut to
                1 kB. What differs in its note is no repeat: so no times and no numbers that change each time.
            related: another object that it is about.
            transition: it is a change of state, such as Recovered or Resumed, or the first Failed after Ready: written
                though the same was told within the hour, because something else was true in between. Without it,
                Failed, Recovered, Failed within an hour would end with Recovered.
            reserve: when it is written though the Decryptor's rate is used up.
        """
        now = trio.current_time()
        reason, note = _word(reason, "Unknown"), one_line(note)
        key = _key(type, reason, note)
        ration = self._ration(decryptor.uid, now)
        verdict = ration.take(key, now, transition=transition, reserve=reserve)
        if verdict is _Verdict.DROPPED:
            self._count(left_out=1)
        if verdict is not _Verdict.WRITE:
            return
        if len(self._queue) >= QUEUE_LIMIT:
            self._leave_out(self._queue.popleft())
            self._count(left_out=1)
        others = ration.tell_left_out(key)
        event = self._event(decryptor, type, reason, _word(action, "Unknown"), _note(note, others), related)
        self._queue.append(_Queued(decryptor.namespace, decryptor.name, event, key, ration, others))
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
                if self._forbidden_in == queued.namespace:
                    self._forbidden_in = None
                    _log.info("events_allowed", namespace=queued.namespace)
                return

    def _log_failure(self, queued: _Queued, error: JiemiError) -> None:
        failure = error.failure
        if failure.reason == "EventForbidden":
            # Said once: it is the same for each Event. A right may be there in one namespace and not in another, so
            # only one that is written in the same namespace shows that it is worth saying again.
            if self._forbidden_in is None:
                self._forbidden_in = queued.namespace
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
        """It will not be written: let the next one tell, and let the same be tried when it is recorded again."""
        queued.ration.leave_out(queued.key, others=queued.others_left_out)

    def _ration(self, uid: str, now: float) -> _TokenBucket:
        ration = self._rations.setdefault(uid, _TokenBucket(now))
        self._rations.move_to_end(uid)
        if len(self._rations) > MAX_DECRYPTORS:
            self._rations.popitem(last=False)
        return ration

    def _count(self, *, written: int = 0, left_out: int = 0, failed: int = 0) -> None:
        counts = self._counts
        self._counts = EventCounts(counts.written + written, counts.left_out + left_out, counts.failed + failed)

    def _event(
        self, decryptor: ObjectMeta, kind: EventType, reason: str, action: str, note: str, related: ObjectRef | None
    ) -> JsonObject:
        now = self._now().astimezone(datetime.UTC)
        # Two of one microsecond, or after the clock was set back, still have names in the order of their times.
        self._last_stamp = max(int(now.timestamp() * 1e6), self._last_stamp + 1)
        event: dict[str, Any] = {
            "apiVersion": EVENT_API_VERSION,
            "kind": EVENT_KIND,
            "metadata": {"name": _name(decryptor.name, self._last_stamp), "namespace": decryptor.namespace},
            "eventTime": now.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "type": kind,
            "reason": reason,
            "action": action,
            "note": note,
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "namespace": decryptor.namespace,
                "name": decryptor.name,
                "uid": decryptor.uid,
                "resourceVersion": decryptor.resource_version,
            },
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance,
        }
        if related is not None:
            fields = {
                "apiVersion": related.api_version,
                "kind": related.kind,
                "namespace": related.namespace,
                "name": related.name,
            }
            event["related"] = {field: value for field, value in fields.items() if value}
        return event


@attrs.frozen
class _Queued:
    """An Event that waits to be written.

    Attributes:
        namespace, name: the Decryptor's.
        key: what a repeat of it has too.
        ration: the Decryptor's.
        others_left_out: how many others its note tells of.
    """

    namespace: str
    name: str
    event: JsonObject
    key: bytes
    ration: _TokenBucket
    others_left_out: int


class _Verdict(enum.Enum):
    """What becomes of an Event."""

    WRITE = "write"
    REPEAT = "repeat"
    DROPPED = "left out"


class _Bucket:
    """Tokens that come back one by one."""

    def __init__(self, size: int, refill_seconds: float, now: float) -> None:
        self._size = size
        self._refill_seconds = refill_seconds
        self._tokens = float(size)
        self._refilled_at = now

    def take(self, now: float) -> bool:
        """Whether there was one."""
        self._tokens = min(float(self._size), self._tokens + (now - self._refilled_at) / self._refill_seconds)
        self._refilled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class _TokenBucket:
    """What one Decryptor has had, and what it may have. Knows no clock: times are seconds of any one.

    It stays small by itself: within `REPEAT_SECONDS`, no more are written than the two buckets give.
    """

    def __init__(self, now: float) -> None:
        self._usual = _Bucket(BURST, REFILL_SECONDS, now)
        self._reserve = _Bucket(RESERVE_BURST, RESERVE_REFILL_SECONDS, now)
        self._written_at: dict[bytes, float] = {}  # the oldest first
        self._left_out: set[bytes] = set()
        self._more_left_out = 0

    def take(self, key: bytes, now: float, *, transition: bool, reserve: Reserve = Reserve.NONE) -> _Verdict:
        """Whether an Event is to be written; if so, it counts as written from now on."""
        while self._written_at and now - next(iter(self._written_at.values())) >= REPEAT_SECONDS:
            del self._written_at[next(iter(self._written_at))]
        is_repeat = key in self._written_at
        if is_repeat and not transition:
            return _Verdict.REPEAT
        may_use_reserve = reserve is Reserve.ALL or (reserve is Reserve.NEW and not is_repeat)
        if not self._usual.take(now) and not (may_use_reserve and self._reserve.take(now)):
            return _Verdict.DROPPED if self.leave_out(key) else _Verdict.REPEAT
        self._written_at.pop(key, None)
        self._written_at[key] = now
        return _Verdict.WRITE

    def leave_out(self, key: bytes, *, others: int = 0) -> bool:
        """An Event is not written after all, nor are others that it would have told of.

        Returns:
            Whether it is another than those that were left out before.
        """
        self._written_at.pop(key, None)
        self._more_left_out += others
        if key in self._left_out:
            return False
        if len(self._left_out) < _MAX_KEYS:
            self._left_out.add(key)
        else:
            self._more_left_out += 1
        return True

    def tell_left_out(self, key: bytes) -> int:
        """How many others than this Event were left out. They are not told a second time."""
        self._left_out.discard(key)
        number = len(self._left_out) + self._more_left_out
        self._left_out.clear()
        self._more_left_out = 0
        return number


def _key(kind: str, reason: str, note: str) -> bytes:
    """What a repeat has too; short, whatever the note's length."""
    return hashlib.blake2b(f"{kind}\n{reason}\n{note}".encode(), digest_size=16).digest()


def _name(decryptor: str, stamp: int) -> str:
    """A name that no other Event has: the Decryptor's name as far as there is room, the time, a random number.

    Args:
        stamp: microseconds since 1970.
    """
    if not _DNS_SUBDOMAIN.fullmatch(decryptor):
        decryptor = KIND.lower()
    end = f".{stamp:016x}{secrets.token_hex(4)}"
    return decryptor[: NAME_CHARACTERS - len(end)].rstrip("-.") + end


def _note(note: str, others_left_out: int) -> str:
    end = ""
    if others_left_out:
        events = "event was" if others_left_out == 1 else "events were"
        end = f" (and {others_left_out} more {events} left out)"
    return _cut(note, NOTE_BYTES - len(end)) + end


def _word(text: str, otherwise: str) -> str:
    return _NO_WORD.sub("", text)[:WORD_BYTES] or otherwise


def _cut(text: str, limit_bytes: int) -> str:
    """The text, cut to so many bytes of UTF-8 and between two characters."""
    data = text.encode()
    if len(data) <= limit_bytes:
        return text
    return data[: limit_bytes - len("…".encode())].decode(errors="ignore") + "…"
