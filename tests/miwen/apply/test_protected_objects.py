"""What Miwen as itself writes for nobody: by every way in which it writes, and what it says."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.kubernetes import FakeKubernetes
from support.miwen.world import FILE, World, miwen, secret, settle
from trio.testing import MockClock

from jiemi.core.api.decryptor import API_VERSION, KIND
from jiemi.core.api.decryptor_status import InventoryEntry
from jiemi.core.errors import JiemiError
from jiemi.core.objects.identity import ObjectRef, Owner
from jiemi.core.objects.inventory import ref_of
from jiemi.core.objects.protected import Protection
from jiemi.miwen.apply.protected_objects import ProtectedObjects, objects_of
from jiemi.miwen.apply.prune import prune
from jiemi.miwen.kubernetes.port import Account
from jiemi.miwen.reconcile.tenancy import Tenancy

RBAC = "rbac.authorization.k8s.io"


def evil(name: str = "app", namespace: str = "default") -> dict[str, Any]:
    """A Decryptor as a repository's writer commits one."""
    source = {"repository": {"url": "https://evil.example/x"}, "fileToDecrypt": FILE}
    provider = {"pgp": {"privateKey": {"secretName": "others", "key": "k"}}}
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"provider": provider, "source": source},
    }


def url_of(world: World, name: str = "app") -> str:
    found = world.cluster.get(KIND, "default", name, api_version=API_VERSION)
    assert found is not None
    return str(found["spec"]["source"]["repository"]["url"])


@pytest.mark.parametrize(
    "spec",
    [{}, {"applyPolicy": "Atomic"}, {"force": True}, {"conflictPolicy": "Refuse"}, {"targetNamespace": "default"}],
    ids=str,
)
async def test_a_decryptor_out_of_a_repository_is_refused_whatever_the_spec_says(
    world: World, autojump_clock: MockClock, spec: dict[str, Any]
) -> None:
    world.add(**spec)
    world.origin.commit({FILE: [secret(greeting="one"), evil()]})
    async with miwen(world):
        await settle()
        assert world.reason() == "ObjectProtected"
        assert world.condition("Stalled")["status"] == "True"
        [failed] = world.status()["failedObjects"]
        assert (failed["kind"], failed["reason"]) == ("Decryptor", "ObjectProtected")
    assert url_of(world) != "https://evil.example/x"
    assert world.data() == (None if "applyPolicy" in spec else {"greeting": "one"})
    assert "Decryptor" not in str(world.status().get("inventory"))


async def test_a_dry_run_says_that_it_would_be_refused(world: World, autojump_clock: MockClock) -> None:
    world.add(mode="DryRun")
    world.origin.commit({FILE: [secret(greeting="one"), evil()]})
    async with miwen(world):
        await settle()
        planned = {each["kind"]: each for each in world.status()["plan"]["objects"]}
    assert planned["Decryptor"]["action"] == "Refused"
    assert "serviceAccountName" in planned["Decryptor"]["message"]


async def test_with_an_account_the_cluster_decides(world: World, autojump_clock: MockClock) -> None:
    world.add(serviceAccountName="team")
    world.origin.commit({FILE: [secret(greeting="one"), evil("other")]})
    async with miwen(world):
        await settle()
    assert url_of(world, "other") == "https://evil.example/x"


async def test_a_decryptor_in_jiemis_own_namespace_does_nothing(world: World, autojump_clock: MockClock) -> None:
    # With an account too: it could name Miwen's.
    for name, spec in (("a", {}), ("b", {"serviceAccountName": "miwen"}), ("c", {"mode": "DryRun"})):
        world.add(name, "jiemi", **spec)
    world.origin.commit({FILE: [secret(greeting="one")]})
    async with miwen(world):
        await settle()
        for name in "abc":
            status = world.status(name, "jiemi")
            assert {each["reason"] for each in status["conditions"]} == {"NamespaceProtected"}
    assert world.krapao.calls == []


@pytest.mark.parametrize("flag", [{"default_service_account": None}, {"own_namespace_only": True}], ids=str)
async def test_no_flag_of_the_operators_opens_it(world: World, autojump_clock: MockClock, flag: dict[str, Any]) -> None:
    world.add()
    world.origin.commit({FILE: [secret(greeting="one"), evil()]})
    opened = Protection(opened=frozenset({"Decryptor.jiemi.cr"}))
    async with miwen(world, tenancy=Tenancy(protection=opened, **flag)):
        await settle()
        assert world.reason() == "ObjectProtected"


async def test_what_an_older_release_applied_is_not_deleted(autojump_clock: MockClock) -> None:
    kubernetes, owner = FakeKubernetes(), Owner("default", "app")
    manifest = evil("other")
    manifest["metadata"]["labels"] = owner.labels
    kubernetes.cluster.put(manifest)
    entry = InventoryEntry(API_VERSION, KIND, "other", "default", FILE, 5)
    objects = objects_of(kubernetes, None, Protection(), namespace="default")
    pruned = await prune([entry], objects, owner)
    assert [each.failure.reason for each in pruned.refused] == ["ObjectProtected"]
    assert kubernetes.cluster.get(KIND, "default", "other", api_version=API_VERSION) is not None
    # One that is gone, or another's by now, holds nothing up.
    kubernetes.cluster.delete(KIND, "default", "other", api_version=API_VERSION)
    assert (await prune([entry], objects, owner)).kept == [entry]


async def test_every_write_as_itself_is_asked_about(autojump_clock: MockClock) -> None:
    kubernetes = FakeKubernetes()
    objects = objects_of(kubernetes, None, Protection(), namespace="default")
    ref = ref_of(InventoryEntry(API_VERSION, KIND, "other", "default"))
    for write in (
        lambda: objects.apply(evil("other"), default_namespace="default"),
        lambda: objects.apply({**evil("other"), "metadata": {"name": "other"}}, default_namespace="default"),
        lambda: objects.dry_run(evil("other"), default_namespace="default"),
        lambda: objects.delete(ref, uid="u"),
        lambda: objects.remove_fields(ref, [("spec",)], resource_version="1"),
        lambda: objects.apply(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}}, default_namespace="jiemi"
        ),
    ):
        with pytest.raises(JiemiError) as caught:
            await write()
        assert caught.value.failure.reason == "ObjectProtected"
    assert await objects.get(ObjectRef("v1", "Secret", "jiemi", "x")) is None


@pytest.mark.parametrize("how", ["apply", "dry_run"])
@pytest.mark.parametrize(
    ("kind", "live", "manifest"),
    [
        (
            "ClusterRole",
            {"metadata": {"labels": {f"{RBAC}/aggregate-to-view": "true"}}, "rules": []},
            {"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]},
        ),
        (
            "RoleBinding",
            {"roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "jiemi-miwen"}, "subjects": []},
            {"subjects": [{"kind": "ServiceAccount", "name": "mine", "namespace": "default"}]},
        ),
    ],
    ids=["a role that another is made of", "a binding of Miwen's role"],
)
async def test_what_others_have_set_of_a_role_counts_too(
    autojump_clock: MockClock, how: str, kind: str, live: dict[str, Any], manifest: dict[str, Any]
) -> None:
    kubernetes = FakeKubernetes()
    namespace = "default" if kind == "RoleBinding" else None
    metadata = {"name": "x"} | ({"namespace": namespace} if namespace else {})
    named = {"apiVersion": f"{RBAC}/v1", "kind": kind}
    kubernetes.cluster.put({**named, **live, "metadata": {**metadata, **live.get("metadata", {})}})
    before = kubernetes.cluster.get(kind, namespace, "x", api_version=f"{RBAC}/v1")
    assert before is not None
    objects = objects_of(kubernetes, None, Protection(), namespace="default")
    with pytest.raises(JiemiError) as caught:
        await getattr(objects, how)({**named, **manifest, "metadata": metadata}, default_namespace="default")
    assert caught.value.failure.reason == "ObjectProtected"
    assert kubernetes.cluster.get(kind, namespace, "x", api_version=f"{RBAC}/v1") == before


def test_an_account_beside_miwen_counts_as_miwen() -> None:
    kubernetes = FakeKubernetes()
    for account, guarded in ((None, True), (Account("jiemi", "miwen"), True), (Account("team", "miwen"), False)):
        objects = objects_of(kubernetes, account, Protection(), namespace="team")
        assert isinstance(objects, ProtectedObjects) is guarded


async def test_a_target_that_the_cluster_would_make_a_credential_of_is_refused(
    world: World, autojump_clock: MockClock
) -> None:
    account = {"kubernetes.io/service-account.name": "admin"}
    targets: tuple[dict[str, Any], ...] = (
        {"type": "kubernetes.io/service-account-token", "annotations": account},
        {"type": "bootstrap.kubernetes.io/token"},
        {"annotations": account},
    )
    for number, more in enumerate(targets):
        world.add(f"t{number}", target={"name": f"t{number}", "key": "file", **more})
    # What is put on every object counts as well.
    world.add("t3", target={"name": "t3", "key": "file"}, commonMetadata={"annotations": account})
    world.origin.commit({FILE: [secret(greeting="one")]})
    async with miwen(world):
        await settle()
        assert {world.reason(f"t{number}") for number in range(4)} == {"ObjectProtected"}
        assert [world.data(f"t{number}") for number in range(4)] == [None] * 4
