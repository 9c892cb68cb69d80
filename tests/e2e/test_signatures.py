"""Signed commits and tags, everything real: git, gpg, ssh-keygen, sops, the API server. And a canary."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from support.canaries.command_lines import watching_command_lines
from support.canaries.disk_search import contents, new_files_of_the_machine
from support.canaries.forms import forms_of, found_in
from support.e2e.lab import Lab, Repository, until
from support.e2e.scene import MERGE, Scene, secret
from support.krapao.pgp_keys import gpg_home_in_memory, made_pgp_key
from support.paths import ROOT
from support.signing.signers import PgpSigner, SshSigner, pgp_signer, ssh_signer

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-signatures"
CANARY = "b3BlbnNzaC1rZXktdjEAAAAACanaryOfAPrivateKeyThatNobodyMayRead"


@pytest.fixture(scope="module")
def scene(lab: Lab) -> Iterator[Scene]:
    lab.namespace(NAMESPACE)
    _, address = lab.start_krapao(name="signatures")
    lab.start_miwen(address, NAMESPACE, interval="60s")
    yield Scene(lab, NAMESPACE)
    lab.end_services()


@pytest.fixture(scope="module")
def gpg_home() -> Iterator[Path]:
    yield from gpg_home_in_memory()


def commit(scene: Scene, repository: Repository, value: str, by: SshSigner | PgpSigner | None) -> str:
    """Commit the encrypted Secret `app` with that value, and push it. Returns the revision."""
    if by is not None:
        by.configure_by(repository.run)
    repository.run("config", "commit.gpgSign", "true" if by is not None else "false")
    return repository.commit({"secret.enc.yaml": scene.lab.encrypt(json.dumps(secret("app", value=value)))})


def ask(scene: Scene, name: str) -> None:
    """Ask for a look now: the interval is long, so that nothing is noticed by it."""
    annotations = {"jiemi.cr/reconcile-at": str(time.monotonic_ns())}
    scene.lab.admin.call("PATCH", scene.path(name), {"metadata": {"annotations": annotations}}, content_type=MERGE).ok()


def shown(scene: Scene) -> str:
    """What `jiemi status` prints."""
    run = [sys.executable, "-m", "jiemi", "status", "--kubeconfig", str(scene.lab.kubeconfig), "--namespace", NAMESPACE]
    return subprocess.run(run, capture_output=True, text=True, check=False, timeout=60).stdout


def test_the_example_follows_signed_commits_only_and_a_signer_who_leaves_is_noticed_within_seconds(
    scene: Scene, tmp_path: Path
) -> None:
    ann, bob = (ssh_signer(tmp_path, name) for name in ("ann", "bob"))
    repository = scene.lab.repository()
    commit(scene, repository, "unsigned", None)
    text = (ROOT / "examples" / "signed-commits.yaml").read_text()
    for placeholder, given in (
        ("PUT THE LINE THAT BEGINS WITH AGE-SECRET-KEY-1 HERE", str(scene.lab.identity)),
        ("PUT-THE-PUBLIC-KEY-OF-ANN-HERE", ann.line),
        ("PUT-THE-PUBLIC-KEY-OF-BOB-HERE", bob.line),
        ("namespace: default", f"namespace: {NAMESPACE}"),
        ("https://git.example.com/team/configuration.git", repository.url),
        ("production/database.enc.yaml", "secret.enc.yaml"),
    ):
        assert placeholder in text
        text = text.replace(placeholder, given)
    for document in YAML(typ="safe").load_all(text):
        scene.lab.admin.apply(document).ok()
    name = "signed-commits"
    ready = scene.until_condition(name, "Ready", "False", "SignatureMissing")
    assert "Sign it with `git commit -S`" in ready["message"]
    assert scene.object(scene.secret_path("app")) is None

    revision = commit(scene, repository, "by ann", ann)
    ask(scene, name)
    status = scene.until_settled(name, revision)
    assert scene.data("app") == {"value": "by ann"}
    assert status["verification"] == {
        "revision": revision,
        "mode": "Commit",
        "signer": "ann@example.com",
        "key": ann.fingerprint,
    }
    by_ann = (
        f"{NAMESPACE}/{name}: the deployed commit {revision[:12]} {{}} signed by ann@example.com ({ann.fingerprint})"
    )
    assert by_ann.format("is") in shown(scene)

    began = time.monotonic()
    allowed = f'bob@example.com namespaces="git" {bob.line}\n'
    scene.lab.secret(NAMESPACE, "signers", allowed_signers=allowed)
    ready = scene.until_condition(name, "Ready", "False", "SignerUnknown", seconds=10)
    assert time.monotonic() - began < 10
    assert "it is deployed and stays as it is, but is no longer trusted" in ready["message"]
    assert by_ann.format("was") in shown(scene)
    assert scene.data("app") == {"value": "by ann"}
    edit = {"stringData": {"value": "edited"}}
    scene.lab.admin.call("PATCH", scene.secret_path("app"), edit, content_type=MERGE).ok()
    scene.until_condition(name, "Drifted", "True", "NotCorrected")
    assert scene.data("app") == {"value": "edited"}

    revision = commit(scene, repository, "by bob", bob)
    ask(scene, name)
    scene.until_settled(name, revision)
    assert scene.data("app") == {"value": "by bob"}
    scene.lab.delete_decryptor(NAMESPACE, name)


def test_signed_tags_in_a_range_are_followed_by_a_secret_in_fluxs_form(scene: Scene, gpg_home: Path) -> None:
    eve, mallory = pgp_signer(gpg_home, "eve"), pgp_signer(gpg_home, "mallory")
    repository = scene.lab.repository()
    first = commit(scene, repository, "one", None)
    eve.configure_by(repository.run)
    repository.run("tag", "-s", "v1.0.0", "-m", "x")
    repository.run("push", "--quiet", "origin", "v1.0.0")
    scene.lab.secret(NAMESPACE, "pgp", **{"author1.asc": eve.public.decode()})
    verify = {"mode": "Tag", "provider": "pgp", "secretName": "pgp"}
    manifest = scene.decryptor("tags", repository.url, ref={"semver": "1.x"})
    manifest["spec"]["source"]["repository"]["verify"] = verify
    scene.lab.admin.apply(manifest).ok()
    status = scene.until_settled("tags", first)
    expected = {"tag": "refs/tags/v1.0.0", "tagSigner": "author1.asc", "tagKey": eve.fingerprint}
    assert status["verification"] == {"revision": first, "mode": "Tag", **expected}
    commit(scene, repository, "two", None)
    mallory.configure_by(repository.run)
    repository.run("tag", "-s", "v1.1.0", "-m", "x")
    repository.run("push", "--quiet", "origin", "v1.1.0")
    ask(scene, "tags")
    ready = scene.until_condition("tags", "Ready", "False", "SignerUnknown")
    assert f"revision {first[:12]} stays deployed" in ready["message"]
    assert mallory.fingerprint in ready["message"]
    assert scene.data("app") == {"value": "one"}
    scene.lab.delete_decryptor(NAMESPACE, "tags")


def test_a_change_needs_a_second_signer_who_merges_it(scene: Scene, tmp_path: Path) -> None:
    ann, bob = (ssh_signer(tmp_path, name) for name in ("ann", "bob"))
    repository = scene.lab.repository()
    commit(scene, repository, "start", None)
    scene.lab.secret(NAMESPACE, "two", **{f"{each.path.name}.pub": each.line for each in (ann, bob)})
    repository.run("checkout", "--quiet", "-b", "change")
    commit(scene, repository, "wanted", ann)
    manifest = scene.decryptor("two", repository.url)
    verify = {"provider": "ssh", "secretName": "two", "minimumSigners": 2}
    manifest["spec"]["source"]["repository"]["verify"] = verify
    scene.lab.admin.apply(manifest).ok()
    ready = scene.until_condition("two", "Ready", "False", "TooFewSigners")
    assert "secret.enc.yaml: its present form is signed by ann, and 2 different signers are wanted" in ready["message"]
    assert scene.data("app") != {"value": "wanted"}

    bob.configure_by(repository.run)
    repository.run("checkout", "--quiet", "-B", "main", "HEAD^")
    repository.run("merge", "--quiet", "--no-ff", "-S", "-m", "approved", "change")
    repository.run("push", "--quiet", "--force", "origin", "HEAD:main")
    revision = repository.run("rev-parse", "HEAD")
    ask(scene, "two")
    status = scene.until_settled("two", revision)
    assert scene.data("app") == {"value": "wanted"}
    assert status["verification"]["signer"] == "bob"
    # One of the two keys goes: what is deployed has too few signers now.
    # (Taking it out of an applied `stringData` would leave it in `data`.)
    gone = {"data": {"ann.pub": None}}
    scene.lab.admin.call("PATCH", scene.secret_path("two"), gone, content_type=MERGE).ok()
    ready = scene.until_condition("two", "Ready", "False", "TooFewSigners", seconds=10)
    assert "it is deployed and stays as it is" in ready["message"]
    assert scene.data("app") == {"value": "wanted"}
    scene.lab.delete_decryptor(NAMESPACE, "two")


@pytest.mark.parametrize(
    ("verify", "ref", "says"),
    [
        ({"mode": "Tag"}, {"branch": "main"}, "verify.mode is for a tag"),
        ({"mode": "HEAD"}, None, 'verify.mode: Unsupported value: "HEAD"'),
        ({"provider": "gpg"}, None, 'verify.provider: Unsupported value: "gpg"'),
        ({"historyCommits": 10}, None, "historyCommits is for minimumSigners"),
        ({"signers": []}, None, "verify.signers: Invalid value"),
        ({"minimumSigners": 0}, None, "verify.minimumSigners: Invalid value"),
    ],
)
def test_the_api_server_refuses_what_contradicts_itself(
    scene: Scene, verify: dict[str, Any], ref: dict[str, str] | None, says: str
) -> None:
    manifest = scene.decryptor("refused", "https://git.example/app.git", ref=ref)
    manifest["spec"]["source"]["repository"]["verify"] = {"provider": "ssh", "secretName": "signers", **verify}
    answer = scene.lab.admin.apply(manifest)
    assert answer.status == 422
    assert says in str(answer.body["message"])


def test_a_private_key_in_the_secret_of_the_signers_is_refused_and_is_nowhere(
    lab: Lab, scene: Scene, gpg_home: Path, tmp_path: Path
) -> None:
    started = time.time()
    _, private = made_pgp_key(gpg_home, "canary")
    lines = private.splitlines()
    canaries = forms_of(CANARY, lines[len(lines) // 2])
    repository = scene.lab.repository()
    commit(scene, repository, "one", None)
    with watching_command_lines() as command_lines:
        wrong = {
            "ssh": (
                "ssh",
                {"id_ed25519": f"-----BEGIN OPENSSH PRIVATE KEY-----\n{CANARY}\n-----END OPENSSH PRIVATE KEY-----\n"},
            ),
            "pgp": ("pgp", {"author1.asc": private}),
        }
        for name, (provider, values) in wrong.items():
            lab.secret(NAMESPACE, f"wrong-{name}", **values)
            manifest = scene.decryptor(f"wrong-{name}", repository.url)
            verify = {"provider": provider, "secretName": f"wrong-{name}"}
            manifest["spec"]["source"]["repository"]["verify"] = verify
            lab.admin.apply(manifest).ok()
        for name, (_, values) in wrong.items():
            ready = scene.until_condition(f"wrong-{name}", "Ready", "False", "VerificationKeysInvalid")
            assert f"has a private key under {next(iter(values))!r}" in ready["message"]
    told = {f"status of {name}": json.dumps(scene.status(f"wrong-{name}")).encode() for name in wrong}
    events = lab.admin.call("GET", f"/apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events").ok()
    told["events"] = json.dumps(events["items"]).encode()
    told["logs"] = until(
        "the refusal is in the log", lambda: lab.logs() if "VerificationKeysInvalid" in lab.logs() else ""
    ).encode()
    told |= {f"command line {number}": line for number, line in enumerate(command_lines)}
    told |= contents(tmp_path)
    told |= new_files_of_the_machine(started)
    assert found_in(told, canaries) == []
    for name in wrong:
        lab.delete_decryptor(NAMESPACE, f"wrong-{name}")
