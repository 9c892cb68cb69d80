"""What refusals say to grant to Miwen's ServiceAccount, as rules of RBAC."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import Any

import attrs
from support.kubernetes.api_server import Manifest

RBAC = "rbac.authorization.k8s.io"

_GRANT = re.compile(
    r"Grant (?P<verbs>`[a-z`, and]+`) on (?P<resource>[a-z/]+)"
    r" of (?:the core API group|API group (?P<group>[a-z0-9.]+))"
    r"(?: \(resourceNames: (?P<name>[-a-z0-9]+)\))? to Miwen's ServiceAccount"
    r" (?:in namespace (?P<namespace>[-a-z0-9]+)|in all namespaces \(a ClusterRoleBinding\))"
)


@attrs.frozen
class Grant:
    """A rule, and where it is to hold.

    Attributes:
        name: the one object that it is for; None: all.
        namespace: None: all.
    """

    verbs: tuple[str, ...]
    group: str
    resource: str
    name: str | None
    namespace: str | None

    def manifests(self, account: tuple[str, str]) -> tuple[Manifest, Manifest]:
        """A role with this rule alone, and its binding to an account (namespace and name)."""
        rule: dict[str, Any] = {"apiGroups": [self.group], "resources": [self.resource], "verbs": list(self.verbs)}
        if self.name is not None:
            rule["resourceNames"] = [self.name]
        called = f"g{uuid.uuid4().hex[:12]}"
        metadata = {"name": called} | ({"namespace": self.namespace} if self.namespace else {})
        kind = "Role" if self.namespace else "ClusterRole"
        role = {"apiVersion": f"{RBAC}/v1", "kind": kind, "metadata": metadata, "rules": [rule]}
        binding = {
            "apiVersion": f"{RBAC}/v1",
            "kind": f"{kind}Binding",
            "metadata": metadata,
            "roleRef": {"apiGroup": RBAC, "kind": kind, "name": called},
            "subjects": [{"kind": "ServiceAccount", "namespace": account[0], "name": account[1]}],
        }
        return role, binding


def grants_in(text: str) -> Iterator[Grant]:
    """Every grant that a text names, in its order."""
    for found in _GRANT.finditer(text):
        verbs = tuple(re.findall(r"`([a-z]+)`", found["verbs"]))
        yield Grant(verbs, found["group"] or "", found["resource"], found["name"], found["namespace"])
