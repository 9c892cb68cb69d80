"""Pods of deploy/ as it is shipped follow a repository, and go on with it whichever of them is lost."""

from __future__ import annotations

import base64

import pytest
from pods.conftest import PODS
from support.kubernetes.kubectl import Kubectl
from support.pods.demo import Demo, until

from jiemi.demo.content import EXPECTED

_REPLACED_SECONDS = 60
"""Within which a lost Pod is replaced and has caught up."""


def test_all_pods_run_as_they_are_shipped(installed: Kubectl) -> None:
    assert installed("get", "pods").count("1/1") == PODS
    assert "Landlock" in installed("exec", "repository-0", "--", "jiemi", "doctor")


async def test_a_push_is_followed(demo: Demo) -> None:
    until("the Secret is there", lambda: demo.plain() == EXPECTED)
    demo.push("Hello again")
    until("the push is deployed", lambda: demo.revision() == demo.repository.head())
    assert demo.plain() == {**EXPECTED, "greeting": "Hello again"}


@pytest.mark.parametrize("component", ["miwen", "repository"])
async def test_a_deleted_secret_is_restored_though_a_pod_was_killed(
    demo: Demo, installed: Kubectl, component: str
) -> None:
    until("the Secret is there", lambda: demo.plain() == EXPECTED)
    installed("delete", "pod", "--force", "--grace-period=0", f"--selector=app.kubernetes.io/component={component}")
    demo.kubectl("delete", "secret", "demo")
    until("the Secret is there again", lambda: demo.plain() == EXPECTED, seconds=_REPLACED_SECONDS)
    until("all Pods are ready", lambda: installed("get", "pods").count("1/1") == PODS)


async def test_when_the_active_miwen_is_killed_the_other_goes_on(demo: Demo, installed: Kubectl) -> None:
    until("the Secret is there", lambda: demo.plain() == EXPECTED)
    active = _active(installed)
    installed("delete", "pod", "--force", "--grace-period=0", active)
    demo.kubectl("delete", "secret", "demo")
    until("the Secret is there again", lambda: demo.plain() == EXPECTED, seconds=_REPLACED_SECONDS)
    assert _active(installed) != active
    until("all Pods are ready", lambda: installed("get", "pods").count("1/1") == PODS)


def _active(installed: Kubectl) -> str:
    """The name of the Pod that holds the Lease."""
    return installed("get", "lease", "jiemi-miwen", "--output=jsonpath={.spec.holderIdentity}").partition("_")[0]


async def test_no_value_is_in_a_log_an_event_or_a_status(demo: Demo, installed: Kubectl) -> None:
    until("the Secret is there", lambda: demo.plain() == EXPECTED)
    key = (demo.home / "key").read_text().strip()
    made = [
        line
        for name in ("jiemi-authorities", "krapao-tls", "miwen-tls")
        for line in base64.b64decode(installed("get", "secret", name, "--output=jsonpath={.data.tls\\.key}"))
        .decode()
        .splitlines()[1:2]
    ]
    said = [
        installed("logs", "--selector=app.kubernetes.io/component=miwen", "--tail=-1"),
        installed("logs", "--selector=app.kubernetes.io/component=repository", "--tail=-1"),
        demo.kubectl("get", "events", "--output=yaml"),
        demo.kubectl("get", "decryptors", "--output=yaml"),
    ]
    assert all(said)
    assert len(made) == 3
    for value in (EXPECTED["password"], key, *made):
        forms = (value, base64.b64encode(value.encode()).decode())
        assert not [text for text in said if any(form in text for form in forms)]
