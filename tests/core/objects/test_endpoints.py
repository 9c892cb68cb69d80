"""The Pods behind a Service."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.json_values import json_values

from jiemi.core.objects.endpoints import Endpoint, endpoints


def entry(pod: str, address: str = "10.0.0.1", **conditions: bool) -> dict[str, Any]:
    return {"addresses": [address], "conditions": conditions, "targetRef": {"kind": "Pod", "name": pod}}


def slice_of(*entries: Any, family: str = "IPv4", ports: Any = ({"name": "capnp", "port": 50208},)) -> dict[str, Any]:
    return {"addressType": family, "endpoints": list(entries), "ports": list(ports) if ports else ports}


def test_each_pod_is_given_once_with_its_address_and_port() -> None:
    slices = [slice_of(entry("b", "10.0.0.2", ready=True)), slice_of(entry("a", ready=False))]
    assert endpoints(slices, "capnp") == (
        Endpoint("a", "10.0.0.1", 50208, ready=False),
        Endpoint("b", "10.0.0.2", 50208, ready=True),
    )


def test_a_pod_whose_readiness_is_not_known_counts_as_ready() -> None:
    assert endpoints([slice_of(entry("a"))], "capnp")[0].ready
    assert endpoints([slice_of({**entry("a"), "conditions": None})], "capnp")[0].ready


def test_of_a_pod_with_two_addresses_the_one_of_ipv4_is_taken() -> None:
    slices = [slice_of(entry("a", "fd00::1"), family="IPv6"), slice_of(entry("a", ready=False))]
    assert endpoints(slices, "capnp") == (Endpoint("a", "10.0.0.1", 50208, ready=False),)


@pytest.mark.parametrize("order", [1, -1])
def test_a_pod_that_is_in_two_slices_for_a_moment_is_ready_if_one_says_so(order: int) -> None:
    slices = [slice_of(entry("a", ready=True)), slice_of(entry("a", ready=False))][::order]
    assert endpoints(slices, "capnp")[0].ready


def test_of_several_ports_the_one_of_that_name_is_taken() -> None:
    ports = ({"name": "metrics", "port": 9090}, {"name": "capnp", "port": 1})
    assert endpoints([slice_of(entry("a"), ports=ports)], "capnp")[0].port == 1
    assert endpoints([slice_of(entry("a"), ports=({"port": 2},))], "capnp")[0].port == 2
    assert endpoints([slice_of(entry("a"), ports=({"port": 2}, {"port": 3}))], "capnp") == ()


@pytest.mark.parametrize(
    "odd",
    [
        slice_of(entry("a", "a.example"), family="FQDN"),
        slice_of(entry("a"), ports=None),
        {"addressType": "IPv4", "ports": [{"port": 1}]},
        {"addressType": "IPv4", "ports": [{"port": 1}], "endpoints": None},
        slice_of({"addresses": ["10.0.0.1"]}),
        slice_of({"addresses": ["10.0.0.1"], "targetRef": {"kind": "Node", "name": "n"}}),
        slice_of({"addresses": [], "targetRef": {"kind": "Pod", "name": "a"}}),
        slice_of({"addresses": None, "targetRef": {"kind": "Pod", "name": "a"}}),
    ],
)
def test_what_is_no_pod_with_an_address_is_left_out(odd: dict[str, Any]) -> None:
    assert endpoints([odd, slice_of(entry("b"))], "capnp") == (Endpoint("b", "10.0.0.1", 50208, ready=True),)


KEYS = st.sampled_from(["targetRef", "kind", "name", "addresses", "conditions", "ready", "port"])


@given(json_values(KEYS, st.just("Pod")), json_values(KEYS))
def test_whatever_a_slice_holds_it_is_read_or_left_out(entries: Any, ports: Any) -> None:
    endpoints([{"addressType": "IPv4", "endpoints": [entries], "ports": [ports]}], "capnp")
