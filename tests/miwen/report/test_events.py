"""Events about Decryptors, on a virtual clock: what is written, what is not, and what the notes say of it."""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import AsyncIterator
from typing import Any, cast

import attrs
import pytest
import trio
from fakes.kubernetes import FakeKubernetes
from structlog.testing import capture_logs
from support.kubernetes.api_server import Answer, ApiServer
from support.miwen.world import START, settle
from trio.testing import MockClock

from jiemi.core.api.decryptor import ObjectMeta
from jiemi.core.errors import Failure, JiemiError
from jiemi.core.objects.identity import ObjectRef
from jiemi.miwen.kubernetes.port import JsonObject, Kubernetes
from jiemi.miwen.report import events
from jiemi.miwen.report.event_object import EventContent
from jiemi.miwen.report.event_rate import Reserve
from jiemi.miwen.report.events import EventCounts, EventRecorder

APP = ObjectMeta("default", "app", "uid-of-app", 3, "1234")
OTHER = ObjectMeta("default", "other", "uid-of-other", 1, "77")
DOWN = JiemiError("ClusterUnavailable", "the API server does not answer")


@pytest.fixture
def kubernetes() -> FakeKubernetes:
    return FakeKubernetes()


def new_recorder(kubernetes: FakeKubernetes, instance: str = "miwen-0") -> EventRecorder:
    began = trio.current_time()

    def now() -> datetime.datetime:
        return START + datetime.timedelta(seconds=trio.current_time() - began)

    return EventRecorder(kubernetes, instance=instance, now=now, random=lambda: 0.5)  # no jitter


@contextlib.asynccontextmanager
async def recording(kubernetes: FakeKubernetes) -> AsyncIterator[EventRecorder]:
    """A recorder whose task runs while the context lasts."""
    recorder = new_recorder(kubernetes)
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: recorder.run(task_status=task_status))
        yield recorder
        nursery.cancel_scope.cancel()


def fail(
    recorder: EventRecorder,
    note: str = "the host does not answer",
    meta: ObjectMeta = APP,
    related: ObjectRef | None = None,
    **more: Any,
) -> None:
    recorder.record(meta, EventContent("Warning", "HostUnreachable", "Fetch", note, related), **more)


def recover(recorder: EventRecorder) -> None:
    recorder.record(APP, EventContent("Normal", "Recovered", "Apply", "it works again"), transition=True)


def written(kubernetes: FakeKubernetes) -> list[dict[str, Any]]:
    """The Events in the cluster as `kubectl describe` shows them: in the order of their names."""
    found = [obj for (_, kind, _, _), obj in kubernetes.cluster.objects.items() if kind == "Event"]
    return sorted(found, key=lambda each: str(each["metadata"]["name"]))


def notes(kubernetes: FakeKubernetes) -> list[str]:
    return [each["note"] for each in written(kubernetes)]


# --- what is written


async def test_an_event_has_the_time_at_which_it_was_recorded(
    kubernetes: FakeKubernetes, autojump_clock: MockClock
) -> None:
    async with recording(kubernetes) as recorder:
        await trio.sleep(1.5)
        fail(recorder, related=ObjectRef("v1", "Secret", "default", "app"))
        await settle()
    (event,) = written(kubernetes)
    assert event["eventTime"] == "2026-11-24T00:00:01.500000Z"
    assert event["related"] == {"apiVersion": "v1", "kind": "Secret", "namespace": "default", "name": "app"}
    assert (event["reason"], event["action"], event["note"]) == ("HostUnreachable", "Fetch", "the host does not answer")
    assert event["reportingInstance"] == "miwen-0"
    assert recorder.counts == EventCounts(written=1)


async def test_events_of_one_moment_are_shown_in_the_order_in_which_they_happened(
    kubernetes: FakeKubernetes, autojump_clock: MockClock
) -> None:
    async with recording(kubernetes) as recorder:
        for number in range(20):
            fail(recorder, f"note {number}")
        await settle()
    assert notes(kubernetes) == [f"note {number}" for number in range(20)]


async def test_recording_does_not_wait_for_the_api_server(
    kubernetes: FakeKubernetes, autojump_clock: MockClock
) -> None:
    kubernetes.delays["create_event"] = 10.0
    async with recording(kubernetes) as recorder:
        began = trio.current_time()
        fail(recorder)
        assert (trio.current_time(), recorder.counts) == (began, EventCounts())
        await trio.sleep(11)
        assert recorder.counts == EventCounts(written=1)


# --- repeats


async def test_the_same_each_tick_is_written_once_an_hour(
    kubernetes: FakeKubernetes, autojump_clock: MockClock
) -> None:
    async with recording(kubernetes) as recorder:
        for _ in range(20):
            fail(recorder)
            await trio.sleep(180)
        assert recorder.counts == EventCounts(written=1)
        fail(recorder)
        await settle()
        assert recorder.counts == EventCounts(written=2)


async def test_another_type_reason_note_or_decryptor_is_no_repeat(
    kubernetes: FakeKubernetes, autojump_clock: MockClock
) -> None:
    async with recording(kubernetes) as recorder:
        for meta in (APP, OTHER):
            for reason in ("Applied", "Pruned"):
                for note in ("one", "two"):
                    recorder.record(meta, EventContent("Normal", reason, "Apply", note))
                    recorder.record(meta, EventContent("Warning", reason, "Apply", note))
        await settle()
        assert recorder.counts == EventCounts(written=16)


async def test_a_decryptor_made_again_under_the_same_name_begins_again(
    kubernetes: FakeKubernetes, autojump_clock: MockClock
) -> None:
    async with recording(kubernetes) as recorder:
        fail(recorder)
        fail(recorder, meta=ObjectMeta("default", "app", "another-uid", 1, "2000"))
        await settle()
        assert recorder.counts == EventCounts(written=2)


async def test_a_failure_that_comes_back_after_a_recovery_is_shown_last(
    kubernetes: FakeKubernetes, autojump_clock: MockClock
) -> None:
    async with recording(kubernetes) as recorder:
        for _ in range(2):
            fail(recorder, transition=True)
            await trio.sleep(60)
            fail(recorder)  # the next tick
            await trio.sleep(60)
            recover(recorder)
            await trio.sleep(60)
        fail(recorder, transition=True)
        await settle()
    assert [each["reason"] for each in written(kubernetes)] == ["HostUnreachable", "Recovered"] * 2 + [
        "HostUnreachable"
    ]


async def test_decryptors_beyond_the_bound_are_forgotten_the_longest_silent_first(
    kubernetes: FakeKubernetes, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MAX_DECRYPTORS", 2)
    async with recording(kubernetes) as recorder:
        third = ObjectMeta("default", "third", "uid-of-third", 1, "9")
        fail(recorder, meta=APP)
        fail(recorder, meta=OTHER)
        fail(recorder, meta=APP)
        fail(recorder, meta=third)
        await settle()
        assert recorder.counts == EventCounts(written=3)
        fail(recorder, meta=APP)
        await settle()
        assert recorder.counts == EventCounts(written=3)
        fail(recorder, meta=OTHER)
        await settle()
        assert recorder.counts == EventCounts(written=4)


# --- the rate


async def test_a_flood_about_one_decryptor_is_cut_to_its_rate_and_says_so(
    kubernetes: FakeKubernetes, autojump_clock: MockClock
) -> None:
    async with recording(kubernetes) as recorder:
        for number in range(32):
            fail(recorder, f"note {number}")
        await settle()
        assert recorder.counts == EventCounts(written=25, left_out=7)
        fail(recorder, "of another", meta=OTHER)
        await settle()
        assert recorder.counts == EventCounts(written=26, left_out=7)
        await trio.sleep(299)
        fail(recorder, "too early")
        await trio.sleep(2)
        fail(recorder, "in time")
        await settle()
        assert recorder.counts == EventCounts(written=27, left_out=8)
        await trio.sleep(301)
        fail(recorder, "one more")
        await settle()
    of_app = [each["note"] for each in written(kubernetes) if each["regarding"]["name"] == "app"]
    assert of_app == [f"note {number}" for number in range(25)] + [
        "in time (and 8 more events were left out)",
        "one more",
    ]


async def test_what_may_use_the_reserve_is_written_beyond_the_rate(
    kubernetes: FakeKubernetes, autojump_clock: MockClock
) -> None:
    async with recording(kubernetes) as recorder:
        for number in range(26):
            fail(recorder, f"note {number}")
        fail(recorder, "deleted", reserve=Reserve.ALL)
        await settle()
    assert notes(kubernetes)[25:] == ["deleted (and 1 more event was left out)"]


# --- when the API server does not take them


async def test_what_is_beyond_the_queue_falls_out_the_oldest_first_and_is_counted(
    kubernetes: FakeKubernetes, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "QUEUE_LIMIT", 3)
    recorder = new_recorder(kubernetes)
    for number in range(5):
        fail(recorder, f"note {number}")
    assert recorder.counts == EventCounts(left_out=2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recorder.run)
        await settle()
        fail(recorder, "note 0")  # it was not written: so this is no repeat
        fail(recorder, "note 2")
        await settle()
        nursery.cancel_scope.cancel()
    counted = " (and 1 more event was left out)"
    assert notes(kubernetes) == ["note 2", f"note 3{counted}", f"note 4{counted}", "note 0"]
    assert recorder.counts == EventCounts(written=4, left_out=2)


async def test_a_missing_right_is_said_for_each_namespace_because_it_may_be_granted_in_one_alone(
    kubernetes: FakeKubernetes, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MAX_FORBIDDEN", 2)
    elsewhere = [
        attrs.evolve(OTHER, namespace=namespace, uid=namespace) for namespace in ("team-a", "team-b", "team-c")
    ]
    with capture_logs() as logs:
        async with recording(kubernetes) as recorder:
            kubernetes.deny("create", "events")
            for note in ("one", "two"):
                for meta in elsewhere:
                    fail(recorder, note, meta=meta)
            await settle()
    said = [re.findall(r"in namespace ([-a-z]+)", each["message"]) for each in logs]
    assert said == [["team-a"], ["team-b"]]


async def test_a_missing_right_is_said_once_and_again_only_after_it_was_there(
    kubernetes: FakeKubernetes, autojump_clock: MockClock
) -> None:
    with capture_logs() as logs:
        async with recording(kubernetes) as recorder:
            kubernetes.deny("create", "events")
            fail(recorder, "one")
            fail(recorder, "two")
            fail(recorder, "three", meta=OTHER)
            await settle()
            assert recorder.counts == EventCounts(failed=3)
            kubernetes.denied.clear()
            fail(recorder, "two")  # it was not written: so this is no repeat
            await settle()
            assert recorder.counts == EventCounts(written=1, failed=3)
            kubernetes.deny("create", "events")
            fail(recorder, "four")
            await settle()
    assert [each["event"] for each in logs] == ["events_forbidden", "events_allowed", "events_forbidden"]
    assert logs[0]["log_level"] == "warning"
    assert "Grant `create` on events of API group events.k8s.io" in logs[0]["message"]
    assert notes(kubernetes) == ["two (and 1 more event was left out)"]


async def test_an_api_server_that_is_away_for_seconds_costs_no_event(
    kubernetes: FakeKubernetes, autojump_clock: MockClock
) -> None:
    kubernetes.fail_next("create_event", DOWN, DOWN, DOWN)
    with capture_logs() as logs:
        async with recording(kubernetes) as recorder:
            fail(recorder)
            recover(recorder)
            await trio.sleep(1 + 2 + 4 - 0.1)
            assert recorder.counts == EventCounts()
            await trio.sleep(0.2)
            assert recorder.counts == EventCounts(written=2)
    assert logs == []
    assert [each["eventTime"] for each in written(kubernetes)] == ["2026-11-24T00:00:00.000000Z"] * 2


async def test_an_event_is_given_up_after_some_tries_and_the_next_one_says_so(
    kubernetes: FakeKubernetes, autojump_clock: MockClock
) -> None:
    kubernetes.fail_next("create_event", *[DOWN] * events.TRIES)
    with capture_logs() as logs:
        async with recording(kubernetes) as recorder:
            fail(recorder)
            recover(recorder)
            await trio.sleep(1 + 2 + 4 + 8 + 16 + 0.1)
            assert recorder.counts == EventCounts(written=1, failed=1)
            fail(recorder, "the host refuses")
            await settle()
    assert notes(kubernetes) == ["it works again", "the host refuses (and 1 more event was left out)"]
    assert [(each["event"], each["reason"]) for each in logs] == [("event_not_written", "ClusterUnavailable")]


@pytest.mark.parametrize("reason", ["NamespaceNotFound", "ApplyRejected", "AdmissionDenied"])
async def test_a_refused_event_is_dropped_and_logged(
    kubernetes: FakeKubernetes, autojump_clock: MockClock, reason: str
) -> None:
    kubernetes.fail_next("create_event", JiemiError(reason, "no"))
    with capture_logs() as logs:
        async with recording(kubernetes) as recorder:
            fail(recorder)
            recover(recorder)
            await settle()
            assert recorder.counts == EventCounts(written=1, failed=1)
    assert logs == [
        {
            "event": "event_not_written",
            "log_level": "warning",
            "namespace": "default",
            "name": "app",
            "event_reason": "HostUnreachable",
            "reason": reason,
            "message": Failure(reason, "no").text,
        }
    ]


async def test_what_a_refused_event_would_have_counted_is_counted_by_the_next(
    kubernetes: FakeKubernetes, autojump_clock: MockClock
) -> None:
    async with recording(kubernetes) as recorder:
        for number in range(27):
            fail(recorder, f"note {number}")
        await trio.sleep(300)
        kubernetes.fail_next("create_event", JiemiError("ApplyRejected", "no"))
        fail(recorder, "refused")
        await trio.sleep(300)
        fail(recorder, "taken")
        await settle()
    assert notes(kubernetes)[-1] == "taken (and 3 more events were left out)"


# --- the end


async def test_what_is_queued_at_the_end_is_written(kubernetes: FakeKubernetes, autojump_clock: MockClock) -> None:
    kubernetes.delays["create_event"] = 0.5
    async with recording(kubernetes) as recorder:
        for number in range(3):
            fail(recorder, f"note {number}")
        await trio.sleep(0.1)  # the first is on its way
    assert notes(kubernetes) == ["note 0", "note 1", "note 2"]
    assert recorder.counts == EventCounts(written=3)


async def test_the_end_waits_two_seconds_at_most(kubernetes: FakeKubernetes, autojump_clock: MockClock) -> None:
    kubernetes.delays["create_event"] = 0.9
    with capture_logs() as logs:
        async with recording(kubernetes) as recorder:
            for number in range(5):
                fail(recorder, f"note {number}")
            ended = trio.current_time()
    assert trio.current_time() - ended == pytest.approx(2.0)
    assert recorder.counts == EventCounts(written=2, failed=3)
    assert [(each["event"], each["number"]) for each in logs] == [("events_not_written", 3)]


async def test_at_the_end_an_api_server_that_is_away_is_asked_once_for_each(
    kubernetes: FakeKubernetes, autojump_clock: MockClock
) -> None:
    kubernetes.fail_next("create_event", *[DOWN] * 3)
    async with recording(kubernetes) as recorder:
        fail(recorder, "one")
        await settle()  # it waits to be tried again
        fail(recorder, "two")
        ended = trio.current_time()
    assert trio.current_time() - ended < 0.1
    assert recorder.counts == EventCounts(failed=2)


@attrs.define
class _Api:
    """The one method of the port that is used, on a real API server, with what that says."""

    admin: ApiServer
    expected: int
    done: trio.Event = attrs.Factory(trio.Event)
    answers: list[Answer] = attrs.Factory(list)

    async def create_event(self, namespace: str, event: JsonObject) -> None:
        path = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"
        self.answers.append(await trio.to_thread.run_sync(self.admin.call, "POST", path, event))
        if len(self.answers) == self.expected:
            self.done.set()


@pytest.mark.e2e
async def test_a_real_api_server_takes_the_longest_and_the_oddest_and_shows_them_as_kubectl_asks(
    admin: ApiServer,
) -> None:
    api = _Api(admin, expected=26)
    long_name = ".".join(["n" * 61] * 4)
    now = datetime.datetime.now(datetime.UTC)
    recorder = EventRecorder(cast(Kubernetes, api), instance="✓" * 100, now=lambda: now, random=lambda: 0.5)
    meta = ObjectMeta("default", long_name, "9d1f7f3e-0000-4000-8000-000000000000", 1, "1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recorder.run)
        for number in range(30):
            fail(recorder, f"{number} " + "✓🔑\x00" * 500, meta, related=ObjectRef("v1", "Namespace", "", "team"))
        odd = attrs.evolve(meta, name="Not A Name", uid="another")
        recorder.record(odd, EventContent("Normal", "R" * 500, "", ""))
        with trio.fail_after(60):
            await api.done.wait()
        nursery.cancel_scope.cancel()
    assert [answer.body for answer in api.answers if answer.status != 201] == []
    # kubectl describe: searchEvents in kubectl/pkg/describe/describe.go.
    selector = f"involvedObject.name={long_name},involvedObject.kind=Decryptor,involvedObject.uid={meta.uid}"
    shown = admin.call("GET", f"/api/v1/namespaces/default/events?fieldSelector={selector}").ok()["items"]
    assert [each["message"].partition(" ")[0] for each in shown] == [str(number) for number in range(25)]
    assert {each["reportingComponent"] for each in shown} == {"jiemi.cr/miwen"}
