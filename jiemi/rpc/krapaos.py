"""Several Krapaos as one: each repository is served by one of them, and by another one as soon as that is lost.

Rendezvous hashing (`jiemi.core.rendezvous`) ranks the Krapaos for each repository by their names, so every Decryptor of
a repository asks the same one, which alone has the clone. A call goes to the first in the ranking that is *preferred*:

    preferred    it is ready, and was not lost, or has been back for a while
    spare        it is not ready, or is back only since a moment ago: it is asked where no preferred one is connected
    failing      the last attempt to connect failed, or its connection broke: it is passed over until it is back

A call that was under way on a connection that broke is made once more, on the next one. Watches go where calls go: when
another Krapao takes over, or gives back, they move, and ask for the newest revision there.

One that comes back is preferred again after a second; one that is lost again and again, after up to a minute, so that
the repositories of a Krapao that fails each time it works are not taken to it and away from it all the time.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from functools import partial

import attrs
import structlog
import trio

from jiemi.core.backoff import doubled_seconds
from jiemi.core.errors import Failure, JiemiError
from jiemi.core.rendezvous import ranking
from jiemi.core.urls import parse_url
from jiemi.rpc.address import Address
from jiemi.rpc.bridge import Bridge
from jiemi.rpc.channel import ClientTls
from jiemi.rpc.client import ClientSettings, KrapaoClient, SecretSource, beside
from jiemi.rpc.client_connection import Connection
from jiemi.rpc.contract import Repository
from jiemi.rpc.remote_repository import CallTimeouts, RemoteRepository
from jiemi.rpc.source import GitCredentials, Source

_log = structlog.get_logger("jiemi.rpc")

PATIENCE_SECONDS = 0.5
"""How long a call waits for a first connection to the Krapao that it should go to, before it tries the next. Inside a
cluster a connection with TLS takes some 10 ms."""

TRUST_FIRST_SECONDS, TRUST_MOST_SECONDS = 1.0, 60.0
"""How long one that was lost must be back until it is preferred: the first time, and after many losses."""

FORGIVEN_SECONDS = 600.0
"""A loss counts no more when so much time has passed since."""

_NAMED = 3
"""How many Krapaos a message names."""

_NO_PODS = (
    "Look at the StatefulSet `repository` and its Pods (`kubectl describe`): scaled to 0 it has none, and they start "
    "once there are their volumes, one of which is the Secret `krapao-tls`. What is deployed stays."
)

_order = functools.lru_cache(maxsize=10_000)(ranking)
"""Each change has the watches of all repositories look again."""


@attrs.frozen
class Peer:
    """One of several Krapaos.

    Attributes:
        name: lasts, whatever its address is at the time: the name of its Pod.
        address: where it is now.
        ready: whether it says that it can be used; one that is about to end does not.
    """

    name: str
    address: Address
    ready: bool = True


@contextlib.asynccontextmanager
async def connect_all(
    peers: Sequence[Peer] | None,
    *,
    bridge: Bridge,
    settings: ClientSettings | None = None,
    secret: SecretSource | None = None,
    tls: ClientTls | None = None,
) -> AsyncIterator[Krapaos]:
    """Several Krapaos, for as long as the context lasts. Connects with the first calls; fails only in calls.

    Args:
        peers: the Krapaos; None: they are not known yet, and `Krapaos.set_peers` will say.
        secret, tls: as of `jiemi.rpc.client.connect`, for each of them.
    """
    krapaos = Krapaos(bridge, settings or ClientSettings(), secret, tls)
    if peers is not None:
        krapaos.set_peers(peers)
    async with beside(krapaos.run):
        yield krapaos


class Krapaos:
    """The `Krapao` of `connect_all`."""

    def __init__(
        self, bridge: Bridge, settings: ClientSettings, secret: SecretSource | None, tls: ClientTls | None
    ) -> None:
        self.calls = trio.CapacityLimiter(settings.calls)
        self.timeouts = settings.call_timeouts
        self._bridge = bridge
        self._settings = settings
        self._secret = secret
        self._tls = tls
        self._members: dict[str, _Member] = {}
        self._unknown: Failure | None = Failure("KrapaoUnavailable", "it is not known yet which Krapaos there are")
        self._watches: set[_Watch] = set()
        self._changed = trio.Event()
        self._new: list[_Member] = []
        self._members_came = trio.Event()

    @contextlib.asynccontextmanager
    async def open(self, source: Source, credentials: GitCredentials, tenant: str = "") -> AsyncIterator[Repository]:
        """A repository. See `jiemi.rpc.contract.Krapao`."""
        repository = RemoteRepository(_Route(self, key_of(source)), self._bridge, source, credentials, tenant)
        try:
            yield repository
        finally:
            repository.close()

    # --- which there are

    def set_peers(self, peers: Sequence[Peer]) -> None:
        """Say which Krapaos there are now: all of them, each with a name of its own."""
        self._unknown = None
        wanted = {peer.name: peer for peer in peers}
        first = not self._members
        for name, member in list(self._members.items()):
            peer = wanted.get(name)
            if peer is None or peer.address != member.client.address:
                # Nothing answers there any more, or soon; calls that are under way there are made once more elsewhere.
                del self._members[name]
                member.scope.cancel()
        for name, peer in wanted.items():
            known = self._members.get(name)
            if known is not None:
                if peer.ready and not known.ready:
                    known.client.hurry()
                known.ready = peer.ready
                continue
            self._members[name] = member = self._member(peer, trusted=first)
            self._new.append(member)
            if not first:
                member.client.want()  # so that no call waits for a first connection
        self._members_came.set()
        self._notice()

    def set_unknown(self, failure: Failure) -> None:
        """Say why it is not known which Krapaos there are. Those that were known stay."""
        if self._unknown is not None:
            self._unknown = failure

    def shares(self) -> Mapping[str, int | None]:
        """Each Krapao, and how many repositories are open on it now, one for each Decryptor; None: it is lost.

        One that nothing was asked of yet has 0.
        """
        return {
            name: None if member.client.failing else connection.repositories if connection is not None else 0
            for name, member in self._members.items()
            for connection in (member.client.connection,)
        }

    def _member(self, peer: Peer, *, trusted: bool) -> _Member:
        member = _Member(peer, trusted=trusted)
        member.client = KrapaoClient(
            peer.address,
            self._bridge,
            self._settings,
            self._secret,
            self._tls,
            partial(self._notice_member, member),
        )
        return member

    async def run(self) -> None:
        """Keep the connections, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                while self._new:
                    nursery.start_soon(self._keep, self._new.pop())
                self._members_came = trio.Event()
                await self._members_came.wait()  # without a deadline: until others come

    async def _keep(self, member: _Member) -> None:
        with member.scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(member.client.keep_connected)
                while True:
                    # Without a deadline: until it is lost and back.
                    await member.doubted.wait()
                    member.doubted = trio.Event()
                    with trio.move_on_after(member.trust_seconds(trio.current_time())):
                        await member.doubted.wait()
                        continue
                    if not member.client.failing:
                        member.trusted = True
                        if member.losses:
                            _log.info("krapao_is_back", krapao=member.name)
                        self._notice()

    # --- which one is asked

    def _choose(self, key: str, passed_over: Sequence[_Member] = ()) -> _Member | None:
        """The one that a repository's calls go to now, where one is left."""
        order = [self._members[name] for name in _order(key, tuple(self._members))]
        for preferred in (True, False):
            for member in order:
                client = member.client
                if member.preferred is not preferred or member in passed_over or client.failing:
                    continue
                if preferred or client.connection is not None:
                    return member
        return None

    async def connected(self, key: str) -> Connection:
        """A connection to the one that a repository's calls go to, waited for a little.

        Raises:
            JiemiError: KrapaoUnavailable; what keeps a session from being had with any of them.
        """
        patience: dict[_Member, float] = {}
        earlier = {member: member.client.attempts for member in self._members.values()}
        passed_over: list[_Member] = []
        with trio.move_on_after(self._settings.wait_for_connection_seconds):
            while True:
                changed = self._changed
                member = self._choose(key, passed_over)
                if member is None:
                    for each in self._members.values():
                        each.client.want()
                    await changed.wait()  # each attempt that ends is a change
                    passed_over.clear()
                    patience.clear()
                    if self._members and all(
                        each.client.is_refused_since(earlier.get(each, 0)) for each in self._members.values()
                    ):
                        break
                    continue
                if member.client.connection is not None:
                    return member.client.connection
                member.client.want()
                with trio.move_on_at(patience.setdefault(member, trio.current_time() + PATIENCE_SECONDS)) as pending:
                    await changed.wait()
                if pending.cancelled_caught:
                    passed_over.append(member)
        raise JiemiError.of(self._failure(key))

    async def connected_elsewhere(self, key: str) -> Connection | None:
        """A connection for a call that lost its own; None where no other Krapao is left."""
        others = any(not member.client.failing for member in self._members.values())
        return await self.connected(key) if others else None

    def has_another(self, lost: Connection) -> bool:
        """See `jiemi.rpc.remote_repository.Route`."""
        return any(member.client is not lost.server for member in self._members.values())

    def _failure(self, key: str) -> Failure:
        if self._unknown is not None:
            return self._unknown
        if not self._members:
            return Failure("KrapaoUnavailable", "there is no Krapao: none of its Pods has an address", _NO_PODS)
        failures = [self._members[name].client.failure() for name in _order(key, tuple(self._members))]
        if len(failures) == 1 or {each.reason for each in failures} == {failures[0].reason} != {"KrapaoUnavailable"}:
            return failures[0]
        texts = "; ".join(each.message for each in failures[:_NAMED])
        rest = f"; and {len(failures) - _NAMED} more" if len(failures) > _NAMED else ""
        return Failure("KrapaoUnavailable", texts + rest)

    # --- what follows from a change

    def _notice_member(self, member: _Member) -> None:
        if self._members.get(member.name) is not member:
            return  # it was taken away, and what was on it moves
        if member.client.failing and member.trusted:
            now = trio.current_time()
            member.trusted = False
            member.losses = 1 if now - member.lost_at > FORGIVEN_SECONDS else member.losses + 1
            member.lost_at = now
            _log.warning("krapao_lost", krapao=member.name, message=member.client.failure().text)
        if not member.trusted:
            member.doubted.set()
        self._notice()

    def _notice(self) -> None:
        """Have those look again who wait for a connection, and the watches that are on one."""
        self._changed.set()
        self._changed = trio.Event()
        for watch in list(self._watches):
            best = self._choose(watch.key)
            if best is None:
                continue
            if best.client.connection is None:
                best.client.want()  # the watch moves when it is connected, and misses nothing until then
            elif best.client.connection is not watch.connection:
                watch.scope.cancel()

    @contextlib.contextmanager
    def following(self, key: str, connection: Connection) -> Iterator[None]:
        """See `jiemi.rpc.remote_repository.Route`."""
        with trio.CancelScope() as scope:
            watch = _Watch(key, connection, scope)
            self._watches.add(watch)
            try:
                with connection.scope(watch=True):
                    yield
            finally:
                self._watches.discard(watch)


class _Member:
    """One of the Krapaos, and how far it is trusted.

    Attributes:
        trusted: whether it was not lost, or has been back for a while.
        losses: how often it was lost in a row, the last time at `lost_at`.
        doubted: set when the time until it is trusted begins once more.
    """

    client: KrapaoClient

    def __init__(self, peer: Peer, *, trusted: bool) -> None:
        self.name = peer.name
        self.ready = peer.ready
        self.trusted = trusted
        self.losses = 0
        self.lost_at = -math.inf
        self.doubted = trio.Event()
        self.scope = trio.CancelScope()

    @property
    def preferred(self) -> bool:
        return self.ready and self.trusted

    def trust_seconds(self, now: float) -> float:
        """How long it must be connected from now on until it is trusted."""
        if now - self.lost_at > FORGIVEN_SECONDS:
            return 0.0
        return doubled_seconds(TRUST_FIRST_SECONDS, self.losses, most_seconds=TRUST_MOST_SECONDS)


@attrs.frozen(eq=False)
class _Watch:
    """A watch of a repository, on the connection that it is on."""

    key: str
    connection: Connection
    scope: trio.CancelScope


@attrs.frozen
class _Route:
    """The way of one repository: a `jiemi.rpc.remote_repository.Route`."""

    krapaos: Krapaos
    key: str

    @property
    def calls(self) -> trio.CapacityLimiter:
        return self.krapaos.calls

    @property
    def timeouts(self) -> CallTimeouts:
        return self.krapaos.timeouts

    async def connected(self) -> Connection:
        return await self.krapaos.connected(self.key)

    async def connected_elsewhere(self, lost: Connection) -> Connection | None:
        return await self.krapaos.connected_elsewhere(self.key)

    def has_another(self, lost: Connection) -> bool:
        return self.krapaos.has_another(lost)

    def following(self, connection: Connection) -> contextlib.AbstractContextManager[None]:
        return self.krapaos.following(self.key, connection)


def key_of(source: Source) -> str:
    """What is equal for all Decryptors of a repository, however they spell its URL."""
    try:
        return "\0".join(part or "" for part in parse_url(source.url, allow_file=True).repository)
    except JiemiError:
        return source.url  # whichever Krapao gets it says what is wrong with it
