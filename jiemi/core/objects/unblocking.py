"""Fields of others for which the API server refuses our object, and how they become ours so that they can go.

A field that git does not describe, and that a manager holds which only made the object before us (`take_over`), can be
what makes the API server refuse our object: a volume's `emptyDir` beside our `secret`. Then, and only there, it is made
ours, so that the next apply removes it.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import attrs

from jiemi.core.objects.field_sets import (
    MEMBER,
    Tree,
    is_element,
    is_ours,
    is_same_group,
    minus,
    others,
    our_fields,
    replaced,
    union,
)
from jiemi.core.objects.managed_fields import FIELD_MANAGER

_LEAST_STEPS = 2
"""Of a path that says where something is: "spec" says too little."""

_NEVER = ("f:metadata", "f:data", "f:binaryData", "f:stringData", "f:status")
"""Parts in which only what the API server names is in the way. What is too large with others' keys stays refused."""

_TOKEN = re.compile(r"\[([^\]]*)\]|([^.\[\]]+)")


@attrs.frozen(repr=False)
class RefusedFields:
    """What the API server says of the fields for which it refuses an object. It may hold values: not to be shown.

    Attributes:
        paths: the fields' paths in its words: "spec.template.spec.volumes[0].secret"; "" for the object as a whole.
        words: what its messages say, the values that they quote left out as far as they can be recognized.
        duplicates: those of the paths whose value another element of the list has as well.
    """

    paths: tuple[str, ...] = ()
    words: frozenset[str] = frozenset()
    duplicates: tuple[str, ...] = ()


@attrs.frozen
class Unblocking:
    """A way to make the API server take an object.

    Attributes:
        managed_fields: those in which what is in the way is ours, so that the next apply removes it.
        is_guess: whether the refusal names no field of others, so that it may be for another cause.
    """

    managed_fields: list[Any]
    is_guess: bool = False


def unblockings(
    metadata: Mapping[str, Any],
    managers: Collection[str],
    body: Mapping[str, Any],
    refused: RefusedFields,
    live: Mapping[str, Any] | None = None,
) -> list[Unblocking]:
    """What of these managers' fields may be why the API server refuses the object, where the object does not give it:

    - what they hold at the field that it names, or beside it in an element of a list; or the element that has the same
      value where it must have another (a Service's port of the same name);
    - what they hold near it under a name that its message mentions;
    - where it names no more than "spec": what they hold there.

    Args:
        body: the object.
        refused: what the API server says.
        live: the object as it is; of interest for duplicates alone.

    Returns:
        The ways to try, the most certain first.
    """
    paths = [path for path in map(_steps, refused.paths) if path[:1] not in (["f:metadata"], ["f:status"])]

    def at(path: Sequence[str | None], theirs: Tree, ours: Tree) -> Tree:
        return _found(theirs, ours, body, path) if len(path) >= _LEAST_STEPS else {}

    def mentioned(path: Sequence[str | None], theirs: Tree, ours: Tree) -> Tree:
        for length in range(len(path), min(len(path), 1) - 1, -1):
            if found := _mentioned(_found(theirs, ours, body, path[:length]), refused.words):
                return found
        return {}

    def below(path: Sequence[str | None], theirs: Tree, ours: Tree) -> Tree:
        return _found(theirs, ours, body, path) if len(path) < _LEAST_STEPS else {}

    def rivals(path: Sequence[str | None], theirs: Tree, ours: Tree) -> Tree:
        return _rivals(theirs, body, live, path) if live is not None else {}

    twice = [_steps(path) for path in refused.duplicates]
    finders = [functools.partial(at, path) for path in paths] + [functools.partial(rivals, path) for path in twice]
    ways: list[Unblocking] = []
    for found, never, is_guess in (
        (finders, (), False),
        ([functools.partial(mentioned, path) for path in paths], _NEVER, False),
        ([functools.partial(below, path) for path in paths], _NEVER, True),
    ):
        listed = _gained(metadata, managers, str(body.get("apiVersion")), found, never)
        if listed is not None and listed not in [each.managed_fields for each in ways]:
            ways.append(Unblocking(listed, is_guess))
    return ways


def _gained(
    metadata: Mapping[str, Any],
    managers: Collection[str],
    version: str,
    finders: Iterable[Callable[[Tree, Tree], Tree]],
    never: Collection[str],
) -> list[Any] | None:
    """managedFields in which what is found of these managers' fields is ours; None where that is nothing."""
    ours = our_fields(metadata)
    changed: dict[int, Tree] = {}
    gained: Tree = {}
    for entry in others(metadata):
        if entry["manager"] not in managers or not is_same_group(entry.get("apiVersion"), version):
            continue
        theirs = {name: inner for name, inner in entry["fieldsV1"].items() if name not in never}
        for find in finders:
            if found := find(theirs, ours):
                gained = union(gained, found)
                changed[id(entry)] = minus(changed.get(id(entry), entry["fieldsV1"]), found)
    if not gained:
        return None
    listed = replaced(metadata, changed)
    for number, entry in enumerate(listed):
        if isinstance(entry, Mapping) and is_ours(entry):
            listed[number] = {**entry, "fieldsV1": union(dict(entry["fieldsV1"]), gained)}
            return listed
    mine = {"manager": FIELD_MANAGER, "operation": "Apply", "apiVersion": version, "fieldsType": "FieldsV1"}
    return [*listed, {**mine, "fieldsV1": gained}]


def _steps(path: str) -> list[str | None]:
    """The parts of a path; none for the object as a whole, which is called "" or "<nil>"."""
    return [] if path == "<nil>" else [_step(token) for token in _TOKEN.finditer(path)]


def _step(token: re.Match[str]) -> str | None:
    """A part of a path: a field's name, or None for an element of a list."""
    inside, name = token[1], token[2]
    if inside is None:
        return f"f:{name}"
    return None if inside.isdecimal() else f"f:{inside}"


def _found(
    theirs: Mapping[str, Any], ours: Mapping[str, Any], body: Any, path: Sequence[str | None], *, inside: bool = False
) -> Tree:
    """What they hold at a path, and the object does not give.

    Args:
        body: what the object gives at this place; None where it gives nothing.
        inside: whether this is within an element of a list.
    """
    if not path:
        return _undescribed(theirs, body)
    step, *rest = path
    found: Tree = {}
    if step is None:
        for name, inner in theirs.items():
            if not is_element(name):
                continue
            element, held = _element_of(body, name), _mapping(ours.get(name))
            if element is not None or held:
                below = _found(inner, held, element, rest, inside=True) if element is not None else dict(inner)
                if below:
                    found[name] = below
        return found
    if step not in theirs:
        # The API server spells some by the names in its own code: spec.LoadBalancerSourceRanges.
        step = next((name for name in theirs if name.lower() == step.lower()), step)
    if step not in theirs:
        # What they hold beside it is what it can't be with; of an object as a whole that says too little.
        return _undescribed(theirs, body) if inside else {}
    inner = theirs[step]
    given = body.get(step.removeprefix("f:")) if isinstance(body, Mapping) else None
    below = _found(inner, _mapping(ours.get(step)), given, rest, inside=inside)
    if below or (not inner and not rest and given is None):
        found[step] = below
    return found


def _undescribed(theirs: Mapping[str, Any], body: Any) -> Tree:
    """Of their fields those that the object does not give."""
    if body is None:
        return dict(theirs)
    found: Tree = {}
    for name, inner in theirs.items():
        if name == MEMBER:
            continue
        given = _element_of(body, name) if is_element(name) else None
        if name.startswith("f:") and isinstance(body, Mapping):
            given = body.get(name.removeprefix("f:"))
        if given is None:
            found[name] = inner
        elif below := _undescribed(inner, given):
            found[name] = below
    return found


def _rivals(theirs: Mapping[str, Any], body: Any, live: Any, path: Sequence[str | None]) -> Tree:
    """Their elements of a list that have a value at a field which one that the object gives has too.

    Args:
        body, live: what the object gives at this place, and what is there.
        path: from here to the field of an element.
    """
    if not path:
        return {}
    step, *rest = path
    found: Tree = {}
    if step is not None:
        name = step.removeprefix("f:")
        below = _rivals(theirs.get(step, {}), _mapping(body).get(name), _mapping(live).get(name), rest)
        return {step: below} if below else {}
    field = (rest[0] or "").removeprefix("f:") if len(rest) == 1 else None
    values = [each[field] for each in body if isinstance(each, Mapping) and field in each] if _is_list(body) else []
    for name, inner in theirs.items():
        element = _element_of(body, name) if is_element(name) else None
        there = _element_of(live, name) if is_element(name) else None
        if element is not None and (below := _rivals(inner, element, there, rest)):
            found[name] = below
        elif element is None and field is not None and field in _mapping(there) and _mapping(there)[field] in values:
            found[name] = inner
    return found


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _mentioned(fields: Tree, words: Collection[str]) -> Tree:
    """Of some fields those that are mentioned by name."""
    found: Tree = {}
    for name, inner in fields.items():
        if name.removeprefix("f:") in words:
            found[name] = inner
        elif below := _mentioned(inner, words):
            found[name] = below
    return found


def _element_of(body: Any, name: str) -> Any:
    """The element of a list that has the keys, or is the value, of a path's part."""
    try:
        wanted = json.loads(name[2:])
    except ValueError:
        return None
    for each in body if isinstance(body, list) else ():
        if name.startswith("v:") and each == wanted:
            return each
        if isinstance(each, Mapping) and isinstance(wanted, Mapping):
            # A key that the object does not give has its default.
            given = {key: each[key] for key in wanted if key in each}
            if given and given == {key: wanted[key] for key in given}:
                return each
    return None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
