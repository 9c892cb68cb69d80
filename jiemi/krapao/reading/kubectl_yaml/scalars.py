"""What one scalar means to kubectl: the rules of go.yaml.in/yaml/v2 v2.4.4 (resolve.go) and of Go's strconv.

YAML 1.1's table for booleans, `y` and `n` included; its numbers, except those of base 60; no timestamps, which stay
text. What JSON has no number for is a number all the same here, and refused where it is written.
"""

from __future__ import annotations

import base64
import datetime
import math
import re
import struct
from decimal import Decimal
from typing import Any

TAG = "tag:yaml.org,2002:"
STR, BOOL, INT, FLOAT, NULL, MERGE, BINARY, TIMESTAMP = (
    TAG + name for name in ("str", "bool", "int", "float", "null", "merge", "binary", "timestamp")
)
_RESOLVED = frozenset({"", STR, BOOL, INT, FLOAT, NULL, TIMESTAMP})

_WORDS: dict[str, Any] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
}
_MAY_BE_MORE = frozenset("yYnNtTfFoO~+-.0123456789")
"""What a scalar begins with that may be something else than text."""

_DOT_FLOAT = re.compile(r"\.[0-9](?:_?[0-9])*+(?:[eE][-+]?[0-9](?:_?[0-9])*+)?")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]++|[0-9]++(?:\.[0-9]*+)?)(?:[eE][-+]?[0-9]++)?")
_INT = re.compile(
    r"(?P<sign>[-+]?)(?:0[xX](?P<x>[0-9a-fA-F]++)|0[bB](?P<b>[01]++)|0[oO](?P<o>[0-7]++)"
    r"|0(?P<z>[0-7]++)|(?P<d>0|[1-9][0-9]*+))"
)
_BASES = (("d", 10), ("x", 16), ("z", 8), ("o", 8), ("b", 2))
_SIGNED_BINARY = re.compile(r"0b([-+][01]++)")
_TIMESTAMP = re.compile(
    r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})"
    r"(?:(?:[Tt](?P<h>[0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?:[.,][0-9]+)?(?:Z|[-+][0-9]{2}:[0-9]{2}))"
    r"|(?: +([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?:[.,][0-9]+)?))?"
)
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_SIGNED, _UNSIGNED = range(-(2**63), 2**63), range(2**64)
_MOST_DIGITS = 800
"""No integer and no double of more digits is read: Python's own reading is quadratic. Go rounds, and so do we."""


BINARY_NO_TEXT = "base64 (!!binary) of what is no UTF-8 text: give it as a text, under `data` of a Secret, say"


class Unfit(ValueError):
    """A value does not fit its tag. Its text says so, and holds nothing of the value."""

    def __init__(self, what: str = "a value that does not fit its tag") -> None:
        super().__init__(what)


def resolve(text: str, tag: str, plain: bool) -> Any:
    """The value of a scalar: None, a bool, int, float or str.

    Args:
        tag: "" for none.
        plain: whether it stood there without quotes, or with the tag `!`.

    Raises:
        Unfit: its tag asks for another type, or it is no text (`!!binary`).
    """
    if not tag:
        return _resolve_plain(text) if plain and (not text or text[0] in _MAY_BE_MORE) else text
    if tag == BINARY:
        return _from_base64(text)
    if tag == STR or tag not in _RESOLVED:
        return text
    if tag == TIMESTAMP:
        if _is_timestamp(text):
            return text
        raise Unfit
    value = _resolve_plain(text)
    if tag == FLOAT and type(value) is int and value in _SIGNED:
        value = float(value)
    if type(value) is not {BOOL: bool, INT: int, FLOAT: float, NULL: type(None)}[tag]:
        raise Unfit
    return value


def number_for_json(value: float) -> int | float:
    """A finite double in the form that Go's encoding/json writes: without a fraction where it has none, below 1e21."""
    if value.is_integer() and abs(value) < 1e21:
        return int(Decimal(repr(value)))
    return value


def key_text(value: Any) -> str | None:
    """What a key that is no text becomes in JSON (sigs.k8s.io/yaml, convertToJSONableObject); None where it can't."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if value in _SIGNED else None
    if isinstance(value, float):
        return _short_float(value)
    return value if isinstance(value, str) else None


def _resolve_plain(text: str) -> Any:  # noqa: PLR0911 - a table, except the numbers
    if text in _WORDS:
        return _WORDS[text]
    first = text[0]
    if first == ".":
        if _DOT_FLOAT.fullmatch(text) is None:
            return text
        value = float(text)
        return value if math.isfinite(value) else text
    if first not in "+-0123456789":
        return text
    bare = text.replace("_", "")
    if (whole := _INT.fullmatch(bare)) is not None:
        number = _whole(whole)
        if number is not None:
            return number
    if _FLOAT.fullmatch(bare) is not None:
        value = float(bare)
        return value if math.isfinite(value) else text
    if (signed := _SIGNED_BINARY.fullmatch(bare)) is not None and len(bare) < _MOST_DIGITS:
        number = int(signed[1], 2)
        if number in _SIGNED:
            return number
    return text


def _whole(found: re.Match[str]) -> int | None:
    """An integer of 64 bits; None where it has more."""
    sign = found["sign"]
    for name, base in _BASES:
        if (digits := found[name]) is not None:
            digits = digits.lstrip("0") or "0"
            if len(digits) > 64:
                return None
            number = int(sign + digits, base)
            return number if number in _SIGNED or (not sign and number in _UNSIGNED) else None
    return None


def _from_base64(text: str) -> str:
    bare = text.replace("\r", "").replace("\n", "")
    if _BASE64.fullmatch(bare) is None:
        raise Unfit
    try:
        return base64.b64decode(bare).decode()
    except UnicodeDecodeError:
        pass
    raise Unfit(BINARY_NO_TEXT)


def _is_timestamp(text: str) -> bool:
    found = _TIMESTAMP.fullmatch(text)
    if found is None:
        return False
    year, month, day, *time = (int(each) for each in found.groups() if each is not None)
    try:
        hour, minute, second = (*time, 0, 0, 0)[:3]
        # Only whether there is such a time.
        datetime.datetime(max(year, 1), month, day, hour, minute, second, tzinfo=datetime.UTC)
    except ValueError:
        return False
    return True


def _short_float(value: float) -> str:
    """As strconv.FormatFloat(value, 'g', -1, 32): the shortest text that no other float of 32 bits has."""
    if math.isnan(value):
        return ".nan"
    single = _as_single(value)
    if math.isinf(single):
        return ".inf" if single > 0 else "-.inf"
    if single == 0:
        return "-0" if math.copysign(1, single) < 0 else "0"
    for digits in range(1, 10):
        shortest = f"{single:.{digits - 1}e}"
        if _as_single(float(shortest)) == single:
            break
    mantissa, _, exponent = shortest.partition("e")
    power = int(exponent)
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    if power < -4 or power >= 6:
        return f"{mantissa}e{power:+03d}"
    return format(Decimal(f"{mantissa}e{power}"), "f")


def _as_single(value: float) -> float:
    try:
        found: float = struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)
    return found
