"""What a repository's writer must not have through Miwen: a pure decision about one object.

Miwen's own ServiceAccount may read every Secret, and applies what a repository holds. Where it acts as itself, an
object that steers Jiemi or hands out rights would give the writer what Miwen has, not what the Decryptor's author has.
So such objects are refused, whatever else allows them; with `spec.serviceAccountName` the cluster's own RBAC decides
instead.

Two tables. The first can't be opened: objects that steer Jiemi (its API group, its namespace, its roles), and Secrets
that the cluster itself turns into credentials. The second lists what only operators should write, and an operator opens
it by name (`--allow-protected`): kinds by which whoever writes them is sent other users' data or decides about their
requests, with no check by the API server that the writer had that right; and the cluster's own namespaces.

Roles and role bindings are in the second table only where they aggregate or are the cluster's own: the API server lets
nobody grant by them what he does not have
(https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping).
What that leaves open is in docs/operations.md.

A manifest need not say what makes a role one of these: an apply leaves labels, a role's name and whatever else others
have set as it is. So roles and bindings are judged a second time, by what an apply would make of them (`objection_to`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from jiemi.core.api.decryptor import GROUP
from jiemi.core.objects.identity import ObjectRef

DEFAULT_NAMESPACE = "jiemi"
"""Where deploy/ puts Jiemi."""

SYSTEM_NAMESPACES = ("kube-node-lease", "kube-public", "kube-system")
"""The cluster's own: https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/#initial-namespaces"""

AGGREGATE_LABEL = "jiemi.cr/aggregate-to-miwen"
"""On a ClusterRole: Miwen gets its rules (deploy/rbac.yaml)."""

_RBAC = "rbac.authorization.k8s.io"
_CRD = ("apiextensions.k8s.io", "CustomResourceDefinition")
_DECIDING_GROUPS = (
    "admissionregistration.k8s.io",
    "apiregistration.k8s.io",
    "certificates.k8s.io",
    "flowcontrol.apiserver.k8s.io",
)

_CREDENTIAL_TYPES = frozenset({"kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token"})
"""Types of Secrets that the cluster's own controllers fill with a token, or take for one:
https://kubernetes.io/docs/concepts/configuration/secret/#secret-types"""

_ACCOUNT_ANNOTATION = "kubernetes.io/service-account.name"
_BOOTSTRAPPING_LABEL = "kubernetes.io/bootstrapping"
"""On the roles and bindings that the API server makes for the cluster:
https://kubernetes.io/docs/reference/access-authn-authz/rbac/#default-roles-and-role-bindings"""

_AUTHORITIES = frozenset({"kube-root-ca.crt", "openshift-service-ca.crt"})
"""ConfigMaps that the cluster puts into each namespace; by them Pods know whom they send their tokens to:
https://kubernetes.io/docs/concepts/configuration/configmap/, https://docs.openshift.com (Service CA certificates)"""

_BOOTSTRAP_PREFIX = "bootstrap-token-"
_OWN_PREFIXES = ("jiemi-miwen", "jiemi-decryptor")
"""With what the names of Jiemi's own objects begin that have no namespace (deploy/)."""

_OWN_PRIORITY = "jiemi"

_KIND = re.compile(r"[A-Za-z][A-Za-z0-9]{0,62}\.[a-z0-9][a-z0-9.-]{0,252}")
_NAMESPACE_WORD = "namespace/"


@attrs.frozen
class Objection:
    """Why an object is not written or deleted, and what to do about it."""

    why: str
    remedy: str


@attrs.frozen
class Protection:
    """What is refused where Miwen acts as itself.

    Attributes:
        own_namespace: the namespace in which Jiemi runs.
        opened: what the operator opened: KIND.GROUP, namespace/NAME; only names of `OPENABLE`'s form count.
    """

    own_namespace: str = DEFAULT_NAMESPACE
    opened: frozenset[str] = frozenset()

    def objection(self, ref: ObjectRef, body: Mapping[str, Any] | None, *, namespace: str) -> Objection | None:
        """Why an object is not to be written or deleted; None where it may be.

        Args:
            ref: the object; its namespace is "" where its kind has none.
            body: what is to be applied; None where the object is to be deleted.
            namespace: the Decryptor's.
        """
        return self._objection(_Candidate(ref, body or {}, namespace, self.own_namespace), _ALWAYS)

    def objection_to(self, ref: ObjectRef, whole: Mapping[str, Any], *, namespace: str) -> Objection | None:
        """Why an object is not to be written, by what it would be then; None where it may be.

        Args:
            ref: the object, one that `is_judged_as_a_whole`.
            whole: with what others have set of it.
            namespace: the Decryptor's.
        """
        return self._objection(_Candidate(ref, whole, namespace, self.own_namespace), _ALWAYS_OF_THE_WHOLE)

    def _objection(self, candidate: _Candidate, always: Iterable[_Rule]) -> Objection | None:
        for rule in always:
            why = rule(candidate)
            if why is not None:
                return Objection(
                    why, "Set spec.serviceAccountName to an account that may write it, or apply it by another way."
                )
        for name, openable in _OPENABLE:
            why = openable(candidate)
            if why is not None and name(candidate) not in self.opened:
                return Objection(
                    why,
                    "Set spec.serviceAccountName to an account that may write it, or ask the operator for "
                    f"`jiemi miwen --allow-protected {name(candidate)}`.",
                )
        return None


def require_openable(text: str) -> str:
    """What an operator's `--allow-protected` names, in the form in which it is compared.

    Raises:
        ValueError: it opens nothing: a slip must not be taken for a bound that is lifted.
    """
    if text.startswith(_NAMESPACE_WORD):
        if text.removeprefix(_NAMESPACE_WORD) in SYSTEM_NAMESPACES:
            return text
        raise ValueError(f"only {', '.join(SYSTEM_NAMESPACES)} can be opened by {_NAMESPACE_WORD}NAME")
    kind, _, group = text.partition(".")
    if _KIND.fullmatch(text) is None:
        raise ValueError("give KIND.GROUP or namespace/NAME")
    if group not in _DECIDING_GROUPS and (group, kind) not in (_CRD, (_RBAC, "ClusterRole")):
        raise ValueError(
            f"{text} is not refused, or can't be opened: give KIND.GROUP of {', '.join(_DECIDING_GROUPS)}, "
            f"CustomResourceDefinition.{_CRD[0]}, ClusterRole.{_RBAC} or namespace/NAME"
        )
    return text


def is_judged_as_a_whole(ref: ObjectRef) -> bool:
    """Whether what an apply would make of the object is to be judged too (`Protection.objection_to`)."""
    return ref.key.group.strip().lower() == _RBAC


@attrs.frozen
class _Candidate:
    ref: ObjectRef
    body: Mapping[str, Any]
    decryptors_namespace: str
    own_namespace: str

    @property
    def group(self) -> str:
        return self.ref.key.group.strip().lower()

    @property
    def group_kind(self) -> tuple[str, str]:
        return self.group, self.ref.kind

    def metadata(self, field: str) -> Mapping[str, Any]:
        return _mapping(_mapping(self.body.get("metadata")).get(field))


_Rule = Callable[[_Candidate], str | None]


def _is_own_group(group: Any) -> bool:
    text = str(group).strip().lower()
    return text == GROUP or text.endswith(f".{GROUP}")


def _of_own_group(each: _Candidate) -> str | None:
    if _is_own_group(each.group):
        return f"objects of {GROUP} say whose credentials go where, and are nobody's to write through a repository"
    return None


def _definition_of_own_group(each: _Candidate) -> str | None:
    if each.group_kind != _CRD:
        return None
    name = each.ref.name.strip().lower()
    if name.endswith(f".{GROUP}") or _is_own_group(_mapping(each.body.get("spec")).get("group")):
        return f"it defines a kind of {GROUP}"
    return None


def _service_of_own_group(each: _Candidate) -> str | None:
    if each.group_kind != ("apiregistration.k8s.io", "APIService"):
        return None
    if each.ref.name.lower().endswith(f".{GROUP}") or _is_own_group(_mapping(each.body.get("spec")).get("group")):
        return f"it says what serves {GROUP}"
    return None


def _in_own_namespace(each: _Candidate) -> str | None:
    where = each.ref.name if each.group_kind == ("", "Namespace") else each.ref.namespace
    if each.group_kind == ("", "PersistentVolume"):
        # It is where a claim keeps its files.
        where = _mapping(_mapping(each.body.get("spec")).get("claimRef")).get("namespace") or ""
    return f"{where} is Jiemi's own namespace" if where == each.own_namespace else None


def _credential(each: _Candidate) -> str | None:
    if each.group_kind != ("", "Secret"):
        return None
    kind = str(each.body.get("type") or "").strip()
    if kind in _CREDENTIAL_TYPES:
        return f"the cluster takes a Secret of type {kind} for a credential of its own"
    if _ACCOUNT_ANNOTATION in each.metadata("annotations"):
        return f"the cluster puts a ServiceAccount's token into a Secret with the annotation {_ACCOUNT_ANNOTATION}"
    if each.body and each.ref.namespace == "kube-system" and each.ref.name.startswith(_BOOTSTRAP_PREFIX):
        return (
            f"the cluster takes a Secret with a name that begins with {_BOOTSTRAP_PREFIX} for a credential of its own"
        )
    return None


def _authorities(each: _Candidate) -> str | None:
    if each.group_kind != ("", "ConfigMap") or each.ref.name not in _AUTHORITIES:
        return None
    return f"by {each.ref.name} every Pod of the namespace knows whom it sends its token to"


def _owned_elsewhere(each: _Candidate) -> str | None:
    """An owner that is not there is how one has the cluster delete an object, whatever keeps it from being pruned."""
    owners = _mapping(each.body.get("metadata")).get("ownerReferences")
    if not owners or each.ref.namespace == each.decryptors_namespace:
        return None
    return "its ownerReferences have the cluster delete it, and it is not in the Decryptor's own namespace"


def _of_the_clusters_own(each: _Candidate) -> str | None:
    if each.group != _RBAC or each.ref.kind == "ClusterRole" or _BOOTSTRAPPING_LABEL not in each.metadata("labels"):
        return None
    return f"the label {_BOOTSTRAPPING_LABEL} says that it is the cluster's own"


def _rights_of_own(each: _Candidate) -> str | None:
    """Roles and bindings that give Jiemi rights, or Jiemi's rights to others."""
    if each.group not in (_RBAC, "admissionregistration.k8s.io"):
        return None
    if not each.ref.namespace and each.ref.name.startswith(_OWN_PREFIXES):
        return "its name is one of Jiemi's own roles, bindings or policies"
    if AGGREGATE_LABEL in each.metadata("labels"):
        return f"the label {AGGREGATE_LABEL} gives Miwen rights"
    if _names_own(_mapping(each.body.get("roleRef")).get("name")):
        return "it binds one of Jiemi's own roles"
    if any(_is_of(subject, each.own_namespace) for subject in _list(each.body.get("subjects"))):
        return f"it gives rights to a ServiceAccount of {each.own_namespace}, Jiemi's own namespace"
    return None


def _priority_of_own(each: _Candidate) -> str | None:
    if each.group_kind != ("scheduling.k8s.io", "PriorityClass") or each.ref.name != _OWN_PRIORITY:
        return None
    return "Jiemi's own Pods have it"


def _is_of(subject: Any, namespace: str) -> bool:
    """Whether a binding's subject is of a namespace's ServiceAccounts."""
    found = _mapping(subject)
    name = str(found.get("name"))
    if found.get("kind") == "ServiceAccount":
        return found.get("namespace") == namespace
    return name == f"system:serviceaccounts:{namespace}" or name.startswith(f"system:serviceaccount:{namespace}:")


def _names_own(role: Any) -> bool:
    return isinstance(role, str) and role.startswith(_OWN_PREFIXES)


_ALWAYS: tuple[_Rule, ...] = (
    _of_own_group,
    _definition_of_own_group,
    _service_of_own_group,
    _in_own_namespace,
    _credential,
    _authorities,
    _owned_elsewhere,
    _of_the_clusters_own,
    _rights_of_own,
    _priority_of_own,
)

_ALWAYS_OF_THE_WHOLE: tuple[_Rule, ...] = (_of_the_clusters_own, _rights_of_own)


def _kind_name(each: _Candidate) -> str:
    return f"{each.ref.kind}.{each.group}"


def _namespace_name(each: _Candidate) -> str:
    return f"{_NAMESPACE_WORD}{each.ref.namespace or each.ref.name}"


def _deciding(each: _Candidate) -> str | None:
    if each.group not in _DECIDING_GROUPS:
        return None
    return "whoever writes one decides about requests, or is sent what others write"


def _aggregated(each: _Candidate) -> str | None:
    labels = each.metadata("labels")
    if each.group_kind != (_RBAC, "ClusterRole"):
        return None
    if _BOOTSTRAPPING_LABEL in labels:
        return f"the label {_BOOTSTRAPPING_LABEL} says that it is the cluster's own, which many are bound to"
    if not any(str(label).startswith(f"{_RBAC}/aggregate-to-") for label in labels) and not each.body.get(
        "aggregationRule"
    ):
        return None
    return "an aggregated ClusterRole changes what everyone may do who is bound to the other"


def _converting(each: _Candidate) -> str | None:
    conversion = _mapping(each.body.get("spec")).get("conversion")
    # A webhook's address needs no strategy beside it, where another has set that.
    if each.group_kind != _CRD or conversion in (None, {}, {"strategy": None}, {"strategy": "None"}):
        return None
    return "its conversion webhook is sent every object of the kind"


def _in_system_namespace(each: _Candidate) -> str | None:
    if each.group_kind == ("", "Namespace"):
        return f"{each.ref.name} is a namespace of the cluster's own" if each.ref.name in SYSTEM_NAMESPACES else None
    if each.ref.namespace not in SYSTEM_NAMESPACES or each.ref.namespace == each.decryptors_namespace:
        return None
    return f"{each.ref.namespace} is a namespace of the cluster's own, and the Decryptor is in another"


_OPENABLE: tuple[tuple[Callable[[_Candidate], str], _Rule], ...] = (
    (_kind_name, _deciding),
    (_kind_name, _aggregated),
    (_kind_name, _converting),
    (_namespace_name, _in_system_namespace),
)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else ()
