"""The objects that others make first (tests/e2e/test_take_over.py), and the tools that make them.

In each part `a` stays in git, `b` is what a later commit drops, and `t` is what git never describes.
"""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Sequence
from typing import Any

import attrs
from support.e2e.scene import MERGE
from support.kubernetes.api_server import ApiServer
from support.kubernetes.helm import Helm
from support.kubernetes.kubectl import Kubectl

APPLY = "application/apply-patch+yaml"

Objects = list[dict[str, Any]]


@attrs.frozen
class Tools:
    """What makes objects in one namespace: real programs, and a client that takes any field manager's name."""

    admin: ApiServer
    kubectl: Kubectl
    helm: Helm
    namespace: str


@attrs.frozen
class Maker:
    """What made the objects.

    Attributes:
        shown: its name in the docs.
        managers: the field managers that it leaves.
        way: how its managers write, in the docs' words.
        make: makes objects.
        is_real: whether the tool itself is run.
    """

    shown: str
    managers: tuple[str, ...]
    way: str
    make: Callable[[Tools, Objects], None]
    is_real: bool = True


def b64(**values: str) -> dict[str, str]:
    return {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}


def objects(name: str, *, dropped: bool, theirs: bool, volume: str = "secret") -> Objects:
    """The five objects.

    Args:
        dropped: with what a later commit drops.
        theirs: with what git never describes.
        volume: of which kind the Deployment's volume is.
    """

    def some(**more: Any) -> dict[str, Any]:
        return {key: value for key, value in more.items() if {"b": dropped, "t": theirs}.get(key[0], True)}

    metadata = {
        "name": name,
        "labels": some(a="1", b="1", t="1"),
        "annotations": some(**{"a.io/x": "1", "b.io/x": "1", "t.io/x": "1"}),
    }
    labels = {"app": name}
    env = [{"name": key, "value": "1"} for key in some(a="", b="", t="")]
    containers: Objects = [{"name": "app", "image": "example.org/app:1", "env": env}]
    if dropped:
        probe = {"httpGet": {"path": "/", "port": 80}}
        container_ports = [{"containerPort": 80}]
        side = {"name": "side", "image": "example.org/side:1", "ports": container_ports, "livenessProbe": probe}
        containers.append(side)
    kind: dict[str, Any] = {"secret": {"secretName": "s"}} if volume == "secret" else {"emptyDir": {}}
    pod: dict[str, Any] = {"containers": containers, "volumes": [{"name": "v", **kind}]}
    pod |= {"hostNetwork": True, "serviceAccountName": "boss"} if dropped else {}
    ports: Objects = [{"name": "a", "port": 80, "targetPort": 8080}]
    ports += [{"name": "b", "port": 81}] if dropped else []
    return [
        {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": b64(**some(a="1", b="1", t="1"))},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": some(a="1", b="1", t="1")},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"ports": ports, "selector": some(a="1", b="1", t="1")},
        },
        {
            "apiVersion": "takeover.example/v1",
            "kind": "Thing",
            "metadata": metadata,
            "spec": {**some(a="1", b="1", t="1"), "deep": some(a="1", b="1", t="1")},
        },
    ]


# --- by a client of our own, with the manager's name


def posts(manager: str) -> Callable[[Tools, Objects], None]:
    """Creates objects."""

    def make(tools: Tools, wanted: Objects) -> None:
        for body, path in _placed(tools, wanted):
            tools.admin.call("POST", f"{path.rpartition('/')[0]}?fieldManager={manager}", body).ok()

    return make


def applies(manager: str) -> Callable[[Tools, Objects], None]:
    """Applies objects (server-side)."""

    def make(tools: Tools, wanted: Objects) -> None:
        for body, path in _placed(tools, wanted):
            tools.admin.call("PATCH", f"{path}?fieldManager={manager}&force=true", body, APPLY).ok()

    return make


def _first_version(tools: Tools, wanted: Objects) -> None:
    """Its client said no name when it created an object, which is `unknown` then, and `miwen` when it applied one."""
    posts("unknown")(tools, wanted)
    applies("miwen")(tools, wanted)


def _leaves_no_managers(tools: Tools, wanted: Objects) -> None:
    posts("before-first-apply")(tools, wanted)
    for _, path in _placed(tools, wanted):
        tools.admin.call("PATCH", path, {"metadata": {"managedFields": [{}]}}, MERGE).ok()


def _placed(tools: Tools, wanted: Objects) -> Sequence[tuple[dict[str, Any], str]]:
    bodies = copy.deepcopy(wanted)
    for each in bodies:
        each["metadata"]["namespace"] = tools.namespace
    return [(each, tools.admin.path_of(each)) for each in bodies]


# --- by kubectl


def by_kubectl(*arguments: str) -> Callable[[Tools, Objects], None]:
    """`kubectl ARGUMENTS -f -`."""

    def make(tools: Tools, wanted: Objects) -> None:
        tools.kubectl(*arguments, "--filename=-", given=wanted)

    return make


def _replaces(tools: Tools, wanted: Objects) -> None:
    tools.kubectl("create", "--filename=-", given=[_bare(each) for each in wanted])
    tools.kubectl("replace", "--filename=-", given=wanted)


def _bare(wanted: dict[str, Any]) -> dict[str, Any]:
    """The object with no more than it must have."""
    bare = {**wanted, "metadata": {"name": wanted["metadata"]["name"]}}
    bare.pop("data", None)
    if wanted["kind"] == "Deployment":
        bare = copy.deepcopy(bare)
        pod = bare["spec"]["template"]["spec"]
        bare["spec"]["template"]["spec"] = {"containers": [{"name": "app", "image": pod["containers"][0]["image"]}]}
    elif wanted["kind"] == "Service":
        bare["spec"] = {"ports": [{"port": 70}]}
    elif wanted["kind"] == "Thing":
        bare["spec"] = {}
    return bare


def _step_by_step(tools: Tools, wanted: Objects) -> None:
    """No file at all: made and changed as somebody at a terminal does."""
    kubectl = tools.kubectl
    secret, config, deployment, service, thing = wanted
    name = secret["metadata"]["name"]
    data = config["data"]
    literals = [f"--from-literal={key}={value}" for key, value in data.items()]
    kubectl("create", "secret", "generic", name, *literals)
    kubectl("create", "configmap", name, *literals)
    pod = deployment["spec"]["template"]["spec"]
    kubectl("create", "deployment", name, f"--image={pod['containers'][0]['image']}")
    env = pod["containers"][0]["env"]
    kubectl("set", "env", f"deployment/{name}", *(f"{each['name']}={each['value']}" for each in env))
    more = {**pod, "containers": pod["containers"][1:]}
    kubectl("patch", "deployment", name, "--patch", json.dumps({"spec": {"template": {"spec": more}}}))
    kubectl("create", "service", "clusterip", name, "--tcp=80:8080")
    kubectl("set", "selector", f"service/{name}", ",".join(f"{k}={v}" for k, v in service["spec"]["selector"].items()))
    kubectl("patch", "service", name, "--patch", json.dumps({"spec": {"ports": service["spec"]["ports"]}}))
    kubectl("create", "--filename=-", given=[_bare(thing)])
    kubectl.edit(f"thing/{name}", lambda live: live.update(spec=thing["spec"]))
    for kind in ("secret", "configmap", "deployment", "service", "thing"):
        metadata = secret["metadata"]
        kubectl("label", "--overwrite", kind, name, *(f"{k}={v}" for k, v in metadata["labels"].items()))
        kubectl("annotate", kind, name, *(f"{k}={v}" for k, v in metadata["annotations"].items()))


# --- by helm


def by_helm(version: int) -> Callable[[Tools, Objects], None]:
    """`helm install` of a chart of these objects."""

    def make(tools: Tools, wanted: Objects) -> None:
        tools.helm.install(version, wanted[0]["metadata"]["name"], wanted)

    return make


_UPDATE, _APPLY = "create or update", "server-side apply"

MAKERS = (
    Maker("`kubectl apply`", ("kubectl-client-side-apply",), _UPDATE, by_kubectl("apply")),
    Maker("`kubectl apply --server-side`", ("kubectl",), _APPLY, by_kubectl("apply", "--server-side")),
    Maker("`kubectl create --filename`", ("kubectl-create",), _UPDATE, by_kubectl("create")),
    Maker("`kubectl create --save-config`", ("kubectl-create",), _UPDATE, by_kubectl("create", "--save-config")),
    # Of a custom resource it leaves no managedFields at all (tried with 1.37).
    Maker("`kubectl replace`", ("kubectl-replace", "before-first-apply"), _UPDATE, _replaces),
    Maker(
        "`kubectl create secret generic`, `create deployment`, …, `set`, `patch`, `edit`, `label`, `annotate`",
        ("kubectl-create", "kubectl-set", "kubectl-patch", "kubectl-edit", "kubectl-label", "kubectl-annotate"),
        _UPDATE,
        _step_by_step,
    ),
    Maker("helm 3", ("helm",), _UPDATE, by_helm(3)),
    Maker("helm 4", ("helm",), _APPLY, by_helm(4)),
    Maker(
        "Flux, kustomize-controller",
        ("kustomize-controller",),
        _APPLY,
        applies("kustomize-controller"),
        is_real=False,
    ),
    Maker("Flux, helm-controller", ("helm-controller",), _UPDATE, posts("helm-controller"), is_real=False),
    Maker("Argo CD", ("argocd-controller",), _UPDATE, posts("argocd-controller"), is_real=False),
    Maker("Argo CD with ServerSideApply", ("argocd-controller",), _APPLY, applies("argocd-controller"), is_real=False),
    Maker("Kubernetes' client for Python", ("OpenAPI-Generator",), _UPDATE, posts("OpenAPI-Generator"), is_real=False),
    Maker("Jiemi's first version", ("unknown", "miwen"), f"{_UPDATE}, then {_APPLY}", _first_version, is_real=False),
    Maker("whoever left no managedFields", ("before-first-apply",), _UPDATE, _leaves_no_managers, is_real=False),
)

KINDS = {
    "Secret": "keys, labels, annotations",
    "ConfigMap": "keys, labels, annotations",
    "Deployment": "containers, env variables, `hostNetwork`, the ServiceAccount, a volume's kind",
    "Service": "ports, labels, the selector (which is one field)",
    "a custom resource": "fields at any depth",
}


def _service(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Service", "spec": {"selector": {"app": "x"}, **spec}}


def _with_ports(*ports: int) -> dict[str, Any]:
    labels = {"app": "x"}
    exposed = [{"containerPort": each, "name": "http"} for each in ports]
    container = {"name": "app", "image": "example.org/app:1", "ports": exposed}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }


def _budget(**spec: Any) -> dict[str, Any]:
    selector = {"matchLabels": {"app": "x"}}
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "spec": {"selector": selector, **spec}}


def _config(**parts: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", **parts}


BLOCKED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "minAvailable, and maxUnavailable in git": (
        _budget(minAvailable=1, unhealthyPodEvictionPolicy="AlwaysAllow"),
        _budget(maxUnavailable=1),
    ),
    "a port of a Service, and another of its name in git": (
        _service(ports=[{"name": "http", "port": 80}, {"name": "t", "port": 90}]),
        _service(ports=[{"name": "http", "port": 8080}]),
    ),
    "a port of a container, and another of its name in git": (_with_ports(80), _with_ports(8080)),
    "a key in data, and the same in binaryData in git": (
        _config(data={"a": "1", "t": "1"}),
        _config(binaryData={"a": "AAA="}),
    ),
}
"""By what is in the way: what kubectl made, and what git describes."""


def table() -> str:
    """As docs/reconciling.md shows it."""
    lines = ["| first made by | field managers | written by | tried with |", "| --- | --- | --- | --- |"]
    for each in MAKERS:
        managers = ", ".join(f"`{manager}`" for manager in each.managers)
        tried = "the tool" if each.is_real else "requests in its name"
        lines.append(f"| {each.shown} | {managers} | {each.way} | {tried} |")
    lines += ["", "| kind | what was tried |", "| --- | --- |"]
    lines += [f"| {kind} | {what} |" for kind, what in KINDS.items()]
    return "\n".join(lines)
