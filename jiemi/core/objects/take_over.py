"""Which managers that only made an object before us hold fields that we apply too, and how these become ours alone.

A field that two managers applied with the same value is both's, and the API server removes it only once neither has it.
So what leaves git would stay where kubectl, helm or another tool made the object first. Of the entries of such managers
(`metadata.managedFields`, https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management) we take
away the fields that we apply too; what they hold beside them stays theirs, and in the object. (kubectl and Flux take
over the whole entry, which removes what git does not describe.)

In an element of a list that we apply (a container, a port) they lose the plain fields as well that we do not give:
these are mostly defaults, they stay in the object, and would keep a rump of the element there once we drop it.

What they hold where the API server refuses our object is in `unblocking`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from jiemi.core.objects.field_sets import (
    MEMBER,
    Tree,
    is_element,
    is_same_group,
    others,
    our_fields,
    our_version,
    replaced,
)

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
    "unknown",
    "miwen",
)
"""Managers that make objects as somebody wants them to be: kubectl's ways to make and to change one (as for Flux, which
takes over whatever begins with kubectl), what was there before managers were kept, helm, Flux, Argo CD, scripts with
Kubernetes' own Python client, and Jiemi's first version. That one created an object by a client that says no name, for
which the API server puts `unknown`, and applied it as `miwen` from the second commit on. None of them is a controller
that goes on to own a field, as an autoscaler does (client-go always says a name); what kubectl scales has an entry for
the subresource `scale`, and stays."""


def sharers(metadata: Mapping[str, Any]) -> frozenset[str]:
    """The managers that hold a field that we apply too."""
    ours = our_fields(metadata)
    return frozenset(
        str(entry["manager"])
        for entry in others(metadata)
        if ours and _without(entry["fieldsV1"], ours) != entry["fieldsV1"]
    )


def alone(metadata: Mapping[str, Any], managers: Collection[str]) -> list[Any] | None:
    """managedFields in which none of these managers shares a field with us; None where none does."""
    ours, version = our_fields(metadata), our_version(metadata)
    if not ours:
        return None
    taken = [
        entry
        for entry in others(metadata)
        if entry["manager"] in managers and is_same_group(entry.get("apiVersion"), version)
    ]
    changed = {id(entry): left for entry in taken if (left := _without(entry["fieldsV1"], ours)) != entry["fieldsV1"]}
    return replaced(metadata, changed) if changed else None


def _without(theirs: Mapping[str, Any], ours: Mapping[str, Any], *, is_ours: bool = False) -> Tree:
    """Their fields without ours.

    Args:
        is_ours: whether these are the fields of a list's element that is ours.
    """
    left: Tree = {}
    for name, inner in theirs.items():
        held = ours.get(name)
        if name == MEMBER:
            if held is None and not is_ours:
                left[name] = inner
        elif is_ours and not is_element(name) and not isinstance(held, Mapping):
            # A field that we do not give; elements of a list below it may be more than defaults.
            if kept := _elements(inner):
                left[name] = kept
        elif not isinstance(held, Mapping):
            left[name] = inner
        elif not inner:
            if held and MEMBER not in held:
                left[name] = inner  # they hold the whole, and we something in it
        else:
            in_list = is_element(name) and (not held or MEMBER in held)
            kept = _without(inner, held, is_ours=in_list or (is_ours and not is_element(name)))
            if not held or MEMBER in held:
                kept.pop(MEMBER, None)
            if kept:
                left[name] = kept
    return left


def _elements(fields: Mapping[str, Any]) -> Tree:
    """Of some fields, the elements of lists alone."""
    found: Tree = {}
    for name, inner in fields.items():
        if is_element(name):
            found[name] = inner
        elif isinstance(inner, Mapping) and (below := _elements(inner)):
            found[name] = below
    return found
