"""What the active Miwen does with a delivery: is it genuine, is it new, which repository moved, who looks."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import attrs
import structlog

from jiemi.core.webhooks.deliveries import Deliveries
from jiemi.core.webhooks.hosts import Scheme
from jiemi.core.webhooks.payload import MalformedPayload, Push, read_push
from jiemi.core.webhooks.repository import RepositoryKey, repository_key
from jiemi.core.webhooks.sns import read_message
from jiemi.core.webhooks.verdict import Verdict
from jiemi.core.webhooks.verification import delivery_id
from jiemi.core.webhooks.webhook import Webhook
from jiemi.miwen.webhooks.genuine import Verifier
from jiemi.miwen.webhooks.receiver import Delivery, Outcome
from jiemi.miwen.webhooks.signing_keys import KeyUnavailable
from jiemi.tracing.spans import Tracer

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
        on_moved: notified of each push, in its trace; returns how many Decryptors follow what moved. It must not block.
        tracer: where the spans of deliveries go; None where no traces are collected.
    """

    verifier: Verifier
    own_namespace: str
    on_moved: Callable[[Moved], int]
    tracer: Tracer | None = None
    _deliveries: Deliveries = attrs.field(factory=Deliveries, init=False)

    def objection(self, delivery: Delivery) -> Outcome | None:
        return self.verifier.objection(delivery)

    async def take(self, delivery: Delivery, body: bytes) -> Outcome:
        return await self.verifier.take(
            delivery, body, self.tracer, lambda webhook: self._take(webhook, delivery, body)
        )

    async def _take(self, webhook: Webhook, delivery: Delivery, body: bytes) -> Outcome:
        """What becomes of a delivery that is genuine."""
        now, name = self.verifier.now(), "/".join(webhook.key)
        this = delivery_id(webhook.host, delivery.headers, body)
        if not self._deliveries.is_new(name, this, now):
            return Outcome.DUPLICATE
        confirmed = await self._confirmed(webhook, body, now)
        if confirmed is Outcome.NO_KEY:
            self._deliveries.forget(name, this)  # it comes again
        if confirmed is not None:
            return confirmed
        try:
            push = read_push(webhook.host, delivery.headers, body)
        except MalformedPayload as error:
            _log.warning("webhook_malformed", namespace=webhook.key[0], secret=webhook.key[1], message=str(error))
            return Outcome.MALFORMED
        return Outcome.OTHER_EVENT if push is None else self._moved(webhook, push)

    async def _confirmed(self, webhook: Webhook, body: bytes, now: datetime.datetime) -> Outcome | None:
        """What became of the confirmation of a subscription to a topic that the webhook names; None: it is none."""
        if webhook.host.scheme is not Scheme.SNS:
            return None
        message = read_message(body, {each.reveal() for each in webhook.secrets}, now)
        if isinstance(message, Verdict) or not message.subscribe_url:
            return None
        log = _log.bind(namespace=webhook.key[0], secret=webhook.key[1])
        try:
            await self.verifier.keys.confirm(message.subscribe_url, webhook.key[0])
        except KeyUnavailable as error:
            log.warning("webhook_subscription_not_confirmed", error=str(error))
            return Outcome.NO_KEY
        log.info("webhook_subscription_confirmed")
        return Outcome.CONFIRMED

    def _moved(self, webhook: Webhook, push: Push) -> Outcome:
        named = frozenset(key for url in push.urls if (key := repository_key(url)) is not None)
        namespace = None if webhook.key[0] == self.own_namespace else webhook.key[0]
        moved = Moved(webhook.repositories or named, namespace, push.refs)
        followers = self.on_moved(moved)
        _log.debug("webhook_push", repositories=len(moved.repositories), refs=len(moved.refs), decryptors=followers)
        return Outcome.PUSH if followers else Outcome.NO_FOLLOWER
