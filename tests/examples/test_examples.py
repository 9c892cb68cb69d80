"""The examples, read as Miwen reads them, and the demo's file through the real sops.

That the API server accepts them is shown in tests/deploy, beside the CRD.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pyrage
import pytest
from ruamel.yaml import YAML
from support.e2e.lab import until
from support.kubernetes.api_server import ApiServer

from jiemi.core.api.decryptor import read_decryptor
from jiemi.core.api.provider import PROVIDERS
from jiemi.core.api.spec import DecryptorSpec, credential_values
from jiemi.core.urls import parse_url
from jiemi.miwen.reconcile.whole_secret import paths_of

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DEMO = EXAMPLES / "demo"
FILES = [*sorted(EXAMPLES.glob("*.yaml")), DEMO / "decryptor.yaml"]
SOPS_SECONDS = 30


def documents(path: Path) -> list[Any]:
    return list(YAML(typ="safe").load_all(path.read_text()))


def specs(path: Path) -> list[DecryptorSpec]:
    found = []
    for document in documents(path):
        if document["kind"] == "Decryptor":
            served = {"uid": "1", "resourceVersion": "1", "generation": 1}
            spec = read_decryptor({**document, "metadata": {**document["metadata"], **served}}).spec
            assert isinstance(spec, DecryptorSpec), spec
            found.append(spec)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_miwen_reads_every_decryptor_of_the_example(path: Path) -> None:
    assert specs(path)


def test_there_is_an_example_of_each_provider_by_its_name() -> None:
    for provider in PROVIDERS:
        (spec,) = specs(EXAMPLES / f"{provider}.yaml")
        assert spec.provider.named() == (provider,)


def test_the_first_versions_providers_are_shown_in_its_form_with_sops_path() -> None:
    for provider in ("aws", "gcp", "pgp", "vault"):
        (spec,) = specs(EXAMPLES / f"{provider}.yaml")
        assert spec.source.sops_path == ".sops.yaml"
        assert spec.source.repository.ref is None


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_secret_that_an_example_names_is_in_it_with_that_key_and_no_other(path: Path) -> None:
    shown = {
        (document["metadata"]["name"], key)
        for document in documents(path)
        if document["kind"] == "Secret"
        for key in document["stringData"]
    }
    repositories = [spec.source.repository for spec in specs(path)]
    whole = {
        (each.credentials.secret_name, key)
        for each in repositories
        if each.credentials is not None and each.credentials.secret_name is not None
        for key in paths_of(parse_url(each.url).scheme)
    }
    named = {
        (value.secret_name, value.key)
        for spec in specs(path)
        for _, value in credential_values(spec)
        if value.literal is None
    }
    signers = {each.verify.secret_name for each in repositories if each.verify is not None}
    whole |= {(name, key) for name, key in shown if name in signers}
    assert signers <= {name for name, _ in shown}
    assert named <= shown
    assert shown <= named | whole
    assert {name for name, _ in whole} <= {name for name, _ in shown}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_service_account_that_an_example_names_is_in_it_and_may_do_something(path: Path) -> None:
    named = {spec.service_account_name for spec in specs(path)} - {None}
    found = documents(path)
    accounts = {each["metadata"]["name"] for each in found if each["kind"] == "ServiceAccount"}
    bound = {subject["name"] for each in found if each["kind"] == "RoleBinding" for subject in each["subjects"]}
    assert named == accounts == bound
    assert ("kubectl apply -k deploy/impersonation" in path.read_text()) == bool(named)


@pytest.mark.e2e
def test_the_service_account_of_the_directory_may_write_what_directories_hold_and_no_roles(admin: ApiServer) -> None:
    for document in documents(EXAMPLES / "directory.yaml"):
        if document["kind"] in {"ServiceAccount", "RoleBinding"}:
            admin.apply(document).ok()
    account = admin.service_account("default", "configuration-deployer")

    def may(group: str, resource: str, namespace: str = "default") -> bool:
        attributes = {"namespace": namespace, "verb": "patch", "group": group, "resource": resource}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        allowed: bool = account.call("POST", path, review).ok()["status"]["allowed"]
        return allowed

    try:
        until("the API server has seen the binding", lambda: may("apps", "deployments"))
        assert all(may(*each) for each in (("", "secrets"), ("", "services"), ("", "configmaps"), ("batch", "jobs")))
        assert not may("rbac.authorization.k8s.io", "roles")
        assert not may("apps", "deployments", "kube-system")
    finally:
        admin.call("DELETE", "/api/v1/namespaces/default/serviceaccounts/configuration-deployer")
        admin.call(
            "DELETE", "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings/configuration-deployer"
        )


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.*")), ids=lambda path: path.name)
def test_no_example_holds_a_key_that_could_be_real(path: Path) -> None:
    for pattern in (r"AGE-SECRET-KEY-1\w{10}", r"BEGIN [A-Z ]*PRIVATE KEY", r"\bAKIA\w{16}", r"\bhvs\.\w+", r"ENC\["):
        assert re.search(pattern, path.read_text()) is None


def test_the_readme_lists_every_example_once() -> None:
    text = (EXAMPLES / "README.md").read_text()
    assert sorted(re.findall(r"^\| \[(\S+\.yaml)\]", text, re.MULTILINE)) == sorted(
        path.name for path in EXAMPLES.glob("*.yaml")
    )


@pytest.mark.e2e
def test_the_demos_file_encrypted_by_its_own_rule_opens_with_the_fresh_key_only(
    tools: dict[str, Path], tmp_path: Path
) -> None:
    identity = pyrage.x25519.Identity.generate()
    rule = (DEMO / ".sops.yaml").read_text()
    assert rule.count("AGE_RECIPIENT") == 2, "once in the comment and once as the recipient"
    (tmp_path / ".sops.yaml").write_text(rule.replace("AGE_RECIPIENT", str(identity.to_public())))
    file = tmp_path / "secret.enc.yaml"
    file.write_text((DEMO / "secret.yaml").read_text())

    def sops(*arguments: str, key: str = "") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [tools["sops"], "--disable-version-check", *arguments],
            cwd=tmp_path,
            env={"HOME": str(tmp_path), "PATH": os.defpath, "SOPS_AGE_KEY": key},
            capture_output=True,
            timeout=SOPS_SECONDS,
            check=False,
        )

    encrypted = sops("encrypt", "--in-place", file.name)
    assert encrypted.returncode == 0, encrypted.stderr
    ciphertext = file.read_text()
    assert "kind: Secret" in ciphertext
    assert "name: demo" in ciphertext
    for value in ("Hello from git", "demo-password-not-a-secret", "blue"):
        assert value not in ciphertext

    assert sops("decrypt", file.name, key=str(pyrage.x25519.Identity.generate())).returncode != 0
    decrypted = sops("decrypt", file.name, key=str(identity))
    assert decrypted.returncode == 0, decrypted.stderr
    assert list(YAML(typ="safe").load_all(decrypted.stdout)) == documents(DEMO / "secret.yaml")
