"""Who else holds the fields of an object that we apply, among the managers that only made it before us.

A field that two managers applied with the same value is both's, and the API server removes it only once neither has it.
So what leaves git would stay where kubectl, helm or another tool made the object first. Of the entries of such managers
(`metadata.managedFields`, https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management) we take
away the fields that we apply too; what they hold beside them stays theirs, and in the object. (kubectl and Flux take
over the whole entry, which removes what git does not describe.)

In an element of a list that we apply (a container, a port) they lose the plain fields as well that we do not give:
these are mostly defaults, they stay in the object, and would keep a rump of the element there once we drop it.

A field of theirs that git does not describe can be what makes the API server refuse our object: a volume's `emptyDir`
beside our `secret`. Then, and only there, it is made ours, so that the next apply removes it.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from jiemi.core.objects.identity import group_of
from jiemi.core.objects.managed_fields import FIELD_MANAGER

Tree = dict[str, Any]

DECLARATIVE_MANAGERS = (
    "kubectl",
    "kubectl-client-side-apply",
    "kubectl-create",
    "kubectl-replace",
    "kubectl-run",
    "kubectl-expose",
    "kubectl-autoscale",
    "kubectl-edit",
    "kubectl-patch",
    "kubectl-set",
    "kubectl-rollout",
    "kubectl-label",
    "kubectl-annotate",
    "before-first-apply",
    "helm",
    "Helm",
    "kustomize-controller",
    "helm-controller",
    "flux",
    "flux-client-side-apply",
    "argocd-controller",
    "argocd-application-controller",
    "argocd",
    "OpenAPI-Generator",
)
"""Managers that make objects as somebody wants them to be: kubectl's ways to make and to change one (as for Flux, which
takes over whatever begins with kubectl), what was there before managers were kept, helm, Flux, Argo CD, and Jiemi's
first version (by the Python client's name). None of them is a controller that goes on to own a field, as an autoscaler
does; what kubectl scales is told under the subresource `scale`, and left."""

_MEMBER = "."
_LEAST_STEPS = 2
"""Of a path that says where something is: "spec" says too little."""

_NEVER = ("f:metadata", "f:data", "f:binaryData", "f:stringData", "f:status")
"""Parts in which only what the API server names is in the way. What is too large with others' keys stays refused."""

_TOKEN = re.compile(r"\[([^\]]*)\]|([^.\[\]]+)")


def sharers(metadata: Mapping[str, Any]) -> frozenset[str]:
    """The managers that hold a field that we apply too."""
    ours = _our_fields(metadata)
    return frozenset(
        str(entry["manager"])
        for entry in _others(metadata)
        if ours and _without(entry["fieldsV1"], ours) != entry["fieldsV1"]
    )


def alone(metadata: Mapping[str, Any], managers: Collection[str]) -> list[Any] | None:
    """managedFields in which none of these managers shares a field with us; None where none does."""
    ours, version = _our_fields(metadata), _our_version(metadata)
    if not ours:
        return None
    taken = [
        entry
        for entry in _others(metadata)
        if entry["manager"] in managers and _is_same_group(entry.get("apiVersion"), version)
    ]
    changed = {id(entry): left for entry in taken if (left := _without(entry["fieldsV1"], ours)) != entry["fieldsV1"]}
    return _replaced(metadata, changed) if changed else None


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
    refused: Iterable[str],
    words: Collection[str] = (),
    duplicates: Collection[str] = (),
    live: Mapping[str, Any] | None = None,
) -> list[Unblocking]:
    """What of these managers' fields may be why the API server refuses the object, where the object does not give it:

    - what they hold at the field that it names, or beside it in an element of a list; or the element that has the same
      value where it must have another (a Service's port of the same name);
    - what they hold near it under a name that its message mentions;
    - where it names no more than "spec": what they hold there.

    Args:
        body: the object.
        refused: paths of fields, as the API server names them: "spec.template.spec.volumes[0].secret".
        words: what its messages say.
        duplicates: of the paths, those of a value that another element of the list has.
        live: the object as it is; of interest for these alone.

    Returns:
        The ways to try, the most certain first.
    """
    paths = [path for path in map(_steps, refused) if path[:1] not in (["f:metadata"], ["f:status"])]

    def at(path: Sequence[str | None], theirs: Tree, ours: Tree) -> Tree:
        return _found(theirs, ours, body, path) if len(path) >= _LEAST_STEPS else {}

    def mentioned(path: Sequence[str | None], theirs: Tree, ours: Tree) -> Tree:
        for length in range(len(path), min(len(path), 1) - 1, -1):
            if found := _mentioned(_found(theirs, ours, body, path[:length]), words):
                return found
        return {}

    def below(path: Sequence[str | None], theirs: Tree, ours: Tree) -> Tree:
        return _found(theirs, ours, body, path) if len(path) < _LEAST_STEPS else {}

    def rivals(path: Sequence[str | None], theirs: Tree, ours: Tree) -> Tree:
        return _rivals(theirs, body, live, path) if live is not None else {}

    twice = [_steps(path) for path in duplicates]
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
    ours = _our_fields(metadata)
    changed: dict[int, Tree] = {}
    gained: Tree = {}
    for entry in _others(metadata):
        if entry["manager"] not in managers or not _is_same_group(entry.get("apiVersion"), version):
            continue
        theirs = {name: inner for name, inner in entry["fieldsV1"].items() if name not in never}
        for find in finders:
            if found := find(theirs, ours):
                gained = _union(gained, found)
                changed[id(entry)] = _minus(changed.get(id(entry), entry["fieldsV1"]), found)
    if not gained:
        return None
    listed = _replaced(metadata, changed)
    for number, entry in enumerate(listed):
        if isinstance(entry, Mapping) and _is_ours(entry):
            listed[number] = {**entry, "fieldsV1": _union(dict(entry["fieldsV1"]), gained)}
            return listed
    mine = {"manager": FIELD_MANAGER, "operation": "Apply", "apiVersion": version, "fieldsType": "FieldsV1"}
    return [*listed, {**mine, "fieldsV1": gained}]


def _our_fields(metadata: Mapping[str, Any]) -> Tree:
    return next((dict(entry["fieldsV1"]) for entry in _entries(metadata) if _is_ours(entry)), {})


def _our_version(metadata: Mapping[str, Any]) -> Any:
    return next((entry.get("apiVersion") for entry in _entries(metadata) if _is_ours(entry)), None)


def _is_same_group(version: Any, ours: Any) -> bool:
    """Whether two apiVersions are of one API group. Its versions mostly name their fields alike; where they do not,
    what is ours has another name in the other's entry, and that entry keeps it."""
    return isinstance(version, str) and isinstance(ours, str) and group_of(version) == group_of(ours)


def _is_ours(entry: Mapping[str, Any]) -> bool:
    return (entry.get("manager"), entry.get("operation"), entry.get("subresource") or "") == (
        FIELD_MANAGER,
        "Apply",
        "",
    )


def _entries(metadata: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    found = metadata.get("managedFields")
    for entry in found if isinstance(found, list) else ():
        if isinstance(entry, Mapping) and isinstance(entry.get("fieldsV1"), Mapping):
            yield entry


def _others(metadata: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for entry in _entries(metadata):
        if not _is_ours(entry) and not entry.get("subresource") and isinstance(entry.get("manager"), str):
            yield entry


def _replaced(metadata: Mapping[str, Any], changed: Mapping[int, Tree]) -> list[Any]:
    """managedFields with other fields in some entries; those that hold nothing are left out."""
    listed = []
    for entry in metadata["managedFields"]:
        if id(entry) not in changed:
            listed.append(entry)
        elif changed[id(entry)]:
            listed.append({**entry, "fieldsV1": changed[id(entry)]})
    return listed


def _is_element(name: str) -> bool:
    """Whether a path's part is an element of a list: k: by its keys, v: by its value."""
    return name.startswith(("k:", "v:"))


def _without(theirs: Mapping[str, Any], ours: Mapping[str, Any], *, is_ours: bool = False) -> Tree:
    """Their fields without ours.

    Args:
        is_ours: whether these are the fields of a list's element that is ours.
    """
    left: Tree = {}
    for name, inner in theirs.items():
        held = ours.get(name)
        if name == _MEMBER:
            if held is None and not is_ours:
                left[name] = inner
        elif is_ours and not _is_element(name) and not isinstance(held, Mapping):
            # A field that we do not give; elements of a list below it may be more than defaults.
            if kept := _elements(inner):
                left[name] = kept
        elif not isinstance(held, Mapping):
            left[name] = inner
        elif not inner:
            if held and _MEMBER not in held:
                left[name] = inner  # they hold the whole, and we something in it
        else:
            is_element = _is_element(name) and (not held or _MEMBER in held)
            kept = _without(inner, held, is_ours=is_element or (is_ours and not _is_element(name)))
            if not held or _MEMBER in held:
                kept.pop(_MEMBER, None)
            if kept:
                left[name] = kept
    return left


def _elements(fields: Mapping[str, Any]) -> Tree:
    """Of some fields, the elements of lists alone."""
    found: Tree = {}
    for name, inner in fields.items():
        if _is_element(name):
            found[name] = inner
        elif isinstance(inner, Mapping) and (below := _elements(inner)):
            found[name] = below
    return found


def _steps(path: str) -> list[str | None]:
    """The parts of a path; none for the object as a whole, which is told as "" or "<nil>"."""
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
            if not _is_element(name):
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
        # What they hold beside it is what it can't be with, but for an object as a whole that says too little.
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
        if name == _MEMBER:
            continue
        given = _element_of(body, name) if _is_element(name) else None
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
        element = _element_of(body, name) if _is_element(name) else None
        there = _element_of(live, name) if _is_element(name) else None
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


def _union(one: Tree, other: Mapping[str, Any]) -> Tree:
    joined = dict(one)
    for name, inner in other.items():
        if name not in joined:
            joined[name] = inner
        elif inner or joined[name]:
            # A field that is held itself is told by "." once something below it is held too.
            left, right = joined[name] or {_MEMBER: {}}, inner or {_MEMBER: {}}
            joined[name] = _union(left, right)
    return joined


def _minus(one: Mapping[str, Any], other: Mapping[str, Any]) -> Tree:
    """Fields without exactly those of another tree."""
    left: Tree = {}
    for name, inner in one.items():
        if name not in other:
            left[name] = inner
        elif inner and other[name] and (kept := _minus(inner, other[name])):
            left[name] = kept
    return left


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
