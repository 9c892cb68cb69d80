"""Addresses are read as they are written, and a wrong one says how to write it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.rpc.address import Address, TcpAddress, UnixAddress, parse_address

ADDRESSES = st.one_of(
    st.builds(UnixAddress, st.text(st.characters(min_codepoint=33, max_codepoint=0x3FF, categories=["L", "N", "P"]),
                                   min_size=1, max_size=40)),
    st.builds(
        TcpAddress,
        st.one_of(
            st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?(\.[a-z]{1,8}){0,3}\Z"),
            st.ip_addresses(v=4).map(str),
            st.ip_addresses(v=6).map(str),
            st.just("*"),
        ),
        st.integers(0, 65_535),
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:/run/krapao.sock", UnixAddress("/run/krapao.sock")),
        ("unix:relative:with:colons", UnixAddress("relative:with:colons")),
        ("tcp:repository-svc:50208", TcpAddress("repository-svc", 50208)),
        ("repository-svc.jiemi.svc.cluster.local", TcpAddress("repository-svc.jiemi.svc.cluster.local", 50208)),
        ("repository-svc:1", TcpAddress("repository-svc", 1)),
        ("127.0.0.1:0", TcpAddress("127.0.0.1", 0)),
        ("[::1]:50209", TcpAddress("::1", 50209)),
        ("tcp:[::1]", TcpAddress("::1", 50208)),
        ("*:50208", TcpAddress("*", 50208)),
        ("tcp", TcpAddress("tcp", 50208)),
    ],
)
def test_an_address_is_read(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "write unix:/path or host:port"),
        ("unix:", "needs the path"),
        ("unix:/" + "x" * 107, "at most 107 bytes"),
        ("unix:/" + "ü" * 60, "at most 107 bytes"),
        ("unix:/a\nb", "printable"),
        ("host:", "port"),
        ("host:http", "port"),
        ("host:-1", "port"),
        ("host:65536", "65535"),
        ("host:١", "port"),
        (":50208", "write unix:/path or host:port"),
        ("::1", "brackets"),
        ("::1:50208", "brackets"),
        ("[::1", r"\[::1\]:50208"),
        ("[::1]50208", r"\[::1\]:50208"),
        ("[host]:50208", "no IPv6 address"),
        ("https://host:50208", "brackets"),
        ("ho st:1", "no host name"),
        ("-host:1", "no host name"),
        ("h" * 64, "no host name"),
    ],
)
def test_what_is_no_address_says_how_to_write_one(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_address(text)


@given(ADDRESSES)
def test_an_address_is_read_back_as_it_is_shown(address: Address) -> None:
    assert parse_address(str(address)) == address


@given(st.text())
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        address = parse_address(text)
    except ValueError:
        return
    assert parse_address(str(address)) == address
