"""What a row of the table of reasons is made of. See `jiemi.core.reasons`."""

from __future__ import annotations

import enum
import functools

import attrs


class Kind(enum.Enum):
    """What happens next. The words are those of fluxcd's error package."""

    STALLED = "stalled"
    """The user must act: only a change of the spec, a Secret or the repository helps."""
    WAITING = "waiting"
    """Something that this depends on is not there yet. Miwen checks again soon."""
    TRANSIENT = "transient"
    """It may work when tried again."""


@attrs.frozen
class ReasonInfo:
    """One row of the table of reasons."""

    kind: Kind
    meaning: str
    remedy: str


stalled = functools.partial(ReasonInfo, Kind.STALLED)
waiting = functools.partial(ReasonInfo, Kind.WAITING)
transient = functools.partial(ReasonInfo, Kind.TRANSIENT)
