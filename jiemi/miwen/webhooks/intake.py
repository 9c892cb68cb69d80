"""What the active Miwen does with a delivery: is it genuine, is it new, which repository moved, who looks."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import structlog

from jiemi.core.webhooks.deliveries import Deliveries
from jiemi.core.webhooks.payload import MalformedPayload, Push, read_push
from jiemi.core.webhooks.repository import RepositoryKey, repository_key
from jiemi.core.webhooks.verification import delivery_id
from jiemi.core.webhooks.webhook import Webhook
from jiemi.miwen.webhooks.genuine import Verifier
from jiemi.miwen.webhooks.receiver import Delivery, Outcome

_log = structlog.get_logger("jiemi.miwen.webhooks")


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
        verifier: what is genuine.
        own_namespace: Jiemi's own; a webhook there is for all namespaces.
        on_moved: notified of each push; returns how many Decryptors follow what moved. It must not block.
    """

    verifier: Verifier
    own_namespace: str
    on_moved: Callable[[Moved], int]
    _deliveries: Deliveries = attrs.field(factory=Deliveries, init=False)

    def objection(self, delivery: Delivery) -> Outcome | None:
        return self.verifier.objection(delivery)

    async def take(self, delivery: Delivery, body: bytes) -> Outcome:
        webhook = self.verifier.webhook_of(delivery, body)
        if not isinstance(webhook, Webhook):
            return webhook
        now = self.verifier.now()
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
