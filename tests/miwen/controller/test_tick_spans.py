"""The spans of a tick: which there are, what each is a part of, what they say of a failure, and what never."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from fakes.krapao import RIGHT_KEY
from support.canaries.forms import forms_of, found_in
from support.miwen.world import FILE, INTERVAL, World, miwen, secret, settle
from trio.testing import MockClock

from jiemi.core.errors import Failure
from jiemi.core.trace_context import TraceContext
from jiemi.miwen.report.metrics import MiwenMetrics
from jiemi.otlp.wire import encode_span
from jiemi.rpc.source import GitCredentials, Source
from jiemi.tracing.current import in_trace
from jiemi.tracing.spans import Kind, Span, Tracer

CANARY = "canary-in-a-span-5c11"


def paths(spans: Sequence[Span]) -> list[str]:
    """Each span with those around it, in the order in which they began."""
    by_id = {each.context.span_id: each for each in spans}

    def path(each: Span) -> str:
        above = by_id.get(each.parent) if each.parent is not None else None
        return each.name if above is None else f"{path(above)} > {each.name}"

    return [path(each) for each in sorted(spans, key=lambda each: (each.began_ns, -each.ended_ns))]


@pytest.fixture
def spans() -> list[Span]:
    return []


async def test_a_deployment_is_one_trace_with_its_steps(world: World, spans: list[Span]) -> None:
    world.add(wait=True)
    async with miwen(world, tracer=Tracer(spans.append)):
        await settle()
        assert world.reason() == "Synced"
    assert len({each.context.trace_id for each in spans}) == 1
    found = paths(spans)
    for wanted in (
        "tick",
        "tick > head > krapao.head",
        "tick > files > krapao.files",
        "tick > queue",
        "tick > decrypt > render > krapao.render",
        "tick > status",
        "tick > apply > apply.object",
        "tick > wait",
    ):
        assert [each for each in found if each.endswith(wanted)], (wanted, found)
    assert found.count("tick > status") == 2, "ahead of the apply, and at the end"
    [tick] = [each for each in spans if each.name == "tick"]
    assert tick.parent is None
    assert tick.reason is None
    assert tick.attributes == {
        "k8s.namespace.name": "default",
        "decryptor": "app",
        "generation": 1,
        "woken_by": "start",
        "revision": world.current()["revision"],
    }
    [applied] = [each for each in spans if each.name == "apply.object"]
    assert applied.attributes == {"object": "Secret default/app"}
    assert {each.name: each.kind for each in spans}["krapao.head"] is Kind.CLIENT
    assert all(tick.began_ns <= each.began_ns <= each.ended_ns <= tick.ended_ns for each in spans)


@pytest.mark.parametrize(
    ("signer", "reason"), [("ann", None), ("eve", "SignerUnknown"), (None, "SignatureMissing")], ids=str
)
async def test_asking_who_signed_is_a_step_of_its_own(
    world: World, spans: list[Span], signer: str | None, reason: str | None
) -> None:
    revision = world.origin.commit({FILE: [secret(greeting="one")]})
    if signer is not None:
        world.origin.signers[revision] = signer
    world.add_secret("signers", ann="ssh-ed25519 AAAA")
    verify = {"provider": "ssh", "secretName": "signers"}
    world.add(source={"repository": {"url": world.origin.url, "verify": verify}, "fileToDecrypt": FILE})
    metrics = MiwenMetrics()
    async with miwen(world, tracer=Tracer(spans.append), metrics=metrics):
        await settle()
    asked = [each for each in spans if each.name in ("verify", "krapao.verify")]
    ticks = [each.context.span_id for each in spans if each.name == "tick"]
    assert sorted(paths(asked)) == ["verify"] * len(ticks) + ["verify > krapao.verify"] * len(ticks)
    assert {each.reason for each in asked} == {reason}
    assert [each.parent for each in asked if each.name == "verify"] == ticks
    assert metrics.value("jiemi_reconcile_phase_duration_seconds_count", phase="verify") == len(ticks)
    assert metrics.value("jiemi_krapao_calls_total", method="verify", outcome=reason or "ok") == len(ticks)


async def test_each_tick_is_a_trace_of_its_own_and_names_what_led_to_it(
    world: World, spans: list[Span], autojump_clock: MockClock
) -> None:
    theirs = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
    world.add()
    async with miwen(world, tracer=Tracer(spans.append)):
        await settle()
        # What its own question shows it, leads to no other tick.
        world.origin.commit({FILE: [secret(greeting="two")]})
        await trio.sleep(2 * INTERVAL + 1)
        world.origin.commit({FILE: [secret(greeting="three")]})
        async with world.krapao.open(Source(world.origin.url), GitCredentials()) as repository:
            with in_trace(theirs):
                await repository.head(max_age_seconds=0)
        await settle()
    ticks = [each for each in spans if each.name == "tick"]
    assert [each.attributes["woken_by"] for each in ticks] == ["start", "interval", "interval", "repository"]
    assert [each.links for each in ticks] == [[], [], [], [theirs]]
    assert len({each.context.trace_id for each in ticks}) == 4


async def test_the_span_of_what_failed_and_of_the_tick_have_the_reason_and_no_text(
    world: World, spans: list[Span]
) -> None:
    world.origin.fail = Failure("HostUnreachable", CANARY, CANARY)
    world.add()
    async with miwen(world, tracer=Tracer(spans.append)):
        await settle()
    assert {each.name: each.reason for each in spans} == {
        "tick": "HostUnreachable",
        "head": "HostUnreachable",
        "krapao.head": "HostUnreachable",
        "status": None,
    }
    assert found_in({each.name: encode_span(each) for each in spans}, forms_of(CANARY)) == []


async def test_no_span_has_a_value_or_a_credential(world: World, spans: list[Span]) -> None:
    world.origin.commit({FILE: [secret(greeting=CANARY)]})
    world.add()
    async with miwen(world, tracer=Tracer(spans.append)):
        await settle()
        assert world.data() == {"greeting": CANARY}
    forms = forms_of(CANARY, RIGHT_KEY.private_key.reveal())
    assert found_in({each.name: encode_span(each) for each in spans}, forms) == []


async def test_a_trace_that_is_not_among_those_that_are_collected_makes_no_span_and_has_an_id(
    world: World, spans: list[Span]
) -> None:
    world.add()
    async with miwen(world, tracer=Tracer(spans.append, ratio=0.0)):
        await settle()
        assert world.reason() == "Synced"
    assert spans == []


async def test_what_outlives_a_tick_is_no_part_of_its_trace(
    world: World, spans: list[Span], autojump_clock: MockClock
) -> None:
    world.add()
    async with miwen(world, tracer=Tracer(spans.append)):
        await settle()
        before = len(spans)
        await trio.sleep(INTERVAL / 2)
        assert len(spans) == before
    assert not [each for each in spans if each.attributes.get("cancelled")], "nothing was left running"
