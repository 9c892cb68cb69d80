"""Questions that are asked by many at once and answered by one run: single flight.

A flight is a task in the owner's nursery. Who asks what a flight is already on the way to answer waits for that
one. A waiter that is cancelled leaves the others alone; when the last one has gone, the flight itself is cancelled.
Each waiter gets its own exception, made from the same failure: one exception object raised in several tasks would
mix up their tracebacks.

What a flight logs has the trace id of who started it. Another who waits for it has a line (debug) that names that id.
"""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

import attrs
import structlog
import trio

from jiemi.concurrency.askers import Askers
from jiemi.core.errors import Failure, JiemiError
from jiemi.core.trace_context import TraceContext
from jiemi.tracing.current import current, link

T = TypeVar("T")

log = structlog.get_logger("jiemi.krapao")


@attrs.define(eq=False)
class Flight:
    """One run that is under way.

    Attributes:
        began_at: when the host began to be asked, by trio's clock in seconds; None before that.
        askers: the tenants that wait for it. It waits for slots (`jiemi.concurrency.fair_limiter`) in the queues of all
            of them, so that nobody waits behind the queue of the tenant that happened to ask first.
        trace: that of who started it; None for none.
    """

    began_at: float | None = None
    askers: Askers = attrs.field(factory=Askers)
    trace: TraceContext | None = attrs.field(factory=current)
    _waiters: int = 0
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    _done: trio.Event = attrs.field(factory=trio.Event)
    _value: Any = None
    _failure: Failure | None = Failure("KrapaoUnavailable", "the repository was closed")

    def begin(self) -> None:
        """Note that the host begins to be asked, or begins again."""
        self.began_at = trio.current_time()


class SingleFlight:
    """All flights of one owner."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._latest: dict[Hashable, Flight] = {}

    async def do(
        self,
        question: Hashable,
        fly: Callable[[Flight], Awaitable[T]],
        askers: Askers,
        *,
        may_join: Callable[[Flight], bool] = lambda _: True,
    ) -> T:
        """The answer to a question, from a run that others may share.

        Args:
            question: equal for those who may share.
            fly: makes the answer; called in a task of the owner's nursery.
            askers: the tenants for whom this asks.
            may_join: whether a flight that is under way will do for this asker.

        Raises:
            JiemiError: what the run failed with; InternalError where it raised anything else.
        """
        flight = self._latest.get(question)
        if flight is None or not may_join(flight):
            flight = self._latest[question] = Flight()
            self._nursery.start_soon(self._fly, question, flight, fly)
        elif flight.trace is not None:
            log.debug("run_shared", run_of=flight.trace.trace_id)
            link(flight.trace)
        flight._waiters += 1
        try:
            with flight.askers.joined(askers):
                await flight._done.wait()
        finally:
            flight._waiters -= 1
            if flight._waiters == 0:
                flight._scope.cancel()
                self._forget(question, flight)
        if flight._failure is not None:
            raise JiemiError.of(flight._failure)
        value: T = flight._value
        return value

    async def _fly(self, question: Hashable, flight: Flight, fly: Callable[[Flight], Awaitable[T]]) -> None:
        try:
            with flight._scope:
                flight._value = await fly(flight)
                flight._failure = None
        except JiemiError as error:
            flight._failure = error.failure
        except Exception as error:  # noqa: BLE001 - the boundary of a task that may fail alone
            # A fault of ours: it ends this run, not the service. Its text may quote anything: only its place is logged.
            frames = traceback.extract_tb(error.__traceback__)
            place = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames]
            log.error("internal_error", kind=type(error).__name__, place=place[-5:])
            flight._failure = Failure("InternalError", f"{type(error).__name__} in {place[-1] if place else 'Krapao'}")
        finally:
            self._forget(question, flight)
            flight._done.set()

    def _forget(self, question: Hashable, flight: Flight) -> None:
        if self._latest.get(question) is flight:
            del self._latest[question]
