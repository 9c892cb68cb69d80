"""Log lines as `jiemi run-all` shows them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.cli.log_lines import for_terminal

HASH = "a888f02e1111beb2c543d729faa5d516ecaa9e12"


def shown(**fields: object) -> str:
    return for_terminal(json.dumps({"timestamp": "2026-11-28T19:15:01.5Z", "level": "info", **fields})).plain


def test_the_time_what_happened_and_its_fields_are_shown_and_a_revision_is_short() -> None:
    text = shown(event="in_sync", namespace="default", name="demo", id=2, revision=HASH, first_time=True)
    time_of_day, _, rest = text.partition(" ")
    assert len(time_of_day) == len("19:15:01")
    assert rest == "in_sync default/demo, id 2, revision a888f02e1111, first time true"


@pytest.mark.parametrize("level", ["warning", "error"])
def test_levels_that_matter_are_shown_in_colour(level: str) -> None:
    text = for_terminal(json.dumps({"timestamp": "2026-11-28T19:15:01Z", "level": level, "event": "x"}))
    assert text.plain.endswith(f" {level} x")
    assert {str(span.style) for span in text.spans} == {"dim", "yellow" if level == "warning" else "red"}


def test_a_revision_amid_a_sentence_is_short_and_other_hex_is_not() -> None:
    digits = "0123456789abcdef" * 3
    assert shown(event="x", message=f"at {HASH}.", other=digits).endswith(f"x message at a888f02e1111., other {digits}")


@pytest.mark.parametrize(
    "line", ["Traceback (most recent call last):", "", "[]", "7", '{"level": "info"}', '{"event": 7}', "{"]
)
def test_what_is_no_log_line_is_shown_as_it_is(line: str) -> None:
    assert for_terminal(line).plain == line


def test_what_tells_lines_of_one_tick_from_others_is_of_no_use_there() -> None:
    assert shown(event="x", logger="jiemi.miwen", trace_id="4bf92f3577b34da6a3ce929d0e0e4736", a=1).endswith(" x a 1")


def test_a_time_that_is_none_is_no_fault() -> None:
    nonsense: tuple[object, ...] = (None, 7, "x", {})
    for timestamp in nonsense:
        assert for_terminal(json.dumps({"event": "x", "timestamp": timestamp})).plain == "--:--:-- x"


_LEAVES = st.none() | st.booleans() | st.text(max_size=5)


# With the usual hundred leaves, drawing the values takes 20 times as long as showing them.
@given(st.dictionaries(st.text(max_size=8), st.recursive(_LEAVES, st.lists, max_leaves=10)))
def test_every_field_is_shown(fields: dict[str, object]) -> None:
    text = for_terminal(json.dumps({**fields, "event": "e"})).plain
    for name in fields.keys() - {"event", "level", "timestamp", "namespace", "name", "logger", "trace_id"}:
        assert all(part in text for part in name.replace("_", " ") if part.isprintable())
    assert text.isprintable()


def test_nothing_in_a_line_is_obeyed_by_the_terminal() -> None:
    assert shown(event="x\x1b[2J", message="a\u202eb\n\x07").endswith(r" x\x1b[2J message a\u202eb\n\x07")
    assert for_terminal("\x1b]0;title\x07").plain == r"\x1b]0;title\x07"
