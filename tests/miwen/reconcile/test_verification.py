"""Signed revisions: what is applied, what stays, and how soon a change of trust is noticed."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from support.miwen.objects import notes
from support.miwen.world import FILE, URL, World, miwen, secret, settle

from jiemi.core.decisions.policy import read_policy
from jiemi.miwen.reconcile.tenancy import Tenancy

SECRET = "signers"
FIELD = "spec.source.repository.verify"


def add(world: World, **verify: Any) -> None:
    repository = {"url": URL, "verify": {"provider": "ssh", "secretName": SECRET, **verify}}
    world.add(source={"repository": repository, "fileToDecrypt": FILE})


def commit(world: World, by: str | None, **values: str) -> str:
    revision = world.origin.commit({FILE: [secret(**values)]})
    if by is not None:
        world.origin.signers[revision] = by
    return revision


def verified(world: World) -> tuple[str, str]:
    found = world.condition("SourceVerified")
    return str(found["status"]), str(found["reason"])


async def test_nothing_of_an_unsigned_revision_is_rendered_and_the_last_verified_one_stays(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    commit(world, None, greeting="unsigned")
    world.add_secret(SECRET, ann="ssh-ed25519 AAAA")
    add(world)
    async with miwen(world):
        await settle()
        assert world.reason() == "SignatureMissing"
        assert verified(world) == ("False", "SignatureMissing")
        assert world.condition("Stalled")["reason"] == "SignatureMissing"
        assert (world.renders(), world.data(), world.krapao.files_requests) == (0, None, [])
        assert world.status().get("verification") is None

        good = commit(world, "ann", greeting="signed")
        await trio.sleep(200)
        assert world.reason() == "Synced"
        assert verified(world) == ("True", "Verified")
        assert world.data() == {"greeting": "signed"}
        expected = {"revision": good, "mode": "Commit", "signer": "ann", "key": "SHA256:ann"}
        assert world.status()["verification"] == expected
        assert f"commit {good[:12]} is signed by ann (SHA256:ann)" == world.condition("SourceVerified")["message"]

        renders = world.renders()
        commit(world, "eve", greeting="forged")
        await trio.sleep(200)
        assert world.reason() == "SignerUnknown"
        assert f"revision {good[:12]} stays deployed" in world.condition("Ready")["message"]
        assert (world.renders(), world.data()) == (renders, {"greeting": "signed"})
        assert world.status()["verification"] == expected


async def test_a_signer_that_is_taken_out_of_the_secret_is_noticed_at_once(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    good = commit(world, "ann", greeting="one")
    world.add_secret(SECRET, ann="ssh-ed25519 AAAA", bob="ssh-ed25519 BBBB")
    add(world)
    async with miwen(world):
        await settle()
        assert world.reason() == "Synced"
        renders = world.renders()
        world.add_secret(SECRET, bob="ssh-ed25519 BBBB")
        await trio.sleep(9)
        assert world.reason() == "SignerUnknown"
        message = world.condition("Ready")["message"]
        assert "it is deployed and stays as it is, but is no longer trusted, so it is not corrected" in message
        assert (world.renders(), world.data()) == (renders, {"greeting": "one"})
        assert world.current()["revision"] == good
        [event] = [each for each in notes(world, "SignerUnknown") if "no longer trusted" in each]
        assert "it is deployed and stays as it is" in event
        # What somebody changes is not put right from a revision that is not trusted.
        world.cluster.edit("Secret", "default", "app", manager="lens", data={"greeting": "dHdv"})
        await trio.sleep(400)
        assert (world.renders(), world.data()) == (renders, {"greeting": "two"})
        assert world.condition("Drifted")["status"] == "True"
        # Trusted again, it is.
        world.add_secret(SECRET, ann="ssh-ed25519 AAAA", bob="ssh-ed25519 BBBB")
        await trio.sleep(10)
        assert world.reason() == "Synced"
        assert world.data() == {"greeting": "one"}


async def test_a_tighter_policy_is_obeyed_at_once_and_a_looser_one_too(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    commit(world, "ann", greeting="one")
    world.add_secret(SECRET, ann="ssh-ed25519 AAAA")
    world.add()
    async with miwen(world):
        await settle()
        assert world.reason() == "Synced"
        assert world.condition("SourceVerified") == {}
        commit(world, None, greeting="two")
        await trio.sleep(200)
        assert world.data() == {"greeting": "two"}
        add(world)
        await trio.sleep(10)
        assert world.reason() == "SignatureMissing"
        assert world.data() == {"greeting": "two"}
        world.add()
        await trio.sleep(10)
        assert world.reason() == "Synced"
        assert world.condition("SourceVerified") == {}
        assert "verification" not in world.status()


async def test_what_is_deployed_is_looked_at_too_where_the_newest_is_not_verified(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    good = commit(world, "ann", greeting="one")
    world.add_secret(SECRET, ann="ssh-ed25519 AAAA", bob="ssh-ed25519 BBBB")
    add(world)
    async with miwen(world):
        await settle()
        commit(world, None, greeting="two")
        await trio.sleep(200)
        assert world.condition("Ready")["message"].count(f"revision {good[:12]} stays deployed.") == 1
        world.add_secret(SECRET, bob="ssh-ed25519 BBBB")
        await trio.sleep(10)
        said = f"revision {good[:12]} stays deployed, but is no longer trusted either (SignerUnknown)"
        assert said in world.condition("Ready")["message"]
        assert world.data() == {"greeting": "one"}


@pytest.mark.parametrize(
    ("values", "reason", "says"),
    [
        (None, "SecretNotFound", f"there is no Secret default/{SECRET}, which {FIELD}.secretName names"),
        ({}, "VerificationKeysInvalid", "has no public key"),
        ({"ann": " \n"}, "VerificationKeysInvalid", "has no public key"),
        (
            {"ann": "-----BEGIN OPENSSH PRIVATE KEY-----\ncanary\n"},
            "VerificationKeysInvalid",
            "has a private key under 'ann'",
        ),
        (
            {"bob.asc": "-----BEGIN PGP PUBLIC KEY BLOCK-----\n"},
            "VerificationKeysInvalid",
            "has a pgp key under 'bob.asc'",
        ),
        ({"ann": "x" * 600_000}, "CredentialTooLarge", "600000 bytes, of 524288 at most"),
    ],
)
async def test_a_secret_that_is_missing_or_wrong_is_named_and_nothing_is_asked_of_krapao(
    world: World, autojump_clock: trio.testing.MockClock, values: dict[str, str] | None, reason: str, says: str
) -> None:
    commit(world, "ann", greeting="one")
    if values is not None:
        world.add_secret(SECRET, **values)
    add(world)
    async with miwen(world):
        await settle()
        assert world.reason() == reason
        assert says in world.condition("Ready")["message"]
        assert "canary" not in str(world.status())
        assert (world.krapao.calls, world.krapao.opened) == ([], 0)
        world.add_secret(SECRET, ann="ssh-ed25519 AAAA")
        await trio.sleep(10)
        assert world.reason() == "Synced"


async def test_a_dry_run_shows_nothing_of_an_unsigned_revision(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    commit(world, None, greeting="one")
    world.add_secret(SECRET, ann="ssh-ed25519 AAAA")
    repository = {"url": URL, "verify": {"provider": "ssh", "secretName": SECRET}}
    world.add(source={"repository": repository, "fileToDecrypt": FILE}, mode="DryRun")
    async with miwen(world):
        await settle()
        assert world.reason() == "SignatureMissing"
        assert (world.renders(), world.status().get("plan")) == (0, None)


async def test_a_tick_that_finds_nothing_new_verifies_again_and_writes_nothing(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    commit(world, "ann", greeting="one")
    world.add_secret(SECRET, ann="ssh-ed25519 AAAA")
    add(world)
    async with miwen(world):
        await settle()
        before, asked = world.versions(), world.krapao.calls.count(("verify", URL))
        await trio.sleep(1_000)
        assert world.versions() == before
        assert world.krapao.calls.count(("verify", URL)) > asked


async def test_a_tag_must_be_followed_where_one_must_be_signed(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.add_secret(SECRET, ann="ssh-ed25519 AAAA")
    add(world, mode="Tag")
    async with miwen(world):
        await settle()
        assert world.reason() == "InvalidSpec"
        assert "verify.mode is for a tag" in world.condition("Ready")["message"]
        assert world.krapao.calls == []


async def test_an_operator_may_want_signatures_of_everyone(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    commit(world, "ann", greeting="one")
    world.add_secret(SECRET, ann="ssh-ed25519 AAAA")
    world.add()
    async with miwen(world, tenancy=Tenancy(require_verify=True)):
        await settle()
        assert world.reason() == "PolicyDenied"
        assert "Miwen runs with --require-verify" in world.condition("Ready")["message"]
        assert world.krapao.calls == []
        add(world)
        await trio.sleep(10)
        assert world.reason() == "Synced"


async def test_a_policy_may_want_signatures_of_some_namespaces(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    commit(world, "ann", greeting="one")
    world.add_secret(SECRET, ann="ssh-ed25519 AAAA")
    world.add()
    async with miwen(world, policy=read_policy("rules: [{namespaces: [default], requireVerify: true}]")):
        await settle()
        assert world.reason() == "PolicyDenied"
        assert world.krapao.calls == []
        add(world)
        await trio.sleep(10)
        assert world.reason() == "Synced"


async def test_a_secret_that_can_not_be_watched_is_read_again_at_each_look(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    commit(world, "ann", greeting="one")
    world.add_secret(SECRET, ann="ssh-ed25519 AAAA")
    add(world)
    world.kubernetes.deny("list", "secrets")
    world.kubernetes.deny("watch", "secrets")
    async with miwen(world):
        await settle()
        assert world.reason() == "Synced"
        world.add_secret(SECRET, bob="ssh-ed25519 BBBB")
        await trio.sleep(200)
        assert world.reason() == "SignerUnknown"
