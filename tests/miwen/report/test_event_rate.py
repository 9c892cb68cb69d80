"""Which Events of one Decryptor are written, by seconds of any clock."""

from __future__ import annotations

from jiemi.miwen.report.event_rate import EventRate, Reserve, Verdict

WRITE, REPEAT, DROPPED = Verdict.WRITE, Verdict.REPEAT, Verdict.DROPPED


def used_up() -> EventRate:
    """A rate of which 25 Events were written at the beginning."""
    rate = EventRate(0.0)
    assert [rate.take(b"%d" % number, 0.0, transition=False) for number in range(25)] == [WRITE] * 25
    return rate


def test_the_same_each_tick_is_written_once_an_hour() -> None:
    rate = EventRate(0.0)
    ticks = [rate.take(b"failed", tick * 180.0, transition=False) for tick in range(21)]
    assert ticks == [WRITE] + [REPEAT] * 19 + [WRITE]


def test_two_things_that_last_are_each_written_once_though_they_take_turns() -> None:
    rate = EventRate(0.0)
    for tick in range(15):
        for key in (b"no answer", b"nonsense"):
            assert rate.take(key, tick * 180.0, transition=False) is (WRITE if tick == 0 else REPEAT)


def test_a_change_of_state_is_no_repeat() -> None:
    rate = EventRate(0.0)
    assert rate.take(b"failed", 0.0, transition=True) is WRITE
    assert rate.take(b"failed", 60.0, transition=False) is REPEAT
    assert rate.take(b"recovered", 120.0, transition=True) is WRITE
    assert rate.take(b"failed", 180.0, transition=True) is WRITE


def test_one_more_is_written_each_five_minutes() -> None:
    rate = used_up()
    assert rate.take(b"too early", 299.0, transition=False) is DROPPED
    assert rate.take(b"in time", 301.0, transition=False) is WRITE
    assert rate.take(b"too early again", 599.0, transition=False) is DROPPED
    assert rate.take(b"one more", 601.0, transition=False) is WRITE


def test_what_is_left_out_each_tick_counts_once_and_is_written_when_there_is_room() -> None:
    rate = used_up()
    assert rate.take(b"left out for good", 0.0, transition=False) is DROPPED
    verdicts = [rate.take(b"lasting", seconds, transition=False) for seconds in (0.0, 61.0, 122.0, 183.0, 244.0, 305.0)]
    assert verdicts == [DROPPED] + [REPEAT] * 4 + [WRITE]
    assert rate.take_left_out(b"lasting") == 1
    assert rate.take_left_out(b"lasting") == 0


def test_a_day_of_fighting_stays_within_the_rate() -> None:
    rate = EventRate(0.0)
    verdicts = [rate.take(b"%d" % minute, minute * 60.0, transition=True) for minute in range(24 * 60)]
    assert verdicts.count(WRITE) == 25 + 24 * 12 - 1
    assert verdicts.count(WRITE) + verdicts.count(DROPPED) == 24 * 60


def test_the_reserve_is_for_what_may_use_it_and_has_bounds_of_its_own() -> None:
    rate = used_up()
    assert rate.take(b"usual", 0.0, transition=False) is DROPPED
    assert rate.take(b"deleted", 0.0, transition=False, reserve=Reserve.ALL) is WRITE
    assert rate.take(b"failed", 0.0, transition=False, reserve=Reserve.NEW) is WRITE
    # What was written within the hour is no longer new; a deletion that comes again is reported again.
    assert rate.take(b"failed", 0.0, transition=True, reserve=Reserve.NEW) is DROPPED
    assert rate.take(b"deleted", 0.0, transition=True, reserve=Reserve.ALL) is WRITE
    gone = [rate.take(b"gone %d" % number, 0.0, transition=False, reserve=Reserve.ALL) for number in range(500)]
    assert gone == [WRITE] * 97 + [DROPPED] * 403
    assert rate.take(b"too early", 29.0, transition=False, reserve=Reserve.ALL) is DROPPED
    assert rate.take(b"one more", 31.0, transition=False, reserve=Reserve.ALL) is WRITE


def test_an_event_that_was_not_written_after_all_is_no_repeat_and_counts_with_what_it_would_have_counted() -> None:
    rate = EventRate(0.0)
    assert rate.take(b"refused", 0.0, transition=False) is WRITE
    assert rate.leave_out(b"refused", others=2)
    assert not rate.leave_out(b"refused")
    assert rate.take(b"taken", 1.0, transition=False) is WRITE
    assert rate.take_left_out(b"taken") == 3
    assert rate.take(b"refused", 2.0, transition=False) is WRITE


def test_beyond_a_hundred_different_ones_each_counts_though_it_is_a_repeat() -> None:
    rate = used_up()
    assert [rate.take(b"other %d" % number, 0.0, transition=False) for number in range(100)] == [DROPPED] * 100
    assert [rate.take(b"one too many", 0.0, transition=False) for _ in range(3)] == [DROPPED] * 3
    assert rate.take_left_out(b"in time") == 103
