"""gRPC, both ends: against each other, against peers that are scripted frame by frame, and against the real sops.

Peers in memory run on the virtual clock, so that a hang is a deadline that passes at once; the real ones on real time.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import hpack
import pyrage
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from support.krapao.age_files import AgePair, Encrypter

from jiemi.krapao.decryption.environments import EMPTY_ENVIRONMENT, NO_NETWORK_ENVIRONMENT
from jiemi.krapao.decryption.grpc import (
    FAILED_PRECONDITION,
    INVALID_ARGUMENT,
    MAX_MESSAGE_BYTES,
    MAX_STREAMS,
    OK,
    PERMISSION_DENIED,
    UNIMPLEMENTED,
    UNKNOWN,
    GrpcClient,
    GrpcConnectionError,
    GrpcStatusError,
    GrpcTooLargeError,
    Handle,
    serve_calls,
)
from jiemi.krapao.decryption.keyservice import (
    DECRYPT,
    ENCRYPT,
    AgeMasterKey,
    DecryptRequest,
    read_decrypt_request,
    read_decrypt_response,
    write_decrypt_request,
    write_decrypt_response,
)

WRITE_SECONDS = 10
"""How long a peer may leave unread what was written to it."""

VIRTUAL_DEADLINE_SECONDS = 600
REAL_DEADLINE_SECONDS = 60
REQUEST = [
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "localhost"),
    (":path", "/a"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]
ANSWER = [(":status", "200"), ("content-type", "application/grpc")]
GOOD = [("grpc-status", "0")]


def framed(message: bytes, *, flag: int = 0, length: int | None = None) -> bytes:
    return struct.pack(">BI", flag, len(message) if length is None else length) + message


async def echo(path: str, message: bytes) -> bytes:
    await trio.lowlevel.checkpoint()
    return path.encode() + b" " + message


@contextlib.asynccontextmanager
async def linked(handle: Handle) -> AsyncIterator[GrpcClient]:
    """A client and the server that it calls, in memory."""
    near, far = trio.testing.memory_stream_pair()
    client = GrpcClient(near)
    with trio.fail_after(VIRTUAL_DEADLINE_SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_calls, far, handle)
            await nursery.start(client.run)
            yield client
            nursery.cancel_scope.cancel()


class Peer:
    """An end that a test scripts by hand. What h2 forbids it to say is sent as bytes."""

    def __init__(self, stream: trio.abc.Stream, *, client_side: bool) -> None:
        self.stream = stream
        self.state = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=client_side, header_encoding="utf-8", validate_outbound_headers=False)
        )
        self.state.initiate_connection()
        self.events: list[Any] = []

    async def send(self, more: bytes = b"") -> None:
        await self.stream.send_all(self.state.data_to_send() + more)

    async def wait(self, kind: type[Any], number: int = 1) -> Any:
        """The next event of a kind for a stream."""
        while True:
            for event in self.events:
                if isinstance(event, kind) and getattr(event, "stream_id", number) == number:
                    self.events.remove(event)
                    return event
            data = await self.stream.receive_some(65536)
            assert data, f"the connection ended before {kind.__name__}"
            self.events += self.state.receive_data(bytes(data))
            await self.send()

    async def wait_for_the_end(self) -> None:
        while await self.stream.receive_some(65536):
            pass

    def request(self, number: int, body: bytes, *, end: bool = True) -> None:
        self.state.send_headers(number, REQUEST)
        self.body(number, body, end=end)

    def body(self, number: int, body: bytes, *, end: bool) -> None:
        size = self.state.max_outbound_frame_size
        parts = [body[place : place + size] for place in range(0, len(body), size)] or [b""]
        for place, part in enumerate(parts, start=1):
            self.state.send_data(number, part, end_stream=end and place == len(parts))

    def answer(self, number: int, body: bytes, trailers: list[tuple[str, str]] | None) -> None:
        self.state.send_headers(number, ANSWER)
        self.body(number, body, end=trailers is None)
        if trailers is not None:
            self.state.send_headers(number, trailers, end_stream=True)

    async def ask(self, number: int, message: bytes) -> bytes:
        """A call as it should be; its answer's body."""
        self.request(number, framed(message))
        await self.send()
        body: bytes = (await self.wait(h2.events.DataReceived, number)).data
        return body


@contextlib.asynccontextmanager
async def against_server(handle: Handle) -> AsyncIterator[Peer]:
    """A scripted client of the real server end, which must end by itself when the peer closes."""
    near, far = trio.testing.memory_stream_pair()
    with trio.fail_after(VIRTUAL_DEADLINE_SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_calls, far, handle)
            yield Peer(near, client_side=True)
            await near.aclose()


@contextlib.asynccontextmanager
async def against_client() -> AsyncIterator[tuple[GrpcClient, Peer]]:
    """A scripted server of the real client end, which must end by itself when the peer closes."""
    near, far = trio.testing.memory_stream_pair()
    client = GrpcClient(near)
    with trio.fail_after(VIRTUAL_DEADLINE_SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(client.run)
            yield client, Peer(far, client_side=False)
            await far.aclose()


# Both ends of ours


@pytest.mark.parametrize("message", [b"", b"a", bytes(range(256)), b"x" * 16_384, b"y" * 16_385])
async def test_a_call_is_answered_with_the_message_of_its_handler(
    message: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    async with linked(echo) as client:
        assert await client.call("/KeyService/Decrypt", message) == b"/KeyService/Decrypt " + message


@pytest.mark.parametrize("size", [65_530, 65_535, 200 * 1024, MAX_MESSAGE_BYTES])
async def test_a_message_beyond_the_flow_control_window_arrives_whole_both_ways(
    size: int, autojump_clock: trio.testing.MockClock
) -> None:
    message = bytes(index * 7 % 251 for index in range(size))
    got = []

    async def handle(path: str, asked: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        got.append(asked)
        return asked

    async with linked(handle) as client:
        for _ in range(3):
            assert await client.call("/a", message) == message
    assert got == [message] * 3


async def test_a_message_larger_than_the_limit_is_not_handled_and_the_connection_stays(
    autojump_clock: trio.testing.MockClock,
) -> None:
    paths = []

    async def handle(path: str, message: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        paths.append(path)
        return message

    async with against_server(handle) as peer:
        peer.request(1, framed(bytes(MAX_MESSAGE_BYTES + 1))[:60_000], end=False)
        await peer.send()
        sent = 60_000
        with contextlib.suppress(h2.exceptions.StreamClosedError):  # it is told so in the middle
            while sent < MAX_MESSAGE_BYTES + 6:
                room = min(peer.state.local_flow_control_window(1), 16_384, MAX_MESSAGE_BYTES + 6 - sent)
                if room > 0:
                    peer.state.send_data(1, bytes(room))
                    sent += room
                    await peer.send()
                else:
                    await peer.wait(h2.events.WindowUpdated)
        assert (await peer.wait(h2.events.StreamReset)).error_code == h2.errors.ErrorCodes.ENHANCE_YOUR_CALM
        assert await peer.ask(3, b"small") == framed(b"small")
    assert paths == ["/a"]


async def test_an_answer_larger_than_the_limit_is_no_answer_and_the_connection_stays(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def handle(path: str, message: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        return bytes(MAX_MESSAGE_BYTES + (path == "/large"))

    async with linked(handle) as client:
        with pytest.raises(GrpcTooLargeError):
            await client.call("/large", b"")
        assert len(await client.call("/b", b"")) == MAX_MESSAGE_BYTES


async def test_calls_that_run_at_once_each_get_their_own_answer_in_any_order(
    autojump_clock: trio.testing.MockClock,
) -> None:
    running = most = 0

    async def handle(path: str, message: bytes) -> bytes:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.sleep(MAX_STREAMS - int(message))  # the last asked is the first answered
        running -= 1
        return message * 2

    order: list[int] = []

    async with linked(handle) as client:

        async def one(number: int) -> None:
            assert await client.call("/a", b"%d" % number) == b"%d" % number * 2
            order.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(MAX_STREAMS):
                nursery.start_soon(one, number)
    assert most == MAX_STREAMS
    assert order == sorted(range(MAX_STREAMS), reverse=True)


async def test_more_calls_than_may_be_open_wait_for_their_turn_and_all_are_answered(
    autojump_clock: trio.testing.MockClock,
) -> None:
    running = most = 0

    async def handle(path: str, message: bytes) -> bytes:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await trio.sleep(1)
        finally:
            running -= 1
        return message

    ends: list[bytes | str] = []

    async with linked(handle) as client:

        async def one(number: int) -> None:
            try:
                ends.append(await client.call("/a", b"%d" % number))
            except GrpcConnectionError:
                ends.append("refused")

        async with trio.open_nursery() as nursery:
            for number in range(3 * MAX_STREAMS):
                nursery.start_soon(one, number)
    assert len(ends) == 3 * MAX_STREAMS
    assert most == MAX_STREAMS
    assert "refused" not in ends


async def test_a_stream_beyond_the_limit_is_not_handled(autojump_clock: trio.testing.MockClock) -> None:
    handled = 0

    async def handle(path: str, message: bytes) -> bytes:
        nonlocal handled
        handled += 1
        await trio.sleep_forever()
        raise AssertionError

    async with against_server(handle) as peer:
        for number in range(1, 2 * MAX_STREAMS + 8, 2):
            peer.request(number, framed(b"x"))
        with contextlib.suppress(trio.BrokenResourceError):  # it may end the connection at that
            await peer.send()
        await trio.testing.wait_all_tasks_blocked()
        assert handled <= MAX_STREAMS


# A header's value loses the spaces at its ends (RFC 9110, section 5.5).
@given(st.integers(1, 99), st.text(st.characters(exclude_categories=["Cs"])).map(lambda text: text.strip(" ")))
@settings(deadline=None)
def test_a_status_arrives_with_any_text_and_only_its_code_is_in_the_message(code: int, text: str) -> None:
    async def handle(path: str, message: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        raise GrpcStatusError(code, text)

    async def ask() -> None:
        async with linked(handle) as client:
            for _ in range(2):  # the connection stays
                with pytest.raises(GrpcStatusError) as caught:
                    await client.call("/a", b"x")
                assert (caught.value.code, caught.value.text) == (code, text)
                assert str(caught.value) == f"gRPC status {code}"

    trio.run(ask, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_a_cancelled_call_cancels_its_handler_only_and_leaves_the_connection_usable(
    autojump_clock: trio.testing.MockClock,
) -> None:
    cancelled_at: list[tuple[bytes, float]] = []

    async def handle(path: str, message: bytes) -> bytes:
        try:
            await trio.sleep(float(message))
        except trio.Cancelled:
            cancelled_at.append((message, trio.current_time() - began))
            raise
        return message

    async with linked(handle) as client:
        began = trio.current_time()
        other: list[bytes] = []

        async def long() -> None:
            other.append(await client.call("/a", b"9"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(long)
            with trio.move_on_after(3) as scope:
                await client.call("/a", b"100")
            assert scope.cancelled_caught
            assert await client.call("/a", b"1") == b"1"
        assert other == [b"9"]
        assert cancelled_at == [(b"100", 3)]
        assert not client.closed


async def test_a_call_cancelled_while_it_sends_leaves_the_connection_usable(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with against_client() as (client, peer):

        async def serve() -> None:
            await peer.send()
            await peer.wait(h2.events.RequestReceived)
            await peer.wait(h2.events.StreamReset)
            peer.state.increment_flow_control_window(50_000)  # the first call took all of the connection's
            await peer.send()
            await peer.wait(h2.events.StreamEnded, 3)
            peer.answer(3, framed(b"answer"), GOOD)
            await peer.send()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            with trio.move_on_after(5) as scope:  # nothing of it is taken, so the window does not grow
                await client.call("/a", bytes(100_000))
            assert scope.cancelled_caught
            assert await client.call("/a", b"x") == b"answer"


async def test_an_error_of_a_handler_leaves_the_server_and_ends_the_connection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    near, far = trio.testing.memory_stream_pair()
    client = GrpcClient(near)

    async def fail(path: str, message: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError

    async def serve() -> None:
        with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
            await serve_calls(far, fail)

    with trio.fail_after(VIRTUAL_DEADLINE_SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            await nursery.start(client.run)
            with pytest.raises(GrpcConnectionError):
                await client.call("/a", b"")
    assert client.closed


async def test_when_the_client_goes_its_handlers_are_cancelled_and_the_server_ends(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ended = []

    async def handle(path: str, message: bytes) -> bytes:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(message)
        raise AssertionError

    async with against_server(handle) as peer:
        for number in (1, 3):
            peer.request(number, framed(b"%d" % number))
        await peer.send()
        await trio.testing.wait_all_tasks_blocked()
        assert ended == []
    assert sorted(ended) == [b"1", b"3"]


async def test_cancelling_the_server_cancels_its_handlers_and_closes_the_stream(
    autojump_clock: trio.testing.MockClock,
) -> None:
    near, far = trio.testing.memory_stream_pair()
    cancelled = False

    async def handle(path: str, message: bytes) -> bytes:
        nonlocal cancelled
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            cancelled = True
            raise
        raise AssertionError

    peer = Peer(near, client_side=True)
    with trio.fail_after(VIRTUAL_DEADLINE_SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_calls, far, handle)
            peer.request(1, framed(b"x"))
            await peer.send()
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await peer.wait_for_the_end()
    assert cancelled


# A peer that is no good, at the client

Script = Callable[[Peer], None]


def _oversized(peer: Peer) -> None:
    peer.state.send_headers(1, ANSWER)
    for _ in range(3):
        peer.state.send_data(1, bytes(16_384))
    peer.state.send_data(1, framed(b"", length=MAX_MESSAGE_BYTES + 1), end_stream=True)


def _reset_in_the_middle(peer: Peer) -> None:
    peer.state.send_headers(1, ANSWER)
    peer.state.reset_stream(1, 8)


def _reset_after_the_body(peer: Peer) -> None:
    peer.state.send_headers(1, ANSWER)
    peer.state.send_data(1, framed(b"x"))
    peer.state.reset_stream(1, 0)


BAD_ANSWERS: dict[str, Script] = {
    "no trailers": lambda peer: peer.answer(1, framed(b"x"), None),
    "trailers without a status": lambda peer: peer.answer(1, framed(b"x"), [("other", "1")]),
    "no body": lambda peer: peer.answer(1, b"", GOOD),
    "half a prefix": lambda peer: peer.answer(1, b"\0\0\0\0", GOOD),
    "compressed": lambda peer: peer.answer(1, framed(b"x", flag=1), GOOD),
    "another flag": lambda peer: peer.answer(1, framed(b"x", flag=2), GOOD),
    "shorter than it says": lambda peer: peer.answer(1, framed(b"x", length=2), GOOD),
    "longer than it says": lambda peer: peer.answer(1, framed(b"xy", length=1), GOOD),
    "far shorter than it says": lambda peer: peer.answer(1, framed(b"x", length=2**32 - 1), GOOD),
    "two messages": lambda peer: peer.answer(1, framed(b"x") + framed(b"y"), GOOD),
    "a body of another length": _oversized,
    "reset at once": lambda peer: peer.state.reset_stream(1),
    "reset in the middle": _reset_in_the_middle,
    "reset after the body": _reset_after_the_body,
    "an answer of a web server": lambda peer: peer.state.send_headers(1, [(":status", "404")], end_stream=True),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
async def test_a_wrong_answer_is_no_answer_and_the_next_call_is_answered(
    name: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with against_client() as (client, peer):

        async def serve() -> None:
            await peer.send()
            await peer.wait(h2.events.StreamEnded)
            BAD_ANSWERS[name](peer)
            await peer.send()
            await peer.wait(h2.events.StreamEnded, 3)
            peer.answer(3, framed(b"good"), GOOD)
            await peer.send()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            with pytest.raises(GrpcConnectionError):
                await client.call("/a", b"x")
            assert await client.call("/a", b"x") == b"good"


@pytest.mark.parametrize(
    ("trailers", "code", "text"),
    [
        ([("grpc-status", "7")], PERMISSION_DENIED, ""),
        ([("grpc-status", "16"), ("grpc-message", "a%20b%0Ac%C3%A9")], 16, "a b\ncé"),
        ([("grpc-status", "9"), ("grpc-message", "%ff%zz%")], FAILED_PRECONDITION, "\ufffd%zz%"),
        ([("grpc-status", "")], UNKNOWN, ""),
        ([("grpc-status", "-1")], UNKNOWN, ""),
        ([("grpc-status", "seven")], UNKNOWN, ""),
        ([("grpc-status", "1" * 30)], UNKNOWN, ""),
        ([("grpc-status", "0x7")], UNKNOWN, ""),
    ],
)
@pytest.mark.parametrize("only", [True, False])
async def test_a_status_is_read_from_trailers_and_from_an_answer_without_a_body(
    trailers: list[tuple[str, str]], code: int, text: str, only: bool, autojump_clock: trio.testing.MockClock
) -> None:
    async with against_client() as (client, peer):

        async def serve() -> None:
            await peer.send()
            await peer.wait(h2.events.StreamEnded)
            if only:
                peer.state.send_headers(1, ANSWER + trailers, end_stream=True)
            else:
                peer.answer(1, framed(b"not to be believed"), trailers)
            await peer.send()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            with pytest.raises(GrpcStatusError) as caught:
                await client.call("/a", b"x")
        assert (caught.value.code, caught.value.text) == (code, text)


def frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    """https://www.rfc-editor.org/rfc/rfc9113#section-4.1"""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, number) + payload


DATA, HEADERS, RESET, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9

NO_HTTP2 = {
    "nothing but zeros": bytes(64),
    "a frame that is too large": frame(DATA, 0, 1, bytes(20_000)),
    "data for the connection": frame(DATA, 0, 0, b"x"),
    "settings of a stream": frame(SETTINGS, 0, 1, b""),
    "settings of a wrong length": frame(SETTINGS, 0, 0, b"12345"),
    "a window of nothing": frame(WINDOW, 0, 0, bytes(4)),
    "a window beyond all": frame(WINDOW, 0, 0, b"\x7f\xff\xff\xff"),
    "a part of headers without its beginning": frame(CONTINUATION, 4, 1, b"\x88"),
    "headers that are none": frame(HEADERS, 4, 1, bytes([255]) * 9),
    "a header that is no text": frame(HEADERS, 4, 1, b"\x88\x00\x01a\x01\xff"),
    "a ping of a wrong length": frame(PING, 0, 0, b"1"),
}


@pytest.mark.parametrize("name", NO_HTTP2)
async def test_what_is_no_http2_ends_the_clients_calls_and_every_later_one(
    name: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with against_client() as (client, peer):

        async def serve() -> None:
            settings = b"" if name == "nothing but zeros" else frame(SETTINGS, 0, 0, b"")
            await peer.stream.send_all(settings + NO_HTTP2[name])

        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(_no_answer, client)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(serve)
        assert client.closed
        await _no_answer(client)


async def _no_answer(client: GrpcClient) -> None:
    with pytest.raises(GrpcConnectionError) as caught:
        await client.call("/a", b"x")
    assert caught.value.__cause__ is None


async def test_another_protocols_greeting_is_no_answer(autojump_clock: trio.testing.MockClock) -> None:
    async with against_client() as (client, peer), trio.open_nursery() as nursery:
        nursery.start_soon(_no_answer, client)
        await peer.stream.send_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await peer.stream.aclose()


@pytest.mark.parametrize("greeting", [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x16\x03\x01\x02\0" * 9])
async def test_another_protocols_greeting_ends_the_servers_connection(
    greeting: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    async with against_server(echo) as peer:
        await peer.stream.send_all(greeting)
        await peer.wait_for_the_end()


@pytest.mark.parametrize("sent", [0, 1, 9, 20, 40, 60])
async def test_a_peer_that_closes_in_the_middle_of_an_answer_gives_none(
    sent: int, autojump_clock: trio.testing.MockClock
) -> None:
    async with against_client() as (client, peer):

        async def serve() -> None:
            await peer.send()
            await peer.wait(h2.events.StreamEnded)
            peer.answer(1, framed(bytes(100)), GOOD)
            whole = peer.state.data_to_send()
            assert len(whole) > 100
            await peer.stream.send_all(whole[:sent])
            await peer.stream.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            await _no_answer(client)
        await _no_answer(client)
        assert client.closed


async def test_a_peer_that_closes_after_its_answer_has_answered_and_takes_no_further_call(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with against_client() as (client, peer):

        async def serve() -> None:
            await peer.send()
            await peer.wait(h2.events.StreamEnded)
            peer.answer(1, framed(b"x"), GOOD)
            peer.state.close_connection()
            await peer.send()
            await peer.stream.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            assert await client.call("/a", b"x") == b"x"
        await _no_answer(client)


async def test_a_peer_that_was_closed_before_takes_no_call(autojump_clock: trio.testing.MockClock) -> None:
    near, far = trio.testing.memory_stream_pair()
    await far.aclose()
    client = GrpcClient(near)
    with trio.fail_after(VIRTUAL_DEADLINE_SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.run)
        assert client.closed
        await _no_answer(client)


async def test_a_peer_that_says_goodbye_in_the_middle_takes_no_further_call(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with against_client() as (client, peer):

        async def serve() -> None:
            await peer.send()
            await peer.wait(h2.events.StreamEnded)
            await peer.send(frame(GOAWAY, 0, 0, struct.pack(">II", 0, 0)))
            await trio.sleep(1)
            await peer.stream.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            await _no_answer(client)
        await _no_answer(client)


# A peer that is no good, at the server

BAD_BODIES = {
    "none": b"",
    "half a prefix": b"\0\0\0\0",
    "compressed": framed(b"x", flag=1),
    "another flag": framed(b"x", flag=255),
    "shorter than it says": framed(b"x", length=2),
    "longer than it says": framed(b"xy", length=1),
    "far shorter than it says": framed(b"x", length=2**32 - 1),
    "two messages": framed(b"x") + framed(b"y"),
}


@pytest.mark.parametrize("name", BAD_BODIES)
async def test_a_body_that_is_not_one_message_is_refused_and_the_next_call_is_answered(
    name: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with against_server(echo) as peer:
        peer.request(1, BAD_BODIES[name])
        await peer.send()
        headers = dict((await peer.wait(h2.events.ResponseReceived)).headers)
        assert headers["grpc-status"] == str(INVALID_ARGUMENT)
        assert "grpc-message" in headers
        assert await peer.ask(3, b"x") == framed(b"/a x")
        assert dict((await peer.wait(h2.events.TrailersReceived, 3)).headers) == {"grpc-status": str(OK)}


NO_HTTP2_OF_A_CLIENT = NO_HTTP2 | {
    "headers that are none": frame(HEADERS, 5, 3, bytes([255]) * 9),
    "a header that is no text": frame(HEADERS, 5, 3, b"\x83\x86\x84\x00\x01a\x01\xff"),
    "a stream of the server's": frame(HEADERS, 5, 2, b"\x83\x86\x84"),
    "headers without a path": frame(HEADERS, 5, 3, b"\x83\x86"),
}


@pytest.mark.parametrize("name", NO_HTTP2_OF_A_CLIENT)
async def test_what_is_no_http2_ends_the_servers_connection_quietly_and_its_handlers(
    name: str, autojump_clock: trio.testing.MockClock
) -> None:
    ended = []

    async def handle(path: str, message: bytes) -> bytes:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(message)
        raise AssertionError

    async with against_server(handle) as peer:
        peer.request(1, framed(b"first"))
        await peer.send()
        await trio.testing.wait_all_tasks_blocked()
        await peer.stream.send_all(NO_HTTP2_OF_A_CLIENT[name])
        await peer.wait_for_the_end()
    assert ended == [b"first"]


@pytest.mark.parametrize("sent", [0, 3, 24, 30, 60, 100, 120])
async def test_a_client_that_closes_in_the_middle_of_a_request_is_not_handled(
    sent: int, autojump_clock: trio.testing.MockClock
) -> None:
    handled = []

    async def handle(path: str, message: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        handled.append(message)
        return b""

    async with against_server(handle) as peer:
        peer.request(1, framed(bytes(200)))
        whole = peer.state.data_to_send()
        assert len(whole) > 300
        await peer.stream.send_all(whole[:sent])
    assert handled == []


async def test_a_request_that_is_reset_before_its_end_is_not_handled(autojump_clock: trio.testing.MockClock) -> None:
    handled = []

    async def handle(path: str, message: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        handled.append(message)
        return message

    async with against_server(handle) as peer:
        peer.request(1, framed(b"first"), end=False)
        peer.state.reset_stream(1)
        await peer.send()
        assert await peer.ask(3, b"second") == framed(b"second")
    assert handled == [b"second"]


async def test_frames_of_unknown_kinds_and_pings_are_no_harm(autojump_clock: trio.testing.MockClock) -> None:
    async with against_server(echo) as peer:
        await peer.send(frame(0xBE, 0xFF, 7, b"anything") + frame(PING, 0, 0, b"12345678"))
        assert (await peer.wait(h2.events.PingAckReceived)).ping_data == b"12345678"
        assert await peer.ask(1, b"x") == framed(b"/a x")


# A peer that does not read


async def test_a_client_that_reads_nothing_is_left_after_the_bound(autojump_clock: trio.testing.MockClock) -> None:
    _, far = trio.testing.lockstep_stream_pair()
    began = trio.current_time()
    with trio.fail_after(VIRTUAL_DEADLINE_SECONDS):
        await serve_calls(far, echo)
    assert trio.current_time() - began == WRITE_SECONDS


async def test_a_client_that_does_not_read_its_answer_is_left_after_the_bound_with_all_its_calls(
    autojump_clock: trio.testing.MockClock,
) -> None:
    near, far = trio.testing.lockstep_stream_pair()
    peer = Peer(near, client_side=True)
    ended = []

    async def handle(path: str, message: bytes) -> bytes:
        if message == b"short":
            await trio.sleep(5)
            return message
        try:
            await trio.sleep_forever()
        finally:
            ended.append(trio.current_time() - began)
        raise AssertionError

    async def ask() -> None:
        await peer.wait(h2.events.RemoteSettingsChanged, 0)
        await peer.wait(h2.events.SettingsAcknowledged, 0)
        peer.request(1, framed(b"short"))
        peer.request(3, framed(b"long"))
        await peer.send()
        # From now on nothing is read.

    with trio.fail_after(VIRTUAL_DEADLINE_SECONDS):
        async with trio.open_nursery() as nursery:
            began = trio.current_time()
            nursery.start_soon(ask)
            await serve_calls(far, handle)
        assert ended == [5 + WRITE_SECONDS]
        assert trio.current_time() - began == 5 + WRITE_SECONDS


async def test_a_server_that_does_not_read_a_call_gives_it_no_answer(autojump_clock: trio.testing.MockClock) -> None:
    near, far = trio.testing.lockstep_stream_pair()
    client = GrpcClient(near)
    with trio.fail_after(VIRTUAL_DEADLINE_SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(far.receive_some, 65_536)  # the preface only
            await nursery.start(client.run)
            began = trio.current_time()
            await _no_answer(client)
            assert trio.current_time() - began == WRITE_SECONDS
            assert client.closed
            await _no_answer(client)
            nursery.cancel_scope.cancel()


async def test_a_write_that_began_is_finished_though_its_call_is_cancelled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    near, far = trio.testing.lockstep_stream_pair()
    client = GrpcClient(near)
    peer = Peer(far, client_side=False)

    async def serve() -> None:
        await peer.wait(h2.events.RemoteSettingsChanged, 0)
        await trio.sleep(5)  # the first call is written meanwhile
        await peer.wait(h2.events.RequestReceived)
        await peer.wait(h2.events.StreamReset)
        await peer.wait(h2.events.StreamEnded, 3)
        peer.answer(3, framed(b"answer"), GOOD)
        await peer.send()

    with trio.fail_after(VIRTUAL_DEADLINE_SECONDS):
        async with trio.open_nursery() as nursery:
            began = trio.current_time()
            nursery.start_soon(serve)
            await nursery.start(client.run)
            with trio.move_on_after(1) as scope:
                await client.call("/a", b"x")
            assert scope.cancelled_caught
            assert trio.current_time() - began == 5
            assert await client.call("/a", b"x") == b"answer"
            nursery.cancel_scope.cancel()


# Any bytes

_BLOCKS = [
    hpack.Encoder().encode(headers)
    for headers in (ANSWER, GOOD, ANSWER + GOOD, [(":status", "100")], [("grpc-status", "7"), ("grpc-message", "%41")])
]
_SETTINGS = [struct.pack(">HI", code, value) for code in range(1, 9) for value in (0, 1, 2**31 - 1)]
_PAYLOADS = st.one_of(
    st.binary(max_size=24),
    st.sampled_from([*_BLOCKS, framed(b"x"), framed(b"x", flag=1), bytes(4), bytes(8), *_SETTINGS]),
)


def frames(kinds: st.SearchStrategy[int]) -> st.SearchStrategy[bytes]:
    """Frames, most of them nearly right."""
    flags = st.sampled_from([0, 1, 4, 5]) | st.integers(0, 255)
    one = st.builds(frame, kinds, flags, st.integers(0, 5), _PAYLOADS)
    return st.lists(one | st.binary(max_size=12), max_size=8).map(b"".join)


@given(st.binary() | frames(st.integers(0, 12)).map(lambda data: frame(SETTINGS, 0, 0, b"") + data), st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_bytes_to_a_client_end_its_call_with_an_answer_or_a_typed_error(data: bytes, at_once: bool) -> None:
    async def ask() -> None:
        async with against_client() as (client, peer):

            async def call() -> None:
                with contextlib.suppress(GrpcConnectionError, GrpcStatusError):
                    assert len(await client.call("/a", b"x")) < len(data)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(call)
                await trio.testing.wait_all_tasks_blocked()
                for part in (data,) if at_once else (data[: len(data) // 2], data[len(data) // 2 :]):
                    with contextlib.suppress(trio.BrokenResourceError):  # it has closed
                        await peer.stream.send_all(part)
                    await trio.testing.wait_all_tasks_blocked()
                await peer.stream.aclose()
        assert client.closed

    trio.run(ask, clock=trio.testing.MockClock(autojump_threshold=0))


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@given(st.binary() | frames(st.integers(0, 12)).map(lambda data: PREFACE + frame(SETTINGS, 0, 0, b"") + data))
@settings(max_examples=300, deadline=None)
def test_any_bytes_to_a_server_end_with_its_quiet_end(data: bytes) -> None:
    async def ask() -> None:
        async with against_server(echo) as peer:
            with contextlib.suppress(trio.BrokenResourceError):
                await peer.stream.send_all(data)
            await trio.testing.wait_all_tasks_blocked()

    trio.run(ask, clock=trio.testing.MockClock(autojump_threshold=0))


# The real sops


def wrapped_key(file: bytes) -> bytes:
    """The data key of a file for one age recipient, as the file has it."""
    found: str = YAML(typ="safe", pure=True).load(file)["sops"]["age"][0]["enc"]
    return found.encode()


def sops_environment(home: Path) -> dict[str, str]:
    return {**EMPTY_ENVIRONMENT, **NO_NETWORK_ENVIRONMENT, "HOME": str(home)}


@contextlib.asynccontextmanager
async def sops_keyservice(sops: Path, home: Path, identity: str) -> AsyncIterator[GrpcClient]:
    """A client of the real `sops keyservice`, on a unix socket, with an age identity."""
    path = home / "k"
    run = [str(sops), "keyservice", "--network", "unix", "--address", str(path)]
    with trio.fail_after(REAL_DEADLINE_SECONDS):
        async with trio.open_nursery() as nursery:
            environment = {**sops_environment(home), "SOPS_AGE_KEY": identity}

            async def serve() -> None:
                await trio.run_process(run, env=environment, capture_stdout=True, capture_stderr=True, check=False)

            nursery.start_soon(serve)
            client = GrpcClient(await _connected(path))
            await nursery.start(client.run)
            yield client
            nursery.cancel_scope.cancel()


async def _connected(path: Path) -> trio.SocketStream:
    while True:
        with contextlib.suppress(OSError):
            return await trio.open_unix_socket(path)
        await trio.sleep(0.005)  # nothing reports that it listens


async def sops_decrypt(sops: Path, home: Path, file: bytes, handle: Handle) -> tuple[int, str, str]:
    """What the real `sops decrypt` says to a file when its key service is a handler: exit status, output, errors."""
    path = home / "g"
    listener = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    run = [str(sops), "decrypt", "--enable-local-keyservice=false", "--keyservice", f"unix://{path}"]
    run += ["--input-type", "yaml", "--output-type", "yaml"]
    with trio.fail_after(REAL_DEADLINE_SECONDS), listener:
        await listener.bind(str(path))
        listener.listen()

        async def serve() -> None:
            accepted, _ = await listener.accept()
            await serve_calls(trio.SocketStream(accepted), handle)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            done = await trio.run_process(
                run, stdin=file, env=sops_environment(home), capture_stdout=True, capture_stderr=True, check=False
            )
            nursery.cancel_scope.cancel()
    path.unlink()
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def opened_by_age(identity: str) -> Callable[[str, bytes], Awaitable[bytes]]:
    """A handler that opens data keys by itself."""

    async def handle(path: str, message: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        assert path == DECRYPT
        request = read_decrypt_request(message)
        assert isinstance(request.key, AgeMasterKey)
        [found] = [pyrage.x25519.Identity.from_str(identity)]
        return write_decrypt_response(pyrage.decrypt(request.ciphertext, [found]))

    return handle


async def test_the_real_keyservice_opens_a_data_key(
    tools: dict[str, Path], fast_directory: Path, encrypt: Encrypter, age_pair: AgePair
) -> None:
    ciphertext = wrapped_key(encrypt("a: b", "--age", age_pair.public))
    asked = write_decrypt_request(DecryptRequest(AgeMasterKey(age_pair.public), ciphertext))
    async with sops_keyservice(tools["sops"], fast_directory, age_pair.private) as client:
        data_key = read_decrypt_response(await client.call(DECRYPT, asked))
    assert data_key == pyrage.decrypt(ciphertext, [pyrage.x25519.Identity.from_str(age_pair.private)])
    assert len(data_key) == 32


async def test_the_real_keyservice_takes_a_request_beyond_the_flow_control_window(
    tools: dict[str, Path], fast_directory: Path, encrypt: Encrypter, age_pair: AgePair
) -> None:
    ciphertext = wrapped_key(encrypt("a: b", "--age", age_pair.public))
    # It does not look at the name.
    asked = write_decrypt_request(DecryptRequest(AgeMasterKey("x" * 200 * 1024), ciphertext))
    async with sops_keyservice(tools["sops"], fast_directory, age_pair.private) as client:
        for _ in range(3):
            assert len(read_decrypt_response(await client.call(DECRYPT, asked))) == 32


async def test_the_real_keyservice_answers_twenty_calls_at_once_on_one_connection(
    tools: dict[str, Path], fast_directory: Path, encrypt: Encrypter, age_pair: AgePair
) -> None:
    ciphertexts = [wrapped_key(encrypt(f"a: {number}", "--age", age_pair.public)) for number in range(4)] * 5
    found: dict[int, bytes] = {}
    async with sops_keyservice(tools["sops"], fast_directory, age_pair.private) as client:

        async def one(number: int) -> None:
            asked = write_decrypt_request(DecryptRequest(AgeMasterKey(age_pair.public), ciphertexts[number]))
            found[number] = read_decrypt_response(await client.call(DECRYPT, asked))

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(one, number)
    identity = pyrage.x25519.Identity.from_str(age_pair.private)
    assert found == {number: pyrage.decrypt(ciphertexts[number], [identity]) for number in range(20)}
    assert len(set(found.values())) == 4


async def test_the_real_keyservices_refusals_come_with_their_texts_and_the_connection_stays(
    tools: dict[str, Path], fast_directory: Path, encrypt: Encrypter, age_pair: AgePair, other_age_pair: AgePair
) -> None:
    good = wrapped_key(encrypt("a: b", "--age", age_pair.public))
    other = wrapped_key(encrypt("a: b", "--age", other_age_pair.public))
    async with sops_keyservice(tools["sops"], fast_directory, age_pair.private) as client:

        async def refused(path: str, message: bytes) -> GrpcStatusError:
            with pytest.raises(GrpcStatusError) as caught:
                await client.call(path, message)
            return caught.value

        key = AgeMasterKey(age_pair.public)
        wrong = await refused(DECRYPT, write_decrypt_request(DecryptRequest(key, other)))
        assert (wrong.code, "age" in wrong.text) == (UNKNOWN, True)
        quoting = await refused(DECRYPT, write_decrypt_request(DecryptRequest(key, b"x" * 50_000)))
        assert (quoting.code, "x" * 50_000 in quoting.text) == (UNKNOWN, True)
        unknown = await refused("/KeyService/Other", b"")
        assert (unknown.code, "Other" in unknown.text) == (UNIMPLEMENTED, True)
        assert (await refused(DECRYPT, b"\xff\xff\xff")).code != OK
        with trio.CancelScope() as scope:
            scope.cancel()
            await client.call(DECRYPT, write_decrypt_request(DecryptRequest(key, good)))
        assert scope.cancelled_caught
        answer = await client.call(DECRYPT, write_decrypt_request(DecryptRequest(key, good)))
        assert len(read_decrypt_response(answer)) == 32


async def test_calls_to_a_real_keyservice_that_is_ended_have_no_answer(
    tools: dict[str, Path], fast_directory: Path, age_pair: AgePair
) -> None:
    path = fast_directory / "k"
    run = [str(tools["sops"]), "keyservice", "--network", "unix", "--address", str(path)]
    process = await trio.lowlevel.open_process(run, env=sops_environment(fast_directory), stderr=-3, stdout=-3)
    try:
        with trio.fail_after(REAL_DEADLINE_SECONDS):
            client = GrpcClient(await _connected(path))
            async with trio.open_nursery() as nursery:
                await nursery.start(client.run)
                with pytest.raises(GrpcStatusError):
                    await client.call("/KeyService/Other", b"")
                process.kill()
                await process.wait()
            assert client.closed
            await _no_answer(client)
    finally:
        process.kill()
        await process.wait()


async def test_the_real_sops_decrypts_a_file_through_a_handler(
    tools: dict[str, Path], fast_directory: Path, encrypt: Encrypter, age_pair: AgePair
) -> None:
    file = encrypt("a: secret", "--age", age_pair.public)
    status, out, errors = await sops_decrypt(tools["sops"], fast_directory, file, opened_by_age(age_pair.private))
    assert (status, out) == (0, "a: secret\n"), errors


async def test_the_real_sops_decrypts_a_file_through_both_ends_of_ours_and_a_real_keyservice(
    tools: dict[str, Path], fast_directory: Path, encrypt: Encrypter, age_pair: AgePair
) -> None:
    file = encrypt("a: secret", "--age", age_pair.public)
    async with sops_keyservice(tools["sops"], fast_directory, age_pair.private) as client:
        status, out, errors = await sops_decrypt(tools["sops"], fast_directory, file, client.call)
    assert (status, out) == (0, "a: secret\n"), errors


@pytest.mark.parametrize(
    ("code", "text"), [(PERMISSION_DENIED, ""), (FAILED_PRECONDITION, "no key: é, 100% [a] \n b"), (UNIMPLEMENTED, "x")]
)
async def test_the_real_sops_gets_a_refusal_and_its_text(
    tools: dict[str, Path], fast_directory: Path, encrypt: Encrypter, age_pair: AgePair, code: int, text: str
) -> None:
    paths = []

    async def refuse(path: str, message: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        paths.append(path)
        raise GrpcStatusError(code, text)

    file = encrypt("a: secret", "--age", age_pair.public)
    status, out, errors = await sops_decrypt(tools["sops"], fast_directory, file, refuse)
    assert (status, out) == (128, "")
    names = {PERMISSION_DENIED: "PermissionDenied", FAILED_PRECONDITION: "FailedPrecondition"}
    said = "".join(errors.replace("|", " ").split())
    assert f"code={names.get(code, 'Unimplemented')}" in said
    assert "".join(text.split()) in said
    assert paths == [DECRYPT]
    assert ENCRYPT not in paths


async def test_the_real_sops_ends_when_its_key_service_does_in_the_middle(
    tools: dict[str, Path], fast_directory: Path, encrypt: Encrypter, age_pair: AgePair
) -> None:
    asked = 0

    async def go(path: str, message: bytes) -> bytes:
        nonlocal asked
        asked += 1
        await trio.lowlevel.checkpoint()
        raise GrpcConnectionError

    file = encrypt("a: secret", "--age", age_pair.public)
    status, out, _ = await sops_decrypt(tools["sops"], fast_directory, file, go)
    assert (status, out, asked) == (128, "", 1)
