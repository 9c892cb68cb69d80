"""docs/from-the-first-version.md, typed by a reader with the real kubectl: forward, back, and forward again.

The first version is installed from its manifests by kubectl. It does not run: a client does what it did, with its
ServiceAccount's rights. The cluster's own controllers run, and a stand-in of a kubelet: in it this release's Krapao and
Miwen are processes, and Miwen has the rights of deploy/.
"""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from support.e2e.lab import Lab, Repository, git_server, until
from support.krapao.pgp_keys import encrypted_for_pgp, gpg_home_in_memory, made_pgp_key
from support.kubernetes.api_server import ApiServer, Manifest
from support.kubernetes.own_control_plane import open_own_control_plane
from support.kubernetes.stand_in_kubelet import Kubelet
from support.paths import ROOT
from support.upgrade.first_version_install import NAMESPACE, definition, deploy, workloads
from support.upgrade.page_commands import Reader, scripts

pytestmark = pytest.mark.e2e

PAGE = scripts(ROOT / "docs" / "from-the-first-version.md")
FORWARD = [heading for heading in PAGE if heading[0].isdigit()]
BACK = "The way back"
NEW_TOKEN = "ghp-a-new-token"
NOTE = "teams.example/note"

SECRETS = {"app": ("team-a", {"password": "one", "user": "me"}), "payments": ("team-b", {"key": "two"})}
FRONT = {"ports": [{"name": "http", "port": 80}], "selector": {"app": "front"}}


def objects() -> dict[str, Manifest]:
    """What is in git, by the name of the Decryptor and of the object."""
    made = {
        name: {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace, "annotations": {NOTE: "of old"}},
            "stringData": dict(values),
        }
        for name, (namespace, values) in SECRETS.items()
    }
    front = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "front", "namespace": "team-b"}, "spec": FRONT}
    return {**made, "front": front}


def decryptor(name: str, namespace: str, url: str) -> Manifest:
    """As users of the first version have it."""
    repository: dict[str, Any] = {"url": url}
    if name == "app":
        token = {"secretName": "git-credentials", "key": "token"}
        repository["credentials"] = {"username": {"literal": "me"}, "token": token}
    return {
        "apiVersion": "jiemi.cr/v1alpha1",
        "kind": "Decryptor",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "provider": {"pgp": {"privateKey": {"secretName": "pgp-key", "key": "private.rsa"}}},
            "source": {"repository": repository, "fileToDecrypt": f"{name}.yaml", "sopsPath": ".sops.yaml"},
        },
    }


class Watch:
    """Sees objects of the teams go, by kubectl, from the beginning to the end."""

    def __init__(self, kubectl: Path, environment: dict[str, str], folder: Path) -> None:
        self._logs: list[Path] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        for resource in ("secrets", "services", "configmaps"):
            self._logs.append(folder / f"watched-{resource}")
            arguments = ("get", resource, "--all-namespaces", "--watch", "--output-watch-events")
            with self._logs[-1].open("wb") as output:
                self._processes.append(subprocess.Popen([kubectl, *arguments], env=environment, stdout=output))

    def saw(self, event: str, namespace: str, name: str) -> bool:
        return any([event, namespace, name] == row[:3] for row in self._rows())

    def deleted(self) -> list[list[str]]:
        """Objects of the teams that went."""
        return [row for row in self._rows() if row[0] == "DELETED" and row[1].startswith("team-")]

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def _rows(self) -> list[list[str]]:
        return [row for log in self._logs for line in log.read_text().splitlines() if (row := line.split())]


@attrs.frozen
class Move:
    """A cluster with the first version, and a reader of the page."""

    lab: Lab
    reader: Reader
    repository: Repository
    encrypt: Callable[[Manifest], bytes]
    watch: Watch
    uids: dict[str, str]

    def run(self, heading: str) -> None:
        """Type what is under a heading; nothing of the teams' may be missing at any time."""
        for script in PAGE[heading]:
            self.reader.run(script)
            assert self.watch.deleted() == []
            assert uids(self.lab.admin) == self.uids

    def old_account(self) -> ApiServer:
        return self.lab.admin.service_account(NAMESPACE, "jiemi-account")

    def until_ready(self, name: str, namespace: str, revision: str) -> dict[str, Any]:
        return self.lab.until_synced(namespace, name, revision)


def uids(admin: ApiServer) -> dict[str, str]:
    """Of the applied objects and the Decryptors; all must be there."""
    found: dict[str, str] = {}
    for name, wanted in objects().items():
        found[name] = admin.call("GET", admin.path_of(wanted)).ok()["metadata"]["uid"]
        at = f"/apis/jiemi.cr/v1alpha1/namespaces/{wanted['metadata']['namespace']}/decryptors/{name}"
        found[f"decryptor {name}"] = admin.call("GET", at).ok()["metadata"]["uid"]
    return found


def values(lab: Lab) -> dict[str, dict[str, str]]:
    return {name: lab.data(namespace, name) for name, (namespace, _) in SECRETS.items()}


def left_of_the_first_version(admin: ApiServer) -> list[str]:
    """Whatever of its manifests is in the cluster, its claim, and all that has its labels."""
    found = [each["metadata"]["name"] for each in workloads() if _is_old(admin, each)]
    claim = f"/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims/data-repository-0"
    if admin.call("GET", claim).status != 404:
        found.append("claim")
    pods = admin.call("GET", f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=workload").ok()["items"]
    return found + [pod["metadata"]["name"] for pod in pods]


def _is_old(admin: ApiServer, manifest: Manifest) -> bool:
    answer = admin.call("GET", admin.path_of(manifest))
    labels = answer.body.get("metadata", {}).get("labels", {})
    return answer.status != 404 and labels.get("app.kubernetes.io/part-of") != "jiemi"


def left_of_this_version(admin: ApiServer) -> list[str]:
    """What deploy/ has beside the namespace and the CRD, and what Miwen makes."""
    rbac, core = "/apis/rbac.authorization.k8s.io/v1", f"/api/v1/namespaces/{NAMESPACE}"
    apps, policy = f"/apis/apps/v1/namespaces/{NAMESPACE}", "/apis/admissionregistration.k8s.io/v1"
    namespaced = f"{rbac}/namespaces/{NAMESPACE}"
    places = [
        *(f"{core}/{kind}" for kind in ("configmaps", "services", "serviceaccounts", "persistentvolumeclaims", "pods")),
        *(f"{apps}/{kind}" for kind in ("deployments", "replicasets", "statefulsets", "controllerrevisions")),
        f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices",
        *(f"{namespaced}/{kind}" for kind in ("roles", "rolebindings")),
        *(f"{rbac}/{kind}" for kind in ("clusterroles", "clusterrolebindings")),
        f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases",
        f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies",
        f"/apis/policy/v1/namespaces/{NAMESPACE}/poddisruptionbudgets",
        *(f"{policy}/{kind}" for kind in ("validatingadmissionpolicies", "validatingadmissionpolicybindings")),
    ]
    marks = ("app.kubernetes.io/part-of", "app.kubernetes.io/name")
    found = [
        each["metadata"]["name"]
        for place in places
        for each in admin.call("GET", place).ok()["items"]
        if any(each["metadata"].get("labels", {}).get(mark) == "jiemi" for mark in marks)
        or each["metadata"]["name"] in {"jiemi-miwen", "state-repository-0"}
    ]
    return found + [each["metadata"]["name"] for each in admin.call("GET", f"{core}/secrets").ok()["items"]]


def refused_pods(admin: ApiServer) -> list[str]:
    """What the controllers report of Pods that the namespace's profile did not let in."""
    events = admin.call("GET", f"/api/v1/namespaces/{NAMESPACE}/events").ok()["items"]
    notes = [each["message"] for each in events if each["reason"] == "FailedCreate"]
    return [note for note in notes if "violates PodSecurity" in note]


@pytest.fixture(scope="module")
def move(tools: dict[str, Path], kubectl_program: Path) -> Iterator[Move]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jiemi-move-", dir="/dev/shm")))
        git = stack.enter_context(git_server(folder))
        cluster, admin = stack.enter_context(open_own_control_plane(folder, definition(), tools))
        home = stack.enter_context(contextlib.contextmanager(gpg_home_in_memory)())
        fingerprint, key = made_pgp_key(home, "first-version")
        lab = Lab(admin, cluster.kubeconfig, tools, git, folder)
        stack.callback(lab.end_services)

        programs = folder / "programs"
        programs.mkdir()
        (programs / "kubectl").symlink_to(kubectl_program)
        overlay = folder / "overlay"
        overlay.mkdir()
        (overlay / "kustomization.yaml").write_text(json.dumps({"resources": ["deploy"]}))
        (overlay / "deploy").symlink_to(ROOT / "deploy", target_is_directory=True)
        environment = {"KUBECONFIG": str(cluster.kubeconfig), "HOME": str(folder)}
        reader = Reader(overlay, programs, environment, f"{NEW_TOKEN}\n")

        def encrypt(manifest: Manifest) -> bytes:
            return encrypted_for_pgp(tools["sops"], home, fingerprint, json.dumps(manifest).encode())

        install_the_first_version(kubectl_program, environment)
        for team in ("team-a", "team-b"):
            lab.namespace(team)
            lab.secret(team, "pgp-key", **{"private.rsa": key})
        lab.secret("team-a", "git-credentials", token="an-old-token")
        made = objects()
        files = {f"{name}.yaml": encrypt(wanted) for name, wanted in made.items()}
        repository = lab.repository({**files, ".sops.yaml": b"creation_rules: []\n"})
        revision = repository.run("rev-parse", "HEAD")
        account = admin.service_account(NAMESPACE, "jiemi-account")
        for name, wanted in made.items():
            theirs = decryptor(name, wanted["metadata"]["namespace"], repository.url)
            kubectl_once(kubectl_program, environment, "apply", "--filename", "-", given=theirs)
            deploy(account, theirs, wanted, revision, times=3 if name == "app" else 1)

        def krapao() -> Callable[[], object]:
            return lab.start_krapao()[0].end

        def miwen() -> Callable[[], object]:
            account = lab.service_account_kubeconfig(NAMESPACE, "miwen")
            arguments = ("--own-namespace", NAMESPACE, "--interval", "1s")
            address = f"unix:{folder / 'krapao.sock'}"
            return lab.start("miwen", "--krapao", address, "--kubeconfig", account, *arguments).end

        stack.enter_context(Kubelet(admin, NAMESPACE, {"repository": krapao, "miwen": miwen}).running())
        until("the first version has its Pods and its claim", lambda: len(left_of_the_first_version(admin)) == 9)
        watch = Watch(kubectl_program, environment, folder)
        stack.callback(watch.end)
        until("the watch sees what is there", lambda: watch.saw("ADDED", "team-a", "app"))
        yield Move(lab, reader, repository, encrypt, watch, uids(admin))


def install_the_first_version(kubectl: Path, environment: dict[str, str]) -> None:
    """`kubectl apply`, as its readme had it, over the definition that the API server has already."""
    given = ("apply", "--filename", "-")
    kubectl_once(kubectl, environment, *given, given=definition())
    kubectl_once(kubectl, environment, "create", "namespace", NAMESPACE)
    kubectl_once(kubectl, environment, *given, given={"apiVersion": "v1", "kind": "List", "items": workloads()})


def kubectl_once(kubectl: Path, environment: dict[str, str], *arguments: str, given: Any = None) -> None:
    text = json.dumps(given) if given is not None else ""
    subprocess.run([kubectl, *arguments], env=environment, input=text.encode(), check=True, capture_output=True)


def test_the_page_leads_forward_and_back_and_forward_again_and_nothing_is_missing_at_any_time(move: Move) -> None:
    lab, admin = move.lab, move.lab.admin
    expected = {name: dict(data) for name, (_, data) in SECRETS.items()}
    revision = move.repository.run("rev-parse", "HEAD")
    assert values(lab) == expected

    move.run(FORWARD[0])
    assert sorted(path.name for path in (move.reader.folder / "first-version").iterdir()) == [
        *("account.yaml", "binding.yaml", "crd.yaml", "miwen.yaml", "repository.yaml", "role.yaml", "service.yaml")
    ]
    move.run(FORWARD[1])
    _refused_over_the_first_version(move)
    for heading in FORWARD[2:]:
        move.run(heading)
        assert values(lab) == expected
    assert left_of_the_first_version(admin) == []
    app = move.until_ready("app", "team-a", revision)
    assert [each["id"] for each in (*app["history"], app["current"])] == [1, 2, 3]
    live = admin.call("GET", admin.path_of(objects()["app"])).ok()["metadata"]
    assert live["labels"]["jiemi.cr/decryptor-name"] == "app"
    token = lab.data("team-a", "git-credentials")
    assert token == {"token": NEW_TOKEN}
    _what_leaves_git_leaves_the_cluster(move)
    expected["app"] = {"password": "three"}

    _make_what_a_miwen_with_tls_makes(admin)

    move.run(BACK)
    assert left_of_this_version(admin) == []
    assert refused_pods(admin) == []
    assert len(left_of_the_first_version(admin)) == 9
    assert values(lab) == expected
    _the_first_version_works(move)
    expected["app"] = {"password": "four"}

    for heading in FORWARD[1:]:
        move.run(heading)
    assert left_of_the_first_version(admin) == []
    revision = move.repository.run("rev-parse", "HEAD")
    for name, (namespace, _) in SECRETS.items():
        move.until_ready(name, namespace, revision)
    assert values(lab) == expected
    assert uids(admin) == move.uids

    # The watch that saw nothing go was there until now.
    lab.secret("team-a", "sentinel", a="b")
    admin.call("DELETE", "/api/v1/namespaces/team-a/secrets/sentinel").ok()
    until("the watch sees it go", lambda: move.watch.saw("DELETED", "team-a", "sentinel"))
    assert [row[2] for row in move.watch.deleted()] == ["sentinel"]


def _make_what_a_miwen_with_tls_makes(admin: ApiServer) -> None:
    """This Miwen talks to Krapao by a unix socket, so it makes none of these."""
    for name in ("krapao-tls", "miwen-tls", "jiemi-authorities"):
        admin.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": NAMESPACE}}).ok()
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
    admin.apply({**lease, "metadata": {"name": "jiemi-miwen", "namespace": NAMESPACE}}).ok()


def _refused_over_the_first_version(move: Move) -> None:
    """Why the page deletes the workloads: kubectl's own word, and of these two alone."""
    kubectl = move.reader.programs / "kubectl"
    done = subprocess.run(
        [kubectl, "apply", "--kustomize", ".", "--dry-run=server"],
        cwd=move.reader.folder,
        env=dict(move.reader.environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    refused = [line for line in done.stderr.splitlines() if "is invalid" in line]
    assert len(refused) == 2, done.stderr
    for workload in ('Deployment.apps "miwen"', 'StatefulSet.apps "repository"'):
        assert any(f"{workload} is invalid" in line and "field is immutable" in line for line in refused), refused


def _what_leaves_git_leaves_the_cluster(move: Move) -> None:
    """The first version's field managers keep nothing in an object that git drops."""
    wanted = objects()["app"]
    before = move.lab.admin.call("GET", move.lab.admin.path_of(wanted)).ok()["metadata"]
    assert before["annotations"][NOTE] == "of old"
    wanted["stringData"] = {"password": "three"}
    del wanted["metadata"]["annotations"]
    revision = move.repository.commit({"app.yaml": move.encrypt(wanted)})
    status = move.until_ready("app", "team-a", revision)
    assert [each["id"] for each in (*status["history"], status["current"])] == [1, 2, 3, 4]
    assert move.lab.data("team-a", "app") == {"password": "three"}
    live = move.lab.admin.call("GET", move.lab.admin.path_of(wanted)).ok()["metadata"]
    assert NOTE not in live.get("annotations", {})


def _the_first_version_works(move: Move) -> None:
    """With its own rights it applies a commit, for each Decryptor, and its status is accepted as it writes it."""
    admin, made = move.lab.admin, objects()
    made["app"]["stringData"] = {"password": "four"}
    revision = move.repository.commit({"app.yaml": move.encrypt(made["app"])})
    until(
        "the API server has taken up its role", lambda: move.old_account().may("patch", "jiemi.cr", "decryptors/status")
    )
    for name, wanted in made.items():
        theirs = decryptor(name, wanted["metadata"]["namespace"], move.repository.url)
        before = admin.call("GET", admin.path_of(theirs)).ok()["status"]
        assert before.keys() <= {"current", "history"}, "fields that it does not know are not shown to it"
        deploy(move.old_account(), theirs, wanted, revision)
        after = admin.call("GET", admin.path_of(theirs)).ok()["status"]
        assert after["current"]["id"] == before["current"]["id"] + 1
    live = admin.call("GET", admin.path_of(made["app"])).ok()["data"]
    assert {name: base64.b64decode(value).decode() for name, value in live.items()} == {"password": "four"}
