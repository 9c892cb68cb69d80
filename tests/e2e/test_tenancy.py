"""Who may do what: impersonation of a tenant's ServiceAccount, the flags that lock a cluster down, two Miwens.

Each Miwen here is a ServiceAccount with the rights that deploy/ gives, and RBAC is enforced.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from support.e2e.lab import Lab, until
from support.e2e.scene import Scene, condition, config_map, secret
from support.kubernetes.api_server import ApiServer
from support.kubernetes.deploy_manifests import DEPLOY, read_kustomization

pytestmark = pytest.mark.e2e

RBAC = "rbac.authorization.k8s.io"


@attrs.frozen
class Tenants:
    """Three Miwens, each with a namespace of its own.

    Attributes:
        free: may impersonate; no flag.
        locked: may impersonate; --default-service-account tenant --no-cross-namespace.
        plain: may not impersonate; no flag.
        shared: a namespace of nobody.
    """

    free: Scene
    locked: Scene
    plain: Scene
    shared: str


@pytest.fixture(scope="module")
def tenants(lab: Lab, installed: ApiServer) -> Iterator[Tenants]:
    for manifest in read_kustomization(DEPLOY / "impersonation"):
        installed.apply(manifest).ok()
    plain_account = {"kind": "ServiceAccount", "name": "plain-miwen", "namespace": "jiemi"}
    metadata = {"name": "plain-miwen", "namespace": "jiemi"}
    installed.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}).ok()
    installed.apply(
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "plain-miwen"},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "jiemi-miwen"},
            "subjects": [plain_account],
        }
    ).ok()
    impersonating = lab.service_account_kubeconfig("jiemi", "miwen")
    not_impersonating = lab.service_account_kubeconfig("jiemi", "plain-miwen")
    _, address = lab.start_krapao(name="tenancy")
    free, locked, plain = (Scene(lab, lab.namespace(f"e2e-tenants-{name}")) for name in ("free", "locked", "plain"))
    lab.start_miwen(address, free.namespace, interval="1s", kubeconfig=impersonating)
    flags = ("--default-service-account", "tenant", "--no-cross-namespace")
    lab.start_miwen(address, locked.namespace, *flags, interval="1s", kubeconfig=impersonating)
    lab.start_miwen(address, plain.namespace, interval="1s", kubeconfig=not_impersonating)
    yield Tenants(free, locked, plain, lab.namespace("e2e-tenants-shared"))
    lab.end_services()
    for kind, name in (("clusterrolebindings", "jiemi-miwen-impersonation"), ("clusterrolebindings", "plain-miwen")):
        installed.call("DELETE", f"/apis/{RBAC}/v1/{kind}/{name}").ok()


def _grant(scene: Scene, account: str, **verbs: str) -> None:
    """Give a ServiceAccount rights in its namespace, and no others: secrets="get create patch"."""
    place = {"namespace": scene.namespace, "name": account}
    rules = [{"apiGroups": [""], "resources": [name], "verbs": words.split()} for name, words in verbs.items()]
    admin = scene.lab.admin
    admin.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": place}).ok()
    admin.apply({"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": place, "rules": rules}).ok()
    admin.apply(
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": place,
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": account},
            "subjects": [{"kind": "ServiceAccount", **place}],
        }
    ).ok()


def _service_account(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}


def test_objects_are_applied_with_the_rights_of_the_account_and_no_others(tenants: Tenants) -> None:
    scene = tenants.free
    # What Miwen itself may not, and not what Miwen itself may.
    verbs = "get create patch"
    _grant(scene, "team", secrets=verbs, serviceaccounts=verbs, configmaps="get")
    repository, _ = scene.follow("team", secret("team", a="one"), _service_account("made"), serviceAccountName="team")
    assert scene.data("team") == {"a": "one"}
    assert scene.object(f"/api/v1/namespaces/{scene.namespace}/serviceaccounts/made") is not None

    revision = scene.commit(repository, secret("team", a="two"), _service_account("made"), config_map("team", a="one"))
    status = scene.lab.until_reason(scene.namespace, "team", "ApplyForbidden")
    message = condition(status, "Ready")["message"]
    for word in ("ConfigMap", "configmaps", "patch", scene.namespace, "team"):
        assert word in message, message
    assert f"to ServiceAccount {scene.namespace}/team" in message, "Miwen's own rights are not what is missing"
    [failed] = status["failedObjects"]
    assert (failed["kind"], failed["reason"]) == ("ConfigMap", "ApplyForbidden")
    assert scene.data("team") == {"a": "two"}, "the others are applied"
    assert condition(status, "Stalled")

    _grant(scene, "team", secrets=verbs, serviceaccounts=verbs, configmaps=verbs)
    scene.until_settled("team", revision)
    assert (scene.object(scene.config_path("team")) or {})["data"] == {"a": "one"}


def test_objects_are_pruned_as_the_account(tenants: Tenants) -> None:
    scene = tenants.free
    _grant(scene, "pruner", secrets="get create patch")
    repository, _ = scene.follow(
        "pruner", secret("stays", a="one"), secret("goes", a="one"), serviceAccountName="pruner", prune=True
    )
    revision = scene.commit(repository, secret("stays", a="one"))
    status = scene.lab.until_reason(scene.namespace, "pruner", "DeleteForbidden")
    message = condition(status, "Ready")["message"]
    for word in ("Secret", "goes", "delete", "pruner"):
        assert word in message, message
    assert scene.data("goes") == {"a": "one"}
    _grant(scene, "pruner", secrets="get create patch delete")
    until("it is pruned", lambda: scene.object(scene.secret_path("goes")) is None)
    scene.until_settled("pruner", revision)


def test_objects_go_with_the_decryptor_as_the_account(tenants: Tenants) -> None:
    scene = tenants.free
    _grant(scene, "leaver", secrets="get create patch")
    scene.follow("leaver", secret("leaver", a="one"), serviceAccountName="leaver", deletionPolicy="Delete")
    scene.lab.admin.call("DELETE", scene.path("leaver")).ok()
    scene.lab.until_reason(scene.namespace, "leaver", "DeleteForbidden")
    assert scene.data("leaver") == {"a": "one"}
    _grant(scene, "leaver", secrets="get create patch delete")
    until("the Decryptor is gone", lambda: scene.lab.admin.call("GET", scene.path("leaver")).status == 404)
    assert scene.object(scene.secret_path("leaver")) is None


def test_an_account_that_does_not_exist_may_nothing(tenants: Tenants) -> None:
    scene = tenants.free
    repository = scene.lab.repository()
    scene.commit(repository, secret("nobody", a="one"))
    scene.put("nobody", repository.url, serviceAccountName="nobody")
    status = scene.lab.until_reason(scene.namespace, "nobody", "ServiceAccountNotFound")
    assert f"there is no ServiceAccount {scene.namespace}/nobody" in condition(status, "Ready")["message"]
    assert scene.object(scene.secret_path("nobody")) is None


def test_drift_of_what_an_account_applied_is_corrected_as_the_account(tenants: Tenants) -> None:
    scene = tenants.free
    _grant(scene, "drifter", secrets="get create patch")
    scene.follow("drifter", secret("drifter", a="one"), serviceAccountName="drifter", interval="10m")
    scene.lab.admin.call("DELETE", scene.secret_path("drifter")).ok()
    until("it is back", lambda: scene.data("drifter") == {"a": "one"}, seconds=5)
    _grant(scene, "drifter", secrets="get")
    scene.lab.admin.call("DELETE", scene.secret_path("drifter")).ok()
    status = scene.lab.until_reason(scene.namespace, "drifter", "ApplyForbidden")
    assert "drifter" in condition(status, "Ready")["message"]
    assert scene.object(scene.secret_path("drifter")) is None


def test_without_the_right_to_impersonate_the_message_says_what_to_grant(tenants: Tenants) -> None:
    scene = tenants.plain
    _grant(scene, "team", secrets="get create patch")
    repository = scene.lab.repository()
    revision = scene.commit(repository, secret("plain", a="one"))
    scene.put("plain", repository.url, serviceAccountName="team")
    status = scene.lab.until_reason(scene.namespace, "plain", "ImpersonationForbidden")
    message = condition(status, "Ready")["message"]
    for word in ("impersonate", "serviceaccounts", "team", scene.namespace):
        assert word in message, message
    assert condition(status, "Stalled")
    assert scene.object(scene.secret_path("plain")) is None
    # Without an account, Miwen's own rights do.
    scene.put("plain", repository.url)
    scene.until_settled("plain", revision)
    assert scene.data("plain") == {"a": "one"}
    # Granting what the message says is enough.
    scene.put("plain", repository.url, serviceAccountName="team")
    scene.lab.until_reason(scene.namespace, "plain", "ImpersonationForbidden")
    place = {"name": "impersonate-team", "namespace": scene.namespace}
    rule = {"apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": ["team"], "verbs": ["impersonate"]}
    scene.lab.admin.apply({"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": place, "rules": [rule]}).ok()
    scene.lab.admin.apply(
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": place,
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "impersonate-team"},
            "subjects": [{"kind": "ServiceAccount", "name": "plain-miwen", "namespace": "jiemi"}],
        }
    ).ok()
    scene.until_settled("plain", revision)


def test_a_default_account_is_used_where_the_spec_names_none(tenants: Tenants) -> None:
    scene = tenants.locked
    _grant(scene, "tenant", secrets="get")
    _grant(scene, "other", secrets="get create patch")
    repository = scene.lab.repository()
    revision = scene.commit(repository, secret("default", a="one"))
    scene.put("default", repository.url)
    status = scene.lab.until_reason(scene.namespace, "default", "ApplyForbidden")
    assert "tenant" in condition(status, "Ready")["message"]
    assert scene.object(scene.secret_path("default")) is None
    scene.put("default", repository.url, serviceAccountName="other")
    scene.until_settled("default", revision)
    assert scene.data("default") == {"a": "one"}


def test_with_no_cross_namespace_nothing_outside_is_written_or_named(tenants: Tenants) -> None:
    scene = tenants.locked
    # Even where the account may: the flag is what forbids.
    _grant(scene, "wide", secrets="get create patch")
    place = {"namespace": tenants.shared, "name": "wide"}
    rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "create", "patch"]}
    binding = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": place,
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "wide"},
        "subjects": [{"kind": "ServiceAccount", "name": "wide", "namespace": scene.namespace}],
    }
    for manifest in ({"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": place, "rules": [rule]}, binding):
        scene.lab.admin.apply(manifest).ok()
    shared = f"/api/v1/namespaces/{tenants.shared}/secrets/crossing"
    repository = scene.lab.repository()
    scene.commit(repository, secret("crossing", a="one"))
    account = {"serviceAccountName": "wide"}

    scene.put("crossing", repository.url, targetNamespace=tenants.shared, **account)
    status = scene.lab.until_reason(scene.namespace, "crossing", "CrossNamespaceDenied")
    assert "targetNamespace" in condition(status, "Ready")["message"]
    assert condition(status, "Stalled")

    scene.put("crossing", repository.url, dependsOn=[{"name": "x", "namespace": tenants.shared}], **account)
    until(
        "dependsOn is refused",
        lambda: f"{tenants.shared}/x" in scene.condition("crossing", "Ready")["message"],
    )
    assert scene.condition("crossing", "Ready")["reason"] == "CrossNamespaceDenied"
    assert scene.object(scene.secret_path("crossing")) is None

    cluster_wide = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "e2e-tenants-made"}}
    revision = scene.commit(
        repository, secret("crossing", tenants.shared, a="one"), secret("inside", a="one"), cluster_wide
    )
    scene.put("crossing", repository.url, **account)
    until("the one inside is applied", lambda: scene.data("inside") == {"a": "one"})
    status = until(
        "the others are refused",
        lambda: (
            (found := scene.status("crossing")).get("lastAttemptedRevision") == revision
            and len(found.get("failedObjects", ())) == 2
            and found
        ),
    )
    told = {each["kind"]: each for each in status["failedObjects"]}
    assert {each["reason"] for each in told.values()} == {"CrossNamespaceDenied"}
    assert tenants.shared in told["Secret"]["message"]
    assert "in no namespace" in told["Namespace"]["message"]
    assert scene.object(shared) is None
    assert scene.object("/api/v1/namespaces/e2e-tenants-made") is None

    # Its own namespace may be named.
    last = scene.commit(repository, secret("crossing", scene.namespace, a="one"))
    scene.put("crossing", repository.url, targetNamespace=scene.namespace, serviceAccountName="wide")
    scene.until_settled("crossing", last)
    assert scene.data("crossing") == {"a": "one"}

    # Without the flag it is allowed.
    free = tenants.free
    free.follow("crossing", secret("crossing", a="free"), targetNamespace=tenants.shared)
    assert scene.lab.data(tenants.shared, "crossing") == {"a": "free"}


def test_two_miwens_that_see_one_namespace_each_keep_off_each_others_objects(tenants: Tenants) -> None:
    first, second = tenants.free, tenants.plain
    first.follow("mine", secret("wanted-by-both", a="first"), targetNamespace=tenants.shared)
    repository = second.lab.repository()
    revision = second.commit(repository, secret("wanted-by-both", a="second"), secret("only-second", a="one"))
    second.put("mine-too", repository.url, targetNamespace=tenants.shared)
    status = second.lab.until_reason(second.namespace, "mine-too", "ObjectClaimed")
    message = condition(status, "Ready")["message"]
    assert "wanted-by-both" in message
    assert f"{first.namespace}/mine" in message
    assert condition(status, "Stalled")
    assert second.lab.data(tenants.shared, "only-second") == {"a": "one"}
    time.sleep(2)  # some looks of both
    assert second.lab.data(tenants.shared, "wanted-by-both") == {"a": "first"}
    assert first.condition("mine", "Ready")["status"] == "True"
    assert first.events("mine", "Drifted") == []
    # Handed over: the first lets go of it, and its labels say so no more.
    first.lab.admin.call("DELETE", first.path("mine")).ok()
    first.lab.admin.call("DELETE", f"/api/v1/namespaces/{tenants.shared}/secrets/wanted-by-both").ok()
    second.until_settled("mine-too", revision)
    assert second.lab.data(tenants.shared, "wanted-by-both") == {"a": "second"}
