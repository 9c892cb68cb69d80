"""How long the phases of a tick took, as the tick notes it for the metrics; each is a span, too."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator

import attrs
import trio

from jiemi.tracing.current import span


class Phase(enum.Enum):
    """What a tick spends its time with. The values are labels of a metric."""

    HEAD = "head"
    """Asking which revision there is."""
    VERIFY = "verify"
    """Asking who signed the revision. Only ticks with `verify` ask."""
    FILES = "files"
    """Asking which files a revision has. Not every tick asks."""
    QUEUE = "queue"
    """Waiting for a slot to decrypt and apply in."""
    DECRYPT = "decrypt"
    """Reading keys and having files decrypted."""
    APPLY = "apply"
    """Applying objects."""


@attrs.frozen
class PhaseTimes:
    """The phases of one tick that have ended, each with its seconds."""

    seconds: list[tuple[Phase, float]] = attrs.field(factory=list)

    @contextlib.contextmanager
    def measured(self, phase: Phase) -> Iterator[None]:
        """Note how long the context lasts, however it ends."""
        began = trio.current_time()
        try:
            with span(phase.value):
                yield
        finally:
            self.seconds.append((phase, trio.current_time() - began))
