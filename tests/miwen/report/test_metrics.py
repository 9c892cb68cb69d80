"""What Miwen counts, on the page of a Miwen that works on fakes."""

from __future__ import annotations

import attrs
import pytest
import trio
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from support.metrics_pages import samples, total
from support.miwen.world import FILE, INTERVAL, START, World, miwen
from trio.testing import MockClock

from jiemi.core.api.decryptor_status import Condition
from jiemi.core.decisions.status import blank
from jiemi.core.errors import Failure, JiemiError
from jiemi.miwen.report.followed import Followed, Times
from jiemi.miwen.report.metrics import MiwenMetrics


def shown(metrics: MiwenMetrics) -> str:
    metrics.prepare()
    return generate_latest(metrics.registry).decode()


async def test_a_deployment_is_shown_with_its_state_its_times_and_its_phases(
    world: World, autojump_clock: MockClock
) -> None:
    metrics = MiwenMetrics()
    revision = world.origin.refs["HEAD"]
    world.add()
    async with miwen(world, metrics=metrics):
        await trio.sleep(INTERVAL + 30)
        page = shown(metrics)
    [(labels, _)] = samples(page, "jiemi_decryptor_info")
    assert labels == {
        "namespace": "default",
        "name": "app",
        "ready": "True",
        "reason": "Synced",
        "suspended": "false",
        "revision": revision,
    }
    assert total(page, "jiemi_decryptor_interval_seconds") == INTERVAL
    # Both looks were good, and the second is some seconds ago: an interval has a jitter.
    second = START.timestamp() + INTERVAL
    for name in ("last_look", "last_success", "repository_seen"):
        assert total(page, f"jiemi_decryptor_{name}_timestamp_seconds") == pytest.approx(second, abs=1)
    assert total(page, "jiemi_reconcile_total", outcome="ok", kind="ok") == 2
    counts = {labels["phase"]: value for labels, value in samples(page, "jiemi_reconcile_phase_duration_seconds_count")}
    assert counts == {"head": 2, "files": 1, "queue": 1, "decrypt": 1, "apply": 1}
    assert total(page, "jiemi_krapao_calls_total", outcome="ok") == 4
    assert total(page, "jiemi_krapao_reachable") == 1
    assert total(page, "jiemi_watch_open", resource="decryptors") == 1
    assert total(page, "jiemi_watch_open", resource="secrets") == 1


async def test_a_failure_is_counted_by_its_reason_and_what_happens_next_and_the_last_success_stays(
    world: World, autojump_clock: MockClock
) -> None:
    metrics = MiwenMetrics()
    world.add()
    async with miwen(world, metrics=metrics):
        await trio.sleep(10)
        success = total(shown(metrics), "jiemi_decryptor_last_success_timestamp_seconds")
        world.origin.fail = Failure("HostUnreachable", "the host is down")
        await trio.sleep(2 * INTERVAL)
        page = shown(metrics)
    assert total(page, "jiemi_reconcile_total", outcome="HostUnreachable", kind="transient") > 1
    assert total(page, "jiemi_decryptor_last_success_timestamp_seconds") == success
    assert total(page, "jiemi_decryptor_repository_seen_timestamp_seconds") == success
    assert total(page, "jiemi_decryptor_last_look_timestamp_seconds") > success
    [(labels, _)] = samples(page, "jiemi_decryptor_info")
    assert (labels["ready"], labels["reason"]) == ("False", "HostUnreachable")
    assert total(page, "jiemi_krapao_calls_total", method="head", outcome="HostUnreachable") > 1
    assert total(page, "jiemi_krapao_reachable") == 1, "Krapao answered, that the host is down"


@pytest.mark.parametrize("fault", [None, "KrapaoUnavailable", "KrapaoNotTrusted"])
async def test_one_that_waits_for_its_turn_again_shows_nothing_of_the_time_when_it_worked(
    world: World, autojump_clock: MockClock, fault: str | None
) -> None:
    # The alerts take the largest or the least of what the Miwens show, so a value that stays hides or makes a fault.
    metrics = MiwenMetrics()
    metrics.leading = lambda: False
    never = gauges(shown(metrics))
    metrics.leading = lambda: True
    world.add()
    world.add("other")
    async with miwen(world, metrics=metrics, decryptor_memory_bytes=240_000):
        metrics.krapaos = lambda: {"repository-0": 1, "repository-1": None}
        await trio.sleep(30)
        world.origin.fail = Failure(fault, "Krapao does not answer") if fault else None
        await trio.sleep(2 * INTERVAL)
        page = shown(metrics)
        assert total(page, "jiemi_krapao_reachable") == (fault is None)
        assert total(page, "jiemi_decryptors_turned_away") == 1
        assert samples(page, "jiemi_slots_used", slots="deployments")
    metrics.leading = lambda: False
    assert gauges(shown(metrics)) == never


def gauges(page: str) -> set[tuple[str, float]]:
    """All gauges of Jiemi's own, with their values."""
    return {
        (str(sample.labels) + sample.name, sample.value)
        for family in text_string_to_metric_families(page)
        if family.type == "gauge" and family.name.startswith("jiemi_") and family.name != "jiemi_loop_age_seconds"
        for sample in family.samples
    }


async def test_the_series_of_a_decryptor_vanish_with_it_and_those_of_a_kind_with_the_last_object(
    world: World, autojump_clock: MockClock
) -> None:
    metrics = MiwenMetrics()
    world.origin.commit({FILE: [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "app"}, "data": {}}]})
    world.add()
    async with miwen(world, metrics=metrics):
        await trio.sleep(10)
        page = shown(metrics)
        assert 'name="app"' in page
        assert samples(page, "jiemi_watch_open", resource="configmaps")
        world.delete()
        await trio.sleep(10)
        page = shown(metrics)
    assert 'name="app"' not in page
    assert not samples(page, "jiemi_watch_open", resource="configmaps")


@pytest.mark.parametrize("fault", [None, "HostUnreachable", "RefNotFound"])
async def test_decryptors_that_come_and_go_leave_no_more_series_the_more_there_were(
    world: World, autojump_clock: MockClock, fault: str | None
) -> None:
    metrics = MiwenMetrics()
    if fault is not None:
        world.origin.fail = Failure(fault, "it fails")
    left = []
    async with miwen(world, metrics=metrics):
        for number in range(60):
            name, namespace = f"d{number}", f"team-{number % 20}"
            world.kubernetes.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
            world.add(name, namespace, target={"name": name, "key": "file"})
            # Longer than the pause after a failure, so that what comes of the second look is there each time.
            await trio.sleep(4)
            page = shown(metrics)
            assert [value for _, value in samples(page, "jiemi_decryptor_ready")] == [fault is None]
            world.delete(name, namespace)
            await trio.sleep(3)
            page = shown(metrics)
            assert not [line for line in page.splitlines() if f'"{name}"' in line or f'"{namespace}"' in line]
            left.append(len(page.splitlines()))
    assert left[-1] == left[1]


async def test_a_watch_that_fails_is_closed_and_counted_by_its_reason(world: World, autojump_clock: MockClock) -> None:
    metrics = MiwenMetrics()
    world.kubernetes.deny("watch", "secrets")
    world.add()
    async with miwen(world, metrics=metrics):
        await trio.sleep(60)
        page = shown(metrics)
        assert total(page, "jiemi_watch_open", resource="secrets") == 0
        assert total(page, "jiemi_watch_failures_total", resource="secrets", reason="WatchForbidden") >= 2
        world.kubernetes.denied.clear()
        await trio.sleep(300)
        page = shown(metrics)
        assert total(page, "jiemi_watch_open", resource="secrets") == 1
        # The API server ends a watch after five minutes, and another is opened.
        before = total(page, "jiemi_watch_starts_total", resource="secrets")
        await trio.sleep(600)
        assert total(shown(metrics), "jiemi_watch_starts_total", resource="secrets") >= before + 1


async def test_the_watch_of_the_decryptors_lives_while_it_fails_and_is_tried_again_and_hangs_where_it_stands_still(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jiemi.metrics.health.time.monotonic", trio.current_time)
    monkeypatch.setattr("jiemi.metrics.health.Heart.__init__.__defaults__", (trio.current_time,))
    metrics = MiwenMetrics()

    def hung() -> list[str]:
        return [loop.name for loop in metrics.health.loops() if loop.hangs]

    async with miwen(world, metrics=metrics):
        await trio.sleep(3_600)
        assert hung() == [], "nothing happens, for an hour"
        down = JiemiError("ClusterUnavailable", "the API server does not answer")
        world.kubernetes.fail_next("watch_decryptors", *[down] * 1_000)
        world.cluster.end_watches()
        await trio.sleep(3_600)
        assert hung() == [], "the API server is down, for an hour"
        world.kubernetes._faults.clear()
        await trio.sleep(60)
        world.kubernetes.delays["watch_decryptors"] = 1e9  # no request may take as long
        world.cluster.end_watches()
        await trio.sleep(800)
        assert hung() == []
        await trio.sleep(200)
        assert hung() == ["decryptors"]


def test_what_somebody_else_wrote_into_a_status_becomes_no_label() -> None:
    forged = "canary-forged"
    status = attrs.evolve(
        blank("a.yaml"),
        conditions=(Condition("Ready", forged, forged, forged, "2026-11-24T00:00:00Z"),),
        last_attempted_revision=forged,
    )
    status = attrs.evolve(status, current=attrs.evolve(status.current, revision=forged))
    followed = Followed.of(status, 1, None, interval_seconds=180, times=Times())
    assert forged not in repr((followed.info, followed.deployed, followed.seen, followed.warnings))
    assert (followed.condition, followed.reason) == ("Unknown", "Progressing")


async def test_cancelled_calls_say_nothing_of_whether_krapao_is_reachable() -> None:
    metrics = MiwenMetrics()
    assert metrics.krapao_is_reachable is None
    assert "jiemi_krapao_reachable " not in shown(metrics)
    for outcome, reachable in (
        ("cancelled", None),
        ("KrapaoUnavailable", False),
        ("cancelled", False),
        ("KeyMissing", True),
        ("KrapaoAccessDenied", False),
        ("ok", True),
    ):
        metrics.call("render", outcome, 0.1)
        assert metrics.krapao_is_reachable is reachable, outcome
