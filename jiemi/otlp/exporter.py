"""Spans that have ended, from the tasks that made them to a collector.

A span is encoded as it ends and goes into a queue that has a bound; where that is full, or the collector takes nothing,
spans are lost and counted. So a collector that hangs costs the work nothing. One task sends batches. A batch that may
pass later (429, 502 to 504, no answer) is sent again a few times, with growing pauses; whatever else is answered, it is
not. At the end of the process, what is left has two seconds.
"""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Mapping

import attrs
import structlog
import trio

from jiemi import __version__
from jiemi.core.backoff import doubled_seconds
from jiemi.otlp.endpoint import Endpoint, post
from jiemi.otlp.wire import encode_request, encode_span
from jiemi.tracing.spans import Span

_SCOPE = ("jiemi", __version__)
_AGAIN = frozenset({429, 502, 503, 504})
"""https://opentelemetry.io/docs/specs/otlp/#retryable-response-codes"""

_log = structlog.get_logger("jiemi.otlp")


@attrs.frozen
class ExportSettings:
    """How spans are sent.

    Attributes:
        queue_limit: how many spans may wait. One takes about 300 bytes.
        batch_limit: how many go in one request.
        pause_seconds: how long spans wait for others.
        timeout_seconds: the longest that a request may take, connecting included.
        tries: how often a batch is sent.
        retry_first_seconds, retry_most_seconds: the pause after the first failure, and the longest.
        end_seconds: how long the last ones have when the process ends.
    """

    queue_limit: int = 4096
    batch_limit: int = 512
    pause_seconds: float = 2.0
    timeout_seconds: float = 10.0
    tries: int = 5
    retry_first_seconds: float = 1.0
    retry_most_seconds: float = 30.0
    end_seconds: float = 2.0


class Exporter:
    """Takes spans, in trio's thread.

    Args:
        endpoint: the collector.
        resource: attributes of the process.
    """

    def __init__(self, endpoint: Endpoint, resource: Mapping[str, str], settings: ExportSettings | None = None) -> None:
        self._endpoint = endpoint
        self._resource = resource
        self._settings = settings if settings is not None else ExportSettings()
        self._queue: deque[bytes] = deque()
        self._is_full = trio.Event()
        self._troubles: set[str] = set()
        self._counts: Counter[str] = Counter(dict.fromkeys(("sent", "queue_full", "refused", "not_sent"), 0))

    @property
    def counts(self) -> Mapping[str, int]:
        """How many spans there were, by what became of them: sent; lost because the queue was full, because the
        collector refused them, or because it did not answer. From any thread."""
        return dict(self._counts)

    def ended(self, span: Span) -> None:
        """Take a span that has ended. Never waits and never raises."""
        if len(self._queue) >= self._settings.queue_limit:
            self._counts["queue_full"] += 1
            return
        self._queue.append(encode_span(span))
        if len(self._queue) >= self._settings.batch_limit:
            self._is_full.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send spans while the context lasts, and then for a moment what is left."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run)
                yield
                nursery.cancel_scope.cancel()
        finally:
            # Not to a collector that takes nothing anyhow.
            if not self._troubles:
                with trio.move_on_after(self._settings.end_seconds, shield=True):
                    await self._send_last()
            self._counts["not_sent"] += len(self._queue)
            self._queue.clear()

    async def _send_last(self) -> None:
        while batch := self._take():
            is_sent = False
            try:
                is_sent = await self._send(batch)
            finally:
                self._counts["not_sent"] += 0 if is_sent else len(batch)
            if not is_sent:
                return

    async def _run(self) -> None:
        """Send batches. Has no deadline: it lasts as long as the process."""
        while True:
            with trio.move_on_after(self._settings.pause_seconds):
                await self._is_full.wait()
            while batch := self._take():
                await self._send_with_retries(batch)

    def _take(self) -> list[bytes]:
        size = min(len(self._queue), self._settings.batch_limit)
        batch = [self._queue.popleft() for _ in range(size)]
        if len(self._queue) < self._settings.batch_limit:
            self._is_full = trio.Event()
        return batch

    async def _send_with_retries(self, batch: list[bytes]) -> None:
        settings = self._settings
        try:
            for failures in range(1, settings.tries + 1):
                if await self._send(batch):
                    return
                if failures < settings.tries:
                    first, most = settings.retry_first_seconds, settings.retry_most_seconds
                    await trio.sleep(doubled_seconds(first, failures, most_seconds=most))
        except trio.Cancelled:
            self._queue.extendleft(reversed(batch))  # for the last try
            raise
        self._counts["not_sent"] += len(batch)

    async def _send(self, batch: list[bytes]) -> bool:
        """Whether the batch is dealt with: taken, or refused for good."""
        body = encode_request(self._resource, _SCOPE, batch)
        try:
            with trio.fail_after(self._settings.timeout_seconds):
                status = await post(self._endpoint, body)
        except trio.TooSlowError:
            return self._failed(f"no answer within {self._settings.timeout_seconds:g} s")
        except OSError as error:
            # Of what the system says the number's text alone: its own names the address.
            return self._failed(error.strerror or (str(error) if type(error) is ConnectionError else "no connection"))
        except Exception as error:  # noqa: BLE001 - the boundary of what may fail alone, for example a name that is none
            return self._failed(type(error).__name__)
        if status in _AGAIN:
            return self._failed(f"it answered {status}")
        if 200 <= status < 300:
            self._counts["sent"] += len(batch)
            _log.debug("spans_sent", spans=len(batch), size_bytes=len(body))
            if self._troubles:
                _log.info("spans_sent_again", endpoint=self._endpoint.authority)
            self._troubles.clear()
        else:
            self._counts["refused"] += len(batch)
            self._failed(f"it answered {status}")
        return True

    def _failed(self, why: str) -> bool:
        # Each reason once until spans are taken again: a collector may fail in two ways by turns.
        if why not in self._troubles:
            _log.warning("spans_not_sent", endpoint=self._endpoint.authority, why=why)
        self._troubles.add(why)
        return False
