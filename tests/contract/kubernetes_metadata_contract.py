"""What every form of the Kubernetes port does when the metadata of a kind is listed and watched.

As `kubernetes_contract`: a test module subclasses `KubernetesMetadataContract` and gives a fixture `world`.
"""

from __future__ import annotations

from typing import Any

import pytest
import trio
from contract.kubernetes_parts import (
    CANARY,
    DEADLINE_SECONDS,
    CountingKubernetes,
    Events,
    World,
    encoded,
    failure_of,
    secret,
)

from jiemi.miwen.kubernetes.discovery import Resource
from jiemi.miwen.kubernetes.port import Kubernetes, Page

SECRETS = Resource("v1", "Secret", "secrets", namespaced=True)
NAMESPACES = Resource("v1", "Namespace", "namespaces", namespaced=False)
THINGS = Resource("none.example/v1", "Thing", "things", namespaced=True)
LABEL = "tests.example/of"


def labelled(world: World, name: str, value: str | None = "demo", **fields: Any) -> dict[str, Any]:
    """A Secret with the label and a value that must not be seen."""
    made = secret(name, world.namespace, data={"password": encoded(CANARY)}, **fields)
    if value is not None:
        made["metadata"]["labels"] = {LABEL: value}
    return made


async def listed(
    kubernetes: Kubernetes,
    resource: Resource = SECRETS,
    *,
    labels: str = LABEL,
    fields: str = "",
    limit: int = 100,
    token: str | None = None,
) -> Page:
    return await kubernetes.list_metadata(
        resource, label_selector=labels, field_selector=fields, limit=limit, continue_token=token
    )


def names(page: Page) -> list[str]:
    return [item["metadata"]["name"] for item in page.items]


async def watch_of(kubernetes: Kubernetes, resource: Resource = SECRETS, version: str = "1") -> None:
    """Begin a watch and end it."""
    async with kubernetes.watch_metadata(resource, label_selector="", field_selector="", resource_version=version):
        pass


class KubernetesMetadataContract:
    async def test_metadata_is_listed_without_data(self, world: World) -> None:
        await world.put(labelled(world, "one"))
        page = await listed(world.kubernetes)
        live = await world.get("v1", "Secret", world.namespace, "one")
        assert page.items == (
            {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": live["metadata"]},
        )
        assert page.resource_version.isdecimal()
        counts = world.kubernetes.requests.snapshot()
        assert (counts.of("list", "secrets"), counts.writes) == (1, 0)

    async def test_selectors_choose_by_label_and_field(self, world: World) -> None:
        await world.put(labelled(world, "one"))
        await world.put(labelled(world, "two", "other", type="tests.example/sort"))
        await world.put(labelled(world, "bare", None))
        kubernetes = world.kubernetes
        for labels, fields, expected in (
            ("", "", ["bare", "one", "two"]),
            (LABEL, "", ["one", "two"]),
            (f"{LABEL}=demo", "", ["one"]),
            (f"{LABEL}=nothing", "", []),
            (f"{LABEL},other", "", []),
            ("", "type!=tests.example/sort", ["bare", "one"]),
            (LABEL, "type=tests.example/sort", ["two"]),
            (LABEL, "metadata.name=one", ["one"]),
            (LABEL, f"metadata.name!=one,metadata.namespace={world.namespace}", ["two"]),
        ):
            assert sorted(names(await listed(kubernetes, labels=labels, fields=fields))) == expected, (labels, fields)

    async def test_pages_hold_everything_once(self, world: World) -> None:
        for number in range(5):
            await world.put(labelled(world, f"s{number}"))
        token, found, pages = None, [], 0
        while True:
            page = await listed(world.kubernetes, limit=2, token=token)
            found += names(page)
            pages += 1
            token = page.continue_token
            if token is None:
                break
        assert (sorted(found), pages) == ([f"s{number}" for number in range(5)], 3)

    async def test_a_kind_of_the_whole_cluster_is_listed_though_one_namespace_is_looked_at(self, world: World) -> None:
        page = await listed(world.kubernetes, NAMESPACES, labels="", fields=f"metadata.name={world.namespace}")
        assert names(page) == [world.namespace]
        assert "default" in names(await listed(world.kubernetes, NAMESPACES, labels=""))

    async def test_a_page_token_that_is_of_no_use_means_list_again(self, world: World) -> None:
        reason, _ = await failure_of(listed(world.kubernetes, token="nonsense"))
        assert reason == "WatchExpired"

    async def test_a_watch_reports_what_enters_and_leaves_the_selection(self, world: World) -> None:
        await world.put(labelled(world, "before"))
        version = (await listed(world.kubernetes)).resource_version
        async with world.kubernetes.watch_metadata(
            SECRETS, label_selector=LABEL, field_selector="type!=tests.example/sort", resource_version=version
        ) as chunks:
            events = Events(chunks)
            await world.put(labelled(world, "bare", None))
            await world.put(labelled(world, "sorted", type="tests.example/sort"))
            await world.put(labelled(world, "one"))
            assert await events.changes(1) == [("ADDED", "one")]
            await world.edit("v1", "Secret", world.namespace, "one", {"data": {"b": encoded(CANARY)}})
            assert await events.changes(1) == [("MODIFIED", "one")]
            # It loses the label, and gets it again.
            await world.edit("v1", "Secret", world.namespace, "one", {"metadata": {"labels": {LABEL: None}}})
            await world.edit("v1", "Secret", world.namespace, "one", {"data": {"c": encoded(CANARY)}})
            await world.edit("v1", "Secret", world.namespace, "one", {"metadata": {"labels": {LABEL: "other"}}})
            assert await events.changes(2) == [("DELETED", "one"), ("ADDED", "one")]
            await world.delete("v1", "Secret", world.namespace, "one")
            await world.delete("v1", "Secret", world.namespace, "bare")
            await world.delete("v1", "Secret", world.namespace, "before")
            assert await events.changes(2) == [("DELETED", "one"), ("DELETED", "before")]
        assert encoded(CANARY).encode() not in events.seen
        assert b'"PartialObjectMetadata"' in events.seen
        assert world.kubernetes.requests.snapshot().of("watch", "secrets") == 1

    async def test_a_watch_ends_by_itself_after_its_timeout(self, world: World) -> None:
        async with world.short_watch() as kubernetes:
            version = (await listed(kubernetes)).resource_version
            with trio.fail_after(DEADLINE_SECONDS):
                async with kubernetes.watch_metadata(
                    SECRETS, label_selector=LABEL, field_selector="", resource_version=version
                ) as chunks:
                    await Events(chunks).rest()

    @pytest.mark.parametrize("held", [set(), {("get", "secrets")}])
    async def test_a_right_that_is_missing_is_named(self, world: World, held: set[tuple[str, str]]) -> None:
        async with world.limited(held) as kubernetes:
            for doing in (listed(kubernetes), watch_of(kubernetes)):
                reason, message = await failure_of(doing)
                assert reason == "WatchForbidden"
                grant = "Grant `list` and `watch` on secrets of the core API group"
                assert f"{grant} to Miwen's ServiceAccount in namespace {world.namespace}" in message

    async def test_rights_that_suffice_suffice(self, world: World) -> None:
        await world.put(labelled(world, "one"))
        async with world.limited({("list", "secrets"), ("watch", "secrets")}) as kubernetes:
            page = await listed(kubernetes)
            assert names(page) == ["one"]
            await watch_of(kubernetes, version=page.resource_version)

    async def test_a_kind_that_is_no_longer_served_is_unknown(self, world: World) -> None:
        kubernetes: CountingKubernetes = world.kubernetes
        for doing in (listed(kubernetes, THINGS), watch_of(kubernetes, THINGS)):
            reason, message = await failure_of(doing)
            assert reason == "KindUnknown"
            assert "Thing of apiVersion none.example/v1" in message
