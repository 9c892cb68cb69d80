"""Which webhook a delivery is of, and whether it is genuine; the same in the active Miwen and in one that waits."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping

import attrs

from jiemi.core.names import NamespacedName
from jiemi.core.webhooks.verification import Verdict, is_signed, verify
from jiemi.core.webhooks.webhook import Webhook
from jiemi.miwen.webhooks.receiver import Delivery, Outcome

_REFUSED = {Verdict.UNSIGNED: Outcome.UNSIGNED, Verdict.FORGED: Outcome.FORGED, Verdict.STALE: Outcome.STALE}


@attrs.frozen
class Verifier:
    """Verifies deliveries.

    Attributes:
        webhooks: those that there are.
        now: the wall clock.
    """

    webhooks: Mapping[NamespacedName, Webhook]
    now: Callable[[], datetime.datetime]

    def objection(self, delivery: Delivery) -> Outcome | None:
        """As of `jiemi.miwen.webhooks.receiver.Taker`."""
        webhook = self.webhooks.get(delivery.webhook)
        if webhook is None:
            return Outcome.UNKNOWN
        return None if is_signed(webhook.host, delivery.headers) else Outcome.UNSIGNED

    def webhook_of(self, delivery: Delivery, body: bytes) -> Webhook | Outcome:
        """The webhook of a genuine delivery; else why it is refused."""
        webhook = self.webhooks.get(delivery.webhook)
        if webhook is None:
            return Outcome.UNKNOWN
        verdict = verify(webhook.host, delivery.headers, body, webhook.secrets, self.now())
        return webhook if verdict is Verdict.GENUINE else _REFUSED[verdict]
