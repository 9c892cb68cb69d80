"""Copies of JSON, which `copy.deepcopy` makes several times slower: it looks for cycles."""

from __future__ import annotations

import copy
from typing import TypeVar

_T = TypeVar("_T")

_UNCHANGEABLE = frozenset({str, int, float, bool, type(None)})


def copied(value: _T) -> _T:
    """An equal value that shares nothing changeable."""
    kind = type(value)
    if kind in _UNCHANGEABLE:
        return value
    if kind is dict:
        return {key: copied(each) for key, each in value.items()}  # type: ignore[attr-defined, return-value]  # of `kind`
    if kind is list:
        return [copied(each) for each in value]  # type: ignore[attr-defined, return-value]  # of `kind`
    return copy.deepcopy(value)
