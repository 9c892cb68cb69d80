"""One hostile file: what it tries, what it holds, whose keys it meets, and what it gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from hostile.lab import Keys, Lab

from jiemi.core.content.formats import Format
from jiemi.core.reasons import REASONS

OPENS = "opens"
Documents = list[Any]


def tenants_age(lab: Lab) -> Keys:
    return (lab.age,)


def tenants_pgp(lab: Lab) -> Keys:
    return (lab.pgp,)


def nothing_more(lab: Lab, documents: Documents) -> None:
    """The tenant's Secret, and nothing beside it."""
    assert documents == [lab.tree]


@attrs.frozen(kw_only=True)
class Case:
    """A row.

    Attributes:
        name: unique, as pytest shows it.
        tries: what it tries, as docs/hostile-repository.md shows it.
        file: the bytes.
        keys: the Decryptor's.
        gets: the reason with which it is refused, or OPENS.
        so: in what form it opens, as the document shows it.
        says: what the message must say.
        opened: looks at the documents that it opens to.
        settings: what differs in Krapao's settings, for this laboratory.
    """

    name: str
    tries: str
    file: Callable[[Lab], bytes]
    keys: Callable[[Lab], Keys] = tenants_age
    format: Format = Format.YAML
    gets: str = attrs.field()
    so: str = ""
    says: str = ""
    opened: Callable[[Lab, Documents], None] = nothing_more
    settings: Callable[[Lab], Mapping[str, Any]] = lambda _: {}

    @gets.validator
    def _known(self, _: object, value: str) -> None:
        assert value == OPENS or value in REASONS

    @property
    def outcome(self) -> str:
        """For the document."""
        return f"`{self.gets}`" if self.gets != OPENS else f"opens: {self.so or 'as if nothing were'}"


@attrs.frozen(kw_only=True)
class Refusal:
    """A row that is refused whatever it holds.

    Attributes:
        name: unique, as pytest shows it.
        tries: what it tries, as docs/hostile-repository.md shows it.
        gets: the reason with which it is refused.
        says: what the message must say.
    """

    name: str
    tries: str
    gets: str = attrs.field()
    says: str = ""

    @gets.validator
    def _known(self, _: object, value: str) -> None:
        assert value in REASONS

    @property
    def outcome(self) -> str:
        """For the document."""
        return f"`{self.gets}`"
