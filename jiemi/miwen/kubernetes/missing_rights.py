"""A right that the API server says is missing: what to grant, and to whom."""

from __future__ import annotations

import attrs

from jiemi.core.errors import JiemiError
from jiemi.miwen.kubernetes.port import Account

_OF_OBJECTS = frozenset({"ApplyForbidden", "ReadForbidden", "DeleteForbidden", "WatchForbidden"})
"""Rights that are about the objects of Decryptors."""


@attrs.frozen
class Right:
    """What a rule of a role gives: https://kubernetes.io/docs/reference/access-authn-authz/rbac/

    Attributes:
        verbs: ("create", "patch").
        resource: the plural of the kind: "secrets", "decryptors/status".
        group: the API group; "" is the core group.
        namespace: the namespace that it is for; None: all.
        by_label: whether a ClusterRole with the label that is aggregated gives it: Miwen has those roles where it
            looks at Decryptors.
    """

    verbs: tuple[str, ...]
    resource: str
    group: str
    namespace: str | None
    by_label: bool = True

    def __str__(self) -> str:
        """What to grant: "`get` and `list` on secrets of the core API group"."""
        *first, last = (f"`{verb}`" for verb in self.verbs)
        verbs = f"{', '.join(first)} and {last}" if first else last
        of_group = f"API group {self.group}" if self.group else "the core API group"
        return f"{verbs} on {self.resource} of {of_group}"


class RightMissing(JiemiError):
    """A request that is refused because whoever made it lacks a right.

    Args:
        reason: "ReadForbidden".
        doing: what was asked for: "reading Secret default/app".
        right: what it needs.
        account: the account that asked; None is Miwen.
    """

    def __init__(self, reason: str, doing: str, right: Right, account: Account | None = None) -> None:
        whom = grantee(account)
        where = f"in namespace {right.namespace}" if right.namespace else "in all namespaces (a ClusterRoleBinding)"
        grant = f"Grant {right} to {whom} {where}"
        if reason in _OF_OBJECTS and account is None and right.by_label:
            grant += ', for example by a ClusterRole labelled jiemi.cr/aggregate-to-miwen: "true"'
        super().__init__(reason, f"{doing}: not allowed to {whom}", f"{grant}.")
        self._doing = doing
        self._right = right
        self._account = account

    def with_verbs(self, *verbs: str) -> RightMissing:
        """The same with further verbs to grant, which what comes next needs: so that whoever grants the right does not
        meet the next missing one."""
        right = attrs.evolve(self._right, verbs=(*self._right.verbs, *verbs))
        return RightMissing(self.failure.reason, self._doing, right, self._account)


def grantee(account: Account | None) -> str:
    """Whom a right is granted to, for messages; None is Miwen."""
    return str(account) if account is not None else "Miwen's ServiceAccount"
