"""The bytes of a Kubernetes watch, as events.

A watch is a stream of JSON objects, one a line, that arrives in chunks cut anywhere:
https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

MAX_LINE_BYTES = 8 * 1024 * 1024
"""The longest event. An object is at most 1.5 MiB in etcd; of its metadata annotations, 256 KiB together, may be six
times as long in JSON. Decryptors and metadata are all that is watched: the rest is room for an etcd that takes more."""


class ChangeType(enum.Enum):
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


@attrs.frozen
class Change:
    """An object was added, modified or deleted; `resource_version` is where a new watch goes on."""

    type: ChangeType
    object: Mapping[str, Any]
    resource_version: str


@attrs.frozen
class Bookmark:
    """Nothing changed up to this version."""

    resource_version: str


@attrs.frozen
class Expired:
    """The version that the watch began at is too old (410 Gone): list again."""


@attrs.frozen
class WatchFailed:
    """The server ends the watch with another error."""

    code: int


Event = Change | Bookmark | Expired | WatchFailed


class MalformedWatch(ValueError):
    """What arrived is no watch: the connection goes to something else, or was cut and glued."""


class LineSplitter:
    """Cuts a stream of chunks into lines."""

    def __init__(self, *, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._max = max_line_bytes
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that are whole with this chunk, without their ends; empty ones are left out.

        Raises:
            MalformedWatch: a line is longer than the limit.
        """
        start = len(self._rest)
        self._rest += chunk
        while (end := self._rest.find(b"\n", start)) >= 0:
            line = bytes(self._rest[:end]).strip()
            del self._rest[: end + 1]
            start = 0
            if line:
                yield line
        if len(self._rest) > self._max:
            raise MalformedWatch(f"a line of the watch is longer than {self._max} bytes")


def parse_event(line: bytes) -> Event:
    """One line of a watch.

    Raises:
        MalformedWatch: it is no event.
    """
    try:
        event = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise MalformedWatch("a line of the watch is no JSON") from error
    obj = event.get("object") if isinstance(event, dict) else None
    if not isinstance(obj, dict):
        raise MalformedWatch("a line of the watch has no object")
    kind = event.get("type")
    if kind == "ERROR":
        code = obj.get("code")
        return Expired() if code == 410 else WatchFailed(code if isinstance(code, int) else 0)
    metadata = obj.get("metadata")
    version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    if not isinstance(version, str) or not version:
        raise MalformedWatch("an event of the watch has no resourceVersion")
    if kind == "BOOKMARK":
        return Bookmark(version)
    try:
        change = ChangeType(kind)
    except ValueError as error:
        raise MalformedWatch("an event of the watch has an unknown type") from error
    return Change(change, obj, version)
