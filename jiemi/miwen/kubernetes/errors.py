"""What the API server's refusals mean, in our words.

A refusal is a Status object with a code, a reason, a message and the causes by field:
https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/
Its *message* quotes values: `.stringData.password: expected string, got &value.valueUnstructured{Value:12345678}`. So
it is read here, to tell one refusal from another where the code and reason don't, and never shown. What is shown is
what we asked for, words of a fixed set, and the paths of fields, without what could be a value in them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import attrs

from jiemi.core.errors import JiemiError
from jiemi.miwen.kubernetes.discovery import Resource

MAX_FIELDS = 10
"""How many fields a message names."""

_WORD = re.compile(r"[A-Za-z]{1,60}")
_KEYED = re.compile(r"(?:data|stringData|binaryData|metadata\.(?:labels|annotations))\[[-._A-Za-z0-9 /]{1,253}\]")
_PLAIN_PATH = re.compile(r"[-_A-Za-z0-9]+(?:\.[-_A-Za-z0-9]+|\[\d+\])*")
_TYPED_PATCH = "failed to create typed patch object"
_CONVERSION = "failed to convert new object"
_TYPED_FIELD = re.compile(r"(?:\): |\n\s*)\.?([^\s:]{1,300}): (expected [a-z]+|field not declared in schema)")
_TOO_LARGE = "etcdserver: request is too large"
_RBAC = re.compile(r' cannot (create|patch|get|list|watch) resource "')


@attrs.frozen
class Cause:
    """One field that is wrong, and in which way ("FieldValueInvalid")."""

    reason: str
    field: str


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
            Cause(_word(cause.get("reason")), _text(cause.get("field")))
            for cause in (causes if isinstance(causes, list) else ())
            if isinstance(cause, dict)
        ),
        message=_text(status.get("message")),
    )


def safe_field(path: str) -> str:
    """A field's path without anything that could be a value: "data[password]", "spec.ports[0].name".

    A path may name an element of a list by its content, and a map's key may be anything; both are cut off.
    """
    path = path.lstrip(".")
    if _KEYED.fullmatch(path):
        return path
    plain = _PLAIN_PATH.match(path)
    if plain is None:
        return ""
    return path if plain.end() == len(path) else f"{plain.group()}…"


def answered(refusal: Refusal) -> str:
    """How the API server answered, for messages: "422 Invalid"."""
    return f"{refusal.code} {refusal.reason}".strip()


def unavailable(doing: str, refusal: Refusal) -> JiemiError:
    """For a refusal that says nothing of what was asked for: overload, a fault of the server, a wrong address."""
    return JiemiError("ClusterUnavailable", f"{doing}: the API server answered {answered(refusal)}")


def forbidden(reason: str, doing: str, *, verbs: str, resource: str, group: str, namespace: str | None) -> JiemiError:
    """For a right that is missing, with what to grant."""
    where = f"in namespace {namespace}" if namespace else "in all namespaces (a ClusterRoleBinding)"
    of_group = f"API group {group}" if group else "the core API group"
    return JiemiError(reason, f"{doing}: not allowed. Grant {verbs} on {resource} of {of_group} {where}")


def apply_failure(  # noqa: PLR0911 - a table, read from the top
    refusal: Refusal, resource: Resource, namespace: str | None, label: str
) -> JiemiError:
    """What a refused server-side apply means.

    Args:
        refusal: the answer.
        resource: the object's kind.
        namespace: the object's, or None where its kind has none.
        label: the object's kind and name, for messages.
    """
    if refusal.code == 403:
        return _apply_forbidden(refusal, resource, namespace, label)
    if refusal.code == 404:
        if refusal.of_kind == "namespaces":
            return JiemiError("NamespaceNotFound", f"there is no namespace {namespace}, where {label} belongs")
        return kind_unknown(resource.api_version, resource.kind)
    if refusal.code == 409:
        return JiemiError("ApplyConflict", f"{label} was changed by another at the same moment")
    if refusal.code == 413 or _TOO_LARGE in refusal.message:
        return JiemiError("ApplyRejected", f"{label} is larger than the API server takes ({answered(refusal)})")
    if refusal.code in {400, 405, 406, 415, 422}:
        return _rejected(refusal, label, [_cause_text(cause) for cause in refusal.causes])
    # Faults of the object that the API server answers as if they were its own (500 and no reason).
    if refusal.message.startswith(_TYPED_PATCH):
        found = _TYPED_FIELD.findall(refusal.message)
        return _rejected(refusal, label, [f"{safe_field(path)} ({fault})" for path, fault in found])
    if refusal.message.startswith(_CONVERSION):
        hint = " (each value under data must be base64; plain text belongs under stringData)"
        base64 = hint if "illegal base64" in refusal.message else ""
        return JiemiError("ApplyRejected", f"the API server can't read {label}: a value has the wrong form{base64}")
    return unavailable(f"applying {label}", refusal)


def kind_unknown(api_version: str, kind: str) -> JiemiError:
    """The cluster does not serve the kind. Both are from the file, whose apiVersion and kind are no secrets."""
    return JiemiError("KindUnknown", f"the cluster serves no kind {kind[:100]} of {api_version[:100]}")


def _apply_forbidden(refusal: Refusal, resource: Resource, namespace: str | None, label: str) -> JiemiError:
    if any(cause.reason == "NamespaceTerminating" for cause in refusal.causes):
        return JiemiError("NamespaceNotFound", f"namespace {namespace}, where {label} belongs, is being deleted")
    if _RBAC.search(refusal.message):
        return forbidden(
            "ApplyForbidden",
            f"applying {label}",
            verbs="`create` and `patch`",
            resource=resource.plural,
            group=resource.group,
            namespace=namespace,
        )
    fields = _listed(_cause_text(cause) for cause in refusal.causes)
    return JiemiError("ApplyForbidden", f"an admission rule or a quota of the cluster forbids {label}{fields}")


def _rejected(refusal: Refusal, label: str, fields: Iterable[str]) -> JiemiError:
    named = _listed(fields) or ", and names no field"
    return JiemiError("ApplyRejected", f"the API server rejected {label} ({answered(refusal)}){named}")


def _cause_text(cause: Cause) -> str:
    field = safe_field(cause.field) or "the object as a whole"
    return f"{field} ({cause.reason})" if cause.reason else field


def _listed(fields: Iterable[str]) -> str:
    unique = list(dict.fromkeys(fields))
    if not unique:
        return ""
    more = f" and {len(unique) - MAX_FIELDS} more" if len(unique) > MAX_FIELDS else ""
    return f": {', '.join(unique[:MAX_FIELDS])}{more}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _word(value: Any) -> str:
    return value if isinstance(value, str) and _WORD.fullmatch(value) else ""
