"""Whether a process lives and is ready, by a clock of the test's."""

from __future__ import annotations

from jiemi.metrics.health import Health, Heart, Readiness


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_loop_hangs_once_it_has_stood_still_for_longer_than_its_limit_and_lives_again_when_it_moves_on() -> None:
    clock = Clock()
    heart, health = Heart(clock), Health()
    health.watch("loop", heart.age_seconds, limit_seconds=30)
    assert [(loop.name, loop.seconds, loop.hangs) for loop in health.loops()] == [("loop", 0, False)]
    clock.now += 30
    assert [loop.hangs for loop in health.loops()] == [False]
    clock.now += 0.1
    assert [loop.hangs for loop in health.loops()] == [True]
    heart.beat()
    assert [(loop.seconds, loop.hangs) for loop in health.loops()] == [(0, False)]


def test_a_process_is_ready_from_its_start_to_the_moment_that_it_is_asked_to_end_and_never_again() -> None:
    health = Health()
    seen = [health.readiness]
    # The last: it had just started when it was asked to end.
    for happens in (health.ready, health.stopping, health.ready):
        happens()
        seen.append(health.readiness)
    assert seen == [Readiness.STARTING, Readiness.READY, Readiness.STOPPING, Readiness.STOPPING]
