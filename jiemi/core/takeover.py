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

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from jiemi.core.ownership import MANAGER

Tree = dict[str, Any]

DECLARATIVE_MANAGERS = (
    "kubectl",
    "kubectl-client-side-apply",
    "kubectl-create",
    "kubectl-replace",
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
"""Managers that make objects as somebody's files describe them: kubectl's four ways, what was there before managers
were kept, helm, Flux, Argo CD, and Jiemi's first version (by the Python client's name)."""

_MEMBER = "."
_LEAST_STEPS = 2
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
        entry for entry in _others(metadata) if entry["manager"] in managers and entry.get("apiVersion") == version
    ]
    changed = {id(entry): left for entry in taken if (left := _without(entry["fieldsV1"], ours)) != entry["fieldsV1"]}
    return _replaced(metadata, changed) if changed else None


def unblocked(
    metadata: Mapping[str, Any], managers: Collection[str], body: Mapping[str, Any], refused: Iterable[str]
) -> list[Any] | None:
    """managedFields in which what these managers hold at fields that the API server refuses is ours, where the object
    does not give it; None where there is no such.

    Args:
        body: the object.
        refused: paths of fields, as the API server names them: "spec.template.spec.volumes[0].secret".
    """
    ours = _our_fields(metadata)
    version = str(body.get("apiVersion"))
    changed: dict[int, Tree] = {}
    gained: Tree = {}
    for entry in _others(metadata):
        if entry["manager"] not in managers or entry.get("apiVersion") != version:
            continue
        for path in refused:
            steps = [_step(token) for token in _TOKEN.finditer(path)]
            # What says no more than "spec" says too little.
            if len(steps) < _LEAST_STEPS or steps[0] == "f:metadata":
                continue
            if found := _found(entry["fieldsV1"], ours, body, steps):
                gained = _union(gained, found)
                changed[id(entry)] = _minus(changed.get(id(entry), entry["fieldsV1"]), found)
    if not gained:
        return None
    listed = _replaced(metadata, changed)
    for number, entry in enumerate(listed):
        if isinstance(entry, Mapping) and _is_ours(entry):
            listed[number] = {**entry, "fieldsV1": _union(dict(entry["fieldsV1"]), gained)}
            return listed
    mine = {"manager": MANAGER, "operation": "Apply", "apiVersion": version, "fieldsType": "FieldsV1"}
    return [*listed, {**mine, "fieldsV1": gained}]


def _our_fields(metadata: Mapping[str, Any]) -> Tree:
    return next((dict(entry["fieldsV1"]) for entry in _entries(metadata) if _is_ours(entry)), {})


def _our_version(metadata: Mapping[str, Any]) -> Any:
    return next((entry.get("apiVersion") for entry in _entries(metadata) if _is_ours(entry)), None)


def _is_ours(entry: Mapping[str, Any]) -> bool:
    return (entry.get("manager"), entry.get("operation"), entry.get("subresource") or "") == (MANAGER, "Apply", "")


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
