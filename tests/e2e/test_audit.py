"""What `kubectl describe decryptor` and `kubectl events` tell of what Jiemi did, on a real API server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import attrs
import pytest
from support.e2e.lab import Lab, Service, until
from support.e2e.project import Project, project
from support.e2e.scene import config_map, secret

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-audit"


@attrs.frozen
class Running:
    lab: Lab
    miwen: Service

    def project(self, name: str) -> Project:
        return project(self.lab, NAMESPACE, name)


@pytest.fixture(scope="module")
def running(lab: Lab) -> Iterator[Running]:
    lab.namespace(NAMESPACE)
    _, address = lab.start_krapao(name="audit")
    yield Running(lab, lab.start_miwen(address, NAMESPACE, interval="1s"))
    lab.end_services()


def test_each_change_is_reported_with_its_commit_a_rollback_with_both_and_a_deletion_with_what_stays(
    running: Running,
) -> None:
    told = running.project("told")
    first = told.push(a=[secret("told-a", k="1"), secret("told-b", k="1")], b=[config_map("told-c", k="1")])
    told.set()
    told.synced(first)
    told.until_event(
        "told", "Applied", f"by {first[:12]}: added ConfigMap {NAMESPACE}/told-c, Secret {NAMESPACE}/told-a, Secret"
    )
    second = told.push(a=[secret("told-a", k="2"), secret("told-b", k="1")], b=None)
    told.synced(second)
    told.until_event("told", "Applied", f"by {second[:12]}: changed Secret {NAMESPACE}/told-a; 1 unchanged")
    told.until_event(
        "told", "NotPruned", f"revision {second[:12]}", f"ConfigMap {NAMESPACE}/told-c", "spec.prune is false"
    )
    assert told.object(told.config_path("told-c")) is not None

    told.repository.run("reset", "--quiet", "--hard", first)
    told.repository.run("push", "--quiet", "--force", "origin", "HEAD:main")
    told.synced(first)
    told.until_event("told", "RolledBack", f"back from revision {second[:12]}", f"by {first[:12]}: ", "told-a")

    told.delete_decryptor("told")
    told.until_event("told", "Deleted", "3 objects that it applied stay", f"Secret {NAMESPACE}/told-a")
    until("it is logged", lambda: '"event": "decryptor_deleted"' in running.miwen.log_text())
    assert told.data("told-a") == {"k": "1"}


def test_all_files_that_failed_are_reported_and_none_of_their_values(running: Running) -> None:
    broken, lab = running.project("broken"), running.lab
    good = lab.encrypt(json.dumps(secret("broken-a", k="canary-8e1f")))
    whole = lab.encrypt(json.dumps(secret("broken-b", k="canary-8e1f")))
    changed = re.sub(rb"(lastmodified: \"?)20\d\d", rb"\g<1>2001", whole)
    assert changed != whole
    broken.push_files(
        {"a.yaml": good, "b.yaml": changed, "c.yaml": b"canary-8e1f: 1\n", "d.yaml": b"a: [canary-8e1f\n"}
    )
    broken.set()
    status = broken.says("MacMismatch", "3 of 4 files were not applied")
    assert {each["path"]: each["reason"] for each in status["failedFiles"]} == {
        "b.yaml": "MacMismatch",
        "c.yaml": "NotAKubernetesObject",
        "d.yaml": "UnknownFormat",
    }
    assert broken.data("broken-a") == {"k": "canary-8e1f"}
    everything = json.dumps([broken.get("broken"), broken.events("broken")]) + running.miwen.log_text()
    assert "canary-8e1f" not in everything
    revision = broken.push_files({"b.yaml": None, "c.yaml": None, "d.yaml": None})
    assert "failedFiles" not in broken.synced(revision)
