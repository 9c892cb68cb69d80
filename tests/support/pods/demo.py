"""The demo, followed by Pods."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from support.kubernetes.kubectl import Kubectl
from support.pods.cluster import program

from jiemi.controlplane.pins import Tool
from jiemi.demo.content import BRANCH, FILE, DemoRepository

_SECONDS = 180


@attrs.frozen
class Demo:
    """The demo, followed by the Pods.

    Attributes:
        kubectl: in the namespace of its objects.
        repository: what they follow.
        home: for git.
    """

    kubectl: Kubectl
    repository: DemoRepository
    home: Path

    def decryptor(self) -> Any:
        """The Decryptor."""
        return json.loads(self.kubectl("get", "decryptor", "demo", "--output=json"))

    def push(self, value: str) -> None:
        """Give the Secret another greeting, as a user does it: `sops set`, commit, push."""
        environment = {
            "HOME": str(self.home),
            "PATH": "/usr/bin:/bin",
            "SOPS_AGE_KEY_FILE": str(self.home / "key"),
            "SOPS_DISABLE_VERSION_CHECK": "1",
        }
        git = self.repository.git
        for command in (
            [str(program(Tool.SOPS)), "set", FILE, '["stringData"]["greeting"]', json.dumps(value)],
            [git, "commit", "--quiet", "--all", "--message", "Another greeting"],
            [git, "push", "--quiet", "origin", f"HEAD:{BRANCH}"],
        ):
            subprocess.run(command, cwd=self.repository.clone, env=environment, check=True, timeout=60)

    def plain(self) -> dict[str, str]:
        """What its Secret holds."""
        data = json.loads(self.kubectl("get", "secret", "demo", "--output=json"))["data"]
        return {name: base64.b64decode(value).decode() for name, value in data.items()}

    def revision(self) -> str:
        """The commit that is deployed, as the status says."""
        return str(self.decryptor()["status"]["current"]["revision"])


def until(what: str, holds: Callable[[], bool], *, seconds: float = _SECONDS) -> float:
    """Wait until something holds; returns after how many seconds it did.

    Raises:
        TimeoutError: it does not.
    """
    began = time.monotonic()
    failure: Exception | None = None
    while time.monotonic() - began < seconds:
        try:
            if holds():
                return time.monotonic() - began
        except (AssertionError, KeyError, subprocess.TimeoutExpired) as error:
            failure = error  # there may be nothing yet, or the API server is busy
        time.sleep(0.2)
    raise TimeoutError(f"not within {seconds:g} s: {what}") from failure
