"""A file of which some documents are encrypted and others are not: what is applied, counted and deleted of it."""

from __future__ import annotations

from typing import Any

import trio
from fakes.krapao import Mixed
from support.miwen.objects import config
from support.miwen.world import FILE, INTERVAL, URL, World, miwen, secret, settle
from trio.testing import MockClock

from jiemi.core.errors import Failure

ISSUER = {"apiVersion": "cert-manager.io/v1", "kind": "Issuer", "metadata": {"name": "i"}, "spec": {"a": "b"}}


def files(*patterns: str) -> dict[str, Any]:
    return {"source": {"repository": {"url": URL}, "files": list(patterns)}, "prune": True}


def inventory(world: World) -> list[str]:
    return sorted(each["name"] for each in world.status()["inventory"])


async def test_what_leaves_a_file_of_several_documents_leaves_the_cluster_and_nothing_else(
    world: World, autojump_clock: MockClock
) -> None:
    everything = Mixed([secret("a", k="1"), config("plain", k="2"), secret("b", k="3")], (1,))
    world.origin.commit({FILE: everything})
    world.add(**files(FILE))
    async with miwen(world):
        assert world.reason() == "Synced"
        assert inventory(world) == ["a", "b", "plain"]
        assert (world.data("a"), world.data("b")) == ({"k": "1"}, {"k": "3"})

        # One of the documents can't be opened: nothing of the file is changed or deleted.
        world.origin.commit({FILE: Failure("MacMismatch", "secret.enc.yaml: document 3: the file's MAC")})
        await trio.sleep(INTERVAL + 1)
        assert world.reason() == "MacMismatch"
        assert inventory(world) == ["a", "b", "plain"]
        assert world.data("b") == {"k": "3"}
        assert world.cluster.get("ConfigMap", "default", "plain") is not None

        world.origin.commit({FILE: Mixed([config("plain", k="2"), secret("b", k="3")], (0,))})
        await trio.sleep(INTERVAL + 1)
        assert world.reason() == "Synced"
        assert inventory(world) == ["b", "plain"]
        assert world.data("a") is None

        world.origin.commit({FILE: [secret("b", k="3")]})
        await trio.sleep(INTERVAL + 1)
        assert inventory(world) == ["b"]
        assert world.cluster.get("ConfigMap", "default", "plain") is None


async def test_a_plain_custom_resource_beside_an_encrypted_document_holds_nothing_in_clear(
    world: World, autojump_clock: MockClock
) -> None:
    world.add(**files("*.yaml"))
    world.origin.commit({FILE: Mixed([secret("a", k="1"), ISSUER], (1,))})
    async with miwen(world):
        await settle()
        assert world.reason() == "KindUnknown"  # so it is asked of the cluster, which has it not
        world.origin.commit({FILE: Mixed([config("plain", k="1"), ISSUER], (0,))})
        await trio.sleep(INTERVAL + 1)
        assert world.reason() == "KindNotForSecrets"
        assert "(document 2 of secret.enc.yaml)" in world.condition("Ready")["message"]


async def test_an_empty_mapping_is_no_object_where_it_is_plain(world: World, autojump_clock: MockClock) -> None:
    world.add(**files(FILE))
    world.origin.commit({FILE: Mixed([secret("a", k="1"), {}], ())})
    async with miwen(world):
        assert world.reason() == "Synced"  # sops writes {} for an empty document
        world.origin.commit({FILE: Mixed([secret("a", k="1"), {}], (1,))})
        await trio.sleep(INTERVAL + 1)
        assert world.reason() == "NotAKubernetesObject"
