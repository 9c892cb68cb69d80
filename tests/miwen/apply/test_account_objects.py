"""A missing right of a ServiceAccount that does not exist is reported as the missing account."""

from __future__ import annotations

import pytest
from contract.kubernetes_parts import failure_of
from fakes.kubernetes import FakeKubernetes
from fakes.kubernetes_cluster import FakeCluster

from jiemi.core.objects.identity import ObjectRef
from jiemi.miwen.apply.account_objects import as_account
from jiemi.miwen.kubernetes.port import Account

ACCOUNT = Account("team", "deployer")
SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}
REF = ObjectRef("v1", "Secret", "team", "a")


@pytest.fixture
def cluster() -> FakeCluster:
    cluster = FakeCluster()
    cluster.account_rights["team/deployer"] = set()
    cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})
    cluster.put({**SECRET, "metadata": {"name": "a", "namespace": "team"}})
    return cluster


async def test_an_account_that_is_not_there_is_reported_whatever_is_asked_for(cluster: FakeCluster) -> None:
    objects = as_account(FakeKubernetes(cluster), ACCOUNT)
    for doing in (
        objects.apply(SECRET, default_namespace="team"),
        objects.dry_run(SECRET, default_namespace="team"),
        objects.get(REF),
        objects.get_metadata(REF),
        objects.delete(REF, uid="u"),
        objects.remove_fields(REF, [("data", "a")], resource_version="1"),
    ):
        reason, text = await failure_of(doing)
        assert reason == "ServiceAccountNotFound"
        assert "there is no ServiceAccount team/deployer, which spec.serviceAccountName" in text
        assert "Create the ServiceAccount" in text


async def test_of_one_that_is_there_the_right_is_reported(cluster: FakeCluster) -> None:
    cluster.put({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "deployer", "namespace": "team"}})
    objects = as_account(FakeKubernetes(cluster), ACCOUNT)
    reason, text = await failure_of(objects.apply(SECRET, default_namespace="team"))
    assert reason == "ApplyForbidden"
    assert "to ServiceAccount team/deployer in namespace team" in text


async def test_where_miwen_may_not_look_the_right_is_reported(cluster: FakeCluster) -> None:
    kubernetes = FakeKubernetes(cluster)
    kubernetes.deny("get", "serviceaccounts")
    reason, _ = await failure_of(as_account(kubernetes, ACCOUNT).get(REF))
    assert reason == "ReadForbidden"
