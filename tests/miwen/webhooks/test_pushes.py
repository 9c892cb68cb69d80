"""A genuine push makes Miwen look at once, at those whom it concerns and at nobody else; on the virtual clock."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from support.miwen.world import FILE, URL, World, miwen, secret, settle
from support.webhooks.taken import deliver, webhooks

from jiemi.core.errors import Failure
from jiemi.miwen.webhooks.bursts import QUIET_SECONDS
from jiemi.miwen.webhooks.receiver import Outcome


async def test_a_push_is_deployed_without_waiting_for_the_interval(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    world.add()
    hooks = webhooks(("default", "hook"))
    async with miwen(world, webhooks=hooks):
        assert world.data() == {"greeting": "one"}
        world.origin.commit({FILE: [secret(greeting="two")]})
        await settle()
        assert await deliver(hooks) is Outcome.PUSH
        await settle()  # no time passes
        assert world.data() == {"greeting": "two"}
    assert hooks.receiver.taker is None


@pytest.mark.parametrize(
    "url",
    [URL, "https://git.example/app", "git@git.example:app.git", "ssh://git@git.example/app", "https://Git.Example/App"],
)
async def test_whoever_names_the_repository_in_any_form_looks(
    autojump_clock: trio.testing.MockClock, world: World, url: str
) -> None:
    origin = world.krapao.add_origin(url)
    origin.commit({FILE: [secret(greeting="one")]})
    world.add(source={"repository": {"url": url}, "fileToDecrypt": FILE})
    hooks = webhooks(("default", "hook"))
    async with miwen(world, webhooks=hooks):
        asked = origin.asked
        assert await deliver(hooks) is Outcome.PUSH
        await settle()
        assert origin.asked == asked + 1


async def test_others_do_not_look(autojump_clock: trio.testing.MockClock, world: World) -> None:
    other = "https://git.example/other.git"
    world.krapao.add_origin(other).commit({FILE: [secret(name="other", greeting="one")]})
    world.add("other", source={"repository": {"url": other}, "fileToDecrypt": FILE})
    world.add("branch", source={"repository": {"url": URL, "ref": {"branch": "release"}}, "fileToDecrypt": FILE})
    world.add("elsewhere", namespace="team-b")
    hooks = webhooks(("default", "hook"))
    async with miwen(world, webhooks=hooks):
        await trio.sleep(1)
        heads = world.heads()
        assert await deliver(hooks) is Outcome.PUSH
        await settle()
        assert world.heads() == heads
        assert await deliver(hooks, key=("default", "hook"), ref="refs/heads/release") is Outcome.PUSH
        await settle()
        assert world.heads() == heads + 1


async def test_a_webhook_of_jiemis_own_namespace_wakes_all_namespaces(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    for namespace in ("default", "team-b"):
        world.add("app", namespace=namespace)
    hooks = webhooks(("jiemi", "hook"))
    async with miwen(world, webhooks=hooks):
        heads = world.heads()
        assert await deliver(hooks, key=("jiemi", "hook")) is Outcome.PUSH
        await settle()
        assert world.heads() == heads + 2


async def test_a_webhook_for_some_repositories_wakes_no_others_whatever_its_body_says(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    world.add()
    hooks = webhooks(("default", "hook"), repositories="https://git.example/another")
    async with miwen(world, webhooks=hooks):
        heads = world.heads()
        assert await deliver(hooks) is Outcome.NO_FOLLOWER
        await settle()
        assert world.heads() == heads


async def test_a_decryptor_that_went_or_follows_another_repository_is_not_woken(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    world.add()
    hooks = webhooks(("default", "hook"))
    async with miwen(world, webhooks=hooks):
        world.add(source={"repository": {"url": "https://git.example/other.git"}, "fileToDecrypt": FILE})
        await settle()
        assert await deliver(hooks) is Outcome.NO_FOLLOWER
        world.add()
        await settle()
        assert await deliver(hooks) is Outcome.PUSH
        world.delete()
        await settle()
        assert await deliver(hooks) is Outcome.NO_FOLLOWER


async def test_a_burst_is_two_questions_at_most_and_its_last_push_is_seen(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    world.add()
    hooks = webhooks(("default", "hook"))
    async with miwen(world, webhooks=hooks):
        await trio.sleep(1)
        asked, renders = world.origin.asked, world.renders()
        for number in range(50):
            world.origin.commit({FILE: [secret(greeting=str(number))]})
            assert await deliver(hooks) is Outcome.PUSH
        await trio.sleep(2 * QUIET_SECONDS)
        assert world.data() == {"greeting": "49"}
        assert world.origin.asked - asked <= 2
        assert world.renders() - renders <= 2


async def test_a_sender_makes_a_decryptor_look_twice_a_second_at_most(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    world.add()
    hooks = webhooks(("default", "hook"))
    async with miwen(world, webhooks=hooks):
        await trio.sleep(1)
        heads = world.heads()
        for _ in range(100):
            await deliver(hooks)
            await trio.sleep(0.1)
        assert 15 <= world.heads() - heads <= 22


async def test_a_push_that_could_not_be_looked_at_is_not_forgotten(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    world.add()
    hooks = webhooks(("default", "hook"))
    async with miwen(world, webhooks=hooks):
        await trio.sleep(1)
        world.origin.commit({FILE: [secret(greeting="two")]})
        world.origin.fail = Failure("KrapaoUnavailable", "down")
        assert await deliver(hooks) is Outcome.PUSH
        await settle()
        assert world.reason() == "KrapaoUnavailable"
        world.origin.fail = None
        await trio.sleep(30)  # an answer that is as old as that would do at another time
        assert world.data() == {"greeting": "two"}
