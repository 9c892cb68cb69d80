"""Any JSON, for properties that hold whatever is in it."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st


def json_values(
    keys: st.SearchStrategy[str],
    others: st.SearchStrategy[Any] | None = None,
    *,
    max_keys: int = 3,
    max_leaves: int = 10,
) -> st.SearchStrategy[Any]:
    """JSON values, nested, with lists of three elements at most.

    Args:
        keys: of mappings.
        others: values beside null, truth values, whole numbers and short texts.
        max_keys: of a mapping.
        max_leaves: about how many values there are in one.
    """
    scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
    return st.recursive(
        scalars if others is None else scalars | others,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=max_keys),
        max_leaves=max_leaves,
    )
