"""What the API server's refusals mean, in our words.

A refusal is a Status object with a code, a reason, a message and the causes by field:
https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/
Its *messages* quote values: `.stringData.password: expected string, got &value.valueUnstructured{Value:12345678}`. So
they are read here, to tell one refusal from another where the code and reason don't, and never shown. What is shown is
what we asked for, words of a fixed set, the paths of fields as far as the manifest itself has their parts as keys, and
names (of a policy, a webhook, a quota, a field manager) that stand where the API server writes a name and have the form
of one (`shown`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs

from jiemi.core.errors import Failure, JiemiError
from jiemi.core.near import near
from jiemi.core.text import first_of
from jiemi.miwen.kubernetes.discovery import Resource
from jiemi.miwen.kubernetes.port import Account
from jiemi.miwen.kubernetes.shown import Shown

MAX_FIELDS = 10
"""How many fields a message names."""

# https://github.com/kubernetes/apimachinery/blob/master/pkg/apis/meta/v1/types.go: StatusReason, CauseType.
_REASONS = frozenset(
    """
    AlreadyExists BadRequest Conflict Expired Forbidden Gone InternalError Invalid MethodNotAllowed NotAcceptable
    NotFound RequestEntityTooLarge ServerTimeout ServiceUnavailable StoreReadError Timeout TooManyRequests
    Unauthorized UnsupportedMediaType FieldManagerConflict FieldValueDuplicate FieldValueForbidden
    FieldValueInvalid FieldValueNotFound FieldValueNotSupported FieldValueRequired FieldValueTooLong
    FieldValueTooMany FieldValueTypeInvalid NamespaceTerminating ResourceVersionTooLarge UnexpectedServerResponse
    """.split()  # noqa: SIM905 - fifty quotes fewer
)
_TYPED_PATCH = "failed to create typed patch object"
_CONVERSION = "failed to convert new object"
_TYPED_FIELD = re.compile(
    r"(?:\): |\n\s*)\.?([^\s:]{1,300}): (expected [a-z]+|field not declared in schema|duplicate entries)"
    r"(, got &value\.valueUnstructured\{Value:(?:map\[string\]|\[\])interface \{\})?"  # of Go's types, and no value
)
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_TOO_LARGE = "etcdserver: request is too large"

# Messages are matched from their beginning: what follows may be text of a policy, of a webhook, or of the object.
_NAME = r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?"
_OF_OBJECT = r'[^\s"]{1,300}(?: "[^"]*")? is forbidden: '
_RBAC = re.compile(_OF_OBJECT + r'User "[^"]*" cannot [a-z]+ resource "')
# 1.36 and later say `cannot impersonate-on:serviceaccount:get resource "secrets"` where no right of either sort is
# there, and before them `cannot impersonate resource "serviceaccounts"`.
# https://kubernetes.io/docs/reference/access-authn-authz/user-impersonation/
_IMPERSONATION = re.compile(_OF_OBJECT + r'User "[^"]*" cannot impersonate[-:a-z]* resource "')
_ESCALATION = re.compile(_OF_OBJECT + r'user "[^"]*" \(groups=[^)]*\) is attempting to grant RBAC permissions')
_POLICY = re.compile(rf"(?:{_OF_OBJECT})?ValidatingAdmissionPolicy '({_NAME})' with binding '({_NAME})' denied request")
_WEBHOOK = re.compile(rf'admission webhook "({_NAME})" denied the request')
_WEBHOOK_NO_DRY_RUN = re.compile(rf'admission webhook "({_NAME})" does not support dry run')
_WEBHOOK_FAILED = re.compile(rf'Internal error occurred: failed calling webhook "({_NAME})"')
_QUOTA = re.compile(rf"{_OF_OBJECT}exceeded quota: ({_NAME}), requested: ")
_QUOTA_LIMITED = re.compile(r", limited: ([-A-Za-z0-9./_=,]{1,2000})$")
_MANAGER = re.compile(r'conflict with "([^"]{1,300})"')
_IMMUTABLE = re.compile(
    r"""
      (?s:.*):\ (?:
        field\ is\ immutable(?:\ when\ `immutable`\ is\ set)?
        | may\ not\ change\ once\ set             # clusterIPs of a Service
        | may\ not\ be\ changed\ in\ an\ update\. # the value of a PriorityClass
      )
    | # A difference of the two follows.
      Forbidden:\ (?:
        spec(?:\.[A-Za-z]+)?\ is\ immutable\ after\ creation     # PersistentVolumeClaim, PersistentVolume
        | (?:pod\ updates\ may\ not\ change|updates\ to\ statefulset\ spec\ for)\ fields\ other\ than\b
      )(?s:.*)
    """,
    re.VERBOSE,
)


@attrs.frozen
class Cause:
    """One field that is wrong, and in which way ("FieldValueInvalid"). The message is as secret as the refusal's."""

    reason: str
    field: str
    message: str = attrs.field(default="", repr=False)


@attrs.frozen
class Refusal:
    """An answer that is no success.

    Attributes:
        code: the HTTP status.
        reason: the Status's, such as "Conflict"; "" where it has none.
        of_kind, of_name: what the Status is about, where it says so.
        causes: the fields that are wrong.
        message: may hold secrets; to be matched, never to be shown.
    """

    code: int
    reason: str = ""
    of_kind: str = ""
    of_name: str = ""
    causes: tuple[Cause, ...] = ()
    message: str = attrs.field(default="", repr=False)

    @property
    def by_admission(self) -> bool:
        """Whether a policy or webhook refuses. It chooses the code as it likes, even 401."""
        return any(rule.match(self.message) for rule in (_POLICY, _WEBHOOK))

    @property
    def of_patch(self) -> bool:
        """Whether a JSON patch does not fit the object as it is: a `test` failed, or what it removes is not there.

        An object that is refused for what it would be has the same code, but is named, with its fields.
        """
        return self.code == 422 and not self.causes and not self.of_name and not self.by_admission


@attrs.frozen
class Act:
    """What was asked for, for messages.

    Attributes:
        doing: "applying Secret default/app".
        label: the object's kind and name; for a collection, its plural.
        resource: the kind.
        namespace: where; None for a kind that has none, or for all.
        account: who asked; None is Miwen.
        shown: what of an answer may be shown, by the manifest that was sent.
    """

    doing: str
    label: str
    resource: Resource
    namespace: str | None
    account: Account | None = None
    shown: Shown = Shown()


def read_refusal(code: int, body: bytes) -> Refusal:
    """The refusal in an answer; one that is no Status object is told by its code alone."""
    try:
        status = json.loads(body)
    except (ValueError, RecursionError):
        return Refusal(code)
    if not isinstance(status, dict) or status.get("kind") != "Status":
        return Refusal(code)
    details = status.get("details")
    details = details if isinstance(details, dict) else {}
    causes = details.get("causes")
    return Refusal(
        code,
        reason=_word(status.get("reason")),
        of_kind=_text(details.get("kind")),
        of_name=_text(details.get("name")),
        causes=tuple(
            Cause(_word(cause.get("reason")), _text(cause.get("field")), _text(cause.get("message")))
            for cause in (causes if isinstance(causes, list) else ())
            if isinstance(cause, dict)
        ),
        message=_text(status.get("message")),
    )


def answered(refusal: Refusal) -> str:
    """How the API server answered, for messages: "422 Invalid"."""
    return f"{refusal.code} {refusal.reason}".strip()


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
        return not_authenticated(f"{doing}: the API server answered {answered(refusal)}")
    return JiemiError("ClusterUnavailable", f"{doing}: the API server answered {answered(refusal)}")


def forbidden(
    reason: str,
    doing: str,
    *,
    verbs: str,
    resource: str,
    group: str,
    namespace: str | None,
    account: Account | None = None,
) -> JiemiError:
    """For a right that is missing, with what to grant, and to whom."""
    where = f"in namespace {namespace}" if namespace else "in all namespaces (a ClusterRoleBinding)"
    of_group = f"API group {group}" if group else "the core API group"
    whom = str(account) if account is not None else "Miwen's ServiceAccount"
    grant = f"Grant {verbs} on {resource} of {of_group} to {whom} {where}"
    if reason in _OF_OBJECTS and account is None:
        grant += ', for example by a ClusterRole labelled jiemi.cr/aggregate-to-miwen: "true"'
    return JiemiError(reason, f"{doing}: not allowed to {whom}", f"{grant}.")


_OF_OBJECTS = frozenset({"ApplyForbidden", "ReadForbidden", "DeleteForbidden", "WatchForbidden"})
"""Rights that are about the objects of Decryptors."""


def not_authenticated(problem: str) -> JiemiError:
    """The API server does not know who Miwen is."""
    return JiemiError("ClusterAccessDenied", problem)


def kind_unknown(api_version: str, kind: str, similar: Sequence[Resource] = ()) -> JiemiError:
    """The cluster does not serve the kind. Both are from the file, whose apiVersion and kind are no secrets.

    Args:
        api_version, kind: what is not served.
        similar: what is, and may be meant.
    """
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


def is_too_large(refusal: Refusal) -> bool:
    """Whether an object is larger than the API server, or its etcd, takes."""
    return refusal.code == 413 or _TOO_LARGE in refusal.message


def decryptor_refused(refusal: Refusal, act: Act) -> JiemiError:
    """For a Decryptor whose status or finalizers can't be written, because the object would break its CRD."""
    fields = list(dict.fromkeys(act.shown.field(cause.field) or "the object as a whole" for cause in refusal.causes))
    own = [field for field in fields if field.split(".")[0] == "spec"]
    if own:
        # API servers before 1.30 read all of an object again, whatever is written of it.
        return JiemiError(
            "ApplyRejected",
            f"{act.doing}: the Decryptor's own spec is not as the CustomResourceDefinition allows{_listed(own)}",
            "Correct those fields of the Decryptor.",
        )
    return JiemiError(
        "ApplyRejected",
        f"{act.doing}: the CustomResourceDefinition in the cluster, which is not this release's, does not allow "
        f"it{_listed(fields)}",
        "Apply this release's deploy/crd.yaml.",
    )


class FieldsRejected(JiemiError):
    """An object that the API server refuses for some of its fields.

    Attributes:
        fields: their paths, as it names them ("" for the object as a whole). They may hold values: not to be shown.
        duplicates: of the paths, those of a value that another element of a list has.
        words: what it says of them, the values that it quotes left out as far as they can be told: not to be shown.
        is_invalid: whether it could read the object and found it not valid (422), be it for what is there already.
    """

    def __init__(
        self,
        failure: Failure,
        fields: tuple[str, ...],
        words: frozenset[str],
        duplicates: tuple[str, ...] = (),
        *,
        is_invalid: bool = False,
    ) -> None:
        super().__init__(failure.reason, failure.message, failure.own_remedy)
        self.duplicates = duplicates
        self.fields = fields
        self.words = words
        self.is_invalid = is_invalid

    def saying(self, message: str) -> FieldsRejected:
        """The same, in other words."""
        failure = attrs.evolve(self.failure, message=message)
        return FieldsRejected(failure, self.fields, self.words, self.duplicates, is_invalid=self.is_invalid)


def apply_failure(refusal: Refusal, act: Act) -> JiemiError:  # noqa: PLR0911 - a table, read from the top
    """What a refused server-side apply means, or another refused change of an object."""
    if (failure := _not_of_the_object(refusal, act)) is not None:
        return failure
    label = act.label
    if refusal.code == 403:
        return _apply_forbidden(refusal, act)
    if refusal.code == 404:
        if refusal.of_kind == "namespaces":
            return JiemiError(
                "NamespaceNotFound",
                f"there is no namespace {act.namespace}, where {label} belongs",
                f"Create namespace {act.namespace}, or correct metadata.namespace (or spec.targetNamespace).",
            )
        return kind_unknown(act.resource.api_version, act.resource.kind)
    if refusal.code == 409:
        owned = [_conflict_text(cause, act.shown) for cause in refusal.causes if cause.reason == "FieldManagerConflict"]
        if not owned:
            return changed(act.label)
        return JiemiError("FieldConflict", f"{label}: others own fields with other values{_listed(owned)}")
    if is_too_large(refusal):
        return JiemiError("ApplyRejected", f"{label} is larger than the API server takes", _SPLIT)
    fields = [_cause_text(cause, act.shown) for cause in refusal.causes]
    if refusal.code == 422 and fields and all(_IMMUTABLE.fullmatch(cause.message) for cause in refusal.causes):
        return JiemiError("FieldImmutable", f"{label} has fields that can't be changed any more{_listed(fields)}")
    if refusal.code in {400, 405, 406, 415, 422}:
        rejected = _rejected(refusal, label, fields)
        words = frozenset(word for cause in refusal.causes for word in _WORD.findall(cause.message.rpartition(": ")[2]))
        twice = tuple(cause.field for cause in refusal.causes if cause.reason == "FieldValueDuplicate")
        named = tuple(cause.field for cause in refusal.causes)
        return FieldsRejected(rejected.failure, named, words, twice, is_invalid=refusal.code == 422)
    # Faults of the object that the API server answers as if they were its own (500 and no reason).
    if refusal.message.startswith(_TYPED_PATCH):
        found = _TYPED_FIELD.findall(refusal.message)
        listed = _listed(f"{act.shown.field(path)} ({fault})" for path, fault, _ in found) or ", and names no field"
        remedies = dict.fromkeys(_fault_remedy(act.resource.kind, *each) for each in found)
        return JiemiError("ApplyRejected", f"the API server rejected {label}{listed}", " ".join(filter(None, remedies)))
    if refusal.message.startswith(_CONVERSION):
        if "illegal base64" in refusal.message:
            return JiemiError(
                "ApplyRejected",
                f"the API server can't read {label}: a value under data is not base64",
                "Put plain text under stringData; under data each value is base64.",
            )
        return JiemiError("ApplyRejected", f"the API server can't read {label}: a value has the wrong form")
    return unavailable(act.doing, refusal)


def access_failure(refusal: Refusal, act: Act, reason: str, verbs: str) -> JiemiError:
    """What a refused read, list, watch or deletion means.

    Args:
        reason: for a right that is missing: "ReadForbidden".
        verbs: the rights that it needs: "`get`".
    """
    if (failure := _not_of_the_object(refusal, act)) is not None:
        return failure
    if refusal.code == 403:
        return _grant(reason, act, verbs)
    return unavailable(act.doing, refusal)


def _not_of_the_object(refusal: Refusal, act: Act) -> JiemiError | None:
    """Refusals that any object may meet, told by their messages: their codes are those of others too."""
    message = refusal.message
    if refusal.code == 403 and act.account is not None and _IMPERSONATION.match(message):
        account = act.account
        grant = f"Grant `impersonate` on serviceaccounts {account.name} in namespace {account.namespace}"
        return JiemiError(
            "ImpersonationForbidden",
            f"{act.doing} as {account}: Miwen may not act as it",
            f"{grant} to Miwen's ServiceAccount (deploy/impersonation does).",
        )
    if (policy := _POLICY.match(message)) is not None:
        by = f"ValidatingAdmissionPolicy {policy[1]} (binding {policy[2]})"
        return JiemiError("AdmissionDenied", f"{act.doing}: {by} refuses it")
    if (webhook := _WEBHOOK.match(message)) is not None:
        return JiemiError("AdmissionDenied", f"{act.doing}: admission webhook {webhook[1]} refuses it")
    if (webhook := _WEBHOOK_NO_DRY_RUN.match(message)) is not None:
        return JiemiError("AdmissionDenied", f"{act.doing}: admission webhook {webhook[1]} takes no dry runs")
    if refusal.code == 403 and (quota := _QUOTA.match(message)) is not None:
        limited = _QUOTA_LIMITED.search(message)
        resources = [each.partition("=")[0] for each in limited[1].split(",")] if limited is not None else []
        where = f"quota {quota[1]} of namespace {act.namespace}"
        return JiemiError("QuotaExceeded", f"{act.doing}: {where} is used up{_listed(resources)}")
    return None


def _apply_forbidden(refusal: Refusal, act: Act) -> JiemiError:
    if any(cause.reason == "NamespaceTerminating" for cause in refusal.causes):
        return JiemiError(
            "NamespaceNotFound",
            f"namespace {act.namespace}, where {act.label} belongs, is being deleted",
            "Create the namespace again once it is gone, or take the object out of git.",
        )
    if _RBAC.match(refusal.message):
        return _grant("ApplyForbidden", act, "`create` and `patch`")
    if _ESCALATION.match(refusal.message):
        who = act.account or "Miwen's ServiceAccount"
        return JiemiError(
            "ApplyForbidden",
            f"{act.label} gives rights that {who} does not have",
            f"Grant {who} these rights, or `escalate` and `bind` on roles.",
        )
    fields = _listed(_cause_text(cause, act.shown) for cause in refusal.causes)
    return JiemiError(
        "ApplyForbidden",
        f"an admission rule or a quota of the cluster forbids {act.label}{fields}",
        "Ask who runs the cluster which rule it is, and change the object as it wants; it is no missing right.",
    )


def _grant(reason: str, act: Act, verbs: str) -> JiemiError:
    return forbidden(
        reason,
        act.doing,
        verbs=verbs,
        resource=act.resource.plural,
        group=act.resource.group,
        namespace=act.namespace,
        account=act.account,
    )


def _rejected(refusal: Refusal, label: str, fields: Iterable[str]) -> JiemiError:
    named = _listed(fields) or ", and names no field"
    return JiemiError(
        "ApplyRejected", f"the API server rejected {label} ({answered(refusal)}){named}", _remedy_by_causes(refusal)
    )


_DOCKER = ("data[.dockerconfigjson]", "data[.dockercfg]")
_DATA = re.compile(r"(?:data|stringData|binaryData)(?:\[.*\])?")
_BAD_KEY = re.compile(r"\[(?:[^]]*[^-._a-zA-Z0-9\]][^]]*|\.\.?)\]")
_SPLIT = "A Secret or ConfigMap holds 1 MiB (1,048,576 bytes) at most, any object 1.5 MiB: split it into several."
_FAULT_REMEDIES = {
    "expected string": "Put the value in quotes: without them it is a number, true, false or a date, and no text.",
    "expected map": "Write what is below that field as NAME: VALUE.",
    "expected list": "Write what is below that field as a list, each element with - before it.",
    "expected numeric": "Write the value as a number, without quotes.",
    "expected boolean": "Write true or false there, without quotes.",
    "field not declared in schema": "Take that field out or correct its name: the kind has none of that name there.",
    "duplicate entries": "Two elements of that list have the same key (a name, a port): take one out, or change it.",
}


_FIELDS = {
    "metadata": ("name", "namespace", "labels", "annotations", "finalizers", "ownerReferences"),
    "Secret": ("apiVersion", "kind", "metadata", "type", "data", "stringData", "immutable"),
    "ConfigMap": ("apiVersion", "kind", "metadata", "data", "binaryData", "immutable"),
}
"""Of the kinds that most files hold, and of what all have."""


def _fault_remedy(kind: str, path: str, fault: str, got: str) -> str:
    """What to do about a field of a typed patch; "" where the fault says nothing of it.

    Args:
        kind: of the object.
        path, fault: of the field.
        got: not empty where a mapping or a list stands there.
    """
    if fault == "expected string" and got:
        return "Write one text there, in place of the mapping or list; with | it may have several lines."
    before, _, name = path.rpartition(".")
    there = _FIELDS.get(before or kind, ()) if fault == "field not declared in schema" else ()
    if meant := near(name, there, most=1):
        return f"Write {meant[0]}, if that is meant: the kind has no field of the name that is there."
    return _FAULT_REMEDIES.get(fault, "")


def _remedy_by_causes(refusal: Refusal) -> str:
    """What to do, where all fields are wrong in a way that says so; "" for any other."""
    causes = refusal.causes
    return next((remedy for is_it, remedy in _CAUSE_REMEDIES if causes and all(map(is_it, causes))), "")


def _is_bad_key(cause: Cause) -> bool:
    """Whether a key is wrong by itself; of one that could be one it is the value, for the Secret's type."""
    is_key = _DATA.fullmatch(cause.field) and _BAD_KEY.search(cause.field)
    return is_key is not None and cause.reason == "FieldValueInvalid"


_CAUSE_REMEDIES: tuple[tuple[Callable[[Cause], bool], str], ...] = (
    (lambda cause: _DATA.fullmatch(cause.field) is not None and cause.reason == "FieldValueTooLong", _SPLIT),
    (
        lambda cause: _DATA.fullmatch(cause.field) is not None and cause.reason == "FieldValueRequired",
        "Give the Secret these keys, which its type wants, or take type out.",
    ),
    (
        lambda cause: cause.field in _DOCKER,
        "Write there what Docker has in its config.json: JSON, with the hosts under auths.",
    ),
    (_is_bad_key, "Name the key with letters, digits, -, _ and . only."),
    (
        lambda cause: cause.field in ("metadata.labels", "spec.selector.matchLabels"),
        "A label has at most 63 characters: letters, digits, -, _ and . only, a letter or digit first and last.",
    ),
    (lambda cause: cause.reason == "FieldValueRequired", "Give the object the field that is missing."),
    (
        lambda cause: cause.reason == "FieldValueDuplicate",
        "Give each element of the list another value in that field, or take one of them out.",
    ),
)
"""What holds of all fields that are wrong, and what to do then; the first holds."""


def _cause_text(cause: Cause, shown: Shown) -> str:
    field = shown.field(cause.field) or "the object as a whole"
    return f"{field} ({cause.reason})" if cause.reason else field


def _conflict_text(cause: Cause, shown: Shown) -> str:
    # Any client chooses its name as it likes.
    found = _MANAGER.match(cause.message)
    manager = shown.manager(found[1]) if found is not None else None
    return f"{shown.field(cause.field) or 'a field'} (owned by {manager or 'another manager'})"


def _listed(fields: Iterable[str]) -> str:
    unique = list(dict.fromkeys(fields))
    if not unique:
        return ""
    return f": {first_of(unique, MAX_FIELDS)}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _word(value: Any) -> str:
    """A reason that the API has; a webhook may write anything there."""
    return value if isinstance(value, str) and value in _REASONS else ""
