"""Decryptors that another release, or a person, left with a status that this release would never write.

They are made while the CustomResourceDefinition has no bounds, as the first version's had none, and then this release
takes over: its CustomResourceDefinition, its Miwen.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.e2e.lab import Lab, Repository, until
from support.kubernetes.api_server import ApiServer
from support.miwen.stored_statuses import STORED, condition, record

from jiemi.core.api.crd import crd

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-other-releases"
_STATUS = "/apis/jiemi.cr/v1alpha1/namespaces/" + NAMESPACE + "/decryptors/{}/status"
_FIRST_VERSION = [0, 10, 11, 40]
"""Entries of status.history; the first version did not bound them."""

_ODD = [name for name in STORED if "entries" not in name]
_NAMES = {name: f"d{n}" for n, name in enumerate([*(f"{entries} entries" for entries in _FIRST_VERSION), *_ODD])}


def with_any_status() -> dict[str, Any]:
    """The CustomResourceDefinition as it was before a status had a schema."""
    made = copy.deepcopy(crd())
    [version] = made["spec"]["versions"]
    version["schema"]["openAPIV3Schema"]["properties"]["status"] = {
        "type": "object",
        "nullable": True,
        "x-kubernetes-preserve-unknown-fields": True,
    }
    return made


def put_status(admin: ApiServer, name: str, status: Any) -> None:
    """Store a status, as soon as the API server takes it."""
    made: list[Any] = []

    def is_stored() -> bool:
        obj = admin.call("GET", _STATUS.format(name)).ok()
        made[:] = [admin.call("PUT", _STATUS.format(name), {**obj, "status": status})]
        return bool(made[0].status == 200)

    until(f"the status of {name} is stored", is_stored, on_failure=lambda: made)


def _secret(name: str) -> str:
    metadata = {"name": name, "namespace": NAMESPACE}
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"value": name}})


@pytest.fixture(scope="module")
def repository(lab: Lab) -> Iterator[Repository]:
    lab.namespace(NAMESPACE)
    repository = lab.repository({f"{name}.enc.yaml": lab.encrypt(_secret(name)) for name in _NAMES.values()})
    lab.admin.apply(with_any_status()).ok()
    for stored, name in _NAMES.items():
        lab.admin.apply(lab.decryptor(NAMESPACE, name, repository.url, file=f"{name}.enc.yaml")).ok()
        put_status(lab.admin, name, STORED[stored])
    lab.admin.apply(crd()).ok()

    def is_bounded() -> bool:
        obj = lab.admin.call("GET", _STATUS.format("d0")).ok()
        current = record(41, status="Neither")
        asked = lab.admin.call("PUT", f"{_STATUS.format('d0')}?dryRun=All", {**obj, "status": {"current": current}})
        return asked.status == 422

    until("the API server has taken up this release's bounds", is_bounded)
    _, address = lab.start_krapao()
    lab.start_miwen(address, NAMESPACE, interval="1s")
    yield repository
    lab.end_services()
    lab.admin.call("DELETE", f"/apis/jiemi.cr/v1alpha1/namespaces/{NAMESPACE}/decryptors")
    lab.admin.apply(crd()).ok()


@pytest.mark.parametrize("entries", _FIRST_VERSION)
def test_a_decryptor_of_the_first_version_is_taken_over_and_deployed(
    lab: Lab, repository: Repository, entries: int
) -> None:
    name = _NAMES[f"{entries} entries"]
    status = lab.until_synced(NAMESPACE, name, repository.run("rev-parse", "HEAD"))
    assert lab.data(NAMESPACE, name) == {"value": name}
    assert status["current"]["id"] == 42, "the deployments go on to be counted"
    before = [each["id"] for each in STORED[f"{entries} entries"]["history"]]
    assert [each["id"] for each in status["history"]] == [*before, 41][-10:]
    assert status["inventory"][0]["name"] == name


@pytest.mark.parametrize("stored", _ODD)
def test_a_decryptor_is_deployed_whatever_its_status_held(lab: Lab, repository: Repository, stored: str) -> None:
    name = _NAMES[stored]
    status = lab.until_synced(NAMESPACE, name, repository.run("rev-parse", "HEAD"))
    assert lab.data(NAMESPACE, name) == {"value": name}
    conditions = {each["type"]: each for each in status["conditions"]}
    assert conditions["Ready"]["status"] == "True"
    assert status["current"]["id"] >= 1


def with_fields_of_a_newer_release() -> dict[str, Any]:
    """The CustomResourceDefinition of a release to come."""
    made = copy.deepcopy(crd())
    [version] = made["spec"]["versions"]
    parts = version["schema"]["openAPIV3Schema"]["properties"]
    newer = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    parts["spec"]["properties"]["newerPolicy"] = newer
    parts["spec"]["properties"]["source"]["properties"]["newerPlace"] = {"type": "string"}
    parts["status"]["properties"]["newerReport"] = newer
    parts["status"]["properties"]["current"]["properties"]["newerFact"] = {"type": "string"}
    return made


def test_under_the_definition_of_a_newer_release_this_one_goes_on_and_leaves_specs_alone(
    lab: Lab, repository: Repository
) -> None:
    # As after somebody went back and left the definition as it was. A Miwen that runs would put its own status back.
    lab.end_services()
    name = "of-a-newer-release"
    lab.admin.apply(with_fields_of_a_newer_release()).ok()
    wanted = lab.decryptor(NAMESPACE, name, repository.url, file="newer.enc.yaml")
    wanted["spec"]["newerPolicy"] = {"mode": "Strict"}
    wanted["spec"]["source"]["newerPlace"] = "here"
    revision = repository.commit({"newer.enc.yaml": lab.encrypt(_secret(name))})

    def is_kept() -> bool:
        return bool(lab.admin.apply(wanted).ok()["spec"].get("newerPolicy"))

    until("the API server has taken up the newer definition", is_kept)
    newer = {
        "current": {**record(7), "newerFact": "a"},
        "history": [record(6)],
        "newerReport": {"a": 1},
        "conditions": [condition("Ready", reason="NewerReason"), condition("NewerCondition")],
    }
    put_status(lab.admin, name, newer)
    _, address = lab.start_krapao(name="krapao-again")
    lab.start_miwen(address, NAMESPACE, interval="1s")
    status = lab.until_synced(NAMESPACE, name, revision)
    assert status["current"]["id"] == 8
    assert [each["id"] for each in status["history"]] == [6, 7]
    assert {each["type"]: each["reason"] for each in status["conditions"]}["Ready"] == "Synced"
    assert lab.data(NAMESPACE, name) == {"value": name}
    live = lab.admin.call("GET", _STATUS.format(name).removesuffix("/status")).ok()
    assert live["spec"]["newerPolicy"] == {"mode": "Strict"}
    assert live["spec"]["source"]["newerPlace"] == "here"
