"""Objects that others made first: what leaves git leaves the cluster, and what others hold beside it stays.

kubectl and helm are the real ones. Flux and Argo CD run in a cluster, so their requests are made by a client of ours.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from support.e2e.lab import Lab, settled, until
from support.e2e.project import Project, project
from support.e2e.scene import MERGE
from support.e2e.take_over_objects import BLOCKED, MAKERS, Maker, Tools, applies, by_kubectl, objects, table
from support.kubernetes.helm import Helm
from support.kubernetes.kubectl import Kubectl
from support.kubernetes.written import but_for_controllers
from support.processes.threads import again_and_again

from jiemi.core.objects.managed_fields import FIELD_MANAGER
from jiemi.core.objects.take_over import DECLARATIVE_MANAGERS, sharers

pytestmark = pytest.mark.e2e

DOCS = Path(__file__).parents[2] / "docs" / "reconciling.md"
NAMESPACE = "e2e-take-over"
THINGS = "things.takeover.example"
BUSY_SECONDS = 1.5
"""For which a controller writes all the time; Miwen tries for three times as long."""


@attrs.frozen
class Module:
    lab: Lab
    tools: Tools


@pytest.fixture(scope="module")
def module(
    lab: Lab, kubectl_program: Path, helm_programs: dict[int, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Module]:
    """A Miwen, a kind of custom resources, and what makes objects."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "things", "singular": "thing", "kind": "Thing"}
    spec = {"group": "takeover.example", "scope": "Namespaced", "names": names, "versions": [version]}
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    body = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "spec": spec}
    lab.admin.apply({**body, "metadata": {"name": THINGS}}).ok()
    lab.namespace(NAMESPACE)
    things = f"/apis/takeover.example/v1/namespaces/{NAMESPACE}/things"
    until("things are served", lambda: lab.admin.call("GET", things).status == 200)
    _, address = lab.start_krapao(name="take-over")
    lab.start_miwen(address, NAMESPACE, interval="10m")
    home = tmp_path_factory.mktemp("home")
    kubectl = Kubectl(kubectl_program, home, lab.kubeconfig, NAMESPACE)
    yield Module(lab, Tools(lab.admin, kubectl, Helm(helm_programs, home, lab.kubeconfig, NAMESPACE), NAMESPACE))
    lab.end_services()
    lab.admin.call("DELETE", f"{path}/{THINGS}")


@attrs.frozen
class Case:
    project: Project
    tools: Tools

    def made(self, maker: Maker, *, theirs: bool = True, **content: Any) -> None:
        """Make the objects as that tool does."""
        maker.make(self.tools, objects(self.project.name, dropped=True, theirs=theirs, **content))
        for kind, live in self.live().items():
            listed = live["metadata"].get("managedFields") or [{"manager": "before-first-apply"}]
            assert {each["manager"] for each in listed} & set(maker.managers), (kind, listed)

    def live(self) -> dict[str, dict[str, Any]]:
        """The objects by their kinds."""
        admin, found = self.project.lab.admin, {}
        for each in objects(self.project.name, dropped=False, theirs=False):
            each["metadata"]["namespace"] = self.project.namespace
            found[each["kind"]] = admin.call("GET", admin.path_of(each)).ok()
        return found

    def commit(self, *, dropped: bool, theirs: bool = False, when: str = "", **spec: Any) -> None:
        revision = self.project.push(all=objects(self.project.name, dropped=dropped, theirs=theirs))
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
        assert {pod.get(name) for name in ("serviceAccountName", "serviceAccount")} == {"boss" if dropped else None}
        assert "secret" in pod["volumes"][0]
        assert "emptyDir" not in pod["volumes"][0]
        service = live["Service"]["spec"]
        assert [each["port"] for each in service["ports"]] == ([80, 81] if dropped else [80])
        assert set(service["selector"]) == wanted - {"t"}, "it is one field: who applies it has the whole"
        thing = live["Thing"]["spec"]
        assert ours(thing) == ours(thing["deep"]) == wanted


def _case(module: Module, name: str) -> Case:
    return Case(project(module.lab, NAMESPACE, name), module.tools)


@pytest.mark.parametrize("number", range(len(MAKERS)), ids=[each.shown for each in MAKERS])
def test_what_leaves_git_leaves_the_cluster_and_what_others_hold_beside_it_stays(module: Module, number: int) -> None:
    case = _case(module, f"made{number}")
    case.made(MAKERS[number])
    case.commit(dropped=True)
    case.require(dropped=True, theirs=True)

    def written() -> dict[str, dict[str, Any]]:
        return {kind: but_for_controllers(each) for kind, each in case.live().items()}

    before = settled(case.project.name, written)
    case.project.annotate(case.project.name, reconcile_at="again")
    until(
        "all is applied again", lambda: case.project.status(case.project.name).get("lastHandledReconcileAt") == "again"
    )
    assert written() == before, "the same is no write"
    case.commit(dropped=False, when="dropped")
    case.require(dropped=False, theirs=True)


@pytest.mark.parametrize("number", [number for number, each in enumerate(MAKERS) if each.is_real])
def test_a_volume_of_another_kind_does_not_block_the_take_over(module: Module, number: int) -> None:
    case = _case(module, f"blocked{number}")
    case.made(MAKERS[number], volume="emptyDir")
    case.commit(dropped=True, applyPolicy="Atomic" if number % 2 else "BestEffort")
    case.require(dropped=True, theirs=True)
    case.commit(dropped=False, when="dropped")
    case.require(dropped=False, theirs=True)


@pytest.mark.parametrize("how", [("apply",), ("apply", "--server-side")], ids=" ".join)
@pytest.mark.parametrize("number", range(len(BLOCKED)), ids=list(BLOCKED))
def test_what_git_does_not_describe_blocks_no_take_over_and_what_is_not_in_the_way_stays(
    module: Module, number: int, how: tuple[str, ...]
) -> None:
    name = f"in-the-way{number}{len(how)}"
    made, wanted = ({**each, "metadata": {"name": name}} for each in list(BLOCKED.values())[number])
    by_kubectl(*how)(module.tools, [made])
    blocked = project(module.lab, NAMESPACE, name)
    revision = blocked.push(all=[wanted])
    blocked.set(applyPolicy="Atomic")
    blocked.synced(revision)
    placed = {**wanted, "metadata": {"name": name, "namespace": NAMESPACE}}
    live = module.lab.admin.call("GET", module.lab.admin.path_of(placed)).ok()
    if number == 0:
        assert "minAvailable" not in live["spec"]
        assert live["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    elif number == 1:
        assert sorted(each["port"] for each in live["spec"]["ports"]) == [90, 8080]
    elif number == 2:
        [container] = live["spec"]["template"]["spec"]["containers"]
        assert [each["containerPort"] for each in container["ports"]] == [8080]
    else:
        assert (live["data"], live["binaryData"]) == ({"t": "1"}, {"a": "AAA="})


@contextlib.contextmanager
def _status_is_written_all_the_time(case: Case) -> Iterator[list[float]]:
    """By a controller, until a while after Miwen's first apply; gives when it wrote since then."""
    moments: list[float] = []
    place = {"metadata": {"name": case.project.name, "namespace": case.project.namespace}}
    path = case.tools.admin.path_of({"apiVersion": "apps/v1", "kind": "Deployment", **place}) + "/status"

    numbers = itertools.count(1)

    def write() -> None:
        if moments and moments[-1] > moments[0] + BUSY_SECONDS:
            return
        patch = {"status": {"observedGeneration": next(numbers)}}
        live = case.tools.admin.call("PATCH", path, patch, content_type=MERGE).ok()
        if moments or FIELD_MANAGER in {each["manager"] for each in live["metadata"]["managedFields"]}:
            moments.append(time.monotonic())

    with again_and_again(write, pause_seconds=0.005):
        yield moments


def test_an_object_whose_status_a_controller_writes_again_and_again_is_taken_over_too(module: Module) -> None:
    case = _case(module, "busy")
    case.made(MAKERS[0])
    with _status_is_written_all_the_time(case) as moments:
        case.commit(dropped=True)
        until("the controller has written for a while", lambda: moments and time.monotonic() > moments[0] + 2)
    assert len(moments) > 10
    case.require(dropped=True, theirs=True)
    assert sharers(case.live()["Deployment"]["metadata"]) <= {"kube-controller-manager"}
    case.commit(dropped=False, when="dropped")
    case.require(dropped=False, theirs=True)


def test_what_another_applies_later_with_the_same_values_leaves_with_git_too(module: Module) -> None:
    case = _case(module, "later")
    case.commit(dropped=True)
    # A key that it added to the Secret would be drift.
    case.made(next(each for each in MAKERS if "--server-side" in each.shown), theirs=False)
    case.require(dropped=True, theirs=False)
    case.commit(dropped=False, when="dropped")
    case.require(dropped=False, theirs=False)


def test_what_a_manager_holds_that_is_no_tool_of_files_stays(module: Module) -> None:
    case = _case(module, "other")
    case.made(Maker("", ("somebodys-controller",), "", applies("somebodys-controller"), is_real=False))
    case.commit(dropped=True)
    assert "somebodys-controller" not in DECLARATIVE_MANAGERS
    revision = case.project.push(
        all=[each for each in objects("other", dropped=False, theirs=False) if each["kind"] == "ConfigMap"]
    )
    case.project.annotate("other", reconcile_at="dropped")
    case.project.synced(revision)
    assert set(case.live()["ConfigMap"]["data"]) == {"a", "b", "t"}


def test_the_table_of_the_docs_is_what_is_tested() -> None:
    text = DOCS.read_text()
    found = re.search(r"<!-- take-over -->\n\n(.*?)\n\n<!-- /take-over -->", text, re.DOTALL)
    assert found is not None
    assert found[1] == table()
    assert {manager for each in MAKERS for manager in each.managers} <= set(DECLARATIVE_MANAGERS)
