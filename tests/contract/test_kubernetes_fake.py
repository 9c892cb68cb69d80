"""The fake Kubernetes keeps the contract, and its faults are what they are called."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from contract.kubernetes_accounts_contract import KubernetesAccountsContract
from contract.kubernetes_contract import KubernetesContract
from contract.kubernetes_metadata_contract import KubernetesMetadataContract
from contract.kubernetes_objects_contract import KubernetesObjectsContract
from contract.kubernetes_parts import Events, decryptor, endpoint_slice, version_now
from fakes.kubernetes import FakeKubernetes

from jiemi.core.errors import JiemiError
from jiemi.core.objects.watch_events import Bookmark, Expired, WatchFailed
from jiemi.miwen.kubernetes.port import Account, JsonObject, Kubernetes


class _FakeWorld:
    namespace = "team"

    def __init__(self) -> None:
        self.kubernetes = FakeKubernetes(namespaces=(self.namespace,))
        self.cluster = self.kubernetes.cluster
        self.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}})

    async def put(self, obj: JsonObject, *, manager: str = "tests") -> Mapping[str, Any]:
        return self.cluster.put(obj, manager)

    async def edit(
        self,
        api_version: str,
        kind: str,
        namespace: str | None,
        name: str,
        changes: JsonObject,
        *,
        manager: str = "tests",
    ) -> Mapping[str, Any]:
        return self.cluster.edit(kind, namespace, name, api_version=api_version, manager=manager, **changes)

    async def delete(self, api_version: str, kind: str, namespace: str | None, name: str) -> None:
        self.cluster.delete(kind, namespace, name, api_version=api_version)

    async def get(self, api_version: str, kind: str, namespace: str | None, name: str) -> Mapping[str, Any]:
        found = self.cluster.get(kind, namespace, name, api_version=api_version)
        assert found is not None
        return found

    async def exists(self, api_version: str, kind: str, namespace: str | None, name: str) -> bool:
        return self.cluster.get(kind, namespace, name, api_version=api_version) is not None

    async def doomed_namespace(self) -> str:
        metadata = {"name": "doomed", "finalizers": ["tests.example/stays"]}
        self.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        self.cluster.delete("Namespace", None, "doomed")
        return "doomed"

    @asynccontextmanager
    async def policy(self) -> AsyncIterator[str]:
        def refuses(operation: str, obj: JsonObject) -> bool:
            key = "kept" if operation == "DELETE" else "banned"
            return obj["kind"] == "Secret" and key in (obj.get("data") or {})

        self.cluster.policies["policy"] = refuses
        yield "policy"
        del self.cluster.policies["policy"]

    async def quota(self, name: str, hard: Mapping[str, str]) -> None:
        metadata = {"name": name, "namespace": self.namespace}
        self.cluster.put({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}})

    async def serve(self, service: str, *pods: str) -> None:
        self.cluster.put(endpoint_slice(self.namespace, f"{service}-x7k2p", service, *pods))

    async def account(self, rights: Collection[tuple[str, str]]) -> Account:
        account = Account(self.namespace, f"account{len(self.cluster.account_rights)}")
        self.cluster.account_rights[f"{account.namespace}/{account.name}"] = set(rights)
        return account

    @asynccontextmanager
    async def limited(self, rights: Collection[tuple[str, str]]) -> AsyncIterator[FakeKubernetes]:
        yield FakeKubernetes(self.cluster, namespaces=(self.namespace,), rights=rights)

    @asynccontextmanager
    async def short_watch(self) -> AsyncIterator[Kubernetes]:
        yield FakeKubernetes(self.cluster, namespaces=(self.namespace,), watch_timeout_seconds=0.1)


@pytest.fixture
def world() -> _FakeWorld:
    return _FakeWorld()


class TestFakeKubernetes(KubernetesContract):
    pass


class TestFakeAccounts(KubernetesAccountsContract):
    pass


class TestFakeMetadata(KubernetesMetadataContract):
    pass


class TestFakeObjects(KubernetesObjectsContract):
    pass


async def test_a_fault_is_raised_once_by_the_next_call(world: _FakeWorld) -> None:
    world.kubernetes.fail_next("get_secret", JiemiError("ClusterUnavailable", "as asked for"))
    world.cluster.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "team"}})
    with pytest.raises(JiemiError, match="as asked for"):
        await world.kubernetes.get_secret("team", "s")
    await world.kubernetes.get_secret("team", "s")
    assert world.kubernetes.requests.snapshot().of("get", "secrets") == 2


async def test_a_watch_sends_bookmarks_and_ends_on_time(
    world: _FakeWorld, autojump_clock: trio.testing.MockClock
) -> None:
    version = await version_now(world.kubernetes)
    began = trio.current_time()
    async with world.kubernetes.watch_decryptors(resource_version=version) as chunks:
        seen = await Events(chunks).rest()
    assert len(seen) == 5
    assert all(isinstance(event, Bookmark) for event in seen)
    assert trio.current_time() - began == 300


async def test_a_watch_that_falls_silent_fails_after_its_grace(
    world: _FakeWorld, autojump_clock: trio.testing.MockClock
) -> None:
    version = await version_now(world.kubernetes)
    began = trio.current_time()
    async with world.kubernetes.watch_decryptors(resource_version=version) as chunks:
        world.kubernetes.silent = True
        world.cluster.put(decryptor(world, "one"))
        with pytest.raises(JiemiError, match="nothing came for 330 s"):
            await anext(chunks)
    assert trio.current_time() - began == 330


async def test_a_compacted_version_expires_watches_and_pages(world: _FakeWorld) -> None:
    for name in ("one", "two"):
        world.cluster.put(decryptor(world, name))
    page = await world.kubernetes.list_decryptors(limit=1, continue_token=None)
    world.cluster.compact()
    with pytest.raises(JiemiError, match="WatchExpired"):
        await world.kubernetes.list_decryptors(limit=1, continue_token=page.continue_token)
    async with world.kubernetes.watch_decryptors(resource_version=page.resource_version) as chunks:
        assert await Events(chunks).rest() == [Expired()]


async def test_watches_can_be_ended_and_failed(world: _FakeWorld) -> None:
    version = await version_now(world.kubernetes)
    async with world.kubernetes.watch_decryptors(resource_version=version) as chunks:
        assert world.cluster.watches == 1
        world.cluster.end_watches()
        assert await Events(chunks).rest() == []
    async with world.kubernetes.watch_decryptors(resource_version=version) as chunks:
        world.cluster.fail_watches(500)
        assert await Events(chunks).rest() == [WatchFailed(500)]
    assert world.cluster.watches == 0


async def test_without_the_crd_the_list_says_so(world: _FakeWorld) -> None:
    world.cluster.remove_kind("jiemi.cr/v1alpha1", "Decryptor")
    with pytest.raises(JiemiError, match="not installed"):
        await world.kubernetes.list_decryptors(limit=1, continue_token=None)
