"""The connection to a real API server: credentials of each kind, TLS, and what reaches no disk."""

from __future__ import annotations

import base64
import contextlib
import os
import stat
import tempfile
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio
from contract.kubernetes_parts import CANARY
from contract.kubernetes_world import RIGHTS, RealWorld, cluster_of, reason_of, through_proxy, write_kubeconfig
from contract.tcp_proxy import TcpProxy
from support.processes.threads import own_threads

from jiemi.core.errors import JiemiError
from jiemi.miwen.kubernetes.access import in_cluster
from jiemi.miwen.kubernetes.connection import KubernetesSettings
from jiemi.miwen.kubernetes.port import Kubernetes
from jiemi.miwen.kubernetes.real import open_kubernetes

pytestmark = pytest.mark.e2e


@pytest.fixture
def world(real_world: RealWorld) -> RealWorld:
    return real_world


async def test_a_token_that_is_not_accepted_is_reported_without_it(world: RealWorld, proxy: TcpProxy) -> None:
    path = await through_proxy(proxy, world, token=CANARY)
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
    async with open_kubernetes(KubernetesSettings(kubeconfig=path, namespaces=(world.namespace,))) as kubernetes:
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
    settings = KubernetesSettings(
        kubeconfig=path, namespaces=(world.namespace,), environment={"PATH": os.environ["PATH"]}
    )
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
        namespaces=(world.namespace,),
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
