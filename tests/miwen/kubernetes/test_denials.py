"""Each request that Miwen sends is refused to an account without rights on a real API server; what the refusal says to
grant is granted, word for word, and then the same request is not refused."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import attrs
import pytest
import trio
from contract.kubernetes_parts import decryptor, event, secret
from contract.kubernetes_world import RealWorld, write_kubeconfig
from support.kubernetes.grants import grants_in

from jiemi.core.errors import JiemiError
from jiemi.core.objects.identity import ObjectRef
from jiemi.core.sensitive import SensitiveText
from jiemi.miwen.kubernetes.connection import KubernetesSettings
from jiemi.miwen.kubernetes.discovery import Resource
from jiemi.miwen.kubernetes.port import Account
from jiemi.miwen.kubernetes.real import RealKubernetes, open_kubernetes
from jiemi.miwen.leadership.lease import LeaseRecord

pytestmark = pytest.mark.e2e

DEADLINE_SECONDS = 30
SECRETS = Resource("v1", "Secret", "secrets", namespaced=True)
ROLES = Resource("rbac.authorization.k8s.io/v1", "Role", "roles", namespaced=True)
NAMESPACES = Resource("v1", "Namespace", "namespaces", namespaced=False)
NOW = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@attrs.frozen
class Stage:
    """An account without rights, and what there is that it may be refused.

    Attributes:
        world: the API server, and the namespace of everything here.
        account: the account's name.
        kubernetes: the port as that account, for this namespace; everywhere: for all of them.
        other: an account that may read Secrets.
        one: the Decryptor.
        there: a Secret.
    """

    world: RealWorld
    account: str
    kubernetes: RealKubernetes
    everywhere: RealKubernetes
    other: Account
    one: Mapping[str, Any]
    there: Mapping[str, Any]

    @property
    def namespace(self) -> str:
        return self.world.namespace

    @property
    def ref(self) -> ObjectRef:
        return ObjectRef("v1", "Secret", self.namespace, "there")

    async def grant(self, text: str) -> None:
        """What a refusal says to grant, and nothing else."""
        (grant,) = grants_in(text)
        for manifest in grant.manifests((self.namespace, self.account)):
            await self.world.put(manifest)


@pytest.fixture
async def stage(real_world: RealWorld) -> AsyncIterator[Stage]:
    world = real_world
    one = await world.put(decryptor(world, "one"))
    there = await world.put(secret("there", world.namespace, data={"a": "eA==", "b": "eA=="}))
    account = await world.admin.account(world.namespace, ())
    token = await world.admin.token(world.namespace, account)
    path = write_kubeconfig(world.directory / account, world.kubeconfig, {"token": token})
    settings = KubernetesSettings(kubeconfig=path, namespaces=(world.namespace,))
    async with (
        open_kubernetes(settings) as kubernetes,
        open_kubernetes(attrs.evolve(settings, namespaces=())) as everywhere,
    ):
        other = await world.account({("get", "secrets")})
        yield Stage(world, account, kubernetes, everywhere, other, one, there)


Doing = Callable[[Stage], Awaitable[object]]


def _list_decryptors(stage: Stage) -> Awaitable[object]:
    return stage.kubernetes.list_decryptors(limit=1, continue_token=None)


def _list_all_decryptors(stage: Stage) -> Awaitable[object]:
    return stage.everywhere.list_decryptors(limit=1, continue_token=None)


async def _watch_decryptors(stage: Stage) -> None:
    version = stage.one["metadata"]["resourceVersion"]
    async with stage.kubernetes.watch_decryptors(resource_version=version):
        pass


def _list_secrets(stage: Stage) -> Awaitable[object]:
    return stage.kubernetes.list_metadata(
        SECRETS, label_selector="", field_selector="", limit=1, continue_token=None, namespace=stage.namespace
    )


def _list_namespaces(stage: Stage) -> Awaitable[object]:
    return stage.kubernetes.list_metadata(
        NAMESPACES, label_selector="", field_selector="", limit=1, continue_token=None
    )


async def _watch_roles(stage: Stage) -> None:
    version = stage.one["metadata"]["resourceVersion"]
    async with stage.everywhere.watch_metadata(ROLES, label_selector="", field_selector="", resource_version=version):
        pass


def _read_decryptor(stage: Stage) -> Awaitable[object]:
    return stage.everywhere.get_decryptor(stage.namespace, "one")


def _write_status(stage: Stage) -> Awaitable[object]:
    current = {"id": 0, "revision": "", "file_to_decrypt": "x", "deployed_at": None, "status": "NotSync"}
    status = {"current": {**current, "error_message": None}, "history": []}
    return stage.everywhere.patch_status(stage.namespace, "one", status, uid=stage.one["metadata"]["uid"])


def _set_finalizers(stage: Stage) -> Awaitable[object]:
    metadata = stage.one["metadata"]
    return stage.kubernetes.set_finalizers(
        stage.namespace,
        "one",
        ["jiemi.cr/cleanup"],
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
    )


def _read_credential(stage: Stage) -> Awaitable[object]:
    return stage.kubernetes.get_secret(stage.namespace, "there")


def _make_certificate(stage: Stage) -> Awaitable[object]:
    return stage.kubernetes.create_secret(stage.namespace, "made", {"token": SensitiveText("x")})


def _renew_certificate(stage: Stage) -> Awaitable[object]:
    return stage.kubernetes.replace_secret(dict(stage.there), {"a": SensitiveText("y")})


def _write_event(stage: Stage) -> Awaitable[object]:
    return stage.kubernetes.create_event(stage.namespace, event(stage.world, "e"))


def _read_lease(stage: Stage) -> Awaitable[object]:
    return stage.kubernetes.leases.get(stage.namespace, "jiemi-miwen")


def _lease() -> dict[str, Any]:
    return dict(LeaseRecord("me", 5, NOW, NOW, 0).spec())


def _make_lease(stage: Stage) -> Awaitable[object]:
    return stage.kubernetes.leases.write(stage.namespace, "jiemi-miwen", None, _lease())


async def _renew_lease(stage: Stage) -> None:
    metadata = {"name": "jiemi-miwen", "namespace": stage.namespace}
    made = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}
    found = await stage.world.put(made)
    await stage.kubernetes.leases.write(stage.namespace, "jiemi-miwen", dict(found), _lease())


def _apply(stage: Stage) -> Awaitable[object]:
    manifest = secret("new", stringData={"a": "x"})
    return stage.kubernetes.objects(None).apply(manifest, default_namespace=stage.namespace)


def _apply_again(stage: Stage) -> Awaitable[object]:
    manifest = secret("there", stringData={"a": "x"})
    return stage.kubernetes.objects(None).apply(manifest, default_namespace=stage.namespace)


def _apply_without_namespace(stage: Stage) -> Awaitable[object]:
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"n{uuid.uuid4().hex[:12]}"}}
    return stage.kubernetes.objects(None).apply(manifest, default_namespace=stage.namespace)


def _dry_run(stage: Stage) -> Awaitable[object]:
    manifest = {"apiVersion": ROLES.api_version, "kind": "Role", "metadata": {"name": "new"}, "rules": []}
    return stage.kubernetes.objects(None).dry_run(manifest, default_namespace=stage.namespace)


def _read(stage: Stage) -> Awaitable[object]:
    return stage.kubernetes.objects(None).get(stage.ref)


def _read_metadata(stage: Stage) -> Awaitable[object]:
    return stage.kubernetes.objects(None).get_metadata(stage.ref)


def _delete(stage: Stage) -> Awaitable[object]:
    return stage.kubernetes.objects(None).delete(stage.ref, uid=stage.there["metadata"]["uid"])


def _remove_fields(stage: Stage) -> Awaitable[object]:
    version = stage.there["metadata"]["resourceVersion"]
    return stage.kubernetes.objects(None).remove_fields(stage.ref, [("data", "b")], resource_version=version)


def _take_over(stage: Stage) -> Awaitable[object]:
    metadata = stage.there["metadata"]
    return stage.kubernetes.objects(None).set_managed_fields(
        stage.ref, metadata["managedFields"], uid=metadata["uid"], resource_version=metadata["resourceVersion"]
    )


def _act_as(stage: Stage) -> Awaitable[object]:
    return stage.kubernetes.objects(stage.other).get(stage.ref)


ALL: dict[str, tuple[Doing, str, str]] = {
    "listing Decryptors": (_list_decryptors, "ListForbidden", "`list` and `watch` on decryptors of API group jiemi.cr"),
    "listing all Decryptors": (_list_all_decryptors, "ListForbidden", "in all namespaces (a ClusterRoleBinding)"),
    "watching Decryptors": (_watch_decryptors, "ListForbidden", "`list` and `watch` on decryptors"),
    "reading a Decryptor": (_read_decryptor, "ListForbidden", "`get` on decryptors of API group jiemi.cr"),
    "status": (_write_status, "ListForbidden", "`patch` on decryptors/status of API group jiemi.cr"),
    "finalizers": (_set_finalizers, "ListForbidden", "`patch` on decryptors of API group jiemi.cr"),
    "listing objects": (_list_secrets, "WatchForbidden", "`list` and `watch` on secrets of the core API group"),
    "listing objects of no namespace": (_list_namespaces, "WatchForbidden", "`list` and `watch` on namespaces"),
    "watching objects": (_watch_roles, "WatchForbidden", "`list` and `watch` on roles of API group rbac.authoriz"),
    "reading a credential": (_read_credential, "SecretForbidden", "`get` on secrets of the core API group"),
    "making a certificate": (_make_certificate, "SecretForbidden", "`create` on secrets of the core API group"),
    "renewing a certificate": (_renew_certificate, "SecretForbidden", "`update` on secrets of the core API group"),
    "event": (_write_event, "EventForbidden", "`create` on events of API group events.k8s.io"),
    "reading the lease": (_read_lease, "LeaseForbidden", "`get` on leases of API group coordination.k8s.io"),
    "making the lease": (_make_lease, "LeaseForbidden", "`create` on leases of API group coordination.k8s.io"),
    "renewing the lease": (_renew_lease, "LeaseForbidden", "`update` on leases of API group coordination.k8s.io"),
    "applying": (_apply, "ApplyForbidden", "`create` and `patch` on secrets of the core API group"),
    "applying again": (_apply_again, "ApplyForbidden", "`create` and `patch` on secrets of the core API group"),
    "applying without namespace": (_apply_without_namespace, "ApplyForbidden", "`create` and `patch` on namespaces"),
    "trying": (_dry_run, "ApplyForbidden", "`create` and `patch` on roles of API group rbac.authorization.k8s.io"),
    "reading an object": (_read, "ReadForbidden", "`get` on secrets of the core API group"),
    "reading metadata": (_read_metadata, "ReadForbidden", "`get` on secrets of the core API group"),
    "deleting": (_delete, "DeleteForbidden", "`delete` on secrets of the core API group"),
    "removing fields": (_remove_fields, "ApplyForbidden", "`create` and `patch` on secrets of the core API group"),
    "taking over": (_take_over, "ApplyForbidden", "`create` and `patch` on secrets of the core API group"),
    "acting as another": (_act_as, "ImpersonationForbidden", "`impersonate` on serviceaccounts of the core API group"),
}


@pytest.mark.parametrize("what", ALL)
async def test_what_a_refusal_says_to_grant_is_all_that_is_missing(what: str, stage: Stage) -> None:
    doing, reason, named = ALL[what]
    with pytest.raises(JiemiError) as caught:
        await doing(stage)
    failure = caught.value.failure
    assert failure.reason == reason
    assert named in failure.text
    await stage.grant(failure.text)
    await _until_done(doing, stage)


async def _until_done(doing: Doing, stage: Stage) -> None:
    """The authorizer learns of a role a moment after it was answered."""
    with trio.fail_after(DEADLINE_SECONDS):
        while True:
            try:
                await doing(stage)
            except JiemiError as error:
                if not error.failure.reason.endswith("Forbidden"):
                    raise
            else:
                return
            await trio.sleep(0.05)


async def test_a_right_for_a_namespace_that_is_not_followed_is_not_said_to_come_by_the_label(stage: Stage) -> None:
    manifest = secret("new", "elsewhere", stringData={"a": "x"})
    for kubernetes, by_label in ((stage.kubernetes, False), (stage.everywhere, True)):
        with pytest.raises(JiemiError) as caught:
            await kubernetes.objects(None).apply(manifest, default_namespace=stage.namespace)
        assert "in namespace elsewhere" in caught.value.failure.text
        assert ("jiemi.cr/aggregate-to-miwen" in caught.value.failure.text) is by_label
