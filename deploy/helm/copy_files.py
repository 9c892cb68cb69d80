"""Copies what the chart renders, out of deploy/ and install/, into the chart: `just chart`.

A chart can't read files outside of itself. The copies are not changed by hand;
tests/deploy/test_chart.py compares them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
FILES = DEPLOY / "helm" / "jiemi" / "files"


def wanted() -> dict[str, Path]:
    """The files that the chart renders: their paths in the chart, and where they are."""
    found = {path.name: path for path in DEPLOY.glob("*.yaml")}
    for folder in (ROOT / "install", DEPLOY / "monitoring", DEPLOY / "webhooks"):
        for path in folder.rglob("*"):
            # Of these folders, Kustomize alone reads the lists. The chart has no use for rules.yaml, which is for a
            # Prometheus without an operator, or for an example.
            if path.is_file() and path.name not in {"kustomization.yaml", "rules.yaml", "ingress-example.yaml"}:
                found[str(path.relative_to(folder.parent))] = path
    return found


def main() -> None:
    """Make the copies again."""
    shutil.rmtree(FILES, ignore_errors=True)
    for name, path in wanted().items():
        copy = FILES / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


if __name__ == "__main__":
    main()
