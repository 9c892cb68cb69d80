"""Entries of metadata.managedFields as real API servers write them, and any sets of fields."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from jiemi.core.objects.managed_fields import FIELD_MANAGER

KUBECTL = "kubectl-client-side-apply"

Fields = dict[str, Any]
"""A set of fields: names, and the same below each."""


def entry(manager: str, fields: Any, operation: str = "Update", **more: Any) -> dict[str, Any]:
    return {
        "manager": manager,
        "operation": operation,
        "apiVersion": "apps/v1",
        "time": "2026-11-24T03:00:00Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    } | more


def ours(fields: Any) -> dict[str, Any]:
    return entry(FIELD_MANAGER, fields, "Apply")


def element(name: str) -> str:
    return f'k:{{"name":"{name}"}}'


NAMES = st.sampled_from([".", "f:a", "f:b", element("x"), element("y"), "v:1"])
TREES: st.SearchStrategy[Fields] = st.recursive(
    st.just({}), lambda inner: st.dictionaries(NAMES, inner, max_size=4), max_leaves=15
)


def paths_in(tree: dict[str, Any], before: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for name, inner in tree.items():
        if name == ".":
            found.add(before)
        elif inner:
            found |= paths_in(inner, (*before, name))
        else:
            found.add((*before, name))
    return found
