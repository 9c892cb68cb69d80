"""What a loop remembers, and that one module alone writes each of it.

mypy keeps everyone from setting what the memories give to read: they are properties, and read-only mappings. The
methods that write are found here by their names in the source, so each has a name that nothing else in Miwen has.
"""

from __future__ import annotations

import ast
import functools
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

import jiemi.miwen
from jiemi.core.api.decryptor_status import FileStatus
from jiemi.core.decisions.status import blank
from jiemi.core.errors import Failure
from jiemi.miwen.state.loop_state import (
    DriftMemory,
    FileMemory,
    LoopState,
    SecretVersions,
    WaitMemory,
    files_bytes,
)

ROOM = Path(jiemi.miwen.__path__[0])
HOME = "state/loop_state"

OWNERS = {
    FileMemory: "reconcile/file_changes",
    SecretVersions: "reconcile/credentials",
    DriftMemory: "reconcile/drift_correction",
    WaitMemory: "reconcile/waiting",
}

A, B = FileStatus("a.yaml", "1" * 40), FileStatus("b.yaml", "2" * 40)
FAILURE = Failure("MacMismatch", "the MAC does not match")


@functools.cache
def _nodes() -> dict[str, list[ast.Attribute | ast.Call]]:
    """What is called and which attributes are named, by module of Miwen."""
    return {
        path.relative_to(ROOM).with_suffix("").as_posix(): [
            each for each in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(each, ast.Attribute | ast.Call)
        ]
        for path in ROOM.rglob("*.py")
    }


def _writers(memory: type) -> Iterator[str]:
    """All that is public of a memory but what it gives to read."""
    for name, value in vars(memory).items():
        if not name.startswith("_") and not isinstance(value, property) and callable(value):
            yield name
    yield from (each.name for each in attrs.fields(memory) if not each.name.startswith("_"))


def _uses(names: set[str]) -> dict[str, set[str]]:
    """The modules that name each attribute, beside the memories' own."""
    found: dict[str, set[str]] = defaultdict(set)
    for module, nodes in _nodes().items():
        for node in nodes:
            if isinstance(node, ast.Attribute) and node.attr in names and module != HOME:
                found[node.attr].add(module)
    return found


def test_drift_correction_alone_says_which_objects_differ() -> None:
    assert _uses({"set_differing"}) == {"set_differing": {OWNERS[DriftMemory]}}


@pytest.mark.parametrize("memory", OWNERS)
def test_a_memory_is_written_by_its_owner_alone(memory: type) -> None:
    writers = set(_writers(memory))
    assert writers
    assert _uses(writers) == {each: {OWNERS[memory]} for each in writers}


def test_all_memories_have_an_owner_and_what_is_beside_them_has_one_too() -> None:
    defaults: dict[str, Any] = {each.name: each.default for each in attrs.fields(LoopState)}
    kinds = {name: default.factory for name, default in defaults.items() if hasattr(default, "factory")}
    assert set(kinds.values()) == set(OWNERS)
    beside = {each.name for each in attrs.fields(LoopState)} - set(kinds)
    setters: dict[str, set[str]] = defaultdict(set)
    for module, nodes in _nodes().items():
        for node in nodes:
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr in beside:
                setters[node.attr].add(module)
    assert setters == {
        "head_revision": {"reconcile/repository_access"},
        "watching": {"reconcile/watched_kinds"},
        "is_pushed": {"reconcile/repository_access"},
        "is_compared": {"controller/loop"},
    }


def test_only_core_makes_a_status_from_another() -> None:
    found = [
        f"{module}:{node.lineno}"
        for module, nodes in _nodes().items()
        for node in nodes
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "attrs.evolve"
        and ast.unparse(node.args[0]).rpartition(".")[2] in ("status", "known", "before")
    ]
    assert found == []


def test_only_the_draft_changes_the_status_of_a_tick() -> None:
    stored = {
        (module, node.attr)
        for module, nodes in _nodes().items()
        for node in nodes
        if module.startswith("reconcile/") and isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        if node.attr in ("status", "_status", "draft")
    }
    assert stored == {("reconcile/status_draft", "_status")}


def test_files_that_failed_are_remembered_until_they_are_others_or_something_changed() -> None:
    memory = FileMemory()
    memory.add_failed({A: FAILURE})
    memory.add_failed({B: FAILURE})
    assert memory.failed == {A: FAILURE, B: FAILURE}
    memory.keep_failed_of([B])
    assert memory.failed == {B: FAILURE}
    memory.try_failed_again()
    assert memory.failed == {}


def test_what_can_be_asked_for_again_is_forgotten_and_the_size_is_not() -> None:
    memory = FileMemory()
    memory.keep_listed("r1", 1, (A,), direct=True)
    memory.keep_planned(1, (A, B))
    memory.add_failed({A: FAILURE})
    memory.keep_left_out(("Chart.yaml",))
    memory.set_large(True)
    memory.forget_files()
    assert (memory.listed, memory.planned, memory.failed) == (None, None, {})
    assert (memory.left_out, memory.is_large) == (("Chart.yaml",), True)


def test_files_that_the_status_has_too_are_held_once() -> None:
    memory = FileMemory()
    memory.keep_listed("r1", 1, (attrs.evolve(A),), direct=True)
    assert memory.count_bytes(blank("a.yaml")) == files_bytes([A])
    deployed = attrs.evolve(blank("a.yaml"), files=(A,))
    assert memory.count_bytes(deployed) == 0
    assert memory.listed is not None
    assert memory.listed[2] is deployed.files


def test_a_wait_goes_on_from_where_it_began_until_all_is_ready_or_other_objects_are_applied() -> None:
    memory = WaitMemory()
    assert (memory.begin_waiting(5.0), memory.begin_waiting(7.0)) == (5.0, 5.0)
    memory.found_ready(8.0)
    assert (memory.waiting_since, memory.ready_at) == (None, 8.0)
    assert memory.begin_waiting(9.0) == 9.0
    memory.forget_waiting()
    assert (memory.waiting_since, memory.ready_at) == (None, None)


def test_a_secret_is_known_as_it_was_read_last() -> None:
    memory = SecretVersions({"token": "1"})
    memory.was_read("token", "2")
    memory.was_watched("key")
    assert (memory.read, memory.watched) == ({"token": "2"}, {"key"})
