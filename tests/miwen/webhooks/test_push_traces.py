"""From a webhook to the status: whoever a push wakes names the webhook's trace, and strangers make no trace."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import structlog
import trio
from support.metrics_pages import ask
from support.miwen.world import FILE, INTERVAL, World, miwen, secret, settle
from support.webhooks.requests import NOW, SECRET, raw, request, status
from support.webhooks.taken import deliver, webhooks
from trio.testing import MockClock

from jiemi.core.errors import Failure
from jiemi.core.sensitive import SensitiveText
from jiemi.core.trace_context import TraceContext
from jiemi.core.webhooks.webhook import Webhook
from jiemi.miwen.webhooks.bursts import QUIET_SECONDS
from jiemi.miwen.webhooks.forwarder import Forwarder
from jiemi.miwen.webhooks.genuine import Verifier
from jiemi.miwen.webhooks.intake import Intake, Moved
from jiemi.miwen.webhooks.receiver import FORWARDED, TRACEPARENT, Outcome, Receiver
from jiemi.tracing.current import add_trace, current
from jiemi.tracing.spans import Span, Tracer

HOOK = ("default", "hook")
THEIRS = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", sampled=True)


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs(processors=[add_trace]) as logs:
        yield logs


@pytest.fixture
def spans() -> list[Span]:
    return []


def last(spans: list[Span], name: str) -> Span:
    return [each for each in spans if each.name == name][-1]


def seen_by(lines: list[Any], name: str = "app") -> list[str | None]:
    """The traces that the last looks of a Decryptor name, as its status lines have them."""
    return [each.get("seen_by") for each in lines if each["event"] == "status_written" and each["name"] == name]


async def test_who_rests_is_woken_by_a_question_within_the_trace_of_the_webhook(
    world: World, lines: list[Any], spans: list[Span], autojump_clock: MockClock
) -> None:
    world.add()
    world.add("other")
    hooks = webhooks(HOOK)
    async with miwen(world, webhooks=hooks, tracer=Tracer(spans.append)):
        spans.clear()
        lines.clear()
        world.origin.commit({FILE: [secret(greeting="two")]})
        assert await deliver(hooks) is Outcome.PUSH
        await settle()
        assert world.data() == {"greeting": "two"}
    hook, push, asked = last(spans, "webhook"), last(spans, "push"), last(spans, "krapao.head")
    trace = hook.context.trace_id
    assert hook.parent is None
    assert hook.attributes == {"k8s.namespace.name": "default", "secret": "hook", "outcome": "push"}
    assert [(each.context.trace_id, each.parent) for each in (push, asked)] == [
        (trace, hook.context.span_id),
        (trace, push.context.span_id),
    ]
    ticks = [each for each in spans if each.name == "tick"]
    assert [[link.trace_id for link in each.links] for each in ticks] == [[trace], [trace]]
    [received] = [each for each in lines if each["event"] == "webhook_received"]
    assert received["trace_id"] == trace
    assert [seen_by(lines, name) for name in ("app", "other")] == [[trace], [trace]]


@pytest.mark.parametrize("sampled", [True, False], ids=["with a collector", "with the log alone"])
async def test_who_does_not_rest_looks_by_itself_and_names_the_webhook(
    world: World, lines: list[Any], spans: list[Span], autojump_clock: MockClock, sampled: bool
) -> None:
    world.origin.fail = Failure("HostUnreachable", "the host is down")
    world.add()
    hooks = webhooks(HOOK)
    async with miwen(world, webhooks=hooks, tracer=Tracer(spans.append) if sampled else None):
        spans.clear()
        lines.clear()
        world.origin.fail = None
        assert await deliver(hooks) is Outcome.PUSH
        await settle()
        assert world.reason() == "Synced"
        [received] = [each for each in lines if each["event"] == "webhook_received"]
        [written] = [each for each in lines if each["event"] == "status_written"]
        assert (written["woken_by"], written["seen_by"]) == ("push", received["trace_id"])
        assert written["trace_id"] != received["trace_id"]
        assert [link.trace_id for each in spans if each.name == "tick" for link in each.links] == (
            [received["trace_id"]] if sampled else []
        )
        lines.clear()
        await trio.sleep(INTERVAL + 1)
        assert not any("seen_by" in each for each in lines), "a webhook wakes once"


async def test_the_last_push_of_a_burst_is_seen_within_its_own_trace(
    world: World, lines: list[Any], spans: list[Span], autojump_clock: MockClock
) -> None:
    world.add()
    hooks = webhooks(HOOK)
    async with miwen(world, webhooks=hooks, tracer=Tracer(spans.append)):
        lines.clear()
        for number in range(3):
            world.origin.commit({FILE: [secret(greeting=str(number))]})
            assert await deliver(hooks) is Outcome.PUSH
        await trio.sleep(2 * QUIET_SECONDS)
        assert world.data() == {"greeting": "2"}
    received = [each["trace_id"] for each in lines if each["event"] == "webhook_received"]
    assert len(set(received)) == 3
    asked = [each.context.trace_id for each in spans if each.name == "push"]
    assert asked == [received[0], received[2]]


async def test_where_the_host_is_not_reached_for_all_each_names_the_webhook_too(
    world: World, lines: list[Any], autojump_clock: MockClock
) -> None:
    world.add()
    hooks = webhooks(HOOK)
    async with miwen(world, webhooks=hooks):
        lines.clear()
        world.origin.fail = Failure("HostUnreachable", "the host is down")
        assert await deliver(hooks) is Outcome.PUSH
        await settle()
    [received] = [each for each in lines if each["event"] == "webhook_received"]
    [left] = [each for each in lines if each["event"] == "push_left_to_each"]
    assert left["trace_id"] == received["trace_id"]
    assert seen_by(lines) == [received["trace_id"]]


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ({}, b"{}"),
        ({FORWARDED: "1", TRACEPARENT: THEIRS.traceparent}, b"{}"),
        ({TRACEPARENT: THEIRS.traceparent}, None),
        ({TRACEPARENT: "canary"}, None),
    ],
    ids=["forged", "forged, as if sent on", "genuine, with a trace of the host's", "genuine, with what is no trace"],
)
async def test_strangers_make_no_trace_and_none_is_believed_that_no_miwen_began(
    nursery: trio.Nursery, lines: list[Any], spans: list[Span], fields: dict[str, str], body: bytes | None
) -> None:
    sent = request("github")
    for name, value in fields.items():
        sent = sent.with_field(name, value)
    if body is not None:
        sent = sent.with_body(body)
    key = ("team-a", "app")
    verifier = Verifier({key: Webhook(key, "github", (SensitiveText(SECRET),))}, lambda: NOW)
    receiver = Receiver(lambda _: None, taker=Intake(verifier, "jiemi", lambda _: 1, Tracer(spans.append)))
    port = await nursery.start(partial(receiver.serve, "127.0.0.1", 0))
    assert status(await ask(port, raw(sent))) == (202 if body is None else 403)
    assert len(spans) == (body is None)
    assert THEIRS.trace_id not in str(lines) + str(spans)
    assert [each["outcome"] for each in lines if each["event"] == "webhook_received"] == [
        "push" if body is None else "forged"
    ]


async def test_one_that_waits_and_the_active_one_work_for_the_same_trace(
    nursery: trio.Nursery, lines: list[Any]
) -> None:
    key = ("team-a", "app")
    verifier = Verifier({key: Webhook(key, "github", (SensitiveText(SECRET),))}, lambda: NOW)
    spans: dict[str, list[Span]] = {"waiting": [], "active": []}
    moved_in: list[TraceContext | None] = []

    def on_moved(_: Moved) -> int:
        moved_in.append(current())
        return 1

    intake = Intake(verifier, "jiemi", on_moved, Tracer(spans["active"].append))
    active = await nursery.start(partial(Receiver(lambda _: None, taker=intake).serve, "127.0.0.1", 0))
    forwarder = Forwarder(verifier, lambda: ("127.0.0.1", active), Tracer(spans["waiting"].append))
    waiting = await nursery.start(partial(Receiver(lambda _: None, taker=forwarder).serve, "127.0.0.1", 0))
    sent = request("github").with_field(TRACEPARENT, THEIRS.traceparent).with_field("tracestate", "canary=1")
    assert status(await ask(waiting, raw(sent))) == 202
    [first], [second] = spans["waiting"], spans["active"]
    assert (first.parent, second.parent) == (None, first.context.span_id)
    assert first.context.trace_id == second.context.trace_id != THEIRS.trace_id
    assert [each.attributes["outcome"] for each in (first, second)] == ["forwarded", "push"]
    assert [each.trace_id for each in moved_in if each is not None] == [first.context.trace_id]
    received = [(each["outcome"], each["trace_id"]) for each in lines if each["event"] == "webhook_received"]
    assert received == [("push", first.context.trace_id), ("forwarded", first.context.trace_id)]
