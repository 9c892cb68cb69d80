"""Values that must not be shown: credentials, keys, decrypted text.

A `SensitiveText` or `SensitiveBytes` prints as a placeholder wherever Python prints values by itself (repr, str,
f-string, log, traceback with locals), compares in constant time, and gives its value to `reveal()` only. So every
place where a secret leaves can be found by searching for that one word.
"""

from __future__ import annotations

import hmac
from typing import NoReturn, final
from weakref import WeakValueDictionary

PLACEHOLDER = "<sensitive>"


class _Sensitive:
    __slots__ = ()

    def __repr__(self) -> str:
        return PLACEHOLDER

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(PLACEHOLDER, spec)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a sensitive value is not pickled")


@final
class SensitiveText(_Sensitive):
    """Text that must not be shown, for example a token or a private key."""

    __slots__ = ("__weakref__", "_value")

    def __init__(self, value: str) -> None:
        self._value = value

    @classmethod
    def shared(cls, value: str) -> SensitiveText:
        """An equal one that is already in memory, or a new one, so that equal values are in memory once."""
        found = _SHARED.get(value)
        if found is None:
            # The entry goes with its value. Two threads at the same time may make two, which does no harm.
            found = _SHARED[value] = cls(value)
        return found

    def reveal(self) -> str:
        """The value itself. Hand it straight to what needs it."""
        return self._value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SensitiveText):
            return NotImplemented
        if other is self:
            return True
        return hmac.compare_digest(_utf8(self._value), _utf8(other._value))

    def __hash__(self) -> int:
        return hash((SensitiveText, self._value))


_SHARED: WeakValueDictionary[str, SensitiveText] = WeakValueDictionary()


@final
class SensitiveBytes(_Sensitive):
    """Bytes that must not be shown, for example a decrypted document."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The value itself. Hand it straight to what needs it."""
        return self._value

    def __len__(self) -> int:
        return len(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SensitiveBytes):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash((SensitiveBytes, self._value))


def _utf8(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")
