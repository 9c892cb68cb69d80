"""Serve any `Krapao` to the clients that connect.

    accept ─> which peer? ─> a place in the lobby ─> TLS ─> gate, Cap'n Proto ─> openSession, who is it? ─> a place in
                                                                 the hall ─> Repository… (jiemi.rpc.targets)

Each connection is a trio task with a nursery. capnp's side of it runs in the bridge's thread, behind a gate
(jiemi.rpc.gate) that bounds what a peer can make it hold. The end of the connection cancels its nursery, and so every
call and every repository of it.

Nothing that goes wrong leaves as an exception: a JiemiError becomes a Failure in the result, anything else a Failure
InternalError with a number to look for in the log.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import structlog
import trio
import trio.lowlevel

from jiemi.core.errors import Failure
from jiemi.rpc import codec
from jiemi.rpc.address import Address, TcpAddress
from jiemi.rpc.admission import Admission, Refusal, Shown
from jiemi.rpc.bridge import Bridge
from jiemi.rpc.capability import where
from jiemi.rpc.contract import Krapao
from jiemi.rpc.gate import Gate, GateError
from jiemi.rpc.limits import Account, Limits
from jiemi.rpc.open_repositories import Budget
from jiemi.rpc.places import Guest, hall, lobby
from jiemi.rpc.rare_log import rare_log
from jiemi.rpc.sockets import Peer, notice_a_peer_that_is_gone, open_listeners, peer_of
from jiemi.rpc.targets import Bootstrap
from jiemi.rpc.tls import ServerTls, TlsError, TlsPeer

__all__ = ["Limits", "serve"]

_REFUSAL_SECONDS = 1.0
"""How long the answer to a wrong secret takes."""

_FAREWELL_SECONDS = 2.0
"""How long a client that was refused has to hear why."""

_RETIRED_AT_ONCE = 32
"""How many repositories and watches are ended before everybody else gets a turn. Each takes about 0.7 ms."""

_RETIRE_SECONDS = 60.0
"""For those of a connection that is gone; what is left then ends at once."""

_IDLE_LOOKS = 4
"""How often in the time after which an idle session is closed it is looked at, and whether its secret still holds."""

_MAX_ANSWER_BYTES = 2 * codec.MAX_MESSAGE_BYTES
"""More than any message of this end's."""

_log = structlog.get_logger("jiemi.rpc")


async def serve(
    krapao: Krapao,
    address: Address,
    *,
    bridge: Bridge,
    limits: Limits | None = None,
    admission: Admission | None = None,
    task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled.

    Args:
        address: a unix socket is made with mode 0600, in place of one that nobody listens on, and removed at the end.
            Its peers must be of this process's user, or root.
        limits: None for the usual ones.
        admission: what is asked of a client; None asks for nothing.
        task_status: `started` gives the address, with the real port, when connections are accepted.

    Raises:
        ListenError: the address can't be listened on; the text says why.
    """
    admission = admission or Admission()
    tls = admission.tls if isinstance(address, TcpAddress) else None
    port = _Port(krapao, bridge, limits or Limits(), admission, tls)
    async with open_listeners(address) as (listeners, bound), trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, port.connected, listeners)
        task_status.started(bound)


class _Port:
    """What the connections of one address share."""

    def __init__(
        self, krapao: Krapao, bridge: Bridge, limits: Limits, admission: Admission, tls: ServerTls | None
    ) -> None:
        self.krapao = krapao
        self.bridge = bridge
        self.limits = limits
        self.log = rare_log("jiemi.rpc")
        self.lobby = lobby(limits.newcomers, limits.local_places)
        self.hall = hall(limits.connections, limits.local_places)
        self.admission = admission
        self.tls = tls
        self._account = Account(limits.process_bytes)
        self._hosts: dict[str, Account] = {}
        self._connections: Counter[str] = Counter()

    async def connected(self, stream: trio.SocketStream) -> None:
        """Serve a connection until it ends. trio closes the stream."""
        try:
            peer = peer_of(stream)
        except OSError:
            return  # it has gone
        if peer.uid is not None and peer.uid not in (os.geteuid(), 0):
            self.log.warning("peer_refused", kind="user", why="it is of another user", uid=peer.uid)
            self.admission.refused("user")
            return
        try:
            with self._account_of(peer.host) as account:
                await _Connection(self, peer, account).run(stream)
        except* Exception as errors:  # noqa: BLE001
            # One connection must not take the others down.
            places = [where(error) for error in errors.exceptions]
            self.log.error("connection_failed", kind=str(places), error=places)

    @contextlib.contextmanager
    def _account_of(self, host: str) -> Iterator[Account]:
        """A connection's account, as a part of its host's."""
        if host not in self._hosts:
            self._hosts[host] = Account(self.limits.host_bytes, self._account)
        self._connections[host] += 1
        account = Account(self.limits.host_bytes, self._hosts[host])
        try:
            yield account
        finally:
            account.close()
            self._connections[host] -= 1
            if not self._connections[host]:
                del self._connections[host], self._hosts[host]


class _Connection:
    """One client. The trio side of it; `jiemi.rpc.targets` has the other."""

    def __init__(self, port: _Port, peer: Peer, account: Account) -> None:
        self.krapao = port.krapao
        self.bridge = port.bridge
        self.limits = port.limits
        self.account = account
        self.answers = Budget(port.limits.bytes_in_flight, port.bridge, account)
        self._port = port
        self._peer = peer
        self._nursery: trio.Nursery
        self._gate: Gate
        self._gate_scope = trio.CancelScope()
        self._handshake_scope = trio.CancelScope()
        self._tls_peer: TlsPeer | None = None
        self._session_deadline = trio.current_time() + port.limits.handshake_seconds
        self._retiring: deque[Callable[[], None]] = deque()
        self._retirement = trio.Event()
        self._session_opened = trio.Event()
        self._opening = False
        self._is_cut_off = False
        self._shown: Shown | None = None
        self._bootstrap = Bootstrap(self)
        self._guest = Guest(peer.host, peer.is_local, trio.current_time(), partial(self._cut_off, "place"), self._owns)

    async def run(self, stream: trio.SocketStream) -> None:
        """Serve it until it ends."""
        async with trio.open_nursery() as self._nursery:
            if not self._port.lobby.admit(self._guest):
                self._port.log.warning("peer_refused", kind="lobby", why="all places for new connections are taken")
                self._port.admission.refused("place")
                return
            try:
                secured = await self._secured(stream)
                if secured is not None:
                    await self._serve(secured)
            finally:
                self._port.lobby.leave(self._guest)
                self._port.hall.leave(self._guest)

    async def _secured(self, stream: trio.SocketStream) -> trio.abc.Stream | None:
        """The stream to talk on; None where the peer is none that may."""
        notice_a_peer_that_is_gone(stream.socket)
        tls = self._port.tls
        if tls is None:
            return stream
        why = f"it made no TLS handshake within {self.limits.handshake_seconds:g} s"
        self._handshake_scope.deadline = self._session_deadline
        with self._handshake_scope:
            try:
                self._tls_peer = await tls.accept(stream)
            except TlsError as error:
                why = str(error)
        self._port.admission.warn_of_unusable_identity()
        if self._tls_peer is None:
            if not self._is_cut_off:
                self._port.log.warning("peer_refused", kind=why, peer=self._peer.host, why=why)
                self._port.admission.refused("handshake")
            return None
        return self._tls_peer.stream

    async def _serve(self, stream: trio.abc.Stream) -> None:
        ours, theirs = socket.socketpair()
        inner = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        self._gate = Gate(stream, inner, self.limits, self.account, max_answer_bytes=_MAX_ANSWER_BYTES)
        self._nursery.start_soon(self._guard)
        self._nursery.start_soon(self._watch_time)
        self._nursery.start_soon(self._retire)
        await self.bridge.answer(theirs, "Krapao", self._bootstrap, receive_bytes=codec.MAX_MESSAGE_BYTES)
        with trio.move_on_after(_RETIRE_SECONDS):
            while self._retiring:
                await self._retire_some()
        self._nursery.cancel_scope.cancel()

    async def _guard(self) -> None:
        """Be the gate. Its end is that of kj's stream, and so of the rest."""
        with self._gate_scope:
            try:
                await self._gate.run()
            except GateError as error:
                self._cut_off("message", str(error))

    def retire(self, end: Callable[[], None]) -> None:
        """End something that the client has released, soon. Thousands at once would hold up everybody."""
        self._retiring.append(end)
        self._retirement.set()

    async def _retire(self) -> None:
        while True:
            await self._retirement.wait()
            self._retirement = trio.Event()
            while self._retiring:
                await self._retire_some()

    async def _retire_some(self) -> None:
        for _ in range(min(_RETIRED_AT_ONCE, len(self._retiring))):
            self._retiring.popleft()()
        await trio.lowlevel.checkpoint()  # everybody else's turn

    async def _watch_time(self) -> None:
        """Close the connection where it opens no session in time, has one and does nothing with it, or has it by a
        secret or certificate that is no longer good."""
        with trio.CancelScope(deadline=self._session_deadline) as scope:
            await self._session_opened.wait()
        if scope.cancelled_caught:
            self._cut_off("session", f"it opened no session within {self.limits.handshake_seconds:g} s")
            return
        while True:
            await trio.sleep(self.limits.idle_seconds / _IDLE_LOOKS)
            now = trio.current_time()
            self._guest.idle_since = max(self._guest.idle_since, now if self._owns() else self._gate.last_heard)
            if now - self._guest.idle_since >= self.limits.idle_seconds:
                _log.debug("idle_session_closed", peer=self._peer.host)
                self._gate_scope.cancel()
                return
            if self._shown is not None and (why := self._port.admission.reason_to_go(self._shown)) is not None:
                self._cut_off("identity", why)
                return

    def _owns(self) -> bool:
        return self._bootstrap.owned > 0 or self._gate.unanswered > 0

    async def open_session(self, secret: str | None) -> tuple[Failure | None, bool]:
        """Why there is no session, and whether a secret was compared and is right. Once for each connection."""
        if self._opening:
            self._cut_off("session", "it opens more than one session")
            await trio.sleep_forever()  # until that has happened
        self._opening = True
        refused = self._port.admission.refusal(secret, self._tls_peer)
        if refused is not None:
            self._port.log.warning(
                "session_refused", kind=self._peer.host, peer=self._peer.host, secret_sent=secret is not None
            )
            self._port.admission.refused("identity")
            await trio.sleep(_REFUSAL_SECONDS)
            self._nursery.start_soon(self._say_farewell)
            return refused, False
        if not self._port.hall.admit(self._guest):
            self._port.admission.refused("place")
            self._nursery.start_soon(self._say_farewell)
            return Failure("KrapaoUnavailable", "Krapao has as many sessions open as it takes"), False
        self._port.lobby.leave(self._guest)
        self._shown = self._port.admission.shown(secret, self._tls_peer)
        self._session_opened.set()
        self._gate.open()
        return None, self._port.admission.compares_secrets

    async def _say_farewell(self) -> None:
        await trio.sleep(_FAREWELL_SECONDS)
        self._gate_scope.cancel()

    def cut_off(self, reason: str) -> None:
        """Close it, because of what the peer asked for."""
        self._cut_off("message", reason)

    def _cut_off(self, refusal: Refusal, reason: str) -> None:
        if not self._is_cut_off:
            self._port.log.warning("connection_closed", kind=reason, peer=self._peer.host, why=reason)
            self._port.admission.refused(refusal)
        self._is_cut_off = True
        self._handshake_scope.cancel()
        self._gate_scope.cancel()

    def start_soon(self, function: Callable[[], Awaitable[None]]) -> None:
        self._nursery.start_soon(function)
