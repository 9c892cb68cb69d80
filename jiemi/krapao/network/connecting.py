"""Where connections may go: resolves a name, and judges what it resolves to (`jiemi.core.address_rules`).

A permit is called between the lookup and the first connection, with all that the lookup gave. Nothing is looked up
again afterwards, so a name that changes in between (DNS rebinding) leads nowhere else. Only the operator's log says
what the address was, and nobody learns whether anything listens there.

`require_destination` is for what another program connects to, which resolves the name once more by itself. It gives the
better message; that a name has changed meanwhile is noticed when the program connects
(`jiemi.krapao.confinement.judged_connects`), where the platform lets us.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

import structlog
import trio

from jiemi.core.address_rules import Address, AddressRules, first_refusal, read_address
from jiemi.core.errors import JiemiError

log = structlog.get_logger("jiemi.krapao.network")

Permit = Callable[[str, Sequence[str]], None]
"""Called with a host and all its addresses; raises where one of them is not to be connected to."""

RequireDestination = Callable[[str, AddressRules, str], Awaitable[None]]
"""As `require_destination`."""

_RESOLVE_SECONDS = 5
_DISCARD_PORT = 9

_FORBIDDEN = (
    "it is loopback, link-local, a metadata service's or the like, or one that the operator denies; Krapao's log names "
    "it"
)


def permit_by(rules: AddressRules, field: str) -> Permit:
    """A permit by rules.

    Args:
        field: of the spec, that names the host.

    Raises (the permit):
        JiemiError: AddressNotAllowed.
    """

    def permit(host: str, addresses: Sequence[str]) -> None:
        read = [read_address(each) for each in addresses]
        found = first_refusal(rules, ((each, is_own(each)) for each in read))
        if found is not None:
            log.warning("address_refused", host=host, address=str(found[0]), kind=found[1])
            raise _not_allowed(host, field)
        log.debug("address_permitted", host=host, addresses=len(addresses))

    return permit


def require_name(host: str, rules: AddressRules, field: str) -> None:
    """Refuse a host that a proxy is to resolve, where its form or its name already says that it is forbidden.

    Raises:
        JiemiError: AddressNotAllowed.
    """
    why = rules.refusal_of_name(host)
    if why is not None:
        log.warning("address_refused", host=host, kind=why)
        raise _not_allowed(host, field)


async def require_destination(url: str, rules: AddressRules, field: str) -> None:
    """Refuse a server that another program is to connect to, where it resolves to a forbidden address now.

    A name that can't be resolved here passes: that program may know a proxy which can, or fails by itself.

    Args:
        url: http:// or https://, with a host.

    Raises:
        JiemiError: AddressNotAllowed.
    """
    host = urlsplit(url).hostname or ""
    require_name(host, rules, field)
    addresses: list[str] = []
    with trio.move_on_after(_RESOLVE_SECONDS):
        try:
            found = await trio.socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            addresses = [str(each[4][0]) for each in found]
        except (OSError, UnicodeError):
            return
    permit_by(rules, field)(host, addresses)


def led_astray(field: str) -> JiemiError:
    """For a program that wanted to connect to a forbidden address; which one is in Krapao's log."""
    return JiemiError(
        "AddressNotAllowed",
        f"{field}: a server of the key service leads to an address that Krapao does not connect to, by a redirect or "
        f"by what its name stands for now: {_FORBIDDEN}",
    )


def is_own(address: Address) -> bool:
    """Whether an address is one of this machine's (or Pod's): a client of such a one has it as source too.

    Connecting a datagram socket chooses the source and sends nothing (connect(2)).
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), _DISCARD_PORT))
            return read_address(probe.getsockname()[0]) == address
    except OSError:
        return False


def _not_allowed(host: str, field: str) -> JiemiError:
    return JiemiError(
        "AddressNotAllowed",
        f"{field}: Krapao does not connect to the address of {host}: {_FORBIDDEN}",
    )
