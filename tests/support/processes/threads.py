"""The threads of a test, without those that trio keeps for the next call and ends after some idle seconds."""

from __future__ import annotations

import threading


def own_threads() -> frozenset[threading.Thread]:
    """Those that run now: to be compared before and after what must leave none."""
    return frozenset(each for each in threading.enumerate() if not each.name.startswith("Trio"))
