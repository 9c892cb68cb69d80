"""Which hosts and addresses Krapao connects to: a pure decision.

Whoever may write a Decryptor chooses a host, and Krapao runs where that person may not look: beside other containers of
its Pod, on a node with a metadata service that gives out the node's identity. So a host is judged twice. Its *form* is
judged when a URL is read: a number that only some parsers take for an address is refused, whatever it stands for. Its
*addresses* are judged after the name was resolved, and the connection goes to exactly those that were judged.

    is_plain_host(host)              no 2130706433, 0x7f.1, 0177.0.0.1, 127.1, 127.0.0.1., fe80::1%eth0
    AddressRules.refusal(address)    why an address is not connected to, for the operator's log; None where it is

Among all networks that hold an address the narrowest decides; of two equally narrow ones the operator's `denied` comes
before `allowed`, and both before what is built in. So `allowed = 0.0.0.0/0` opens no loopback, `127.0.0.0/8` does, and
`denied = 0.0.0.0/0` with `allowed = 10.20.0.0/16` leaves one network.

An IPv6 address that stands for an IPv4 one is judged as both (RFC 4291, section 2.5.5; RFC 6052; RFC 3056; RFC 4380;
RFC 5214; RFC 7915): a translator or tunnel on the way would lead there.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

import attrs

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_BUILT_IN: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("loopback", ("127.0.0.0/8", "::1/128")),
    ("unspecified", ("0.0.0.0/8", "::/128")),
    ("link-local", ("169.254.0.0/16", "fe80::/10")),
    ("multicast", ("224.0.0.0/4", "ff00::/8")),
    ("reserved", ("192.0.0.0/24", "240.0.0.0/4")),
    (
        "metadata",
        (
            "169.254.169.254/32",  # AWS, Azure, GCP, OpenStack, Oracle, DigitalOcean
            "169.254.170.2/32",  # AWS ECS
            "169.254.170.23/32",  # AWS EKS Pod Identity
            "fd00:ec2::/32",  # AWS: ::254, and ::23 of EKS
            "fd20:ce::254/128",  # GCP
            "fd00:c1::a9fe:a9fe/128",  # Oracle Cloud
            "fd00:a9fe:a9fe::1/128",  # Akamai (Linode)
            "fd00:100::100:200/128",  # Alibaba Cloud
            "169.254.42.42/32",  # Scaleway
            "fd00:42::42/128",
            "100.100.100.200/32",  # Alibaba Cloud
            "168.63.129.16/32",  # Azure's wire server
            "192.0.0.192/32",  # Oracle Cloud's first one
        ),
    ),
)
"""By kind. Private networks (RFC 1918, RFC 4193) are not among them: git servers inside clusters are common."""

_BUILT_IN_NETWORKS: tuple[tuple[str, Network], ...] = tuple(
    (kind, ipaddress.ip_network(text)) for kind, texts in _BUILT_IN for text in texts
)

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NAT64_LOCAL = ipaddress.IPv6Network("64:ff9b:1::/48")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_TRANSLATED = ipaddress.IPv6Network("::ffff:0:0:0/96")
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)

_LOOPBACK_NAMES = frozenset({"localhost", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback", "loopback"})
"""As in /etc/hosts of the common distributions; those in `.localhost` are too (RFC 6761, section 6.3)."""

_LOCAL_DOMAINS = ("localdomain", "localdomain4", "localdomain6")

_METADATA_NAMES = frozenset(
    {
        *("metadata", "metadata.google.internal", "metadata.goog"),
        *("instance-data", "instance-data.ec2.internal", "metadata.tencentyun.com"),
    }
)
"""Names of metadata services that a proxy would resolve for us."""


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def read_address(text: str) -> Address:
    """An address as the resolver gives it; its zone is left out.

    Raises:
        ValueError: it is none.
    """
    return ipaddress.ip_address(text.partition("%")[0])


def read_network(text: str) -> Network:
    """A network in CIDR notation, or one address.

    Raises:
        ValueError: it is none, or has bits beside its prefix.
    """
    return ipaddress.ip_network(text.strip())


@attrs.frozen
class AddressRules:
    """What an operator says of addresses, beside what is built in.

    Attributes:
        allowed: networks that are connected to though they are refused otherwise.
        denied: networks that are not connected to.
    """

    allowed: tuple[Network, ...] = ()
    denied: tuple[Network, ...] = ()

    def refusal(self, address: Address, *, own: bool = False) -> str | None:
        """Why an address is not connected to, for the operator's log; None where it is.

        Args:
            own: whether it is an address of this very machine; such a one is refused unless a rule names it alone.
        """
        for face in _faces(address):
            why = self._judge(face, own=own and face == address)
            if why is not None:
                return why
        return None

    def refusal_of_name(self, host: str) -> str | None:
        """The same for a host that is not resolved here, because a proxy does that: by its form or its name."""
        address = _address(host)
        if address is not None:
            return self.refusal(address)
        stands_for = _stands_for(host.lower().removesuffix("."))
        return next(filter(None, (self.refusal(ipaddress.ip_address(each)) for each in stands_for)), None)

    def _judge(self, address: Address, *, own: bool) -> str | None:
        built_in = [(network.prefixlen, 0, kind) for kind, network in _BUILT_IN_NETWORKS if _holds(network, address)]
        if own and not built_in:
            built_in = [(address.max_prefixlen, 0, "this machine's own")]
        allowed = [(network.prefixlen, 1, None) for network in self.allowed if _holds(network, address)]
        denied = [
            (network.prefixlen, 2, "denied by the operator") for network in self.denied if _holds(network, address)
        ]
        return max((*built_in, *allowed, *denied), key=lambda each: each[:2], default=(0, 0, None))[2]


def _stands_for(name: str) -> tuple[str, ...]:
    """Addresses that a well-known name stands for, whoever looks it up; none of another name."""
    first, _, rest = name.partition(".")
    is_loopback = first in _LOOPBACK_NAMES and rest in ("", *_LOCAL_DOMAINS)
    if is_loopback or name.endswith(".localhost"):
        return "127.0.0.1", "::1"
    return ("169.254.169.254",) if name in _METADATA_NAMES else ()


def _holds(network: Network, address: Address) -> bool:
    return network.version == address.version and address in network


def _faces(address: Address) -> Iterator[Address]:
    """An address, and each IPv4 address that it may stand for."""
    yield address
    if isinstance(address, ipaddress.IPv4Address):
        return
    number = int(address)
    last = ipaddress.IPv4Address(number & 0xFFFF_FFFF)
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if (number >> 32) & 0xFFFF_FFFF in _ISATAP or any(address in network for network in (_NAT64, _TRANSLATED)):
        yield last
    if address in _NAT64_LOCAL:
        yield from _translated(number)
    if address in _COMPATIBLE and number > 1:
        yield last


def _translated(number: int) -> Iterator[ipaddress.IPv4Address]:
    """The IPv4 addresses that one with a translator's own prefix may stand for: it may have 48, 56, 64 or 96 bits
    (RFC 6052, 2.2; RFC 8215). What would begin with a zero is read by the wrong number of bits."""

    def bits(first: int, count: int) -> int:
        return (number >> (128 - first - count)) & ((1 << count) - 1)

    for found in (bits(48, 16) << 16 | bits(72, 16), bits(56, 8) << 24 | bits(72, 24), bits(72, 32), bits(96, 32)):
        if found >> 24:
            yield ipaddress.IPv4Address(found)


def first_refusal(rules: AddressRules, addresses: Iterable[tuple[Address, bool]]) -> tuple[Address, str] | None:
    """The first address that is refused, and why. Each comes with whether it is this machine's own.

    One is enough to refuse all: a name that leads to a forbidden address beside others is a mistake or an attack, and
    which of them is connected to would be chance.
    """
    for address, own in addresses:
        why = rules.refusal(address, own=own)
        if why is not None:
            return address, why
    return None
