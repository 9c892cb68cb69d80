"""The ServiceAccount of Pods is applied in both of its fields, so that it can be dropped."""

from __future__ import annotations

from typing import Any

import pytest

from jiemi.core.objects.manifests import Manifest
from jiemi.core.objects.pod_account import with_both_account_names

BOTH = {"serviceAccountName": "app", "serviceAccount": "app"}
KINDS = [
    ("v1", "Pod", ("spec",)),
    ("v1", "PodTemplate", ("template", "spec")),
    ("v1", "ReplicationController", ("spec", "template", "spec")),
    ("apps/v1", "DaemonSet", ("spec", "template", "spec")),
    ("apps/v1", "Deployment", ("spec", "template", "spec")),
    ("apps/v1", "ReplicaSet", ("spec", "template", "spec")),
    ("apps/v1", "StatefulSet", ("spec", "template", "spec")),
    ("batch/v1", "Job", ("spec", "template", "spec")),
    ("batch/v1", "CronJob", ("spec", "jobTemplate", "spec", "template", "spec")),
]


def manifest(api_version: str, kind: str, path: tuple[str, ...], pod: Any) -> Manifest:
    body = pod
    for name in reversed(path):
        body = {name: body}
    return Manifest({"apiVersion": api_version, "kind": kind, "metadata": {"name": "a"}, **body}, 1)


@pytest.mark.parametrize(("api_version", "kind", "path"), KINDS, ids=[each[1] for each in KINDS])
@pytest.mark.parametrize("name", BOTH)
def test_either_name_stands_for_both(api_version: str, kind: str, path: tuple[str, ...], name: str) -> None:
    given = manifest(api_version, kind, path, {name: "app", "hostNetwork": True})
    wanted = manifest(api_version, kind, path, {**BOTH, "hostNetwork": True})
    assert with_both_account_names(given).body == wanted.body
    assert given.body != wanted.body, "the manifest itself is left as it is"


@pytest.mark.parametrize(
    "pod",
    [
        {},
        None,
        [],
        {"serviceAccountName": ""},
        {"serviceAccountName": None},
        {"serviceAccountName": 7},
        {"serviceAccountName": "a", "serviceAccount": "b"},
        {"serviceAccountName": "", "serviceAccount": "b"},
        BOTH,
    ],
    ids=str,
)
def test_what_says_no_account_or_says_both_is_left_as_it_is(pod: Any) -> None:
    given = manifest("apps/v1", "Deployment", ("spec", "template", "spec"), pod)
    assert with_both_account_names(given) is given


@pytest.mark.parametrize(("api_version", "kind"), [("v1", "Secret"), ("example.org/v1", "Deployment"), ("v1", "List")])
def test_other_kinds_are_left_as_they_are(api_version: str, kind: str) -> None:
    given = manifest(api_version, kind, ("spec", "template", "spec"), {"serviceAccountName": "app"})
    assert with_both_account_names(given) is given
