"""What goes wrong around a deployment: the API server, etcd or the Decryptor goes, the spec changes, others write."""

from __future__ import annotations

import itertools
import json
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from support.e2e.lab import Lab, Repository, git_server, until
from support.kubernetes.own_control_plane import OwnControlPlane, open_own_control_plane

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-faults"

MANY = 500

_PRIORITY = "/apis/flowcontrol.apiserver.k8s.io/v1"


@attrs.define
class Faults:
    lab: Lab
    cluster: OwnControlPlane

    def repository(self, prefix: str, count: int, **values: str) -> Repository:
        return self.lab.repository({"many.yaml": many(prefix, count, **values)})

    def decryptor(self, name: str, repository: Repository, **spec: Any) -> dict[str, Any]:
        """A Decryptor of the file that is not encrypted; it is not applied here."""
        made: dict[str, Any] = self.lab.decryptor(NAMESPACE, name, repository.url)
        del made["spec"]["source"]["fileToDecrypt"]
        made["spec"]["source"]["files"] = ["*.yaml"]
        made["spec"] |= spec
        return made

    def apply(self, decryptor: Mapping[str, Any]) -> None:
        self.lab.admin.apply(dict(decryptor)).ok()

    def there(self, prefix: str) -> int:
        """How many of the ConfigMaps there are."""
        listed = self.lab.admin.call("GET", f"/api/v1/namespaces/{NAMESPACE}/configmaps").ok()["items"]
        return sum(item["metadata"]["name"].startswith(f"{prefix}-") for item in listed)

    def until_there(self, prefix: str, at_least: int) -> None:
        until(f"{at_least} objects of {prefix} are there", lambda: self.there(prefix) >= at_least)

    def delete(self, name: str) -> None:
        self.lab.admin.call("DELETE", f"/apis/jiemi.cr/v1alpha1/namespaces/{NAMESPACE}/decryptors/{name}").ok()


def many(prefix: str, count: int, **values: str) -> bytes:
    """A file of ConfigMaps."""
    data = values or {"greeting": "one"}
    objects = (
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{prefix}-{number}"}, "data": data}
        for number in range(count)
    )
    return "\n---\n".join(json.dumps(each) for each in objects).encode()


@pytest.fixture(scope="module")
def faults(tools: dict[str, Path]) -> Iterator[Faults]:
    """A control plane that may be ended and held still, and a Miwen with a user of its own."""
    parent = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with (
        tempfile.TemporaryDirectory(prefix="jiemi-faults-", dir=parent) as name,
        git_server(Path(name)) as git,
        open_own_control_plane(Path(name)) as (cluster, admin),
    ):
        lab = Lab(admin, cluster.kubeconfig, tools, git, Path(name))
        lab.namespace(NAMESPACE)
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "miwen", "namespace": NAMESPACE}}
        admin.apply(account).ok()
        admin.apply(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": "faults-miwen"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
                "subjects": [{"kind": "ServiceAccount", "name": "miwen", "namespace": NAMESPACE}],
            }
        ).ok()
        _, address = lab.start_krapao()
        kubeconfig = lab.service_account_kubeconfig(NAMESPACE, "miwen")
        lab.start_miwen(address, NAMESPACE, interval="1s", kubeconfig=kubeconfig)
        try:
            yield Faults(lab, cluster)
        finally:
            lab.end_services()


def test_500_objects_of_one_decryptor_are_applied_and_reported(faults: Faults) -> None:
    repository = faults.repository("all", MANY)
    faults.apply(faults.decryptor("all", repository, prune=True))
    status = faults.lab.until_synced(NAMESPACE, "all", repository.run("rev-parse", "HEAD"))
    assert faults.there("all") == len(status["inventory"]) == MANY
    repository.commit({"many.yaml": many("all", 3)})
    status = faults.lab.until_synced(NAMESPACE, "all", repository.run("rev-parse", "HEAD"))
    assert faults.there("all") == len(status["inventory"]) == 3


def test_the_api_server_is_restarted_in_the_middle_of_an_apply(faults: Faults) -> None:
    repository = faults.repository("restart", MANY)
    faults.apply(faults.decryptor("restart", repository))
    faults.until_there("restart", 20)
    faults.cluster.kill("kube-apiserver")
    time.sleep(2)
    faults.cluster.start()
    status = faults.lab.until_synced(NAMESPACE, "restart", repository.run("rev-parse", "HEAD"))
    assert faults.there("restart") == len(status["inventory"]) == MANY
    assert (status["current"]["id"], status["history"]) == (1, [])
    told = [line for line in faults.lab.logs().splitlines() if '"restart"' in line and "ClusterUnavailable" in line]
    assert told, "it was no restart in the middle"


def test_etcd_is_lost_for_30_seconds(faults: Faults) -> None:
    repository = faults.repository("etcd", 50, greeting="one")
    faults.apply(faults.decryptor("etcd", repository))
    faults.lab.until_synced(NAMESPACE, "etcd", repository.run("rev-parse", "HEAD"))
    with faults.cluster.held("etcd"):
        revision = repository.commit({"many.yaml": many("etcd", 50, greeting="two")})
        time.sleep(30)
    status = faults.lab.until_synced(NAMESPACE, "etcd", revision)
    assert [entry["id"] for entry in status["history"]] == [1]
    found = faults.lab.admin.call("GET", f"/api/v1/namespaces/{NAMESPACE}/configmaps/etcd-49").ok()
    assert found["data"] == {"greeting": "two"}


def test_a_decryptor_that_takes_its_objects_with_it_is_deleted_in_the_middle_of_an_apply(faults: Faults) -> None:
    repository = faults.repository("cleaned", MANY)
    faults.apply(faults.decryptor("cleaned", repository, deletionPolicy="Delete"))
    faults.until_there("cleaned", 20)
    faults.delete("cleaned")
    path = f"/apis/jiemi.cr/v1alpha1/namespaces/{NAMESPACE}/decryptors/cleaned"
    until("the Decryptor is gone", lambda: faults.lab.admin.call("GET", path).status == 404)
    assert faults.there("cleaned") == 0
    time.sleep(2)
    assert faults.there("cleaned") == 0


def test_a_decryptor_that_leaves_its_objects_is_deleted_in_the_middle_of_an_apply(faults: Faults) -> None:
    repository = faults.repository("orphaned", MANY)
    faults.apply(faults.decryptor("orphaned", repository))
    faults.until_there("orphaned", 20)
    faults.delete("orphaned")
    time.sleep(2)  # what was on its way arrives
    left = faults.there("orphaned")
    assert 20 <= left < MANY
    time.sleep(2)
    assert faults.there("orphaned") == left


def test_the_spec_changes_in_the_middle_of_an_apply(faults: Faults) -> None:
    repository = faults.repository("before", MANY)
    repository.commit({"other/few.yaml": many("after", 3)})
    decryptor = faults.decryptor("changed", repository, prune=True)
    faults.apply(decryptor)
    faults.until_there("before", 20)
    assert faults.there("before") < MANY
    decryptor["spec"]["source"]["files"] = ["other/*.yaml"]
    faults.apply(decryptor)

    def is_done() -> bool:
        status = faults.lab.status(NAMESPACE, "changed")
        return bool(status["current"]["status"] == "Sync" and len(status["inventory"]) == 3)

    until("the new spec is followed", is_done)
    assert (faults.there("before"), faults.there("after")) == (0, 3)


def test_another_that_writes_the_same_objects_all_the_time_does_not_keep_them_from_being_applied(
    faults: Faults,
) -> None:
    repository = faults.repository("busy", 3, greeting="one")
    faults.apply(faults.decryptor("busy", repository))
    faults.lab.until_synced(NAMESPACE, "busy", repository.run("rev-parse", "HEAD"))
    ended = threading.Event()

    def write() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            patch = {"metadata": {"annotations": {"other.example/count": str(number)}}}
            path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/busy-{number % 3}?fieldManager=busy"
            faults.lab.admin.call("PATCH", path, patch, "application/merge-patch+json")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for greeting in ("two", "three", "four"):
            revision = repository.commit({"many.yaml": many("busy", 3, greeting=greeting)})
            status = faults.lab.until_synced(NAMESPACE, "busy", revision)
            assert status["current"]["error_message"] is None
    finally:
        ended.set()
        writer.join()
    found = faults.lab.admin.call("GET", f"/api/v1/namespaces/{NAMESPACE}/configmaps/busy-1").ok()
    assert found["data"] == {"greeting": "four"}
    assert "other.example/count" in found["metadata"]["annotations"]


def test_an_api_server_that_asks_to_be_spared_is_spared_and_asked_again(faults: Faults) -> None:
    """Priority and fairness gives Miwen's user one seat for a while, and others take it: 429 with Retry-After."""
    admin = faults.lab.admin
    repository = faults.repository("spared", 3, greeting="one")
    faults.apply(faults.decryptor("spared", repository))
    faults.lab.until_synced(NAMESPACE, "spared", repository.run("rev-parse", "HEAD"))
    level = {
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "PriorityLevelConfiguration",
        "metadata": {"name": "no-seat"},
        "spec": {
            "type": "Limited",
            "limited": {
                "nominalConcurrencyShares": 0,
                "lendablePercent": 0,
                "borrowingLimitPercent": 0,
                "limitResponse": {"type": "Reject"},
            },
        },
    }
    schema = {
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "FlowSchema",
        "metadata": {"name": "no-seat-for-miwen"},
        "spec": {
            "priorityLevelConfiguration": {"name": "no-seat"},
            "matchingPrecedence": 2,
            "rules": [
                {
                    "subjects": [
                        {"kind": "ServiceAccount", "serviceAccount": {"name": "miwen", "namespace": NAMESPACE}}
                    ],
                    "resourceRules": [
                        {
                            "verbs": ["*"],
                            "apiGroups": ["*"],
                            "resources": ["*"],
                            "namespaces": ["*"],
                            "clusterScope": True,
                        }
                    ],
                }
            ],
        },
    }
    admin.apply(level).ok()
    admin.apply(schema).ok()
    account = admin.service_account(NAMESPACE, "miwen")
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/spared-0"
    ended, refused = threading.Event(), []

    def ask() -> None:
        """Take the one seat that even such a level has, as often as it is free."""
        while not ended.is_set():
            if account.call("GET", f"/api/v1/namespaces/{NAMESPACE}/configmaps").status == 429:
                refused.append(1)

    crowd = [threading.Thread(target=ask) for _ in range(6)]
    for each in crowd:
        each.start()
    numbers = itertools.count()

    def miwen_is_refused() -> bool:
        """Give Miwen something to write, and see whether it was refused: more often than those of the crowd were."""
        body = {"metadata": {"annotations": {"jiemi.cr/reconcile-at": str(next(numbers))}}}
        admin.call(
            "PATCH",
            f"/apis/jiemi.cr/v1alpha1/namespaces/{NAMESPACE}/decryptors/spared",
            body,
            "application/merge-patch+json",
        ).ok()
        time.sleep(0.5)
        return _rejected(admin.text("/metrics")) > len(refused) + len(crowd)

    try:
        until("its user is refused", lambda: refused)
        revision = repository.commit({"many.yaml": many("spared", 3, greeting="two")})
        until("Miwen is refused", miwen_is_refused, seconds=60)
    finally:
        ended.set()
        for each in crowd:
            each.join()
        admin.call("DELETE", f"{_PRIORITY}/flowschemas/no-seat-for-miwen").ok()
    status = faults.lab.until_synced(NAMESPACE, "spared", revision)
    assert [entry["id"] for entry in status["history"]] == [1]
    assert admin.call("GET", path).ok()["data"] == {"greeting": "two"}


def _rejected(metrics: str) -> int:
    lines = [line for line in metrics.splitlines() if line.startswith("apiserver_flowcontrol_rejected_requests_total{")]
    return sum(int(float(line.rpartition(" ")[2])) for line in lines if "no-seat-for-miwen" in line)
