"""More than one file: globs, plain files beside encrypted ones, files that become keys, and what is wrong with one."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import pytest
from support.e2e.lab import Lab, Service, until
from support.e2e.project import Project, documents, failures, project
from support.e2e.scene import config_map, secret

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-files"


@attrs.frozen
class Running:
    """A namespace that a Miwen follows every second."""

    lab: Lab
    krapao: Service

    def project(self, name: str) -> Project:
        return project(self.lab, NAMESPACE, name)

    def encrypt(self, *manifests: Mapping[str, Any], path: str = "secret.enc.yaml") -> bytes:
        text = documents(*manifests) if len(manifests) > 1 else json.dumps(manifests[0])
        return self.lab.encrypt(text, path=path)

    def renders(self, of: Project) -> list[str]:
        """Paths of the files of a repository that Krapao has rendered, by its log."""
        lines = (json.loads(line) for line in self.krapao.log_text().splitlines() if line.startswith("{"))
        return [
            line["path"]
            for line in lines
            if line["event"] in {"render", "render_failed"} and line["repository"] == of.repository.url
        ]


@pytest.fixture(scope="module")
def running(lab: Lab) -> Iterator[Running]:
    lab.namespace(NAMESPACE)
    krapao, address = lab.start_krapao(name="files")
    lab.start_miwen(address, NAMESPACE, interval="1s")
    yield Running(lab, krapao)
    lab.end_services()


def _tampered(encrypted: bytes) -> bytes:
    """The file with one of its values replaced, so that its MAC does not verify."""
    assert b'"Opaque"' in encrypted or b"Opaque" in encrypted
    return encrypted.replace(b"Opaque", b"Opaqua")


def _partly(running: Running, name: str, **values: str) -> bytes:
    """An encrypted Secret with its type in plain text."""
    manifest = {**secret(name, **values), "type": "Opaque"}
    return running.lab.encrypt(json.dumps(manifest), more=["--encrypted-regex", "^(data|stringData)$"])


def test_globs_the_file_to_decrypt_and_plain_files_are_applied_together(running: Running) -> None:
    many = running.project("many")
    revision = many.push_files(
        {
            "secret.enc.yaml": running.encrypt(secret("one-named", k="1")),
            "apps/a/x.enc.yaml": running.encrypt(secret("one-x", k="1")),
            "apps/b/deep/y.enc.yaml": running.encrypt(secret("one-y", k="1"), secret("one-z", k="1")),
            "apps/b/plain.yaml": [config_map("one-plain", k="1")],
            "apps/b/.sops.yaml": b"creation_rules: [{age: age1x}]\n",
            "apps/charts/values.yaml": b"replicas: {{ .Values.replicas }}\n",
            "apps/b/README.md": b"# Read me\n",
            "other/not.yaml": [config_map("one-not", k="1")],
            "config/named.json": json.dumps(config_map("one-json", k="1")).encode(),
        }
    )
    source = {"fileToDecrypt": "secret.enc.yaml", "exclude": ["charts/", "*.md"]}
    many.set("apps/**", "config/named.json", source=source)
    status = many.synced(revision)
    paths = ["apps/a/x.enc.yaml", "apps/b/deep/y.enc.yaml", "apps/b/plain.yaml", "config/named.json", "secret.enc.yaml"]
    assert [each["path"] for each in status["files"]] == paths
    assert all(each["blob"] for each in status["files"])
    assert status["current"]["file_to_decrypt"] == "secret.enc.yaml, apps/**, config/named.json"
    assert many.there("one-named", "one-x", "one-y", "one-z") == ["one-named", "one-x", "one-y", "one-z"]
    assert many.object(many.config_path("one-plain")) is not None
    assert many.object(many.config_path("one-json")) is not None
    assert many.object(many.config_path("one-not")) is None
    # What the nearest .sops.yaml says is known of the files below it, and of no others.
    configs = {each["path"]: each.get("config") for each in status["files"]}
    assert configs["apps/b/plain.yaml"] == configs["apps/b/deep/y.enc.yaml"] != configs["apps/a/x.enc.yaml"]

    # A file that is no manifest, and that nothing excludes, is told.
    many.set("apps/**", source={"fileToDecrypt": "secret.enc.yaml", "exclude": ["charts/"]})
    status = many.says("UnknownFormat", "1 of 5 files was not applied", "apps/b/README.md", "spec.target")
    assert failures(status) == {}


def test_a_submodule_is_deployed_like_a_folder_and_never_pruned_because_it_can_not_be_read(running: Running) -> None:
    app = running.project("submodules")
    shared = running.lab.repository({"s.enc.yaml": running.encrypt(secret("sub-one", k="1"))})
    app.push(own=[config_map("sub-own", k="1")])
    app.repository.run("submodule", "add", "--quiet", shared.url, "apps/shared")
    app.repository.run("config", "--file", ".gitmodules", "submodule.apps/shared.url", f"../{shared.name}")
    revision = app.push_files({})
    manifest = app.manifest("**/*.yaml", prune=True)
    manifest["spec"]["source"]["repository"]["submodules"] = {}
    running.lab.admin.apply(manifest).ok()
    status = app.synced(revision)
    assert [each["path"] for each in status["files"]] == ["apps/shared/s.enc.yaml", "own.yaml"]
    assert app.data("sub-one") == {"k": "1"}

    # Another commit of it, which only a commit of the repository brings.
    shared.commit({"s.enc.yaml": running.encrypt(secret("sub-one", k="2"))})
    app.repository.run("submodule", "update", "--quiet", "--remote", "apps/shared")
    app.synced(app.push_files({}))
    assert app.data("sub-one") == {"k": "2"}

    # Without a place to get it from, nothing of the commit is applied and nothing goes.
    app.repository.run("config", "--file", ".gitmodules", "submodule.apps/shared.url", "../nowhere.git")
    app.push(own=[config_map("sub-own", k="2")])
    app.says("RepositoryNotFound", "submodule apps/shared", "nowhere.git")
    assert app.data("sub-one") == {"k": "2"}
    assert app.existing(app.config_path("sub-own"))["data"] == {"k": "1"}

    app.repository.run("rm", "--quiet", "apps/shared")
    app.synced(app.push_files({}))
    assert app.there("sub-one") == []


def test_a_plain_manifest_means_to_the_api_server_what_it_means_to_kubectl(running: Running) -> None:
    plain = running.project("yaml-11")
    manifest = b"""\
# A comment
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: one-words
  annotations: {on: "off"}
immutable: yes
data:
  no: 'no'
  0644: "0644"
  tab:\t"x"
--- # and another
apiVersion: v1
kind: Service
metadata: {name: one-ports}
spec:
  publishNotReadyAddresses: On
  selector: {a: b}
  ports:
  - &port {name: a, port: 0x1F90}
  - <<: *port
    name: b
    port: 1e3
    targetPort: 0o17
"""
    revision = plain.push_files({"a.yaml": running.encrypt(secret("one-sealed", k="1")), "plain.yaml": manifest})
    plain.set("plain.yaml", source={"fileToDecrypt": "a.yaml"})
    plain.synced(revision)
    words = plain.object(plain.config_path("one-words"))
    assert words is not None
    assert (words["immutable"], words["data"]) == (True, {"false": "no", "420": "0644", "tab": "x"})
    assert words["metadata"]["annotations"]["true"] == "off"
    service = plain.object(f"/api/v1/namespaces/{NAMESPACE}/services/one-ports")
    assert service is not None
    assert service["spec"]["publishNotReadyAddresses"] is True
    ports = [(each["name"], each["port"], each["targetPort"]) for each in service["spec"]["ports"]]
    assert ports == [("a", 8080, 8080), ("b", 1000, 15)]


def test_the_file_to_decrypt_must_be_encrypted_and_ciphertext_never_passes_for_plain_text(running: Running) -> None:
    lost = running.project("lost")
    encrypted = running.encrypt(secret("lost-a", k="canary"))
    bare = encrypted[: encrypted.index(b"sops:")]
    assert b"ENC[" in bare
    revision = lost.push_files({"a.yaml": encrypted, "b.yaml": running.encrypt(secret("lost-b", k="1"))})
    lost.set()
    lost.synced(revision)
    lost.push_files({"a.yaml": bare, "b.yaml": running.encrypt(secret("lost-b", k="2"))})
    status = lost.says("NotEncrypted", "1 of 2 files was not applied", "a.yaml: ", "no SOPS metadata")
    assert lost.data("lost-a") == {"k": "canary"}
    assert lost.data("lost-b") == {"k": "2"}
    assert "ENC[" not in json.dumps(status)

    revision = lost.push_files({"a.yaml": [secret("lost-a", k="plain")]})
    lost.synced(revision)
    assert lost.data("lost-a") == {"k": "plain"}
    for path in ("a.yaml", "./a.yaml"):
        lost.set("b.yaml", source={"fileToDecrypt": path})
        lost.says("NotEncrypted", "a.yaml: ")


def test_one_broken_file_keeps_no_other_from_being_applied_and_is_not_decrypted_again_and_again(
    running: Running,
) -> None:
    three = running.project("three")
    files = {f"{name}.yaml": _partly(running, f"three-{name}", k="1") for name in "abc"}
    first = three.push_files(files)
    three.set(prune=True)
    three.synced(first)
    broken = _tampered(_partly(running, "three-b", k="2"))
    three.push_files({"a.yaml": _partly(running, "three-a", k="2"), "b.yaml": broken})
    status = three.says("MacMismatch", "1 of 3 files was not applied", "b.yaml: ")
    assert (status["current"]["id"], status["current"]["revision"]) == (1, first)
    assert [three.data(f"three-{name}") for name in "abc"] == [{"k": "2"}, {"k": "1"}, {"k": "1"}]
    assert three.files == ["a.yaml", "c.yaml"]

    # Only what changes is decrypted, while it is broken and after.
    before = running.renders(three)
    three.push_files({"c.yaml": _partly(running, "three-c", k="3")})
    until("the other file follows", lambda: three.data("three-c") == {"k": "3"})
    mended = three.push_files({"b.yaml": _partly(running, "three-b", k="4")})
    three.synced(mended)
    assert running.renders(three)[len(before) :] == ["c.yaml", "b.yaml"]
    assert three.data("three-b") == {"k": "4"}


def test_one_broken_document_among_twenty_is_named_and_the_others_are_applied(running: Running) -> None:
    twenty = running.project("twenty")
    good = [secret(f"twenty-{number}", k="1") for number in range(19)]
    bad = {"apiVersion": "v1", "kind": "Secret", "metadata": {"labels": {"no": "name"}}}
    twenty.push_files({"many.yaml": running.encrypt(*good[:12], bad, *good[12:])})
    twenty.set()
    twenty.says("NotAKubernetesObject", "1 of 20 objects", "document 13 of many.yaml has no metadata.name")
    names = [f"twenty-{number}" for number in range(19)]
    assert twenty.there(*names) == names

    # One that the API server refuses is told as an object.
    bad["metadata"] = {"name": "twenty-bad"}
    bad["data"] = {"k": "canary, not base64"}
    twenty.push_files({"many.yaml": running.encrypt(*good[:12], bad, *good[12:])})
    status = twenty.says("ApplyRejected", "1 of 20 objects", "Secret e2e-files/twenty-bad")
    [told] = status["failedObjects"]
    assert (told["kind"], told["name"], told["file"]) == ("Secret", "twenty-bad", "many.yaml")
    assert told["reason"] == "ApplyRejected"
    assert "canary" not in json.dumps(status)
    revision = twenty.push_files({"many.yaml": running.encrypt(*good)})
    assert "failedObjects" not in twenty.synced(revision)


def test_a_commit_renders_only_the_files_that_it_changes(running: Running) -> None:
    thrifty = running.project("thrifty")
    files = {f"f{number}.yaml": running.encrypt(secret(f"thrifty-{number}", k="1")) for number in range(6)}
    revision = thrifty.push_files(files)
    thrifty.set()
    thrifty.synced(revision)
    assert sorted(running.renders(thrifty)) == sorted(files)
    revision = thrifty.push_files({"f2.yaml": running.encrypt(secret("thrifty-2", k="2")), "new.txt": b"no one's"})
    thrifty.synced(revision)
    assert running.renders(thrifty)[len(files) :] == ["f2.yaml"]
    # One that moves is read under its new name; one that leaves needs no reading.
    moved = (thrifty.repository.clone / "f3.yaml").read_bytes()
    revision = thrifty.push_files({"f3.yaml": None, "g3.yaml": moved, "f4.yaml": None})
    thrifty.synced(revision)
    assert running.renders(thrifty)[len(files) :] == ["f2.yaml", "g3.yaml"]
    assert f"Secret {NAMESPACE}/thrifty-3 g3.yaml" in thrifty.inventory


def test_a_file_that_vanishes(running: Running) -> None:
    gone = running.project("gone")
    revision = gone.push(a=[secret("gone-a", k="1")], b=[secret("gone-b", k="1")], c=[secret("gone-c", k="1")])
    gone.set("*.yaml", prune=True)
    gone.synced(revision)
    uid = gone.uid(gone.secret_path("gone-a"))
    gone.synced(gone.push(b=None))
    assert gone.there("gone-a", "gone-b", "gone-c") == ["gone-a", "gone-c"]
    assert gone.files == ["a.yaml", "c.yaml"]
    # One that is named by its path must be there; its objects stay.
    gone.set("a.yaml", "c.yaml", prune=True)
    until("the spec is followed", lambda: gone.condition("gone", "Ready").get("observedGeneration") == 2)
    gone.push(c=None)
    gone.says("FileNotFound", "c.yaml")
    assert gone.there("gone-a", "gone-c") == ["gone-a", "gone-c"]
    assert gone.uid(gone.secret_path("gone-a")) == uid


def test_files_of_every_format_become_keys_of_one_secret(running: Running) -> None:
    lab, keys = running.lab, running.project("keys")
    blob = bytes(range(256))
    binary = lab.encrypt(
        base64.b64encode(blob).decode(), path="cert.p12.enc", more=["--input-type", "binary", "--output-type", "binary"]
    )
    files = {
        "settings.enc.env": lab.encrypt("HOST=db.example\nEMPTY=\nURL=a=b\n", path="settings.enc.env"),
        "plain.env": b"LEVEL=debug\n",
        "app.enc.ini": lab.encrypt("[main]\nkey = ini-value\n", path="app.enc.ini"),
        "values.enc.yaml": lab.encrypt("user: me\nport: 5432\nflag: true\n", path="values.enc.yaml"),
        "more.json": json.dumps({"json": "x"}).encode(),
        "cert.p12.enc": binary,
        "raw.bin": blob,
        "object.enc.yaml": running.encrypt(secret("keys-object", k="1")),
    }
    revision = keys.push_files(files)
    target = {"name": "keys-all", "labels": {"colour": "blue"}, "annotations": {"note": "x"}, "type": "example.org/all"}
    keys.set("*.env", "*.ini", "*.yaml", "*.json", "*.enc", "*.bin", target=target)
    status = keys.synced(revision)
    made = keys.object(keys.secret_path("keys-all"))
    assert made is not None
    values = {key: base64.b64decode(value) for key, value in made["data"].items()}
    ini = values.pop("app.ini")
    assert b"ini-value" in ini
    assert b"sops" not in ini
    assert values == {
        "HOST": b"db.example",
        "EMPTY": b"",
        "URL": b"a=b",
        "LEVEL": b"debug",
        "user": b"me",
        "port": b"5432",
        "flag": b"true",
        "json": b"x",
        "cert.p12": base64.b64encode(blob),
        "raw.bin": blob,
    }
    assert made["type"] == "example.org/all"
    assert made["metadata"]["labels"]["colour"] == "blue"
    assert made["metadata"]["annotations"] == {"note": "x"}
    assert keys.data("keys-object") == {"k": "1"}
    assert len(status["files"]) == 8

    # A key that leaves its file leaves the Secret, and a file that leaves takes its keys along.
    revision = keys.push_files({"plain.env": b"LEVEL2=info\n", "raw.bin": None})
    keys.synced(revision)
    made = keys.object(keys.secret_path("keys-all"))
    assert made is not None
    assert {"LEVEL", "raw.bin"}.isdisjoint(made["data"])
    assert base64.b64decode(made["data"]["LEVEL2"]) == b"info"

    # A file that can't be read takes none.
    broken = lab.encrypt("HOST=other\n", path="settings.enc.env").replace(b"sops_mac=", b"sops_mac_lost=")
    keys.push_files({"settings.enc.env": broken, "plain.env": b"LEVEL2=warn\n"})
    until("it is told", lambda: keys.condition("keys", "Ready")["status"] == "False")
    assert keys.existing(keys.secret_path("keys-all"))["data"] == made["data"]


def test_files_of_a_config_map_and_keys_that_two_files_give(running: Running) -> None:
    both = running.project("both")
    revision = both.push_files({"a.env": b"A=1\nB=2\n", "logo.png": b"\x89PNG\xff", "page.html.enc": b"<p>"})
    both.set("*.env", "*.png", "*.enc", target={"name": "both-config", "kind": "ConfigMap"})
    both.synced(revision)
    made = both.object(both.config_path("both-config"))
    assert made is not None
    assert made["data"] == {"A": "1", "B": "2", "page.html": "<p>"}
    assert made["binaryData"] == {"logo.png": base64.b64encode(b"\x89PNG\xff").decode()}

    both.push_files({"b.env": b"B=3\nC=4\n"})
    both.says("DuplicateObject", "a.env and b.env both give the key B of ConfigMap both-config")
    assert both.existing(both.config_path("both-config"))["data"] == made["data"]
    revision = both.push_files({"a.env": b"A=1\n"})
    both.synced(revision)
    assert both.existing(both.config_path("both-config"))["data"] == {
        "A": "1",
        "B": "3",
        "C": "4",
        "page.html": "<p>",
    }


def test_a_whole_file_goes_under_the_key_that_is_given(running: Running) -> None:
    whole = running.project("whole")
    text = "a:\n    b: [1, 2]\n"
    revision = whole.push_files({"conf.enc.yaml": running.lab.encrypt(text, path="conf.enc.yaml")})
    whole.set("conf.enc.yaml", target={"name": "whole", "key": "config.yaml"})
    whole.synced(revision)
    assert "b:" in whole.data("whole")["config.yaml"]
    assert "sops" not in whole.data("whole")["config.yaml"]
    whole.set("conf.enc.yaml", target={"name": "whole"})
    whole.says("UnknownFormat", "the value of a is no text", "spec.target.key")
    assert "config.yaml" in whole.data("whole")


def test_the_same_object_in_two_files_is_refused_in_the_second_and_both_are_named(running: Running) -> None:
    twice = running.project("twice")
    x = secret("twice-x", k="a")
    twice.push(a=[x], b=[secret("twice-x", k="b"), secret("twice-y", k="1")])
    twice.set()
    status = twice.says(
        "DuplicateObject", "1 of 3 objects", f"a.yaml and b.yaml both describe Secret {NAMESPACE}/twice-x"
    )
    assert [(each["name"], each["file"]) for each in status["failedObjects"]] == [("twice-x", "b.yaml")]
    assert (twice.data("twice-x"), twice.data("twice-y")) == ({"k": "a"}, {"k": "1"})
    twice.synced(twice.push(a=None))
    assert twice.data("twice-x") == {"k": "b"}


def test_a_sops_config_that_is_named_is_followed_and_is_no_manifest(running: Running) -> None:
    config = running.project("config")
    rules = b"creation_rules: [{age: age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kdcs9hqzqm7h2wy}]\n"
    revision = config.push_files({"a.yaml": running.encrypt(secret("config-a", k="1")), "conf/rules.yaml": rules})
    config.set("**/*.yaml", source={"sopsPath": "./conf/rules.yaml"})
    status = config.synced(revision)
    assert [each["path"] for each in status["files"]] == ["a.yaml"]
    assert status["encryption"]["staleRecipients"] == [f"age {running.lab.identity.to_public()}"]
    mended = f"creation_rules: [{{age: {running.lab.identity.to_public()}}}]\n".encode()
    status = config.synced(config.push_files({"conf/rules.yaml": mended}))
    assert "staleRecipients" not in status["encryption"]
    assert running.renders(config) == ["a.yaml", "a.yaml"]
