"""Where the tests' own servers are: an operator would have to allow it."""

from __future__ import annotations

from jiemi.core.address_rules import AddressRules, read_network

LOOPBACK = AddressRules(allowed=(read_network("127.0.0.0/8"), read_network("::1/128")))
LOOPBACK_FLAGS = ("--allow-address", "127.0.0.0/8", "--allow-address", "::1/128")
