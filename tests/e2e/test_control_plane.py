"""The embedded control plane is a real Kubernetes API, keeps its data and leaves no process behind, however it ends."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import kubernetes
import pytest
import trio
from support.processes.of_folder import processes_of

import jiemi
from jiemi.controlplane.control_plane import ControlPlaneSettings, open_control_plane
from jiemi.controlplane.processes import ControlPlaneError

pytestmark = pytest.mark.e2e

RUN = """
import json, sys, trio
from pathlib import Path
from jiemi.controlplane.control_plane import ControlPlaneSettings, run_control_plane
def announce(running):
    print(json.dumps({"server": running.server, "pids": dict(running.pids)}), flush=True)
settings = ControlPlaneSettings(*map(Path, sys.argv[1:]))
trio.run(lambda: run_control_plane(settings, announce=announce))
"""
CANARY = "canary-8c1f4e"


@attrs.frozen
class Foreground:
    """`run_control_plane` in a process of its own."""

    process: subprocess.Popen[bytes]
    state_dir: Path

    def ready(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "it ended before it was ready"
        ready: dict[str, Any] = json.loads(line)
        return ready

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@contextlib.contextmanager
def foreground(settings: ControlPlaneSettings) -> Iterator[Foreground]:
    arguments = [settings.state_dir, settings.etcd, settings.kube_apiserver]
    environment = {**os.environ, "PYTHONPATH": str(Path(jiemi.__file__).parents[1])}
    with subprocess.Popen([sys.executable, "-c", RUN, *arguments], stdout=subprocess.PIPE, env=environment) as process:
        try:
            yield Foreground(process, settings.state_dir)
        finally:
            process.kill()


@pytest.fixture
def settings(tools: dict[str, Path], fast_directory: Path) -> ControlPlaneSettings:
    return ControlPlaneSettings(fast_directory / "state", tools["etcd"], tools["kube-apiserver"])


@contextlib.contextmanager
def core_api(kubeconfig: Path) -> Iterator[Any]:
    # The library gives no types here.
    with kubernetes.config.new_client_from_config(str(kubeconfig)) as client:  # type: ignore[no-untyped-call]
        yield kubernetes.client.CoreV1Api(client)


def until(condition: Callable[[], object], *, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not within its time"
        time.sleep(0.02)


def api_status(server: str, path: str, *, headers: str = "") -> int:
    """The HTTP status that a client without a certificate gets."""
    host, _, port = server.removeprefix("https://").partition(":")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain) as tls,
    ):
        tls.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n".encode())
        return int(tls.recv(4_096).split(b" ")[1])


def test_rbac_is_on_and_a_stranger_gets_nothing(control_plane: Path) -> None:
    with core_api(control_plane) as api:
        server = api.api_client.configuration.host
        body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "nobody"}}
        api.create_namespaced_service_account("default", body)
        token = api.create_namespaced_service_account_token(
            "nobody", "default", {"spec": {"expirationSeconds": 600}}
        ).status.token
        bearer = f"Authorization: Bearer {token}\r\n"
        assert api_status(server, "/api/v1/namespaces/default/secrets", headers=bearer) == 403
        assert api_status(server, "/version", headers=bearer) == 200
        assert api_status(server, "/api/v1/namespaces/default/secrets") == 401
        assert api_status(server, "/readyz") == 401
        api.delete_namespaced_service_account("nobody", "default")


def test_secrets_and_decryptors_are_not_readable_in_etcds_files(settings: ControlPlaneSettings) -> None:
    with foreground(settings) as running:
        running.ready()
        put_canaries(settings.state_dir / "kubeconfig")
        assert running.end(signal.SIGTERM) == 0
    content = b"".join(path.read_bytes() for path in settings.state_dir.glob("etcd/**/*") if path.is_file())
    # The map shows that the search would find one; what is in a Secret travels as base64, and is stored as it is.
    assert f"{CANARY}-map".encode() in content
    for name in ("secret", "decryptor"):
        assert f"{CANARY}-{name}".encode() not in content
        assert base64.b64encode(f"{CANARY}-{name}".encode()) not in content


def put_canaries(kubeconfig: Path) -> None:
    metadata = {"name": "canary"}
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    definition: Any = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "decryptors.jiemi.cr"},
        "spec": {
            "group": "jiemi.cr",
            "scope": "Namespaced",
            "names": {"plural": "decryptors", "kind": "Decryptor"},
            "versions": [{"name": "v1alpha1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }
    with core_api(kubeconfig) as api:
        api.create_namespaced_config_map("default", {"metadata": metadata, "data": {"a": f"{CANARY}-map"}})
        api.create_namespaced_secret("default", {"metadata": metadata, "stringData": {"a": f"{CANARY}-secret"}})
        kubernetes.client.ApiextensionsV1Api(api.api_client).create_custom_resource_definition(definition)
        objects = kubernetes.client.CustomObjectsApi(api.api_client)
        decryptor = {"apiVersion": "jiemi.cr/v1alpha1", "kind": "Decryptor", "metadata": metadata}
        where = ("jiemi.cr", "v1alpha1", "default", "decryptors")

        def is_created() -> bool:
            with contextlib.suppress(kubernetes.client.ApiException):
                objects.create_namespaced_custom_object(*where, {**decryptor, "spec": {"a": f"{CANARY}-decryptor"}})
                return True
            return False

        until(is_created)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_status_0_and_the_next_start_has_the_data_and_the_port(
    number: signal.Signals, settings: ControlPlaneSettings
) -> None:
    with foreground(settings) as running:
        before = running.ready()
        kubeconfig = settings.state_dir / "kubeconfig"
        assert kubeconfig.stat().st_mode & 0o777 == 0o600
        assert settings.state_dir.stat().st_mode & 0o777 == 0o700
        with core_api(kubeconfig) as api:
            api.create_namespaced_config_map("default", {"metadata": {"name": "kept"}, "data": {"a": "1"}})
        assert running.end(number) == 0
        assert running.process.stdout is not None
        assert running.process.stdout.read() == b"", "one ready line only"
    assert processes_of(settings.state_dir) == set()
    with foreground(settings) as running:
        assert running.ready()["server"] == before["server"]
        with core_api(kubeconfig) as api:
            assert api.read_namespaced_config_map("kept", "default").data == {"a": "1"}


def test_killed_it_leaves_no_process_and_the_next_start_has_the_data(settings: ControlPlaneSettings) -> None:
    kubeconfig = settings.state_dir / "kubeconfig"
    with foreground(settings) as running:
        running.ready()
        with core_api(kubeconfig) as api:
            api.create_namespaced_config_map("default", {"metadata": {"name": "kept"}, "data": {"a": "1"}})
            api.create_namespaced_secret("default", {"metadata": {"name": "kept"}, "stringData": {"a": "2"}})
        assert running.end(signal.SIGKILL) == -signal.SIGKILL
    until(lambda: not processes_of(settings.state_dir))
    with foreground(settings) as running:
        running.ready()
        with core_api(kubeconfig) as api:
            assert api.read_namespaced_config_map("kept", "default").data == {"a": "1"}
            assert base64.b64decode(api.read_namespaced_secret("kept", "default").data["a"]) == b"2"


def test_ended_at_any_moment_of_its_start_it_leaves_no_process_and_starts_again(settings: ControlPlaneSettings) -> None:
    chance = random.Random(4)
    for number in (signal.SIGINT, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGINT):
        with foreground(settings) as running:
            time.sleep(chance.uniform(0.1, 2.5))  # the moment is what is tried
            status = running.end(number)
            if number is not signal.SIGKILL:
                assert processes_of(settings.state_dir) == set()
                # Very early Python itself, not yet ours, is what the signal ends.
                assert status in (0, 1, -number, 128 + number)
        until(lambda: not processes_of(settings.state_dir))
    with foreground(settings) as running:
        running.ready()


def test_two_do_not_share_a_directory(settings: ControlPlaneSettings) -> None:
    with foreground(settings) as running:
        running.ready()

        async def open_second() -> None:
            async with open_control_plane(settings):
                raise AssertionError("it opened")

        with pytest.raises(ControlPlaneError, match="another control plane runs on"):
            trio.run(open_second)


async def test_a_directory_with_something_else_in_it_is_refused(settings: ControlPlaneSettings) -> None:
    settings.state_dir.mkdir(mode=0o755)
    (settings.state_dir / "thesis.txt").write_text("mine")
    with pytest.raises(ControlPlaneError, match="is not empty and is not a control plane's"):
        async with open_control_plane(settings):
            pass
    assert settings.state_dir.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("name", ["etcd", "kube-apiserver"])
async def test_a_child_that_dies_ends_the_context_with_an_error_that_names_it(
    name: str, settings: ControlPlaneSettings
) -> None:
    async def open_and_kill() -> None:
        async with open_control_plane(settings) as running:
            os.kill(running.pids[name], signal.SIGKILL)
            await trio.sleep_forever()

    with trio.fail_after(60), pytest.raises(ControlPlaneError, match=f"^{name} ended with signal 9"):
        await open_and_kill()
    assert processes_of(settings.state_dir) == set()


async def test_a_server_that_refuses_its_arguments_is_quoted(settings: ControlPlaneSettings) -> None:
    bad = attrs.evolve(settings, extra_arguments=("--no-such-flag",))
    with trio.fail_after(60), pytest.raises(ControlPlaneError, match=r"(?s)kube-apiserver ended.*no-such-flag"):
        async with open_control_plane(bad):
            pass
    assert processes_of(settings.state_dir) == set()


async def test_one_that_is_never_ready_is_given_up_in_time(settings: ControlPlaneSettings) -> None:
    slow = attrs.evolve(settings, start_timeout_seconds=0.3)
    with trio.fail_after(60), pytest.raises(ControlPlaneError, match=r"not ready within 0.3 s"):
        async with open_control_plane(slow):
            pass
    assert processes_of(settings.state_dir) == set()


async def test_the_bodys_error_comes_out_as_it_is_and_etcd_serves_no_stranger(
    settings: ControlPlaneSettings, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.json"
    rules = [{"level": "Metadata"}]
    policy.write_text(json.dumps({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules}))
    audited = attrs.evolve(settings, audit_log=tmp_path / "audit.log", audit_policy=policy)

    async def fail_inside() -> None:
        async with open_control_plane(audited) as running:
            port = etcd_port(running.pids["kube-apiserver"])
            assert await trio.to_thread.run_sync(is_refused, port)
            raise LookupError("mine")

    with trio.fail_after(60), pytest.raises(LookupError, match="mine"):
        await fail_inside()
    assert processes_of(settings.state_dir) == set()
    events = [json.loads(line) for line in (tmp_path / "audit.log").read_text().splitlines()]
    assert any(event["verb"] == "create" for event in events)


def etcd_port(api_server: int) -> int:
    """The port that a running kube-apiserver was told."""
    arguments = Path(f"/proc/{api_server}/cmdline").read_bytes().decode().split("\0")
    return int(next(each for each in arguments if each.startswith("--etcd-servers=")).rpartition(":")[2])


def is_refused(port: int) -> bool:
    """Whether a client without a certificate is turned away (in TLS 1.3 its first read says so)."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        try:
            with context.wrap_socket(plain) as tls:
                tls.sendall(b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n")
                return not tls.recv(4_096)
        except (ssl.SSLError, ConnectionError):
            return True


async def test_cancelled_from_outside_it_ends_without_an_error_of_its_own(settings: ControlPlaneSettings) -> None:
    with trio.fail_after(60):
        with trio.CancelScope() as scope:
            async with open_control_plane(settings), trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                scope.cancel()
        assert scope.cancelled_caught
    assert processes_of(settings.state_dir) == set()
