"""The real kubectl (tests/data/kubectl), as a user of the embedded API server runs it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from support.kubernetes.go_programs import go_program

VERSION = "1.37.2"
"""That of kube-apiserver (`jiemi.controlplane.pins`) and of tests/data/kubectl/go.mod."""

RUN_SECONDS = 60
_VERSION_FLAGS = (
    f"-s -w -X k8s.io/component-base/version.gitVersion=v{VERSION}"
    " -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37"
)


@attrs.frozen
class Kubectl:
    """kubectl for one namespace.

    Attributes:
        program: where it is.
        home: its home directory, where it keeps what it knows of the API server.
        kubeconfig: of the user.
        namespace: what it works in; "" says none.
    """

    program: Path
    home: Path
    kubeconfig: Path
    namespace: str

    def __call__(self, *arguments: str, given: Any = None, status: int = 0, **environment: str) -> str:
        """Run it; returns its output.

        Args:
            given: an object, or several, that it reads where `-f -` says so.
            status: its exit status.
            environment: what it gets beside its home and the search path.
        """
        done = subprocess.run(
            [
                *(self.program, f"--kubeconfig={self.kubeconfig}"),
                *([f"--namespace={self.namespace}"] if self.namespace else []),
                *arguments,
            ],
            input="" if given is None else _documents(given),
            env={"HOME": str(self.home), "PATH": os.environ.get("PATH", os.defpath), **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_SECONDS,
        )
        assert done.returncode == status, (arguments, done.stdout, done.stderr)
        return done.stdout

    def edit(self, what: str, change: Callable[[dict[str, Any]], None]) -> None:
        """`kubectl edit WHAT`, by an editor that makes that change."""
        live = json.loads(self("get", what, "--output=json"))
        change(live)
        wanted = self.home / "wanted.json"
        wanted.write_text(json.dumps(live))
        self("edit", what, "--output=json", KUBE_EDITOR=f"cp {wanted}")


def _documents(given: Any) -> str:
    manifests = given if isinstance(given, list) else [given]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})


@pytest.fixture(scope="session")
def kubectl_program() -> Path:
    """kubectl; the first run on a machine builds it."""
    return trio.run(build_kubectl)


async def build_kubectl() -> Path:
    """kubectl, from the cache of tools or built into it."""
    return await go_program("kubectl", ldflags=_VERSION_FLAGS)
