"""A Miwen that waits sends genuine webhooks on to the active one, over real sockets."""

from __future__ import annotations

from collections import Counter
from functools import partial

import attrs
import pytest
import trio
from support.metrics_pages import ask
from support.webhooks.requests import FORMS, NOW, SECRET, Request, raw, request, status

from jiemi.core.names import NamespacedName
from jiemi.core.sensitive import SensitiveText
from jiemi.core.webhooks.webhook import Webhook
from jiemi.miwen.webhooks.forwarder import Forwarder
from jiemi.miwen.webhooks.genuine import Verifier
from jiemi.miwen.webhooks.intake import Intake, Moved
from jiemi.miwen.webhooks.receiver import FORWARDED, Outcome, Receiver

KEY = ("team-a", "app")


@attrs.define
class Pair:
    """A Miwen that waits and one that is active."""

    webhooks: dict[NamespacedName, Webhook]
    waiting: Receiver
    active: Receiver
    ports: dict[str, int] = attrs.field(factory=dict)
    moved: list[Moved] = attrs.field(factory=list)
    counts: dict[str, Counter[Outcome]] = attrs.field(factory=dict)
    address: tuple[str, int] | None = None

    async def send(self, sent: Request, to: str = "waiting") -> int:
        return status(await ask(self.ports[to], raw(sent)))


@pytest.fixture
async def pair(nursery: trio.Nursery) -> Pair:
    counts: dict[str, Counter[Outcome]] = {"waiting": Counter(), "active": Counter()}

    def receiver_of(name: str) -> Receiver:
        return Receiver(lambda outcome: counts[name].update([outcome]))

    pair = Pair({}, receiver_of("waiting"), receiver_of("active"), counts=counts)
    verifier = Verifier(pair.webhooks, lambda: NOW)

    def on_moved(moved: Moved) -> int:
        pair.moved.append(moved)
        return 1

    pair.active.taker = Intake(verifier, "jiemi", on_moved)
    pair.waiting.taker = Forwarder(verifier, lambda: pair.address)
    for name, receiver in (("waiting", pair.waiting), ("active", pair.active)):
        pair.ports[name] = await nursery.start(partial(receiver.serve, "127.0.0.1", 0))
    pair.address = ("127.0.0.1", pair.ports["active"])
    return pair


@pytest.mark.parametrize("form", FORMS)
async def test_what_is_genuine_reaches_the_active_one_as_it_came(pair: Pair, form: str) -> None:
    sent = request(form)
    pair.webhooks[KEY] = Webhook(KEY, sent.kind, (SensitiveText(sent.secret),))
    assert await pair.send(sent) == 202
    assert len(pair.moved) == 1
    assert pair.counts == {"waiting": Counter([Outcome.FORWARDED]), "active": Counter([Outcome.PUSH])}


async def test_a_delivery_counts_once_by_whichever_way_it_comes(pair: Pair) -> None:
    pair.webhooks[KEY] = Webhook(KEY, "github", (SensitiveText(SECRET),))
    sent = request("github")
    assert [await pair.send(sent, to) for to in ("waiting", "active", "waiting")] == [202] * 3
    assert len(pair.moved) == 1


async def test_what_is_not_genuine_is_refused_where_it_came(pair: Pair) -> None:
    pair.webhooks[KEY] = Webhook(KEY, "github", (SensitiveText(SECRET),))
    assert await pair.send(request("github").with_body(b"{}")) == 403
    assert await pair.send(request("github").without("x-hub-signature-256")) == 403
    assert not pair.counts["active"]


async def test_where_nobody_is_active_or_reached_the_host_is_asked_to_try_again(pair: Pair) -> None:
    pair.webhooks[KEY] = Webhook(KEY, "github", (SensitiveText(SECRET),))
    pair.address = None
    assert await pair.send(request("github")) == 503
    pair.address = ("127.0.0.1", 1)
    assert await pair.send(request("github")) == 503


async def test_what_was_sent_on_once_is_not_sent_on_again(pair: Pair) -> None:
    pair.webhooks[KEY] = Webhook(KEY, "github", (SensitiveText(SECRET),))
    pair.address = ("127.0.0.1", pair.ports["waiting"])  # to itself
    assert await pair.send(request("github")) == 503
    assert await pair.send(request("github").with_field(FORWARDED, "1")) == 503
    assert pair.counts["waiting"] == {Outcome.NOT_READY: 3}


async def test_an_active_one_that_does_not_know_the_webhook_any_longer_decides(pair: Pair) -> None:
    pair.webhooks[KEY] = Webhook(KEY, "github", (SensitiveText(SECRET),))
    pair.active.taker = Intake(Verifier({}, lambda: NOW), "jiemi", lambda _: 1)
    assert await pair.send(request("github")) == 403
