"""Each install form, applied to an API server of its own.

Miwen has the token of the form's ServiceAccount and the arguments of its Deployment. What the form allows is done,
and what it does not allow is refused by a message that says which rule to add.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
from support.e2e.lab import Lab, Repository, git_server, until
from support.e2e.scene import Scene, condition, config_map, secret
from support.kubernetes.api_server import ApiServer, Manifest
from support.kubernetes.deploy_manifests import DEPLOY
from support.kubernetes.grants import Grant, grants_in
from support.kubernetes.installing import Running, kustomized, start_installed
from support.kubernetes.own_control_plane import open_own_control_plane
from support.paths import ROOT
from support.signing.signers import SshSigner, ssh_signer
from support.webhooks.delivery import deliver
from support.webhooks.requests import SECRET, request

pytestmark = pytest.mark.e2e

INSTALL = ROOT / "install"
RBAC = "rbac.authorization.k8s.io"
BY_LABEL = "jiemi.cr/aggregate-to-miwen"


@attrs.frozen
class Installed:
    """A cluster with a form of Jiemi, its services running.

    Attributes:
        miwen: the API server as Miwen's ServiceAccount.
    """

    lab: Lab
    manifests: list[Manifest]
    running: Running
    miwen: ApiServer

    def scene(self, namespace: str) -> Scene:
        return Scene(self.lab, namespace)

    def grant(self, namespace: str, account: tuple[str, str], *rules: tuple[str, str, str]) -> None:
        """Roles in a namespace, as a refusal asks for them: verbs, API group, resource."""
        for verbs, group, resource in rules:
            name = f"{account[1]}-{resource}-{verbs.replace(' ', '-')}"
            metadata = {"name": name, "namespace": namespace}
            rule = {"apiGroups": [group], "resources": [resource], "verbs": verbs.split()}
            ref = {"apiGroup": RBAC, "kind": "Role", "name": name}
            subject = {"kind": "ServiceAccount", "namespace": account[0], "name": account[1]}
            for kind, more in (("Role", {"rules": [rule]}), ("RoleBinding", {"roleRef": ref, "subjects": [subject]})):
                self.lab.admin.apply({"apiVersion": f"{RBAC}/v1", "kind": kind, "metadata": metadata, **more}).ok()

    def refusals(self, scene: Scene, name: str, *reasons: str) -> dict[str, str]:
        """The messages of the objects that were refused, by their names, once those reasons are there."""

        def check() -> dict[str, str] | None:
            found = scene.status(name).get("failedObjects", ())
            if sorted(each["reason"] for each in found) != sorted(reasons):
                return None
            return {each["name"]: each["message"] for each in found}

        refused: dict[str, str] = until(
            f"{name} says {reasons}", check, on_failure=lambda: self.lab._why(scene.namespace, name)
        )
        return refused


@contextlib.contextmanager
def installed(
    kubectl: Path,
    tools: dict[str, Path],
    folder: Path,
    change: Callable[[list[Manifest]], None] = lambda _: None,
    meanwhile: Callable[[Lab, str], None] = lambda *_: None,
) -> Iterator[Installed]:
    """That form in a cluster with the namespaces team-a, team-b and other.

    Args:
        change: changes the manifests before they are applied.
        meanwhile: called with Miwen's log until Miwen has made the certificates.
    """
    manifests = kustomized(kubectl, folder)
    change(manifests)
    parent = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with (
        tempfile.TemporaryDirectory(prefix="jiemi-form-", dir=parent) as name,
        open_own_control_plane(Path(name), tools=tools) as (plane, admin),
        git_server(Path(name)) as git,
    ):
        lab = Lab(admin, plane.kubeconfig, tools, git, Path(name))
        try:
            for namespace in ("team-a", "team-b", "other"):
                lab.namespace(namespace)
            # Namespaces and what defines kinds come first in Kustomize's order.
            for manifest in manifests:
                admin.apply(manifest).ok()
            running = start_installed(lab, manifests, partial(meanwhile, lab))
            yield Installed(lab, manifests, running, admin.service_account("jiemi", "miwen"))
        finally:
            lab.end_services()


def with_webhooks(manifests: list[Manifest]) -> None:
    """Have Miwen receive webhooks, as deploy/webhooks does."""
    (miwen,) = (each for each in manifests if (each["kind"], each["metadata"]["name"]) == ("Deployment", "miwen"))
    miwen["spec"]["template"]["spec"]["containers"][0]["args"].append("--webhooks-listen=127.0.0.1:0")


def webhook(namespace: str, name: str = "hook", token: str = SECRET) -> Manifest:
    metadata = {"name": name, "namespace": namespace, "labels": {"jiemi.cr/webhook": "github"}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"token": token}}


def is_taken(form: Installed, namespace: str, url: str) -> bool:
    """Whether a push is, by the webhook of that namespace."""
    return deliver(form.running.miwen, request("github", urls=(url, url)), namespace, "hook") == 202


def signed(scene: Scene, signer: SshSigner) -> Repository:
    """A repository with the Secret `app` in a commit that is signed."""
    repository = scene.lab.repository()
    signer.configure_by(repository.run)
    repository.run("config", "commit.gpgSign", "true")
    scene.commit(repository, secret("app", a="1"))
    return repository


def put_verified(scene: Scene, repository: Repository, signer: SshSigner, *, sub: bool = False) -> None:
    """A Decryptor that takes signed commits alone, by the public keys of a Secret."""
    scene.lab.secret(scene.namespace, "signers", **{"ann.pub": signer.line})
    more = {"verify": {"provider": "ssh", "secretName": "signers"}, **({"submodules": {}} if sub else {})}
    scene.lab.admin.apply(scene.lab.decryptor(scene.namespace, "app", repository.url, repository=more)).ok()


def role(name: str, namespace: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": metadata, "rules": []}


def test_the_form_for_the_whole_cluster_applies_secrets_and_configmaps_everywhere_and_nothing_else(
    kubectl_program: Path, tools: dict[str, Path]
) -> None:
    with installed(kubectl_program, tools, DEPLOY) as form:
        scene = form.scene("team-a")
        repository = scene.lab.repository()
        revision = scene.commit(repository, secret("app", a="1"), config_map("app", "other"))
        scene.put("app", repository.url)
        scene.lab.until_synced("team-a", "app", revision)
        assert scene.lab.admin.call("GET", "/api/v1/namespaces/other/configmaps/app").status == 200
        scene.commit(repository, secret("app", a="1"), role("app", "team-a"))
        message = form.refusals(scene, "app", "ApplyForbidden")["app"]
        assert f"Grant `create` and `patch` on roles of API group {RBAC} to Miwen's ServiceAccount" in message
        assert "in namespace team-a" in message
        assert BY_LABEL in message


def _has_data(scene: Scene) -> bool:
    return scene.data("app") == {"a": "1"}


def test_the_form_for_named_namespaces_follows_them_with_rights_in_no_other(
    kubectl_program: Path, tools: dict[str, Path]
) -> None:
    with installed(kubectl_program, tools, INSTALL / "namespaces") as form:
        lab, miwen = form.lab, form.miwen
        for namespace in ("other", "kube-system", "default"):
            for verb in ("get", "list", "watch", "create", "patch", "delete"):
                assert not miwen.may(verb, "", "secrets", namespace)
                assert not miwen.may(verb, "jiemi.cr", "decryptors", namespace)
        assert miwen.call("GET", "/api/v1/secrets").status == 403
        assert not any(
            "secrets" in rule.get("resources", ())
            for each in form.manifests
            if each["kind"] == "ClusterRole"
            for rule in each.get("rules") or ()
        )

        scenes = {namespace: form.scene(namespace) for namespace in ("team-a", "team-b", "other")}
        repository = lab.repository()
        for scene in scenes.values():
            scene.commit(repository, secret("app", a="1"))
            scene.put("app", repository.url)
        for namespace in ("team-a", "team-b"):
            until(f"{namespace} is followed", partial(_has_data, scenes[namespace]))
        # Drift is seen: Secrets are watched in both.
        for namespace in ("team-a", "team-b"):
            patch = {"data": {"a": "Mg=="}}
            path = f"/api/v1/namespaces/{namespace}/secrets/app"
            lab.admin.call("PATCH", path, patch, "application/merge-patch+json").ok()
        for namespace in ("team-a", "team-b"):
            until(f"{namespace} is corrected", partial(_has_data, scenes[namespace]))
            assert condition(scenes[namespace].status("app"), "Drifted") == {}
        assert scenes["other"].status("app") == {}
        assert scenes["other"].data("app") == {}

        # Of another namespace nothing is written, and the message says what to add: a label would not do.
        elsewhere = lab.repository()
        wanted = secret("elsewhere", a="1")
        wanted["metadata"]["namespace"] = "other"
        revision = scenes["team-a"].commit(elsewhere, wanted)
        scenes["team-a"].put("elsewhere", elsewhere.url)
        message = form.refusals(scenes["team-a"], "elsewhere", "ReadForbidden")["elsewhere"]
        grant = "Grant `get`, `create` and `patch` on secrets of the core API group to Miwen's ServiceAccount"
        assert f"{grant} in namespace other" in message
        assert BY_LABEL not in message
        form.grant("other", ("jiemi", "miwen"), ("get create patch", "", "secrets"))
        lab.until_synced("team-a", "elsewhere", revision, seconds=90)
        assert lab.data("other", "elsewhere") == {"a": "1"}

        # More kinds come by the label, which the cluster's own controller follows, in both namespaces and in no other.
        scenes["team-a"].commit(repository, secret("app", a="1"), role("app", "team-a"))
        message = form.refusals(scenes["team-a"], "app", "ReadForbidden")["app"]
        assert f"on roles of API group {RBAC} to Miwen's ServiceAccount in namespace team-a" in message
        assert BY_LABEL in message
        rules = [{"apiGroups": [RBAC], "resources": ["roles"], "verbs": ["get", "create", "patch"]}]
        metadata = {"name": "jiemi-applies-roles", "labels": {BY_LABEL: "true"}}
        more = {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": metadata, "rules": rules}
        lab.admin.apply(more).ok()
        until("the label's rules hold", lambda: miwen.may("patch", RBAC, "roles", "team-b"))
        assert not miwen.may("patch", RBAC, "roles", "other")


def _no_watches_in_team_b(manifests: list[Manifest]) -> None:
    with_webhooks(manifests)
    for each in manifests:
        if (each["kind"], each["metadata"].get("namespace")) == ("Role", "team-b"):
            for rule in each["rules"]:
                if "secrets" in rule["resources"]:
                    rule["verbs"] = ["get", "create", "patch", "delete"]


def test_without_list_and_watch_a_namespace_is_served_and_says_that_no_drift_is_seen_there_and_what_to_add(
    kubectl_program: Path, tools: dict[str, Path]
) -> None:
    with installed(kubectl_program, tools, INSTALL / "namespaces", _no_watches_in_team_b) as form:
        team_a, team_b = form.scene("team-a"), form.scene("team-b")
        repository = form.lab.repository()
        team_a.commit(repository, secret("app", a="1"))
        for scene in (team_a, team_b):
            scene.put("app", repository.url)
            until("it is applied", partial(_has_data, scene), on_failure=form.running.miwen.log_text)
        found = team_b.until_condition("app", "Drifted", "Unknown", "WatchForbidden")
        right = "Grant `list` and `watch` on secrets of the core API group to Miwen's ServiceAccount"
        assert f"{right} in namespace team-b" in found["message"]
        # Webhooks of that namespace are not known, and the log says so.
        for namespace in ("team-a", "team-b"):
            form.lab.admin.apply(webhook(namespace)).ok()
        until("a webhook is taken", lambda: is_taken(form, "team-a", repository.url))
        assert not is_taken(form, "team-b", repository.url)
        lines = [json.loads(line) for line in form.running.miwen.log_text().splitlines()]
        [line] = [each for each in lines if each["event"] == "webhooks_not_followed"]
        assert f"{right} in namespace team-b" in line["message"]
        assert condition(team_a.status("app"), "Drifted") == {}
        assert condition(team_b.status("app"), "Ready")["status"] == "True"
        form.grant("team-b", ("jiemi", "miwen"), ("list watch", "", "secrets"))
        until("drift is seen", lambda: condition(team_b.status("app"), "Drifted") == {}, seconds=120)
        until("its webhooks are known", lambda: is_taken(form, "team-b", repository.url), seconds=120)


def _no_rights(manifests: list[Manifest]) -> None:
    """Take Miwen's rights away, all of them."""
    with_webhooks(manifests)
    kinds = ("RoleBinding", "ClusterRoleBinding")
    manifests[:] = [each for each in manifests if each["kind"] not in kinds or "miwen" not in each["metadata"]["name"]]


def test_a_miwen_without_rights_names_one_right_after_the_other_until_it_works_and_none_that_the_form_has_not(
    kubectl_program: Path, tools: dict[str, Path], tmp_path: Path
) -> None:
    folder, ann = INSTALL / "namespaces", ssh_signer(tmp_path, "ann")
    usual = {
        (each["metadata"]["namespace"], group, resource, verb)
        for each in kustomized(kubectl_program, folder)
        if each["kind"] == "Role"
        for rule in each["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    granted: dict[Grant, None] = {}

    def obey(lab: Lab, text: str) -> None:
        for grant in grants_in(text):
            if grant not in granted:
                granted[grant] = None
                for manifest in grant.manifests(("jiemi", "miwen")):
                    lab.admin.apply(manifest).ok()

    with installed(kubectl_program, tools, folder, _no_rights, obey) as form:
        lab, scenes = form.lab, [form.scene("team-a"), form.scene("team-b")]
        repository = signed(scenes[0], ann)
        for scene in scenes:
            put_verified(scene, repository, ann)
            lab.admin.apply(webhook(scene.namespace)).ok()

        def works() -> bool:
            statuses = [scene.status("app") for scene in scenes]
            obey(lab, form.running.miwen.log_text() + json.dumps(statuses))
            return all(
                _has_data(scene)
                and condition(status, "Ready").get("status") == "True"
                and condition(status, "Drifted") == {}
                and condition(status, "SourceVerified")["status"] == "True"
                and is_taken(form, scene.namespace, repository.url)
                and scene.events("app")
                for scene, status in zip(scenes, statuses, strict=True)
            )

        until("both are followed", works, seconds=180, on_failure=form.running.miwen.log_text)
        asked = {(str(each.namespace), each.group, each.resource, verb) for each in granted for verb in each.verbs}
        assert asked <= usual
        needed = {(group, resource, verb) for _, group, resource, verb in asked}
        for right in (
            ("coordination.k8s.io", "leases", "create"),
            ("coordination.k8s.io", "leases", "update"),
            ("jiemi.cr", "decryptors", "list"),
            ("jiemi.cr", "decryptors/status", "patch"),
            ("events.k8s.io", "events", "create"),
            ("", "secrets", "create"),
            ("", "secrets", "watch"),
            ("", "secrets", "patch"),
        ):
            assert right in needed


@pytest.mark.parametrize(
    "folder", [DEPLOY, INSTALL / "impersonation", INSTALL / "anything"], ids=lambda each: each.name
)
def test_webhooks_signatures_and_submodules_need_no_further_right_in_any_form(
    kubectl_program: Path, tools: dict[str, Path], tmp_path: Path, folder: Path
) -> None:
    ann = ssh_signer(tmp_path, "ann")
    with installed(kubectl_program, tools, folder, with_webhooks) as form:
        scene = form.scene("team-a")
        if folder.name == "impersonation":
            account = ("team-a", "jiemi-apply")
            metadata = {"namespace": account[0], "name": account[1]}
            form.lab.admin.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}).ok()
            form.grant("team-a", account, ("get create patch delete", "", "secrets"))
        repository = signed(scene, ann)
        put_verified(scene, repository, ann, sub=True)
        for manifest in (webhook("team-a"), webhook("team-a", "short", "canary")):
            form.lab.admin.apply(manifest).ok()
        until("it is applied", partial(_has_data, scene), on_failure=form.running.miwen.log_text)
        assert condition(scene.status("app"), "SourceVerified")["status"] == "True"
        until("the webhook is taken", lambda: is_taken(form, "team-a", repository.url))

        def reported() -> bool:
            path = "/apis/events.k8s.io/v1/namespaces/team-a/events"
            return "WebhookUnusable" in [each["reason"] for each in form.lab.admin.call("GET", path).ok()["items"]]

        until("the other one's Event is there", reported, on_failure=form.running.miwen.log_text)
        lines = [json.loads(line) for line in form.running.miwen.log_text().splitlines()]
        assert [each for each in lines if "Grant `" in str(each)] == []


def test_the_form_by_impersonation_writes_nothing_by_itself_and_acts_as_one_account_of_each_namespace(
    kubectl_program: Path, tools: dict[str, Path]
) -> None:
    with installed(kubectl_program, tools, INSTALL / "impersonation") as form:
        lab, miwen, scene = form.lab, form.miwen, form.scene("team-a")
        for resource in ("secrets", "configmaps"):
            for verb in ("create", "update", "patch", "delete", "deletecollection"):
                assert not miwen.may(verb, "", resource, "team-a")
        lab.secret("team-a", "age-key", privateKey=str(lab.identity))
        provider = {"age": {"privateKey": {"secretName": "age-key", "key": "privateKey"}}}
        repository = lab.repository()
        revision = scene.commit(repository, secret("app", a="1"))
        lab.admin.apply(lab.decryptor("team-a", "app", repository.url, provider=provider)).ok()
        status = lab.until_reason("team-a", "app", "ServiceAccountNotFound")
        assert "ServiceAccount team-a/jiemi-apply" in json.dumps(status)

        account = ("team-a", "jiemi-apply")
        metadata = {"namespace": account[0], "name": account[1]}
        lab.admin.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}).ok()
        message = form.refusals(scene, "app", "ApplyForbidden")["app"]
        grant = "Grant `create` and `patch` on secrets of the core API group"
        assert f"{grant} to ServiceAccount team-a/jiemi-apply in namespace team-a" in message
        form.grant("team-a", account, ("create patch", "", "secrets"))
        lab.until_synced("team-a", "app", revision, seconds=90)
        assert lab.data("team-a", "app") == {"a": "1"}
        # Drift is seen by Miwen itself, and corrected by the account.
        patch = {"data": {"a": "Mg=="}}
        lab.admin.call("PATCH", "/api/v1/namespaces/team-a/secrets/app", patch, "application/merge-patch+json").ok()
        until("it is corrected", lambda: scene.data("app") == {"a": "1"})

        # The account's rights are the bound, in its own namespace and elsewhere.
        elsewhere = config_map("app", "team-b")
        scene.commit(repository, secret("app", a="1"), elsewhere)
        message = form.refusals(scene, "app", "ApplyForbidden")["app"]
        assert "on configmaps of the core API group to ServiceAccount team-a/jiemi-apply in namespace team-b" in message

        # Another account is not within the form: the message says which right Miwen needs to act as it.
        metadata = {"namespace": "team-a", "name": "another"}
        lab.admin.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}).ok()
        theirs = lab.repository()
        scene.commit(theirs, secret("another", a="1"))
        manifest = lab.decryptor("team-a", "another", theirs.url, provider=provider)
        manifest["spec"]["serviceAccountName"] = "another"
        lab.admin.apply(manifest).ok()
        status = lab.until_reason("team-a", "another", "ImpersonationForbidden")
        right = "`impersonate` on serviceaccounts of the core API group (resourceNames: another)"
        assert f"Grant {right} to Miwen's ServiceAccount in namespace team-a" in json.dumps(status)


def test_the_form_for_anything_applies_any_kind_but_not_what_jiemi_always_refuses(
    kubectl_program: Path, tools: dict[str, Path]
) -> None:
    with installed(kubectl_program, tools, INSTALL / "anything") as form:
        lab, scene = form.lab, form.scene("team-a")
        assert form.miwen.may("*", "*", "*")
        repository = lab.repository()
        made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "made"}}
        revision = scene.commit(repository, secret("app", a="1"), role("app", "team-b"), made)
        scene.put("app", repository.url)
        lab.until_synced("team-a", "app", revision)
        assert lab.admin.call("GET", "/api/v1/namespaces/made").status == 200
        assert lab.admin.call("GET", f"/apis/{RBAC}/v1/namespaces/team-b/roles/app").status == 200

        scene.commit(repository, secret("app", a="1"), lab.decryptor("team-b", "evil", repository.url))
        message = form.refusals(scene, "app", "ObjectProtected")["evil"]
        assert "serviceAccountName" in message
        # The API server holds to it too, whatever Miwen decides.
        evil = lab.decryptor("team-b", "evil", repository.url)
        until("the policies hold", lambda: form.miwen.apply(evil, query="&dryRun=All").status != 201)
        answer = form.miwen.apply(evil, query="&dryRun=All")
        assert "jiemi-miwen-decryptors" in answer.body["message"]
