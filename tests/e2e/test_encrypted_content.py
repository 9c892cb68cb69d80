"""Content end to end, on the real API server with the real sops: values that are SOPS files, ciphertext that is left,
kinds of other operators, endings in capitals, line ends of Windows, and MACs that cover encrypted values only."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from pyrage import x25519
from support.canaries.command_lines import watching_command_lines
from support.canaries.disk_search import contents, new_files_of_the_machine
from support.canaries.forms import forms_of, found_in
from support.e2e.lab import Lab, until
from support.e2e.project import Project, project
from support.e2e.scene import condition, config_map, secret

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-content"


@attrs.frozen
class Running:
    lab: Lab
    address: str

    def project(self, name: str) -> Project:
        return project(self.lab, NAMESPACE, name)

    def seal(self, plain: str, path: str = "x.yaml", *more: str) -> str:
        """A file of its own for the lab's key, as it stands in a value."""
        return self.lab.encrypt(plain, path=path, more=more).decode()


@pytest.fixture(scope="module")
def running(lab: Lab) -> Iterator[Running]:
    lab.namespace(NAMESPACE)
    _, address = lab.start_krapao(name="content")
    lab.start_miwen(address, NAMESPACE, interval="1s")
    yield Running(lab, address)
    lab.end_services()


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def definition(group: str, version: str, kind: str) -> dict[str, Any]:
    """A minimal CustomResourceDefinition of another operator's kind."""
    plural = f"{kind.lower()}s"
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": kind, "plural": plural},
            "scope": "Namespaced",
            "versions": [{"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": anything}}],
        },
    }


def test_values_of_secrets_that_are_sops_files_are_decrypted_as_flux_does(running: Running) -> None:
    nested = running.project("nested")
    app_yaml = running.seal("# comment\npassword: nested-1\n")
    app_env = running.seal("# comment\nPASSWORD=nested-2\n", "x.env")
    kustomized = {**secret("nested-plain"), "data": {"app.yaml": b64(app_yaml), "app.env": b64(app_env)}}
    del kustomized["stringData"]
    in_text = secret("nested-text", **{"app.yaml": app_yaml, "other": "untouched"})
    revision = nested.push_files(
        {
            "plain.yaml": [kustomized, in_text],
            "twice.yaml": running.lab.encrypt(json.dumps(secret("nested-twice", **{"app.env": app_env}))),
            "values.env": running.lab.encrypt("A=" + app_yaml.replace("\n", "\\n") + "\nB=b\n", path="values.env"),
        }
    )
    nested.set("*.yaml", "*.env", target={"name": "nested-target"})
    status = nested.synced(revision)
    yaml, env = "# comment\npassword: nested-1\n", "# comment\nPASSWORD=nested-2\n"
    assert running.lab.data(NAMESPACE, "nested-plain") == {"app.yaml": yaml, "app.env": env}
    assert running.lab.data(NAMESPACE, "nested-text") == {"app.yaml": yaml, "other": "untouched"}
    assert running.lab.data(NAMESPACE, "nested-twice") == {"app.env": env}
    assert running.lab.data(NAMESPACE, "nested-target") == {"A": yaml, "B": "b"}
    assert status["encryption"]["recipients"] == [f"age {running.lab.identity.to_public()}"]
    # What another changes in such a value is put right with the decrypted one.
    path = f"/api/v1/namespaces/{NAMESPACE}/secrets/nested-plain"
    hacked = {"data": {"app.yaml": b64("hacked")}}
    running.lab.admin.call("PATCH", path, hacked, "application/merge-patch+json").ok()
    until("it is corrected", lambda: running.lab.data(NAMESPACE, "nested-plain").get("app.yaml") == yaml)


def test_the_file_to_decrypt_may_be_a_plain_secret_with_encrypted_values(running: Running) -> None:
    only = running.project("only-values")
    revision = only.push_files({"s.yaml": [secret("only-values", **{"app.yaml": running.seal("a: b\n")})]})
    only.set(source={"files": [], "fileToDecrypt": "s.yaml"})
    only.synced(revision)
    assert running.lab.data(NAMESPACE, "only-values") == {"app.yaml": "a: b\n"}
    only.push_files({"s.yaml": [secret("only-values", a="in clear")]})
    only.says("NotEncrypted", "s.yaml", "no sops block")
    assert running.lab.data(NAMESPACE, "only-values") == {"app.yaml": "a: b\n"}


def test_a_nested_file_that_no_key_opens_fails_its_file_and_leaves_what_is_deployed(running: Running) -> None:
    missing = running.project("missing")
    good = running.seal("a: good\n")
    revision = missing.push_files({"a.yaml": [secret("missing", k=good)], "b.yaml": [config_map("missing-b", k="1")]})
    missing.set()
    missing.synced(revision)
    other = str(x25519.Identity.generate().to_public())
    sealed = running.seal("a: bad\n", "x.yaml", "--age", other)
    missing.push_files({"a.yaml": [secret("missing", k=sealed)], "b.yaml": [config_map("missing-b", k="2")]})
    missing.says("KeyMissing", "a.yaml: document 1, stringData.k: no key given opens the file")
    assert running.lab.data(NAMESPACE, "missing") == {"k": "a: good\n"}
    assert missing.existing(missing.config_path("missing-b"))["data"] == {"k": "2"}


def test_ciphertext_reaches_no_object_of_any_kind_unless_it_is_meant(running: Running) -> None:
    left = running.project("left")
    sealed = running.seal("a: x\n")
    value = sealed.removeprefix("a: ").partition("\n")[0]
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "left", "annotations": {"note": value}},
        "rules": [],
    }
    kept = config_map("left-kept", sealed=sealed)
    kept["metadata"]["annotations"] = {"jiemi.cr/ciphertext": "keep"}
    left.push_files(
        {
            "config.yaml": [config_map("left-config", **{"app.yaml": sealed})],
            "binary.yaml": [{**config_map("left-binary"), "binaryData": {"k": b64(b64(sealed))}}],
            "secret.yaml": [{**secret("left-secret"), "data": {"k": b64(f"password: {value}\n")}}],
            "role.yaml": [role],
            "kept.yaml": [kept, config_map("left-told", k="it begins with ENC[AES256_GCM,data:…")],
        }
    )
    left.set()
    left.says("CiphertextLeft", "4 of 5 files were not applied", "holds ciphertext of SOPS")
    until("the others are there", lambda: left.object(left.config_path("left-told")) is not None)
    assert left.existing(left.config_path("left-kept"))["data"] == {"sealed": sealed}
    assert left.object(left.config_path("left-config")) is None
    assert left.object(left.config_path("left-binary")) is None
    assert left.there("left-secret") == []
    roles = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/roles/left"
    assert left.object(roles) is None


@pytest.mark.parametrize(
    ("group", "version", "kind"),
    [
        ("isindir.github.com", "v1alpha3", "SopsSecret"),
        ("addons.projectcapsule.dev", "v1alpha1", "SopsSecret"),
        ("addons.projectcapsule.dev", "v1alpha1", "GlobalSopsSecret"),
    ],
)
def test_what_another_operator_decrypts_is_left_to_it(running: Running, group: str, version: str, kind: str) -> None:
    running.lab.admin.apply(definition(group, version, kind)).ok()
    objects = f"/apis/{group}/{version}/namespaces/{NAMESPACE}/{kind.lower()}s"
    until("the kind is served", lambda: running.lab.admin.call("GET", objects).status == 200)
    name = f"{kind.lower()}-{group.partition('.')[0]}"
    foreign = running.project(name)
    manifest = {
        "apiVersion": f"{group}/{version}",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {"secretTemplates": [{"name": "t", "stringData": {"password": "in-clear"}}]},
    }
    encrypted = running.lab.encrypt(json.dumps(manifest), more=["--encrypted-regex", "^(data|stringData)$"])
    assert b"in-clear" not in encrypted
    foreign.push_files({"sops.yaml": encrypted, "ours.yaml": [secret(f"{name}-ours", a="b")]})
    foreign.set()
    said = f"{kind} {name} of {group} (document 1 of sops.yaml) is for an operator that decrypts SOPS files itself"
    foreign.says("KindNotForSecrets", said, "spec.source.exclude")
    assert foreign.there(f"{name}-ours") == [f"{name}-ours"]
    assert running.lab.admin.call("GET", f"{objects}/{name}").status == 404
    # Naming the file does not make it meant; excluding it does what the message says.
    foreign.set(source={"files": ["ours.yaml"], "fileToDecrypt": "sops.yaml"})
    foreign.says("KindNotForSecrets", said)
    foreign.set(source={"exclude": ["sops.yaml"]})
    until("it is ready", foreign.is_ready)
    assert running.lab.admin.call("GET", f"{objects}/{name}").status == 404
    foreign.set(encryptedKinds=[f"{kind}.{group}"])
    until("it is there", lambda: running.lab.admin.call("GET", f"{objects}/{name}").status == 200)


def test_an_ending_in_capitals_is_bytes_to_sops_and_so_to_jiemi(running: Running) -> None:
    capitals = running.project("capitals")
    plain = json.dumps(secret("capitals", a="b"))
    # As `sops encrypt A.JSON` writes it.
    encrypted = running.lab.encrypt(plain, path="A.JSON", more=["--input-type", "binary", "--output-type", "binary"])
    assert set(json.loads(encrypted)) == {"data", "sops"}
    revision = capitals.push_files({"A.JSON": encrypted, "b.Yml": [secret("capitals-b", a="b")]})
    capitals.set("*.JSON", "*.Yml")
    capitals.says("UnknownFormat", "ends in .JSON: sops and Jiemi know formats by endings in lower case only")
    assert capitals.there("capitals", "capitals-b") == []
    capitals.set("A.JSON", target={"name": "capitals"})
    capitals.synced(revision)
    assert running.lab.data(NAMESPACE, "capitals") == {"A.JSON": plain}


def test_values_with_line_ends_of_windows_stay_and_are_warned_of(running: Running) -> None:
    windows = running.project("windows")
    revision = windows.push_files({"w.env": running.lab.encrypt("A=1\r\nB=2\nC=3\r", path="w.env")})
    windows.set("*.env", target={"name": "windows"})
    status = windows.synced(revision)
    assert running.lab.data(NAMESPACE, "windows") == {"A": "1\r", "B": "2", "C": "3\r"}
    assert condition(status, "Ready")["status"] == "True"
    warning = condition(status, "CarriageReturns")
    assert (warning["status"], warning["reason"]) == ("True", "InValues")
    assert "w.env (A, C)" in warning["message"]
    # The same of a plain file; and it goes when the file is mended.
    revision = windows.push_files({"w.env": b"A=1\r\nB=2\n"})
    assert "w.env (A)" in condition(windows.synced(revision), "CarriageReturns")["message"]
    revision = windows.push_files({"w.env": b"A=1\nB=2\n"})
    assert condition(windows.synced(revision), "CarriageReturns") == {}


def test_a_mac_of_encrypted_values_only_is_warned_of_and_refused_by_the_operators_flag(running: Running) -> None:
    lax = running.project("lax")
    encrypted = running.lab.encrypt_mac_only(json.dumps(secret("lax", a="b")))
    assert b"mac_only_encrypted: true" in encrypted
    revision = lax.push_files({"s.yaml": encrypted})
    lax.set()
    status = lax.synced(revision)
    assert "s.yaml: with mac_only_encrypted" in condition(status, "MacOnlyEncrypted")["message"]
    # What a writer without the key can do with it.
    changed = encrypted.replace(b"kind: Secret", b"kind: Secret\ntype: example.org/evil")
    changed = changed.replace(b"name: lax", b"name: lax2")
    assert changed != encrypted
    revision = lax.push_files({"s.yaml": changed})
    lax.synced(revision)
    assert lax.existing(lax.secret_path("lax2"))["type"] == "example.org/evil"

    strict = running.lab.namespace("e2e-content-strict")
    running.lab.start_miwen(running.address, strict, "--require-full-mac")
    refused = project(running.lab, strict, "refused")
    refused.push_files({"s.yaml": encrypted})
    refused.set()
    refused.says("MacOnlyEncrypted", "s.yaml: the file has mac_only_encrypted")
    assert refused.there("lax") == []
    revision = refused.push_files({"s.yaml": running.lab.encrypt(json.dumps(secret("lax", a="b")))})
    refused.synced(revision)


def test_the_plaintext_of_nested_files_is_found_nowhere(lab: Lab, tmp_path: Path) -> None:
    """Logs, status, Events, command lines, files on disks: as in test_canary.py, for values that are files."""
    namespace = lab.namespace("e2e-content-canary")
    plain, hidden = "canary-nested-value-9b1c", "canary-nested-left-4d2e"
    canaries = forms_of(plain, hidden, str(lab.identity))
    started = time.time()
    with watching_command_lines() as command_lines:
        _, address = lab.start_krapao("--log-format", "json", "--state-dir", tmp_path / "state", name="nested-canary")
        lab.start_miwen(address, namespace, "--log-format", "json")
        seal = Running(lab, address).seal
        inner = seal(f"password: {plain}\nother: {hidden}\n")
        changed = inner.replace("type:str]", "type:int]", 1)
        stranger = seal(f"password: {plain}\n", "x.yaml", "--age", str(x25519.Identity.generate().to_public()))
        twice = seal(inner, "x.yaml", "--input-type", "binary", "--output-type", "binary")
        cases: dict[str, tuple[Any, str]] = {
            "good": (secret("good", **{"app.yaml": inner}), "Synced"),
            "changed": (secret("changed", k=changed), "MacMismatch"),
            "lonely": (secret("lonely", k=stranger), "KeyMissing"),
            "rejected": (secret("rejected", **{"not a key!": inner}), "ApplyRejected"),
            "config": (config_map("config", k=inner), "CiphertextLeft"),
            "encrypted": (lab.encrypt(json.dumps(secret("encrypted", **{"app.yaml": inner}))), "Synced"),
            "twice": (secret("twice", **{"app.yaml": twice}), "Synced"),
        }
        for name, (content, _) in cases.items():
            one = project(lab, namespace, name)
            one.push_files({"s.yaml": content if isinstance(content, bytes) else [content]})
            one.set()
        for name, (_, reason) in cases.items():
            lab.until_reason(namespace, name, reason)
        assert lab.data(namespace, "good") == {"app.yaml": f"password: {plain}\nother: {hidden}\n"}
        time.sleep(1)
        lab.end_services()
    listed = lab.admin.call("GET", f"/apis/jiemi.cr/v1alpha1/namespaces/{namespace}/decryptors").ok()["items"]
    told = {f"status of {each['metadata']['name']}": json.dumps(each.get("status")).encode() for each in listed}
    events = lab.admin.call("GET", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events").ok()
    told |= {"events": json.dumps(events["items"]).encode(), "logs": lab.logs().encode()}
    assert b"stringData.k" in told["logs"]
    told |= {f"command line {number}": line for number, line in enumerate(command_lines)}
    assert any(b"decrypt" in line for line in command_lines)
    told |= contents(tmp_path)
    told |= new_files_of_the_machine(started)
    assert found_in(told, canaries) == []
