"""Which server a thing belongs to."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.rendezvous import ranking

NAMES = st.lists(st.from_regex(r"[a-z][a-z0-9-]{0,12}", fullmatch=True), min_size=1, max_size=8, unique=True)


def pods(count: int) -> list[str]:
    return [f"repository-{number}" for number in range(count)]


@given(st.text(), NAMES, st.randoms())
def test_the_ranking_has_each_server_once_in_whatever_order_they_are_given(
    key: str, names: list[str], random: object
) -> None:
    shuffled = list(names)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert ranking(key, shuffled) == ranking(key, names)
    assert sorted(ranking(key, names)) == sorted(names)


@given(st.text(), NAMES)
def test_a_server_that_goes_changes_no_order_among_the_others(key: str, names: list[str]) -> None:
    for gone in names:
        rest = [name for name in names if name != gone]
        assert ranking(key, rest) == [name for name in ranking(key, names) if name != gone]


def test_things_are_spread_evenly() -> None:
    counts = Counter(ranking(f"https://git.example/r{number}", pods(3))[0] for number in range(3_000))
    assert all(900 <= counts[name] <= 1_100 for name in pods(3)), counts


def test_what_a_lost_server_had_is_spread_over_all_others() -> None:
    lost = [order[1] for number in range(4_000) if (order := ranking(f"r{number}", pods(4)))[0] == "repository-0"]
    counts = Counter(lost)
    assert set(counts) == set(pods(4)[1:])
    assert all(each > len(lost) / 4 for each in counts.values()), counts


def test_a_fourth_server_takes_a_quarter_and_nothing_moves_between_the_others() -> None:
    before = {number: ranking(f"r{number}", pods(3))[0] for number in range(4_000)}
    after = {number: ranking(f"r{number}", pods(4))[0] for number in range(4_000)}
    moved = [number for number in before if before[number] != after[number]]
    assert {after[number] for number in moved} == {"repository-3"}
    assert 900 <= len(moved) <= 1_100


def test_the_order_is_the_same_in_every_release() -> None:
    """Written down once: another order would have each repository fetched again somewhere else after an upgrade."""
    order = ["repository-0", "repository-3", "repository-1", "repository-2"]
    assert ranking("https://git.example/team/other", pods(4)) == order
