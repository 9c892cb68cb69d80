"""What the API server's refusals mean, in our words.

What is shown is what we asked for, words of a fixed set, the paths of fields as far as the manifest itself has their
parts as keys, and names (of a policy, a webhook, a quota, a field manager) that stand where the API server writes a
name and have the form of one (`shown`). Nothing else of a refusal's text is shown; `refusal` says why.

What is wrong with fields is in `rejected_fields`, which right is missing in `missing_rights`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import attrs

from jiemi.core.errors import JiemiError
from jiemi.core.text import first_of
from jiemi.miwen.kubernetes.discovery import Resource
from jiemi.miwen.kubernetes.missing_rights import Right, RightMissing, grantee
from jiemi.miwen.kubernetes.port import Account
from jiemi.miwen.kubernetes.refusal import NAME, OF_OBJECT, POLICY, WEBHOOK, Refusal
from jiemi.miwen.kubernetes.rejected_fields import fields_failure, listed, owned_fields, too_large, with_fields
from jiemi.miwen.kubernetes.shown import Shown

# Messages are matched from their beginning: what follows may be text of a policy, of a webhook, or of the object.
_RBAC = re.compile(OF_OBJECT + r'User "[^"]*" cannot [a-z]+ resource "')
# 1.36 and later say `cannot impersonate-on:serviceaccount:get resource "secrets"` where no right of either sort is
# there, and before them `cannot impersonate resource "serviceaccounts"`.
# https://kubernetes.io/docs/reference/access-authn-authz/user-impersonation/
_IMPERSONATION = re.compile(OF_OBJECT + r'User "[^"]*" cannot impersonate[-:a-z]* resource "')
_ESCALATION = re.compile(OF_OBJECT + r'user "[^"]*" \(groups=[^)]*\) is attempting to grant RBAC permissions')
_WEBHOOK_NO_DRY_RUN = re.compile(rf'admission webhook "({NAME})" does not support dry run')
_WEBHOOK_FAILED = re.compile(rf'Internal error occurred: failed calling webhook "({NAME})"')
_QUOTA = re.compile(rf"{OF_OBJECT}exceeded quota: ({NAME}), requested: ")
_QUOTA_LIMITED = re.compile(r", limited: ([-A-Za-z0-9./_=,]{1,2000})$")


@attrs.frozen
class Act:
    """What was asked for, for messages.

    Attributes:
        doing: "applying Secret default/app".
        label: the object's kind and name; for a collection, its plural.
        resource: the kind.
        namespace: the namespace; None for a kind that has none, or for all.
        account: the account that asked; None is Miwen.
        followed: whether Miwen looks at Decryptors there.
        shown: what of an answer may be shown, by the manifest that was sent.
    """

    doing: str
    label: str
    resource: Resource
    namespace: str | None
    account: Account | None = None
    shown: Shown = Shown()
    followed: bool = True


def unavailable(doing: str, refusal: Refusal) -> JiemiError:
    """For a refusal that says nothing of what was asked for: overload, a fault of the server, a wrong address."""
    webhook = _WEBHOOK_FAILED.match(refusal.message)
    if webhook is not None:
        return JiemiError(
            "ClusterUnavailable",
            f"{doing}: the API server got no answer of its webhook {webhook[1]}",
            "Look at the Pods and the Service behind that webhook; it is tried again.",
        )
    if refusal.code == 401:
        return not_authenticated(f"{doing}: the API server answered {refusal.answer}")
    return JiemiError("ClusterUnavailable", f"{doing}: the API server answered {refusal.answer}")


def not_authenticated(problem: str) -> JiemiError:
    """The API server does not accept Miwen's credentials."""
    return JiemiError("ClusterAccessDenied", problem)


def kind_unknown(api_version: str, kind: str, similar: Sequence[Resource] = ()) -> JiemiError:
    """The cluster does not serve the kind. Both are from the file, whose apiVersion and kind are no secrets.

    Args:
        api_version, kind: what is not served.
        similar: what is, and may be meant. What was known a minute ago may be the very kind, which is gone since.
    """
    similar = [each for each in similar if (each.api_version, each.kind) != (api_version, kind)]
    problem = f"the cluster serves no kind {kind[:100]} of apiVersion {api_version[:100]}"
    if not similar:
        return JiemiError("KindUnknown", problem)
    there = first_of([f"{each.kind} of {each.api_version}" for each in similar], 3)
    wrong = [
        field
        for field, is_it in (
            ("apiVersion", all(each.api_version != api_version for each in similar)),
            ("kind", all(each.kind != kind for each in similar)),
        )
        if is_it
    ]
    return JiemiError(
        "KindUnknown",
        f"{problem}; it serves {there}",
        f"Correct {' and '.join(wrong) or 'apiVersion and kind'}, or install the CustomResourceDefinition.",
    )


def changed(label: str) -> JiemiError:
    """The object is not in the state that was meant."""
    return JiemiError("ApplyConflict", f"{label} was changed by another at the same moment")


def no_such_field(label: str) -> JiemiError:
    """A field that is to be removed is not in the object, though the object is in the state that was meant."""
    return JiemiError("ApplyRejected", f"{label} has no such field to remove")


def decryptor_refused(refusal: Refusal, act: Act) -> JiemiError:
    """For a Decryptor whose status or finalizers can't be written, because the object would break its CRD."""
    fields = list(dict.fromkeys(act.shown.field(cause.field) or "the object as a whole" for cause in refusal.causes))
    own = [field for field in fields if field.split(".")[0] == "spec"]
    if own:
        # API servers before 1.30 read all of an object again, whatever is written of it.
        return JiemiError(
            "ApplyRejected",
            f"{act.doing}: the Decryptor's own spec is not as the CustomResourceDefinition allows{listed(own)}",
            "Correct those fields of the Decryptor.",
        )
    return JiemiError(
        "ApplyRejected",
        f"{act.doing}: the CustomResourceDefinition in the cluster, which is not this release's, does not allow "
        f"it{listed(fields)}",
        "Apply this release's deploy/crd.yaml.",
    )


def apply_failure(refusal: Refusal, act: Act) -> JiemiError:
    """What a refused server-side apply means, or another refused change of an object."""
    if (failure := _not_of_the_object(refusal, act)) is not None:
        return failure
    if refusal.code == 403:
        return _apply_forbidden(refusal, act)
    if refusal.code == 404:
        return _not_there(refusal, act)
    if refusal.code == 409:
        return _conflict(refusal, act)
    if refusal.is_too_large:
        return too_large(act.label)
    return fields_failure(refusal, act.label, act.shown) or unavailable(act.doing, refusal)


def access_failure(refusal: Refusal, act: Act, reason: str, *verbs: str) -> JiemiError:
    """What a refused read, list, watch or deletion means.

    Args:
        reason: for a right that is missing: "ReadForbidden".
        verbs: what it needs the right to do: "get".
    """
    if (failure := _not_of_the_object(refusal, act)) is not None:
        return failure
    if refusal.code == 403:
        return _right_missing(reason, act, *verbs)
    return unavailable(act.doing, refusal)


def _not_of_the_object(refusal: Refusal, act: Act) -> JiemiError | None:
    """Refusals that any object may meet, recognized by their messages: their codes are those of others too."""
    message = refusal.message
    if refusal.code == 403 and act.account is not None and _IMPERSONATION.match(message):
        account = act.account
        right = f"`impersonate` on serviceaccounts of the core API group (resourceNames: {account.name})"
        return JiemiError(
            "ImpersonationForbidden",
            f"{act.doing} as {account}: Miwen may not act as it",
            f"Grant {right} to Miwen's ServiceAccount in namespace {account.namespace} (deploy/impersonation does).",
        )
    if (policy := POLICY.match(message)) is not None:
        by = f"ValidatingAdmissionPolicy {policy[1]} (binding {policy[2]})"
        return JiemiError("AdmissionDenied", f"{act.doing}: {by} refuses it")
    if (webhook := WEBHOOK.match(message)) is not None:
        return JiemiError("AdmissionDenied", f"{act.doing}: admission webhook {webhook[1]} refuses it")
    if (webhook := _WEBHOOK_NO_DRY_RUN.match(message)) is not None:
        return JiemiError("AdmissionDenied", f"{act.doing}: admission webhook {webhook[1]} takes no dry runs")
    if refusal.code == 403 and (quota := _QUOTA.match(message)) is not None:
        limited = _QUOTA_LIMITED.search(message)
        resources = [each.partition("=")[0] for each in limited[1].split(",")] if limited is not None else []
        where = f"quota {quota[1]} of namespace {act.namespace}"
        return JiemiError("QuotaExceeded", f"{act.doing}: {where} is used up{listed(resources)}")
    return None


def _apply_forbidden(refusal: Refusal, act: Act) -> JiemiError:
    if any(cause.reason == "NamespaceTerminating" for cause in refusal.causes):
        return JiemiError(
            "NamespaceNotFound",
            f"namespace {act.namespace}, where {act.label} belongs, is being deleted",
            "Create the namespace again once it is gone, or take the object out of git.",
        )
    if _RBAC.match(refusal.message):
        return _right_missing("ApplyForbidden", act, "create", "patch")
    if _ESCALATION.match(refusal.message):
        whom = grantee(act.account)
        return JiemiError(
            "ApplyForbidden",
            f"{act.label} gives rights that {whom} does not have",
            f"Grant {whom} these rights, or `escalate` and `bind` on roles.",
        )
    return JiemiError(
        "ApplyForbidden",
        with_fields(f"an admission rule or a quota of the cluster forbids {act.label}", refusal, act.shown),
        "Ask whoever runs the cluster which rule it is, and change the object as it wants; it is no missing right.",
    )


def _not_there(refusal: Refusal, act: Act) -> JiemiError:
    if refusal.of_kind == "namespaces":
        return JiemiError(
            "NamespaceNotFound",
            f"there is no namespace {act.namespace}, where {act.label} belongs",
            f"Create namespace {act.namespace}, or correct metadata.namespace (or spec.targetNamespace).",
        )
    return kind_unknown(act.resource.api_version, act.resource.kind)


def _conflict(refusal: Refusal, act: Act) -> JiemiError:
    owned = owned_fields(refusal, act.shown)
    if not owned:
        return changed(act.label)
    return JiemiError("FieldConflict", f"{act.label}: others own fields with other values{listed(owned)}")


def _right_missing(reason: str, act: Act, *verbs: str) -> RightMissing:
    right = Right(verbs, act.resource.plural, act.resource.group, act.namespace, by_label=act.followed)
    return RightMissing(reason, act.doing, right, act.account)
