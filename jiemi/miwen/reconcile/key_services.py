"""Where credentials may go, by the operator's policy: checked once their values are known, before Krapao gets them.

What a Decryptor itself names (`endpoint`, `authorityHost`, …) may stand in a Secret, and so may a Google service
account's `token_uri`; each is compared with the rule. Which Vault a file asks for is known to Krapao's guard alone: the
bound goes along with the key.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import attrs

from jiemi.core.decisions.policy import PolicyRule
from jiemi.core.errors import JiemiError
from jiemi.rpc.keys import NO_SERVER, AwsKey, AzureKey, DecryptionKey, GcpKey, VaultKey

_GOOGLES_TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address


def bounded(keys: tuple[DecryptionKey, ...], rule: PolicyRule) -> tuple[DecryptionKey, ...]:
    """The keys with a rule's bounds.

    Raises:
        JiemiError: PolicyDenied, one would be sent where the rule does not allow it.
    """
    for key in keys:
        for field, address in _addresses(key):
            rule.require_key_service(address, field=f"spec.provider.{field}")
    addresses = rule.vault_addresses
    if addresses is None:
        return keys
    return tuple(
        attrs.evolve(key, allowed_addresses=addresses or (NO_SERVER,)) if isinstance(key, VaultKey) else key
        for key in keys
    )


def _addresses(key: DecryptionKey) -> Iterator[tuple[str, str]]:
    """The servers that the fields of a key name, except those of Vault."""
    match key:
        case AwsKey():
            for field, value in (("aws.endpoint", key.endpoint), ("aws.stsEndpoint", key.sts_endpoint)):
                if value is not None:
                    yield field, value.reveal()
        case GcpKey():
            if key.endpoint is not None:
                yield "gcp.endpoint", key.endpoint.reveal()
            if key.service_account is not None:
                account = _service_account(key.service_account.reveal())
                yield "gcp.serviceAccount (token_uri)", str(account.get("token_uri", _GOOGLES_TOKEN_URI))
                if "universe_domain" in account:
                    # Google's libraries make the server's name of it.
                    yield "gcp.serviceAccount (universe_domain)", f"https://cloudkms.{account['universe_domain']}"
        case AzureKey():
            if key.authority_host is not None:
                yield "azure.authorityHost", key.authority_host.reveal()
            for address in key.allowed_vaults:
                yield "azure.allowedVaults", address


def _service_account(text: str) -> dict[str, Any]:
    """The fields of a service account's key file.

    Raises:
        JiemiError: PolicyDenied: it is none; the other kinds of file name servers in many places, and programs.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):  # their texts quote the document
        found = None
    if not isinstance(found, dict) or found.get("type") != "service_account":
        raise JiemiError(
            "PolicyDenied",
            "the operator's policy: spec.provider.gcp.serviceAccount must be a service account's key file",
        )
    return found
