"""The real form of the Kubernetes port where things go wrong: on a real API server, whole or stopped or killed."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import stat
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import pytest
import trio
from contract.kubernetes_parts import CANARY, Events, denied, encoded, refused, secret
from contract.kubernetes_world import RealWorld, cluster_of, open_world, reason_of, write_kubeconfig
from contract.tcp_proxy import TcpProxy, open_tcp_proxy
from support.processes.threads import own_threads

from jiemi.controlplane.control_plane import ControlPlane, ControlPlaneError, ControlPlaneSettings, open_control_plane
from jiemi.core.errors import JiemiError
from jiemi.miwen.kubernetes.access import in_cluster
from jiemi.miwen.kubernetes.connection import KubernetesSettings
from jiemi.miwen.kubernetes.port import Kubernetes
from jiemi.miwen.kubernetes.real import open_kubernetes

pytestmark = pytest.mark.e2e

DEADLINE_SECONDS = 30
RIGHTS = {("list", "decryptors"), ("watch", "decryptors")}


@pytest.fixture
async def world(control_plane: Path, tmp_path: Path) -> AsyncIterator[RealWorld]:
    async with open_world(control_plane, tmp_path) as world:
        yield world


@pytest.fixture
async def proxy(control_plane: Path) -> AsyncIterator[TcpProxy]:
    async with open_tcp_proxy(urlsplit(cluster_of(control_plane)["server"]).port or 0) as proxy:
        yield proxy


async def through(proxy: TcpProxy, world: RealWorld, **user: Any) -> Path:
    """A kubeconfig of an account that may list and watch, by way of the proxy."""
    if not user:
        account = await world.admin.account(world.namespace, RIGHTS)
        user = {"token": await world.admin.token(world.namespace, account)}
    server = f"https://127.0.0.1:{proxy.port}"
    return write_kubeconfig(world.directory / "through-proxy", world.kubeconfig, user, server=server)


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
    path = await through(proxy, world)
    async with open_kubernetes(KubernetesSettings(kubeconfig=path, namespace=world.namespace)) as kubernetes:
        for _ in range(20):
            assert await reason_of(kubernetes) == ""
        assert proxy.accepted == 1
    await until(lambda: proxy.open == 0)


async def test_a_connection_that_was_cut_while_idle_costs_no_error(world: RealWorld, proxy: TcpProxy) -> None:
    path = await through(proxy, world)
    async with open_kubernetes(KubernetesSettings(kubeconfig=path, namespace=world.namespace)) as kubernetes:
        assert await reason_of(kubernetes) == ""
        await proxy.cut()
        assert await reason_of(kubernetes) == ""
        assert proxy.accepted == 2


async def test_a_request_that_is_cancelled_ends_its_connection_and_its_thread(
    world: RealWorld, proxy: TcpProxy
) -> None:
    path = await through(proxy, world)
    settings = KubernetesSettings(kubeconfig=path, namespace=world.namespace, max_concurrent_requests=1)
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
    path = await through(proxy, world)
    version = (await world.kubernetes.list_decryptors(limit=1, continue_token=None)).resource_version
    settings = KubernetesSettings(kubeconfig=path, namespace=world.namespace)
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
    path = await through(proxy, world)
    settings = KubernetesSettings(kubeconfig=path, namespace=world.namespace, max_concurrent_requests=1)
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
    path = await through(proxy, world)
    async with open_kubernetes(KubernetesSettings(kubeconfig=path, namespace=world.namespace)) as kubernetes:
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
            namespace=world.namespace,
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


# --- credentials


async def test_a_token_that_is_not_accepted_is_reported_without_it(world: RealWorld, proxy: TcpProxy) -> None:
    path = await through(proxy, world, token=CANARY)
    async with open_kubernetes(KubernetesSettings(kubeconfig=path)) as kubernetes:
        with pytest.raises(JiemiError) as caught:
            await kubernetes.list_decryptors(limit=1, continue_token=None)
        assert caught.value.failure.reason == "ClusterAccessDenied"
        assert "does not accept the credentials of context it" in caught.value.failure.text
        assert CANARY not in repr(caught.getrepr(showlocals=True))
        assert kubernetes.requests.snapshot().of("list", "decryptors") == 1


async def test_a_token_file_that_is_replaced_is_read_again_when_the_old_token_is_refused(world: RealWorld) -> None:
    account = await world.admin.account(world.namespace, RIGHTS)
    file = world.directory / "token"
    file.write_text("ended\n")
    path = write_kubeconfig(world.directory / "file", world.kubeconfig, {"tokenFile": "token"})
    async with open_kubernetes(KubernetesSettings(kubeconfig=path, namespace=world.namespace)) as kubernetes:
        assert await reason_of(kubernetes) == "ClusterAccessDenied"
        file.write_text(await world.admin.token(world.namespace, account) + "\n")
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(_must_list, kubernetes)
        before = kubernetes.requests.snapshot().of("list", "decryptors")
        assert await reason_of(kubernetes) == ""
        assert kubernetes.requests.snapshot().of("list", "decryptors") == before + 1


async def _must_list(kubernetes: Kubernetes) -> None:
    assert await reason_of(kubernetes) == ""


async def test_a_credential_plugin_runs_once_and_again_when_its_token_has_ended(world: RealWorld) -> None:
    account = await world.admin.account(world.namespace, RIGHTS)
    runs = world.directory / "runs"
    (world.directory / "token.txt").write_text(await world.admin.token(world.namespace, account))
    plugin = world.directory / "plugin"
    plugin.write_text(
        "#!/bin/sh\n"
        f'echo "$GREETING $1" >> {runs}\n'
        'printf \'{"kind": "ExecCredential", "status": {"token": "%s", "expirationTimestamp": "%s"}}\' '
        f'"$(cat {world.directory}/token.txt)" "$(cat {world.directory}/expires.txt)"\n'
    )
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    (world.directory / "expires.txt").write_text("2000-01-01T00:00:00Z")
    user = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "./plugin",
            "args": ["there"],
            "env": [{"name": "GREETING", "value": "hello"}],
        }
    }
    path = write_kubeconfig(world.directory / "exec", world.kubeconfig, user)
    settings = KubernetesSettings(kubeconfig=path, namespace=world.namespace, environment={"PATH": os.environ["PATH"]})
    async with open_kubernetes(settings) as kubernetes:
        assert await reason_of(kubernetes) == ""
        (world.directory / "expires.txt").write_text("2100-01-01T00:00:00Z")
        for _ in range(3):
            assert await reason_of(kubernetes) == ""
    assert runs.read_text().splitlines() == ["hello there"] * 2


async def test_key_material_of_a_kubeconfig_reaches_no_disk(
    world: RealWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    before = _memory_files()
    async with open_kubernetes(KubernetesSettings(kubeconfig=world.kubeconfig)) as kubernetes:
        assert await reason_of(kubernetes) == ""
        assert _memory_files() - before == {"authority": 1, "certificate": 1, "key": 1}
    assert _memory_files() == before
    assert list(temporary.iterdir()) == []


def _memory_files() -> Counter[str]:
    """The memory files of ours that this process has open."""
    found: Counter[str] = Counter()
    for handle in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            _, ours, name = str(handle.readlink()).partition("memfd:jiemi-")
            if ours:
                found[name.partition(" ")[0].rpartition("-")[2]] += 1
    return found


async def test_a_pod_s_service_account_is_used_where_no_kubeconfig_is_given(
    world: RealWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = await world.admin.account(world.namespace, RIGHTS)
    mounted = world.directory / "serviceaccount"
    mounted.mkdir()
    cluster = cluster_of(world.kubeconfig)
    (mounted / "token").write_text(await world.admin.token(world.namespace, account))
    (mounted / "ca.crt").write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    monkeypatch.setattr(
        "jiemi.miwen.kubernetes.connection.in_cluster", lambda environment: in_cluster(environment, directory=mounted)
    )
    server = urlsplit(cluster["server"])
    settings = KubernetesSettings(
        namespace=world.namespace,
        environment={"KUBERNETES_SERVICE_HOST": server.hostname or "", "KUBERNETES_SERVICE_PORT": str(server.port)},
    )
    async with open_kubernetes(settings) as kubernetes:
        assert await reason_of(kubernetes) == ""


async def test_another_authority_s_certificate_is_refused(world: RealWorld, tmp_path: Path) -> None:
    user = {"token": CANARY}
    path = write_kubeconfig(tmp_path / "k", world.kubeconfig, user, **{"tls-server-name": "other.example"})
    async with open_kubernetes(KubernetesSettings(kubeconfig=path)) as kubernetes:
        with pytest.raises(JiemiError) as caught:
            await kubernetes.list_decryptors(limit=1, continue_token=None)
    assert caught.value.failure.reason == "ClusterUnavailable"
    assert "TLS certificate does not verify" in caught.value.failure.text


async def test_nothing_listens_there(tmp_path: Path, control_plane: Path) -> None:
    path = write_kubeconfig(tmp_path / "k", control_plane, {"token": CANARY}, server="https://127.0.0.1:9")
    threads = own_threads()
    async with open_kubernetes(KubernetesSettings(kubeconfig=path)) as kubernetes:
        with pytest.raises(JiemiError, match="can't be reached: Connection refused"):
            await kubernetes.list_decryptors(limit=1, continue_token=None)
    assert own_threads() - threads == set()
