"""Whatever goes wrong is said with a typed reason and a clear message, and the last good Secret stays.

Each case follows the same way: a Decryptor in sync, something breaks, status says why, the Secret is as it was; then
the fault is mended, and the Decryptor is in sync again by itself.
"""

from __future__ import annotations

import copy
import json
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from pyrage import x25519
from support.e2e.lab import Lab, Repository, git_server, until
from support.e2e.vault_files import OF_VAULT
from support.kubernetes.api_server import ApiServer, Manifest

from jiemi.core.api.crd import crd
from jiemi.core.sensitive import SensitiveText
from jiemi.demo.git_server import Asked, Fault, GitServer

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-bad-input"
GOOD = {"greeting": "good"}


@attrs.define
class Case:
    """One Decryptor in sync, and its repository."""

    lab: Lab
    name: str
    manifest: Manifest
    repository: Repository
    revision: str

    @property
    def namespace(self) -> str:
        return NAMESPACE

    def apply(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Apply the manifest with a change of its spec."""
        manifest = copy.deepcopy(self.manifest)
        change(manifest["spec"])
        self.lab.admin.apply(manifest).ok()

    def commit(self, content: bytes | None) -> str:
        return self.repository.commit({"secret.enc.yaml": content})

    def fails_with(self, reason: str, message: str) -> None:
        """It says so in status, and the last good Secret stays."""
        status = self.lab.until_reason(NAMESPACE, self.name, reason)
        current = status["current"]
        assert current["status"] == "NotSync"
        assert current["error_message"].startswith(f"{reason}: ")
        assert re.search(message, current["error_message"]), current["error_message"]
        assert (current["id"], current["revision"]) == (1, self.revision)
        assert self.lab.data(NAMESPACE, self.name) == GOOD

    def recovers(self, change: Callable[[], object] | None = None) -> None:
        """Back to the good commit and manifest, it is in sync again."""
        self.repository.run("reset", "--quiet", "--hard", self.revision)
        self.repository.run("push", "--quiet", "--force", "origin", "HEAD:main")
        self.lab.admin.apply(self.manifest).ok()
        if change is not None:
            change()
        self.lab.until_synced(NAMESPACE, self.name, self.revision)
        assert self.lab.data(NAMESPACE, self.name) == GOOD


def _secret(name: str, **more: Any) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": GOOD, **more})


@pytest.fixture(scope="module")
def running(lab: Lab) -> Iterator[str]:
    """Krapao's address, with a Miwen that follows the namespace every second."""
    lab.namespace(NAMESPACE)
    _, address = lab.start_krapao()
    lab.start_miwen(address, NAMESPACE, interval="1s")
    yield address
    lab.end_services()


@pytest.fixture
def case(lab: Lab, running: str, request: pytest.FixtureRequest) -> Iterator[Case]:
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())[:50].strip("-")
    made = _in_sync(lab, name, lab.repository())
    yield made
    lab.admin.call("DELETE", f"/apis/jiemi.cr/v1alpha1/namespaces/{NAMESPACE}/decryptors/{name}").ok()


def _in_sync(lab: Lab, name: str, repository: Repository, **decryptor: Any) -> Case:
    revision = repository.commit({"secret.enc.yaml": lab.encrypt(_secret(name)), "sub/file": b"x"})
    manifest = lab.decryptor(NAMESPACE, name, repository.url, **decryptor)
    lab.admin.apply(manifest).ok()
    lab.until_synced(NAMESPACE, name, revision)
    return Case(lab, name, manifest, repository, revision)


# The repository


def test_an_unreachable_host(case: Case) -> None:
    case.apply(lambda spec: spec["source"]["repository"].update(url="http://127.0.0.1:1/app.git"))
    case.fails_with("HostUnreachable", r"127\.0\.0\.1:1\b")
    case.recovers()


def test_a_host_that_krapao_does_not_connect_to(case: Case) -> None:
    case.apply(lambda spec: spec["source"]["repository"].update(url="http://169.254.169.254/latest/meta-data"))
    case.fails_with("AddressNotAllowed", r"169\.254\.169\.254.*--allow-address")
    case.apply(lambda spec: spec["source"]["repository"].update(url="git://[::ffff:169.254.169.254]:80/x"))
    case.fails_with("AddressNotAllowed", r"--allow-address")
    case.apply(lambda spec: spec["source"]["repository"].update(url="http://0x7f.1:6443/x"))
    case.fails_with("InvalidUrl", r"a number as host")
    case.recovers()


def test_a_repository_that_is_not_there(case: Case) -> None:
    case.apply(lambda spec: spec["source"]["repository"].update(url=f"{case.lab.git.url}/nothing.git"))
    case.fails_with("RepositoryNotFound", r"nothing\.git")
    case.recovers()


def test_a_url_with_a_password_in_it(case: Case) -> None:
    case.apply(lambda spec: spec["source"]["repository"].update(url="https://me:canary@git.example/app.git"))
    case.fails_with("InvalidUrl", r"credentials")
    assert "canary" not in json.dumps(case.lab.status(NAMESPACE, case.name))
    case.recovers()


def test_a_file_url_where_it_is_not_allowed(case: Case) -> None:
    case.apply(lambda spec: spec["source"]["repository"].update(url="file:///etc"))
    case.fails_with("SchemeNotAllowed", r"file")
    case.recovers()


@pytest.fixture(scope="module")
def private_git(lab: Lab) -> Iterator[GitServer]:
    with git_server(lab.folder / "private", username="me", token=SensitiveText("right-token")) as server:
        yield server


def test_credentials_that_are_refused(lab: Lab, case: Case, private_git: GitServer) -> None:
    url = private_git.create("private.git")
    lab.secret(NAMESPACE, "git-token", token="wrong-token-canary\n")
    credentials = {"username": {"literal": "me"}, "token": {"secretName": "git-token", "key": "token"}}
    case.apply(lambda spec: spec["source"]["repository"].update(url=url, credentials=credentials))
    case.fails_with("RepositoryAccessDenied", r"127\.0\.0\.1:\d+ answered 401.*credentials")
    assert "canary" not in json.dumps(lab.status(NAMESPACE, case.name))
    # With the right token in the Secret (a file's newline is no part of it) the next look gets in: nothing is there
    # yet.
    lab.secret(NAMESPACE, "git-token", token="right-token\n")
    case.fails_with("RefNotFound", r"private\.git")
    case.recovers()


def test_a_branch_that_is_gone(case: Case) -> None:
    case.repository.run("push", "--quiet", "origin", "HEAD:refs/heads/release")
    case.apply(lambda spec: spec["source"]["repository"].update(ref={"branch": "release"}))
    case.lab.until_synced(NAMESPACE, case.name, case.revision)
    case.repository.run("push", "--quiet", "origin", ":refs/heads/release")
    case.fails_with("RefNotFound", r"release")
    case.recovers()


def test_a_host_that_answers_nonsense(case: Case) -> None:
    case.lab.git.fault = Fault(body=b"<html>not git</html>")
    try:
        case.fails_with("GitProtocolError", r"127\.0\.0\.1")
    finally:
        case.lab.git.fault = None
    case.recovers()


# The file


def test_a_file_that_is_missing(case: Case) -> None:
    case.commit(None)
    case.fails_with("FileNotFound", r"secret\.enc\.yaml")
    case.recovers()


def test_a_path_out_of_the_repository(case: Case) -> None:
    case.apply(lambda spec: spec["source"].update(fileToDecrypt="../../etc/passwd"))
    case.fails_with("FileNotFound", r"\.\./\.\./etc/passwd")
    case.recovers()


def test_a_path_that_is_a_directory(case: Case) -> None:
    case.apply(lambda spec: spec["source"].update(fileToDecrypt="sub"))
    case.fails_with("NotAFile", r"sub")
    case.recovers()


def test_a_sops_path_that_is_missing(case: Case) -> None:
    case.apply(lambda spec: spec["source"].update(sopsPath="nowhere/.sops.yaml"))
    case.fails_with("FileNotFound", r"nowhere/\.sops\.yaml")
    case.recovers()


def test_a_file_that_is_not_encrypted(case: Case) -> None:
    case.commit(_secret("plain-canary").encode())
    case.fails_with("NotEncrypted", r"secret\.enc\.yaml")
    case.recovers()


def test_a_file_of_an_unknown_format(case: Case) -> None:
    case.repository.commit({"settings.env": case.lab.encrypt("A=b\n", path="settings.env")})
    case.apply(lambda spec: spec["source"].update(fileToDecrypt="settings.env"))
    case.fails_with("UnknownFormat", r"settings\.env")
    case.recovers()


def test_a_key_that_opens_nothing(case: Case) -> None:
    stranger = x25519.Identity.generate()
    case.apply(lambda spec: spec["provider"]["age"]["privateKey"].update(literal=str(stranger)))
    case.fails_with("KeyMissing", re.escape(str(case.lab.identity.to_public())))
    assert str(stranger) not in json.dumps(case.lab.status(NAMESPACE, case.name))
    case.recovers()


def test_a_key_that_is_none(case: Case) -> None:
    case.apply(lambda spec: spec["provider"]["age"]["privateKey"].update(literal="no-key-canary"))
    case.fails_with("KeyInvalid", r"age")
    assert "canary" not in json.dumps(case.lab.status(NAMESPACE, case.name))
    case.recovers()


def test_a_value_that_was_tampered_with(case: Case) -> None:
    good = case.lab.encrypt(_secret(case.name))
    first = re.search(rb"ENC\[AES256_GCM,data:(.)", good)
    assert first is not None
    at = first.start(1)
    case.commit(good[:at] + (b"A" if good[at : at + 1] != b"A" else b"B") + good[at + 1 :])
    case.fails_with("MacMismatch", r"secret\.enc\.yaml")
    case.recovers()


def test_a_checksum_that_does_not_match(case: Case) -> None:
    # A value that is not encrypted is changed: only the MAC can tell.
    more = ["--encrypted-regex", "^(data|stringData)$"]
    partly = case.lab.encrypt(_secret(case.name, type="Opaque"), more=more)
    case.commit(partly.replace(b"Opaque", b"Opaqua"))
    case.fails_with("MacMismatch", r"secret\.enc\.yaml")
    case.recovers()


# The objects


@pytest.mark.parametrize(
    ("text", "message"),
    [('["a list"]', "document 1"), ('{"kind": "Secret", "metadata": {"name": "a"}}', "apiVersion")],
    ids=["list", "no-version"],
)
def test_a_document_that_is_no_object(case: Case, text: str, message: str) -> None:
    wrapped = text if text.startswith("{") else "x: 1\n"
    if text.startswith("["):
        message = "apiVersion"
    case.commit(case.lab.encrypt(wrapped))
    case.fails_with("NotAKubernetesObject", message)
    case.recovers()


def test_a_kind_that_the_cluster_does_not_know(case: Case) -> None:
    widget = json.dumps({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}})
    case.commit(case.lab.encrypt(widget))
    case.fails_with("KindUnknown", r"Widget")
    case.recovers()


def test_a_namespace_that_is_not_there(case: Case) -> None:
    case.commit(case.lab.encrypt(_secret("x", metadata={"name": "x", "namespace": "nowhere"})))
    case.fails_with("NamespaceNotFound", r"nowhere")
    case.recovers()


def test_an_object_that_the_api_server_finds_invalid(case: Case) -> None:
    case.commit(case.lab.encrypt(_secret(case.name, stringData={"bad key!": "canary-value"})))
    case.fails_with("ApplyRejected", rf"Secret .*{case.name}")
    assert "canary-value" not in json.dumps(case.lab.status(NAMESPACE, case.name))
    case.recovers()


# The credentials


def _by_secret(name: str, key: str = "privateKey") -> dict[str, Any]:
    return {"age": {"privateKey": {"secretName": name, "key": key}}}


@pytest.mark.parametrize(
    ("secret", "key", "reason", "message"),
    [
        ("not-there", "privateKey", "SecretNotFound", r"e2e-bad-input/not-there.*spec\.provider\.age\.privateKey"),
        ("age-key", "other", "SecretKeyNotFound", r"e2e-bad-input/age-key has no key 'other'"),
        ("age-key", "empty", "SecretValueEmpty", r"'empty'.*e2e-bad-input/age-key"),
    ],
)
def test_a_credential_that_is_not_there(case: Case, secret: str, key: str, reason: str, message: str) -> None:
    case.lab.secret(NAMESPACE, "age-key", privateKey=str(case.lab.identity), empty="")
    case.apply(lambda spec: spec.update(provider=_by_secret(secret, key)))
    case.fails_with(reason, message)
    # It is enough to mend the Secret.
    case.lab.secret(NAMESPACE, secret, **{key: str(case.lab.identity)})
    case.lab.until_synced(NAMESPACE, case.name, case.revision)
    case.recovers()


def test_an_identity_of_krapaos_own_that_its_operator_does_not_lend(case: Case) -> None:
    case.repository.commit({"secret.enc.yaml": OF_VAULT.encode()})
    case.apply(lambda spec: spec.update(provider={"vault": {}}))
    case.fails_with("AmbientIdentityNotAllowed", r"spec\.provider\.vault.*--allow-ambient-identity vault")
    case.recovers()


def test_a_key_service_that_can_not_be_reached(case: Case) -> None:
    case.repository.commit({"secret.enc.yaml": OF_VAULT.encode()})
    case.apply(lambda spec: spec.update(provider={"vault": {"token": {"literal": "canary-token"}}}))
    case.fails_with("KeyServiceUnreachable", r"Vault http://127\.0\.0\.1:9/v1/transit/keys/k")
    case.recovers()


def test_a_server_that_the_decryptor_does_not_name(case: Case) -> None:
    case.repository.commit({"secret.enc.yaml": OF_VAULT.encode()})
    vault = {"token": {"literal": "canary-token"}, "address": {"literal": "https://vault.example:8200"}}
    case.apply(lambda spec: spec.update(provider={"vault": vault}))
    case.fails_with("DestinationNotAllowed", r"the Vault http://127\.0\.0\.1:9, but spec\.provider\.vault\.address")
    case.recovers()


CONTRADICTORY = {"literal": "canary-key", "secretName": "a", "key": "b"}


def test_two_contradictory_values_are_refused_by_the_api_server(case: Case) -> None:
    manifest = copy.deepcopy(case.manifest)
    manifest["spec"]["provider"]["age"]["privateKey"] = CONTRADICTORY
    answer = case.lab.admin.apply(manifest)
    assert answer.status == 422
    assert "spec.provider.age.privateKey" in answer.body["message"]
    assert "give either literal, or secretName together with key" in answer.body["message"]


def test_two_contradictory_values_under_an_older_definition_are_reported_in_status(
    case: Case, admin: ApiServer
) -> None:
    older = crd()

    def strip(schema: dict[str, Any]) -> None:
        schema.pop("x-kubernetes-validations", None)
        for inner in schema.get("properties", {}).values():
            strip(inner)

    strip(older["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    admin.apply(older).ok()
    try:

        def accepted() -> bool:
            manifest = copy.deepcopy(case.manifest)
            manifest["spec"]["provider"]["age"]["privateKey"] = CONTRADICTORY
            return admin.apply(manifest).status == 200

        until("the older definition is served", accepted)
        case.fails_with("InvalidSpec", r"literal contradicts secretName and key.*@ spec\.provider\.age\.privateKey")
        assert "canary" not in json.dumps(case.lab.status(NAMESPACE, case.name))
        case.recovers()
    finally:
        admin.apply(crd()).ok()


# The services and their programs


def test_krapao_down_and_back_and_restarted_in_the_middle_of_a_call(lab: Lab) -> None:
    namespace = lab.namespace("e2e-krapao-down")
    krapao, address = lab.start_krapao(name="fragile")
    lab.start_miwen(address, namespace, interval="1s")
    repository = lab.repository()
    first = repository.commit({"secret.enc.yaml": lab.encrypt(_secret("fragile"))})
    lab.admin.apply(lab.decryptor(namespace, "fragile", repository.url)).ok()
    lab.until_synced(namespace, "fragile", first)

    krapao.end(signal.SIGKILL)
    status = lab.until_reason(namespace, "fragile", "KrapaoUnavailable")
    assert status["current"]["status"] == "NotSync"
    assert lab.data(namespace, "fragile") == GOOD
    second = repository.commit({"secret.enc.yaml": lab.encrypt(_secret("fragile", stringData={"greeting": "back"}))})
    krapao, _ = lab.start_krapao(name="fragile")
    lab.until_synced(namespace, "fragile", second)
    assert lab.data(namespace, "fragile") == {"greeting": "back"}

    # The git host hangs, so Krapao is in the middle of a call when it is killed.
    lab.git.fault = Fault(hang=True, asked=frozenset({Asked.REFS, Asked.LS_REFS}))
    try:
        seen = len(lab.git.hits)
        asked: list[Asked] = []
        lab.git.on_asked = asked.append
        third = repository.commit({"secret.enc.yaml": lab.encrypt(_secret("fragile"))}, push=False)
        until("Krapao asks the host", lambda: asked)
        krapao.end(signal.SIGKILL)
        lab.until_reason(namespace, "fragile", "KrapaoUnavailable")
        assert seen <= len(lab.git.hits)
    finally:
        lab.git.fault = None
        lab.git.on_asked = None
    repository.run("push", "--quiet", "--force", "origin", "HEAD:main")
    lab.start_krapao(name="fragile")
    lab.until_synced(namespace, "fragile", third)
    assert lab.data(namespace, "fragile") == GOOD


def test_sops_missing(lab: Lab) -> None:
    namespace = lab.namespace("e2e-no-sops")
    program = lab.folder / "bin" / "sops"
    program.parent.mkdir()
    program.symlink_to(lab.tools["sops"])
    _, address = lab.start_krapao("--sops", program, name="no-sops", sops=False)
    program.unlink()  # as by an upgrade that went wrong
    lab.start_miwen(address, namespace, interval="1s")
    repository = lab.repository()
    revision = repository.commit({"secret.enc.yaml": lab.encrypt(_secret("no-sops"))})
    lab.admin.apply(lab.decryptor(namespace, "no-sops", repository.url)).ok()
    status = lab.until_reason(namespace, "no-sops", "SopsMissing")
    assert (status["current"]["status"], status["current"]["id"]) == ("NotSync", 0)
    program.symlink_to(lab.tools["sops"])
    lab.until_synced(namespace, "no-sops", revision)


def test_gpg_missing(lab: Lab, pgp_key: str) -> None:
    namespace = lab.namespace("e2e-no-gpg")
    program = lab.folder / "gpg"
    program.symlink_to(shutil.which("gpg") or "")
    _, address = lab.start_krapao("--gpg", program, name="no-gpg")
    program.unlink()
    lab.start_miwen(address, namespace, interval="1s")
    for_pgp = Path(__file__).parents[1] / "data" / "sops-3.9.4" / "all.yaml"
    repository = lab.repository({"secret.enc.yaml": for_pgp.read_bytes()})
    provider = {"pgp": {"privateKey": {"literal": pgp_key}}}
    lab.admin.apply(lab.decryptor(namespace, "no-gpg", repository.url, provider=provider)).ok()
    status = lab.until_reason(namespace, "no-gpg", "GpgMissing")
    assert status["current"]["status"] == "NotSync"
