"""Install forms: what Kustomize makes of a folder, and both services as processes, with their containers' arguments."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs
from ruamel.yaml import YAML
from support.e2e.lab import Lab, Service, until
from support.kubernetes.api_server import Manifest
from support.network.addresses import LOOPBACK_FLAGS
from support.network.tls_folders import write_parts

RENDER_SECONDS = 60
KRAPAO_VOLUME = "krapao-tls"
"""The folder, in that of the lab, that stands for the volume of Krapao's Pod."""


def kustomized(kubectl: Path, folder: Path) -> list[Manifest]:
    """What `kubectl kustomize FOLDER` gives."""
    done = subprocess.run(
        [kubectl, "kustomize", folder],
        env={"PATH": os.environ.get("PATH", os.defpath), "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
        timeout=RENDER_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return [each for each in YAML(typ="safe").load_all(done.stdout) if each is not None]


def arguments(manifests: Sequence[Manifest], kind: str, name: str, here: Mapping[str, object | None]) -> list[str]:
    """The arguments of a container, for a process on this machine.

    Args:
        here: what a flag is here, by its name; None leaves it out. A flag that is given several times becomes one.
    """
    (workload,) = (each for each in manifests if (each["kind"], each["metadata"]["name"]) == (kind, name))
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    found: list[str] = []
    for argument in container["args"]:
        flag = argument.partition("=")[0]
        if flag not in here:
            found.append(argument)
        elif here[flag] is not None and f"{flag}={here[flag]}" not in found:
            found.append(f"{flag}={here[flag]}")
    return found


@attrs.frozen
class Running:
    """Both services of an install form."""

    miwen: Service
    krapao: Service


def start_installed(
    lab: Lab,
    manifests: Sequence[Manifest],
    meanwhile: Callable[[str], None] = lambda _: None,
    *,
    metrics: tuple[str | None, str | None] = (None, None),
) -> Running:
    """Start Miwen with its ServiceAccount's token and the arguments of its container, and Krapao with those of its own.

    As in a cluster, Miwen makes the certificates, or another does, and Krapao starts once the Secret is there that its
    Pod mounts.

    Args:
        meanwhile: called with Miwen's log, again and again, until the certificates are there.
        metrics: where Miwen and Krapao show metrics. As installed, it is one port for all that run on a machine.
    """
    port, mounted = free_port(), lab.folder / KRAPAO_VOLUME
    address = f"tcp:127.0.0.1:{port}"
    # Outside of a Pod the namespace is named.
    of_miwen = {
        "--krapao": address,
        "--lease": "jiemi/jiemi-miwen",
        "--tls-secret": "jiemi/miwen-tls",
        "--metrics-listen": metrics[0],
    }
    kubeconfig = lab.service_account_kubeconfig("jiemi", "miwen")
    given = arguments(manifests, "Deployment", "miwen", of_miwen)
    miwen = lab.start(*given, "--kubeconfig", kubeconfig, "--interval", "1s")

    def certificate() -> dict[str, str] | None:
        meanwhile(miwen.log_text())
        found = lab.admin.call("GET", "/api/v1/namespaces/jiemi/secrets/krapao-tls")
        return found.body["data"] if found.status == 200 else None

    data = until("the certificates are made", certificate, on_failure=miwen.log_text)
    write_parts(mounted, {key: base64.b64decode(value) for key, value in data.items()})
    hosts = lab.folder / "known_hosts"
    (known,) = (each for each in manifests if each["metadata"]["name"] == "krapao-ssh-known-hosts")
    hosts.write_text(known["data"]["ssh_known_hosts"])
    of_krapao = {
        "--listen": address,
        "--tls-dir": mounted,
        "--state-dir": lab.folder / "krapao-state",
        "--runtime-dir": lab.folder,
        "--ssh-known-hosts": hosts,
        "--metrics-listen": metrics[1],
    }
    given = arguments(manifests, "StatefulSet", "repository", of_krapao)
    return Running(miwen, lab.start(*given, "--sops", lab.tools["sops"], *LOOPBACK_FLAGS))


def free_port() -> int:
    """A port of loopback that nothing listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port
