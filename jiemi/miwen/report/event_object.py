"""An Event as the API server takes it, made of what there is to report about a Decryptor, or about a Secret.

No `series` is written. client-go (tools/events/event_broadcaster.go) takes Events that differ in their notes only for
one series, shows the first note for all, and patches a count into it; that needs the right to patch Events, and hides
the one thing that is new, for example another manager's name. Here each note is a line of its own.

kubectl describe sorts by a time that events.k8s.io/v1 does not allow to be set, and so shows Events in the order of
their names. Names therefore begin, after the Decryptor's, with the time.

https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/; what the API server takes is in
pkg/apis/core/validation/events.go of kubernetes/kubernetes.
"""

from __future__ import annotations

import datetime
import hashlib
import re
import secrets
from typing import Any, Literal

import attrs

from jiemi.core.api.decryptor import API_VERSION, KIND, ObjectMeta
from jiemi.core.errors import one_line
from jiemi.core.objects.identity import ObjectRef
from jiemi.miwen.kubernetes.port import JsonObject

EVENT_API_VERSION = "events.k8s.io/v1"
EVENT_KIND = "Event"
CONTROLLER = "jiemi.cr/miwen"
"""What reports: kubectl describe shows it under From."""

NOTE_BYTES = 1024
WORD_BYTES = 128
"""The longest reason, action and reportingInstance."""
NAME_CHARACTERS = 253

_DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_NO_WORD = re.compile(r"[^A-Za-z0-9]")

EventType = Literal["Normal", "Warning"]


def _word(text: str) -> str:
    return _NO_WORD.sub("", text)[:WORD_BYTES] or "Unknown"


@attrs.frozen
class ObjectKind:
    """The kind of the object that an Event is about."""

    api_version: str
    kind: str


DECRYPTOR = ObjectKind(API_VERSION, KIND)
SECRET = ObjectKind("v1", "Secret")


@attrs.frozen
class EventContent:
    """What an Event says, in the form that the API server takes.

    Attributes:
        type: Warning where someone should look.
        reason: what happened, in CamelCase: "Drifted".
        action: what was done or tried, in CamelCase: "Apply".
        note: a sentence that anyone who may read the Decryptor's Events may read. It is made one line, and cut to 1 kB
            when it is written. It has no times and no numbers that change each time, so that repeats are recognized.
        related: another object that it is about.
    """

    type: EventType
    reason: str = attrs.field(converter=_word)
    action: str = attrs.field(converter=_word)
    note: str = attrs.field(converter=one_line)
    related: ObjectRef | None = None

    @property
    def key(self) -> bytes:
        """What a repeat of it has too; short, whatever the note's length."""
        return hashlib.blake2b(f"{self.type}\n{self.reason}\n{self.note}".encode(), digest_size=16).digest()


class EventObjects:
    """Makes Events, whose names are in the order in which they are made.

    Args:
        instance: the name of this Miwen: the Pod's or the host's.
    """

    def __init__(self, instance: str) -> None:
        self._instance = _cut(one_line(instance), WORD_BYTES) or "unknown"
        self._last_stamp = 0

    def make(
        self,
        about: ObjectMeta,
        content: EventContent,
        *,
        now: datetime.datetime,
        others_left_out: int,
        kind: ObjectKind = DECRYPTOR,
    ) -> JsonObject:
        """An Event.

        Args:
            about: the object that it is about.
            now: with a time zone.
            others_left_out: how many other Events its note says were left out. The note is cut to 1 kB with it.
            kind: of that object.
        """
        now = now.astimezone(datetime.UTC)
        # Two of one microsecond, or after the clock was set back, still have names in the order of their times.
        self._last_stamp = max(int(now.timestamp() * 1e6), self._last_stamp + 1)
        event: dict[str, Any] = {
            "apiVersion": EVENT_API_VERSION,
            "kind": EVENT_KIND,
            "metadata": {"name": _name(about.name, self._last_stamp), "namespace": about.namespace},
            "eventTime": now.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "type": content.type,
            "reason": content.reason,
            "action": content.action,
            "note": _note(content.note, others_left_out),
            "regarding": {
                "apiVersion": kind.api_version,
                "kind": kind.kind,
                "namespace": about.namespace,
                "name": about.name,
                "uid": about.uid,
                "resourceVersion": about.resource_version,
            },
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance,
        }
        related = content.related
        if related is not None:
            fields = {
                "apiVersion": related.api_version,
                "kind": related.kind,
                "namespace": related.namespace,
                "name": related.name,
            }
            event["related"] = {field: value for field, value in fields.items() if value}
        return event


def _name(name: str, stamp: int) -> str:
    """A name that no other Event has: the object's name as far as there is room, the time, a random number.

    Args:
        stamp: microseconds since 1970.
    """
    if not _DNS_SUBDOMAIN.fullmatch(name):
        name = KIND.lower()
    end = f".{stamp:016x}{secrets.token_hex(4)}"
    return name[: NAME_CHARACTERS - len(end)].rstrip("-.") + end


def _note(note: str, others_left_out: int) -> str:
    end = ""
    if others_left_out:
        events = "event was" if others_left_out == 1 else "events were"
        end = f" (and {others_left_out} more {events} left out)"
    return _cut(note, NOTE_BYTES - len(end)) + end


def _cut(text: str, limit_bytes: int) -> str:
    """The text, cut to so many bytes of UTF-8 and between two characters."""
    data = text.encode()
    if len(data) <= limit_bytes:
        return text
    return data[: limit_bytes - len("…".encode())].decode(errors="ignore") + "…"
