"""What deploy/ says, read as it is."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from jiemi.cli.main import app
from jiemi.core.address_rules import _BUILT_IN
from jiemi.miwen.certificates.secrets import AUTHORITIES_SECRET, KRAPAO_SECRET
from jiemi.miwen.leadership.elector import LeaseTiming
from jiemi.miwen.watch.krapao_pods import PORT_NAME
from jiemi.rpc.address import parse_address
from jiemi.rpc.contract import DEFAULT_PORT

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
WORKLOADS = {("StatefulSet", "repository"): "krapao", ("Deployment", "miwen"): "miwen"}
IMAGES = sorted((DEPLOY / "images").glob("Dockerfile.*"))

# Published by the hosts; deploy/known-hosts.yaml says where.
PUBLISHED_FINGERPRINTS = {
    ("github.com", "ssh-ed25519"): "+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU",
    ("github.com", "ecdsa-sha2-nistp256"): "p2QAMXNIC1TJYWeIOttrVc98/R1BUFWu3/LiyKgUfQM",
    ("github.com", "ssh-rsa"): "uNiVztksCsDhcc0u9e8BujQXVUpKZIDTMczCvj3tD2s",
    ("gitlab.com", "ssh-ed25519"): "eUXGGm1YGsMAS7vkcx6JOJdOGHPem5gQp4taiCfCLB8",
    ("gitlab.com", "ecdsa-sha2-nistp256"): "HbW3g8zUjNSksFbqTiUWPWg2Bq1x8xdGUrliXFzSnUw",
    ("gitlab.com", "ssh-rsa"): "ROQFvPThGrW4RuWLoL9tq9I9zJ42fK4XywyRtbOz/EQ",
    ("bitbucket.org", "ssh-ed25519"): "ybgmFkzwOSotHTHLJgHO0QN8L0xErw6vd0VhFA9m3SM",
    ("bitbucket.org", "ecdsa-sha2-nistp256"): "FC73VB6C4OQLSCrjEayhMp9UMxS97caD/Yyi2bhW/J0",
    ("bitbucket.org", "ssh-rsa"): "46OSHA1Rmj8E8ERTC6xkNcmGOw9oFxYr0WF6zWW8l1E",
    ("ssh.dev.azure.com", "ssh-rsa"): "ohD8VZEXGWo6Ez8GSEJQ9WpafgLFsOfLOtGGQCQo6Og",
}


@pytest.fixture
def by_name(manifests: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(each["kind"], each["metadata"]["name"]): each for each in manifests}


@pytest.mark.parametrize(
    "folder",
    [DEPLOY, *(DEPLOY / name for name in ("impersonation", "cert-manager", "cert-manager/issuer"))],
    ids=lambda folder: folder.name,
)
def test_each_kustomization_lists_every_manifest_of_its_folder_once(folder: Path) -> None:
    kustomization = YAML(typ="safe").load((folder / "kustomization.yaml").read_text())
    files = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}
    assert sorted(kustomization["resources"]) == sorted(files)


def test_no_two_manifests_are_the_same_object_and_all_namespaced_ones_are_in_jiemi(
    manifests: list[dict[str, Any]],
) -> None:
    cluster_wide = {"Namespace", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"}
    cluster_wide |= {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "PriorityClass"}
    names = [(each["kind"], each["metadata"]["name"]) for each in manifests]
    assert len(set(names)) == len(names)
    namespaces = {each["metadata"].get("namespace") for each in manifests if each["kind"] not in cluster_wide}
    assert namespaces == {"jiemi"}


@pytest.mark.parametrize("key", WORKLOADS, ids=lambda key: key[1])
def test_selectors_meet_the_labels_of_their_pods_and_of_no_others(
    key: tuple[str, str], by_name: dict[tuple[str, str], dict[str, Any]]
) -> None:
    labels = by_name[key]["spec"]["template"]["metadata"]["labels"]
    selector = by_name[key]["spec"]["selector"]["matchLabels"]
    assert selector.items() <= labels.items()
    (other,) = set(WORKLOADS) - {key}
    assert not selector.items() <= by_name[other]["spec"]["template"]["metadata"]["labels"].items()


def test_the_service_and_the_network_policy_meet_krapao_and_let_miwen_in_only(
    by_name: dict[tuple[str, str], dict[str, Any]],
) -> None:
    krapao = by_name["StatefulSet", "repository"]["spec"]["template"]["metadata"]["labels"]
    miwen = by_name["Deployment", "miwen"]["spec"]["template"]["metadata"]["labels"]
    service = by_name["Service", "repository-svc"]["spec"]
    assert service["selector"].items() <= krapao.items()
    assert [port["port"] for port in service["ports"]] == [DEFAULT_PORT]
    policy = by_name["NetworkPolicy", "repository"]["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= krapao.items()
    (rule,) = policy["ingress"]
    (peer,) = rule["from"]
    assert peer["podSelector"]["matchLabels"].items() <= miwen.items()
    assert not peer["podSelector"]["matchLabels"].items() <= krapao.items()
    assert rule["ports"] == [{"port": DEFAULT_PORT, "protocol": "TCP"}]
    nothing = by_name["NetworkPolicy", "accept-nothing"]["spec"]
    assert nothing == {"podSelector": {}, "policyTypes": ["Ingress"]}


AZURES_NAME_SERVER = "168.63.129.16/32"
"""Beside metadata it answers for names, which a Pod may need."""


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _is_within(inner: Network, outer: Network) -> bool:
    if isinstance(inner, ipaddress.IPv4Network):
        return isinstance(outer, ipaddress.IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, ipaddress.IPv6Network) and inner.subnet_of(outer)


def test_the_network_policy_shuts_each_metadata_address_that_krapao_refuses(
    by_name: dict[tuple[str, str], dict[str, Any]],
) -> None:
    (rule,) = by_name["NetworkPolicy", "repository"]["spec"]["egress"]
    shut = [ipaddress.ip_network(each) for to in rule["to"] for each in to.get("ipBlock", {}).get("except", ())]
    [known] = [networks for kind, networks in _BUILT_IN if kind == "metadata"]
    for text in known:
        network = ipaddress.ip_network(text)
        assert text == AZURES_NAME_SERVER or any(_is_within(each, network) for each in shut), text


def test_krapao_listens_where_miwen_calls(by_name: dict[tuple[str, str], dict[str, Any]]) -> None:
    (krapao,) = by_name["StatefulSet", "repository"]["spec"]["template"]["spec"]["containers"]
    (miwen,) = by_name["Deployment", "miwen"]["spec"]["template"]["spec"]["containers"]
    flags = dict(arg.split("=", 1) for arg in [*krapao["args"], *miwen["args"]] if "=" in arg)
    service = by_name["Service", flags["--krapao"].removeprefix("service:")]["spec"]
    # Miwen takes the port of this name from the EndpointSlices.
    assert service["ports"] == [{"name": PORT_NAME, "port": DEFAULT_PORT, "targetPort": PORT_NAME, "protocol": "TCP"}]
    assert service["selector"] == by_name["StatefulSet", "repository"]["spec"]["selector"]["matchLabels"]
    assert by_name["Role", "miwen-krapaos"]["rules"] == [
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}
    ]
    assert str(parse_address(flags["--listen"])) == f"tcp:*:{DEFAULT_PORT}"
    assert {"name": "capnp", "containerPort": DEFAULT_PORT, "protocol": "TCP"} in krapao["ports"]


@pytest.mark.parametrize("key", WORKLOADS, ids=lambda key: key[1])
def test_metrics_and_probes_are_served_on_a_port_of_their_own_that_only_labelled_namespaces_reach(
    key: tuple[str, str], by_name: dict[tuple[str, str], dict[str, Any]]
) -> None:
    pod = by_name[key]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    (port,) = (each for each in container["ports"] if each["name"] == "metrics")
    assert f"--metrics-listen=*:{port['containerPort']}" in container["args"]
    pages = {"startupProbe": "/healthz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}
    assert {name: container[name]["httpGet"] for name in pages} == {
        name: {"path": path, "port": "metrics"} for name, path in pages.items()
    }
    policy = by_name["NetworkPolicy", "metrics"]["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert policy["ingress"] == [
        {
            "from": [{"namespaceSelector": {"matchLabels": {"metrics": "enabled"}}}],
            "ports": [{"port": port["containerPort"], "protocol": "TCP"}],
        }
    ]


def test_krapao_mounts_the_certificate_that_miwen_makes_and_plain_tcp_is_nowhere(
    by_name: dict[tuple[str, str], dict[str, Any]],
) -> None:
    pod = by_name["StatefulSet", "repository"]["spec"]["template"]["spec"]
    (krapao,) = pod["containers"]
    (miwen,) = by_name["Deployment", "miwen"]["spec"]["template"]["spec"]["containers"]
    flags = dict(arg.split("=", 1) for arg in [*krapao["args"], *miwen["args"]] if "=" in arg)
    path = Path(flags["--tls-dir"])
    (mount,) = (mount for mount in krapao["volumeMounts"] if mount["mountPath"] == str(path))
    # A subPath would keep the kubelet from bringing a renewed Secret.
    assert mount == {"name": "tls", "mountPath": str(path), "readOnly": True}
    (volume,) = (volume for volume in pod["volumes"] if volume["name"] == "tls")
    # Not optional: without it the Pod waits, rather than serve nobody; and of the world no one reads it.
    assert volume["secret"] == {"secretName": KRAPAO_SECRET, "defaultMode": 0o440}
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]
    assert "--make-certificates" in miwen["args"]
    assert not any(arg.startswith("--insecure") for arg in [*krapao["args"], *miwen["args"]])
    role = by_name["Role", "miwen-certificates"]
    assert [(rule["verbs"], rule.get("resourceNames")) for rule in role["rules"]] == [
        (["get", "update"], [AUTHORITIES_SECRET, KRAPAO_SECRET, flags["--tls-secret"]]),
        (["create"], None),
    ]
    assert role["metadata"]["namespace"] == by_name["Deployment", "miwen"]["metadata"]["namespace"]


def test_krapao_holds_no_token_and_no_role(
    by_name: dict[tuple[str, str], dict[str, Any]], manifests: list[dict[str, Any]]
) -> None:
    spec = by_name["StatefulSet", "repository"]["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert by_name["ServiceAccount", spec["serviceAccountName"]]["automountServiceAccountToken"] is False
    bindings = [each for each in manifests if each["kind"] in ("RoleBinding", "ClusterRoleBinding")]
    bound = {subject["name"] for each in bindings for subject in each["subjects"]}
    assert bound == {"miwen"}


@pytest.mark.parametrize("key", WORKLOADS, ids=lambda key: key[1])
def test_what_containers_write_is_on_a_mount_and_in_memory_but_for_the_clones(
    key: tuple[str, str], by_name: dict[tuple[str, str], dict[str, Any]]
) -> None:
    workload = by_name[key]["spec"]
    pod = workload["template"]["spec"]
    (container,) = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    claims = {claim["metadata"]["name"] for claim in workload.get("volumeClaimTemplates", [])}
    assert claims <= {"state"}
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    for mount in mounts.values():
        if mount["name"] in claims or mount.get("readOnly"):
            continue
        assert volumes[mount["name"]]["emptyDir"]["medium"] == "Memory"
        assert volumes[mount["name"]]["emptyDir"]["sizeLimit"]
    written = [arg.split("=", 1)[1] for arg in container["args"] if re.match(r"--(state-dir|runtime-dir)=", arg)]
    for path in [*written, "/tmp"]:
        assert mounts.keys() & {path, str(Path(path).parent)}, f"{path} is neither a mount nor directly below one"


@pytest.mark.parametrize("key", WORKLOADS, ids=lambda key: key[1])
def test_the_command_line_takes_every_flag_of_the_manifests(
    key: tuple[str, str], by_name: dict[tuple[str, str], dict[str, Any]]
) -> None:
    (container,) = by_name[key]["spec"]["template"]["spec"]["containers"]
    # --help does nothing else, but an option that is not known is refused before it.
    assert CliRunner().invoke(app, [*container["args"], "--help"]).exit_code == 0
    assert CliRunner().invoke(app, [*container["args"], "--unknown", "--help"]).exit_code == 2


@pytest.mark.parametrize("key", WORKLOADS, ids=lambda key: key[1])
def test_containers_have_requests_limits_and_probes_that_spare_a_busy_process(
    key: tuple[str, str], by_name: dict[tuple[str, str], dict[str, Any]]
) -> None:
    (container,) = by_name[key]["spec"]["template"]["spec"]["containers"]
    for kind in ("requests", "limits"):
        assert set(container["resources"][kind]) == {"cpu", "memory"}
    # The kubelet starts no program: a Python would cost 0.4 s of CPU each time.
    assert not any("exec" in container[name] for name in ("startupProbe", "readinessProbe", "livenessProbe"))
    liveness, startup = container["livenessProbe"], container["startupProbe"]
    assert liveness["timeoutSeconds"] >= 10
    assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 120
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 120


def test_of_two_miwens_one_is_active_by_a_lease_that_it_may_write(
    by_name: dict[tuple[str, str], dict[str, Any]],
) -> None:
    spec = by_name["Deployment", "miwen"]["spec"]
    (miwen,) = spec["template"]["spec"]["containers"]
    flags = dict(arg.split("=", 1) for arg in miwen["args"] if "=" in arg)
    assert (spec["replicas"], spec["strategy"]["rollingUpdate"]["maxUnavailable"]) == (2, 1)
    role = by_name["Role", "miwen-lease"]
    assert [(rule["apiGroups"], rule["verbs"], rule.get("resourceNames")) for rule in role["rules"]] == [
        (["coordination.k8s.io"], ["get", "update"], [flags["--lease"]]),
        (["coordination.k8s.io"], ["create"], None),
    ]
    budget = by_name["PodDisruptionBudget", "miwen"]["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"] == spec["selector"]
    # The Lease outlives the time that the kubelet gives a Pod to end by less than it takes to be given up.
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] > LeaseTiming().duration_seconds


def test_several_krapaos_are_started_at_once_and_drained_one_at_a_time(
    by_name: dict[tuple[str, str], dict[str, Any]],
) -> None:
    spec = by_name["StatefulSet", "repository"]["spec"]
    assert spec["replicas"] >= 2
    # Kubernetes' default waits for each one before it makes the next, also when it replaces lost ones.
    assert spec["podManagementPolicy"] == "Parallel"
    budget = by_name["PodDisruptionBudget", "repository"]["spec"]
    assert (budget["maxUnavailable"], budget["selector"]) == (1, spec["selector"])


@pytest.mark.parametrize("key", WORKLOADS, ids=lambda key: key[1])
def test_pods_are_spread_over_nodes_and_scheduled_before_ordinary_ones(
    key: tuple[str, str], by_name: dict[tuple[str, str], dict[str, Any]]
) -> None:
    pod = by_name[key]["spec"]["template"]["spec"]
    (spread,) = pod["topologySpreadConstraints"]
    assert spread["labelSelector"] == by_name[key]["spec"]["selector"]
    assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == ("kubernetes.io/hostname", "ScheduleAnyway")
    priority = by_name["PriorityClass", pod["priorityClassName"]]
    assert 0 < priority["value"] < 2_000_000_000  # those of the cluster's own begin there
    assert not priority.get("globalDefault")


def test_each_ssh_host_key_is_the_one_that_its_host_publishes(by_name: dict[tuple[str, str], dict[str, Any]]) -> None:
    lines = by_name["ConfigMap", "krapao-ssh-known-hosts"]["data"]["ssh_known_hosts"].splitlines()
    found = {}
    for line in lines:
        host, algorithm, key = line.split()
        blob = base64.b64decode(key, validate=True)
        # RFC 4253, 6.6: the key names its own algorithm first.
        assert blob[4 : 4 + int.from_bytes(blob[:4])] == algorithm.encode()
        found[host, algorithm] = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    assert len(found) == len(lines)
    assert found == PUBLISHED_FINGERPRINTS


@pytest.mark.parametrize("key", WORKLOADS, ids=lambda key: key[1])
def test_the_image_has_this_release_as_its_tag(
    key: tuple[str, str], by_name: dict[tuple[str, str], dict[str, Any]]
) -> None:
    (container,) = by_name[key]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"jiemi/{WORKLOADS[key]}:{VERSION}"
    dockerfile = (DEPLOY / "images" / f"Dockerfile.{WORKLOADS[key]}").read_text()
    assert f'org.opencontainers.image.version="{VERSION}"' in dockerfile


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.name)
def test_the_dockerfile_runs_as_the_user_that_the_pod_does(
    path: Path, by_name: dict[tuple[str, str], dict[str, Any]]
) -> None:
    instructions = re.findall(r"^USER (\d+):(\d+)$", path.read_text(), re.MULTILINE)
    users = {
        (str(each["runAsUser"]), str(each["runAsGroup"]))
        for key in WORKLOADS
        for each in [by_name[key]["spec"]["template"]["spec"]["securityContext"]]
    }
    assert users == set(instructions) == {("65532", "65532")}


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.name)
def test_what_the_dockerfile_copies_is_here_and_reaches_the_engine(path: Path) -> None:
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", path.read_text(), re.MULTILINE)
        for source in line.split()[:-1]
    }
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert [name for name in copied if not (name == "sop[s]" or (ROOT / name).exists())] == []
    assert [
        name for name in copied if not any(fnmatch(each, name) or Path(name).is_relative_to(each) for each in allowed)
    ] == []
    # What the wheel is made of is there when it is built.
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = [*wheel["force-include"], *wheel["packages"], "README.md", "LICENSE"]
    assert [name for name in needed if not any(Path(name).is_relative_to(each) for each in copied)] == []


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.name)
def test_a_dockerfile_downloads_nothing_itself(path: Path) -> None:
    assert not re.search(r"^ADD\b|\b(curl|wget)\b|--checksum", path.read_text(), re.MULTILINE)


def test_the_wheel_carries_the_schema_and_the_manifests() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"] == {
        "schema/krapao.capnp": "jiemi/schema/krapao.capnp",
        "deploy": "jiemi/deploy",
        "examples/demo": "jiemi/examples/demo",
    }
    assert all((ROOT / source).exists() for source in wheel["force-include"])


def test_what_the_docs_patch_by_an_overlay_is_there(by_name: dict[tuple[str, str], dict[str, Any]]) -> None:
    paths = {
        path
        for page in (ROOT / "docs").glob("*.md")
        for path in re.findall(r"\{op: add, path: (\S+)/-, value: ", page.read_text())
    }
    assert "/spec/template/spec/volumes" in paths
    for path in paths:
        part: Any = by_name["Deployment", "miwen"]
        for name in path.strip("/").split("/"):
            part = part[int(name) if name.isdecimal() else name]
        assert isinstance(part, list), path
