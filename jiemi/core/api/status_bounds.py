"""A status within the bounds of its schema, whatever it was made of.

A stored status may be of an older or newer release, or edited by hand: too many entries, unknown words, numbers out of
range. What is taken up of it is written again, and the API server refuses a status that breaks its schema as a whole.
So it is fitted when it is read and when it is written, by the bounds that the API's classes declare
(`jiemi.core.api.fields`), which are those of the CustomResourceDefinition:

    a list that is too long     keeps its first entries; history its newest; conditions Jiemi's own before others
    a text that is too long     is cut
    a number out of range       is the nearest one that is allowed, or left out where it may be
    a word that is none         NotSync for the status of a record; otherwise what it is a part of is left out
"""

from __future__ import annotations

import datetime
import functools
import re
from collections.abc import Mapping
from typing import Any

import attrs

from jiemi.core.api.conditions import is_own_condition
from jiemi.core.api.decryptor_status import Condition, DecryptorStatus, FileStatus, InventoryEntry, StatusRecord
from jiemi.core.api.fields import api_attributes, api_field, unstructure

MAX_TEXT = 4096
"""The most characters of a text whose schema has no bound: a path has at most so many, and a message fewer."""

_MAX_INTEGER = 2**63 - 1

_WHOLE = (InventoryEntry, FileStatus)
"""Their texts say which object or file it is: cut, they would be of another one."""

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")
"""RFC 3339, 5.6, as the API server takes it for the format date-time."""


class _Unfit(Exception):
    """A value that can't be made to fit."""


@attrs.frozen
class _Field:
    name: str
    bounds: Mapping[str, Any]
    default: Any
    may_be_cut: bool


def fitted(status: DecryptorStatus) -> DecryptorStatus:
    """The status within the bounds of its schema; the same one where it is. It keeps what has an effect: where an entry
    of the inventory or a file is lost by it, what is deployed is no longer certain."""
    conditions = _distinct(status.conditions)
    if conditions != status.conditions:
        status = attrs.evolve(status, conditions=conditions)
    found: DecryptorStatus = _fit_class(status)
    if len(found.inventory) < len(status.inventory) or len(found.files) < len(status.files):
        found = attrs.evolve(found, deployed_generation=None)
    return found


def fitted_part(name: str, value: Any) -> Any:
    """One field of a status as `fitted` leaves it, or one entry of it; None where it does not stay.

    Args:
        name: a field of DecryptorStatus.
        value: what was read of it, or one entry of a list.
    """
    field = next(field for field in _fields(DecryptorStatus) if field.name == name)
    try:
        return _fit(value, field)
    except _Unfit:
        return None


def status_json(status: DecryptorStatus) -> Any:
    """The status as it is written: fitted, as JSON."""
    return unstructure(fitted(status))


def _distinct(conditions: tuple[Condition, ...]) -> tuple[Condition, ...]:
    """One condition of each type; Jiemi's own before others where not all may stay."""
    by_type: dict[str, Condition] = {}
    for each in conditions:
        by_type.setdefault(each.type, each)
    found = tuple(by_type.values())
    bound = next(field.bounds["maxItems"] for field in _fields(DecryptorStatus) if field.name == "conditions")
    return found if len(found) <= bound else tuple(sorted(found, key=lambda each: not is_own_condition(each.type)))


@functools.cache
def _fields(cls: type) -> tuple[_Field, ...]:
    return tuple(
        _Field(attribute.name, api_field(attribute).bounds, attribute.default, cls not in _WHOLE)
        for attribute, _ in api_attributes(cls)
    )


def _fit_class(value: Any) -> Any:
    changes: dict[str, Any] = {}
    for field in _fields(value.__class__):
        old = getattr(value, field.name)
        if old is None:
            continue
        try:
            new = _fit(old, field)
        except _Unfit:
            if isinstance(value, StatusRecord) and field.name == "status":
                new = "NotSync"
            elif field.default is attrs.NOTHING:
                raise
            else:
                new = field.default
        if new is not old:
            changes[field.name] = new
    return attrs.evolve(value, **changes) if changes else value


def _fit(value: Any, field: _Field) -> Any:
    if isinstance(value, str):
        return _fit_text(value, field)
    if isinstance(value, int):
        return _fit_number(value, field)
    if isinstance(value, tuple):
        return _fit_list(value, field)
    return _fit_class(value) if attrs.has(type(value)) else value


def _fit_text(text: str, field: _Field) -> str:
    if text not in field.bounds.get("enum", (text,)):
        raise _Unfit
    if field.bounds.get("format") == "date-time" and not _is_time(text):
        raise _Unfit
    limit = field.bounds.get("maxLength", MAX_TEXT if field.may_be_cut else None)
    return text if limit is None or len(text) <= limit else f"{text[: limit - 1]}…"


def _fit_number(number: int, field: _Field) -> int:
    least: int = field.bounds.get("minimum", -_MAX_INTEGER)
    if number < least and field.default is not attrs.NOTHING:
        raise _Unfit
    return max(least, min(number, _MAX_INTEGER))


def _fit_list(values: tuple[Any, ...], field: _Field) -> tuple[Any, ...]:
    each = attrs.evolve(field, bounds={}, default=attrs.NOTHING)
    found = []
    changed = False
    for value in values:
        try:
            new = _fit(value, each)
        except _Unfit:
            changed = True
            continue
        changed |= new is not value
        found.append(new)
    limit = field.bounds.get("maxItems", len(found))
    if len(found) > limit:
        return tuple(found[-limit:] if field.name == "history" else found[:limit])
    return tuple(found) if changed else values


def _is_time(text: str) -> bool:
    if _TIME.fullmatch(text) is None:
        return False
    try:
        datetime.datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
