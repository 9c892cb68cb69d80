"""The public keys by which hosts sign that have no shared secret: certificates of SNS, key sets of OpenID issuers.

They are looked up when a request needs one, and kept. Who sends requests must not make Miwen ask others: a request
comes here only after all else of it was checked, one lookup serves all that wait for it, a failure counts for a while,
a key that is not in a set makes it be read again once in some minutes at most, and there is a pace for the lookups of
each namespace's webhooks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable

import attrs
import structlog
import trio

from jiemi.core.webhooks.oidc import MAX_DOCUMENT_BYTES, discovery_url, keys_url
from jiemi.miwen.webhooks.guarded_get import GetError
from jiemi.miwen.webhooks.limits import Pace

FRESH_SECONDS = 3_600.0
"""How long a set of keys, or a certificate, is used without a look."""
STALE_SECONDS = 24 * 3_600.0
"""How long it is used while it can't be had again."""
AGAIN_SECONDS = 300.0
"""How soon a set is read again that lacks a key."""
FAILED_SECONDS = 30.0
"""How long a failure counts."""
LOOKUPS_A_SECOND, LOOKUPS_BURST = 0.2, 10.0

MAX_KEPT = 256
_MAX_CERTIFICATE_BYTES = 16 * 1024
_TOO_MANY = "the webhooks of the namespace make too many lookups"

_log = structlog.get_logger("jiemi.miwen.webhooks")

Get = Callable[..., Awaitable[bytes]]
"""As `jiemi.miwen.webhooks.guarded_get.GuardedGet.get`."""


class KeyUnavailable(Exception):
    """A key can't be had at present. The text says why."""


@attrs.define(eq=False)
class _Kept:
    """What was found at one place.

    Attributes:
        at: when it was asked for last with success; None where it never was.
        failed_at: when it was asked for in vain, since the last success.
    """

    body: bytes = b""
    at: float | None = None
    failed_at: float | None = None
    why: str = ""
    lock: trio.Lock = attrs.field(factory=trio.Lock)


class SigningKeys:
    """Looks keys up and keeps them.

    Args:
        get: makes one guarded request.
    """

    def __init__(self, get: Get) -> None:
        self._get = get
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._paces: OrderedDict[str, Pace] = OrderedDict()

    async def certificate(self, url: str, namespace: str) -> bytes:
        """The certificate (PEM) at a URL that was checked.

        Args:
            namespace: of the webhook that it is for.

        Raises:
            KeyUnavailable: it can't be had.
        """

        async def look_up() -> bytes:
            return await self._get(url, max_bytes=_MAX_CERTIFICATE_BYTES)

        return await self._find(url, look_up, lambda _: True, namespace)

    async def key_set(self, issuer: str, has_key: Callable[[bytes], bool], namespace: str) -> bytes:
        """The keys of an issuer that a webhook names.

        Args:
            has_key: whether a set has the key that is wanted.
            namespace: of the webhook that it is for.

        Raises:
            KeyUnavailable: they can't be had.
        """

        async def look_up() -> bytes:
            document = await self._get(discovery_url(issuer), max_bytes=MAX_DOCUMENT_BYTES)
            url = keys_url(document, issuer)
            if url is None:
                raise GetError("its description names another issuer, or no keys")
            return await self._get(url, max_bytes=MAX_DOCUMENT_BYTES)

        return await self._find(issuer, look_up, has_key, namespace)

    async def confirm(self, url: str, namespace: str) -> None:
        """Confirm a subscription at a URL that was checked.

        Raises:
            KeyUnavailable: it failed.
        """
        if not self._may_look_up(namespace):
            raise KeyUnavailable(_TOO_MANY)
        try:
            await self._get(url, max_bytes=MAX_DOCUMENT_BYTES)
        except GetError as error:
            raise KeyUnavailable(str(error)) from error

    def _may_look_up(self, namespace: str) -> bool:
        """Whether the webhooks of a namespace may make one more lookup now; it counts."""
        now = trio.current_time()
        pace = self._paces.setdefault(namespace, Pace(LOOKUPS_A_SECOND, LOOKUPS_BURST))
        self._paces.move_to_end(namespace)
        while len(self._paces) > MAX_KEPT:
            self._paces.popitem(last=False)
        if pace.wait_seconds(now) > 0:
            return False
        pace.take(now)
        return True

    async def _find(
        self,
        place: str,
        look_up: Callable[[], Awaitable[bytes]],
        is_enough: Callable[[bytes], bool],
        namespace: str,
    ) -> bytes:
        kept = self._kept.get(place)
        if kept is None:
            kept = self._kept[place] = _Kept()
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(place)
        async with kept.lock:  # bounded: a lookup has a deadline, and the request that waits has one too
            now = trio.current_time()
            if kept.at is not None and now - kept.at < (FRESH_SECONDS if is_enough(kept.body) else AGAIN_SECONDS):
                return kept.body
            if kept.failed_at is None or now - kept.failed_at >= FAILED_SECONDS:
                if self._may_look_up(namespace):
                    await self._look_up(place, kept, look_up)
                else:
                    kept.why = _TOO_MANY  # not noted as a failure of this place: the next one may look
            if kept.at is not None and now - kept.at < STALE_SECONDS:
                return kept.body
            raise KeyUnavailable(kept.why)

    async def _look_up(self, place: str, kept: _Kept, look_up: Callable[[], Awaitable[bytes]]) -> None:
        try:
            kept.body = await look_up()
        except GetError as error:
            kept.failed_at, kept.why = trio.current_time(), str(error)
            _log.warning("webhook_key_not_found", place=place, error=str(error))
        else:
            kept.at, kept.failed_at = trio.current_time(), None
            _log.info("webhook_key_found", place=place)
