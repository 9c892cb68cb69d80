"""Where the Krapaos are that Miwen asks: what `--krapao` says."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from jiemi.cli.errors import CommandError
from jiemi.cli.session_secrets import secret_name
from jiemi.rpc.address import ANY_HOST, Address, TcpAddress, parse_address
from jiemi.rpc.krapaos import Peer

_SERVICE = "service:"


@attrs.frozen
class KrapaoPlaces:
    """Addresses, or a Service whose Pods they are.

    Attributes:
        peers: the Krapaos; None where the Service says which there are.
        service: the namespace and name of the Service, or None.
    """

    peers: tuple[Peer, ...] | None
    service: tuple[str, str] | None = None

    @property
    def over_tcp(self) -> str | None:
        """What of it is reached over TCP, for messages."""
        if self.service is not None:
            return f"{_SERVICE}{'/'.join(self.service)}"
        return next((str(each.address) for each in self.peers or () if isinstance(each.address, TcpAddress)), None)


def places_of(texts: Sequence[str]) -> KrapaoPlaces:
    """What `--krapao` says.

    Args:
        texts: one of `service:[NAMESPACE/]NAME`, or one or more addresses.

    Raises:
        CommandError: nothing can be reached there.
    """
    services = [text for text in texts if text.startswith(_SERVICE)]
    if services:
        if len(texts) > 1:
            raise CommandError(f"--krapao: give {services[0]} alone, or addresses")
        return KrapaoPlaces(None, secret_name("--krapao service:", services[0].removeprefix(_SERVICE), "Service"))
    addresses = [_address(text) for text in texts]
    for number, address in enumerate(addresses):
        if address in addresses[:number]:
            raise CommandError(f"--krapao: {address} is given twice")
    # The address is the name by which repositories are spread, so it should last.
    return KrapaoPlaces(tuple(Peer(str(address), address) for address in addresses))


def _address(text: str) -> Address:
    try:
        address = parse_address(text)
        if isinstance(address, TcpAddress) and (address.port == 0 or address.host == ANY_HOST):
            raise ValueError(f"{address} is an address to listen on; name Krapao's host and port")
    except ValueError as error:
        raise CommandError(f"--krapao: {error}") from error
    return address
