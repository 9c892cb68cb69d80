"""On whose behalf the API server is asked, so that those who ask share Miwen's requests fairly.

A request does not say by itself whom it is for: its path may be in any namespace, or in none. So each task says it
once, and the tasks that it starts ask on the same behalf, as trio hands down context variables:

    with on_behalf_of("team-a"):
        await kubernetes.patch_status(...)

What all share (lists and watches of a kind, Events) is asked on nobody's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

NOBODY = ""

_namespace: ContextVar[str] = ContextVar("on_behalf_of", default=NOBODY)


@contextmanager
def on_behalf_of(namespace: str) -> Iterator[None]:
    """While the context lasts, requests of this task are for a namespace's Decryptors.

    Args:
        namespace: theirs; `NOBODY` for what all share.
    """
    token = _namespace.set(namespace)
    try:
        yield
    finally:
        _namespace.reset(token)


def who_asks() -> str:
    """The namespace whose Decryptors this task's requests are for, or `NOBODY`."""
    return _namespace.get()
