"""Private keys from several Secrets, and from several keys of one: what is read and told, and when it is read again."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import trio
from fakes.krapao import RIGHT_KEY
from support.miwen.world import INTERVAL, World, miwen
from trio.testing import MockClock

from jiemi.core.credential_limits import MAX_PRIVATE_KEYS
from jiemi.rpc.keys import AgeKey, KeyOrigin, PgpKey, named_parts

RIGHT = RIGHT_KEY.private_key.reveal()


def keys(*values: dict[str, Any], provider: str = "age", **more: Any) -> dict[str, Any]:
    return {"provider": {provider: {"privateKeys": list(values), **more}}}


def of(secret: str, key: str) -> dict[str, Any]:
    return {"secretName": secret, "key": key}


def given(world: World) -> AgeKey | PgpKey:
    [key] = world.krapao.requests[-1].keys
    assert isinstance(key, AgeKey | PgpKey)
    return key


def parts(world: World) -> list[tuple[str, str]]:
    return list(named_parts(given(world), "?"))


async def test_the_keys_of_a_list_are_given_together_each_with_where_it_is_from(
    world: World, autojump_clock: MockClock
) -> None:
    world.origin.keys = ()
    world.add_secret("one", a="# first\nA\n")
    world.add_secret("two", b="B")
    world.add(**keys(of("one", "a"), {"literal": "L\n"}, of("two", "b"), privateKey=of("two", "b")))
    async with miwen(world):
        # One that is named twice is given once.
        field = "spec.provider.age.privateKeys"
        assert parts(world) == [
            ("spec.provider.age.privateKey", "B\n"),
            (f"{field}[0] (key 'a' of Secret default/one)", "# first\nA\n"),
            (f"{field}[1]", "L\n"),
        ]
        assert given(world).private_key.reveal() == "B\n# first\nA\nL\n"


async def test_a_key_with_stars_is_every_such_key_of_the_secret(world: World, autojump_clock: MockClock) -> None:
    """As Flux takes them from one Secret that has keys of all kinds."""
    world.origin.keys = ()
    data = {"b.agekey": "B", "a.agekey": "A", "x.asc": "PGP", "sops.vault-token": "V", "bytes": "\xff"}
    encoded = {name: base64.b64encode(text.encode("latin-1")).decode() for name, text in data.items()}
    metadata = {"name": "sops-keys", "namespace": "default"}
    world.cluster.put({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded})
    world.add(**keys(of("sops-keys", "*.agekey")))
    async with miwen(world):
        assert [text for _, text in parts(world)] == ["A\n", "B\n"]
        world.add(**keys(of("sops-keys", "*.asc"), provider="pgp", passphrase={"literal": "p"}))
        await trio.sleep(INTERVAL + 1)
        assert given(world).private_key.reveal() == "PGP\n"
        passphrase = getattr(given(world), "passphrase", None)
        assert passphrase is not None
        assert passphrase.reveal() == "p"
        world.add(**keys(of("sops-keys", "*")))
        await trio.sleep(INTERVAL + 1)
        assert world.reason() == "SecretValueEmpty"
        assert "'bytes' of Secret default/sops-keys" in world.current()["error_message"]


async def test_one_private_key_alone_is_given_as_ever(world: World, autojump_clock: MockClock) -> None:
    world.add_secret("one", a=RIGHT)
    world.add(provider={"age": {"privateKey": of("one", "a"), "privateKeys": []}})
    async with miwen(world):
        assert world.reason() == "Synced"
        assert given(world) == AgeKey(RIGHT_KEY.private_key)


@pytest.mark.parametrize(
    ("secrets", "reason", "message"),
    [
        ({"one": {"a": "A"}}, "SecretNotFound", "default/two, which spec.provider.age.privateKeys[1].secretName names"),
        ({"one": {"a": "A"}, "two": {"x": "B"}}, "SecretKeyNotFound", "Secret default/two has no key 'b'"),
        ({"one": {"a": "A"}, "two": {"b": " \n"}}, "SecretValueEmpty", "key 'b' of Secret default/two"),
        ({"one": {"a": "A" * 131_073}, "two": {"b": "B"}}, "CredentialTooLarge", "key 'a' of Secret default/one"),
        (
            {"one": {"a": "A" * 100_000}, "two": {"b": "B" * 40_000}},
            "CredentialTooLarge",
            "the private keys of spec.provider.age have 140002 bytes together, of 131072 at most",
        ),
    ],
)
async def test_one_key_that_is_missing_or_wrong_is_named_and_nothing_is_done_with_the_others(
    world: World, autojump_clock: MockClock, secrets: dict[str, dict[str, str]], reason: str, message: str
) -> None:
    for name, data in secrets.items():
        world.add_secret(name, **data)
    world.add(**keys(of("one", "a"), of("two", "b")))
    async with miwen(world):
        await trio.sleep(1)
        assert world.reason() == reason
        assert message in world.current()["error_message"]
        assert world.krapao.requests == []


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            of("one", "*.asc"),
            "no key of Secret default/one matches '*.asc', which spec.provider.age.privateKeys[0].key",
        ),
        (of("none", "*"), "no Secret default/none, which spec.provider.age.privateKeys[0].secretName names"),
    ],
)
async def test_a_pattern_that_nothing_matches_is_reported(
    world: World, autojump_clock: MockClock, value: dict[str, Any], message: str
) -> None:
    world.add_secret("one", a="A")
    world.add(**keys(value))
    async with miwen(world):
        await trio.sleep(1)
        assert message in world.current()["error_message"]


async def test_a_pattern_where_one_key_is_wanted_is_reported_with_the_list(
    world: World, autojump_clock: MockClock
) -> None:
    world.add_secret("one", a="A")
    world.add(provider={"age": {"privateKey": of("one", "*")}})
    async with miwen(world):
        await trio.sleep(1)
        assert world.reason() == "SecretKeyNotFound"
        assert "only the list privateKeys of age and pgp takes a key with *" in world.current()["error_message"]


async def test_more_keys_than_there_may_be_are_refused(world: World, autojump_clock: MockClock) -> None:
    world.add_secret("many", **{f"k{n}": f"K{n}" for n in range(MAX_PRIVATE_KEYS + 1)})
    world.add(**keys(of("many", "*")))
    async with miwen(world):
        await trio.sleep(1)
        assert world.reason() == "CredentialTooLarge"
        assert "names 51 private keys, of 50 at most" in world.current()["error_message"]


async def test_a_change_of_any_of_the_secrets_is_taken_up_at_once(world: World, autojump_clock: MockClock) -> None:
    world.origin.keys = ()
    world.add_secret("one", a="A")
    world.add_secret("two", b="B")
    world.add(**keys(of("one", "a"), of("two", "*")))
    async with miwen(world):
        await trio.sleep(1)
        assert world.reason() == "KeyMissing"
        for name, data, wanted in (
            ("two", {"b": "B", "c": "C"}, ["A\n", "B\n", "C\n"]),
            ("one", {"a": "A2"}, ["A2\n", "B\n", "C\n"]),
            ("two", {"d": "D"}, ["A2\n", "D\n"]),
        ):
            world.add_secret(name, **data)
            await trio.sleep(5)
            assert [text for _, text in parts(world)] == wanted
        watched = {each["name"] for each in world.status()["observedSecrets"]}
        assert watched == {"one", "two"}


@pytest.mark.parametrize("provider", ["age", "pgp"])
@pytest.mark.parametrize("value", [{}, {"privateKeys": []}, {"privateKey": None}])
async def test_a_provider_without_any_key_is_reported(
    world: World, autojump_clock: MockClock, provider: str, value: dict[str, Any]
) -> None:
    world.add(provider={provider: value})
    async with miwen(world):
        assert world.reason() == "InvalidSpec"
        message = world.current()["error_message"]
        assert f"give privateKey or privateKeys @ spec.provider.{provider}" in message


def test_lines_beyond_those_of_the_origins_belong_to_the_field() -> None:
    key = AgeKey(RIGHT_KEY.private_key, (KeyOrigin("a", 5),))
    assert list(named_parts(key, "?")) == [("a", RIGHT)]
    key = AgeKey(RIGHT_KEY.private_key, (KeyOrigin("a", 0),))
    assert list(named_parts(key, "?")) == [("a", ""), ("?", RIGHT)]
