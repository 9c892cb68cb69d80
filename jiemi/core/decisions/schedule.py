"""When a Decryptor is looked at again.

Pure: the random number is a parameter, and so the tests assert exact times.
"""

from __future__ import annotations

from jiemi.core.backoff import doubled_seconds
from jiemi.core.reasons import Kind

DEFAULT_INTERVAL_SECONDS = 180.0
"""How often a Decryptor asks for the newest revision: the first version's 3 minutes."""

JITTER = 0.1
"""An interval is made up to so much shorter or longer, so that Decryptors made at once do not stay in step."""

_FIRST_RETRY_SECONDS = {Kind.TRANSIENT: 2.0, Kind.WAITING: 3.0}
"""The first retry by kind; it doubles from there up to the interval. A stalled one only waits for its interval:
nothing but a change by the user helps, and most changes wake the loop by themselves."""


def next_delay_seconds(
    interval_seconds: float,
    *,
    failed: Kind | None,
    failures_in_a_row: int,
    random: float,
    retry_seconds: float | None = None,
) -> float:
    """How long to wait after a tick.

    Args:
        interval_seconds: the Decryptor's interval.
        failed: the kind of the tick's failure, or None.
        failures_in_a_row: how many ticks failed, this one included.
        random: a number in [0, 1).
        retry_seconds: the Decryptor's retry interval, where it has one: failures that may pass by themselves are then
            tried again that often, without growing pauses.
    """
    delay = interval_seconds
    if failed in _FIRST_RETRY_SECONDS and retry_seconds is not None:
        delay = retry_seconds
    elif failed in _FIRST_RETRY_SECONDS:
        delay = doubled_seconds(_FIRST_RETRY_SECONDS[failed], failures_in_a_row, most_seconds=interval_seconds)
    return delay * (1 - JITTER + 2 * JITTER * random)


def head_max_age_seconds(interval_seconds: float) -> float:
    """How old Krapao's answer to "which is the newest revision" may be.

    Half an interval: many Decryptors of one repository then cause two questions to its host in an interval, not one
    each, and none of them learns of a commit later than one and a half intervals after the push.
    """
    return interval_seconds / 2


def watch_retry_seconds(failures_in_a_row: int, *, random: float) -> float:
    """How long to wait before the watch of Decryptors is opened again: 1 s, doubling up to 30 s, with jitter."""
    delay = doubled_seconds(1.0, failures_in_a_row, most_seconds=30.0)
    return delay * (1 - JITTER + 2 * JITTER * random)
