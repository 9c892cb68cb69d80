"""The Pods behind a Service, as the cluster's EndpointSlices have them.

https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

import attrs


@attrs.frozen
class Endpoint:
    """A Pod behind a Service.

    Attributes:
        pod: its name.
        address: its IP address.
        port: its TCP port.
        ready: whether it is ready, and not about to end.
    """

    pod: str
    address: str
    port: int
    ready: bool


def endpoints(slices: Iterable[Mapping[str, Any]], port_name: str) -> tuple[Endpoint, ...]:
    """The Pods that EndpointSlices of one Service name, each once, by name. What is no Pod with an address is left out.

    A Pod may be in several slices: in one for each IP family (IPv4 is taken then), and for a moment in two of one
    family, where the newer state is not known; then it is ready if one of them says so.

    Args:
        port_name: the port, where a slice has several.
    """
    found: dict[str, Endpoint] = {}
    for each in sorted(slices, key=lambda each: str(each.get("addressType"))):
        port = _port(each.get("ports"), port_name)
        if port is None or each.get("addressType") not in ("IPv4", "IPv6"):
            continue
        for entry in each.get("endpoints") or ():
            endpoint = _endpoint(entry, port)
            if endpoint is None:
                continue
            known = found.get(endpoint.pod)
            if known is None or ((":" in known.address) is (":" in endpoint.address) and not known.ready):
                found[endpoint.pod] = endpoint
    return tuple(found[pod] for pod in sorted(found))


def _endpoint(entry: Any, port: int) -> Endpoint | None:
    entry = _mapping(entry)
    target, addresses, conditions = _mapping(entry.get("targetRef")), entry.get("addresses"), entry.get("conditions")
    pod = target.get("name")
    if target.get("kind") != "Pod" or not isinstance(pod, str) or not pod:
        return None
    if not isinstance(addresses, list) or not addresses or not _is_ip(addresses[0]):
        return None
    # "A nil value should be interpreted as true" (discovery.k8s.io/v1, EndpointConditions.ready).
    ready = _mapping(conditions).get("ready")
    return Endpoint(pod, addresses[0], port, ready is not False)


def _port(ports: Any, name: str) -> int | None:
    candidates = [
        each
        for each in ports or ()
        if isinstance(each, Mapping) and isinstance(each.get("port"), int) and 0 < each["port"] < 65_536
    ]
    if len(candidates) > 1:
        candidates = [each for each in candidates if each.get("name") == name]
    return int(candidates[0]["port"]) if len(candidates) == 1 else None


def _is_ip(value: Any) -> bool:
    try:
        ipaddress.ip_address(value if isinstance(value, str) else "")
    except ValueError:
        return False
    return True


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
