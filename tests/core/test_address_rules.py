"""Which hosts and addresses are connected to."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.address_rules import AddressRules, read_address, read_network
from jiemi.core.addresses import is_plain_host
from jiemi.core.errors import JiemiError
from jiemi.core.urls import parse_url

DEFAULT = AddressRules()


def rules(*allowed: str, denied: tuple[str, ...] = ()) -> AddressRules:
    return AddressRules(tuple(map(read_network, allowed)), tuple(map(read_network, denied)))


def refusal(of: AddressRules, text: str) -> str | None:
    return of.refusal(read_address(text))


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("::1", "loopback"),
        ("0:0:0:0:0:0:0:1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:7f00:1", "loopback"),
        ("::127.0.0.1", "loopback"),
        ("64:ff9b::127.0.0.1", "loopback"),
        ("64:ff9b:1::7f00:1", "loopback"),
        ("64:ff9b:1:7f00:0:100::", "loopback"),  # of 48 bits, the four bytes around the one that is nought
        ("64:ff9b:1:7f00:0:100:0:9", "loopback"),  # what comes behind is ignored
        ("64:ff9b:1:7f:0:1::", "loopback"),  # of 56 bits
        ("64:ff9b:1:0:7f:0:100:0", "loopback"),  # of 64 bits
        ("64:ff9b:1:a9fe:a9:fe00::", "metadata"),
        ("2002:7f00:1::1", "loopback"),
        ("2001:0:7f00:1::1", "loopback"),  # Teredo's server
        ("2001:0:505:505::80ff:fffe", "loopback"),  # Teredo's client, whose bits are turned round
        ("::ffff:0:127.0.0.1", "loopback"),
        ("fd00::5efe:7f00:1", "loopback"),
        ("fd00::200:5efe:127.0.0.1", "loopback"),
        ("0.0.0.0", "unspecified"),  # noqa: S104 - no listener
        ("0.1.2.3", "unspecified"),
        ("::", "unspecified"),
        ("::ffff:0.0.0.0", "unspecified"),
        ("169.254.1.1", "link-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("febf::1", "link-local"),
        ("169.254.169.254", "metadata"),
        ("::ffff:169.254.169.254", "metadata"),
        ("64:ff9b::a9fe:a9fe", "metadata"),
        ("169.254.170.2", "metadata"),
        ("169.254.170.23", "metadata"),
        ("fd00:ec2::254", "metadata"),
        ("fd00:ec2::23", "metadata"),
        ("fd20:ce::254", "metadata"),
        ("fd00:c1::a9fe:a9fe", "metadata"),
        ("fd00:a9fe:a9fe::1", "metadata"),
        ("fd00:100::100:200", "metadata"),
        ("100.100.100.200", "metadata"),
        ("168.63.129.16", "metadata"),
        ("192.0.0.192", "metadata"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("255.255.255.255", "reserved"),
        ("240.0.0.1", "reserved"),
    ],
)
def test_what_is_this_machines_or_its_links_is_refused_in_every_spelling(address: str, kind: str) -> None:
    assert refusal(DEFAULT, address) == kind


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "fd12::1",
        "140.82.112.3",
        "2606:50c0::1",
        "64:ff9b::a00:1",
        *("64:ff9b:1::a00:1", "64:ff9b:1:a00:0:100::", "64:ff9b:1:a:0:1::", "64:ff9b:1:0:a:0:100:0"),
    ],
)
def test_private_and_public_networks_are_open(address: str) -> None:
    assert refusal(DEFAULT, address) is None


@pytest.mark.parametrize(
    ("of", "open_ones", "shut_ones"),
    [
        (rules("127.0.0.0/8"), ("127.0.0.1", "::ffff:127.0.0.1"), ("::1", "169.254.1.1")),
        (rules("127.0.0.1"), ("127.0.0.1",), ("127.0.0.2",)),
        (rules("::1"), ("::1",), ("127.0.0.1",)),
        (rules("0.0.0.0/0", "::/0"), ("8.8.8.8",), ("127.0.0.1", "::1", "169.254.169.254", "fe80::1")),
        (rules("169.254.0.0/16"), ("169.254.1.1",), ("169.254.169.254",)),
        (rules("169.254.169.254"), ("169.254.169.254",), ("169.254.1.1",)),
        (rules(denied=("10.0.0.0/8",)), ("11.0.0.1",), ("10.0.0.1", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1")),
        (rules("10.20.0.0/16", denied=("0.0.0.0/0", "::/0")), ("10.20.3.4",), ("10.21.0.1", "8.8.8.8", "2606:50c0::1")),
        (rules("10.0.0.0/8", denied=("10.0.0.0/8",)), (), ("10.0.0.1",)),
        (rules("10.0.0.0/8", denied=("10.96.0.0/12",)), ("10.0.0.1",), ("10.96.0.1",)),
    ],
)
def test_the_narrowest_network_decides(
    of: AddressRules, open_ones: tuple[str, ...], shut_ones: tuple[str, ...]
) -> None:
    assert [each for each in open_ones if refusal(of, each) is not None] == []
    assert [each for each in shut_ones if refusal(of, each) is None] == []


def test_this_machines_own_address_is_refused_unless_a_rule_names_it_alone() -> None:
    own = read_address("10.1.2.3")
    assert DEFAULT.refusal(own, own=True) == "this machine's own"
    assert rules("10.0.0.0/8").refusal(own, own=True) == "this machine's own"
    assert rules("10.1.2.3").refusal(own, own=True) is None
    assert rules("127.0.0.0/8").refusal(read_address("127.0.0.1"), own=True) is None


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST.", "a.localhost", "localhost.localdomain", "metadata.google.internal", "::1"),
        *("127.0.0.1", "localhost6", "localhost6.localdomain6", "localhost4.localdomain4", "ip6-localhost"),
        *("ip6-loopback", "METADATA.goog.", "instance-data", "instance-data.ec2.internal", "metadata.tencentyun.com"),
    ],
)
def test_names_of_this_machine_are_refused_without_a_lookup(host: str) -> None:
    assert DEFAULT.refusal_of_name(host) is not None
    assert rules("127.0.0.0/8", "::1", "169.254.169.254").refusal_of_name(host) is None


def test_other_names_are_for_the_proxy_to_look_up() -> None:
    for host in ("git.example", "metadata.example", "notlocalhost", "localhost.example", "10.0.0.1"):
        assert DEFAULT.refusal_of_name(host) is None


ODD = [
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "127.1",
    "127.0.1",
    "127.0.0.01",
    "127.0.0.0x1",
    "127.0.0.1.",
    "1.2.3.4.5",
    "256.0.0.1",
    "127.0.0.1.0x",
    "017700000001",
    "a.1",
    "0",
    "0x",
]


@pytest.mark.parametrize("host", ODD)
def test_numbers_that_not_every_parser_reads_alike_are_refused_as_urls(host: str) -> None:
    assert not is_plain_host(host)
    for url in (
        f"https://{host}/r",
        f"git://{host}:9418/r",
        f"ssh://git@{host}/r",
        f"git@{host}:r",
        f"http://{host}:80/r",
    ):
        with pytest.raises(JiemiError) as caught:
            parse_url(url)
        assert caught.value.failure.reason == "InvalidUrl"
        assert len(host) < 3 or host not in caught.value.failure.text


@pytest.mark.parametrize(
    "url",
    [
        "https://[fe80::1%25eth0]/r",
        "https://[fe80::1%eth0]/r",
        "https://[::1%25lo]/r",
        "git@[fe80::1%1]:r",
        "https://１２７.0.0.1/r",
        "https://%31%32%37.0.0.1/r",
        "https://127。0。0。1/r",
        "https://[::ffff:127.0.0.1.]/r",
        "https://[127.0.0.1]/r",
    ],
)
def test_zones_and_digits_of_other_alphabets_are_refused(url: str) -> None:
    with pytest.raises(JiemiError) as caught:
        parse_url(url)
    assert caught.value.failure.reason == "InvalidUrl"


@pytest.mark.parametrize(
    "host", ["git.example", "git.example.", "3com.example", "1.2.3.4", "0.0.0.1", "a.b1", "x", "10-0-0-1.x"]
)
def test_names_and_plain_addresses_are_hosts(host: str) -> None:
    assert is_plain_host(host)
    parse_url(f"https://{host}/r")


def test_a_network_is_read_strictly() -> None:
    assert read_network("10.0.0.1") == ipaddress.ip_network("10.0.0.1/32")
    for text in ("10.0.0.1/8", "", "localhost", "10.0.0.0/33", "1.2.3"):
        with pytest.raises(ValueError, match=r"."):
            read_network(text)


@given(
    st.from_regex(r"(0[xX])?[0-9a-fA-F.]{1,14}\.?", fullmatch=True) | st.text("0123456789.xa", min_size=1, max_size=16)
)
def test_whatever_libc_takes_for_an_address_is_written_as_one_or_refused(host: str) -> None:
    """inet_aton(3) reads many forms; a URL that is taken has none but the plain one."""
    try:
        number = socket.inet_aton(host)
    except OSError:
        return
    if is_plain_host(host):
        assert ipaddress.IPv4Address(host).packed == number


@given(st.ip_addresses(v=4).filter(lambda address: address not in ipaddress.ip_network("0.0.0.0/8")))
def test_no_embedding_of_an_ipv4_address_is_judged_better_than_the_address(address: ipaddress.IPv4Address) -> None:
    denied = rules(denied=(str(address),))
    number = int(address)
    for embedded in (
        (0xFFFF << 32) | number,
        (0x64FF9B << 96) | number,
        (0x64FF9B0001 << 80) | number,
        (0x64FF9B0001 << 80) | (number >> 16 << 64) | ((number & 0xFFFF) << 40),
        (0x64FF9B0001 << 80) | (number >> 24 << 64) | ((number & 0xFF_FFFF) << 32),
        (0x64FF9B0001 << 80) | (number << 24),
        (0x2002 << 112) | (number << 80) | 1,
        (0x2001 << 112) | (0x05050505 << 64) | (number ^ 0xFFFF_FFFF),
        (0xFD00 << 112) | (0x5EFE << 32) | number,
    ):
        assert denied.refusal(ipaddress.IPv6Address(embedded)) is not None
