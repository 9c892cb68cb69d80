"""W3C Trace Context: what is taken as a traceparent, and what is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.trace_context import TraceContext, is_within_ratio, read_traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-fe", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        # Of a later version, which may add to the end.
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be", True),
    ],
)
def test_a_traceparent_is_read(text: str, sampled: bool) -> None:
    assert read_traceparent(text) == TraceContext(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01\n",
        f"\n00-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"cc-{TRACE}-{SPAN}-01-{'x' * 200}",
        f"00-{TRACE[:-1]}\u0663-{SPAN}-01",  # a digit elsewhere
        '{"event": "a line of a stranger"}',
    ],
)
def test_what_is_no_traceparent_is_none(text: str) -> None:
    assert read_traceparent(text) is None


@given(st.text(max_size=200))
def test_any_text_is_a_context_of_hexadecimal_digits_or_none(text: str) -> None:
    found = read_traceparent(text)
    assert found is None or set(found.trace_id + found.span_id) <= set("0123456789abcdef")


def test_a_context_is_read_as_it_was_written() -> None:
    for sampled in (True, False):
        context = TraceContext(TRACE, SPAN, sampled)
        assert read_traceparent(context.traceparent) == context


def test_a_ratio_takes_about_its_part_of_all_traces_and_always_the_same_ones() -> None:
    ids = [f"{number:016x}{(number * 2**64 // 1_000):016x}" for number in range(1_000)]
    assert not any(is_within_ratio(each, 0.0) for each in ids)
    assert all(is_within_ratio(each, 1.0) for each in [*ids, "f" * 32])
    tenth = {each for each in ids if is_within_ratio(each, 0.1)}
    assert 95 <= len(tenth) <= 105
    assert tenth < {each for each in ids if is_within_ratio(each, 0.5)}
