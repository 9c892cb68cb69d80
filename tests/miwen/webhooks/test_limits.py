"""What strangers may cost: tables, on a clock that is a number."""

from __future__ import annotations

import pytest

from jiemi.miwen.webhooks.limits import (
    MAX_SOURCES,
    REFUSED_BURST,
    Buffers,
    Pace,
    Sources,
    forwarded_source,
    source_of,
)


def test_a_pace_lets_a_burst_through_and_then_so_many_a_second() -> None:
    pace = Pace(10, 3)
    for _ in range(3):
        assert pace.wait_seconds(0) == 0
        pace.take(0)
    assert pace.wait_seconds(0) == pytest.approx(0.1)
    assert pace.wait_seconds(0.1) == pytest.approx(0)
    assert pace.is_full(10)


def test_a_source_is_not_read_once_too_many_of_its_requests_were_refused_and_again_after_a_while() -> None:
    sources = Sources()
    for _ in range(int(REFUSED_BURST)):
        assert sources.may_ask("a", 0)
        sources.refused("a", 0)
    assert not sources.may_ask("a", 0)
    assert sources.may_ask("b", 0)
    assert sources.may_ask("a", 1)
    sources.refused("a", 1)
    assert not sources.may_ask("a", 1)


def test_sources_are_forgotten_when_they_are_quiet_and_when_they_are_too_many() -> None:
    sources = Sources()
    for number in range(MAX_SOURCES + 10):
        sources.refused(str(number), 0)
    assert len(sources) == MAX_SOURCES
    sources.refused("late", 1_000)
    assert len(sources) == 1


def test_bodies_share_their_room_and_give_it_back() -> None:
    buffers = Buffers(10)
    with buffers.body() as one, buffers.body() as other:
        assert one.add(b"123456")
        assert not other.add(b"12345")
        assert other.add(b"1234")
        assert not one.add(b"1")
    with buffers.body() as again:
        assert again.add(b"0123456789")


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "?"),
        ("unknown", "?"),
    ],
)
def test_an_address_counts_as_a_source(address: str, source: str) -> None:
    assert source_of(address) == source


@pytest.mark.parametrize(
    ("values", "proxies", "source"),
    [
        ([b"192.0.2.1"], 1, "192.0.2.1"),
        ([b"10.0.0.1, 192.0.2.1"], 1, "192.0.2.1"),
        ([b"10.0.0.1, 192.0.2.1"], 2, "10.0.0.1"),
        ([b"10.0.0.1", b"192.0.2.1"], 1, "192.0.2.1"),
        ([b"10.0.0.1"], 2, None),
        ([], 1, None),
        ([b"10.0.0.1"], 0, None),
        ([b"[2001:db8::1]"], 1, "2001:db8::/64"),
        ([b"\xff"], 1, "?"),
    ],
)
def test_only_what_our_own_proxies_add_says_who_asked(values: list[bytes], proxies: int, source: str | None) -> None:
    assert forwarded_source(values, proxies) == source
