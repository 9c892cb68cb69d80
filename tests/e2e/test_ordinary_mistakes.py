"""What is said of ordinary mistakes: the same in the condition, the Event, the log and `jiemi status`.

All Decryptors are made together, each with one mistake (`mistakes.catalogue`, which docs/troubleshooting.md is made of
too): one cluster, one Krapao, and one Miwen with the rights that deploy/ gives.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import pytest
from api_server import ApiServer
from e2e_lab import Lab, Service, git_server, until
from mistakes.catalogue import MISTAKES
from mistakes.mistake import Bench, Mistake
from pyrage import x25519

from jiemi.core.sensitive import SensitiveText

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-mistakes"
DEADLINE_SECONDS = 90.0
"""For all of them together, on a busy machine; one takes less than two seconds."""

_NOT_YET = ("DependencyNotReady", "KrapaoUnavailable", "ClusterUnavailable")
"""What may be said for a moment at the beginning, whatever else is wrong."""


@attrs.define
class Told:
    """What was said, by the Decryptors' names."""

    lab: Lab
    miwen: Service
    words: Mapping[str, str]
    _shown: str | None = None

    def condition(self, mistake: Mistake) -> dict[str, Any]:
        """The condition Ready, once it is False for the reason that is expected."""

        def found() -> dict[str, Any] | None:
            conditions = self.lab.status(NAMESPACE, mistake.name).get("conditions", ())
            ready = next((each for each in conditions if each["type"] == "Ready"), None)
            is_final = ready is not None and (ready["reason"] == mistake.reason or ready["reason"] not in _NOT_YET)
            return ready if is_final and ready is not None and ready["status"] == "False" else None

        ready: dict[str, Any] = until(
            f"{mistake.name} is told", found, seconds=DEADLINE_SECONDS, on_failure=lambda: self.miwen.log_text()[-3000:]
        )
        return ready

    def notes(self, mistake: Mistake) -> set[str]:
        """The notes of the Decryptor's Events of that reason."""
        path = f"/apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events"
        return {
            event["note"]
            for event in self.lab.admin.call("GET", path).ok()["items"]
            if (event["regarding"]["name"], event["reason"]) == (mistake.name, mistake.reason)
        }

    def logged(self, mistake: Mistake) -> set[str]:
        """The messages of Miwen's log about the Decryptor with that reason."""
        lines = [json.loads(line) for line in self.miwen.log_text().splitlines() if line.startswith("{")]
        return {
            line["message"]
            for line in lines
            if line["event"] == "not-in-sync" and (line["name"], line["reason"]) == (mistake.name, mistake.reason)
        }

    def shown(self) -> str:
        """What `jiemi status` prints, once all are told."""
        if self._shown is None:
            for mistake in MISTAKES:
                self.condition(mistake)
            arguments = ("status", "--kubeconfig", str(self.lab.kubeconfig), "--namespace", NAMESPACE)
            done = subprocess.run(
                [sys.executable, "-m", "jiemi", *arguments], capture_output=True, text=True, check=False, timeout=60
            )
            self._shown = done.stdout
        return self._shown


@pytest.fixture(scope="module")
def told(lab: Lab, installed: ApiServer) -> Iterator[Told]:
    lab.namespace(NAMESPACE)
    with git_server(lab.folder / "private", username="me", token=SensitiveText("right-token")) as private:
        stranger = x25519.Identity.generate()
        repository = lab.repository()
        repository.commit({"README.md": b"mistakes\n"})
        urls = {"private": private.create("private.git"), "empty": lab.git.create("empty.git")}
        words = {
            "namespace": NAMESPACE,
            "url": repository.url,
            "base": lab.git.url,
            "host": lab.git.url.removeprefix("http://"),
            "private_host": private.url.removeprefix("http://"),
            "private": urls["private"],
            "empty": urls["empty"],
            "age": str(lab.identity.to_public()),
            "stranger": str(stranger.to_public()),
            "stranger key": str(stranger),
        }
        benches = [Bench(lab, NAMESPACE, mistake.name, repository, urls, words) for mistake in MISTAKES]
        for bench, mistake in zip(benches, MISTAKES, strict=True):
            mistake.make(bench)
        for bench in benches:
            for path, to in bench.symlinks.items():
                link = repository.clone / path
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(to)
        revision = repository.commit({path: content for bench in benches for path, content in bench.files.items()})
        repository.run(
            "push", "--quiet", "origin", "HEAD:release-1", "HEAD:refs/heads/release-2", "HEAD:refs/tags/v1.0"
        )
        _allow_more(installed)
        _, address = lab.start_krapao(name="mistakes")
        kubeconfig = lab.service_account_kubeconfig("jiemi", "miwen")
        miwen = lab.start_miwen(address, NAMESPACE, "--log-format", "json", interval="5m", kubeconfig=kubeconfig)
        first = [each for bench in benches for each in bench.first]
        for each in first:
            lab.admin.apply(each).ok()
        for each in first:
            lab.until_synced(NAMESPACE, each["metadata"]["name"], revision)
        for bench in benches:
            for other in bench.others:
                lab.admin.apply(other).ok()
            lab.admin.apply(bench.decryptor(bench.name, bench.spec)).ok()
        yield Told(lab, miwen, {**words, "revision": revision[:12]})
        lab.end_services()
        assert "canary" not in lab.logs()


def _allow_more(admin: ApiServer) -> None:
    """What deploy/ leaves to the operator: to act as ServiceAccounts, and Services."""
    rules = [
        {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["impersonate", "get"]},
        {"apiGroups": [""], "resources": ["services"], "verbs": ["get", "list", "watch", "create", "patch", "delete"]},
    ]
    rbac = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": NAMESPACE}, "rules": rules}
    binding = {
        "apiVersion": f"{rbac}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": NAMESPACE},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": NAMESPACE},
        "subjects": [{"kind": "ServiceAccount", "name": "miwen", "namespace": "jiemi"}],
    }
    for manifest in (role, binding):
        admin.apply(manifest).ok()


def _expected(told: Told, mistake: Mistake) -> str:
    return mistake.text({**told.words, "app": mistake.name})


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_the_condition_names_what_is_wrong_and_what_to_do(told: Told, mistake: Mistake) -> None:
    ready = told.condition(mistake)
    assert (ready["reason"], ready["message"]) == (mistake.reason, _expected(told, mistake))


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_the_event_the_log_and_jiemi_status_say_the_same(told: Told, mistake: Mistake) -> None:
    message = told.condition(mistake)["message"]
    assert f"{NAMESPACE}/{mistake.name}: {message}" in told.shown()
    until(f"the log tells of {mistake.name}", lambda: message in told.logged(mistake))
    until(f"an Event tells of {mistake.name}", lambda: message in told.notes(mistake))


def test_no_value_is_in_anything_that_is_said(told: Told) -> None:
    path = f"/apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events"
    statuses = json.dumps([told.lab.status(NAMESPACE, mistake.name) for mistake in MISTAKES])
    events = json.dumps(told.lab.admin.call("GET", path).ok())
    for value in ("canary", told.words["stranger key"], str(told.lab.identity)):
        assert value not in statuses + events + told.shown() + told.miwen.log_text()
