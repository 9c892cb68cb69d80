"""What Miwen does with ciphertext that is left, with kinds that are not for secrets, and with what it warns of."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from fakes.krapao import Plain
from support.miwen.objects import config
from support.miwen.world import FILE, INTERVAL, URL, World, miwen, secret, settle
from trio.testing import MockClock

from jiemi.core.content.ciphertext import ENCRYPTED
from jiemi.core.decisions.policy import Policy, PolicyRule
from jiemi.miwen.reconcile.tenancy import Tenancy
from jiemi.rpc.contract import Encryption

SEALED = f"{ENCRYPTED}YWJj,iv:{'A' * 43}=,tag:{'B' * 22}==,type:str]"
SOPS_SECRET = {
    "apiVersion": "isindir.github.com/v1alpha3",
    "kind": "SopsSecret",
    "metadata": {"name": "s"},
    "spec": {"secretTemplates": [{"name": "t", "stringData": {"a": "in clear"}}]},
}


def files(*patterns: str, **more: Any) -> dict[str, Any]:
    return {"source": {"repository": {"url": URL}, "files": list(patterns), **more}}


async def next_tick(world: World) -> None:
    await trio.sleep(INTERVAL + 1)
    await settle()


async def test_a_value_that_is_a_sops_file_is_decrypted_in_plain_and_in_encrypted_secrets(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.values = {"FILE-1": "one", "FILE-2": "two"}
    world.origin.commit({FILE: [secret("app", a="FILE-1", b="x")], "p.yaml": Plain([secret("plain", a="FILE-2")])})
    async with miwen(world):
        world.add(**files("*.yaml"))
        await settle()
        assert world.reason() == "Synced"
        assert world.data("app") == {"a": "one", "b": "x"}
        assert world.data("plain") == {"a": "two"}
        assert world.status()["encryption"] == {}
    [request] = [each for each in world.krapao.requests if each.path == "p.yaml"]
    [places] = request.nested
    assert (places.having, places.encoded) == ((("apiVersion", "v1"), ("kind", "Secret")), ("data",))


async def test_ciphertext_that_is_left_is_refused_and_all_else_is_applied(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit(
        {
            FILE: [secret("app", a="x"), secret("left", a=SEALED)],
            "c.yaml": Plain([config("left", a=f"password: {SEALED}\n"), config("good", a="it is told of as ENC[…")]),
        }
    )
    async with miwen(world):
        world.add(**files("*.yaml"), prune=True)
        await settle()
        assert world.reason() == "CiphertextLeft"
        ready = world.condition("Ready")
        assert "ConfigMap left (document 1 of c.yaml): data.a holds ciphertext of SOPS" in ready["message"]
        assert SEALED not in str(world.status())
        assert world.data("app") == {"a": "x"}
        assert world.data("left") is None
        assert world.cluster.get("ConfigMap", "default", "left") is None
        assert world.cluster.get("ConfigMap", "default", "good") is not None
        metadata = {"annotations": {"jiemi.cr/ciphertext": "keep"}}
        kept = config("left", a=f"password: {SEALED}\n")
        kept["metadata"] |= metadata
        world.origin.commit({FILE: [secret("app", a="x")], "c.yaml": Plain([kept])})
        await next_tick(world)
        assert world.reason() == "Synced"
        found = world.cluster.get("ConfigMap", "default", "left")
        assert found is not None
        assert found["data"] == {"a": f"password: {SEALED}\n"}


async def test_a_file_of_which_nothing_may_be_applied_is_not_decrypted_again_until_it_is_another(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [secret("left", a=SEALED)], "s.yaml": [SOPS_SECRET]})
    async with miwen(world):
        world.add(**files("*.yaml"))
        await settle()
        assert world.reason() in {"CiphertextLeft", "KindNotForSecrets"}
        renders = world.renders()
        await next_tick(world)
        assert world.renders() == renders
        world.origin.commit({FILE: [secret("left", a="x")]}, remove=["s.yaml"])
        await next_tick(world)
        assert world.reason() == "Synced"


async def test_an_object_that_is_deployed_stays_when_its_file_gets_ciphertext(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [secret("app", a="good"), secret("more", a="x")]})
    async with miwen(world):
        world.add(prune=True)
        await settle()
        assert world.data() == {"a": "good"}
        world.origin.commit({FILE: [secret("app", a=SEALED)]})
        await next_tick(world)
        assert world.reason() == "CiphertextLeft"
        assert world.data() == {"a": "good"}
        assert world.data("more") == {"a": "x"}  # nothing is pruned while something is wrong


async def test_a_target_with_ciphertext_is_refused(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({FILE: [{"A": "x", "B": SEALED}]})
    async with miwen(world):
        world.add(target={"name": "made", "kind": "ConfigMap"})
        await settle()
        assert world.reason() == "CiphertextLeft"
        assert world.cluster.get("ConfigMap", "default", "made") is None
        assert len(world.krapao.requests[0].nested) == 1  # what is decrypted goes into no ConfigMap
        world.add(target={"name": "made", "annotations": {"jiemi.cr/ciphertext": "keep"}})
        await settle()
        assert world.data("made") == {"A": "x", "B": SEALED}
        assert len(world.krapao.requests[-1].nested) == 1
        world.add(target={"name": "made"})
        await settle()
        assert world.reason() == "CiphertextLeft"
        assert len(world.krapao.requests[-1].nested) == 2


@pytest.mark.parametrize("kind", ["SopsSecret", "Issuer"])
async def test_a_custom_resource_of_an_encrypted_file_that_a_glob_meets_is_refused(
    world: World, autojump_clock: MockClock, kind: str
) -> None:
    found = {**SOPS_SECRET, "kind": kind}
    world.origin.commit({FILE: [secret("app", a="x")], "apps/s.yaml": [found], "apps/plain.yaml": Plain([config("c")])})
    async with miwen(world):
        world.add(**files(FILE, "apps/*.yaml"))
        await settle()
        assert world.reason() == "KindNotForSecrets"
        assert f"{kind} s of isindir.github.com (document 1 of apps/s.yaml)" in world.condition("Ready")["message"]
        assert "in clear" not in str(world.status()).replace("put the decrypted values into it in clear", "").replace(
            "hold the decrypted values in clear", ""
        )
        assert world.data() == {"a": "x"}
        assert world.cluster.get("ConfigMap", "default", "c") is not None
        world.add(**files(FILE, "apps/*.yaml", exclude=["s.yaml"]))
        await settle()
        assert world.reason() == "Synced"
        # Its own name in the spec says that a custom resource is meant, and never that a SopsSecret is.
        world.add(**files(FILE, "apps/*.yaml", "apps/s.yaml"))
        await settle()
        assert world.reason() == ("KindNotForSecrets" if kind == "SopsSecret" else "KindUnknown")
        world.add(**files(FILE, "apps/*.yaml"), encryptedKinds=[f"{kind}.isindir.github.com"])
        await settle()
        assert world.reason() == "KindUnknown"  # so it is asked of the cluster, which has it not


async def test_a_plain_custom_resource_is_applied_as_ever(world: World, autojump_clock: MockClock) -> None:
    world.origin.commit({"apps/s.yaml": Plain([{**SOPS_SECRET, "spec": {"a": "b"}}])})
    async with miwen(world):
        world.add(**files("apps/*.yaml"))
        await settle()
        assert world.reason() == "KindUnknown"


async def test_the_file_to_decrypt_may_hold_any_custom_resource_as_in_the_first_version(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.commit({FILE: [{**SOPS_SECRET, "kind": "Issuer", "apiVersion": "x.example/v1"}]})
    async with miwen(world):
        world.add()
        await settle()
        assert world.reason() == "KindUnknown"


# --- what there is to warn of


async def test_a_mac_of_encrypted_values_only_is_reported_while_such_a_file_is_deployed(
    world: World, autojump_clock: MockClock
) -> None:
    good = world.origin.encryption
    world.origin.encryption = attrs.evolve(good, mac_only_encrypted=True)
    world.origin.commit({FILE: [secret("app", a="x")], "other.yaml": [secret("other", a="x")]})
    async with miwen(world):
        world.add(**files("*.yaml"))
        await settle()
        told = world.condition("MacOnlyEncrypted")
        assert (told["status"], told["reason"]) == ("True", "MacNotOfEverything")
        assert told["message"].startswith(f"other.yaml, {FILE}: with mac_only_encrypted")
        assert world.reason() == "Synced"
        world.origin.encryption = good
        world.origin.commit({"other.yaml": [secret("other", a="y")]})
        await next_tick(world)
        assert world.condition("MacOnlyEncrypted")["message"].startswith(f"{FILE}: with")
        world.origin.commit({"new.yaml": [secret("app", a="x")]}, remove=[FILE])
        await next_tick(world)
        assert world.condition("MacOnlyEncrypted") == {}
        assert "warnings" not in world.status()


@pytest.mark.parametrize("by", ["flag", "rule"])
async def test_the_operator_refuses_such_files(world: World, autojump_clock: MockClock, by: str) -> None:
    world.origin.encryption = Encryption(mac_only_encrypted=True)
    world.origin.commit({FILE: [secret("app", a="x")], "p.yaml": Plain([secret("plain", a="x")])})
    rule = PolicyRule(namespaces=("default",), object_namespaces=("default",), require_full_mac=True)
    settings = {"tenancy": Tenancy(require_full_mac=True)} if by == "flag" else {"policy": Policy((rule,))}
    async with miwen(world, **settings):
        world.add(**files("*.yaml"))
        await settle()
        assert world.reason() == "MacOnlyEncrypted"
        assert world.condition("Stalled")["status"] == "True"
        assert world.data("app") is None
        assert world.data("plain") == {"a": "x"}
        world.origin.encryption = Encryption(mac_only_encrypted=False)
        world.origin.commit({FILE: [secret("app", a="y")]})
        await next_tick(world)
        assert world.reason() == "Synced"


async def test_a_krapao_that_does_not_tell_what_the_mac_covers_is_not_believed(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.encryption = Encryption()
    world.origin.commit({FILE: [secret("app", a="x")]})
    async with miwen(world, tenancy=Tenancy(require_full_mac=True)):
        world.add()
        await settle()
        assert world.reason() == "ProviderNotSupportedYet"
        assert world.data() is None


async def test_values_with_carriage_returns_are_reported_by_name_and_applied_as_they_are(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.carriage_returns = {FILE: ("A", "B", "C", "D", "E", "F", "G")}
    world.origin.commit({FILE: [{"A": "x\r"}]})
    async with miwen(world):
        world.add(target={"name": "made"})
        await settle()
        assert world.reason() == "Synced"
        assert world.data("made") == {"A": "x\r"}
        told = world.condition("CarriageReturns")
        assert (told["status"], told["reason"]) == ("True", "InValues")
        assert f"{FILE} (A, B, C, D, E and 2 more)" in told["message"]
        world.origin.carriage_returns = {}
        world.origin.commit({FILE: [{"A": "x"}]})
        await next_tick(world)
        assert world.condition("CarriageReturns") == {}


async def test_a_warning_is_kept_while_a_newer_version_of_its_file_is_refused(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.carriage_returns = {FILE: ("A",)}
    world.origin.commit({FILE: [secret("app", a="x")]})
    async with miwen(world):
        world.add()
        await settle()
        assert world.condition("CarriageReturns") != {}
        world.origin.carriage_returns = {}
        world.origin.commit({FILE: [secret("app", a="y"), {"no": "object"}]})
        await next_tick(world)
        assert world.reason() == "NotAKubernetesObject"
        assert world.condition("CarriageReturns") != {}
