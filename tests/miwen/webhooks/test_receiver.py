"""The port, with real sockets: what hosts send is taken, what others send is refused and harms nobody."""

from __future__ import annotations

import contextlib
import datetime
import re
from collections import Counter
from functools import partial

import attrs
import pytest
import trio
import trio.testing
from support.metrics_pages import ask
from support.webhooks.requests import FORMS, NOW, SECRET, Request, place, raw, request, status

from jiemi.core.names import NamespacedName
from jiemi.core.sensitive import SensitiveText
from jiemi.core.webhooks.payload import MAX_BODY_BYTES
from jiemi.core.webhooks.repository import repository_key
from jiemi.core.webhooks.webhook import Webhook
from jiemi.miwen.webhooks import receiver as module
from jiemi.miwen.webhooks.genuine import Verifier
from jiemi.miwen.webhooks.intake import Intake, Moved
from jiemi.miwen.webhooks.limits import REFUSED_BURST
from jiemi.miwen.webhooks.receiver import Outcome, Receiver


@attrs.define
class Served:
    """A receiver that listens, and what it did."""

    receiver: Receiver
    webhooks: dict[NamespacedName, Webhook]
    outcomes: Counter[Outcome]
    moved: list[Moved]
    port: int = 0
    followers: int = 1
    now: datetime.datetime = NOW

    def add(self, kind: str, secret: str = SECRET, key: NamespacedName = ("team-a", "app"), urls: str = "") -> None:
        repositories = frozenset(each for url in urls.split() if (each := repository_key(url)) is not None)
        self.webhooks[key] = Webhook(key, kind, (SensitiveText(secret),), repositories)

    async def send(self, sent: Request, path: str = "/webhooks/team-a/app") -> int:
        return status(await ask(self.port, raw(sent, path)))


@pytest.fixture
async def served(nursery: trio.Nursery) -> Served:
    outcomes: Counter[Outcome] = Counter()
    served = Served(Receiver(lambda outcome: outcomes.update([outcome])), {}, outcomes, [])

    def on_moved(moved: Moved) -> int:
        served.moved.append(moved)
        return served.followers

    served.receiver.taker = Intake(Verifier(served.webhooks, lambda: served.now), "jiemi", on_moved)
    served.port = await nursery.start(partial(served.receiver.serve, "127.0.0.1", 0))
    return served


@pytest.mark.parametrize("form", FORMS)
async def test_a_push_of_each_form_is_taken_once(served: Served, form: str) -> None:
    sent = request(form)
    served.add(sent.kind, sent.secret)
    assert await served.send(sent) == 202
    (moved,) = served.moved
    assert repository_key(place(form)[1]) in moved.repositories
    assert moved.namespace == "team-a"
    assert await served.send(sent) == 202
    assert await served.send(sent) == 202
    assert served.outcomes == {Outcome.PUSH: 1, Outcome.DUPLICATE: 2}
    assert len(served.moved) == 1


async def test_a_chunked_body_and_one_that_is_waited_for_are_taken(served: Served) -> None:
    served.add("github")
    assert status(await ask(served.port, raw(request("github"), chunked=True))) == 202
    sent = request("github").with_field("Expect", "100-continue")
    head, _, body = raw(sent).partition(b"\r\n\r\n")
    async with await trio.open_tcp_stream("127.0.0.1", served.port) as stream:
        await stream.send_all(head + b"\r\n\r\n")
        with trio.fail_after(5):
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 100 ")
            await stream.send_all(body)
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 202 ")


async def test_strangers_get_one_answer_whatever_is_wrong(served: Served) -> None:
    served.add("standard", request("standard webhooks").secret)
    genuine = request("standard webhooks")
    served.now = NOW + datetime.timedelta(hours=1)
    answers = {
        await ask(served.port, raw(genuine)),  # stale
        await ask(served.port, raw(genuine.with_body(b"{}"))),  # forged
        await ask(served.port, raw(genuine.without("webhook-signature"))),  # unsigned
        await ask(served.port, raw(genuine, "/webhooks/team-a/other")),  # unknown
        await ask(served.port, raw(genuine, "/webhooks/team-b/app")),
    }
    assert len({answer.partition(b"\r\ndate")[0] for answer in answers}) == 1
    assert next(iter(answers)).startswith(b"HTTP/1.1 403 ")
    assert served.outcomes == {Outcome.STALE: 1, Outcome.FORGED: 1, Outcome.UNSIGNED: 1, Outcome.UNKNOWN: 2}
    assert not served.moved


async def test_an_unsigned_body_is_not_read(served: Served) -> None:
    served.add("github")
    head = f"POST /webhooks/team-a/app HTTP/1.1\r\nHost: x\r\nContent-Length: {MAX_BODY_BYTES}\r\n\r\n"
    assert status(await ask(served.port, head.encode())) == 403


async def test_a_webhook_says_which_repositories_it_is_for(served: Served) -> None:
    served.add("github", urls="http://git.internal:3000/o/r")
    assert await served.send(request("github")) == 202
    assert served.moved[0].repositories == {repository_key("http://git.internal:3000/o/r")}


async def test_a_webhook_of_jiemis_own_namespace_is_for_all_namespaces(served: Served) -> None:
    served.add("github", key=("jiemi", "all"))
    assert await served.send(request("github"), "/webhooks/jiemi/all") == 202
    assert served.moved[0].namespace is None


async def test_what_is_genuine_is_accepted_also_where_nothing_follows(served: Served) -> None:
    served.add("github")
    served.followers = 0
    assert await served.send(request("github")) == 202
    assert await served.send(request("github").with_field("X-GitHub-Event", "ping")) == 202
    assert served.outcomes == {Outcome.NO_FOLLOWER: 1, Outcome.OTHER_EVENT: 1}


async def test_nothing_is_taken_before_there_is_what_decides(served: Served) -> None:
    served.add("github")
    served.receiver.taker = None
    assert await served.send(request("github")) == 503


@pytest.mark.parametrize(
    ("bytes_", "expected"),
    [
        (b"GET /webhooks/team-a/app HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"POST /webhooks/team-a/../app HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"POST /webhooks/team-a/app?x HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"POST /webhooks/Team/app HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"POST http://h/webhooks/team-a/app HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"nonsense\r\n\r\n", 400),
        (b"POST /webhooks/team-a/app HTTP/1.1\r\n\r\n", 400),
        (b"POST /webhooks/team-a/app HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /webhooks/team-a/app HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST /webhooks/team-a/app HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 200_000 + b"\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 40 + b"\r\n\r\n", 400),
    ],
    ids=range(12),
)
async def test_what_is_no_webhook_is_refused(served: Served, bytes_: bytes, expected: int) -> None:
    served.add("github")
    assert status(await ask(served.port, bytes_)) == expected
    assert not served.moved


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_beyond_the_bound_is_refused(served: Served, chunked: bool) -> None:
    served.add("github")
    sent = request("github").with_body(b" " * (MAX_BODY_BYTES + 1))
    with trio.fail_after(20):
        async with await trio.open_tcp_stream("127.0.0.1", served.port) as stream, trio.open_nursery() as nursery:

            async def send() -> None:
                with contextlib.suppress(trio.BrokenResourceError):  # it is not listened to any longer
                    await stream.send_all(raw(sent, chunked=chunked))

            nursery.start_soon(send)
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 413 ")
            nursery.cancel_scope.cancel()
    assert served.outcomes == {Outcome.TOO_LARGE: 1}


async def test_bodies_together_are_bounded(served: Served) -> None:
    served.add("github")
    with served.receiver.buffers.body() as other:
        assert other.add(b" " * (16 * 1024 * 1024 - 10))
        assert await served.send(request("github")) == 503
    assert await served.send(request("github")) == 202


async def test_a_source_whose_requests_were_refused_too_often_is_not_read(served: Served) -> None:
    served.add("github")
    forged = request("github").with_body(b"{}")
    for _ in range(int(REFUSED_BURST)):
        assert await served.send(forged) == 403
    assert await ask(served.port, b"") == b""
    assert served.outcomes[Outcome.RATE_LIMITED] == 1


async def test_behind_a_proxy_the_source_is_whom_the_proxy_saw(served: Served) -> None:
    served.add("github")
    served.receiver.proxies = 1
    forged = request("github").with_body(b"{}")
    for number in range(int(REFUSED_BURST)):
        assert await served.send(forged.with_field("X-Forwarded-For", f"10.0.0.{number}, 192.0.2.1")) == 403
    assert await served.send(request("github").with_field("X-Forwarded-For", "192.0.2.1")) == 429
    assert await served.send(request("github").with_field("X-Forwarded-For", "192.0.2.2")) == 202


async def test_genuine_requests_cost_their_source_nothing(served: Served) -> None:
    served.add("github")
    for _ in range(2 * int(REFUSED_BURST)):
        assert await served.send(request("github")) == 202


async def test_connections_that_say_nothing_end_and_keep_nobody_out(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_HEAD_SECONDS", 0.3)
    served.add("github")
    async with trio.open_nursery() as nursery:

        async def be_silent() -> None:
            try:
                async with await trio.open_tcp_stream("127.0.0.1", served.port) as stream:
                    while await stream.receive_some():
                        pass
            except trio.BrokenResourceError:
                pass

        for _ in range(100):
            nursery.start_soon(be_silent)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert await served.send(request("github")) == 202
    # and they ended by themselves
    assert served.outcomes[Outcome.PUSH] == 1


async def test_a_body_that_drips_ends_and_counts_against_its_source(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REQUEST_SECONDS", 0.2)
    served.add("github")
    head, _, _ = raw(request("github")).partition(b"\r\n\r\n")
    async with await trio.open_tcp_stream("127.0.0.1", served.port) as stream:
        await stream.send_all(head + b"\r\n\r\n{")
        with trio.fail_after(5):
            assert await stream.receive_some() == b""
    assert served.outcomes == {Outcome.TOO_SLOW: 1}
    assert len(served.receiver.sources) == 1


async def test_a_fault_of_miwens_own_ends_one_request_only_and_shows_nothing_of_it(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    served.add("github")
    taker = served.receiver.taker
    assert isinstance(taker, Intake)

    def fail(moved: Moved) -> int:
        raise ValueError(SECRET)

    served.receiver.taker = Intake(taker.verifier, "jiemi", fail)
    assert await served.send(request("github")) == 500
    assert SECRET not in "".join(capsys.readouterr())
    served.receiver.taker = taker
    assert await served.send(request("github")) == 202


async def test_of_a_flood_from_many_sources_no_more_is_read_than_the_pace_lets(served: Served) -> None:
    async def ask_once(source: str) -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", served.port, local_address=source)
        async with stream:
            await stream.send_all(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 404")

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in range(450):
            nursery.start_soon(ask_once, f"127.0.{number // 200 + 1}.{number % 200 + 1}")
    assert trio.current_time() - began > 0.4  # 150 more than the burst, at 300 a second
    assert served.outcomes == {Outcome.NOT_FOUND: 450}


async def test_one_source_has_its_share_read_and_the_rest_closed(served: Served) -> None:
    async def ask_once() -> None:
        with contextlib.suppress(trio.BrokenResourceError):  # once it is not read any longer
            await ask(served.port, b"POST / HTTP/1.1\r\nHost: x\r\n\r\n")

    async with trio.open_nursery() as nursery:
        for _ in range(450):
            nursery.start_soon(ask_once)
    # Those that were accepted before the first was refused are read too.
    assert served.outcomes[Outcome.NOT_FOUND] <= 30 + 64
    assert served.outcomes[Outcome.RATE_LIMITED] >= 450 - 30 - 2 * 64
    assert set(served.outcomes) == {Outcome.NOT_FOUND, Outcome.RATE_LIMITED}


@pytest.mark.parametrize("form", FORMS)
async def test_nothing_of_a_secret_or_a_body_is_logged(
    served: Served, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = request(form)
    served.add(sent.kind, sent.secret)
    await served.send(sent)
    await served.send(sent.with_body(b"{" + sent.secret.encode()))
    shown = "".join(capsys.readouterr())
    assert shown.count("webhook_received") == 2, "what would show it is written"
    assert sent.secret not in shown
    for word in (*re.findall(rb"[^\s\"{}\[\]:,]{12,}", sent.body), sent.body[:12]):
        assert word.decode() not in shown
    for name, value in sent.fields:
        if "signature" in name.lower() or "token" in name.lower() or name == "Authorization":
            assert value not in shown
