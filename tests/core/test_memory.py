"""Memory is granted by namespace: none can take what the others need."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.memory import MemoryBudget, held_bytes

_TAKES = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.integers(0, 9), st.integers(0, 500), st.booleans()), max_size=60
)


def test_a_namespace_gets_at_most_its_share() -> None:
    budget = MemoryBudget(900)
    assert budget.take("a", 1, 300)
    assert not budget.take("a", 2, 1)
    assert budget.take("b", 3, 300)


def test_a_larger_request_replaces_the_one_before() -> None:
    budget = MemoryBudget(900)
    assert budget.take("a", 1, 300)
    assert budget.take("a", 1, 200)
    assert budget.used_bytes("a") == 200
    assert not budget.take("a", 1, 301)
    assert budget.used_bytes("a") == 0, "what is refused has nothing"


def test_a_namespace_gets_its_guarantee_even_if_everything_is_taken() -> None:
    budget = MemoryBudget(900)
    for namespace in "abc":
        assert budget.take(namespace, namespace, 300)
    assert not budget.take("d", "large", 300)
    assert budget.take("d", "small", 900 // 2 // 4)


def test_a_request_that_does_not_grow_stays_granted_whoever_came_meanwhile() -> None:
    budget = MemoryBudget(900)
    for namespace in "abc":
        assert budget.take(namespace, namespace, 300)
    for namespace in "defg":
        assert budget.take(namespace, namespace, budget.guarantee_bytes(namespace)), "beyond the total"
    assert budget.used_bytes() > 900
    assert budget.take("a", "a", 300)
    assert budget.take("a", "a", 299)
    assert not budget.take("a", "a", 300), "it is larger again"


def test_bytes_that_are_given_back_are_available_to_others() -> None:
    budget = MemoryBudget(900)
    budget.take("a", 1, 300)
    assert budget.give_back(1)
    assert not budget.give_back(1)
    assert budget.take("a", 2, 300)


@given(_TAKES)
def test_no_namespace_exceeds_its_share_and_all_together_exceed_the_total_by_half_at_most(takes: list[Any]) -> None:
    budget = MemoryBudget(900)
    held: dict[Any, int] = {}
    for namespace, number, size, is_given_back in takes:
        what = namespace, number
        held.pop(what, None)
        if is_given_back:
            budget.give_back(what)
        elif budget.take(namespace, what, size):
            held[what] = size
        assert budget.used_bytes() == sum(held.values())
        assert budget.used_bytes() <= 1.5 * budget.total_bytes
        for each in "abcdef":
            used = sum(size for (of, _), size in held.items() if of == each)
            assert budget.used_bytes(each) == used <= budget.share_bytes


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=4), inner, max_size=8),
    max_leaves=60,
)


def _shallow(value: Any) -> int:
    size = sys.getsizeof(value)
    if isinstance(value, dict):
        return size + sum(map(_shallow, value.values()))
    return size + sum(map(_shallow, value)) if isinstance(value, list) else size


@given(_JSON)
def test_the_size_of_a_value_is_not_underestimated_by_much(value: Any) -> None:
    assert held_bytes(value) >= _shallow(json.loads(json.dumps(value))) / 4


@pytest.mark.parametrize("value", ["x" * 1_000_000, ["ab"] * 100_000, "x" * 500_000 + "\U0001f511"])
def test_long_texts_wide_characters_and_many_small_ones_count(value: Any) -> None:
    assert held_bytes(value) >= 1_000_000
