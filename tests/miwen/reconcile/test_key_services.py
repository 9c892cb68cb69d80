"""Which keys the operator's policy lets out, and that what it refuses is quoted nowhere."""

from __future__ import annotations

import json

import pytest

from jiemi.core.decisions.policy import PolicyRule
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.miwen.reconcile.key_services import bounded
from jiemi.rpc.keys import NO_SERVER, AgeKey, AwsKey, AzureKey, DecryptionKey, GcpKey, VaultKey

RULE = PolicyRule(namespaces=("team",), key_services=("https://vault.example.com",))
EVIL = SensitiveText("https://evil.example/canary-5a1d")


def account(**fields: object) -> SensitiveText:
    return SensitiveText(json.dumps({"type": "service_account", "private_key": "canary-5a1d", **fields}))


@pytest.mark.parametrize(
    "key",
    [
        AwsKey(key_id=SensitiveText("k"), endpoint=EVIL),
        AwsKey(key_id=SensitiveText("k"), sts_endpoint=EVIL),
        GcpKey(access_token=SensitiveText("t"), endpoint=EVIL),
        GcpKey(service_account=account(token_uri=EVIL.reveal())),
        GcpKey(service_account=account(token_uri={"canary-5a1d": 1})),
        GcpKey(service_account=account(universe_domain="canary-5a1d.example")),
        GcpKey(service_account=account(universe_domain="googleapis.com.canary-5a1d.example")),
        GcpKey(service_account=account(universe_domain={"canary-5a1d": 1})),
        GcpKey(service_account=SensitiveText('{"type": "external_account", "token_url": "https://canary-5a1d"}')),
        GcpKey(service_account=SensitiveText("canary-5a1d")),
        GcpKey(service_account=SensitiveText('["canary-5a1d"]')),
        AzureKey(client_secret=SensitiveText("s"), authority_host=EVIL),
        AzureKey(client_secret=SensitiveText("s"), allowed_vaults=("https://team.vault.azure.net", EVIL.reveal())),
    ],
    ids=lambda key: f"{key.provider}",
)
def test_a_key_that_would_go_elsewhere_is_refused(key: DecryptionKey) -> None:
    with pytest.raises(JiemiError) as caught:
        bounded((AgeKey(SensitiveText("x")), key), RULE)
    assert caught.value.failure.reason == "PolicyDenied"
    assert "canary" not in caught.value.failure.text
    assert f"spec.provider.{key.provider}." in caught.value.failure.text


def test_a_vault_is_bounded_by_what_goes_along_with_its_key() -> None:
    key = VaultKey(token=SensitiveText("t"), pinned_address="https://evil.example")
    [found] = bounded((key,), RULE)
    assert isinstance(found, VaultKey)
    assert found.allowed_addresses == ("https://vault.example.com",)
    [found] = bounded((key,), PolicyRule(namespaces=("team",)))
    assert isinstance(found, VaultKey)
    assert found.allowed_addresses == (NO_SERVER,)
    assert bounded((key,), PolicyRule(namespaces=("team",), recipients=("https://vault.example.com/**",))) == (key,)


def test_what_goes_to_the_clouds_own_servers_passes_as_it_is() -> None:
    keys = (
        AwsKey(key_id=SensitiveText("k"), endpoint=SensitiveText("https://kms.eu-west-1.amazonaws.com\n")),
        GcpKey(service_account=account()),
        AzureKey(client_secret=SensitiveText("s"), allowed_vaults=("https://team.vault.azure.net/",)),
    )
    assert bounded(keys, RULE) == keys
