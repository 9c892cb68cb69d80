"""Jiemi's own chart: what the real helm makes of it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from support.kubernetes.api_server import Manifest
from support.kubernetes.deploy_manifests import DEPLOY

CHART = DEPLOY / "helm" / "jiemi"
KUBE_VERSION = "--kube-version=1.37"
"""What `helm template` takes for the cluster's; a helm of ours knows no newer one than its build says."""

RUN_SECONDS = 120


def run_helm(program: Path, *arguments: object, home: Path, values: Mapping[str, Any] | None = None) -> tuple[int, str]:
    """Run helm. Returns its exit status, and its output or, where it failed, its errors.

    Args:
        home: its home directory.
        values: given as a file.
    """
    given: list[object] = []
    if values is not None:
        file = home / "values.json"
        file.write_text(json.dumps(values))
        given = ["--values", file]
    done = subprocess.run(
        [program, *map(str, [*arguments, *given])],
        env={"HOME": str(home), "PATH": os.environ.get("PATH", os.defpath)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_SECONDS,
    )
    return done.returncode, done.stdout if done.returncode == 0 else done.stderr + done.stdout


def rendered(program: Path, home: Path, values: Mapping[str, Any], *, namespace: str = "jiemi") -> list[Manifest]:
    """What `helm template` makes of values."""
    status, output = run_helm(
        program, "template", "jiemi", CHART, f"--namespace={namespace}", KUBE_VERSION, home=home, values=values
    )
    assert status == 0, output
    return [each for each in YAML(typ="safe").load_all(output) if each is not None]
