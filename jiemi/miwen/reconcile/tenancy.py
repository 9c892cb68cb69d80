"""What the operator of a cluster sets for all Decryptors, and what that means for one of them."""

from __future__ import annotations

import attrs

from jiemi.core.api.decryptor import Decryptor
from jiemi.core.api.decryptor_status import DecryptorStatus
from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.decisions.status_facts import without_other_namespaces
from jiemi.core.errors import JiemiError
from jiemi.core.objects.protected import Protection
from jiemi.core.objects.take_over import DECLARATIVE_MANAGERS
from jiemi.miwen.kubernetes.port import Account
from jiemi.miwen.state.registry import depends_on


@attrs.frozen
class Tenancy:
    """What the operator of a cluster sets for all Decryptors.

    Attributes:
        default_service_account: the name of the account, in the namespace of the Decryptor, under which objects are
            applied where the spec names none. None: under the account of Miwen.
        own_namespace_only: whether a Decryptor may name nothing outside its namespace.
        namespaces: those whose Decryptors Miwen sees; empty: all.
        protection: what Miwen does not write under its own account.
        require_full_mac: whether files are refused whose MAC covers their encrypted values only.
        require_verify: whether Decryptors are refused that do not want signed revisions.
        merged_managers: the field managers whose fields become Jiemi's alone where it applies them too.
    """

    default_service_account: str | None = None
    own_namespace_only: bool = False
    namespaces: frozenset[str] = frozenset()
    protection: Protection = Protection()
    require_full_mac: bool = False
    require_verify: bool = False
    merged_managers: frozenset[str] = frozenset(DECLARATIVE_MANAGERS)

    def account(self, decryptor: Decryptor, spec: DecryptorSpec) -> Account | None:
        """The account under which a Decryptor's objects are written; None is that of Miwen."""
        name = spec.service_account_name or self.default_service_account
        return Account(decryptor.meta.namespace, name) if name is not None else None

    def believed(self, status: DecryptorStatus | None, namespace: str) -> DecryptorStatus | None:
        """A Decryptor's status without the objects that it can't have. It may be forged, and its loop starts from it.

        Args:
            namespace: that of the Decryptor.
        """
        if status is None or not self.own_namespace_only:
            return status
        return without_other_namespaces(status, namespace)

    def require_allowed(self, decryptor: Decryptor, spec: DecryptorSpec) -> None:
        """Raises JiemiError: NamespaceProtected, PolicyDenied, CrossNamespaceDenied."""
        own = decryptor.meta.namespace
        if own == self.protection.own_namespace:
            # Its Secrets are Jiemi's own, and with serviceAccountName it could act as Miwen.
            raise JiemiError(
                "NamespaceProtected",
                f"this Decryptor is in {own}, Jiemi's own namespace",
            )
        if self.require_verify and spec.source.repository.verify is None:
            raise JiemiError(
                "PolicyDenied",
                "spec.source.repository.verify is not set: Miwen runs with --require-verify",
                "Set it, with the signers' public keys in a Secret.",
            )
        if not self.own_namespace_only:
            return
        if spec.target_namespace not in (None, own):
            raise JiemiError(
                "CrossNamespaceDenied",
                f"spec.targetNamespace is not {own}, the Decryptor's own: Miwen runs with --no-cross-namespace",
                f"Set spec.targetNamespace to {own}, or leave it out.",
            )
        others = [each for each in depends_on(decryptor) if each[0] != own]
        if others:
            namespace, name = others[0]
            raise JiemiError(
                "CrossNamespaceDenied",
                f"spec.dependsOn names {namespace}/{name}, outside {own}: Miwen runs with --no-cross-namespace",
                f"Name only Decryptors of namespace {own} in spec.dependsOn.",
            )
