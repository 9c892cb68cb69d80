"""The headers of a request."""

from __future__ import annotations

from collections.abc import Sequence

import attrs


@attrs.frozen
class Headers:
    """The headers of a request, by their names in lower case, in the order in which they came."""

    fields: Sequence[tuple[bytes, bytes]]

    def one(self, name: str) -> bytes | None:
        """The value of a header that is there once; None where it is not there, or there more than once."""
        found = [value for key, value in self.fields if key == name.encode()]
        return found[0].strip() if len(found) == 1 else None

    def has(self, name: str) -> bool:
        return any(key == name.encode() for key, _ in self.fields)
