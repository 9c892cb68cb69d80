"""The Helm chart: the real helm (3 and 4) renders the objects that Kustomize makes of deploy/ and install/."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import textwrap
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from ruamel.yaml import YAML
from support.kubernetes.api_server import Manifest
from support.kubernetes.helm_chart import CHART, KUBE_VERSION, rendered, run_helm
from support.kubernetes.installing import kustomized
from support.paths import ROOT

from jiemi.cli.main import app

pytestmark = pytest.mark.e2e

Objects = dict[tuple[str, str, str], Manifest]
DIGEST = f"sha256:{'0' * 63}1"
KEEP = "helm.sh/resource-policy"
WORKLOADS = {"krapao": ("StatefulSet", "repository"), "miwen": ("Deployment", "miwen")}
POD = "/spec/template/spec"
ARGS = f"{POD}/containers/0/args"


def by_name(manifests: Iterable[Manifest]) -> Objects:
    """The objects, each by its kind, namespace and name; without what only Helm reads."""
    found: Objects = {}
    for each in manifests:
        metadata = each["metadata"]
        if each["kind"] == "CustomResourceDefinition":
            annotations = metadata.pop("annotations", {})
            assert annotations.pop(KEEP, "keep") == "keep"
            metadata.update({"annotations": annotations} if annotations else {})
        if each["kind"].startswith("ValidatingAdmissionPolicy"):
            # Kustomize does not know that these have no namespace, and the API server takes it away.
            metadata.pop("namespace", None)
        key = (each["kind"], metadata.get("namespace", ""), metadata["name"])
        assert key not in found
        found[key] = each
    return found


@attrs.frozen
class Case:
    """Values, and the overlay that says the same.

    Attributes:
        values: of the chart.
        patches: of the kustomization, by what they are for: kind and name.
        more: further parts of the kustomization.
        resources: manifests beside it.
        base: the folder that it is an overlay of.
        components: the folders that are its components.
        namespace: the release's.
        without: kinds that are not rendered.
    """

    values: Mapping[str, Any]
    patches: Mapping[tuple[str, str], Any] = {}
    more: Mapping[str, Any] = {}
    resources: tuple[Manifest, ...] = ()
    base: str = "deploy"
    components: tuple[str, ...] = ()
    namespace: str = "jiemi"
    without: tuple[str, ...] = ()


def add(path: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": path, "value": value}


def both(*operations: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    return {workload: list(operations) for workload in WORKLOADS.values()}


def of_both(**values: Any) -> dict[str, Any]:
    return {part: dict(values) for part in WORKLOADS}


def delete(api_version: str, kind: str, name: str, namespace: str | None = None) -> dict[str, Any]:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"$patch": "delete", "apiVersion": api_version, "kind": kind, "metadata": metadata}


def part_of(kind: str, name: str, api_version: str, **fields: Any) -> Manifest:
    metadata = {"name": name, "namespace": "jiemi", "labels": {"app.kubernetes.io/part-of": "jiemi"}}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}


def arguments_of(workload: str) -> list[str]:
    """The arguments that deploy/ gives."""
    kind, name = WORKLOADS[workload]
    file = {"miwen": "miwen.yaml", "krapao": "repository.yaml"}[workload]
    documents = YAML(typ="safe").load_all((ROOT / "deploy" / file).read_text())
    (found,) = (each for each in documents if (each["kind"], each["metadata"]["name"]) == (kind, name))
    arguments: list[str] = found["spec"]["template"]["spec"]["containers"][0]["args"]
    return arguments


def without_arguments(workload: str, *flags: str) -> list[dict[str, Any]]:
    """Operations that take arguments away, by where deploy/ has them; the last first."""
    arguments = arguments_of(workload)
    at = [number for number, each in enumerate(arguments) if each.partition("=")[0] in flags]
    assert len(at) == len(flags)
    return [{"op": "remove", "path": f"{ARGS}/{number}"} for number in reversed(at)]


def mounted(name: str, path: str, **of: Any) -> list[dict[str, Any]]:
    """Operations that mount a volume."""
    return [
        add(f"{POD}/volumes/-", {"name": name, **of}),
        add(f"{POD}/containers/0/volumeMounts/-", {"name": name, "mountPath": path, "readOnly": True}),
    ]


def index_of(workload: str, where: str, name: str) -> int:
    """Where deploy/ has a volume or a mount."""
    kind, called = WORKLOADS[workload]
    file = {"miwen": "miwen.yaml", "krapao": "repository.yaml"}[workload]
    documents = YAML(typ="safe").load_all((ROOT / "deploy" / file).read_text())
    (found,) = (each for each in documents if (each["kind"], each["metadata"]["name"]) == (kind, called))
    pod = found["spec"]["template"]["spec"]
    entries = pod["volumes"] if where == "volumes" else pod["containers"][0]["volumeMounts"]
    return [each["name"] for each in entries].index(name)


TOLERATIONS = [{"key": "dedicated", "operator": "Equal", "value": "jiemi", "effect": "NoSchedule"}]
AFFINITY = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]
        }
    }
}
POLICY = "rules:\n  - {namespaces: [team-*], repositories: [https://git.example.com/*]}\n"
READS_ITS_OWN = [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["miwen-tls"], "verbs": ["get"]}]
ANOTHER_ISSUER = [
    {"op": "replace", "path": "/spec/issuerRef/name", "value": "ours"},
    {"op": "replace", "path": "/spec/issuerRef/kind", "value": "ClusterIssuer"},
]
SESSION = (
    part_of(
        "Role",
        "miwen-session-secret",
        "rbac.authorization.k8s.io/v1",
        rules=[{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["ours"], "verbs": ["get"]}],
    ),
    part_of(
        "RoleBinding",
        "miwen-session-secret",
        "rbac.authorization.k8s.io/v1",
        roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "miwen-session-secret"},
        subjects=[{"kind": "ServiceAccount", "name": "miwen", "namespace": "jiemi"}],
    ),
)
SESSION_OF_KRAPAO = [
    add(f"{POD}/volumes/-", {"name": "session", "secret": {"secretName": "ours", "defaultMode": 0o440}}),
    add(
        f"{POD}/containers/0/volumeMounts/-",
        {"name": "session", "mountPath": "/etc/krapao-session", "readOnly": True},
    ),
    add(f"{ARGS}/-", "--session-secret-file=/etc/krapao-session/token"),
]

CASES = {
    "nothing": Case({}),
    "the form for named namespaces": Case(
        {"form": "namespaces", "namespaces": ["team-a", "team-b"]}, base="install/namespaces"
    ),
    "the form by impersonation": Case({"form": "impersonation"}, base="install/impersonation"),
    "the form for anything": Case({"form": "anything"}, base="install/anything"),
    "images and tags": Case(
        {
            "krapao": {"image": {"repository": "r.example:5000/krapao", "tag": "1.2.3"}},
            "miwen": {"image": {"repository": "r.example:5000/miwen"}},
        },
        more={
            "images": [
                {"name": "jiemi/krapao", "newName": "r.example:5000/krapao", "newTag": "1.2.3"},
                {"name": "jiemi/miwen", "newName": "r.example:5000/miwen"},
            ]
        },
    ),
    "digests": Case(
        {
            "krapao": {"image": {"digest": DIGEST, "tag": "ignored"}},
            "miwen": {"image": {"repository": "r/miwen", "digest": DIGEST}},
        },
        more={
            "images": [
                {"name": "jiemi/krapao", "digest": DIGEST},
                {"name": "jiemi/miwen", "newName": "r/miwen", "digest": DIGEST},
            ]
        },
    ),
    "pulling": Case(
        {**of_both(image={"pullPolicy": "Always"}), "imagePullSecrets": [{"name": "registry"}]},
        both(
            add(f"{POD}/containers/0/imagePullPolicy", "Always"), add(f"{POD}/imagePullSecrets", [{"name": "registry"}])
        ),
    ),
    "replicas": Case(
        {"krapao": {"replicas": 3}, "miwen": {"replicas": 0}},
        more={"replicas": [{"name": "repository", "count": 3}, {"name": "miwen", "count": 0}]},
    ),
    "resources": Case(
        of_both(resources={"limits": {"memory": "6Gi"}, "requests": {"ephemeral-storage": "1Gi"}}),
        both(
            add(f"{POD}/containers/0/resources/limits/memory", "6Gi"),
            add(f"{POD}/containers/0/resources/requests/ephemeral-storage", "1Gi"),
        ),
    ),
    "another namespace": Case({}, more={"namespace": "tools"}, namespace="tools"),
    "where they run": Case(
        of_both(
            nodeSelector={"disk": "ssd"},
            tolerations=TOLERATIONS,
            affinity=AFFINITY,
            priorityClassName="system-cluster-critical",
        ),
        both(
            add(f"{POD}/nodeSelector", {"disk": "ssd"}),
            add(f"{POD}/tolerations", TOLERATIONS),
            add(f"{POD}/affinity", AFFINITY),
            add(f"{POD}/priorityClassName", "system-cluster-critical"),
        ),
    ),
    "more arguments and variables": Case(
        {
            "krapao": {"extraArgs": ["--max-holders=32"], "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:1"}]},
            "miwen": {"extraArgs": ["--no-cross-namespace", "--interval=1m"]},
        },
        {
            WORKLOADS["krapao"]: [
                add(f"{ARGS}/-", "--max-holders=32"),
                add(f"{POD}/containers/0/env", [{"name": "HTTPS_PROXY", "value": "http://proxy:1"}]),
            ],
            WORKLOADS["miwen"]: [add(f"{ARGS}/-", "--no-cross-namespace"), add(f"{ARGS}/-", "--interval=1m")],
        },
    ),
    "labels and annotations": Case(
        {
            "commonLabels": {"team": "platform"},
            "commonAnnotations": {"contact": "platform@example.com"},
            "krapao": {"podLabels": {"logs": "yes"}, "podAnnotations": {"scan": "no"}},
            "miwen": {"serviceAccountAnnotations": {"role": "arn"}},
        },
        {
            WORKLOADS["krapao"]: [
                add("/spec/template/metadata/labels/logs", "yes"),
                add("/spec/template/metadata/annotations", {"scan": "no"}),
            ],
            ("ServiceAccount", "miwen"): [add("/metadata/annotations/role", "arn")],
            ("", ""): [add("/metadata/annotations", {"contact": "platform@example.com"})],
        },
        more={"labels": [{"pairs": {"team": "platform"}}]},
    ),
    "storage and known hosts": Case(
        {"krapao": {"storage": {"size": "50Gi", "storageClassName": "fast"}, "knownHosts": "git.example ssh-rsa AAAA"}},
        {
            WORKLOADS["krapao"]: [
                add("/spec/volumeClaimTemplates/0/spec/resources/requests/storage", "50Gi"),
                add("/spec/volumeClaimTemplates/0/spec/storageClassName", "fast"),
            ],
            ("ConfigMap", "krapao-ssh-known-hosts"): "known hosts",
        },
    ),
    "a policy": Case(
        {"miwen": {"policy": POLICY}},
        {
            WORKLOADS["miwen"]: [
                add(f"{POD}/volumes/-", {"name": "policy", "configMap": {"name": "miwen-policy"}}),
                add(
                    f"{POD}/containers/0/volumeMounts/-",
                    {"name": "policy", "mountPath": "/etc/miwen", "readOnly": True},
                ),
                add(f"{ARGS}/-", "--policy=/etc/miwen/policy.yaml"),
                add(
                    "/spec/template/metadata/annotations",
                    {"checksum/policy": hashlib.sha256(POLICY.encode()).hexdigest()},
                ),
            ]
        },
        resources=(part_of("ConfigMap", "miwen-policy", "v1", data={"policy.yaml": POLICY}),),
    ),
    "monitoring": Case(
        {
            "metrics": {
                **{name: {"enabled": True} for name in ("podMonitor", "rules", "dashboard")},
                "labels": {"release": "prometheus"},
            }
        },
        {
            ("PodMonitor", "jiemi"): [add("/metadata/labels/release", "prometheus")],
            ("PrometheusRule", "jiemi"): [add("/metadata/labels/release", "prometheus")],
        },
        more={"resources": ["deploy", "deploy/monitoring"]},
    ),
    "webhooks": Case({"webhooks": {"enabled": True}}, components=("deploy/webhooks",)),
    "webhooks in the form for named namespaces, behind two proxies": Case(
        {"form": "namespaces", "namespaces": ["team-a", "team-b"], "webhooks": {"enabled": True, "proxies": 2}},
        {
            WORKLOADS["miwen"]: [
                {
                    "op": "replace",
                    "path": f"{ARGS}/{len(arguments_of('miwen')) + 4}",
                    "value": "--webhooks-proxies=2",
                }
            ]
        },
        components=("deploy/webhooks",),
        base="install/namespaces",
    ),
    "a proxy for all of git": Case(
        {"krapao": {"proxy": {"url": "socks5://proxy.example:1080", "noProxy": ["svc.cluster.local", "10.0.0.0/8"]}}},
        {
            WORKLOADS["krapao"]: [
                add(f"{ARGS}/-", "--git-proxy=socks5://proxy.example:1080"),
                add(f"{ARGS}/-", "--no-proxy=svc.cluster.local,10.0.0.0/8"),
            ]
        },
    ),
    "a proxy for http with a login": Case(
        {"krapao": {"proxy": {"scope": "http", "secretName": "proxy-login", "secretKey": "address"}}},
        {
            WORKLOADS["krapao"]: [
                *mounted("proxy", "/etc/krapao-proxy", secret={"secretName": "proxy-login", "defaultMode": 0o440}),
                add(f"{ARGS}/-", "--http-proxy-file=/etc/krapao-proxy/address"),
            ]
        },
    ),
    "where Krapao connects to": Case(
        {
            "krapao": {
                "caBundle": {"configMapName": "our-authorities"},
                "allowAddresses": ["127.0.0.1", "fd00::/64"],
                "denyAddresses": ["10.96.0.0/12"],
                "allowVaultAddresses": ["https://vault.example:8200"],
                "requireVaultAddress": True,
            }
        },
        {
            WORKLOADS["krapao"]: [
                *mounted("git-ca", "/etc/git-ca", configMap={"name": "our-authorities"}),
                add(f"{ARGS}/-", "--ca-bundle=/etc/git-ca/ca.crt"),
                add(f"{ARGS}/-", "--allow-address=127.0.0.1"),
                add(f"{ARGS}/-", "--allow-address=fd00::/64"),
                add(f"{ARGS}/-", "--deny-address=10.96.0.0/12"),
                add(f"{ARGS}/-", "--allow-vault-address=https://vault.example:8200"),
                add(f"{ARGS}/-", "--require-vault-address"),
            ]
        },
    ),
    "what Miwen refuses": Case(
        {"miwen": {"interval": "1m30s", "requireVerify": True, "requireFullMac": True, "noCrossNamespace": True}},
        {
            WORKLOADS["miwen"]: [
                add(f"{ARGS}/-", "--interval=1m30s"),
                add(f"{ARGS}/-", "--no-cross-namespace"),
                add(f"{ARGS}/-", "--require-full-mac"),
                add(f"{ARGS}/-", "--require-verify"),
            ]
        },
    ),
    "where Miwen looks up keys of issuers": Case(
        {
            "webhooks": {
                "enabled": True,
                "allowAddresses": ["10.0.0.7"],
                "denyAddresses": ["10.0.0.0/8"],
                "caBundle": {"configMapName": "our-authorities", "key": "bundle.pem"},
            }
        },
        {
            WORKLOADS["miwen"]: [
                add(f"{ARGS}/-", "--webhooks-allow-address=10.0.0.7"),
                add(f"{ARGS}/-", "--webhooks-deny-address=10.0.0.0/8"),
                *mounted("webhooks-ca", "/etc/webhooks-ca", configMap={"name": "our-authorities"}),
                add(f"{ARGS}/-", "--webhooks-ca-bundle=/etc/webhooks-ca/bundle.pem"),
            ]
        },
        components=("deploy/webhooks",),
    ),
    "logs and traces": Case(
        {
            "logs": {"levels": "info,jiemi.rpc=debug", "configMapName": "log-levels"},
            "traces": {
                "endpoint": "https://collector.example:4318",
                "ratio": 0.25,
                "caBundle": {"configMapName": "our-authorities"},
            },
        },
        both(
            add(f"{ARGS}/-", "--log-level=info,jiemi.rpc=debug"),
            *mounted("log", "/etc/jiemi/log", configMap={"name": "log-levels", "optional": True}),
            add(f"{ARGS}/-", "--log-level-file=/etc/jiemi/log/levels"),
            add(f"{ARGS}/-", "--traces-endpoint=https://collector.example:4318"),
            add(f"{ARGS}/-", "--traces-ratio=0.25"),
            *mounted("traces-ca", "/etc/traces-ca", configMap={"name": "our-authorities"}),
            add(f"{ARGS}/-", "--traces-ca-bundle=/etc/traces-ca/ca.crt"),
        ),
    ),
    "volumes": Case(
        of_both(
            extraVolumes=[{"name": "plugins", "persistentVolumeClaim": {"claimName": "age-plugins"}}],
            extraVolumeMounts=[{"name": "plugins", "mountPath": "/plugins", "readOnly": True}],
            extraArgs=["--age-plugins=/plugins"],
        ),
        both(
            *mounted("plugins", "/plugins", persistentVolumeClaim={"claimName": "age-plugins"}),
            add(f"{ARGS}/-", "--age-plugins=/plugins"),
        ),
    ),
    "no network policies": Case({"networkPolicy": {"enabled": False}}, without=("NetworkPolicy",)),
    "no CRD": Case({"crds": {"install": False}}, without=("CustomResourceDefinition",)),
    "no namespace": Case({"createNamespace": False}, without=("Namespace",)),
    "certificates of cert-manager": Case(
        {"tls": {"madeBy": "cert-manager", "issuerRef": {"name": "jiemi"}}}, components=("deploy/cert-manager",)
    ),
    "certificates of cert-manager, of another issuer": Case(
        {"tls": {"madeBy": "cert-manager", "issuerRef": {"name": "ours", "kind": "ClusterIssuer"}}},
        {("Certificate", "krapao-tls"): ANOTHER_ISSUER, ("Certificate", "miwen-tls"): ANOTHER_ISSUER},
        components=("deploy/cert-manager",),
    ),
    "certificates of cert-manager in another form": Case(
        {
            "form": "namespaces",
            "namespaces": ["team-a", "team-b"],
            "tls": {"madeBy": "cert-manager", "issuerRef": {"name": "jiemi"}},
        },
        base="install/namespaces",
        components=("deploy/cert-manager",),
    ),
    "certificates of others": Case(
        {"tls": {"madeBy": "others"}},
        {
            WORKLOADS["miwen"]: without_arguments("miwen", "--make-certificates"),
            ("Role", "miwen-certificates"): [{"op": "replace", "path": "/rules", "value": READS_ITS_OWN}],
        },
    ),
    "a session secret": Case(
        {"sessionSecret": {"name": "ours"}},
        {
            WORKLOADS["miwen"]: [add(f"{ARGS}/-", "--session-secret=ours")],
            WORKLOADS["krapao"]: SESSION_OF_KRAPAO,
        },
        resources=SESSION,
    ),
    "a session secret without TLS": Case(
        {"tls": {"madeBy": "nobody"}, "sessionSecret": {"name": "ours"}},
        {
            WORKLOADS["miwen"]: [
                *without_arguments("miwen", "--tls-secret", "--make-certificates"),
                add(f"{ARGS}/-", "--insecure-plain-tcp"),
                add(f"{ARGS}/-", "--session-secret=ours"),
            ],
            WORKLOADS["krapao"]: [
                *without_arguments("krapao", "--tls-dir"),
                {"op": "remove", "path": f"{POD}/volumes/{index_of('krapao', 'volumes', 'tls')}"},
                {"op": "remove", "path": f"{POD}/containers/0/volumeMounts/{index_of('krapao', 'mounts', 'tls')}"},
                add(f"{ARGS}/-", "--insecure-plain-tcp"),
                *SESSION_OF_KRAPAO,
            ],
            ("Role", "miwen-certificates"): "delete",
            ("RoleBinding", "miwen-certificates"): "delete",
        },
        resources=SESSION,
    ),
}


_ALL = {"name": ".*"}


def overlay(case: Case, folder: Path, kubectl: Path) -> Objects:
    """What Kustomize makes of the overlay of a case."""
    bases = case.more.get("resources", [case.base])
    paths, components = (
        [f"{'../' * (len(folder.parts) - 1)}{(ROOT / each).relative_to('/')}" for each in these]
        for these in (bases, case.components)
    )
    if case.resources:
        (folder / "more.yaml").write_text("".join(f"---\n{json.dumps(each)}\n" for each in case.resources))
        paths.append("more.yaml")
    patches: list[dict[str, Any]] = []
    for (kind, name), what in case.patches.items():
        operations = what
        if what == "delete":
            patches.append({"patch": json.dumps(delete("rbac.authorization.k8s.io/v1", kind, name, "jiemi"))})
            continue
        if what == "known hosts":
            (known,) = YAML(typ="safe").load_all((ROOT / "deploy" / "known-hosts.yaml").read_text())
            text = known["data"]["ssh_known_hosts"] + "git.example ssh-rsa AAAA\n"
            operations = [{"op": "replace", "path": "/data/ssh_known_hosts", "value": text}]
        target = {"kind": kind, "name": name} if kind else _ALL
        patch = {"target": target, "patch": json.dumps(operations)}
        # One of all objects comes before those that add to what it makes.
        patches.insert(0 if target is _ALL else len(patches), patch)
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        **case.more,
        "resources": paths,
        "components": components,
        "patches": patches,
    }
    (folder / "kustomization.yaml").write_text(json.dumps(kustomization))
    objects = by_name(kustomized(kubectl, folder))
    return {key: each for key, each in objects.items() if key[0] not in case.without}


@pytest.fixture(scope="module")
def plain(kubectl_program: Path) -> Objects:
    """deploy/ as it is."""
    return by_name(kustomized(kubectl_program, ROOT / "deploy"))


@pytest.mark.parametrize("name", CASES)
def test_the_chart_renders_what_kustomize_makes_of_the_overlay_that_says_the_same(
    name: str, plain: Objects, helm_programs: dict[int, Path], kubectl_program: Path, tmp_path: Path
) -> None:
    case = CASES[name]
    folder = tmp_path / "overlay"
    folder.mkdir()
    wanted = overlay(case, folder, kubectl_program)
    assert (wanted == plain) is (name == "nothing"), "a case changes something"
    values = {"createNamespace": True, **case.values}
    for program in helm_programs.values():
        found = by_name(rendered(program, tmp_path, values, namespace=case.namespace))
        assert found.keys() == wanted.keys()
        for key, each in wanted.items():
            assert found[key] == each, key


def test_the_overlay_of_the_docs_for_a_proxy_with_a_login_is_what_the_chart_renders(
    helm_programs: dict[int, Path], kubectl_program: Path, tmp_path: Path
) -> None:
    chapter = (ROOT / "docs" / "operations.md").read_text().partition("**Proxies.**")[2]
    code = re.search(r"^    patches:\n(?:     .*\n)+", chapter, re.MULTILINE)
    assert code is not None
    folder = tmp_path / "overlay"
    folder.mkdir()
    base = f"{'../' * (len(folder.parts) - 1)}{(ROOT / 'deploy').relative_to('/')}"
    (folder / "kustomization.yaml").write_text(f"resources: [{base}]\n{textwrap.dedent(code[0])}")
    wanted = by_name(kustomized(kubectl_program, folder))
    values = {"createNamespace": True, "krapao": {"proxy": {"secretName": "git-proxy"}}}
    assert by_name(rendered(helm_programs[4], tmp_path, values, namespace="jiemi")) == wanted


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown key": ({"replicas": 2}, "replicas"),
    "an unknown key of a part": ({"miwen": {"replica": 2}}, "replica"),
    "an unknown key of an image": ({"krapao": {"image": {"name": "x"}}}, "name"),
    "a text for a number": ({"miwen": {"replicas": "2"}}, "miwen/replicas"),
    "a negative number of proxies": ({"webhooks": {"proxies": -1}}, "webhooks/proxies"),
    "a negative number": ({"krapao": {"replicas": -1}}, "krapao/replicas"),
    "a form that there is not": ({"form": "namespace"}, "form"),
    "a text for namespaces": ({"form": "namespaces", "namespaces": "team-a"}, "namespaces"),
    "a namespace that nobody can have": ({"form": "namespaces", "namespaces": ["Team"]}, "namespaces/0"),
    "a namespace twice": ({"form": "namespaces", "namespaces": ["a", "a"]}, "namespaces"),
    "a digest that is none": ({"miwen": {"image": {"digest": "sha256:1"}}}, "miwen/image/digest"),
    "a policy as an object": ({"miwen": {"policy": {"rules": []}}}, "miwen/policy"),
    "a flag without dashes": ({"miwen": {"extraArgs": ["interval=1m"]}}, "miwen/extraArgs/0"),
    "an account that nobody can have": ({"applyAs": "Jiemi Apply"}, "applyAs"),
    "a text for a switch": ({"networkPolicy": {"enabled": "yes"}}, "networkPolicy/enabled"),
    "a label that is no text": ({"commonLabels": {"a": 1}}, "commonLabels/a"),
    "a pull secret without its name": ({"imagePullSecrets": ["registry"]}, "imagePullSecrets/0"),
    "a limit that is an object": (
        {"krapao": {"resources": {"limits": {"memory": {}}}}},
        "krapao/resources/limits/memory",
    ),
    "a maker of certificates that there is not": ({"tls": {"madeBy": "vault"}}, "tls/madeBy"),
    "no namespaces": ({"form": "namespaces"}, "namespaces: the form namespaces needs at least one"),
    "namespaces of another form": ({"namespaces": ["a"]}, "namespaces: they are for the form namespaces"),
    "the namespace of Jiemi": ({"form": "namespaces", "namespaces": ["jiemi"]}, "namespaces: Miwen applies nothing"),
    "no issuer": ({"tls": {"madeBy": "cert-manager"}}, "tls.issuerRef.name: cert-manager needs an issuer"),
    "a proxy with a login": (
        {"krapao": {"proxy": {"url": "http://me:canary@proxy.example:3128"}}},
        "krapao.proxy.url: arguments are visible",
    ),
    "a proxy twice": (
        {"krapao": {"proxy": {"url": "http://proxy.example:3128", "secretName": "proxy"}}},
        "krapao.proxy: give url or secretName",
    ),
    "a proxy that ssh can't use": ({"krapao": {"proxy": {"url": "https://proxy.example"}}}, "krapao.proxy.url: ssh"),
    "exceptions from no proxy": ({"krapao": {"proxy": {"noProxy": ["a"]}}}, "krapao.proxy.noProxy: there is no proxy"),
    "a proxy for what there is not": ({"krapao": {"proxy": {"scope": "ssh"}}}, "krapao/proxy/scope"),
    "an address that is a name": ({"krapao": {"allowAddresses": ["localhost"]}}, "krapao/allowAddresses/0"),
    "an interval without a unit": ({"miwen": {"interval": "30"}}, "miwen/interval"),
    "a switch as a text": ({"miwen": {"requireVerify": "true"}}, "miwen/requireVerify"),
    "issuers without webhooks": ({"webhooks": {"allowAddresses": ["10.0.0.7"]}}, "webhooks: allowAddresses"),
    "a ratio of no traces": ({"traces": {"ratio": 0.5}}, "traces: ratio"),
    "a ratio above 1": ({"traces": {"endpoint": "https://c.example", "ratio": 2}}, "traces/ratio"),
    "a mount without a path": ({"krapao": {"extraVolumeMounts": [{"name": "a"}]}}, "krapao/extraVolumeMounts/0"),
    "neither TLS nor a secret": ({"tls": {"madeBy": "nobody"}}, "sessionSecret.name: without TLS"),
}


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("name", WRONG)
def test_wrong_values_are_refused_by_the_name_of_their_field(
    name: str, version: int, helm_programs: dict[int, Path], tmp_path: Path
) -> None:
    values, named = WRONG[name]
    program = helm_programs[version]
    status, output = run_helm(
        program, "template", "jiemi", CHART, "--namespace=jiemi", KUBE_VERSION, home=tmp_path, values=values
    )
    assert status != 0
    # Helm 3 writes a path in the same way: at '/miwen/replicas'.
    assert named in output
    assert "canary" not in output


def _keys(values: Any, at: str = "") -> Iterable[str]:
    for key, value in values.items():
        yield f"{at}/{key}"
        if isinstance(value, dict):
            yield from _keys(value, f"{at}/{key}")


def _schema_keys(schema: Mapping[str, Any], node: Mapping[str, Any], at: str = "") -> Iterable[str]:
    if "$ref" in node:
        node = schema["definitions"][node["$ref"].rpartition("/")[2]]
    for key, value in node.get("properties", {}).items():
        yield f"{at}/{key}"
        yield from _schema_keys(schema, value, f"{at}/{key}")


def test_the_schema_has_every_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = YAML(typ="safe").load((CHART / "values.yaml").read_text())
    free = {"/global"} | {
        f"/{part}/{each}" for part in WORKLOADS for each in ("resources/requests", "resources/limits")
    }
    assert set(_schema_keys(schema, schema)) - free == set(_keys(values))


def test_each_value_that_the_docs_name_can_be_set_by_that_name() -> None:
    values = YAML(typ="safe").load((CHART / "values.yaml").read_text())
    text = (ROOT / "docs" / "operations.md").read_text()
    [table] = re.findall(r"\| value \| what it is for \|\n\| --- \| --- \|\n((?:\|.*\n)+)", text)
    named = []
    for row in table.splitlines():
        part = ""
        for name in re.findall(r"`([^`]+)`", row.split("|")[1]):
            if "…" in name or (not part and name in WORKLOADS):
                break  # of both workloads: WORKLOAD.NAME
            full = f"{part}{name}" if name.startswith(".") else name
            part = full.rpartition(".")[0]
            named.append(full)
    assert len(named) > 40
    for name in named:
        found = values
        for key in name.split("."):
            found = found[key]
        assert not isinstance(found, dict) or not found, f"{name} is not one value, but has {', '.join(found)}"


def test_each_flag_that_the_chart_sets_is_one_of_the_services() -> None:
    templates = (CHART / "templates" / "_changes.tpl").read_text().replace("--%s-proxy", "--git-proxy --http-proxy")
    set_there = set(re.findall(r"--[a-z][a-z-]+", templates))
    flags = {
        option
        for name in ("krapao", "miwen")
        for parameter in app.commands[name].params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    assert len(set_there) > 25
    assert set_there <= flags


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("values", [{}, {"form": "impersonation"}], ids=["usual", "impersonation"])
def test_helm_finds_no_fault_in_the_chart(
    version: int, values: dict[str, Any], helm_programs: dict[int, Path], tmp_path: Path
) -> None:
    status, output = run_helm(helm_programs[version], "lint", "--strict", CHART, home=tmp_path, values=values)
    assert status == 0, output


def test_the_copies_in_the_chart_are_those_of_deploy() -> None:
    spec = importlib.util.spec_from_file_location("copy_files", ROOT / "deploy" / "helm" / "copy_files.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    wanted = {name: path.read_bytes() for name, path in module.wanted().items()}
    files = CHART / "files"
    found = {str(path.relative_to(files)): path.read_bytes() for path in files.rglob("*") if path.is_file()}
    assert found == wanted, "run `just chart`"


def test_the_chart_has_this_release_as_its_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = YAML(typ="safe").load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (version, version)
