"""Which webhook a delivery is of, and whether it is genuine; the same in the active Miwen and in one that waits.

Most hosts sign by a secret that the webhook's Secret holds. Those that sign by a key of their own are checked in two
steps: all that can be known without the key comes first (`jiemi.core.webhooks.sns`, `jiemi.core.webhooks.oidc`), so
that only what may be genuine makes Miwen look a key up (`signing_keys`).
"""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable, Mapping

import attrs
import structlog

from jiemi.core.names import NamespacedName
from jiemi.core.webhooks.hosts import Scheme
from jiemi.core.webhooks.oidc import fitting_keys, read_token
from jiemi.core.webhooks.sns import is_of_topic, read_message
from jiemi.core.webhooks.verdict import Verdict
from jiemi.core.webhooks.verification import is_signed, verify
from jiemi.core.webhooks.webhook import Webhook
from jiemi.miwen.webhooks.receiver import Delivery, Outcome, delivery_traced, received
from jiemi.miwen.webhooks.signatures import is_signed_by_certificate, is_signed_by_key
from jiemi.miwen.webhooks.signing_keys import KeyUnavailable, SigningKeys
from jiemi.tracing.spans import Tracer

_REFUSED = {
    Verdict.UNSIGNED: Outcome.UNSIGNED,
    Verdict.FORGED: Outcome.FORGED,
    Verdict.STALE: Outcome.STALE,
    Verdict.UNDECIDED: Outcome.NO_KEY,
}

_log = structlog.get_logger("jiemi.miwen.webhooks")


async def _no_lookup(url: str, *, max_bytes: int) -> bytes:
    raise KeyUnavailable("no keys are looked up here")


@attrs.frozen
class Verifier:
    """Verifies deliveries.

    Attributes:
        webhooks: those that there are.
        now: the wall clock.
        keys: where the keys of hosts are that sign by one of their own.
    """

    webhooks: Mapping[NamespacedName, Webhook]
    now: Callable[[], datetime.datetime]
    keys: SigningKeys = attrs.field(factory=lambda: SigningKeys(_no_lookup))

    def objection(self, delivery: Delivery) -> Outcome | None:
        """As of `jiemi.miwen.webhooks.receiver.Taker`."""
        webhook = self.webhooks.get(delivery.webhook)
        if webhook is None:
            return Outcome.UNKNOWN
        if not is_signed(webhook.host, delivery.headers):
            return Outcome.UNSIGNED
        if webhook.host.scheme is Scheme.SNS and not is_of_topic(delivery.headers, _topics(webhook)):
            return Outcome.FORGED
        if webhook.trust is not None:
            token = read_token(delivery.headers, webhook.trust, self.now())
            return _REFUSED[token] if isinstance(token, Verdict) else None
        return None

    async def webhook_of(self, delivery: Delivery, body: bytes) -> Webhook | Outcome:
        """The webhook of a genuine delivery; else why it is refused."""
        webhook = self.webhooks.get(delivery.webhook)
        if webhook is None:
            return Outcome.UNKNOWN
        try:
            verdict = await self._verdict(webhook, delivery, body)
        except KeyUnavailable as error:
            _log.warning("webhook_undecided", namespace=webhook.key[0], secret=webhook.key[1], error=str(error))
            verdict = Verdict.UNDECIDED
        return webhook if verdict is Verdict.GENUINE else _REFUSED[verdict]

    async def take(
        self,
        delivery: Delivery,
        body: bytes,
        tracer: Tracer | None,
        taken: Callable[[Webhook], Awaitable[Outcome]],
    ) -> Outcome:
        """What becomes of a delivery, which is logged: a genuine one is a trace, and is taken.

        Args:
            tracer: where its span goes; None where no traces are collected.
            taken: called for a genuine one, in its trace; gives what becomes of it.
        """
        webhook = await self.webhook_of(delivery, body)
        if not isinstance(webhook, Webhook):
            return received(delivery, webhook)
        with delivery_traced(tracer, delivery) as traced:
            outcome = await taken(webhook)
            traced.set(outcome=outcome.value)
            return received(delivery, outcome)

    async def _verdict(self, webhook: Webhook, delivery: Delivery, body: bytes) -> Verdict:
        if webhook.host.scheme is Scheme.SNS:
            return await self._by_sns(webhook, delivery, body)
        if webhook.host.scheme is Scheme.OIDC:
            return await self._by_token(webhook, delivery)
        return verify(webhook.host, delivery.headers, body, webhook.secrets, self.now())

    async def _by_sns(self, webhook: Webhook, delivery: Delivery, body: bytes) -> Verdict:
        now = self.now()
        message = read_message(body, _topics(webhook), now)
        if isinstance(message, Verdict):
            return message
        certificate = await self.keys.certificate(message.certificate_url, webhook.key[0])
        return Verdict.GENUINE if is_signed_by_certificate(message, certificate, now) else Verdict.FORGED

    async def _by_token(self, webhook: Webhook, delivery: Delivery) -> Verdict:
        if webhook.trust is None:
            return Verdict.FORGED
        token = read_token(delivery.headers, webhook.trust, self.now())
        if isinstance(token, Verdict):
            return token
        keys = await self.keys.key_set(
            webhook.trust.issuer, lambda found: bool(fitting_keys(found, token)), webhook.key[0]
        )
        return (
            Verdict.GENUINE
            if any(is_signed_by_key(token, each) for each in fitting_keys(keys, token))
            else Verdict.FORGED
        )


def _topics(webhook: Webhook) -> frozenset[str]:
    return frozenset(each.reveal() for each in webhook.secrets)
