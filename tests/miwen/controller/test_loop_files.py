"""What a file is made of it, and what of it goes into status: targets, its encryption, the Vault server it names."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import trio
from support.miwen.world import FILE, INTERVAL, URL, World, miwen, secret, settle
from trio.testing import MockClock

from jiemi.core.decisions.policy import read_policy
from jiemi.rpc.contract import Encryption


def source(path: str) -> dict[str, Any]:
    return {"repository": {"url": URL}, "fileToDecrypt": path}


async def test_a_file_that_can_hold_no_objects_is_refused_without_a_target(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({"settings.env": [{"A": "canary"}]})
    world.add(source=source("settings.env"))
    async with miwen(world):
        assert world.reason() == "UnknownFormat"
        assert "give spec.target" in world.current()["error_message"]
        assert "canary" not in str(world.status())


async def test_a_dotenv_file_becomes_a_secret_with_a_key_for_each_variable(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({"settings.enc.env": [{"A": "one", "B": ""}]})
    target = {"name": "settings", "labels": {"a": "b"}, "annotations": {"c": "d"}, "type": "example/x"}
    world.add(source=source("settings.enc.env"), target=target)
    async with miwen(world):
        assert world.reason() == "Synced"
        assert world.data("settings") == {"A": "one", "B": ""}
        made = world.cluster.get("Secret", "default", "settings")
        assert made is not None
        assert made["type"] == "example/x"
        labels = {"jiemi.cr/decryptor-name": "app", "jiemi.cr/decryptor-namespace": "default"}
        assert made["metadata"]["labels"] == {"a": "b", **labels}
        assert made["metadata"]["annotations"] == {"c": "d"}


@pytest.mark.parametrize(
    ("path", "key", "name"),
    [
        ("tls/ca.pem.enc", None, "ca.pem"),
        ("app.enc.ini", None, "app.ini"),
        ("app.enc.yaml", "config.yaml", "config.yaml"),
    ],
)
async def test_a_whole_file_becomes_one_key(
    world: World, autojump_clock: MockClock, path: str, key: str | None, name: str
) -> None:
    world.origin.commit({path: ["the file"]})
    world.add(source=source(path), target={"name": "whole", "kind": "ConfigMap", **({"key": key} if key else {})})
    async with miwen(world):
        made = world.cluster.get("ConfigMap", "default", "whole")
        assert made is not None
        assert made["data"] == {name: "the file"}


async def test_texts_on_the_top_of_a_yaml_file_become_keys_and_what_is_no_text_is_named(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [{"a": "x", "n": 7, "t": True}]})
    world.add(target={"name": "values"})
    async with miwen(world):
        assert world.data("values") == {"a": "x", "n": "7", "t": "true"}
        world.origin.commit({FILE: [{"a": {"b": "canary"}}]})
        await trio.sleep(INTERVAL + 1)
        assert world.reason() == "UnknownFormat"
        assert "the value of a is no text" in world.current()["error_message"]
        assert "canary" not in str(world.status())
        assert world.data("values") == {"a": "x", "n": "7", "t": "true"}
        world.origin.commit({FILE: [{"a b": "x"}]})
        await trio.sleep(INTERVAL + 1)
        assert "can be no key" in world.current()["error_message"]
        world.origin.commit({FILE: [{"a": "x"}, {"b": "x"}]})
        await trio.sleep(INTERVAL + 1)
        assert "has 2 documents, and spec.target without key needs one mapping" in world.current()["error_message"]


async def test_what_a_file_says_of_its_encryption_is_in_status(world: World, autojump_clock: MockClock) -> None:
    world.origin.encryption = Encryption(("age age1x", "pgp ABCD"), "2026-01-01T00:00:00Z", "3.13.3")
    world.add()
    async with miwen(world):
        assert world.status()["encryption"] == {
            "recipients": ["age age1x", "pgp ABCD"],
            "lastModified": "2026-01-01T00:00:00Z",
            "sopsVersion": "3.13.3",
        }


VAULT = {"token": {"literal": "hvs.canary"}}
ONE, OTHER = "https://vault-1.example:8200", "https://vault-2.example:8200"


async def test_the_vault_of_the_first_decryption_is_kept_shown_and_not_changed_by_the_file(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.vault_address = ONE
    world.add(provider={"vault": VAULT})
    async with miwen(world):
        assert world.status()["vaultAddress"] == ONE
        condition = world.condition("VaultAddressTrusted")
        assert (condition["status"], condition["reason"]) == ("True", "FirstUse")
        assert ONE in condition["message"]
        began = condition["lastTransitionTime"]

        world.origin.vault_address = OTHER
        world.origin.commit({FILE: [secret(greeting="two")]})
        await trio.sleep(INTERVAL + 1)
        assert world.reason() == "DestinationNotAllowed"
        assert world.status()["vaultAddress"] == ONE
        assert world.data() == {"greeting": "one"}

        world.origin.vault_address = ONE
        world.origin.commit({FILE: [secret(greeting="three")]})
        await trio.sleep(INTERVAL + 1)
        assert world.data() == {"greeting": "three"}
        assert world.condition("VaultAddressTrusted")["lastTransitionTime"] == began

    async with miwen(world):  # a Miwen that was restarted knows it from status
        world.origin.vault_address = OTHER
        world.origin.commit({FILE: [secret(greeting="four")]})
        await trio.sleep(INTERVAL + 1)
        assert world.reason() == "DestinationNotAllowed"


async def test_a_vault_that_the_spec_names_takes_the_place_of_the_trusted_one(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.vault_address = ONE
    world.add(provider={"vault": VAULT})
    async with miwen(world):
        assert world.status()["vaultAddress"] == ONE
        world.origin.vault_address = OTHER
        world.origin.commit({FILE: [secret(greeting="two")]})
        world.add(provider={"vault": {**VAULT, "address": {"literal": OTHER}}})
        await settle()
        assert world.data() == {"greeting": "two"}
        assert "vaultAddress" not in world.status()
        assert world.condition("VaultAddressTrusted") == {}


async def test_a_vault_is_kept_from_the_first_decryption_on_though_nothing_could_be_applied(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.vault_address = ONE
    world.origin.commit({FILE: [{"no": "object"}]})
    world.add(provider={"vault": VAULT})
    async with miwen(world):
        assert world.reason() == "NotAKubernetesObject"
        assert world.status()["vaultAddress"] == ONE
        world.origin.vault_address = OTHER
        world.origin.commit({FILE: [secret(greeting="two")]})
        await trio.sleep(INTERVAL + 1)
        assert world.reason() == "DestinationNotAllowed"


async def test_binary_content_stays_whole_in_a_config_map() -> None:
    from jiemi.core.api.spec import TargetSpec
    from jiemi.core.objects.target import target_manifest, target_values
    from jiemi.core.sensitive import SensitiveBytes

    target = TargetSpec("x", "ConfigMap")
    values = target_values(target, path="a.bin", documents=(), content=SensitiveBytes(b"\xff\x00"))
    made = target_manifest(target, {"a.bin": values})
    assert made.body["binaryData"] == {"a.bin": base64.b64encode(b"\xff\x00").decode()}


async def test_a_policy_is_asked_before_the_repository_and_bounds_recipients_and_namespaces(
    world: World, autojump_clock: MockClock
) -> None:
    policy = read_policy(f"rules: [{{namespaces: [default], repositories: ['{URL}'], recipients: [age1one]}}]")
    world.add()
    world.add("stranger", "elsewhere")
    async with miwen(world, policy=policy):
        assert world.reason() == "Synced"
        assert world.krapao.requests[-1].allowed_recipients == ("age1one",)
        told = world.status("stranger", "elsewhere")["conditions"]
        assert [each["reason"] for each in told] == ["PolicyDenied", "PolicyDenied"]
        assert sum(call[0] == "head" for call in world.krapao.calls) == 1
        world.origin.commit({FILE: [secret(namespace="kube-system", greeting="two")]})
        await trio.sleep(INTERVAL + 1)
        assert world.reason() == "PolicyDenied"
        assert world.cluster.get("Secret", "kube-system", "app") is None


async def test_recipients_that_are_stale_are_warned_of_until_they_are_not(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.encryption = Encryption(("age age1x", "age age1y"), stale_recipients=("age age1y",))
    world.add()
    async with miwen(world):
        condition = world.condition("StaleRecipients")
        assert (condition["status"], condition["reason"]) == ("True", "NotInSopsConfig")
        assert "age age1y" in condition["message"]
        assert world.reason() == "Synced"
        assert world.status()["encryption"]["staleRecipients"] == ["age age1y"]
        world.origin.encryption = Encryption(("age age1x",))
        world.origin.commit({FILE: [secret(greeting="two")]})
        await trio.sleep(INTERVAL + 1)
        assert world.condition("StaleRecipients") == {}


async def test_a_key_is_warned_of_30_days_before_it_expires_with_one_write(
    world: World, autojump_clock: MockClock
) -> None:
    # The world begins on 2026-11-24 at midnight.
    world.origin.encryption = Encryption(("pgp A",), key_expires_at="2026-12-24T00:10:00Z")
    world.add()
    async with miwen(world):
        written = world.versions()
        await trio.sleep(590)
        assert world.condition("KeyExpiring") == {}
        assert world.versions() == written
        await trio.sleep(INTERVAL)
        assert world.condition("KeyExpiring")["reason"] == "Expiring"
        assert "2026-12-24" in world.condition("KeyExpiring")["message"]
        assert world.reason() == "Synced"
        await trio.sleep(5 * INTERVAL)
        assert world.versions() == written + 1
