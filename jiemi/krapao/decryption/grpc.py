"""Unary gRPC calls over a trio stream: as much of gRPC as sops's key service needs, on h2's HTTP/2.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md. A call is one HTTP/2 stream: a POST whose body is one
message, five bytes of prefix before it, and an answer of the same form whose trailers hold the status. What gRPC has
beside that (streaming, compression, deadlines in headers) is not spoken here: neither end of sops asks for it.

Why not grpcio: it is threads that can't be cancelled or joined, or asyncio, and both ends here are tasks of ours with
deadlines. h2 keeps the state of the protocol and does no I/O; this module moves its bytes.

Both ends treat the other as hostile: messages, streams and the time that a write may take are bounded, and text of the
other end's is never put into an exception's message (`GrpcStatusError.text` is for looking at, and then dropped).
"""

from __future__ import annotations

import contextlib
import struct
import urllib.parse
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import trio
from h2.errors import ErrorCodes

MAX_MESSAGE_BYTES = 256 * 1024
"""The largest message either way. A data key wrapped for a post-quantum age recipient takes about 2 KiB."""

MAX_STREAMS = 16
"""How many calls one connection may have open: sops makes one after the other."""

MAX_HEADER_BYTES = 1024 * 1024
"""Of one call. A status's text may quote a wrapped data key, each of its bytes in three characters."""

_PREFIX = struct.Struct(">BI")
_READ_BYTES = 64 * 1024
_WRITE_SECONDS = 10
"""The longest that the other end may leave what is written unread."""

OK, UNKNOWN, INVALID_ARGUMENT, PERMISSION_DENIED = 0, 2, 3, 7
RESOURCE_EXHAUSTED, FAILED_PRECONDITION, UNIMPLEMENTED = 8, 9, 12
"""https://grpc.github.io/grpc/core/md_doc_statuscodes.html"""

Event = h2.events.Event

Handle = Callable[[str, bytes], Awaitable[bytes]]
"""Answers a call: the method's path ("/KeyService/Decrypt") and the message in, the message out."""


class GrpcStatusError(Exception):
    """A call was answered with a status that is not OK.

    Attributes:
        code: the status.
        text: what the other end says to it; for looking at only, since it may quote anything.
    """

    def __init__(self, code: int, text: str = "") -> None:
        super().__init__(f"gRPC status {code}")
        self.code = code
        self.text = text


class GrpcTooLargeError(Exception):
    """The answer is larger than `MAX_MESSAGE_BYTES`. The connection can be used on."""


class GrpcConnectionError(Exception):
    """The connection ended, or the other end does not speak gRPC."""


@attrs.define(eq=False)
class _Stream:
    """One call, as far as it has come."""

    number: int
    path: str = ""
    body: bytearray = attrs.field(factory=bytearray)
    headers: dict[str, str] = attrs.field(factory=dict)
    ended: trio.Event = attrs.field(factory=trio.Event)
    reset: bool = False
    too_large: bool = False
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)


class _Connection:
    """What both ends have in common: bytes to and from h2, one writer at a time, flow control."""

    def __init__(self, stream: trio.abc.Stream, *, client_side: bool) -> None:
        self._stream = stream
        self.state = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=client_side, header_encoding="utf-8")
        )
        codes = h2.settings.SettingCodes
        self.state.local_settings = h2.settings.Settings(
            client=client_side,
            initial_values={codes.MAX_CONCURRENT_STREAMS: MAX_STREAMS, codes.MAX_HEADER_LIST_SIZE: MAX_HEADER_BYTES},
        )
        self.state.decoder.max_header_list_size = MAX_HEADER_BYTES
        self._writing = trio.Lock()
        self._something_came = trio.Event()
        self.streams: dict[int, _Stream] = {}
        self.closed = False
        self._too_large = False

    async def begin(self) -> None:
        self.state.initiate_connection()
        await self.flush()

    async def flush(self) -> None:
        """Send what h2 has to say. A write that began is not cancelled, for half a frame would end the connection.

        Raises:
            GrpcConnectionError: the connection has ended, or ends because nobody reads at its other end.
        """
        async with self._writing:
            data = b"" if self.closed else self.state.data_to_send()
            if data:
                with trio.CancelScope(shield=True), trio.move_on_after(_WRITE_SECONDS) as bound:
                    try:
                        await self._stream.send_all(data)
                    except (trio.BrokenResourceError, trio.ClosedResourceError):
                        self.closed = True
                if bound.cancelled_caught:
                    self.closed = True
                if self.closed:
                    await trio.aclose_forcefully(self._stream)  # the reader notices too
        if self.closed:
            raise GrpcConnectionError("the connection ended while something was written")

    async def send_message(self, call: _Stream, message: bytes, *, end_stream: bool) -> None:
        """Send a message, as the other end makes room for it; less where it has answered or gone meanwhile."""
        data = memoryview(_PREFIX.pack(0, len(message)) + message)
        while not self.closed and not call.reset and not (end_stream and call.ended.is_set()):
            room = min(self.state.local_flow_control_window(call.number), self.state.max_outbound_frame_size)
            if room <= 0:
                await self._something_came.wait()  # has no deadline of its own: the call has
                continue
            part, data = data[:room], data[room:]
            self.state.send_data(call.number, bytes(part), end_stream=end_stream and not data)
            await self.flush()
            if not data:
                return

    async def receive(self) -> list[h2.events.Event] | None:
        """The next events, or None when the connection has ended.

        Raises:
            GrpcConnectionError: the other end broke the protocol.
        """
        try:
            data = await self._stream.receive_some(_READ_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        if not data:
            self.closed = True
            return None
        try:
            events = self.state.receive_data(bytes(data))
        except (h2.exceptions.ProtocolError, UnicodeDecodeError):
            self.closed = True
            # Not chained: the library's errors quote what was sent.
            raise GrpcConnectionError("the other end does not speak HTTP/2") from None
        return events

    def take(self, event: Event) -> _Stream | None:
        """Note what an event says of a call; the call, if it has come to its end."""
        number: Any = getattr(event, "stream_id", None)
        stream = self.streams.get(number) if number else None
        if isinstance(event, h2.events.DataReceived):
            with contextlib.suppress(h2.exceptions.ProtocolError):  # it has ended meanwhile
                self.state.acknowledge_received_data(event.flow_controlled_length or 0, number)
            if stream is not None:
                stream.body += event.data or b""
                if len(stream.body) > MAX_MESSAGE_BYTES + _PREFIX.size:
                    stream.too_large = self._too_large = True
                    stream.body.clear()
                    self.reset(number, ErrorCodes.ENHANCE_YOUR_CALM)
        elif isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived) and stream is not None:
            stream.headers.update((str(name), str(value)) for name, value in event.headers or ())
        elif isinstance(event, h2.events.StreamReset) and stream is not None:
            self._forget(stream)
        elif isinstance(event, h2.events.StreamEnded) and stream is not None:
            stream.ended.set()
        self.wake()
        return stream if isinstance(event, h2.events.StreamEnded) else None

    def take_too_large(self) -> bool:
        """Whether a message was too large since this was asked last."""
        found, self._too_large = self._too_large, False
        return found

    def wake(self) -> None:
        """Let all who wait for room look again."""
        self._something_came.set()
        self._something_came = trio.Event()

    def _forget(self, stream: _Stream) -> None:
        self.streams.pop(stream.number, None)
        stream.reset = True
        stream.scope.cancel()
        stream.ended.set()

    def reset(self, number: int, code: ErrorCodes = ErrorCodes.CANCEL) -> None:
        """End a call early. What is to be sent for it waits for the next flush."""
        stream = self.streams.get(number)
        if stream is not None:
            self._forget(stream)
        with contextlib.suppress(h2.exceptions.ProtocolError):  # it has ended by itself
            self.state.reset_stream(number, error_code=code)

    def end(self) -> None:
        """All calls end with the connection."""
        self.closed = True
        for stream in list(self.streams.values()):
            self._forget(stream)
        self.wake()


def _message(body: bytes | bytearray) -> bytes | None:
    """The one message of a body, or None where it is none."""
    if len(body) < _PREFIX.size:
        return None
    compressed, length = _PREFIX.unpack_from(body)
    return bytes(body[_PREFIX.size :]) if not compressed and length == len(body) - _PREFIX.size else None


async def serve_calls(
    stream: trio.abc.Stream, handle: Handle, *, on_too_large: Callable[[], None] | None = None
) -> None:
    """Answer the calls of one connection until it ends; closes the stream.

    Args:
        stream: a connection that was accepted. Owned by this call from now on.
        handle: called in a task of its own for each call; cancelled when the caller or the connection goes. It answers
            with a message or raises GrpcStatusError; anything else that it raises leaves this function.
        on_too_large: called for each call that was ended because its message is too large.
    """
    async with stream:
        connection = _Connection(stream, client_side=False)
        try:
            async with trio.open_nursery() as nursery:
                await connection.begin()
                while (events := await connection.receive()) is not None:
                    for event in events:
                        _take_on_server(connection, event, handle, nursery)
                        if on_too_large is not None and connection.take_too_large():
                            on_too_large()
                    await connection.flush()
                nursery.cancel_scope.cancel()
        except* (GrpcConnectionError, h2.exceptions.ProtocolError):
            pass  # the caller learns it from the end of the connection
        finally:
            connection.end()


def _take_on_server(connection: _Connection, event: Event, handle: Handle, nursery: trio.Nursery) -> None:
    if isinstance(event, h2.events.RequestReceived):
        if len(connection.streams) >= MAX_STREAMS:
            connection.reset(event.stream_id, ErrorCodes.REFUSED_STREAM)
            return
        headers = {str(name): str(value) for name, value in event.headers}
        connection.streams[event.stream_id] = _Stream(event.stream_id, headers.get(":path", ""))
    done = connection.take(event)
    if done is not None:
        nursery.start_soon(_answer, connection, done, handle)


async def _answer(connection: _Connection, call: _Stream, handle: Handle) -> None:
    with call.scope:
        message = _message(call.body)
        call.body.clear()
        headers, answer = _ANSWER_HEADERS, b""
        try:
            if message is None:
                raise GrpcStatusError(INVALID_ARGUMENT, "the body is not one message without compression")
            answer = await handle(call.path, message)
            trailers = [("grpc-status", str(OK))]
        except GrpcStatusError as error:
            text = urllib.parse.quote(error.text, safe=" ()[]/:;,.=+'")
            trailers = [*headers, ("grpc-status", str(error.code)), ("grpc-message", text)]
            headers = []
        if call.reset or connection.closed:
            return  # the caller is gone
        with contextlib.suppress(h2.exceptions.ProtocolError):  # gone just now
            if headers:
                connection.state.send_headers(call.number, headers)
                await connection.send_message(call, answer, end_stream=False)
            if not call.reset:
                connection.state.send_headers(call.number, trailers, end_stream=True)
        connection.streams.pop(call.number, None)
        await connection.flush()


_ANSWER_HEADERS = [(":status", "200"), ("content-type", "application/grpc")]


class GrpcClient:
    """Calls over one connection. `run` must be running meanwhile; calls may be made from several tasks at once."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._connection = _Connection(stream, client_side=True)
        self._stream = stream
        self._places = trio.CapacityLimiter(MAX_STREAMS)

    @property
    def closed(self) -> bool:
        """Whether the connection has ended, so that no further call can be made."""
        return self._connection.closed

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Move the connection's bytes until it ends; then every call that waits fails. Closes the stream.

        Has no deadline: it lasts as long as the connection, and its starter cancels it.
        """
        connection = self._connection
        try:
            async with self._stream:
                try:
                    await connection.begin()
                finally:
                    task_status.started()  # the calls report what is wrong
                while (events := await connection.receive()) is not None:
                    for event in events:
                        connection.take(event)
                    await connection.flush()
        except (GrpcConnectionError, h2.exceptions.ProtocolError):
            pass  # the calls say so
        finally:
            connection.end()

    async def call(self, path: str, message: bytes) -> bytes:
        """Make a call and wait for its answer; has no deadline but the caller's.

        Raises:
            GrpcStatusError: the answer is a failure. GrpcTooLargeError. GrpcConnectionError: there is no answer.
        """
        async with self._places:
            return await self._call(path, message)

    async def _call(self, path: str, message: bytes) -> bytes:
        connection = self._connection
        if connection.closed:
            raise GrpcConnectionError("the connection has ended")
        try:
            number = connection.state.get_next_available_stream_id()
            connection.state.send_headers(number, [(":path", path), *_CALL_HEADERS])
        except h2.exceptions.ProtocolError:
            raise GrpcConnectionError("the other end takes no further call") from None
        call = connection.streams[number] = _Stream(number)
        try:
            await connection.send_message(call, message, end_stream=True)
            await call.ended.wait()
        except h2.exceptions.ProtocolError:
            raise GrpcConnectionError("the other end ended the call early") from None
        finally:
            if not call.ended.is_set() and not connection.closed:
                connection.reset(number)
                with trio.CancelScope(shield=True), contextlib.suppress(GrpcConnectionError):
                    await connection.flush()
            connection.streams.pop(number, None)
        return _read_answer(call)


_CALL_HEADERS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "localhost"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]


def _read_answer(call: _Stream) -> bytes:
    if call.too_large:
        raise GrpcTooLargeError("the answer is larger than any that is expected")
    status = call.headers.get("grpc-status")
    if status is not None and status != str(OK):
        code = int(status) if status.isdecimal() and len(status) < 4 else UNKNOWN
        raise GrpcStatusError(code, urllib.parse.unquote(call.headers.get("grpc-message", ""), errors="replace"))
    message = _message(call.body)
    if call.reset or status is None or message is None:
        raise GrpcConnectionError("the other end gave no answer")
    return message
