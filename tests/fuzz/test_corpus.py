"""What fuzzing kept is replayed: each input comes to an end that its target allows, and within its time."""

from __future__ import annotations

import random

import pytest
from fuzz.mutate import mutate
from fuzz.run import TooSlow, check, kept
from fuzz.target import Target
from fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_every_input_that_was_kept_comes_to_an_end_that_is_allowed(name: str) -> None:
    inputs = [*TARGETS[name].begin, *(path.read_bytes() for path in kept(name))]
    ends = {check(TARGETS[name], data) for data in inputs}
    assert len(ends) > 20


@pytest.mark.parametrize("name", TARGETS)
def test_what_a_seed_makes_is_the_same_each_time_and_of_a_bounded_size(name: str) -> None:
    target = TARGETS[name]

    def made() -> list[bytes]:
        generator, data = random.Random(7), target.begin[0]
        found = []
        for _ in range(500):
            data = mutate(generator, data, tokens=target.tokens, others=target.begin, max_bytes=target.max_bytes)
            found.append(data)
        return found

    first = made()
    assert first == made()
    assert len(set(first)) > 400
    assert max(map(len, first)) <= target.max_bytes


def test_an_input_that_takes_too_long_is_a_finding() -> None:
    def check_for_ever(data: bytes) -> str:
        while data:
            pass
        return ""

    with pytest.raises(TooSlow):
        check(Target(check_for_ever, (b"a",), (b"a",), max_seconds=0.05), b"a")
