"""Jiemi as Pods: deploy/ as it is shipped, applied to a cluster of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import trio
from ruamel.yaml import YAML

import jiemi
from jiemi.cli.errors import CommandError
from jiemi.cli.run_all.objects import apply
from jiemi.core.errors import JiemiError
from jiemi.core.objects.identity import ObjectRef
from jiemi.miwen.kubernetes.port import JsonObject, Kubernetes

NAMESPACE = "jiemi"
KRAPAO_USER = 65532
_VOLUMES = 4
"""As many Krapaos have a volume, so that a user may try `kubectl scale`."""

_READY_SECONDS = 180.0
_POLL_SECONDS = 0.3
_REPOSITORY = ObjectRef("apps/v1", "StatefulSet", NAMESPACE, "repository")
_WORKLOADS = (_REPOSITORY, ObjectRef("apps/v1", "Deployment", NAMESPACE, "miwen"))


def deploy_folder() -> Path:
    """deploy/, from the wheel or from the checkout.

    Raises:
        CommandError: it is missing from this installation.
    """
    package = Path(jiemi.__file__).parent
    for folder in (package / "deploy", package.parent / "deploy"):
        if (folder / "kustomization.yaml").is_file():
            return folder
    raise CommandError("deploy/ is missing from this installation")


async def install(kubernetes: Kubernetes, volumes: Path) -> int:
    """Apply deploy/, with a volume for each Krapao that a user may want; returns the number of objects.

    Args:
        volumes: folder for what the volumes hold.

    Raises:
        JiemiError: an object can't be applied.
    """
    for number in range(_VOLUMES):
        await apply(kubernetes, _volume(volumes, number))
    count = 0
    for manifest in _manifests(deploy_folder()):
        await apply(kubernetes, manifest)
        count += 1
    return count


async def until_ready(kubernetes: Kubernetes) -> int:
    """Wait until all Pods of deploy/ are ready; returns how many there are.

    Raises:
        CommandError: they are not in time; the text says what holds them up.
    """
    waiting: list[str] = []
    with trio.move_on_after(_READY_SECONDS):
        while True:
            counts = [await _ready(kubernetes, each) for each in _WORKLOADS]
            waiting = [text for ready, wanted, text in counts if ready < wanted]
            if not waiting:
                return sum(wanted for _, wanted, _ in counts)
            await trio.sleep(_POLL_SECONDS)
    raise CommandError(f"not all Pods were ready within {_READY_SECONDS:g} s:\n  " + "\n  ".join(waiting))


async def _ready(kubernetes: Kubernetes, ref: ObjectRef) -> tuple[int, int, str]:
    """How many Pods of a workload are ready, how many it wants, and what is in the way of the others."""
    found = await _get(kubernetes, ref)
    status, wanted = found.get("status", {}), int(found.get("spec", {}).get("replicas", 1))
    ready = int(status.get("readyReplicas", 0))
    text = f"{ref.kind} {ref.name}: {ready} of {wanted}"
    reasons = [each.get("message", "") for each in status.get("conditions", ()) if each.get("status") != "True"]
    if ref == _REPOSITORY and ready < wanted:
        pod = await _get(kubernetes, ObjectRef("v1", "Pod", NAMESPACE, f"{ref.name}-{ready}"))
        states = [
            each.get("state", {}).get("waiting", {}) for each in pod.get("status", {}).get("containerStatuses", ())
        ]
        reasons += [f"{each.get('reason', '')} {each.get('message', '')}" for each in states if each]
    return ready, wanted, ". ".join([text, *(reason for reason in reasons if reason)])


async def _get(kubernetes: Kubernetes, ref: ObjectRef) -> JsonObject:
    try:
        return await kubernetes.objects(None).get(ref) or {}
    except JiemiError:
        return {}  # it is asked again


def _manifests(folder: Path) -> Iterator[JsonObject]:
    """The objects of a kustomization that only lists files, in their order."""
    yaml = YAML(typ="safe")
    for name in yaml.load((folder / "kustomization.yaml").read_text("utf-8"))["resources"]:
        for document in yaml.load_all((folder / name).read_text("utf-8")):
            if document is not None:
                yield document


def _volume(folder: Path, number: int) -> JsonObject:
    """A volume for a claim of a Krapao. Nothing gives a hostPath the Pod's group, so it is its user's at once."""
    path = folder / str(number)
    path.mkdir(parents=True)
    os.chown(path, KRAPAO_USER, KRAPAO_USER)
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"state-{number}"},
        "spec": {
            "capacity": {"storage": "100Gi"},
            "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": str(path), "type": "Directory"},
        },
    }
