"""The deliveries that were taken lately, so that none is taken twice.

Bounded by number and by time: of many, the oldest are forgotten first. One that is forgotten and comes again makes
Miwen ask a host that it would have asked anyhow.
"""

from __future__ import annotations

import datetime
from collections import OrderedDict

REMEMBERED = datetime.timedelta(minutes=15)
"""Longer than the window of signatures with a time, on both of its sides together."""

MAX_REMEMBERED = 20_000


class Deliveries:
    """Those that were taken lately.

    Args:
        most: how many are remembered.
    """

    def __init__(self, most: int = MAX_REMEMBERED) -> None:
        self._most = most
        self._taken: OrderedDict[tuple[str, bytes], datetime.datetime] = OrderedDict()

    def __len__(self) -> int:
        return len(self._taken)

    def forget(self, webhook: str, delivery: bytes) -> None:
        """A delivery could not be served: it counts as new if it comes again."""
        self._taken.pop((webhook, delivery), None)

    def is_new(self, webhook: str, delivery: bytes, now: datetime.datetime) -> bool:
        """Whether a genuine delivery came for the first time; from here on it has come.

        Args:
            webhook: the webhook that it came to.
            delivery: `jiemi.core.webhooks.verification.delivery_id`.
            now: the time, with a time zone.
        """
        while self._taken and now - next(iter(self._taken.values())) > REMEMBERED:
            self._taken.popitem(last=False)
        if (webhook, delivery) in self._taken:
            return False
        self._taken[webhook, delivery] = now
        if len(self._taken) > self._most:
            self._taken.popitem(last=False)
        return True
