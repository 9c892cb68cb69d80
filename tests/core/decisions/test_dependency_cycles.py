"""Circles are found by their members alone, the shortest first, however deep the graph is."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.decisions.dependency_cycles import describe_cycle, find_cycle
from jiemi.core.names import NamespacedName

Graph = Mapping[NamespacedName, Sequence[NamespacedName]]


def key(name: str) -> NamespacedName:
    return ("a", name)


def graph(**edges: str) -> Graph:
    """x="yz" says that x waits for y, then z."""
    return {key(name): [key(each) for each in others] for name, others in edges.items()}


def found(graph: Graph, start: str) -> str | None:
    cycle = find_cycle(key(start), lambda each: graph.get(each, ()))
    return None if cycle is None else "".join(name for _, name in cycle)


@pytest.mark.parametrize(
    ("edges", "start", "cycle"),
    [
        (graph(), "x", None),
        (graph(x="y"), "x", None),
        (graph(x="x"), "x", "xx"),
        (graph(x="y", y="x"), "x", "xyx"),
        (graph(x="y", y="x"), "y", "yxy"),
        (graph(x="y", y="z", z="x"), "y", "yzxy"),
        # what only leads to a circle is in none
        (graph(x="y", y="z", z="y"), "x", None),
        (graph(x="y", y="y"), "x", None),
        # a diamond is no circle
        (graph(x="yz", y="w", z="w"), "x", None),
        # the shortest, though another comes first
        (graph(x="yz", y="v", v="x", z="x"), "x", "xzx"),
        (graph(x="yx", y="x"), "x", "xx"),
        # of two as short, the one that comes first
        (graph(x="yz", y="x", z="x"), "x", "xyx"),
        (graph(x="zy", y="x", z="x"), "x", "xzx"),
        (graph(x="yy", y="zx", z="x"), "x", "xyx"),
    ],
)
def test_a_member_of_a_cycle_sees_the_shortest_and_others_see_none(edges: Graph, start: str, cycle: str | None) -> None:
    assert found(edges, start) == cycle


def test_names_are_distinguished_by_namespace() -> None:
    edges = {("a", "x"): [("b", "x")], ("b", "x"): [("a", "y")]}
    assert find_cycle(("a", "x"), lambda each: edges.get(each, ())) is None


def test_depth_is_no_limit_and_each_is_asked_once() -> None:
    last = 100_000
    asked: Counter[NamespacedName] = Counter()

    def depends_on(each: NamespacedName) -> list[NamespacedName]:
        asked[each] += 1
        number = int(each[1])
        return [key(str((number + 1) % (last + 1))), key(str(max(number - 1, 1)))]

    cycle = find_cycle(key("0"), depends_on)
    assert cycle is not None
    assert len(cycle) == last + 2
    assert set(asked.values()) == {1}


NODES = [key(name) for name in "uvwxyz"]
GRAPHS = st.dictionaries(st.sampled_from(NODES), st.lists(st.sampled_from(NODES), max_size=6))


def naive(graph: Graph, start: NamespacedName) -> tuple[NamespacedName, ...] | None:
    """All simple circles through the start, by length, each length in the order of the edges."""
    ways: list[tuple[NamespacedName, ...]] = [(start,)]
    for _ in NODES:
        ways = [(*way, other) for way in ways for other in dict.fromkeys(graph.get(way[-1], ()))]
        closed = [way for way in ways if way[-1] == start]
        if closed:
            return closed[0]
        ways = [way for way in ways if len(set(way)) == len(way)]
    return None


@given(GRAPHS, st.sampled_from(NODES))
def test_it_finds_what_trying_all_ways_finds(graph: Graph, start: NamespacedName) -> None:
    assert find_cycle(start, lambda each: graph.get(each, ())) == naive(graph, start)


@given(GRAPHS, st.sampled_from(NODES))
def test_a_cycle_is_seen_by_all_its_members(graph: Graph, start: NamespacedName) -> None:
    cycle = find_cycle(start, lambda each: graph.get(each, ()))
    if cycle is None:
        return
    assert cycle[0] == cycle[-1] == start
    for one, other in itertools.pairwise(cycle):
        assert other in graph[one]
        assert find_cycle(other, lambda each: graph.get(each, ())) is not None


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ("xx", "a/x -> a/x"),
        ("xyx", "a/x -> a/y -> a/x"),
        ("uvwxyzu", "a/u -> a/v -> a/w -> a/x -> a/y -> a/z -> a/u"),
        ("tuvwxyzt", "a/t -> a/u -> a/v -> a/w -> a/x -> a/y -> (1 more) -> a/t"),
    ],
)
def test_a_cycle_is_described_by_its_names(names: str, text: str) -> None:
    assert describe_cycle(tuple(key(name) for name in names)) == text


@given(st.lists(st.tuples(st.text(max_size=300), st.text(max_size=300)), max_size=40))
def test_the_text_of_a_cycle_is_bounded(cycle: list[NamespacedName]) -> None:
    assert len(describe_cycle(cycle)) <= 760


def test_a_name_is_cut_only_where_it_is_too_long() -> None:
    assert describe_cycle([("a", "x" * 98)]) == "a/" + "x" * 98
    assert describe_cycle([("a", "x" * 99)]) == "a/" + "x" * 97 + "…"


def test_the_longest_names_and_cycles_stay_within_the_bound() -> None:
    text = describe_cycle([("n" * 63, "x" * 253)] * 100_000)
    assert len(text) <= 760
    assert "(99993 more)" in text
