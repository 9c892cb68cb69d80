"""The ServiceAccount of Pods, in both of the fields that the API has for it.

`serviceAccount` is the deprecated name of `serviceAccountName`: the API server copies either into the other, and nobody
owns the copy. So where only one is applied and git drops it, the copy brings it back, and the Pods go on to run as that
account (tried with 1.37; `kubectl apply` and Flux have the same, https://github.com/kubernetes/kubernetes/issues/72519).
Applied both, both go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from jiemi.core.objects.manifests import Manifest

_NAMES = ("serviceAccountName", "serviceAccount")

_TEMPLATE = ("spec", "template", "spec")
_PODS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("", "Pod"): ("spec",),
    ("", "PodTemplate"): ("template", "spec"),
    ("", "ReplicationController"): _TEMPLATE,
    ("apps", "DaemonSet"): _TEMPLATE,
    ("apps", "Deployment"): _TEMPLATE,
    ("apps", "ReplicaSet"): _TEMPLATE,
    ("apps", "StatefulSet"): _TEMPLATE,
    ("batch", "CronJob"): ("spec", "jobTemplate", *_TEMPLATE),
    ("batch", "Job"): _TEMPLATE,
}
"""Where the API's own kinds have the spec of their Pods (https://kubernetes.io/docs/reference/kubernetes-api/)."""


def with_both_account_names(manifest: Manifest) -> Manifest:
    """The manifest with the ServiceAccount of its Pods in both fields where it is in one; any other as it is."""
    path = _PODS.get(manifest.group_kind)
    if path is None:
        return manifest
    body = _at(manifest.body, path)
    return manifest if body is manifest.body else attrs.evolve(manifest, body=body)


def _at(part: Mapping[str, Any], path: tuple[str, ...]) -> Mapping[str, Any]:
    if not path:
        return _with_both(part)
    below = part.get(path[0])
    if not isinstance(below, Mapping):
        return part  # the API server says what is wrong with it
    changed = _at(below, path[1:])
    return part if changed is below else {**part, path[0]: changed}


def _with_both(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    given = [pod.get(name) for name in _NAMES if pod.get(name) is not None]
    if len(given) != 1 or not isinstance(given[0], str) or not given[0]:
        return pod
    return {**pod, **dict.fromkeys(_NAMES, given[0])}
