"""Requests to the API server, each ended by a cancellation or its deadline.

Each request runs on a worker thread that a cancellation ends (`jiemi.concurrency`), under a deadline that counts from
when it got its place among those that run at once. The namespaces that requests are for share the places fairly
(`jiemi.miwen.kubernetes.on_behalf`): where one's objects take the API server seconds each, another's do not wait for
all of them.

A request is tried once more in three cases: the connection broke (an API server that restarts closes idle ones; all
requests here may safely arrive twice), the token was refused and there is another now, and the API server asked for a
short pause (Retry-After). The answer says when an earlier try may have been carried out. Whatever else happens, the
loops above try again in their own time.

A stream is pulled: nobody reads while nobody asks for the next chunk. So TCP itself holds a fast server back, and
between chunks there is no thread, no buffer and no task. A stream never takes a place from the requests.
"""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import attrs
import trio
import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    SSLError,
)

from jiemi.concurrency.calls import Interrupter, run_blocking
from jiemi.concurrency.fair_limiter import FairLimiter
from jiemi.concurrency.http import resume
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.miwen.kubernetes.access import Access
from jiemi.miwen.kubernetes.counts import RequestCounter, logged
from jiemi.miwen.kubernetes.errors import not_authenticated, unavailable
from jiemi.miwen.kubernetes.fence import Fence
from jiemi.miwen.kubernetes.on_behalf import who_asks
from jiemi.miwen.kubernetes.refusal import Refusal, read_refusal

MAX_PAUSE_SECONDS = 5.0
"""The longest Retry-After that a request waits for; a longer one is an error, and the caller backs off."""

CHUNK_BYTES = 64 * 1024

MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""The longest answer that is read. An object is at most 1.5 MiB in etcd (its --max-request-bytes), and JSON may take
six characters (\\u0001) for a byte of it."""

BEGINNING_BYTES = 64 * 1024
"""How much of an answer that is longer is kept: what a list says of itself before its items."""

JSON = "application/json"


@attrs.frozen
class Request:
    """One request.

    Attributes:
        verb, resource: for the counts.
        doing: for messages.
        impersonate: the user to act as; None: as who we are.
        max_bytes: the longest body of an answer that is read.
        of_lease: whether it is about the Lease by which this process may write. It waits for nobody else, and the fence
            lets it through.
    """

    verb: str
    resource: str
    doing: str
    method: str
    path: str
    query: Mapping[str, str] = attrs.field(factory=dict)
    body: bytes | None = attrs.field(default=None, repr=False)
    content_type: str | None = None
    accept: str = JSON
    impersonate: str | None = None
    max_bytes: int = MAX_ANSWER_BYTES
    of_lease: bool = False


class AnswerTooLarge(JiemiError):
    """A ClusterUnavailable: the answer is longer than the request allows. It was not read on.

    Attributes:
        beginning: the beginning of its body; as secret as the rest.
    """

    def __init__(self, request: Request, beginning: bytes) -> None:
        problem = (
            f"{request.doing}: the answer is larger than {request.max_bytes} bytes, which is the most that is read"
        )
        super().__init__("ClusterUnavailable", problem)
        self.beginning = beginning


class AnswerTooLate(JiemiError):
    """A ClusterUnavailable: no answer came in time."""

    def __init__(self, request: Request, server: str, timeout_seconds: float) -> None:
        super().__init__("ClusterUnavailable", f"{request.doing}: {server} did not answer within {timeout_seconds:g} s")


@attrs.frozen
class Answer:
    """What came back; the body may hold Secrets.

    Attributes:
        tried_before: an earlier try of the request may have been carried out: its connection broke, or it met a fault.
    """

    status: int
    retry_after_seconds: float | None
    body: bytes = attrs.field(repr=False)
    tried_before: bool = False

    @property
    def good(self) -> bool:
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    @property
    def refusal(self) -> Refusal:
        return read_refusal(self.status, self.body)


class KubernetesHttp:
    """Sends requests.

    Args:
        pool: its connections must be interruptible (`jiemi.concurrency.http`).
        access: the server and the tokens.
        timeout_seconds: for one try of a request, counted from when it has its place; for the beginning of a stream.
        silence_seconds: a stream on which nothing arrives for so long is half-open.
        max_concurrent_requests: streams apart; one namespace gets three quarters of them at most.

    Attributes:
        requests: counts every try.
        server: the URL that requests go to, for messages.
        fence: until when writes may be sent.
    """

    def __init__(
        self,
        pool: urllib3.PoolManager,
        access: Access,
        *,
        timeout_seconds: float,
        silence_seconds: float,
        max_concurrent_requests: int,
    ) -> None:
        self.requests = RequestCounter()
        self.fence = Fence()
        self.server = access.server
        self._pool = pool
        self._origin = access.origin
        self._tokens = access.tokens
        self._timeout_seconds = timeout_seconds
        self._silence_seconds = silence_seconds
        self._places = FairLimiter(max_concurrent_requests)

    async def send(self, request: Request) -> Answer:
        """Send a request and read its answer, whatever its status is.

        Raises:
            JiemiError: ClusterUnavailable: no answer, or the credentials are not accepted; `AnswerTooLarge` and
                `AnswerTooLate` are such.
        """
        return await self._send(request, None)

    def object_in(self, answer: Answer, doing: str) -> dict[str, Any]:
        """The JSON object that was answered.

        Raises:
            JiemiError: ClusterUnavailable, it is a refusal or something else.
        """
        if not answer.good:
            raise unavailable(doing, answer.refusal)
        try:
            value = json.loads(answer.body)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise self.no_kubernetes(doing)
        return value

    def no_kubernetes(self, doing: str) -> JiemiError:
        """For an answer that makes no sense."""
        return JiemiError("ClusterUnavailable", f"{doing}: {self.server} did not answer as a Kubernetes API does")

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[Answer | AsyncIterator[bytes]]:
        """Send a request whose answer has no end.

        Returns:
            The chunks of its body as they arrive, or a refusal. A wait for a chunk that is cancelled ends the stream.

        Raises:
            JiemiError: ClusterUnavailable, as `send`, or while chunks are read: it broke or fell silent.
        """
        opened: list[urllib3.BaseHTTPResponse] = []
        try:
            answer = await self._send(request, opened)
            if not answer.good:
                yield answer
                return
            async with contextlib.aclosing(self._chunks(request.doing, opened[-1])) as chunks:
                yield chunks
        finally:
            for response in opened:
                # Ends the connection: the API server would go on sending on it. It does not go back to the pool.
                response.close()

    async def _send(self, request: Request, keep: list[urllib3.BaseHTTPResponse] | None) -> Answer:
        """Send a request, and once more where that may help.

        Args:
            request: what to send.
            keep: takes a good response whose body is to be read later; None reads it whole.
        """
        token = await self._tokens.get()
        answer = await self._try(request, token, keep)
        if answer is not None:
            pause = answer.retry_after_seconds
            if _is_unauthorized(answer):
                renewed = await self._tokens.get(refused=token)
                if renewed is None or renewed == token:
                    raise self._not_accepted(request)
                token = renewed
            elif answer.good or pause is None or pause > MAX_PAUSE_SECONDS:
                return answer
            else:
                await trio.sleep(pause)
        carried_out = answer is None or not _is_unauthorized(answer)
        answer = await self._try(request, token, keep)
        if answer is None:
            raise JiemiError("ClusterUnavailable", f"{request.doing}: {self.server} ended the connection")
        if _is_unauthorized(answer):
            raise self._not_accepted(request)
        return attrs.evolve(answer, tried_before=carried_out)

    def _not_accepted(self, request: Request) -> JiemiError:
        return not_authenticated(
            f"{request.doing}: {self.server} does not accept the credentials of {self._origin} (401)"
        )

    async def _try(
        self, request: Request, token: SensitiveText | None, keep: list[urllib3.BaseHTTPResponse] | None
    ) -> Answer | None:
        """One try; None when the connection broke before the answer was whole."""

        # No deadline for the place: each of those before us has one. A watch waits for none.
        waits = keep is None and not request.of_lease
        async with self._places.slot(who_asks()) if waits else contextlib.nullcontext():
            request, timeout = self._fenced(request)

            def call(_: Interrupter) -> Answer:
                return self._call(request, token, keep)

            self.requests.add(request.verb, request.resource)
            try:
                with trio.fail_after(timeout), logged(request.verb, request.path) as note_status:
                    answer = await run_blocking(call, limiter=trio.CapacityLimiter(1))
                    note_status(answer.status)
                return answer
            except trio.TooSlowError as error:
                raise AnswerTooLate(request, self.server, timeout) from error
            except ProtocolError:
                return None
            except (HTTPError, OSError) as error:
                problem = f"{request.doing}: {self.server} can't be reached: {_why(error)}"
                raise JiemiError("ClusterUnavailable", problem) from error

    def _fenced(self, request: Request) -> tuple[Request, float]:
        """The request as it may be sent now, and how long it may take.

        Raises:
            JiemiError: ClusterUnavailable, it is a write, and this process may not write any more.
        """
        left = self.fence.left_seconds()
        if request.method == "GET" or request.of_lease or left == float("inf"):
            return request, self._timeout_seconds
        if left <= 0:
            raise JiemiError("ClusterUnavailable", f"{request.doing}: this Miwen does not hold the Lease any longer")
        timeout = min(self._timeout_seconds, left)
        return attrs.evolve(request, query={**request.query, "timeout": f"{timeout:.3f}s"}), timeout

    def _call(
        self, request: Request, token: SensitiveText | None, keep: list[urllib3.BaseHTTPResponse] | None
    ) -> Answer:
        """The blocking part of one try, on a worker thread."""
        headers = {"Accept": request.accept, "User-Agent": "jiemi-miwen"}
        if request.content_type is not None:
            headers["Content-Type"] = request.content_type
        if token is not None:
            headers["Authorization"] = f"Bearer {token.reveal()}"
        if request.impersonate is not None:
            headers["Impersonate-User"] = request.impersonate
        query = f"?{urlencode(request.query)}" if request.query else ""
        response = self._pool.request(
            request.method,
            f"{self.server}{request.path}{query}",
            body=request.body,
            headers=headers,
            preload_content=False,
            retries=False,
            redirect=False,
            # Reads end by the deadlines around this call, which interrupt it.
            timeout=urllib3.Timeout(connect=self._timeout_seconds, read=None),
        )
        if keep is not None and response.status == HTTPStatus.OK:
            keep.append(response)
            return Answer(response.status, None, b"")
        try:
            body = response.read(request.max_bytes + 1)
            if len(body) > request.max_bytes:
                response.close()
                if response.status < HTTPStatus.MULTIPLE_CHOICES:
                    raise AnswerTooLarge(request, body[:BEGINNING_BYTES])
                body = b""  # of such a refusal the code alone is known
        except BaseException:
            response.close()
            raise
        finally:
            response.release_conn()
        return Answer(response.status, _seconds(response.headers.get("Retry-After")), body)

    async def _chunks(self, doing: str, response: urllib3.BaseHTTPResponse) -> AsyncGenerator[bytes, None]:
        """The body until the API server ends it."""

        def read(_: Interrupter) -> bytes:
            resume(response)
            return response.read1(CHUNK_BYTES)

        silence = self._silence_seconds
        place = trio.CapacityLimiter(1)
        while True:
            try:
                with trio.fail_after(silence):
                    chunk = await run_blocking(read, limiter=place)
            except trio.TooSlowError as error:
                problem = f"{doing}: nothing came from {self.server} for {silence:g} s"
                raise JiemiError("ClusterUnavailable", problem) from error
            except (HTTPError, OSError) as error:
                problem = f"{doing}: the connection to {self.server} broke"
                raise JiemiError("ClusterUnavailable", problem) from error
            if not chunk:
                return
            yield chunk


def _is_unauthorized(answer: Answer) -> bool:
    """Whether the token was refused; an admission policy may answer with the same code."""
    return answer.status == HTTPStatus.UNAUTHORIZED and not answer.refusal.by_admission


def _seconds(retry_after: str | None) -> float | None:
    """The Retry-After header in seconds; the API server uses no other form (RFC 9110, 10.2.3)."""
    return float(retry_after) if retry_after is not None and retry_after.isdecimal() else None


def _why(error: Exception) -> str:
    """What went wrong with a connection, in words of ours: the library's text may hold what was sent."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, NameResolutionError):
            return "its name has no address"
        if isinstance(cause, ConnectTimeoutError) and not isinstance(cause, NewConnectionError):
            return "no answer to the connection attempt"
        if isinstance(cause, ProxyError):
            return "the proxy refuses"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its TLS certificate does not verify: {cause.verify_message}"
        if isinstance(cause, OSError) and cause.strerror and not isinstance(cause, NewConnectionError | SSLError):
            return cause.strerror
        cause = cause.__cause__ or cause.__context__ or _inner(cause)
    return type(error).__name__


def _inner(error: BaseException) -> BaseException | None:
    """The error that a urllib3 error was made from, where it is an argument only."""
    return next((argument for argument in error.args if isinstance(argument, Exception)), None)
