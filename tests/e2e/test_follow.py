"""A Decryptor follows its repository: commits, going back, every form of file that this release decrypts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from support.e2e.lab import Lab, Repository, until

from jiemi.demo.git_server import Asked

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def namespace(lab: Lab) -> Iterator[str]:
    """A namespace that a Miwen follows every second."""
    namespace = lab.namespace("e2e-follow")
    _, address = lab.start_krapao()
    lab.start_miwen(address, namespace, interval="1s")
    yield namespace
    lab.end_services()


def _secret(name: str, **values: str) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values})


def _encrypted(lab: Lab, name: str, **values: str) -> dict[str, bytes]:
    return {"secret.enc.yaml": lab.encrypt(_secret(name, **values))}


def test_new_commits_and_going_back_are_followed_and_counted(lab: Lab, namespace: str) -> None:
    repository = lab.repository()
    first = repository.commit(_encrypted(lab, "followed", greeting="one"))
    lab.admin.apply(lab.decryptor(namespace, "follow", repository.url)).ok()
    status = lab.until_synced(namespace, "follow", first)
    assert lab.data(namespace, "followed") == {"greeting": "one"}
    assert (status["current"]["id"], status["history"]) == (1, [])
    assert status["current"]["file_to_decrypt"] == "secret.enc.yaml"
    assert status["current"]["error_message"] is None

    second = repository.commit(_encrypted(lab, "followed", greeting="two"))
    status = lab.until_synced(namespace, "follow", second)
    assert lab.data(namespace, "followed") == {"greeting": "two"}
    assert status["current"]["id"] == 2
    assert [(entry["id"], entry["revision"], entry["status"]) for entry in status["history"]] == [(1, first, "Sync")]

    repository.run("reset", "--quiet", "--hard", first)
    repository.run("push", "--quiet", "--force", "origin", "HEAD:main")
    status = lab.until_synced(namespace, "follow", first)
    assert lab.data(namespace, "followed") == {"greeting": "one"}
    assert (status["current"]["id"], len(status["history"])) == (3, 2)
    [ready] = status["conditions"]
    assert (ready["type"], ready["status"], ready["reason"]) == ("Ready", "True", "Synced")


def test_a_change_of_the_spec_is_followed_at_once(lab: Lab, namespace: str) -> None:
    files = {"a.yaml": lab.encrypt(_secret("spec-a", k="a")), "b.yaml": lab.encrypt(_secret("spec-b", k="b"))}
    repository = lab.repository()
    revision = repository.commit(files)
    lab.admin.apply(lab.decryptor(namespace, "spec", repository.url, file="a.yaml")).ok()
    lab.until_synced(namespace, "spec", revision)
    lab.admin.apply(lab.decryptor(namespace, "spec", repository.url, file="b.yaml")).ok()
    until("the other file is applied", lambda: lab.data(namespace, "spec-b") == {"k": "b"})
    status = until("status follows", lambda: (found := lab.status(namespace, "spec"))["current"]["id"] == 2 and found)
    assert status["current"]["file_to_decrypt"] == "b.yaml"
    assert status["history"][0]["file_to_decrypt"] == "a.yaml"


def test_branches_and_tags_are_followed(lab: Lab, namespace: str) -> None:
    repository = lab.repository(_encrypted(lab, "ref", greeting="main"))
    branch = repository.commit(_encrypted(lab, "on-branch", greeting="branch"), push=False)
    repository.run("push", "--quiet", "origin", "HEAD:refs/heads/release")
    tagged = repository.commit(_encrypted(lab, "on-tag", greeting="tag"), push=False)
    repository.run("tag", "--annotate", "--message", "one", "v1")
    repository.run("push", "--quiet", "origin", "v1")
    lab.admin.apply(lab.decryptor(namespace, "branch", repository.url, repository={"ref": {"branch": "release"}})).ok()
    lab.admin.apply(lab.decryptor(namespace, "tag", repository.url, repository={"ref": {"tag": "v1"}})).ok()
    lab.until_synced(namespace, "branch", branch)
    lab.until_synced(namespace, "tag", tagged)
    assert lab.data(namespace, "on-branch") == {"greeting": "branch"}
    assert lab.data(namespace, "on-tag") == {"greeting": "tag"}


def test_a_multi_document_file_is_applied_whole(lab: Lab, namespace: str) -> None:
    text = f"""\
apiVersion: v1
kind: Secret
metadata: {{name: many-secret}}
stringData: {{when: "2026-11-24", flag: "yes", number: "0x10"}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: many-config, namespace: {namespace}}}
data: {{colour: blue}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: many-account}}
"""
    repository = lab.repository()
    revision = repository.commit({"many.yaml": lab.encrypt(text, path="many.yaml")})
    lab.admin.apply(lab.decryptor(namespace, "many", repository.url, file="many.yaml")).ok()
    lab.until_synced(namespace, "many", revision)
    assert lab.data(namespace, "many-secret") == {"when": "2026-11-24", "flag": "yes", "number": "0x10"}
    config = lab.admin.call("GET", f"/api/v1/namespaces/{namespace}/configmaps/many-config").ok()
    assert config["data"] == {"colour": "blue"}
    assert {entry["manager"] for entry in config["metadata"]["managedFields"]} == {"jiemi"}
    lab.admin.call("GET", f"/api/v1/namespaces/{namespace}/serviceaccounts/many-account").ok()


def test_a_json_file_is_applied(lab: Lab, namespace: str) -> None:
    repository = lab.repository()
    encrypted = lab.encrypt(_secret("from-json", greeting="json"), path="secret.json")
    revision = repository.commit({"secret.json": encrypted})
    lab.admin.apply(lab.decryptor(namespace, "json", repository.url, file="secret.json")).ok()
    lab.until_synced(namespace, "json", revision)
    assert lab.data(namespace, "from-json") == {"greeting": "json"}


def test_partly_encrypted_files_are_applied(lab: Lab, namespace: str) -> None:
    encrypted = lab.encrypt(_secret("partly", greeting="partly"), more=["--encrypted-regex", "^(data|stringData)$"])
    assert b'"Secret"' in encrypted or b"kind: Secret" in encrypted
    repository = lab.repository()
    revision = repository.commit({"secret.enc.yaml": encrypted})
    lab.admin.apply(lab.decryptor(namespace, "partly", repository.url)).ok()
    lab.until_synced(namespace, "partly", revision)
    assert lab.data(namespace, "partly") == {"greeting": "partly"}


def _clones(lab: Lab, repository: Repository, asked: Asked) -> int:
    return sum(hit.asked is asked and repository.name in hit.path for hit in lab.git.hits)


def _writes(lab: Lab) -> int:
    """Requests that change something, by the API server's own count; its own housekeeping (leases) left out."""
    verbs, resources = ("POST", "PUT", "PATCH", "APPLY", "DELETE"), ("decryptors", "secrets", "configmaps", "events")
    total = 0
    for line in lab.admin.text("/metrics").splitlines():
        if not line.startswith("apiserver_request_total{"):
            continue
        labels, _, value = line.partition("} ")
        if any(f'verb="{verb}"' in labels for verb in verbs) and any(
            f'resource="{name}"' in labels for name in resources
        ):
            total += int(float(value))
    assert total > 0
    return total


def test_fifty_decryptors_of_one_repository_share_its_clone_and_write_nothing_when_idle(
    lab: Lab, namespace: str
) -> None:
    count = 50
    name = lab.namespace("e2e-fifty")
    repository = lab.repository()
    files = {f"s{number}.yaml": lab.encrypt(_secret(f"s{number}", greeting="one")) for number in range(count)}
    first = repository.commit(files)
    _, address = lab.start_krapao(name="fifty")
    lab.start_miwen(address, name, interval="1s")
    lab.git.forget_hits()
    for number in range(count):
        lab.admin.apply(lab.decryptor(name, f"d{number}", repository.url, file=f"s{number}.yaml")).ok()
    for number in range(count):
        lab.until_synced(name, f"d{number}", first)
    assert _clones(lab, repository, Asked.FETCH) == 1

    before = _writes(lab)
    listings = _clones(lab, repository, Asked.LS_REFS) + _clones(lab, repository, Asked.REFS)
    intervals = 30
    time.sleep(intervals)
    assert _writes(lab) == before
    asked = _clones(lab, repository, Asked.LS_REFS) + _clones(lab, repository, Asked.REFS) - listings
    assert 0 < asked <= intervals * 2 * 2, "at most two questions an interval, of at most two requests each"

    second = repository.commit({"s0.yaml": lab.encrypt(_secret("s0", greeting="two"))})
    lab.until_synced(name, "d0", second)
    assert _clones(lab, repository, Asked.FETCH) == 2
    assert lab.data(name, "s0") == {"greeting": "two"}
    time.sleep(2.5)  # two intervals: everyone has seen it
    assert {lab.status(name, f"d{number}")["current"]["revision"] for number in range(1, count)} == {first}
