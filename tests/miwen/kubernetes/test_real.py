"""The real form of the Kubernetes port where things go wrong: on a real API server, whole or stopped or killed."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from contract.kubernetes_parts import CANARY, Events, denied, encoded, refused, secret
from contract.kubernetes_world import RealWorld, open_world, reason_of, through_proxy
from contract.tcp_proxy import TcpProxy

from jiemi.controlplane.control_plane import ControlPlane, ControlPlaneSettings, open_control_plane
from jiemi.controlplane.processes import ControlPlaneError
from jiemi.core.errors import JiemiError
from jiemi.miwen.kubernetes.connection import KubernetesSettings
from jiemi.miwen.kubernetes.real import open_kubernetes

pytestmark = pytest.mark.e2e

DEADLINE_SECONDS = 30


@pytest.fixture
def world(real_world: RealWorld) -> RealWorld:
    return real_world


async def until(condition: Any) -> None:
    with trio.fail_after(DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.01)


# --- what is never shown


@pytest.mark.parametrize(
    ("manifest", "named"),
    [
        ({"kind": "ConfigMap", "data": {"a": CANARY * 85_000}}, "FieldValueTooLong"),
        (
            {"kind": "ConfigMap", "data": {"a": CANARY * 300_000}},
            "larger than the API server takes. A Secret or ConfigMap holds 1 MiB",
        ),
        ({"kind": "Secret", "data": {"a b": encoded(CANARY)}}, "data[a b] (FieldValueInvalid)"),
        ({"kind": "Secret", "stringData": CANARY}, "stringData (expected map)"),
        ({"kind": "Secret", "stringData": {"a": {"b": CANARY}}}, "stringData.a (expected string)"),
        ({"kind": "Secret", "stringdata": {"a": CANARY}}, "stringdata (field not declared in schema)"),
        ({"kind": "Secret", "metadata": {"name": "made", "labels": {"l": f"{CANARY} x"}}}, "metadata.labels"),
        ({"kind": "Secret", "metadata": {"name": "made", "finalizers": [f"{CANARY} x"]}}, "metadata.finalizers"),
        (
            {
                "kind": "Secret",
                "type": "kubernetes.io/dockerconfigjson",
                "data": {".dockerconfigjson": encoded(CANARY)},
            },
            "data[.dockerconfigjson] (FieldValueInvalid)",
        ),
        ({"kind": "Secret", "type": "kubernetes.io/tls", "data": {"a": encoded(CANARY)}}, "data[tls.crt]"),
        ({"kind": "Secret", "immutable": CANARY}, "immutable (expected boolean)"),
    ],
)
async def test_no_rejection_shows_a_value(world: RealWorld, manifest: dict[str, Any], named: str) -> None:
    manifest = {"apiVersion": "v1", "metadata": {"name": "made"}} | manifest
    message = await refused(world.kubernetes, manifest, "ApplyRejected", namespace=world.namespace)
    assert named in message


async def test_an_object_that_etcd_can_not_take_is_rejected_not_retried(world: RealWorld) -> None:
    manifest = {
        "apiVersion": "jiemi.cr/v1alpha1",
        "kind": "Decryptor",
        "metadata": {"name": "large"},
        "spec": {
            "provider": {"age": {"privateKey": {"literal": "a"}}},
            "source": {"repository": {"url": "https://git.example/a.git"}, "fileToDecrypt": "a.yaml"},
            "target": {"name": "a", "annotations": {"a": CANARY * 140_000}},
        },
    }
    message = await refused(world.kubernetes, manifest, "ApplyRejected", namespace=world.namespace)
    assert "larger than the API server takes" in message


@pytest.mark.parametrize("reason", ["Forbidden", "Invalid", "RequestEntityTooLarge"])
async def test_a_policy_s_denial_is_one_whatever_code_it_chooses_and_shows_no_value(
    world: RealWorld, reason: str
) -> None:
    objects = world.kubernetes.objects(None)
    async with world.policy(reason) as name:
        doing = objects.apply(secret("made", stringData={"banned": CANARY}), default_namespace=world.namespace)
        message = await denied(doing, "AdmissionDenied")
        assert f"ValidatingAdmissionPolicy {name}" in message
        await objects.apply(secret("made"), default_namespace=world.namespace)


async def test_rights_that_an_account_has_not_can_not_be_given(world: RealWorld) -> None:
    account = await world.account({("create", "roles"), ("patch", "roles")})
    manifest = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "more"},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}],
    }
    doing = world.kubernetes.objects(account).apply(manifest, default_namespace=world.namespace)
    message = await denied(doing, "ApplyForbidden")
    assert f"gives rights that {account} does not have" in message


# --- discovery


async def test_many_objects_of_one_unknown_kind_cause_one_question(world: RealWorld) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(30):
            manifest = {"apiVersion": "none.example/v1", "kind": f"Kind{number}", "metadata": {"name": "x"}}
            nursery.start_soon(partial(refused, world.kubernetes, manifest, "KindUnknown", namespace="default"))
    assert world.kubernetes.requests.snapshot().requests == {("get", "discovery"): 1}


async def test_a_kind_that_was_taken_away_is_noticed(world: RealWorld) -> None:
    group = f"{world.namespace}.example"
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    await world.admin.must(
        "POST",
        crds,
        {
            "metadata": {"name": f"things.{group}"},
            "spec": {
                "group": group,
                "scope": "Cluster",
                "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
                "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
            },
        },
    )
    await until_served(world, f"/apis/{group}/v1/things")
    thing = {"apiVersion": f"{group}/v1", "kind": "Thing", "metadata": {"name": "x", "namespace": "ignored"}}
    result = await world.kubernetes.objects(None).apply(thing, default_namespace="default")
    assert result.get("namespace") is None
    await world.admin.must("DELETE", f"{crds}/things.{group}")
    await until_served(world, f"/apis/{group}/v1/things", served=False)
    await refused(world.kubernetes, thing, "KindUnknown", namespace="default")


async def until_served(world: RealWorld, path: str, *, served: bool = True) -> None:
    with trio.fail_after(DEADLINE_SECONDS):
        while (await world.admin.send("GET", path)).good is not served:  # noqa: ASYNC110
            await trio.sleep(0.05)


# --- the connection


async def test_connections_are_kept_and_used_again(world: RealWorld, proxy: TcpProxy) -> None:
    path = await through_proxy(proxy, world)
    async with open_kubernetes(KubernetesSettings(kubeconfig=path, namespaces=(world.namespace,))) as kubernetes:
        for _ in range(20):
            assert await reason_of(kubernetes) == ""
        assert proxy.accepted == 1
    await until(lambda: proxy.open == 0)


async def test_a_connection_that_was_cut_while_idle_costs_no_error(world: RealWorld, proxy: TcpProxy) -> None:
    path = await through_proxy(proxy, world)
    async with open_kubernetes(KubernetesSettings(kubeconfig=path, namespaces=(world.namespace,))) as kubernetes:
        assert await reason_of(kubernetes) == ""
        await proxy.cut()
        assert await reason_of(kubernetes) == ""
        assert proxy.accepted == 2


async def test_a_request_that_is_cancelled_ends_its_connection_and_its_thread(
    world: RealWorld, proxy: TcpProxy
) -> None:
    path = await through_proxy(proxy, world)
    settings = KubernetesSettings(kubeconfig=path, namespaces=(world.namespace,), max_concurrent_requests=1)
    async with open_kubernetes(settings) as kubernetes:
        assert await reason_of(kubernetes) == ""
        proxy.hold()
        began = trio.current_time()
        with trio.move_on_after(0.1) as scope:
            await reason_of(kubernetes)
        assert scope.cancelled_caught
        assert trio.current_time() - began < 5
        proxy.release()
        await until(lambda: proxy.open == 0)
        # The only place is free again.
        assert await reason_of(kubernetes) == ""


async def test_cancelling_at_any_moment_leaves_no_connection(world: RealWorld, proxy: TcpProxy) -> None:
    path = await through_proxy(proxy, world)
    version = (await world.kubernetes.list_decryptors(limit=1, continue_token=None)).resource_version
    settings = KubernetesSettings(kubeconfig=path, namespaces=(world.namespace,))
    for milliseconds in range(40):
        async with open_kubernetes(settings) as kubernetes:
            with trio.move_on_after(milliseconds / 1_000):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(reason_of, kubernetes)
                    async with kubernetes.watch_decryptors(resource_version=version) as chunks:
                        await anext(chunks)
    await until(lambda: proxy.open == 0)
    assert proxy.accepted > 10


async def test_a_watch_takes_no_place_from_requests_and_no_thread_between_chunks(
    world: RealWorld, proxy: TcpProxy
) -> None:
    path = await through_proxy(proxy, world)
    settings = KubernetesSettings(kubeconfig=path, namespaces=(world.namespace,), max_concurrent_requests=1)
    async with open_kubernetes(settings) as kubernetes, trio.open_nursery() as nursery:
        version = (await kubernetes.list_decryptors(limit=1, continue_token=None)).resource_version

        async def watch() -> None:
            async with kubernetes.watch_decryptors(resource_version=version) as chunks:
                await anext(chunks)

        for _ in range(5):
            nursery.start_soon(watch)
        await until(lambda: kubernetes.requests.snapshot().of("watch", "decryptors") == 5)
        with trio.fail_after(10):
            assert await reason_of(kubernetes) == ""
        nursery.cancel_scope.cancel()
    await until(lambda: proxy.open == 0)


async def test_a_watch_that_is_cut_says_so(world: RealWorld, proxy: TcpProxy) -> None:
    path = await through_proxy(proxy, world)
    async with open_kubernetes(KubernetesSettings(kubeconfig=path, namespaces=(world.namespace,))) as kubernetes:
        version = (await kubernetes.list_decryptors(limit=1, continue_token=None)).resource_version
        async with kubernetes.watch_decryptors(resource_version=version) as chunks:
            await proxy.cut()
            with trio.fail_after(DEADLINE_SECONDS), pytest.raises(JiemiError) as caught:
                await anext(chunks)
        assert caught.value.failure.reason == "ClusterUnavailable"


async def test_an_api_server_that_is_stopped_and_then_killed(tools: dict[str, Path], fast_directory: Path) -> None:
    settings = ControlPlaneSettings(fast_directory, tools["etcd"], tools["kube-apiserver"])
    with pytest.raises(ControlPlaneError):
        async with open_control_plane(settings) as running:
            await _stop_and_kill(running, fast_directory)


async def _stop_and_kill(running: ControlPlane, directory: Path) -> None:
    api_server = running.pids["kube-apiserver"]
    async with open_world(running.kubeconfig, directory) as world:
        short = KubernetesSettings(
            kubeconfig=running.kubeconfig,
            namespaces=(world.namespace,),
            request_timeout_seconds=0.5,
            watch_timeout_seconds=1,
            watch_grace_seconds=0.2,
        )
        async with open_kubernetes(short) as kubernetes:
            version = (await kubernetes.list_decryptors(limit=1, continue_token=None)).resource_version
            async with kubernetes.watch_decryptors(resource_version=version) as chunks:
                os.kill(api_server, signal.SIGSTOP)
                try:
                    with trio.fail_after(DEADLINE_SECONDS):
                        assert await reason_of(kubernetes) == "ClusterUnavailable"
                        with pytest.raises(JiemiError, match="nothing came"):
                            await anext(chunks)
                finally:
                    os.kill(api_server, signal.SIGCONT)
            with trio.fail_after(DEADLINE_SECONDS):
                while await reason_of(kubernetes):  # noqa: ASYNC110
                    await trio.sleep(0.05)
        async with open_kubernetes(attrs.evolve(short, watch_timeout_seconds=60)) as kubernetes:
            version = (await kubernetes.list_decryptors(limit=1, continue_token=None)).resource_version
            # The control plane cancels this when its child is gone.
            with trio.CancelScope(shield=True), trio.fail_after(DEADLINE_SECONDS):
                async with kubernetes.watch_decryptors(resource_version=version) as chunks:
                    os.kill(api_server, signal.SIGKILL)
                    with pytest.raises(JiemiError, match="ClusterUnavailable"):
                        await Events(chunks).rest()
                with pytest.raises(JiemiError, match="ClusterUnavailable"):
                    await kubernetes.get_secret("default", "x")
        await trio.sleep(DEADLINE_SECONDS)
