"""Objects that others made first: what leaves git leaves the cluster, and what others hold beside it stays."""

from __future__ import annotations

import base64
import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from e2e_lab import Lab, until
from e2e_project import Project, project
from e2e_scene import MERGE

from jiemi.core.takeover import DECLARATIVE_MANAGERS

pytestmark = pytest.mark.e2e

DOCS = Path(__file__).parents[2] / "docs" / "reconciling.md"
APPLY = "application/apply-patch+yaml"
THINGS = "things.takeover.example"


@attrs.frozen
class Maker:
    """Who made the objects: in which words the docs tell it, by which field manager, and whether by an apply."""

    told: str
    manager: str
    applies: bool = False


MAKERS = (
    Maker("`kubectl apply`", "kubectl-client-side-apply"),
    Maker("`kubectl apply --server-side`", "kubectl", applies=True),
    Maker("`kubectl create`", "kubectl-create"),
    Maker("helm 3", "helm"),
    Maker("helm 4", "helm", applies=True),
    Maker("Flux, kustomize-controller", "kustomize-controller", applies=True),
    Maker("Flux, helm-controller", "helm-controller"),
    Maker("Argo CD", "argocd-controller"),
    Maker("Argo CD with ServerSideApply", "argocd-controller", applies=True),
    Maker("Jiemi's first version", "OpenAPI-Generator"),
    Maker("whoever left no managedFields", "before-first-apply"),
)

KINDS = {
    "Secret": "keys, labels, annotations",
    "ConfigMap": "keys, labels, annotations",
    "Deployment": "containers, env variables, `hostNetwork`, a volume's kind",
    "Service": "ports, labels, the selector (which is one field)",
    "a custom resource": "fields at any depth",
}


def table() -> str:
    """As docs/reconciling.md shows it."""
    lines = ["| first made by | field manager | written by |", "| --- | --- | --- |"]
    lines += [
        f"| {each.told} | `{each.manager}` | {'server-side apply' if each.applies else 'create or update'} |"
        for each in MAKERS
    ]
    lines += ["", "| kind | what was tried |", "| --- | --- |"]
    lines += [f"| {kind} | {what} |" for kind, what in KINDS.items()]
    return "\n".join(lines)


def _b64(**values: str) -> dict[str, str]:
    return {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}


def _objects(name: str, *, dropped: bool, theirs: bool, volume: str = "secret") -> list[dict[str, Any]]:
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
    containers = [{"name": "app", "image": "example.org/app:1", "env": env}]
    if dropped:
        probe = {"httpGet": {"path": "/", "port": 80}}
        ports = [{"containerPort": 80}]
        containers.append({"name": "side", "image": "example.org/side:1", "ports": ports, "livenessProbe": probe})
    kind = {"secret": {"secretName": "s"}} if volume == "secret" else {"emptyDir": {}}
    pod = {"containers": containers, "volumes": [{"name": "v", **kind}]} | ({"hostNetwork": True} if dropped else {})
    ports = [{"name": "a", "port": 80, "targetPort": 8080}]
    ports += [{"name": "b", "port": 81}] if dropped else []
    return [
        {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": _b64(**some(a="1", b="1", t="1"))},
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


@pytest.fixture(scope="module")
def module(lab: Lab) -> Iterator[Lab]:
    """A Miwen, and a kind of custom resources."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "things", "singular": "thing", "kind": "Thing"}
    spec = {"group": "takeover.example", "scope": "Namespaced", "names": names, "versions": [version]}
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    body = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "spec": spec}
    lab.admin.apply({**body, "metadata": {"name": THINGS}}).ok()
    lab.namespace("e2e-take-over")
    things = "/apis/takeover.example/v1/namespaces/e2e-take-over/things"
    until("things are served", lambda: lab.admin.call("GET", things).status == 200)
    _, address = lab.start_krapao(name="take-over")
    lab.start_miwen(address, "e2e-take-over", interval="10m")
    yield lab
    lab.end_services()
    lab.admin.call("DELETE", f"{path}/{THINGS}")


@attrs.frozen
class Case:
    project: Project

    def made(self, maker: Maker, *, theirs: bool = True, **content: Any) -> None:
        """Make the objects as that tool does."""
        admin = self.project.lab.admin
        for each in _objects(self.project.name, dropped=True, theirs=theirs, **content):
            body = copy.deepcopy(each)
            body["metadata"]["namespace"] = self.project.namespace
            path = admin.path_of(body)
            if maker.applies:
                admin.call("PATCH", f"{path}?fieldManager={maker.manager}&force=true", body, APPLY).ok()
                continue
            if maker.manager == "kubectl-client-side-apply":
                body["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = "{}"
            admin.call("POST", f"{path.rpartition('/')[0]}?fieldManager={maker.manager}", body).ok()
            if maker.manager == "before-first-apply":
                admin.call("PATCH", path, {"metadata": {"managedFields": [{}]}}, MERGE).ok()

    def live(self) -> dict[str, dict[str, Any]]:
        """The objects by their kinds."""
        admin, found = self.project.lab.admin, {}
        for each in _objects(self.project.name, dropped=False, theirs=False):
            each["metadata"]["namespace"] = self.project.namespace
            found[each["kind"]] = admin.call("GET", admin.path_of(each)).ok()
        return found

    def commit(self, *, dropped: bool, theirs: bool = False, when: str = "", **spec: Any) -> None:
        revision = self.project.push(all=_objects(self.project.name, dropped=dropped, theirs=theirs))
        if when:
            self.project.annotate(self.project.name, reconcile_at=when)
        else:
            self.project.set(**spec)
        self.project.synced(revision)

    def require(self, *, dropped: bool, theirs: bool) -> None:
        wanted = {key for key, there in (("a", True), ("b", dropped), ("t", theirs)) if there}
        live = self.live()

        def ours(found: Any) -> set[str]:
            return {key for key in found or {} if key in {"a", "b", "t"}}

        for kind, each in live.items():
            metadata = each["metadata"]
            assert ours(metadata.get("labels")) == wanted, kind
            assert {key[0] for key in metadata["annotations"] if key.endswith(".io/x")} == wanted, kind
        assert set(live["Secret"]["data"]) == set(live["ConfigMap"]["data"]) == wanted
        pod = live["Deployment"]["spec"]["template"]["spec"]
        assert [each["name"] for each in pod["containers"]] == (["app", "side"] if dropped else ["app"])
        assert {each["name"] for each in pod["containers"][0]["env"]} == wanted
        assert pod.get("hostNetwork", False) is dropped
        assert "secret" in pod["volumes"][0]
        assert "emptyDir" not in pod["volumes"][0]
        service = live["Service"]["spec"]
        assert [each["port"] for each in service["ports"]] == ([80, 81] if dropped else [80])
        assert set(service["selector"]) == wanted - {"t"}, "it is one field: who applies it has the whole"
        thing = live["Thing"]["spec"]
        assert ours(thing) == ours(thing["deep"]) == wanted


def _case(lab: Lab, name: str) -> Case:
    return Case(project(lab, "e2e-take-over", name))


@pytest.mark.parametrize("number", range(len(MAKERS)), ids=[each.told for each in MAKERS])
def test_what_leaves_git_leaves_the_cluster_and_what_others_hold_beside_it_stays(module: Lab, number: int) -> None:
    case = _case(module, f"made{number}")
    case.made(MAKERS[number])
    case.commit(dropped=True)
    case.require(dropped=True, theirs=True)
    versions = {kind: each["metadata"]["resourceVersion"] for kind, each in case.live().items()}
    case.project.annotate(case.project.name, reconcile_at="again")
    until(
        "all is applied again", lambda: case.project.status(case.project.name).get("lastHandledReconcileAt") == "again"
    )
    assert {kind: each["metadata"]["resourceVersion"] for kind, each in case.live().items()} == versions
    case.commit(dropped=False, when="dropped")
    case.require(dropped=False, theirs=True)


@pytest.mark.parametrize("maker", [MAKERS[0], MAKERS[1], MAKERS[5]], ids=lambda each: each.told)
def test_a_volume_of_another_kind_does_not_block_the_take_over(module: Lab, maker: Maker) -> None:
    case = _case(module, f"blocked{MAKERS.index(maker)}")
    case.made(maker, volume="emptyDir")
    case.commit(dropped=True, applyPolicy="Atomic" if maker.applies else "BestEffort")
    case.require(dropped=True, theirs=True)
    case.commit(dropped=False, when="dropped")
    case.require(dropped=False, theirs=True)


def test_what_another_applies_later_with_the_same_values_leaves_with_git_too(module: Lab) -> None:
    case = _case(module, "later")
    case.commit(dropped=True)
    # A key that it added to the Secret would be drift.
    case.made(Maker("", "kubectl", applies=True), theirs=False)
    case.require(dropped=True, theirs=False)
    case.commit(dropped=False, when="dropped")
    case.require(dropped=False, theirs=False)


def test_what_a_manager_holds_that_is_no_tool_of_files_stays(module: Lab) -> None:
    case = _case(module, "other")
    case.made(Maker("", "somebodys-controller", applies=True))
    case.commit(dropped=True)
    assert "somebodys-controller" not in DECLARATIVE_MANAGERS
    revision = case.project.push(
        all=[each for each in _objects("other", dropped=False, theirs=False) if each["kind"] == "ConfigMap"]
    )
    case.project.annotate("other", reconcile_at="dropped")
    case.project.synced(revision)
    assert set(case.live()["ConfigMap"]["data"]) == {"a", "b", "t"}


def test_the_table_of_the_docs_is_what_is_tested() -> None:
    text = DOCS.read_text()
    found = re.search(r"<!-- take-over -->\n\n(.*?)\n\n<!-- /take-over -->", text, re.DOTALL)
    assert found is not None
    assert found[1] == table()
    assert {each.manager for each in MAKERS} <= set(DECLARATIVE_MANAGERS)
