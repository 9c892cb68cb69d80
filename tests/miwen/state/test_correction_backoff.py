"""Who corrects an object again and again is noticed, and rests; at exact times of the virtual clock."""

from __future__ import annotations

import trio.testing

from jiemi.core.objects.identity import ObjectKey
from jiemi.miwen.state.correction_backoff import (
    CORRECTIONS,
    FIRST_PAUSE_SECONDS,
    FORGET_SECONDS,
    MAX_PAUSE_SECONDS,
    WINDOW_SECONDS,
    CorrectionBackoff,
)

KEY = ObjectKey("", "Secret", "default", "app")
OTHER = ObjectKey("", "Secret", "default", "other")


def correct(backoff: CorrectionBackoff, key: ObjectKey = KEY) -> bool:
    """What a tick does with an object that differs."""
    may = backoff.may_correct(key)
    if may:
        backoff.corrected(key)
    return may


def fight(backoff: CorrectionBackoff, key: ObjectKey = KEY) -> float:
    """Correct until a pause begins. Returns how long it is, in seconds."""
    for _ in range(CORRECTIONS + 1):
        if not correct(backoff, key):
            pause = backoff.pause_seconds(key)
            assert pause is not None
            return pause
    raise AssertionError("no pause began")


async def test_an_object_is_corrected_three_times_in_a_minute_and_then_left_alone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    backoff = CorrectionBackoff()
    assert [correct(backoff) for _ in range(CORRECTIONS)] == [True] * 3
    assert backoff.pause_seconds(KEY) is None
    assert not correct(backoff)
    assert backoff.pause_seconds(KEY) == FIRST_PAUSE_SECONDS == 60


async def test_asking_alone_is_no_correction(autojump_clock: trio.testing.MockClock) -> None:
    backoff = CorrectionBackoff()
    assert all(backoff.may_correct(KEY) for _ in range(10))
    assert backoff.pause_seconds(KEY) is None


async def test_corrections_that_are_far_apart_are_no_fight(autojump_clock: trio.testing.MockClock) -> None:
    backoff = CorrectionBackoff()
    for _ in range(20):
        assert correct(backoff)
        await trio.sleep(WINDOW_SECONDS / CORRECTIONS)


async def test_corrections_just_too_close_are_a_fight(autojump_clock: trio.testing.MockClock) -> None:
    backoff = CorrectionBackoff()
    for _ in range(CORRECTIONS):
        assert correct(backoff)
        await trio.sleep(WINDOW_SECONDS / CORRECTIONS - 0.1)
    assert not correct(backoff)


async def test_a_pause_lasts_to_its_end_however_often_it_is_asked(autojump_clock: trio.testing.MockClock) -> None:
    backoff = CorrectionBackoff()
    fight(backoff)
    for passed in range(0, 60, 10):
        assert not correct(backoff)
        assert backoff.pause_seconds(KEY) == 60 - passed
        await trio.sleep(10)
    assert backoff.pause_seconds(KEY) is None
    assert correct(backoff)


async def test_after_a_pause_one_correction_shows_whether_the_other_still_changes_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    backoff = CorrectionBackoff()
    await trio.sleep(fight(backoff))
    assert correct(backoff)
    await trio.sleep(1)
    assert not correct(backoff)
    assert backoff.pause_seconds(KEY) == 2 * FIRST_PAUSE_SECONDS


async def test_pauses_double_up_to_a_quarter_of_an_hour(autojump_clock: trio.testing.MockClock) -> None:
    backoff = CorrectionBackoff()
    pauses = []
    for _ in range(14):
        pauses.append(fight(backoff))
        await trio.sleep(pauses[-1])
    assert pauses[:5] == [60, 120, 240, 480, 900]
    assert set(pauses[5:]) == {MAX_PAUSE_SECONDS} == {900}


async def test_a_fight_that_rested_an_hour_is_forgotten(autojump_clock: trio.testing.MockClock) -> None:
    backoff = CorrectionBackoff()
    await trio.sleep(fight(backoff) + FORGET_SECONDS)
    assert [correct(backoff) for _ in range(CORRECTIONS)] == [True] * 3
    assert not correct(backoff)
    assert backoff.pause_seconds(KEY) == FIRST_PAUSE_SECONDS


async def test_a_fight_that_rested_less_is_not(autojump_clock: trio.testing.MockClock) -> None:
    backoff = CorrectionBackoff()
    await trio.sleep(fight(backoff) + FORGET_SECONDS - 1)
    assert correct(backoff)
    assert not correct(backoff)
    assert backoff.pause_seconds(KEY) == 2 * FIRST_PAUSE_SECONDS


async def test_objects_fight_apart(autojump_clock: trio.testing.MockClock) -> None:
    backoff = CorrectionBackoff()
    fight(backoff)
    assert backoff.pause_seconds(OTHER) is None
    assert [correct(backoff, OTHER) for _ in range(CORRECTIONS)] == [True] * 3


async def test_an_object_that_left_is_forgotten_and_the_others_are_not(autojump_clock: trio.testing.MockClock) -> None:
    backoff = CorrectionBackoff()
    fight(backoff)
    fight(backoff, OTHER)
    backoff.keep_only({OTHER})
    assert backoff.pause_seconds(KEY) is None
    assert backoff.pause_seconds(OTHER) == FIRST_PAUSE_SECONDS
    assert [correct(backoff) for _ in range(CORRECTIONS)] == [True] * 3
    backoff.keep_only(set())
    assert correct(backoff, OTHER)
    assert correct(backoff)
