"""What is deployed is kept right while the newest version of its own file is refused; Krapao may have been restarted.

Miwen looks every 10 minutes here, so what is put right within seconds is so because it watches.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

import attrs
import pytest
from e2e_lab import Lab, Repository, Service, until
from e2e_scene import Scene, secret

pytestmark = pytest.mark.e2e

FILE = "secret.enc.yaml"


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
    assert scene.events(name, "Fighting") == []
    assert scene.condition(name, "Ready")["status"] == "False"
    last = scene.commit(repository, secret(name, a="three"))
    scene.annotate(name, reconcile_at="mended")
    scene.until_settled(name, last)
    assert scene.data(name) == {"a": "three"}
    scene.delete_decryptor(name)


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
