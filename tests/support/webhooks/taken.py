"""Webhooks of a Miwen in this process, and deliveries to it without a socket."""

from __future__ import annotations

import datetime

from jiemi.core.names import NamespacedName
from jiemi.core.sensitive import SensitiveText
from jiemi.core.webhooks.repository import repository_key
from jiemi.core.webhooks.webhook import Webhook
from jiemi.miwen.service import Webhooks
from jiemi.miwen.webhooks.genuine import Verifier
from jiemi.miwen.webhooks.receiver import Delivery, Outcome, Receiver
from support.miwen.world import START, URL
from support.webhooks.requests import SECRET, Request, request

HTTPS, SSH = URL, "git@git.example:app.git"


def webhooks(*keys: NamespacedName, repositories: str = "") -> Webhooks:
    """Those of these Secrets, each of GitHub's kind."""
    named = frozenset(key for url in repositories.split() if (key := repository_key(url)) is not None)
    found = {key: Webhook(key, "github", (SensitiveText(SECRET),), named) for key in keys}

    def now() -> datetime.datetime:
        return START

    return Webhooks(Receiver(lambda outcome: None), Verifier(found, now))


async def deliver(
    to: Webhooks, sent: Request | None = None, key: NamespacedName = ("default", "hook"), ref: str = "refs/heads/main"
) -> Outcome:
    """What becomes of a request; of a push to that ref, where none is given."""
    sent = sent or request("github", ref, (HTTPS, SSH))
    taker = to.receiver.taker
    assert taker is not None
    delivery = Delivery(key, b"/", sent.headers)
    return taker.objection(delivery) or await taker.take(delivery, sent.body)
