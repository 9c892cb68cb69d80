"""Names that are much like the one that was not found come first, and there are no more of them than a reader wants."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.near import near, some_of

NAMES = st.lists(st.text(max_size=20), max_size=30, unique=True)


@pytest.mark.parametrize(
    ("wanted", "names", "found"),
    [
        ("secret.yml", ["README.md", "secret.yaml", "secret.yml.bak"], ("secret.yaml", "secret.yml.bak")),
        ("MAIN", ["develop", "main"], ("main",)),
        ("age.key", ["token", "age-key"], ("age-key",)),
        ("x", ["completely-different"], ()),
        ("x", [], ()),
    ],
)
def test_similar_names_are_found(wanted: str, names: list[str], found: tuple[str, ...]) -> None:
    assert near(wanted, names) == found


@given(st.text(max_size=20), NAMES, st.integers(1, 10))
def test_of_many_names_a_few_are_listed_and_the_others_counted(wanted: str, names: list[str], most: int) -> None:
    assert set(near(wanted, names, most=most)) <= set(names)
    if len(names) > most:
        assert some_of(wanted, names, most=most).endswith(f" and {len(names) - most} more")
    else:
        assert sorted(some_of(wanted, names, most=most)) == sorted(", ".join(names))


def test_very_many_and_very_long_names_take_little_time() -> None:
    names = [f"{number:06}{'x' * 5000}" for number in range(20_000)]
    assert len(near("000001" + "x" * 5000, names)) == 3
