"""What the active Miwen does with a delivery: is it genuine, is it new, which repository moved, who looks."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping

import attrs
import structlog

from jiemi.core.names import NamespacedName
from jiemi.core.webhooks.deliveries import Deliveries
from jiemi.core.webhooks.payload import MalformedPayload, Push, read_push
from jiemi.core.webhooks.repository import RepositoryKey, repository_key
from jiemi.core.webhooks.verification import Verdict, delivery_id, is_signed, verify
from jiemi.core.webhooks.webhook import Webhook
from jiemi.miwen.webhooks.receiver import Delivery, Outcome

_log = structlog.get_logger("jiemi.miwen.webhooks")

_REFUSED = {Verdict.UNSIGNED: Outcome.UNSIGNED, Verdict.FORGED: Outcome.FORGED, Verdict.STALE: Outcome.STALE}


@attrs.frozen
class Moved:
    """Repositories moved, as a genuine webhook says.

    Attributes:
        repositories: which.
        namespace: the one whose Decryptors look; None: those of all namespaces.
        refs: full names of the refs that moved; empty: any may have.
    """

    repositories: frozenset[RepositoryKey]
    namespace: str | None
    refs: frozenset[str] = frozenset()


@attrs.define
class Intake:
    """A `jiemi.miwen.webhooks.receiver.Taker`.

    Attributes:
        webhooks: those that there are.
        own_namespace: Jiemi's own; a webhook there is for all namespaces.
        on_moved: notified of each push; returns how many Decryptors follow what moved. It must not block.
        now: the wall clock.
    """

    webhooks: Mapping[NamespacedName, Webhook]
    own_namespace: str
    on_moved: Callable[[Moved], int]
    now: Callable[[], datetime.datetime]
    _deliveries: Deliveries = attrs.field(factory=Deliveries, init=False)

    def objection(self, delivery: Delivery) -> Outcome | None:
        webhook = self.webhooks.get(delivery.webhook)
        if webhook is None:
            return Outcome.UNKNOWN
        return None if is_signed(webhook.host, delivery.headers) else Outcome.UNSIGNED

    async def take(self, delivery: Delivery, body: bytes) -> Outcome:
        webhook = self.webhooks.get(delivery.webhook)
        if webhook is None:
            return Outcome.UNKNOWN
        now = self.now()
        verdict = verify(webhook.host, delivery.headers, body, webhook.secrets, now)
        if verdict is not Verdict.GENUINE:
            return _REFUSED[verdict]
        if not self._deliveries.is_new("/".join(webhook.key), delivery_id(webhook.host, delivery.headers, body), now):
            return Outcome.DUPLICATE
        try:
            push = read_push(webhook.host, delivery.headers, body)
        except MalformedPayload as error:
            _log.warning("webhook_malformed", namespace=webhook.key[0], secret=webhook.key[1], message=str(error))
            return Outcome.MALFORMED
        return Outcome.OTHER_EVENT if push is None else self._moved(webhook, push)

    def _moved(self, webhook: Webhook, push: Push) -> Outcome:
        named = frozenset(key for url in push.urls if (key := repository_key(url)) is not None)
        namespace = None if webhook.key[0] == self.own_namespace else webhook.key[0]
        moved = Moved(webhook.repositories or named, namespace, push.refs)
        followers = self.on_moved(moved)
        _log.debug("webhook_push", repositories=len(moved.repositories), refs=len(moved.refs), decryptors=followers)
        return Outcome.PUSH if followers else Outcome.NO_FOLLOWER
