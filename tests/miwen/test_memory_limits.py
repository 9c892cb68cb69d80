"""A namespace that holds too much: its Decryptors say so and wait, and all others are served."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from fakes.krapao import RIGHT_KEY
from fakes.kubernetes import FakeObjects
from support.miwen.world import FILE, URL, World, miwen, secret, settle
from trio.testing import MockClock

from jiemi.core.api.decryptor import API_VERSION, FINALIZER, KIND, PLURAL
from jiemi.core.credential_limits import DEFAULT_BYTES, LIMITS_BYTES, MAX_TOGETHER_BYTES
from jiemi.core.errors import Failure, JiemiError
from jiemi.miwen.controller.supervisor import BASE_BYTES
from jiemi.miwen.reconcile import render

_REASON = "NamespaceLimitExceeded"
_OF_THREE = 3 * 3 * (BASE_BYTES + 8 * 1024)
"""What gives one namespace room for three small Decryptors."""


def _reasons(world: World, *names: str, namespace: str = "default") -> list[str]:
    found = []
    for name in names:
        conditions = world.status(name, namespace).get("conditions", ())
        found.append(next((each["reason"] for each in conditions if each["type"] == "Ready"), ""))
    return found


def _credentials(**keys: str) -> dict[str, Any]:
    given = {field: {"secretName": "git", "key": key} for field, key in keys.items()}
    return {"repository": {"url": URL, "credentials": given}, "fileToDecrypt": FILE}


async def test_those_beyond_it_say_so_and_another_namespace_is_served(world: World, autojump_clock: MockClock) -> None:
    for number in range(5):
        world.add(f"d{number}")
    world.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})
    world.add("other", namespace="team")
    async with miwen(world, decryptor_memory_bytes=_OF_THREE):
        await trio.sleep(5)
        assert _reasons(world, *(f"d{n}" for n in range(5))) == ["Synced"] * 3 + [_REASON] * 2
        assert _reasons(world, "other", namespace="team") == ["Synced"]
        assert world.condition("Stalled", "d4")["status"] == "True"
        assert world.current("d4")["status"] == "NotSync"
        written = world.versions()
        await trio.sleep(1_000)
        assert world.versions() == written, "it is said once"


async def test_one_is_let_in_as_soon_as_another_goes(world: World, autojump_clock: MockClock) -> None:
    for number in range(5):
        world.add(f"d{number}")
    async with miwen(world, decryptor_memory_bytes=_OF_THREE):
        await trio.sleep(5)
        world.delete("d0")
        await trio.sleep(5)
        assert _reasons(world, "d3", "d4") == ["Synced", _REASON]
        world.delete("d4")
        world.delete("d1")
        await trio.sleep(5)
        world.add("d5")
        await trio.sleep(5)
        assert _reasons(world, "d2", "d3", "d5") == ["Synced"] * 3


async def test_one_is_let_in_when_another_becomes_smaller(world: World, autojump_clock: MockClock) -> None:
    world.add("large", provider={"pgp": {"privateKey": {"literal": "x" * (2 * BASE_BYTES)}}})
    world.add("small")
    async with miwen(world, decryptor_memory_bytes=_OF_THREE):
        await trio.sleep(5)
        assert _reasons(world, "small") == [_REASON]
        world.add("large")
        await trio.sleep(100)
        assert _reasons(world, "large", "small") == ["Synced"] * 2


async def test_what_one_deployed_stays_when_it_outgrows_the_room_and_is_followed_again_later(
    world: World, autojump_clock: MockClock
) -> None:
    world.add("grows")
    async with miwen(world, decryptor_memory_bytes=_OF_THREE):
        await trio.sleep(5)
        assert _reasons(world, "grows") == ["Synced"]
        before = world.status("grows")
        large = {"pgp": {"privateKey": {"literal": "x" * (_OF_THREE // 3)}}}
        world.add("grows", provider=large)
        await trio.sleep(5)
        after = world.status("grows")
        assert _reasons(world, "grows") == [_REASON]
        assert world.data("grows") is not None
        assert after["inventory"] == before["inventory"]
        assert after["current"]["id"] == before["current"]["id"]
        assert world.krapao.opened == 0
        world.add("grows")
        await trio.sleep(5)
        assert _reasons(world, "grows") == ["Synced"]


async def test_one_that_is_deleted_is_cleaned_up_though_there_is_no_room(
    world: World, autojump_clock: MockClock
) -> None:
    for number in range(5):
        world.add(f"d{number}")
    world.cluster.objects[API_VERSION, KIND, "default", "d4"]["metadata"]["finalizers"] = [FINALIZER]
    async with miwen(world, decryptor_memory_bytes=_OF_THREE):
        await trio.sleep(5)
        assert _reasons(world, "d4") == [_REASON]
        world.delete("d4")
        await trio.sleep(30)
        assert world.cluster.get(KIND, "default", "d4", api_version=API_VERSION) is None


async def test_after_a_restart_it_is_not_said_again(world: World, autojump_clock: MockClock) -> None:
    for number in range(5):
        world.add(f"d{number}")
    async with miwen(world, decryptor_memory_bytes=_OF_THREE):
        await trio.sleep(5)
    written = world.versions()
    async with miwen(world, decryptor_memory_bytes=_OF_THREE):
        await trio.sleep(5)
        assert world.versions() == written


@pytest.mark.parametrize("field", ["username", "token", "ssh", "knownHosts"])
async def test_a_value_that_is_too_long_in_a_secret_is_named_with_its_limit(
    world: World, autojump_clock: MockClock, field: str
) -> None:
    limit = LIMITS_BYTES.get(f"spec.source.repository.credentials.{field}", DEFAULT_BYTES)
    world.add_secret("git", long="x" * (limit + 1), other="y")
    world.add(source=_credentials(**{field: "long"}))
    async with miwen(world):
        await trio.sleep(5)
        message = world.condition("Ready")["message"]
        assert world.reason() == "CredentialTooLarge"
        assert f"{limit + 1} bytes, of {limit} at most" in message
        assert "key 'long' of Secret default/git" in message
        assert f"spec.source.repository.credentials.{field}" in message
        assert "xxx" not in str(world.status())
        world.add_secret("git", long="x" * limit)
        await trio.sleep(200)
        assert world.reason() != "CredentialTooLarge"


async def test_a_key_that_is_too_long_is_named_too(world: World, autojump_clock: MockClock) -> None:
    world.add_secret("keys", age="x" * (LIMITS_BYTES["spec.provider.age.privateKey"] + 5))
    world.add(provider={"age": {"privateKey": {"secretName": "keys", "key": "age"}}})
    async with miwen(world):
        await trio.sleep(5)
        assert world.reason() == "CredentialTooLarge"
        assert "spec.provider.age.privateKey" in world.condition("Ready")["message"]


async def test_credentials_that_are_too_large_together_are_refused(world: World, autojump_clock: MockClock) -> None:
    large = "x" * (LIMITS_BYTES["spec.provider.pgp.privateKey"])
    world.add_secret("keys", pgp=large, ca=large, age=RIGHT_KEY.private_key.reveal())
    provider = {
        "age": {"privateKey": {"secretName": "keys", "key": "age"}},
        "pgp": {"privateKey": {"secretName": "keys", "key": "pgp"}},
        "vault": {"caBundle": {"secretName": "keys", "key": "ca"}},
    }
    world.add(provider=provider)
    async with miwen(world):
        await trio.sleep(5)
        assert world.reason() == "CredentialTooLarge"
        assert f"of {MAX_TOGETHER_BYTES} at most" in world.condition("Ready")["message"]


async def test_the_credentials_of_open_repositories_count(world: World, autojump_clock: MockClock) -> None:
    world.add_secret("git", hosts="host ssh-ed25519 AAAA\n" * 5_000)
    for number in range(4):
        world.add(f"d{number}", source=_credentials(knownHosts="hosts"), target={"name": f"d{number}", "key": "file"})
    async with miwen(world, decryptor_memory_bytes=3 * (4 * (BASE_BYTES + 10_000) + 2 * 2 * 120_000)):
        await trio.sleep(5)
        assert sorted(_reasons(world, *(f"d{n}" for n in range(4)))) == [_REASON] * 2 + ["Synced"] * 2
        synced = [n for n in range(4) if _reasons(world, f"d{n}") == ["Synced"]]
        for number in synced:
            world.delete(f"d{number}")
        await trio.sleep(400)
        assert _reasons(world, *(f"d{n}" for n in range(4) if n not in synced)) == ["Synced"] * 2


async def test_a_literal_that_was_stored_before_there_was_a_bound_is_an_invalid_spec(
    world: World, autojump_clock: MockClock
) -> None:
    world.add(provider={"age": {"privateKey": {"literal": "x" * 1_000_000}}})
    async with miwen(world):
        await settle()
        assert world.reason() == "InvalidSpec"
        assert "spec.provider.age.privateKey.literal" in world.condition("Ready")["message"]
        world.add()
        await trio.sleep(5)
        assert world.reason() == "Synced"


async def test_an_update_of_the_file_is_still_followed_by_those_within(world: World, autojump_clock: MockClock) -> None:
    for number in range(9):
        world.add(f"d{number}")
    world.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})
    world.add("app", namespace="team")
    async with miwen(world, decryptor_memory_bytes=_OF_THREE):
        await trio.sleep(5)
        world.origin.commit({FILE: [secret(greeting="two")]})
        await trio.sleep(200)
        assert world.data("app", "team") == {"greeting": "two"}


async def test_objects_that_would_take_too_much_memory_are_refused_and_what_was_applied_stays(
    world: World, autojump_clock: MockClock
) -> None:
    world.add()
    async with miwen(world):
        await trio.sleep(5)
        assert world.reason() == "Synced"
        many = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "x": [{}] * 600_000}
        world.origin.commit({FILE: [secret(greeting="two"), many]})
        await trio.sleep(400)
        assert world.reason() == "LimitExceeded"
        assert "split the Decryptor" in world.condition("Ready")["message"]
        assert world.data() is not None


async def test_one_that_there_is_room_for_and_that_can_not_be_read_is_tried_again_with_pauses(
    world: World, autojump_clock: MockClock
) -> None:
    for number in range(4):
        world.add(f"d{number}")
    async with miwen(world, decryptor_memory_bytes=_OF_THREE):
        await trio.sleep(5)
        assert _reasons(world, "d3") == [_REASON]
        world.kubernetes.fail_next("get_decryptor", *[JiemiError("ClusterUnavailable", "away")] * 20)
        before = world.kubernetes.requests.snapshot().requests["get", PLURAL]
        world.delete("d0")
        await trio.sleep(30)
        assert world.kubernetes.requests.snapshot().requests["get", PLURAL] - before <= 30 / 5 + 1
        await trio.sleep(120)
        assert _reasons(world, "d3") == ["Synced"]


@pytest.mark.parametrize("limit", ["SMALL_BYTES", "SMALL_OBJECT_BYTES"])
@pytest.mark.parametrize("of", ["files", "targets"])
async def test_those_whose_files_take_much_memory_are_applied_one_at_a_time_and_namespaces_take_turns(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, limit: str, of: str
) -> None:
    monkeypatch.setattr(render, limit, 20_000)
    real_apply = FakeObjects.apply
    applying: list[str] = []
    large_at_once, small_beside = [], 0
    order: list[str] = []

    async def apply(self: FakeObjects, manifest: Any, **options: Any) -> Any:
        nonlocal small_beside
        name = manifest["metadata"]["name"]
        applying.append(name)
        order.append(name)
        large = [each for each in applying if each.startswith("large")]
        large_at_once.append(len(large))
        small_beside += bool(large) and len(large) < len(applying)
        await trio.sleep(10)
        applying.remove(name)
        return await real_apply(self, manifest, **options)

    monkeypatch.setattr(FakeObjects, "apply", apply)
    world.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})
    names = {"default": ["large0", "large1", "large2", "large3", "small0", "small1"], "team": ["large4", "small2"]}
    for namespace, of_namespace in names.items():
        for name in of_namespace:
            text = "x" * (30_000 if name.startswith("large") else 10)
            world.origin.commit({f"{name}.yaml": [secret(name, namespace, greeting=text)]})
            target = {"name": name, "key": "file"} if of == "targets" else None
            source = {"repository": {"url": URL}, "fileToDecrypt": f"{name}.yaml"}
            world.add(name, namespace, source=source, target=target)
    async with miwen(world):
        await trio.sleep(170)
        for namespace, of_namespace in names.items():
            assert set(_reasons(world, *of_namespace, namespace=namespace)) == {"Synced"}
        large = [name for name in order if name.startswith("large")]
        assert (max(large_at_once), large.index("large4") <= 2, small_beside > 0) == (1, True, True)
        # What is known to be large is not decrypted for nothing.
        before = world.renders()
        world.origin.commit({"large0.yaml": [secret("large0", greeting="y" * 30_000)]})
        await trio.sleep(400)
        assert world.renders() - before == 1
        assert set(_reasons(world, "large0")) == {"Synced"}


async def test_long_lists_of_files_count_while_they_are_held_and_those_beyond_say_so(
    world: World, autojump_clock: MockClock
) -> None:
    """Though nothing of them is in any status: these wait for another Decryptor."""
    folder = "/".join(["f" * 200] * 15)
    world.origin.commit({f"{folder}/{number}.yaml": [] for number in range(100)})
    world.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})
    world.add("other", namespace="team")
    listing = {"repository": {"url": URL}, "files": ["**"]}
    for number in range(4):
        world.add(f"d{number}", source=listing, dependsOn=[{"name": "nothing"}])
    room = 4 * (BASE_BYTES + 10_000) + 2 * 100 * (len(folder) + 500)
    async with miwen(world, decryptor_memory_bytes=3 * room):
        await trio.sleep(5)
        found = _reasons(world, *(f"d{n}" for n in range(4)))
        assert sorted(found) == ["DependencyNotReady"] * 2 + [_REASON] * 2
        assert _reasons(world, "other", namespace="team") == ["Synced"]
        for number in range(4):
            if found[number] != _REASON:
                world.delete(f"d{number}")
        await trio.sleep(1_000)
        left = [f"d{number}" for number in range(4) if found[number] == _REASON]
        assert _reasons(world, *left) == ["DependencyNotReady"] * 2


async def test_what_is_known_of_broken_files_is_forgotten_where_there_is_no_room_for_it(
    world: World, autojump_clock: MockClock
) -> None:
    broken = Failure("MacMismatch", "x" * 3_000)
    world.origin.commit({f"{number}.yaml": broken for number in range(100)}, remove=[FILE])
    listing = {"repository": {"url": URL}, "files": ["*.yaml"]}
    world.add(source=listing)
    for room, again in ((BASE_BYTES + 500_000, 0), (BASE_BYTES + 150_000, 100)):  # the status tells 20 of them
        async with miwen(world, decryptor_memory_bytes=3 * room):
            await trio.sleep(5)
            assert _reasons(world, "app") == ["MacMismatch"]
            before = world.renders()
            world.origin.commit({"unrelated": []})
            await trio.sleep(400)
            assert _reasons(world, "app") == ["MacMismatch"]
            assert (world.renders() - before) // 2 <= again <= world.renders() - before
