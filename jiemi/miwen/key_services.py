"""Where credentials may go, by the operator's policy: checked once their values are known, before Krapao gets them.

What a Decryptor itself names (`endpoint`, `authorityHost`, …) may stand in a Secret, and so may a Google service
account's `token_uri`; each is compared with the rule. Which Vault a file asks for is known to Krapao's guard alone: the
bound goes along with the key.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import attrs

from jiemi.core.errors import JiemiError
from jiemi.core.policy import PolicyRule
from jiemi.rpc.keys import NO_SERVER, AwsKey, AzureKey, DecryptionKey, GcpKey, VaultKey


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
    """The servers that a key's own fields name, but for Vault's."""
    match key:
        case AwsKey():
            for field, value in (("aws.endpoint", key.endpoint), ("aws.stsEndpoint", key.sts_endpoint)):
                if value is not None:
                    yield field, value.reveal()
        case GcpKey():
            if key.endpoint is not None:
                yield "gcp.endpoint", key.endpoint.reveal()
            if key.service_account is not None:
                yield "gcp.serviceAccount (token_uri)", _token_uri(key.service_account.reveal())
        case AzureKey():
            if key.authority_host is not None:
                yield "azure.authorityHost", key.authority_host.reveal()
            for address in key.allowed_vaults:
                yield "azure.allowedVaults", address


def _token_uri(text: str) -> str:
    """Raises JiemiError: PolicyDenied: it is no plain service account's key file; the others name servers in many
    places, and programs."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):  # their texts quote the document
        found = None
    if not isinstance(found, dict) or found.get("type") != "service_account":
        raise JiemiError(
            "PolicyDenied",
            "the operator's policy: spec.provider.gcp.serviceAccount must be a service account's key file",
        )
    return str(found.get("token_uri", "https://oauth2.googleapis.com/token"))
