"""What a repository's writer may have Miwen write: no right, and nobody's credentials.

Miwen runs as its ServiceAccount with the rights that deploy/ gives. A writer can push, and knows the names of things in
the cluster; he has no right there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from support.e2e.lab import Lab, Repository, until
from support.e2e.listener import Listener, listener
from support.e2e.scene import Scene, condition, config_map, listed, secret
from support.kubernetes.api_server import ApiServer

pytestmark = pytest.mark.e2e

RBAC = "rbac.authorization.k8s.io"
CANARY = "canary-token-of-somebody-else-5f1c"


@attrs.frozen
class Attack:
    """A writer of a followed repository, and what he is after.

    Attributes:
        mine: the namespace whose Decryptor follows the writer's repository.
        theirs: another tenant's namespace.
        stranger: the writer's own server.
        repository: which he may push to.
    """

    mine: Scene
    theirs: Scene
    stranger: Listener
    repository: Repository

    def decryptor(self, scene: Scene, name: str, **provider: Any) -> dict[str, Any]:
        """A Decryptor that sends the Secret `other` to the writer's server."""
        value = {"secretName": "other", "key": "token"}
        return scene.lab.decryptor(
            scene.namespace,
            name,
            f"{self.stranger.url}/x.git",
            provider=provider or None,
            repository={"credentials": {"username": {"literal": "x"}, "token": value}},
        )

    def unchanged(self, scene: Scene, name: str) -> bool:
        """Whether a Decryptor still follows what it is meant to."""
        spec = scene.get(name)["spec"]
        return self.stranger.url not in json.dumps(spec) and scene.get(name)["metadata"]["generation"] == 1


@pytest.fixture(scope="module")
def attack(lab: Lab, installed: ApiServer) -> Iterator[Attack]:
    mine, theirs = Scene(lab, lab.namespace("e2e-rights-mine")), Scene(lab, lab.namespace("e2e-rights-theirs"))
    for scene in (mine, theirs):
        lab.secret(scene.namespace, "other", token=CANARY)
    with listener() as stranger:
        _, address = lab.start_krapao(name="rights")
        kubeconfig = lab.service_account_kubeconfig("jiemi", "miwen")
        lab.start("miwen", "--krapao", address, "--kubeconfig", kubeconfig, "--interval", "1s")
        yield Attack(mine, theirs, stranger, lab.repository())
        lab.end_services()
        assert CANARY not in lab.logs()


def _follow(attack: Attack, name: str) -> Repository:
    """A Decryptor of a repository of its own with one file, and a glob for what comes beside it."""
    repository = attack.mine.lab.repository()
    attack.mine.commit(repository, secret(name, a="one"))
    source = {"files": ["plain/**/*.yaml"]}
    attack.mine.put(name, repository.url, source=source)
    until("it is applied", lambda: attack.mine.data(name) == {"a": "one"}, on_failure=lambda: attack.mine.status(name))
    return repository


@pytest.mark.parametrize("way", ["encrypted", "plain", "a List"])
def test_a_decryptor_out_of_a_repository_is_not_applied(attack: Attack, way: str) -> None:
    name = f"own-{way.rpartition(' ')[2].lower()}"
    attack.theirs.follow(f"their-{name}", secret(f"their-{name}", a="theirs"))
    repository = _follow(attack, name)
    evil = [attack.decryptor(attack.mine, name), attack.decryptor(attack.theirs, f"their-{name}")]
    plain = {
        "encrypted": {"secret.enc.yaml": attack.mine.lab.encrypt(listed(secret(name, a="two"), *evil))},
        "plain": {"plain/a.yaml": json.dumps(evil[0]).encode(), "plain/b.yaml": json.dumps(evil[1]).encode()},
        "a List": {"plain/a.yaml": listed(*evil).encode()},
    }[way]
    if way != "encrypted":
        plain["secret.enc.yaml"] = attack.mine.lab.encrypt(listed(secret(name, a="two")))
    revision = repository.commit(plain)
    status = until(
        "both are refused",
        lambda: (
            (found := attack.mine.status(name)).get("lastAttemptedRevision") == revision
            and len(found.get("failedObjects", ())) == 2
            and found
        ),
        on_failure=lambda: attack.mine.lab._why(attack.mine.namespace, name),
    )
    assert {each["reason"] for each in status["failedObjects"]} == {"ObjectProtected"}
    assert {each["kind"] for each in status["failedObjects"]} == {"Decryptor"}
    assert condition(status, "Ready")["reason"] == "ObjectProtected"
    assert "serviceAccountName" in condition(status, "Ready")["message"]
    assert attack.mine.data(name) == {"a": "two"}, "the others are applied"
    assert attack.unchanged(attack.mine, name)
    assert attack.unchanged(attack.theirs, f"their-{name}")
    assert attack.stranger.heard(CANARY) == []
    assert attack.stranger.requests == []


def _refused(attack: Attack, name: str, *manifests: dict[str, Any]) -> list[dict[str, Any]]:
    """What is told of the objects that were refused, once the others of the commit are applied."""
    repository = attack.mine.lab.repository()
    revision = attack.mine.commit(repository, secret(name, a="one"), *manifests)
    attack.mine.put(name, repository.url)
    status = until(
        "they are refused",
        lambda: (
            (found := attack.mine.status(name)).get("lastAttemptedRevision") == revision
            and len(found.get("failedObjects", ())) == len(manifests)
            and found
        ),
        on_failure=lambda: attack.mine.lab._why(attack.mine.namespace, name),
    )
    assert attack.mine.data(name) == {"a": "one"}, "the others are applied"
    failed: list[dict[str, Any]] = status["failedObjects"]
    return failed


def test_a_repository_gets_no_credential_of_the_clusters(attack: Attack) -> None:
    namespace = attack.theirs.namespace
    token = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "token",
            "namespace": namespace,
            "annotations": {"kubernetes.io/service-account.name": "default"},
        },
        "type": "kubernetes.io/service-account-token",
    }
    bootstrap = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {"token-id": "abcdef", "token-secret": "0123456789abcdef"},
    }
    failed = _refused(attack, "tokens", token, bootstrap)
    assert {each["reason"] for each in failed} == {"ObjectProtected"}
    assert attack.theirs.object(f"/api/v1/namespaces/{namespace}/secrets/token") is None
    assert attack.theirs.object("/api/v1/namespaces/kube-system/secrets/bootstrap-token-abcdef") is None


def test_a_repository_writes_nothing_of_jiemis_own_or_of_the_clusters_namespaces(attack: Attack) -> None:
    known = "/api/v1/namespaces/jiemi/configmaps/krapao-ssh-known-hosts"
    before = attack.mine.object(known)
    hosts = config_map("krapao-ssh-known-hosts", "jiemi", ssh_known_hosts="github.com ssh-rsa evil")
    failed = _refused(
        attack, "spaces", hosts, secret("krapao-session", "jiemi", a="b"), config_map("aws-auth", "kube-system", a="b")
    )
    assert {each["reason"] for each in failed} == {"ObjectProtected"}
    assert attack.mine.object(known) == before
    assert attack.mine.object("/api/v1/namespaces/kube-system/configmaps/aws-auth") is None


def test_a_repository_changes_no_authorities_and_has_the_cluster_delete_nothing_elsewhere(attack: Attack) -> None:
    theirs = attack.theirs
    path = theirs.config_path("kube-root-ca.crt")
    until("the cluster has published its authorities", lambda: theirs.object(path) is not None)
    before = [theirs.object(theirs.secret_path("other")), theirs.object(path)]
    orphan = secret("other", theirs.namespace, token="x")
    orphan["metadata"]["ownerReferences"] = [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "u"}]
    authorities = config_map("kube-root-ca.crt", theirs.namespace, **{"ca.crt": "the writer's"})
    failed = _refused(attack, "deleters", orphan, authorities)
    assert {each["reason"] for each in failed} == {"ObjectProtected"}
    after = [theirs.object(theirs.secret_path("other")), theirs.object(path)]
    assert after == before


def _grant_for_miwen(attack: Attack, name: str, *resources: str) -> Callable[[], object]:
    """Let Miwen write kinds of RBAC's, as docs/operations.md has it. Returns what takes that back."""
    admin = attack.mine.lab.admin
    rules = [{"apiGroups": [RBAC], "resources": list(resources), "verbs": ["get", "create", "patch"]}]
    about = {"apiVersion": f"{RBAC}/v1", "metadata": {"name": name}}
    admin.apply({**about, "kind": "ClusterRole", "rules": rules}).ok()
    role = {"apiGroup": RBAC, "kind": "ClusterRole", "name": name}
    account = {"kind": "ServiceAccount", "name": "miwen", "namespace": "jiemi"}
    admin.apply({**about, "kind": "ClusterRoleBinding", "roleRef": role, "subjects": [account]}).ok()
    return lambda: admin.call("DELETE", f"/apis/{RBAC}/v1/clusterrolebindings/{name}").ok()


def test_what_others_have_set_of_a_role_or_binding_counts_though_the_manifest_does_not_say_it(attack: Attack) -> None:
    """An apply leaves a label and a role's name as they are, and Miwen has the rights that are granted here."""
    admin, namespace = attack.mine.lab.admin, attack.theirs.namespace
    revoke = _grant_for_miwen(attack, "e2e-rights-whole", "clusterroles", "rolebindings")
    role: dict[str, Any] = {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": "e2e-rights-view"}}
    binding: dict[str, Any] = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "jiemi-miwen", "namespace": namespace},
    }
    labels = {f"{RBAC}/aggregate-to-view": "true"}
    admin.apply({**role, "metadata": {**role["metadata"], "labels": labels}, "rules": []}).ok()
    own_role = {"apiGroup": RBAC, "kind": "ClusterRole", "name": "jiemi-miwen"}
    admin.apply({**binding, "roleRef": own_role, "subjects": []}).ok()
    discovery = f"/apis/{RBAC}/v1/clusterroles/system:basic-user"
    paths = [
        f"/apis/{RBAC}/v1/clusterroles/e2e-rights-view",
        f"/apis/{RBAC}/v1/namespaces/{namespace}/rolebindings/jiemi-miwen",
        discovery,
    ]
    before = [attack.mine.object(path) for path in paths]
    assert None not in before
    rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]
    account = {"kind": "ServiceAccount", "name": "default", "namespace": attack.mine.namespace}
    failed = _refused(
        attack,
        "whole",
        {**role, "rules": rules},
        {**binding, "subjects": [account]},
        {**role, "metadata": {"name": "system:basic-user"}, "rules": rules},
    )
    assert {each["reason"] for each in failed} == {"ObjectProtected"}, failed
    assert [attack.mine.object(path) for path in paths] == before
    revoke()


def test_a_repository_writes_no_webhook_even_where_miwen_has_the_right(attack: Attack) -> None:
    role = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "e2e-rights-extra"},
        "rules": [
            {"apiGroups": ["admissionregistration.k8s.io"], "resources": ["*"], "verbs": ["*"]},
            {"apiGroups": [RBAC], "resources": ["clusterroles", "rolebindings"], "verbs": ["*"]},
        ],
    }
    binding = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "e2e-rights-extra"},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "e2e-rights-extra"},
        "subjects": [{"kind": "ServiceAccount", "name": "miwen", "namespace": "jiemi"}],
    }
    for manifest in (role, binding):
        attack.mine.lab.admin.apply(manifest).ok()
    webhook = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "e2e-rights"},
        "webhooks": [],
    }
    own_policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "jiemi-miwen-decryptors"},
        "spec": {"validations": [{"expression": "true"}]},
    }
    handed_out = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "handed-out", "namespace": attack.mine.namespace},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "jiemi-miwen"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": attack.mine.namespace}],
    }
    failed = _refused(attack, "hooks", webhook, own_policy, handed_out)
    assert {each["reason"] for each in failed} == {"ObjectProtected"}
    told = {each["kind"]: each["message"] for each in failed}
    name = "ValidatingWebhookConfiguration.admissionregistration.k8s.io"
    assert f"--allow-protected {name}" in told["ValidatingWebhookConfiguration"]
    attack.mine.lab.admin.call("DELETE", f"/apis/{RBAC}/v1/clusterrolebindings/e2e-rights-extra").ok()


def test_a_role_that_gives_more_than_miwen_has_is_refused_by_the_api_server(attack: Attack) -> None:
    # Roles are applied where the operator granted them: RBAC's own rule bounds them, as docs/operations.md says.
    revoke = _grant_for_miwen(attack, "e2e-rights-roles", "roles")

    def role(name: str, resource: str) -> dict[str, Any]:
        rules = [{"apiGroups": [""], "resources": [resource], "verbs": ["get"]}]
        return {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": {"name": name}, "rules": rules}

    repository = attack.mine.lab.repository()
    attack.mine.commit(repository, role("within", "configmaps"), role("beyond", "nodes"))
    attack.mine.put("roles", repository.url)
    path = f"/apis/{RBAC}/v1/namespaces/{attack.mine.namespace}/roles"
    until("the one within its rights is applied", lambda: attack.mine.object(f"{path}/within"))
    status = until("the other is refused", lambda: attack.mine.status("roles").get("failedObjects"))
    assert [each["name"] for each in status] == ["beyond"]
    assert attack.mine.object(f"{path}/beyond") is None
    revoke()


def test_a_decryptor_in_jiemis_own_namespace_sends_no_secret_of_it(attack: Attack) -> None:
    own = Scene(attack.mine.lab, "jiemi")
    own.lab.secret("jiemi", "other", token=CANARY)
    own.lab.admin.apply(attack.decryptor(own, "beside")).ok()
    try:
        own.lab.until_reason("jiemi", "beside", "NamespaceProtected")
        assert attack.stranger.requests == []
    finally:
        own.delete_decryptor("beside")
        own.lab.admin.call("DELETE", own.secret_path("other"))
