"""Events are made as the API server takes them, whatever is to be reported."""

from __future__ import annotations

import datetime
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.api.decryptor import ObjectMeta
from jiemi.core.objects.identity import ObjectRef
from jiemi.miwen.kubernetes.port import JsonObject
from jiemi.miwen.report.event_object import EventContent, EventObjects

APP = ObjectMeta("default", "app", "uid-of-app", 3, "1234")
NOW = datetime.datetime(2026, 11, 24, 0, 0, 1, 500000, tzinfo=datetime.UTC)

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_MICRO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def made(note: str, others_left_out: int = 0, related: ObjectRef | None = None) -> JsonObject:
    content = EventContent("Warning", "Drifted", "CorrectDrift", note, related)
    return EventObjects("miwen-0").make(APP, content, now=NOW, others_left_out=others_left_out)


def test_an_event_says_what_happened_to_which_decryptor_and_who_saw_it() -> None:
    note = "data.password of Secret default/app was changed by kubectl-edit"
    event = made(note, related=ObjectRef("v1", "Secret", "default", "app"))
    assert re.fullmatch(r"app\.[0-9a-f]{24}", event["metadata"]["name"])
    assert event["metadata"]["namespace"] == "default"
    assert {field: value for field, value in event.items() if field != "metadata"} == {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "eventTime": "2026-11-24T00:00:01.500000Z",
        "type": "Warning",
        "reason": "Drifted",
        "action": "CorrectDrift",
        "note": note,
        "regarding": {
            "apiVersion": "jiemi.cr/v1alpha1",
            "kind": "Decryptor",
            "namespace": "default",
            "name": "app",
            "uid": "uid-of-app",
            "resourceVersion": "1234",
        },
        "related": {"apiVersion": "v1", "kind": "Secret", "namespace": "default", "name": "app"},
        "reportingController": "jiemi.cr/miwen",
        "reportingInstance": "miwen-0",
    }


def test_a_related_object_without_namespace_names_none() -> None:
    event = made("gone", related=ObjectRef("v1", "Namespace", "", "team"))
    assert event["related"] == {"apiVersion": "v1", "kind": "Namespace", "name": "team"}


def test_names_are_in_the_order_of_the_events_though_the_clock_is_set_back() -> None:
    objects, content = EventObjects("miwen-0"), EventContent("Normal", "Applied", "Apply", "done")
    times = [NOW, NOW, NOW - datetime.timedelta(hours=1), NOW + datetime.timedelta(seconds=1)]
    names = [objects.make(APP, content, now=now, others_left_out=0)["metadata"]["name"] for now in times]
    assert names == sorted(names)


def test_a_note_is_one_line() -> None:
    assert made("one\ntwo\x1b[31m\ud800\u202ethree")["note"] == "one two [31m three"


def test_a_note_says_how_many_others_were_left_out() -> None:
    assert made("done", 1)["note"] == "done (and 1 more event was left out)"
    assert made("done", 8)["note"] == "done (and 8 more events were left out)"


def test_a_full_note_that_says_what_was_left_out_still_fits() -> None:
    note = made("✓" * 1000, 5)["note"]
    assert re.fullmatch(r"✓{300,}… \(and 5 more events were left out\)", note)
    assert len(note.encode()) <= 1024


def test_another_type_reason_or_note_is_no_repeat() -> None:
    contents = [
        EventContent(type, reason, action, note)
        for type in ("Normal", "Warning")
        for reason in ("Applied", "Pruned")
        for action in ("Apply", "Prune")
        for note in ("one", "two")
    ]
    assert len({content.key for content in contents}) == 8


_LABELS = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
_NAMES = st.lists(_LABELS, min_size=1, max_size=20).map(lambda labels: ".".join(labels)[:253].strip("-."))
_TEXTS = st.text(st.characters(), max_size=1500) | st.text("aé✓🔑\n", min_size=900, max_size=1500)


@given(
    name=_NAMES | _TEXTS,
    namespace=_LABELS,
    content=st.builds(
        EventContent,
        st.sampled_from(["Normal", "Warning"]),
        _TEXTS,
        _TEXTS,
        _TEXTS,
        st.none() | st.builds(ObjectRef, _TEXTS, _TEXTS, _TEXTS, _TEXTS),
    ),
    others=st.integers(0, 100_000),
    instance=_TEXTS,
)
def test_any_names_and_notes_make_an_event_that_the_api_server_takes(
    name: str, namespace: str, content: EventContent, others: int, instance: str
) -> None:
    """The rules are those of ValidateEventCreate in pkg/apis/core/validation/events.go."""
    objects, meta = EventObjects(instance), ObjectMeta(namespace, name, "uid", 1, "1")
    found: list[Any] = [objects.make(meta, content, now=NOW, others_left_out=others) for _ in range(3)]
    assert len({each["metadata"]["name"] for each in found}) == len(found)
    for event in found:
        metadata = event["metadata"]
        assert len(metadata["name"]) <= 253
        assert _SUBDOMAIN.fullmatch(metadata["name"])
        assert metadata["namespace"] == event["regarding"]["namespace"] == namespace
        assert _MICRO_TIME.fullmatch(event["eventTime"])
        assert event["type"] in {"Normal", "Warning"}
        for field in ("reason", "action", "reportingInstance"):
            assert 1 <= len(event[field].encode()) <= 128
        assert re.fullmatch(r"[A-Za-z0-9]+", event["reason"] + event["action"])
        assert re.fullmatch(r"[a-z.]{1,253}/[a-z]{1,63}", event["reportingController"])
        assert len(event["note"].encode()) <= 1024
        assert event["note"].isprintable()
        assert not {"series", "deprecatedCount", "deprecatedSource"} & event.keys()
