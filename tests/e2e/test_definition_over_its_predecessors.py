"""Today's CustomResourceDefinition over each one before it, in every way that kubectl has, with Decryptors there."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from support.e2e.lab import until
from support.kubernetes.api_server import ApiServer, Manifest
from support.kubernetes.kubectl import Kubectl
from support.kubernetes.own_control_plane import open_own_control_plane
from support.paths import ROOT
from support.upgrade.first_version_install import definition, record

from jiemi.core.api.crd import crd
from jiemi.core.api.decryptor import read_decryptor
from jiemi.core.api.spec import DecryptorSpec

pytestmark = pytest.mark.e2e

FROZEN = ROOT / "tests" / "data" / "crd"
CRD = str(ROOT / "deploy" / "crd.yaml")
NAMESPACE = "predecessors"
MARK = "earlierOnly"
WAYS = {
    "apply": ("apply", "--filename", CRD),
    "server-side apply": ("apply", "--server-side", "--force-conflicts", "--filename", CRD),
    "replace": ("replace", "--filename", CRD),
}
_AT = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/decryptors.jiemi.cr"
_DECRYPTORS = f"/apis/jiemi.cr/v1alpha1/namespaces/{NAMESPACE}/decryptors"


def predecessors() -> dict[str, tuple[Manifest, list[Manifest]]]:
    """Each definition with its Decryptors."""
    value = {"secretName": "s", "key": "k"}
    repository = {"url": "https://git.example/a.git", "credentials": {"username": {"literal": "me"}, "token": value}}
    providers = {
        "aws": {"accessKey": value, "keyId": value, "region": {"literal": "eu-west-1"}},
        "gcp": {"serviceAccount": value},
        "pgp": {"privateKey": {**value, "literal": None}},
        "vault": {},
    }
    theirs = [_decryptor(name, {name: provider}, repository) for name, provider in providers.items()]
    found = {"the first version": (definition(), theirs)}
    for path in sorted(FROZEN.glob("*.json")):
        frozen = json.loads(path.read_text())
        for each in frozen["decryptors"]:
            each["metadata"]["namespace"] = NAMESPACE
        found[path.stem] = (frozen["definition"], frozen["decryptors"])
    return found


def _decryptor(name: str, provider: Any, repository: Any) -> Manifest:
    files = {"fileToDecrypt": "a.yaml", "sopsPath": ".sops.yaml"}
    return {
        "apiVersion": "jiemi.cr/v1alpha1",
        "kind": "Decryptor",
        "metadata": {"name": name},
        "spec": {"provider": provider, "source": {"repository": repository, **files}},
    }


PREDECESSORS = predecessors()


@attrs.frozen
class Cluster:
    admin: ApiServer
    kubectl: Kubectl

    def until_served(self, *, earlier: bool) -> None:
        """Wait until the API server goes by a definition: an earlier one has a field more."""
        probe = _decryptor("probe", {"pgp": {"privateKey": {"literal": "x"}}}, {"url": "https://a.example/b"})
        probe["spec"][MARK] = True

        def is_taken_up() -> bool:
            answer = self.admin.call("POST", f"{_DECRYPTORS}?dryRun=All", probe)
            if answer.status != 201 or (MARK in answer.body["spec"]) != earlier:
                return False
            return self.admin.call("GET", _DECRYPTORS).status == 200  # its cache is there a moment later (429)

        until("the API server has taken the definition up", is_taken_up)


def marked(earlier: Manifest) -> Manifest:
    """A definition with a field more, by which one sees that it is served."""
    made = copy.deepcopy(earlier)
    [version] = made["spec"]["versions"]
    version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"][MARK] = {"type": "boolean"}
    return made


@pytest.fixture(scope="module")
def cluster(tools: dict[str, Path], kubectl_program: Path) -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="jiemi-crd-", dir="/dev/shm") as name:
        home = Path(name) / "home"
        home.mkdir()
        with open_own_control_plane(Path(name), definition()) as (running, admin):
            admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}).ok()
            yield Cluster(admin, Kubectl(kubectl_program, home, running.kubeconfig, NAMESPACE))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", PREDECESSORS)
def test_it_applies_over_its_predecessor_and_every_decryptor_stays_as_it_is(
    cluster: Cluster, name: str, way: str
) -> None:
    definition_before, decryptors = PREDECESSORS[name]
    earlier = marked(definition_before)
    # As users have it: by kubectl apply, with the annotation and the field manager of that.
    cluster.admin.call("DELETE", _DECRYPTORS).ok()
    cluster.kubectl("replace", "--filename", "-", given=earlier)
    cluster.kubectl("apply", "--filename", "-", given=earlier)
    cluster.until_served(earlier=True)
    cluster.kubectl("apply", "--filename", "-", given=decryptors)
    for each in decryptors:
        # The first version did not bound its history.
        history = [record(n, "b" * 40, "a.yaml") for n in range(1, 12 if name == "the first version" else 11)]
        status = {"current": record(12, "a" * 40, "a.yaml"), "history": history}
        path = f"{_DECRYPTORS}/{each['metadata']['name']}/status"
        cluster.admin.call("PATCH", path, {"status": status}, "application/merge-patch+json").ok()
    before = {each["metadata"]["name"]: each for each in cluster.admin.call("GET", _DECRYPTORS).ok()["items"]}
    assert len(before) == len(decryptors)

    cluster.kubectl(*WAYS[way])
    cluster.until_served(earlier=False)

    live = cluster.admin.call("GET", _AT).ok()
    assert live["status"]["storedVersions"] == ["v1alpha1"]
    [version] = live["spec"]["versions"]
    assert _paths(version["schema"]) == _paths(crd()["spec"]["versions"][0]["schema"]), "nothing of before is left"
    established = {each["type"]: each["status"] for each in live["status"]["conditions"]}
    assert established["Established"] == "True"
    assert established.get("NonStructuralSchema", "False") == "False"
    after = {each["metadata"]["name"]: each for each in cluster.admin.call("GET", _DECRYPTORS).ok()["items"]}
    assert after.keys() == before.keys()
    for key, was in before.items():
        now = after[key]
        assert now["metadata"]["uid"] == was["metadata"]["uid"]
        assert now["status"] == was["status"]
        assert isinstance(read_decryptor(now).spec, DecryptorSpec), read_decryptor(now).spec
        # Written again as it is, by an editor and by kubectl: it is still accepted, and nothing of it is dropped.
        assert {**now["spec"], **was["spec"]} == now["spec"]
        cluster.admin.call("PUT", f"{_DECRYPTORS}/{key}?dryRun=All", now).ok()
    cluster.kubectl("apply", "--dry-run=server", "--filename", "-", given=decryptors)
    # And once more: applying again changes nothing.
    cluster.kubectl(*WAYS[way])
    assert cluster.admin.call("GET", _AT).ok()["metadata"]["generation"] == live["metadata"]["generation"]


def _paths(schema: Any, at: str = "") -> set[str]:
    """The fields of a schema."""
    found: set[str] = set()
    for name, inner in schema.items() if isinstance(schema, dict) else ():
        found.add(f"{at}.{name}")
        found |= _paths(inner, f"{at}.{name}")
    return found


def test_the_first_names_of_the_first_versions_fields_are_no_longer_shown_and_apply_under_their_new_ones(
    cluster: Cluster,
) -> None:
    cluster.admin.call("DELETE", _DECRYPTORS).ok()
    cluster.kubectl("replace", "--filename", "-", given=marked(definition(old_names=True)))
    cluster.until_served(earlier=True)
    value, repository = {"secretName": "s", "key": "k"}, {"url": "https://git.example/a.git"}
    old = _decryptor("old", {"gcp": {"service_account": value}}, repository)
    cluster.kubectl("apply", "--filename", "-", given=old)
    cluster.kubectl("replace", "--filename", CRD)
    cluster.until_served(earlier=False)
    shown = cluster.admin.call("GET", f"{_DECRYPTORS}/old").ok()
    assert shown["spec"]["provider"] == {"gcp": {}}
    read = read_decryptor(shown).spec
    # Krapao refuses that with AmbientIdentityNotAllowed, unless its operator lends an identity of its own.
    assert isinstance(read, DecryptorSpec)
    assert read.provider.gcp is not None
    assert read.provider.gcp.service_account is None
    # Applied with the new name it is as any other.
    cluster.kubectl("apply", "--filename", "-", given=_decryptor("old", {"gcp": {"serviceAccount": value}}, repository))
    assert cluster.admin.call("GET", f"{_DECRYPTORS}/old").ok()["spec"]["provider"] == {
        "gcp": {"serviceAccount": value}
    }
