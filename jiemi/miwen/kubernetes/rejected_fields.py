"""What a refusal says of the fields of an object, in our words, and what to do about them.

The API server's text quotes values. What is shown of a field is its path as far as it may be (`shown`), and a word of
a fixed set for what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import attrs

from jiemi.core.errors import Failure, JiemiError
from jiemi.core.near import near
from jiemi.core.objects.unblocking import RefusedFields
from jiemi.core.text import first_of
from jiemi.miwen.kubernetes.refusal import Cause, Refusal
from jiemi.miwen.kubernetes.shown import Shown

MAX_FIELDS = 10
"""How many fields a message names."""

_TYPED_PATCH = "failed to create typed patch object"
_CONVERSION = "failed to convert new object"
_TYPED_FIELD = re.compile(
    r"(?:\): |\n\s*)\.?([^\s:]{1,300}): (expected [a-z]+|field not declared in schema|duplicate entries)"
    r"(, got &value\.valueUnstructured\{Value:(?:map\[string\]|\[\])interface \{\})?"  # of Go's types, and no value
)
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9]*")
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


class FieldsRejected(JiemiError):
    """An object that the API server refuses for some of its fields.

    Attributes:
        refused: what it says of them; not to be shown.
        is_invalid: whether it could read the object and found it not valid (422), be it for what is there already.
    """

    def __init__(self, failure: Failure, refused: RefusedFields, *, is_invalid: bool = False) -> None:
        super().__init__(failure.reason, failure.message, failure.own_remedy)
        self.refused = refused
        self.is_invalid = is_invalid

    def saying(self, message: str) -> FieldsRejected:
        """The same, in other words."""
        return FieldsRejected(attrs.evolve(self.failure, message=message), self.refused, is_invalid=self.is_invalid)


def fields_failure(refusal: Refusal, label: str, shown: Shown) -> JiemiError | None:
    """What is wrong with the fields of an object; None where the refusal is not about them.

    Args:
        label: the object's kind and name.
        shown: what of the refusal may be shown.
    """
    fields = [_cause_text(cause, shown) for cause in refusal.causes]
    if refusal.code == 422 and fields and all(_IMMUTABLE.fullmatch(cause.message) for cause in refusal.causes):
        return JiemiError("FieldImmutable", f"{label} has fields that can no longer be changed{listed(fields)}")
    if refusal.code in {400, 405, 406, 415, 422}:
        named = listed(fields) or ", and names no field"
        message = f"the API server rejected {label} ({refusal.answer}){named}"
        return FieldsRejected(
            Failure("ApplyRejected", message, _remedy_by_causes(refusal)),
            _refused_fields(refusal),
            is_invalid=refusal.code == 422,
        )
    # Faults of the object that the API server answers as if they were its own (500 and no reason).
    if refusal.message.startswith(_TYPED_PATCH):
        found = _TYPED_FIELD.findall(refusal.message)
        faults = listed(f"{shown.field(path)} ({fault})" for path, fault, _ in found) or ", and names no field"
        remedies = dict.fromkeys(_fault_remedy(label.partition(" ")[0], *each) for each in found)
        remedy = " ".join(filter(None, remedies))
        return JiemiError("ApplyRejected", f"the API server rejected {label}{faults}", remedy)
    if refusal.message.startswith(_CONVERSION):
        if "illegal base64" in refusal.message:
            return JiemiError(
                "ApplyRejected",
                f"the API server can't read {label}: a value under data is not base64",
                "Put plain text under stringData; under data each value is base64.",
            )
        return JiemiError("ApplyRejected", f"the API server can't read {label}: a value has the wrong form")
    return None


def too_large(label: str) -> JiemiError:
    """The object is larger than the API server, or its etcd, takes."""
    return JiemiError("ApplyRejected", f"{label} is larger than the API server takes", _SPLIT)


def owned_fields(refusal: Refusal, shown: Shown) -> list[str]:
    """The fields that other managers own with other values: "spec.a (owned by helm)"."""
    return [_owned(cause, shown) for cause in refusal.causes if cause.reason == "FieldManagerConflict"]


def with_fields(text: str, refusal: Refusal, shown: Shown) -> str:
    """The text, with the fields that a refusal names at its end."""
    return f"{text}{listed(_cause_text(cause, shown) for cause in refusal.causes)}"


def listed(fields: Iterable[str]) -> str:
    """Fields at the end of a message: ": spec.a, spec.b and 3 more"; nothing where there are none."""
    unique = list(dict.fromkeys(fields))
    if not unique:
        return ""
    return f": {first_of(unique, MAX_FIELDS)}"


def _refused_fields(refusal: Refusal) -> RefusedFields:
    causes = refusal.causes
    return RefusedFields(
        paths=tuple(cause.field for cause in causes),
        # What stands before the last colon quotes the value.
        words=frozenset(word for cause in causes for word in _WORD.findall(cause.message.rpartition(": ")[2])),
        duplicates=tuple(cause.field for cause in causes if cause.reason == "FieldValueDuplicate"),
    )


_FIELDS = {
    "metadata": ("name", "namespace", "labels", "annotations", "finalizers", "ownerReferences"),
    "Secret": ("apiVersion", "kind", "metadata", "type", "data", "stringData", "immutable"),
    "ConfigMap": ("apiVersion", "kind", "metadata", "data", "binaryData", "immutable"),
}
"""Of the kinds that most files hold, and of what all have."""


def _fault_remedy(kind: str, path: str, fault: str, got: str) -> str:
    """What to do about a field of a typed patch; "" where the fault says nothing of it.

    Args:
        kind: the object's kind.
        path, fault: the field's path, and what is wrong with it.
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


def _owned(cause: Cause, shown: Shown) -> str:
    # Any client chooses its name as it likes.
    found = _MANAGER.match(cause.message)
    manager = shown.manager(found[1]) if found is not None else None
    return f"{shown.field(cause.field) or 'a field'} (owned by {manager or 'another manager'})"
