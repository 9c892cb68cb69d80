"""The body of a list as a page, one object in memory at a time.

JSON that is read whole takes up to 20 times its size: an object of 1 MiB may have 100,000 entries in managedFields,
each a dict. So each item is kept as the bytes that came, and is read when it is its turn; whatever reads it keeps what
it needs of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, overload

from jiemi.miwen.kubernetes.port import JsonObject, Page

_SPACE = re.compile(r"[ \t\n\r]*")
_decode = json.JSONDecoder().raw_decode


class Items(Sequence[JsonObject]):
    """Objects, each read from its JSON whenever it is asked for."""

    def __init__(self, texts: Sequence[bytes]) -> None:
        self._texts = texts

    def __len__(self) -> int:
        return len(self._texts)

    @overload
    def __getitem__(self, index: int) -> JsonObject: ...

    @overload
    def __getitem__(self, index: slice) -> Items: ...

    def __getitem__(self, index: int | slice) -> JsonObject | Items:
        if isinstance(index, slice):
            return Items(self._texts[index])
        item: dict[str, Any] = json.loads(self._texts[index])
        return item

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment] # what it holds has none


def read_page(body: bytes) -> Page | None:
    """The page in a body; None where it is no list."""
    try:
        texts: list[bytes] | None = []
        members = _members(body.decode(), texts)
    except (ValueError, IndexError, RecursionError):
        return None
    if members.get("items") is not None:
        return None
    return _page(members, Items(texts or ()), left_out=0)


def page_without_items(beginning: bytes) -> Page | None:
    """The page of a list of one object that is left out, from the beginning of its body: the API server writes the
    list's metadata before its items. None where they are not there."""
    try:
        members = _members(beginning.decode(errors="replace"), None)
    except (ValueError, IndexError, RecursionError):
        return None
    return _page(members, (), left_out=1)


def _page(members: dict[str, Any], items: Sequence[JsonObject], *, left_out: int) -> Page | None:
    metadata = members.get("metadata")
    version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(version, str):
        return None
    return Page(items, version, metadata.get("continue") or None, left_out)


def _members(text: str, items: list[bytes] | None) -> dict[str, Any]:
    """What a JSON object has, except its list `items`.

    Args:
        items: gets the JSON of those that are objects; None: nothing is read from there on.

    Raises:
        ValueError, IndexError, RecursionError: it is no JSON object.
    """
    found: dict[str, Any] = {}
    at = _after(text, 0, "{")
    if text[at] == "}":
        return found
    while True:
        key, at = _decode(text, at)
        at = _after(text, at, ":")
        if key == "items" and text[at] == "[":
            if items is None:
                return found
            at = _read_items(text, at, items)
        else:
            found[key], at = _decode(text, at)
        at = _skip(text, at)
        if text[at] == "}":
            if _skip(text, at + 1) != len(text):
                raise ValueError("something follows")
            return found
        at = _after(text, at, ",")


def _read_items(text: str, at: int, items: list[bytes]) -> int:
    """Read the list that begins there; returns where it ends."""
    at = _after(text, at, "[")
    if text[at] == "]":
        return at + 1
    while True:
        begin = at
        end = _decode(text, begin)[1]
        if text[begin] == "{":
            items.append(text[begin:end].encode())
        at = _skip(text, end)
        if text[at] == "]":
            return at + 1
        at = _after(text, at, ",")


def _after(text: str, at: int, mark: str) -> int:
    """Where the next token begins after a mark that must come now."""
    at = _skip(text, at)
    if text[at] != mark:
        raise ValueError(f"no {mark}")
    return _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    """Where the white space ends."""
    space = _SPACE.match(text, at)
    return at if space is None else space.end()
