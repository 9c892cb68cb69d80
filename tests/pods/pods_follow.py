"""Pods of deploy/ as it is shipped follow a repository, and go on with it whichever of them is lost."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pods.conftest import PODS, ROOT
from support.canaries.forms import forms_of, found_in
from support.kubernetes.kubectl import Kubectl
from support.pods.demo import Demo, until
from support.pods.running import KRAPAO, MIWEN, until_rolled_out
from support.pods.said import what_is_said
from support.traces.collector import Collector, collector

from jiemi.controlplane.node.arguments import NODE_ADDRESS
from jiemi.demo.content import EXPECTED

CANARY = "canary-of-the-pods-6b1f9d"

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


@pytest.fixture
def traced(installed: Kubectl) -> Iterator[Collector]:
    """A collector to which both send their traces, meanwhile."""
    with collector(host=NODE_ADDRESS) as found:
        at = "/spec/template/spec/containers/0/args/-"
        flags = (f"--traces-endpoint={found.url}", "--insecure-plain-traces")
        patch = json.dumps([{"op": "add", "path": at, "value": flag} for flag in flags])
        for workload in (KRAPAO, MIWEN):
            installed("patch", workload, "--type=json", f"--patch={patch}")
        until_rolled_out(installed)
        yield found
    installed("apply", "-k", str(ROOT / "deploy"))
    until_rolled_out(installed)


async def test_no_value_is_in_a_log_an_event_a_status_a_metric_or_a_trace_nor_on_the_node_s_disk(
    traced: Collector, demo: Demo, installed: Kubectl, root: Path, tmp_path: Path
) -> None:
    until("the Secret is there", lambda: demo.plain() == EXPECTED)
    # Not the demo's password: that is in the examples, and so in the images.
    demo.push(CANARY)
    until("the push is deployed", lambda: demo.revision() == demo.repository.head())
    until("both have sent spans", lambda: {span.service for span in traced.spans} == {"jiemi-krapao", "jiemi-miwen"})
    until("the decryption is among them", lambda: any(span.name == "decrypt" for span in traced.spans))
    key = (demo.home / "key").read_text().strip()
    made = [
        line
        for name in ("jiemi-authorities", "krapao-tls", "miwen-tls")
        for line in base64.b64decode(installed("get", "secret", name, "--output=jsonpath={.data.tls\\.key}"))
        .decode()
        .splitlines()[1:2]
    ]
    assert len(made) == 3
    forms = forms_of(CANARY, key, *made)
    assert found_in(what_is_said(installed, demo, traced, pods=PODS), forms) == []
    # What a search finds where it is: the demo's own key.
    patterns = tmp_path / "patterns"
    patterns.write_bytes(b"\n".join(forms))
    assert str(demo.home / "key") in _files_with(patterns, demo.home)
    # Logs of containers, their layers, volumes, etcd's data, kubelet's and containerd's own; not volumes in memory.
    patterns.write_text("restrict_oom_score_adj")
    assert [path for path in _files_with(patterns, root) if path.endswith("containerd.toml")]
    patterns.write_bytes(b"\n".join(forms))
    assert _files_with(patterns, root) == []


def _files_with(patterns: Path, folder: Path) -> list[str]:
    """The files below a folder, on the file system that it is on, in which one of the patterns stands."""
    done = subprocess.run(
        # Files come and go meanwhile, of which both would tell.
        ["find", folder, "-xdev", "-type", "f", "-exec", "grep", "-slaF", "-f", patterns, "{}", "+"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
        timeout=300,
    )
    return sorted(done.stdout.splitlines())
