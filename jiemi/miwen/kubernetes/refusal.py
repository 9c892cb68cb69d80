"""An API server's refusal as a value.

A refusal is a Status object with a code, a reason, a message and the causes by field:
https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/
Its *messages* quote values: `.stringData.password: expected string, got &value.valueUnstructured{Value:12345678}`. So
they are read, to distinguish one refusal from another where the code and reason don't, and never shown.
"""

from __future__ import annotations

import json
import re
from typing import Any

import attrs

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
_TOO_LARGE = "etcdserver: request is too large"

NAME = r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?"
"""What a policy, a webhook or a quota may be called."""

OF_OBJECT = r'[^\s"]{1,300}(?: "[^"]*")? is forbidden: '
"""How messages begin that are about an object."""

# Messages are matched from their beginning: what follows may be text of a policy, of a webhook, or of the object.
POLICY = re.compile(rf"(?:{OF_OBJECT})?ValidatingAdmissionPolicy '({NAME})' with binding '({NAME})' denied request")
WEBHOOK = re.compile(rf'admission webhook "({NAME})" denied the request')


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
        return any(rule.match(self.message) for rule in (POLICY, WEBHOOK))

    @property
    def of_patch(self) -> bool:
        """Whether a JSON patch does not fit the object as it is: a `test` failed, or what it removes is not there.

        An object that is refused for what it would be has the same code, but is named, with its fields.
        """
        return self.code == 422 and not self.causes and not self.of_name and not self.by_admission

    @property
    def is_too_large(self) -> bool:
        """Whether an object is larger than the API server, or its etcd, takes."""
        return self.code == 413 or _TOO_LARGE in self.message

    @property
    def answer(self) -> str:
        """How the API server answered, for messages: "422 Invalid"."""
        return f"{self.code} {self.reason}".strip()


def read_refusal(code: int, body: bytes) -> Refusal:
    """The refusal in an answer; of one that is no Status object, only the code is known."""
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


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _word(value: Any) -> str:
    """A reason that the API has; a webhook may write anything there."""
    return value if isinstance(value, str) and value in _REASONS else ""
