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
    Fights,
)

KEY = ObjectKey("", "Secret", "default", "app")
OTHER = ObjectKey("", "Secret", "default", "other")


def correct(fights: Fights, key: ObjectKey = KEY) -> bool:
    """What a tick does with an object that differs."""
    may = fights.may_correct(key)
    if may:
        fights.corrected(key)
    return may


def fight(fights: Fights, key: ObjectKey = KEY) -> float:
    """Correct until a pause begins. Returns how long it is, in seconds."""
    for _ in range(CORRECTIONS + 1):
        if not correct(fights, key):
            pause = fights.pause_seconds(key)
            assert pause is not None
            return pause
    raise AssertionError("no pause began")


async def test_an_object_is_corrected_three_times_in_a_minute_and_then_left_alone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    fights = Fights()
    assert [correct(fights) for _ in range(CORRECTIONS)] == [True] * 3
    assert fights.pause_seconds(KEY) is None
    assert not correct(fights)
    assert fights.pause_seconds(KEY) == FIRST_PAUSE_SECONDS == 60


async def test_asking_alone_is_no_correction(autojump_clock: trio.testing.MockClock) -> None:
    fights = Fights()
    assert all(fights.may_correct(KEY) for _ in range(10))
    assert fights.pause_seconds(KEY) is None


async def test_corrections_that_are_far_apart_are_no_fight(autojump_clock: trio.testing.MockClock) -> None:
    fights = Fights()
    for _ in range(20):
        assert correct(fights)
        await trio.sleep(WINDOW_SECONDS / CORRECTIONS)


async def test_corrections_just_too_close_are_a_fight(autojump_clock: trio.testing.MockClock) -> None:
    fights = Fights()
    for _ in range(CORRECTIONS):
        assert correct(fights)
        await trio.sleep(WINDOW_SECONDS / CORRECTIONS - 0.1)
    assert not correct(fights)


async def test_a_pause_lasts_to_its_end_however_often_it_is_asked(autojump_clock: trio.testing.MockClock) -> None:
    fights = Fights()
    fight(fights)
    for passed in range(0, 60, 10):
        assert not correct(fights)
        assert fights.pause_seconds(KEY) == 60 - passed
        await trio.sleep(10)
    assert fights.pause_seconds(KEY) is None
    assert correct(fights)


async def test_after_a_pause_one_correction_tells_whether_the_other_is_still_at_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    fights = Fights()
    await trio.sleep(fight(fights))
    assert correct(fights)
    await trio.sleep(1)
    assert not correct(fights)
    assert fights.pause_seconds(KEY) == 2 * FIRST_PAUSE_SECONDS


async def test_pauses_double_up_to_a_quarter_of_an_hour(autojump_clock: trio.testing.MockClock) -> None:
    fights = Fights()
    pauses = []
    for _ in range(14):
        pauses.append(fight(fights))
        await trio.sleep(pauses[-1])
    assert pauses[:5] == [60, 120, 240, 480, 900]
    assert set(pauses[5:]) == {MAX_PAUSE_SECONDS} == {900}


async def test_a_fight_that_rested_an_hour_is_forgotten(autojump_clock: trio.testing.MockClock) -> None:
    fights = Fights()
    await trio.sleep(fight(fights) + FORGET_SECONDS)
    assert [correct(fights) for _ in range(CORRECTIONS)] == [True] * 3
    assert not correct(fights)
    assert fights.pause_seconds(KEY) == FIRST_PAUSE_SECONDS


async def test_a_fight_that_rested_less_is_not(autojump_clock: trio.testing.MockClock) -> None:
    fights = Fights()
    await trio.sleep(fight(fights) + FORGET_SECONDS - 1)
    assert correct(fights)
    assert not correct(fights)
    assert fights.pause_seconds(KEY) == 2 * FIRST_PAUSE_SECONDS


async def test_objects_fight_apart(autojump_clock: trio.testing.MockClock) -> None:
    fights = Fights()
    fight(fights)
    assert fights.pause_seconds(OTHER) is None
    assert [correct(fights, OTHER) for _ in range(CORRECTIONS)] == [True] * 3


async def test_an_object_that_left_is_forgotten_and_the_others_are_not(autojump_clock: trio.testing.MockClock) -> None:
    fights = Fights()
    fight(fights)
    fight(fights, OTHER)
    fights.keep_only({OTHER})
    assert fights.pause_seconds(KEY) is None
    assert fights.pause_seconds(OTHER) == FIRST_PAUSE_SECONDS
    assert [correct(fights) for _ in range(CORRECTIONS)] == [True] * 3
    fights.keep_only(set())
    assert correct(fights, OTHER)
    assert correct(fights)
