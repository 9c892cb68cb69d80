"""Krapao knows every provider that a spec can name: nothing else fails where a table lacks one."""

from __future__ import annotations

from typing import get_args

import pytest

from jiemi.core.api.provider import PROVIDERS
from jiemi.krapao.decryption import destinations, keyservice
from jiemi.krapao.decryption.grpc import UNKNOWN, GrpcStatusError
from jiemi.krapao.decryption.verdicts import Verdict, of_status
from jiemi.rpc.keys import DecryptionKey

LOCAL = ("age", "pgp")
"""These ask no service."""


def test_each_provider_has_its_credentials_on_the_wire() -> None:
    assert sorted(kind.provider for kind in get_args(DecryptionKey)) == sorted(PROVIDERS)


def test_each_provider_has_its_key_in_sops_s_key_service() -> None:
    kinds = get_args(keyservice.MasterKey)
    assert sorted(destinations.provider_of(kind.__new__(kind)) for kind in kinds) == sorted(PROVIDERS)


@pytest.mark.parametrize("provider", [each for each in PROVIDERS if each not in LOCAL])
def test_an_outage_of_each_key_service_is_known_as_one(provider: str) -> None:
    error = GrpcStatusError(UNKNOWN, "dial tcp 127.0.0.1:1: connect: connection refused")
    assert of_status(provider, error) is Verdict.UNREACHABLE
