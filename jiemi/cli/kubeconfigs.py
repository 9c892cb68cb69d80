"""The kubeconfig that a command uses, found as kubectl finds it."""

from __future__ import annotations

import os
from pathlib import Path


def find_kubeconfig(given: Path | None) -> Path | None:
    """The kubeconfig for a person's command, or None for the ServiceAccount of the pod that it runs in.

    Args:
        given: by flag or KUBECONFIG, which may be a list of files as kubectl takes it; the first that exists is used.
    """
    if given is not None:
        names = [name for name in str(given).split(os.pathsep) if name]
        return next((Path(name) for name in names if Path(name).is_file()), given)
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return None
    usual = Path.home() / ".kube" / "config"
    return usual if usual.is_file() else None
