"""Files that the real sops encrypts, and age identities to encrypt them for."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pyrage


class AgePair:
    """A fresh age identity."""

    def __init__(self) -> None:
        identity = pyrage.x25519.Identity.generate()
        self.private = str(identity)
        self.public = str(identity.to_public())


class Encrypter:
    """Runs `sops encrypt`."""

    def __init__(self, sops: Path, home: Path) -> None:
        self._sops = sops
        self._home = home

    def __call__(self, plain: str, *options: str, kind: str = "yaml", env: dict[str, str] | None = None) -> bytes:
        run = [str(self._sops), "encrypt", "--input-type", kind, "--output-type", kind, *options]
        run += ["--filename-override", f"x.{kind}"]
        environment = {
            "HOME": str(self._home),
            "SOPS_DISABLE_VERSION_CHECK": "1",
            "PATH": "/usr/bin:/bin",
            **(env or {}),
        }
        done = subprocess.run(run, input=plain.encode(), env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout
