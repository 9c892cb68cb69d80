"""Which servers a request for a data key leads to because a Decryptor or a file names them: a pure decision.

A holder is sops itself, which resolves and connects by itself, so its servers are judged before it is asked
(`jiemi.krapao.network.connecting`). Those that a cloud's library knows by itself are not among them: nobody chose them.
Nor are those that Krapao's operator names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from jiemi.core.addresses import normal_address
from jiemi.core.sensitive import SensitiveText
from jiemi.krapao.decryption.destinations import VaultTrust, is_azures_own
from jiemi.krapao.decryption.keyservice import AzureMasterKey, MasterKey, VaultMasterKey
from jiemi.rpc.keys import AwsKey, AzureKey, DecryptionKey, GcpKey, VaultKey

_GOOGLES_DOMAIN = "googleapis.com"
"""https://cloud.google.com/docs/authentication/universe-domain"""

_GOOGLES_TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105 - no secret


def named_servers(asked: MasterKey, key: DecryptionKey, trust: VaultTrust) -> tuple[tuple[str, str], ...]:
    """The servers, each with the field that names it.

    Args:
        asked: what the guard let through (`judge`).
        key: the Decryptor's.
        trust: for Vault.
    """
    return tuple((field, url) for field, url in _named(asked, key, trust) if normal_address(url) is not None)


def _named(asked: MasterKey, key: DecryptionKey, trust: VaultTrust) -> Iterator[tuple[str, str]]:
    match asked, key:
        case VaultMasterKey(), VaultKey():
            if asked.address not in {normal_address(each) for each in trust.operators}:
                given = key.address is not None
                yield "spec.provider.vault.address" if given else "the file's Vault address", asked.address
        case AzureMasterKey(), AzureKey():
            if not is_azures_own(asked.vault_url):
                yield "spec.provider.azure.allowedVaults", asked.vault_url
            yield from _given("spec.provider.azure.authorityHost", key.authority_host)
        case _, AwsKey():
            yield from _given("spec.provider.aws.endpoint", key.endpoint)
            yield from _given("spec.provider.aws.stsEndpoint", key.sts_endpoint)
        case _, GcpKey():
            yield from _given("spec.provider.gcp.endpoint", key.endpoint)
            account = _fields(key.service_account)
            if account.get("token_uri", _GOOGLES_TOKEN_URI) != _GOOGLES_TOKEN_URI:
                yield "spec.provider.gcp.serviceAccount (its token_uri)", account["token_uri"]
            if account.get("universe_domain", _GOOGLES_DOMAIN) != _GOOGLES_DOMAIN:
                where = f"https://cloudkms.{account['universe_domain']}"
                yield "spec.provider.gcp.serviceAccount (its universe_domain)", where


def _given(field: str, value: SensitiveText | None) -> Iterator[tuple[str, str]]:
    if value is not None:
        yield field, value.reveal().strip()


def _fields(account: SensitiveText | None) -> dict[str, str]:
    """The texts in a service account's key file; none where it is not one, which is reported when its holder starts."""
    try:
        found = json.loads(account.reveal()) if account is not None else {}
    except (ValueError, RecursionError):
        return {}
    pairs = found.items() if isinstance(found, dict) else ()
    return {name: value for name, value in pairs if isinstance(value, str)}
