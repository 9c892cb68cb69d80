"""A Lease that somebody deletes or edits by hand: no two Miwens write, and no longer than a minute nobody works."""

from __future__ import annotations

from typing import Any

import pytest
import structlog
import trio
from miwen.test_elector import PLACE, Scene, play
from trio.testing import MockClock

from jiemi.miwen.leadership.lease import LeaseRecord

KEY = ("coordination.k8s.io/v1", "Lease", *PLACE)


@pytest.mark.parametrize(
    "spec",
    [
        None,
        {},
        {"holderIdentity": "", "leaseDurationSeconds": 5, "renewTime": "2026-01-01T00:00:00.000000Z"},
        {"holderIdentity": None, "leaseTransitions": 3},
    ],
    ids=["deleted", "emptied", "holder removed", "odd"],
)
async def test_a_lease_that_somebody_deletes_or_empties_is_made_again_by_who_held_it_and_the_work_goes_on(
    autojump_clock: MockClock, spec: dict[str, Any] | None
) -> None:
    async def body(scene: Scene) -> None:
        scene.start("a")
        await trio.sleep(1)
        scene.start("b")
        scene.start("c")
        await trio.sleep(5)
        for _ in range(5):
            if spec is None:
                scene.kubernetes.cluster.delete("Lease", *PLACE, api_version=KEY[0])
            else:
                scene.kubernetes.cluster.put({**scene.kubernetes.cluster.objects[KEY], "spec": spec})
            await trio.sleep(3.3)
            assert LeaseRecord.read(scene.kubernetes.cluster.objects[KEY]).holder == "a"
        assert [what for _, what in scene.history] == ["+a"]

    with structlog.testing.capture_logs() as logs:
        await play(body)
    said = "somebody deleted it" if spec is None else "somebody removed its holder"
    assert [line["why"] for line in logs if line["event"] == "lease_made_again"] == [said] * 5


@pytest.mark.parametrize("deleted", [True, False], ids=["deleted", "emptied"])
async def test_a_lease_that_is_gone_is_not_taken_while_its_holder_that_hears_nothing_may_still_write(
    autojump_clock: MockClock, *, deleted: bool
) -> None:
    async def body(scene: Scene) -> None:
        first = scene.start("a")
        await trio.sleep(1)
        scene.start("b")
        await trio.sleep(5)
        first.leases.away = True
        if deleted:
            scene.kubernetes.cluster.delete("Lease", *PLACE, api_version=KEY[0])
        else:
            scene.kubernetes.cluster.put({**scene.kubernetes.cluster.objects[KEY], "spec": {}})
        await trio.sleep(7)
        assert scene.active == ["b"]

    await play(body)


async def test_who_starts_when_the_lease_was_just_deleted_does_not_take_it(autojump_clock: MockClock) -> None:
    async def body(scene: Scene) -> None:
        scene.start("a")
        await trio.sleep(6)
        for number in range(5):
            scene.kubernetes.cluster.delete("Lease", *PLACE, api_version=KEY[0])
            await trio.sleep(0.2 * number)
            scene.start(f"b{number}")
            await trio.sleep(7)
        assert [what for _, what in scene.history] == ["+a"]

    await play(body)


async def test_who_starts_when_the_lease_was_just_deleted_waits_for_a_holder_that_hears_nothing(
    autojump_clock: MockClock,
) -> None:
    async def body(scene: Scene) -> None:
        first = scene.start("a")
        await trio.sleep(6)
        first.leases.away = True
        scene.kubernetes.cluster.delete("Lease", *PLACE, api_version=KEY[0])
        scene.start("b")
        await trio.sleep(7)
        assert scene.active == ["b"]

    await play(body)


@pytest.mark.parametrize("seconds", [1, 5, 3_600, 2**31 - 1])
async def test_a_lease_in_which_somebody_wrote_a_stranger_is_taken_within_a_minute_whatever_it_says(
    autojump_clock: MockClock, seconds: int
) -> None:
    async def body(scene: Scene) -> None:
        scene.start("a")
        await trio.sleep(1)
        scene.start("b")
        await trio.sleep(5)
        edited = LeaseRecord("nobody-knows", seconds, "2099-01-01T00:00:00.000000Z", "2099-01-01T00:00:00.000000Z", 7)
        scene.kubernetes.cluster.put({**scene.kubernetes.cluster.objects[KEY], "spec": edited.spec()})
        began = trio.current_time()
        await trio.sleep(62)
        assert len(scene.active) == 1
        taken = scene.history[-1][0] - began
        assert 5 <= taken <= (62 if seconds > 5 else 6)

    with structlog.testing.capture_logs() as logs:
        await play(body)
    assert "nobody-knows has it" in [line["why"] for line in logs if line["event"] == "lease_lost"]
