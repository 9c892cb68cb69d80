"""The real helm clients (tests/data/helm3, tests/data/helm4), as a user of the embedded API server runs them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from support.kubernetes.go_programs import go_program

RUN_SECONDS = 60
VERSIONS = (3, 4)


@attrs.frozen
class Helm:
    """helm for one namespace.

    Attributes:
        programs: where it is, by its major version.
        home: its home directory.
        kubeconfig: of the user.
        namespace: what it works in.
    """

    programs: Mapping[int, Path]
    home: Path
    kubeconfig: Path
    namespace: str

    def install(self, version: int, name: str, manifests: Sequence[Mapping[str, Any]]) -> None:
        """Make a release of these objects, or another revision of it."""
        chart = self.home / f"chart-{name}"
        templates = chart / "templates"
        templates.mkdir(parents=True, exist_ok=True)
        (chart / "Chart.yaml").write_text(json.dumps({"apiVersion": "v2", "name": name, "version": "0.1.0"}))
        (templates / "all.yaml").write_text("".join(f"---\n{json.dumps(each)}\n" for each in manifests))
        done = subprocess.run(
            [
                *(self.programs[version], f"--kubeconfig={self.kubeconfig}", f"--namespace={self.namespace}"),
                *("upgrade", "--install", name, chart),
            ],
            env={"HOME": str(self.home), "PATH": os.environ.get("PATH", os.defpath)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_SECONDS,
        )
        assert done.returncode == 0, (done.stdout, done.stderr)


@pytest.fixture(scope="session")
def helm_programs() -> dict[int, Path]:
    """helm by its major version; the first run on a machine builds them."""
    return {version: trio.run(build_helm, version) for version in VERSIONS}


async def build_helm(version: int = VERSIONS[-1]) -> Path:
    """helm of that major version, from the cache of tools or built into it."""
    return await go_program(f"helm{version}", package=f"helm.sh/helm/v{version}/cmd/helm")
