"""Files that live beside manifests and are none: those of kustomize, Helm and other tools, met by a glob.

Two sorts, treated in two ways:

- A file whose *name* says by itself that a tool reads it, and no API server: it is left out of what globs take, as Flux
  leaves out `.sops.yaml` and the files of CI systems (source-controller's default exclusions) and passes over
  kustomization.yaml when it collects the manifests of a folder. An Event names the files that are left out.
- A file whose name says nothing for certain (`values.yaml` may be what `target` makes a Secret of, and a folder
  `templates` may hold manifests): it is read, and if it holds no objects, the failure names the line for
  `spec.source.exclude` that leaves it out. Leaving it out silently would look like success.

A plain path is never left out, and neither is a file whose characteristic part a glob itself names:
`**/kustomization.yaml`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

import attrs

from jiemi.core.errors import Failure
from jiemi.core.text import first_of

_NAMES = frozenset(
    """
    kustomization.yaml kustomization.yml Kustomization Chart.yaml Chart.lock helmfile.yaml helmfile.yml helmfile.lock
    helmfile.yaml.gotmpl skaffold.yaml
    .sops.yml .flux.yaml .helmignore .sourceignore .krmignore .gitignore .gitattributes .gitmodules .editorconfig
    .gitlab-ci.yml .travis.yml .drone.yml .woodpecker.yml .woodpecker.yaml appveyor.yml cloudbuild.yaml
    codeship-services.yml codeship-steps.yml azure-pipelines.yml bitbucket-pipelines.yml .goreleaser.yml
    .goreleaser.yaml .pre-commit-config.yaml .yamllint .yamllint.yaml .yamllint.yml renovate.json renovate.json5
    .renovaterc .renovaterc.json dependabot.yml docker-compose.yml docker-compose.yaml Taskfile.yml Taskfile.yaml
    package-lock.json pnpm-lock.yaml
    """.split()  # noqa: SIM905 - fifty quotes fewer
)
_ARGO_CD = re.compile(r"\.argocd-source(?:-[a-z0-9.-]+)?\.yaml")
"""Parameters of an Application: https://argo-cd.readthedocs.io/en/stable/user-guide/parameters/."""

_FOLDERS = frozenset({".git", ".github", ".gitlab", ".gitea", ".forgejo", ".circleci", ".woodpecker", ".vscode"})

_OF_CONTENT = frozenset({"NotAKubernetesObject", "UnknownFormat", "NotEncrypted"})
"""Why a file holds no objects, where it is no manifest at all."""

_MAX_PATTERN_CHARACTERS = 200


def is_left_out(path: str, globs: Iterable[str]) -> bool:
    """Whether a file that globs take is one of a tool's by its name.

    Args:
        path: of the file, as git has it.
        globs: those of the spec; one that names the characteristic part itself means the file.
    """
    *folders, name = path.split("/")
    marker = next((each for each in folders if each in _FOLDERS), None)
    if marker is None and (name in _NAMES or _ARGO_CD.fullmatch(name)):
        marker = name
    return marker is not None and not any(marker in glob.split("/") for glob in globs)


def with_exclusion(path: str, failure: Failure) -> Failure:
    """The failure of a file that only a glob names, with the line that leaves it out.

    Args:
        path: of the file.
        failure: why it holds no objects; any other is given back as it is.
    """
    if failure.reason not in _OF_CONTENT:
        return failure
    what, pattern = _pattern(path)
    if len(pattern) > _MAX_PATTERN_CHARACTERS:
        return failure
    remedy = f'{failure.remedy} If it is {what}, put "{pattern}" into spec.source.exclude.'
    return attrs.evolve(failure, own_remedy=remedy)


def _pattern(path: str) -> tuple[str, str]:
    """What a file may be, and the glob that leaves it and its like out."""
    *folders, name = path.split("/")
    if "templates" in folders[1:]:
        chart = folders[: len(folders) - 1 - folders[::-1].index("templates")]
        return "a template of a Helm chart", f"{'/'.join(chart)}/"
    if re.fullmatch(r"values.*\.ya?ml", name):
        return "a values file of Helm's", f"values*.{name.rpartition('.')[2]}"
    stem, dot, ending = name.rpartition(".")
    if stem and dot and ending.lower() not in {"yaml", "yml", "json"}:
        return "no manifest", f"*.{ending}"
    return "no manifest", path if folders else f"/{path}"


def listed(paths: Collection[str], most: int = 5) -> str:
    """Some of the paths, and how many more there are; hidden ones, which nobody misses, last."""
    shown = sorted(paths, key=lambda path: (path.startswith(".") or "/." in path, path))
    return first_of(shown, most)
