"""The workflow that publishes releases: read, and examined by actionlint. It is not run here."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from support.kubernetes.go_programs import go_program
from support.paths import ROOT

WORKFLOW = ROOT / ".github" / "workflows" / "release.yml"
IMAGES = ROOT / "deploy" / "images"


@pytest.fixture
def workflow() -> Any:
    return YAML(typ="safe").load(WORKFLOW.read_text())


def _steps(workflow: Any) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.mark.e2e
async def test_actionlint_finds_no_fault_in_it(tmp_path: Path) -> None:
    program = await go_program("actionlint", package="github.com/rhysd/actionlint/cmd/actionlint")

    def lint(path: Path) -> str:
        command: list[str | Path] = [program, "-no-color", "-shellcheck=", "-pyflakes=", path]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout + done.stderr

    assert lint(WORKFLOW) == ""
    broken = tmp_path / "broken.yml"
    broken.write_text(WORKFLOW.read_text().replace("needs: [test, inputs]", "needs: [test, nothing]"))
    assert 'needs job "nothing" which does not exist' in lint(broken)


def test_each_action_is_pinned_to_a_version(workflow: Any) -> None:
    used = {step["uses"] for step in _steps(workflow) if "uses" in step}
    assert len(used) > 5
    assert [each for each in used if not re.fullmatch(r"[\w-]+/[\w-]+@(v\d+(\.\d+){0,2}|[0-9a-f]{40})", each)] == []


def test_each_job_has_the_rights_that_it_needs_and_a_deadline(workflow: Any) -> None:
    assert workflow["permissions"] == {}
    jobs = workflow["jobs"]
    assert {name: job["permissions"] for name, job in jobs.items()} == {
        "test": {"contents": "read"},
        "inputs": {"contents": "read"},
        "build": {"contents": "read", "packages": "write"},
        "publish": {"contents": "write", "packages": "write", "id-token": "write", "attestations": "write"},
    }
    assert all(job["timeout-minutes"] <= 120 for job in jobs.values())
    checkouts = [step for step in _steps(workflow) if step.get("uses", "").startswith("actions/checkout@")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_nothing_is_built_that_was_not_tested_nor_published_that_was_not_built(workflow: Any) -> None:
    jobs = workflow["jobs"]
    assert (set(jobs["build"]["needs"]), set(jobs["publish"]["needs"])) == ({"test", "inputs"}, {"inputs", "build"})
    assert [step["run"] for step in jobs["test"]["steps"] if "run" in step] == [".ci/run"]


def test_both_images_are_built_for_both_processors_and_each_is_named_in_the_end(workflow: Any) -> None:
    matrix = workflow["jobs"]["build"]["strategy"]["matrix"]
    names = {path.suffix[1:] for path in IMAGES.glob("Dockerfile.*")}
    assert set(matrix["image"]) == names
    assert {each["platform"] for each in matrix["machine"]} == {"linux/amd64", "linux/arm64"}
    (publish,) = (step["run"] for step in workflow["jobs"]["publish"]["steps"] if step.get("id") == "publish")
    assert set(re.findall(r"for name in (.+); do", publish)[0].split()) == names
    attested = [step["with"] for step in _steps(workflow) if "attest-build" in step.get("uses", "")]
    assert {each["subject-name"].rpartition("/")[2] for each in attested} == names


def test_what_a_build_is_given_is_what_the_dockerfiles_take(workflow: Any) -> None:
    (build,) = (step["with"] for step in workflow["jobs"]["build"]["steps"] if step.get("id") == "build")
    given = dict(line.split("=", 1) for line in build["build-args"].splitlines())
    for dockerfile in IMAGES.glob("Dockerfile.*"):
        taken = set(re.findall(r"^ARG (\w+)", dockerfile.read_text(), re.MULTILINE))
        # BuildKit itself takes the time.
        assert given.keys() - {"SOURCE_DATE_EPOCH"} <= taken
    assert {"PYTHON_IMAGE", "SOURCE", "REVISION", "CREATED"} <= given.keys()
    # The base is named by its digest, which all builds share.
    assert given["PYTHON_IMAGE"] == "${{ needs.inputs.outputs.base }}"
    (inputs,) = (step for step in workflow["jobs"]["inputs"]["steps"] if step.get("id") == "inputs")
    assert 'echo "base=$PYTHON_IMAGE@$digest"' in inputs["run"]
    assert f"ARG PYTHON_IMAGE={inputs['env']['PYTHON_IMAGE']}" in (IMAGES / "Dockerfile.krapao").read_text()
    assert "rewrite-timestamp=true" in build["outputs"]


def test_no_text_that_others_choose_is_put_into_a_script(workflow: Any) -> None:
    # What is in ${{ }} becomes part of the script; names of tags and branches come by the environment.
    written = {each for step in _steps(workflow) for each in re.findall(r"\$\{\{\s*(.+?)\s*\}\}", step.get("run", ""))}
    assert written <= {"matrix.image", "matrix.machine.name"}
