"""What is deployed is kept right while the newest version of its own file is refused; Krapao may have been restarted.

Miwen looks every 10 minutes here, so what is put right within seconds is so because it watches.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from support.e2e.lab import Lab, Repository, Service, until
from support.e2e.scene import Scene, config_map, secret

pytestmark = pytest.mark.e2e

FILE = "secret.enc.yaml"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@attrs.define
class Restartable:
    """A scene whose Krapao can be restarted."""

    scene: Scene
    krapao: Service

    def restart(self) -> None:
        """End Krapao, and start it again on the same address and volume."""
        self.krapao.end()
        (self.scene.lab.folder / "kept.sock").unlink(missing_ok=True)
        self.krapao, _ = self.scene.lab.start_krapao(name="kept")


@pytest.fixture(scope="module")
def restartable(lab: Lab) -> Iterator[Restartable]:
    namespace = lab.namespace("e2e-kept-right")
    krapao, address = lab.start_krapao(name="kept")
    lab.start_miwen(address, namespace, interval="10m")
    yield Restartable(Scene(lab, namespace), krapao)
    lab.end_services()


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _broken(scene: Scene, repository: Repository, name: str, how: str) -> str:
    """Commit a version of the file that can't be deployed; returns the reason."""
    encrypted = (repository.clone / FILE).read_bytes()
    if how == "MacMismatch":
        repository.commit({FILE: re.sub(rb"(?m)^type: .*\n", b"", encrypted)})
    elif how == "UnknownFormat":
        repository.commit({FILE: b"a: [\n" + encrypted})
    elif how == "NotEncrypted":
        repository.commit({FILE: b'{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}}'})
    elif how == "AdmissionDenied":
        _deny_labelled(scene)
        manifest = secret(name, a="two")
        scene.commit(repository, manifest | {"metadata": manifest["metadata"] | {"labels": {"denied": "yes"}}})
    elif how == "ApplyRejected":
        scene.commit(repository, secret(name, **{"a": "two", "no key": "x"}))
    else:
        repository.commit({FILE: None})
    return how


def _deny_labelled(scene: Scene) -> None:
    """See that a policy of the cluster refuses Secrets of the scene that have a label; it takes some seconds."""
    group, name = "admissionregistration.k8s.io/v1", "e2e-kept-right"
    spec = {
        "matchConstraints": {
            "resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["secrets"]}
            ]
        },
        "matchConditions": [{"name": "here", "expression": f"request.namespace == '{scene.namespace}'"}],
        "validations": [{"expression": "!has(object.metadata.labels) || !('denied' in object.metadata.labels)"}],
    }
    policy = {"apiVersion": group, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": spec}
    binding = {
        "apiVersion": group,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    }
    for manifest in (policy, binding):
        scene.lab.admin.apply(manifest).ok()
    probe = {"metadata": {"name": "probe", "labels": {"denied": "yes"}}}
    path = f"/api/v1/namespaces/{scene.namespace}/secrets?dryRun=All"
    until("the policy is in force", lambda: scene.lab.admin.call("POST", path, probe).status == 422)


@pytest.mark.parametrize(
    "how", ["MacMismatch", "UnknownFormat", "NotEncrypted", "ApplyRejected", "AdmissionDenied", "FileNotFound"]
)
def test_a_hacked_and_a_deleted_secret_come_back_while_their_file_is_refused(
    restartable: Restartable, how: str
) -> None:
    scene, name = restartable.scene, how.lower()
    repository, _ = scene.follow(name, secret(name, a="one") | {"type": "Opaque"})
    reason = _broken(scene, repository, name, how)
    scene.annotate(name, reconcile_at="broken")
    scene.until_condition(name, "Ready", "False", reason)
    scene.write(scene.secret_path(name), {"data": {"a": _b64("theirs")}})
    until("the value is back", lambda: scene.data(name) == {"a": "one"})
    restartable.restart()
    scene.lab.admin.call("DELETE", scene.secret_path(name)).ok()
    until("it is back", lambda: scene.object(scene.secret_path(name)) is not None)
    assert scene.data(name) == {"a": "one"}
    until("nothing differs", lambda: not scene.condition(name, "Drifted"))
    scene.until_event(name, "Drifted", "was deleted")
    assert scene.events(name, "DriftConflict") == []
    assert scene.condition(name, "Ready")["status"] == "False"
    last = scene.commit(repository, secret(name, a="three"))
    scene.annotate(name, reconcile_at="mended")
    scene.until_settled(name, last)
    assert scene.data(name) == {"a": "three"}
    scene.delete_decryptor(name)


# --- the cluster refuses what else the newest version of the file has


def _quota_of_config_maps(scene: Scene) -> str:
    """Let the namespace have no further ConfigMap."""
    path = f"/api/v1/namespaces/{scene.namespace}/resourcequotas"
    hard = {"count/configmaps": "0"}
    scene.lab.admin.call("POST", path, {"metadata": {"name": "full"}, "spec": {"hard": hard}}).ok()
    maps, probe = f"/api/v1/namespaces/{scene.namespace}/configmaps?dryRun=All", {"metadata": {"name": "probe"}}
    # It holds once its controller has counted what is there.
    until("the quota holds", lambda: scene.lab.admin.call("POST", maps, probe).status == 403)
    return f"{path}/full"


def _webhook_for_config_maps(scene: Scene) -> str:
    """A webhook that nobody answers."""
    path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    webhook = {
        "name": "hook.kept.example",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]}],
        "matchConditions": [{"name": "here", "expression": f"request.namespace == '{scene.namespace}'"}],
        "clientConfig": {"url": "https://127.0.0.1:1/"},
    }
    scene.lab.admin.call("POST", path, {"metadata": {"name": "e2e-kept-right"}, "webhooks": [webhook]}).ok()
    probe = {"metadata": {"name": "probe"}}
    maps = f"/api/v1/namespaces/{scene.namespace}/configmaps?dryRun=All"
    until("the webhook is called", lambda: scene.lab.admin.call("POST", maps, probe).status == 500)
    return f"{path}/e2e-kept-right"


def _nothing(scene: Scene) -> None:
    del scene


REFUSED_BESIDE: dict[str, tuple[Callable[[Scene], str | None], str, dict[str, Any]]] = {
    "quota": (_quota_of_config_maps, "QuotaExceeded", config_map("beside", a="one")),
    "webhook": (_webhook_for_config_maps, "ClusterUnavailable", config_map("beside", a="one")),
    "namespace": (_nothing, "NamespaceNotFound", config_map("beside", "is-not-there", a="one")),
    "kind": (
        _nothing,
        "KindUnknown",
        {"apiVersion": "kept.example/v1", "kind": "Gone", "metadata": {"name": "beside"}},
    ),
}
"""By name: what makes the cluster refuse it, and returns the path of what has to go again; the reason; the object."""


@pytest.mark.parametrize("which", REFUSED_BESIDE)
def test_a_hacked_and_a_deleted_secret_come_back_while_the_cluster_refuses_what_is_beside_it(
    restartable: Restartable, which: str
) -> None:
    scene, name = restartable.scene, f"beside-{which}"
    refuse, reason, beside = REFUSED_BESIDE[which]
    repository, _ = scene.follow(name, secret(name, a="one"))
    in_the_way = refuse(scene)
    try:
        scene.commit(repository, secret(name, a="two"), beside)
        scene.annotate(name, reconcile_at="refused")
        scene.until_condition(name, "Ready", "False", reason)
        applied = scene.data(name)
        assert applied in ({"a": "one"}, {"a": "two"})
        scene.write(scene.secret_path(name), {"data": {"a": _b64("theirs")}})
        until("the value is back", lambda: scene.data(name) == applied)
        restartable.restart()
        scene.lab.admin.call("DELETE", scene.secret_path(name)).ok()
        until("it is back", lambda: scene.object(scene.secret_path(name)) is not None)
        assert scene.data(name) == applied
        until("nothing differs", lambda: not scene.condition(name, "Drifted"))
        assert scene.condition(name, "Ready")["status"] == "False"
    finally:
        if in_the_way is not None:
            scene.lab.admin.call("DELETE", in_the_way).ok()
    last = scene.commit(repository, secret(name, a="three"))
    scene.annotate(name, reconcile_at="mended")
    scene.until_settled(name, last)
    assert scene.data(name) == {"a": "three"}
    scene.delete_decryptor(name)


def test_a_secret_is_kept_right_beside_a_custom_resource_whose_definition_is_gone(restartable: Restartable) -> None:
    scene = restartable.scene
    names = {"plural": "kepts", "singular": "kept", "kind": "Kept", "listKind": "KeptList"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "kepts.kept.example"},
        "spec": {
            "group": "kept.example",
            "scope": "Namespaced",
            "names": names,
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }
    served = f"/apis/kept.example/v1/namespaces/{scene.namespace}/kepts"
    scene.lab.admin.apply(definition).ok()
    until("it is served", lambda: scene.lab.admin.call("GET", served).status == 200)
    resource = {"apiVersion": "kept.example/v1", "kind": "Kept", "metadata": {"name": "resource"}, "spec": {"size": 1}}
    scene.follow("undefined", secret("undefined", a="one"), resource)
    scene.lab.admin.call("DELETE", f"{DEFINITIONS}/kepts.kept.example").ok()
    until("it is served no longer", lambda: scene.lab.admin.call("GET", served).status == 404)
    scene.annotate("undefined", reconcile_at="gone")
    scene.until_condition("undefined", "Ready", "False", "KindUnknown")
    scene.write(scene.secret_path("undefined"), {"data": {"a": _b64("theirs")}})
    until("the value is back", lambda: scene.data("undefined") == {"a": "one"})
    scene.lab.admin.call("DELETE", scene.secret_path("undefined")).ok()
    until("it is back", lambda: scene.data("undefined") == {"a": "one"})
    assert scene.condition("undefined", "Ready")["status"] == "False"
    scene.lab.admin.apply(definition).ok()
    scene.annotate("undefined", reconcile_at="back")
    until("the resource is back", lambda: scene.object(f"{served}/resource") is not None, seconds=60)
    scene.delete_decryptor("undefined")


def test_a_repository_that_is_gone_is_named_where_a_deleted_secret_does_not_come_back(
    restartable: Restartable,
) -> None:
    scene = restartable.scene
    repository, _ = scene.follow("gone", secret("gone", a="one"))
    bare = scene.lab.folder / "git" / f"{repository.name}.git"
    if not bare.exists():
        [bare] = [path for path in (scene.lab.folder / "git").iterdir() if path.name.startswith(repository.name)]
    away = bare.rename(bare.with_name("away"))
    scene.annotate("gone", reconcile_at="gone")
    scene.until_condition("gone", "Ready", "False", "RepositoryNotFound")
    scene.lab.admin.call("DELETE", scene.secret_path("gone")).ok()
    found = scene.until_condition("gone", "Drifted", "True", "NotCorrected")
    assert "RepositoryNotFound" in found["message"]
    assert "was deleted" in found["message"]
    scene.until_event("gone", "Drifted", "RepositoryNotFound")
    assert scene.object(scene.secret_path("gone")) is None
    away.rename(bare)
    scene.annotate("gone", reconcile_at="back")
    until("it is back", lambda: scene.object(scene.secret_path("gone")) is not None)
    until("nothing differs", lambda: not scene.condition("gone", "Drifted"))
