"""A repository as Flux and Argo CD follow it: manifests with the files of kustomize, Helm and CI beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from support.e2e.lab import Lab
from support.e2e.project import Project, project
from support.e2e.scene import secret

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-tool-files"

TOOLS = {
    "kustomization.yaml": b"apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [app]\n",
    "app/kustomization.yml": b"resources: [secret.yaml]\n",
    "app/.argocd-source-app.yaml": b"kustomize: {images: [a]}\n",
    ".sops.yaml": b"creation_rules: []\n",
    ".github/workflows/ci.yaml": b"on: push\njobs: {}\n",
    ".gitlab-ci.yml": b"stages: [a]\n",
    "skaffold.yaml": b"apiVersion: skaffold/v4beta11\nkind: Config\n",
    "renovate.json": b'{"extends": ["config:recommended"]}\n',
    "charts/shop/Chart.yaml": b"apiVersion: v2\nname: shop\nversion: 1.0.0\n",
}
TEMPLATE = b"apiVersion: v1\nkind: Secret\nmetadata:\n  name: {{ .Release.Name }}\n{{- if .Values.x }}\n{{- end }}\n"
READ = {
    "charts/shop/values.yaml": b"image: shop\n",
    "charts/shop/templates/secret.yaml": TEMPLATE,
    "docs/openapi.yaml": b"openapi: 3.0.3\ninfo: {title: a, version: '1'}\npaths: {}\n",
}


@pytest.fixture(scope="module")
def lab_here(lab: Lab) -> Iterator[Lab]:
    lab.namespace(NAMESPACE)
    _, address = lab.start_krapao(name="tool-files")
    lab.start_miwen(address, NAMESPACE, interval="1s")
    yield lab
    lab.end_services()


def _set(followed: Project, *exclude: str) -> None:
    followed.set("**/*.yaml", "**/*.yml", "**/*.json", source={"exclude": list(exclude)})


def test_files_of_tools_are_left_out_and_named_once(lab_here: Lab) -> None:
    followed = project(lab_here, NAMESPACE, "tools")
    revision = followed.push_files({**TOOLS, "app/secret.yaml": [secret("tools-app", k="1")]})
    _set(followed)
    status = followed.synced(revision)
    assert [each["path"] for each in status["files"]] == ["app/secret.yaml"]
    event = followed.until_event("tools", "FilesLeftOut", "kustomization.yaml", "runs neither kustomize nor Helm")
    assert "and 3 more" in event["note"]
    revision = followed.push_files({"app/secret.yaml": [secret("tools-app", k="2")]})
    followed.synced(revision)
    assert len(followed.events("tools", "FilesLeftOut")) == 1


def test_a_repository_of_tools_alone_says_what_it_matched(lab_here: Lab) -> None:
    followed = project(lab_here, NAMESPACE, "alone")
    followed.push_files(TOOLS)
    _set(followed)
    followed.says("NothingToApply", "matches no file of the revision but files of tools", "kustomization.yaml")


def test_a_file_without_objects_names_the_line_that_leaves_it_out_and_these_lines_do(lab_here: Lab) -> None:
    followed = project(lab_here, NAMESPACE, "read")
    revision = followed.push_files({**TOOLS, **READ, "app/secret.yaml": [secret("read-app", k="1")]})
    excluded: list[str] = []
    for path, pattern in (
        ("charts/shop/templates/secret.yaml", "charts/shop/"),
        ("docs/openapi.yaml", "docs/openapi.yaml"),
    ):
        _set(followed, *excluded)
        status = followed.says(
            "UnknownFormat" if "templates" in path else "NotAKubernetesObject",
            f'put "{pattern}" into spec.source.exclude',
        )
        assert followed.data("read-app") == {"k": "1"}, "the others are applied"
        assert "Release.Name" not in json.dumps(status)
        excluded.append(pattern)
    _set(followed, *excluded)
    followed.synced(revision)
    # A values file alone.
    followed.push_files({"values-production.yaml": b"a: b\n"})
    followed.says("NotAKubernetesObject", 'a values file of Helm\'s, put "values*.yaml" into spec.source.exclude')


def test_values_that_a_target_names_are_taken_though_only_a_glob_takes_them(lab_here: Lab) -> None:
    followed = project(lab_here, NAMESPACE, "values")
    revision = followed.push_files({**TOOLS, "config/values.yaml": b"colour: red\n"})
    followed.set("config/*.yaml", target={"kind": "Secret", "name": "values"})
    followed.synced(revision)
    assert followed.data("values") == {"colour": "red"}
