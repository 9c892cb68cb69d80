"""The kind recipes, run by the real `just` and bash with stand-ins for docker, kind and kubectl that write down their
arguments: what is shown is that the recipes give the right commands, not that kind works."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
JUST = Path(sys.executable).parent / "just"
KUBECTL = "kubectl --context kind-jiemi"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    for name in ("docker", "kind", "kubectl"):
        program = tmp_path / name
        program.write_text(
            f'#!/bin/sh\necho "{name} $*" >> "{tmp_path}/calls"\n'
            f'case "{name} $*" in "kind get clusters") cat "{tmp_path}/clusters";; esac\n'
        )
        program.chmod(0o755)
    (tmp_path / "clusters").write_text("another\n")
    return tmp_path


def run(programs: Path, recipe: str) -> list[str]:
    subprocess.run(
        [JUST, "--justfile", ROOT / "deploy" / "kind" / "kind.just", "--working-directory", ROOT, recipe],
        env={"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "HOME": str(programs)},
        capture_output=True,
        timeout=60,
        check=True,
    )
    return (programs / "calls").read_text().splitlines()


def test_kind_deploy_makes_the_cluster_builds_and_loads_what_deploy_names_and_waits_for_both_services(
    programs: Path,
) -> None:
    assert run(programs, "kind-deploy") == [
        "kind get clusters",
        "kind create cluster --config deploy/kind/cluster.yaml --wait 180s",
        "docker build --file deploy/images/Dockerfile.krapao --tag jiemi/krapao:0.1.0 .",
        "kind load docker-image --name jiemi jiemi/krapao:0.1.0",
        "docker build --file deploy/images/Dockerfile.miwen --tag jiemi/miwen:0.1.0 .",
        "kind load docker-image --name jiemi jiemi/miwen:0.1.0",
        f"{KUBECTL} apply -k deploy/",
        f"{KUBECTL} --namespace jiemi rollout restart statefulset/repository deployment/miwen",
        f"{KUBECTL} --namespace jiemi rollout status statefulset/repository --timeout 180s",
        f"{KUBECTL} --namespace jiemi rollout status deployment/miwen --timeout 180s",
    ]


def test_kind_up_leaves_a_cluster_that_is_there_alone(programs: Path) -> None:
    (programs / "clusters").write_text("another\njiemi\n")
    assert run(programs, "kind-up") == ["kind get clusters"]


def test_kind_down_deletes_that_cluster_only(programs: Path) -> None:
    assert run(programs, "kind-down") == ["kind delete cluster --name jiemi"]
