"""Which files of tools globs leave out, and what is said of those that are read and hold no objects."""

from __future__ import annotations

import pytest

from jiemi.core.content.globs import is_excluded
from jiemi.core.content.tool_files import is_left_out, with_exclusion
from jiemi.core.errors import Failure


@pytest.mark.parametrize(
    "path",
    [
        "kustomization.yaml",
        "clusters/production/kustomization.yml",
        "apps/base/Kustomization",
        "charts/shop/Chart.yaml",
        "charts/shop/Chart.lock",
        ".github/workflows/release.yaml",
        "apps/.github/dependabot.yml",
        ".gitlab-ci.yml",
        ".circleci/config.yml",
        "apps/shop/.argocd-source.yaml",
        "apps/shop/.argocd-source-shop.yaml",
        "skaffold.yaml",
        "renovate.json",
        ".pre-commit-config.yaml",
        "helmfile.yaml",
        "azure-pipelines.yml",
        "helmfile.yml",
        "shop/docker-compose.yml",
        "shop/package-lock.json",
    ],
)
def test_a_file_of_a_tool_is_left_out_of_what_globs_take(path: str) -> None:
    assert is_left_out(path, ["**/*.yaml", "**"])


@pytest.mark.parametrize(
    "path",
    [
        "values.yaml",
        "charts/shop/values-production.yaml",
        "charts/shop/templates/secret.yaml",
        "templates/secret.yaml",
        "openapi.yaml",
        "my-kustomization.yaml",
        "kustomization.yaml/secret.yaml",
        "chart.yaml",
        "github/workflows/x.yaml",
        "apps/renovate.json.yaml",
        ".env.production",
    ],
)
def test_what_may_hold_objects_or_values_is_read(path: str) -> None:
    assert not is_left_out(path, ["**/*.yaml", "**"])


@pytest.mark.parametrize(
    ("path", "glob"),
    [
        ("apps/kustomization.yaml", "**/kustomization.yaml"),
        (".github/secrets.enc.yaml", ".github/*.enc.yaml"),
        ("a/.github/x.yaml", "**/.github/**"),
        ("charts/a/Chart.yaml", "charts/*/Chart.yaml"),
    ],
)
def test_what_a_glob_names_itself_is_meant(path: str, glob: str) -> None:
    assert is_left_out(path, ["**/*.yaml"])
    assert not is_left_out(path, ["**/*.yaml", glob])


@pytest.mark.parametrize(
    ("path", "pattern", "beside"),
    [
        ("charts/shop/templates/secret.yaml", "charts/shop/", "charts/shop2/templates/secret.yaml"),
        ("charts/shop/templates/tests/a.yaml", "charts/shop/", "charts/x.yaml"),
        ("charts/templates/templates/a.yaml", "charts/templates/", "charts/x.yaml"),
        ("apps/shop/values.yaml", "values*.yaml", "apps/shop/secret.yaml"),
        ("apps/shop/values-production.yml", "values*.yml", "apps/shop/secret.yml"),
        ("openapi.yaml", "/openapi.yaml", "apps/openapi.yaml"),
        ("docs/api/openapi.json", "docs/api/openapi.json", "docs/openapi.json"),
        ("docs/README.md", "*.md", "docs/secret.yaml"),
        ("templates/a.yaml", "templates/a.yaml", "templates/b.yaml"),
        ("Makefile", "/Makefile", "a/Makefile"),
    ],
)
def test_the_line_for_exclude_leaves_that_file_out_and_no_manifest_beside_it(
    path: str, pattern: str, beside: str
) -> None:
    failure = with_exclusion(path, Failure("NotAKubernetesObject", f"document 1 of {path} has no kind"))
    assert failure.text.startswith(f"document 1 of {path} has no kind. ")
    assert " If it is " in failure.own_remedy
    assert failure.text.endswith(f'put "{pattern}" into spec.source.exclude.')
    assert is_excluded(path, [pattern])
    assert not is_excluded(beside, [pattern])


@pytest.mark.parametrize("reason", ["MacMismatch", "KeyMissing", "CiphertextLeft", "LimitExceeded", "DuplicateObject"])
def test_a_file_that_is_meant_but_broken_is_not_told_to_be_left_out(reason: str) -> None:
    failure = Failure(reason, "x")
    assert with_exclusion("a.yaml", failure) is failure


def test_a_path_that_would_fill_the_message_is_not_repeated() -> None:
    failure = Failure("UnknownFormat", "x")
    assert with_exclusion("a" * 300 + "/b.yaml", failure) is failure
