"""Versions and ranges, as users of Flux write them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.semver import MAX_RANGE_BYTES, RangeError, Version, read_range, version_of_tag


def _in(text: str, *tags: str) -> list[str]:
    """The tags that are in a range."""
    wanted = read_range(text)
    return [tag for tag in tags if (version := version_of_tag(tag)) is not None and wanted.holds(version)]


TAGS = (
    *("v0.0.3", "0.2.9", "v1.0.0", "v1.2.0", "v1.2.3-rc.1", "v1.2.3", "1.4.9"),
    *("v2.0.0", "v2.1.0-beta", "latest", "v3", "v10.0.0+5"),
)


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("*", ("v0.0.3", "0.2.9", "v1.0.0", "v1.2.0", "v1.2.3", "1.4.9", "v2.0.0", "v10.0.0+5")),
        (">=1.0.0 <2.0.0", ("v1.0.0", "v1.2.0", "v1.2.3", "1.4.9")),
        (">= 1.0.0, < 2.0.0", ("v1.0.0", "v1.2.0", "v1.2.3", "1.4.9")),
        (">=1.0.0-0 <2.0.0", ("v1.0.0", "v1.2.0", "v1.2.3-rc.1", "v1.2.3", "1.4.9")),
        ("1.x", ("v1.0.0", "v1.2.0", "v1.2.3", "1.4.9")),
        ("1.2.x", ("v1.2.0", "v1.2.3")),
        ("~1.2", ("v1.2.0", "v1.2.3")),
        ("~1.2.1", ("v1.2.3",)),
        ("^1.2.0", ("v1.2.0", "v1.2.3", "1.4.9")),
        ("^0.2.3", ("0.2.9",)),
        ("^0.0.3", ("v0.0.3",)),
        ("1.2 - 1.4", ("v1.2.0", "v1.2.3", "1.4.9")),
        ("<1 || >=10", ("v0.0.3", "0.2.9", "v10.0.0+5")),
        ("!=1.x", ("v0.0.3", "0.2.9", "v2.0.0", "v10.0.0+5")),
        ("v1.2.3", ("v1.2.3",)),
        (">11", ()),
    ],
)
def test_a_range_has_the_versions_that_flux_finds_in_it(text: str, tags: tuple[str, ...]) -> None:
    assert _in(text, *TAGS) == list(tags)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has a part without any version: write * for all"),
        ("1.0 || ", "has a part without any version: write * for all"),
        (">=1.0,", "ends where a version is expected"),
        (">= latest", "can't be read from '>= latest' on"),
        ("1.2.3.4", "can't be read from '.4' on"),
        (">1<2", "can't be read from '<2' on"),
        ("1x", "names '1x', which is no version"),
        ("1.2.3-01", "names '1.2.3-01', which is no version"),
        (f">={2**64}", f"names '>={2**64}', which is no version"),
        (" " * (MAX_RANGE_BYTES + 1), "is longer than 512 bytes"),
        (" || ".join(["1"] * 33), "has more than 32 parts with || between them"),
    ],
)
def test_what_is_no_range_is_refused_with_its_reason(text: str, why: str) -> None:
    with pytest.raises(RangeError, match=f"^{re.escape(why)}$"):
        read_range(text)


@pytest.mark.parametrize(
    "tag",
    [
        *("", "v", "1", "1.2", "v1.2.", "1.2.3.4", "vv1.2.3", "V1.2.3", "01.2.3", "1.2.3-", "1.2.3+", "1.2.3-01"),
        *("1.2.3-a..b", "1.2.3 ", "1.2.٣", f"{2**64}.0.0", "release-1.2.3", "1.2.3-ä", "1.2+a.3"),
        "1." + "2" * 300 + ".0",
    ],
)
def test_such_a_tag_is_no_version(tag: str) -> None:
    assert version_of_tag(tag) is None


def test_versions_are_in_the_order_of_the_specification() -> None:
    # https://semver.org/spec/v2.0.0.html, item 11
    texts = [
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
        "1.0.0",
    ]
    versions = [version_of_tag(text) for text in texts]
    for place, one in enumerate(versions):
        for other_place, other in enumerate(versions):
            assert one is not None
            assert other is not None
            assert one.compare(other) == (place > other_place) - (place < other_place)
    assert version_of_tag("v1.2.3+a") == version_of_tag("1.2.3+b") == Version(1, 2, 3)


@given(st.text(alphabet="0123456789xX*v.-+|,<>=!~^ \t\nab", max_size=80) | st.text(max_size=80))
def test_whatever_is_written_is_read_or_refused(text: str) -> None:
    try:
        wanted = read_range(text)
    except RangeError as error:
        assert str(error)
    else:
        assert wanted.holds(Version(1, 2, 3)) in (True, False)
    version_of_tag(text)


@pytest.mark.parametrize("part", ["1 ", "1  ", " - ", "1 - ", "1-1-", "1.1-a.", "x|", "v1,", "1 ,  ", "1-a.a.a - "])
def test_hostile_ranges_are_read_in_steps_that_do_not_explode(part: str) -> None:
    text = (part * MAX_RANGE_BYTES)[: MAX_RANGE_BYTES - 1] + "!"
    with pytest.raises(RangeError):  # a reader that explodes would need longer than the universe has
        read_range(text)
