"""How Miwen gets to the API server, and the access of the pod that it runs in (`kubeconfig` has the other one).

Both come down to the same two things: the *entry*, a kubeconfig of one cluster and one user for the kubernetes client
to load (TLS, proxy), and the *tokens*, which change while Miwen runs and so are kept here (`tokens`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from jiemi.core.errors import JiemiError
from jiemi.miwen.kubernetes.tokens import Tokens, token_file

SERVICE_ACCOUNT_DIRECTORY = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its token and the cluster's authority."""


@attrs.frozen
class Access:
    """A way to an API server.

    Attributes:
        entry: a kubeconfig with one cluster, one user (client certificate at most) and one context; paths absolute.
        tokens: what requests carry.
        server: its URL.
        origin: the place that the credentials come from, for messages.
    """

    entry: Mapping[str, Any] = attrs.field(repr=False)
    tokens: Tokens
    server: str
    origin: str


def in_cluster(
    environment: Mapping[str, str], *, directory: Path = SERVICE_ACCOUNT_DIRECTORY, why: str = "no kubeconfig is given"
) -> Access:
    """The access that a pod has: https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/

    Raises:
        JiemiError: KubeconfigInvalid, this is no pod.
    """
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise JiemiError(
            "KubeconfigInvalid",
            f"{why}, and this is no pod: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set. "
            "Give --kubeconfig",
        )
    authority = directory / "ca.crt"
    for needed in (authority, directory / "token"):
        if not needed.is_file():
            raise JiemiError(
                "KubeconfigInvalid",
                f"{why}, and this pod has no {needed}: set automountServiceAccountToken, or give --kubeconfig",
            )
    server = f"https://{f'[{host}]' if ':' in host else host}:{port}"
    entry = client_entry({"server": server, "certificate-authority": str(authority)}, {})
    return Access(entry, Tokens(token_file(directory / "token")), server, "the pod's ServiceAccount")


def pods_namespace(directory: Path = SERVICE_ACCOUNT_DIRECTORY) -> str | None:
    """The namespace of the pod that this runs in; None where nothing says (this is no pod)."""
    try:
        return (directory / "namespace").read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def client_entry(cluster: Mapping[str, Any], user: Mapping[str, Any]) -> dict[str, Any]:
    """A kubeconfig of one cluster and one user."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "miwen",
        "contexts": [{"name": "miwen", "context": {"cluster": "miwen", "user": "miwen"}}],
        "clusters": [{"name": "miwen", "cluster": dict(cluster)}],
        "users": [{"name": "miwen", "user": dict(user)}],
    }
