"""What became of each request for a data key, and which reason it all comes to.

The words of key services and their libraries are looked at here to distinguish a refusal from an outage, then dropped:
they quote addresses, names and sometimes credentials. Two questions decide: may it work when it is asked again, and
would a change of the spec or of the service's policy help.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence

import attrs

from jiemi.core.errors import Failure, JiemiError
from jiemi.core.text import first_of
from jiemi.krapao.decryption.grpc import GrpcStatusError

_MAX_SHOWN = 5


class Verdict(enum.Enum):
    """What became of one request."""

    OPENED = "opened"
    NOT_GIVEN = "no key of this kind is given"
    NOT_OPENED = "not opened by the key given"
    REFUSED = "not allowed"
    DENIED = "denied by the key service"
    UNREACHABLE = "the key service could not be reached"
    HOLDER_FAILED = "the process that holds the key failed"
    UNUSABLE = "the key given can't be used"
    TOO_MANY = "not asked: the file asks for too many"


@attrs.frozen
class Outcome:
    """One request and what became of it.

    Attributes:
        provider: whose key was asked for ("age"), or "" for what is no request for a data key.
        recipient: the master key's public name.
        verdict: what became of it.
        failure: the reason where one is known beyond the verdict.
    """

    provider: str
    recipient: str
    verdict: Verdict
    failure: Failure | None = None


_NET = (
    r"connection refused|connection reset|no such host|server misbehaving|temporary failure in name resolution"
    r"|network is unreachable|no route to host|i/o timeout|deadline exceeded|proxyconnect tcp|tls: |x509: "
    r"|unexpected eof|: eof\b|broken pipe|operation not permitted"
)
"""What Go says where a server can't be reached or does not speak TLS as it should."""

_RULES: Mapping[str, tuple[tuple[Verdict, re.Pattern[str]], ...]] = {
    name: tuple((verdict, re.compile(pattern)) for verdict, pattern in rules)
    for name, rules in {
        "aws": (
            # Throttling is answered with status 400, and comes with this frame only.
            (
                Verdict.UNREACHABLE,
                r"exceeded maximum number of attempts|statuscode: (0|5\d\d|429)\b|api error throttl|: use of closed",
            ),
            (Verdict.NOT_OPENED, r", (notfound|incorrectkey|invalidciphertext)exception:|^no valid arn"),
            (Verdict.DENIED, r"statuscode: 4\d\d\b|get credentials: |failed to refresh cached credentials"),
            (Verdict.UNREACHABLE, _NET),
        ),
        "vault": (
            # The last is what a redirect comes to, which is not followed: it would carry the token along.
            (Verdict.UNREACHABLE, r"code: (5\d\d|429|472|473)\. errors|transit backend is empty"),
            (Verdict.DENIED, r"code: 403\. errors"),
            (Verdict.NOT_OPENED, r"code: 4\d\d\. errors"),
            (Verdict.UNREACHABLE, _NET),
        ),
        "gcp": (
            (Verdict.UNREACHABLE, r"error 5\d\d\b|error 429\b|code = (unavailable|resourceexhausted|internal)"),
            (Verdict.UNREACHABLE, r"cannot fetch token: (5\d\d|429)|token.{0,40}status code: 5\d\d"),
            (Verdict.UNREACHABLE, _NET),
            (Verdict.DENIED, r"error 40[13]\b|code = (permissiondenied|unauthenticated)|cannot fetch token|oauth2:"),
            (Verdict.DENIED, r"could not find default credentials|credentials: "),
        ),
        "azure": (
            (Verdict.UNREACHABLE, r"response 5\d\d\b|response 429\b|error code: (toomanyrequests|serviceunavailable)"),
            (Verdict.UNREACHABLE, _NET),
            (Verdict.DENIED, r"response 40[13]\b|\baadsts\d|failed to acquire a token|: authentication failed"),
        ),
        "huawei": (
            (Verdict.UNREACHABLE, r"\"?status_?code\"?: ?(5\d\d|429)\b"),
            (Verdict.DENIED, r"\"?status_?code\"?: ?40[13]\b|credentials"),
            (Verdict.UNREACHABLE, _NET),
        ),
    }.items()
}
"""By the frames in which the libraries put an answer (v3.13.3, tried with each service's double): never by words that a
server chose. The first rule that finds something decides; what none finds is a wrapped key that did not open."""


def of_status(provider: str, error: GrpcStatusError) -> Verdict:
    """What a holder's refusal means, by the words that its key service's library gave it."""
    text = error.text.lower()
    rules = _RULES.get(provider, ())
    return next((verdict for verdict, pattern in rules if pattern.search(text)), Verdict.NOT_OPENED)


_ORDER = (
    (Verdict.UNREACHABLE, "KeyServiceUnreachable", "a key service could not be reached or could not answer now"),
    (Verdict.HOLDER_FAILED, "KeyHolderFailed", "the process that holds the key ended or hung"),
    (Verdict.REFUSED, "DestinationNotAllowed", ""),
    (Verdict.DENIED, "KeyServiceDenied", "a key service refused the credentials, or refused them this key"),
    (Verdict.UNUSABLE, "", ""),
    (Verdict.TOO_MANY, "LimitExceeded", "the file asks for more data keys than Krapao's limit"),
)
"""Which of several verdicts says why a file was not opened: what may pass first, then what the user can change."""


def explain(outcomes: Sequence[Outcome], *, recipients: Sequence[str], given: Sequence[str]) -> JiemiError:
    """Why no data key was had.

    Args:
        outcomes: of the run, in order.
        recipients: of the file, where it asked for nothing.
        given: public names of the keys given.
    """
    asked = _asked(outcomes) if outcomes else _list(recipients) or "nobody that is known"
    beside = f"The file is for: {asked}. Given: {_list(given) or 'none'}"
    for verdict, reason, words in _ORDER:
        found = next((each for each in outcomes if each.verdict is verdict), None)
        if found is None:
            continue
        if found.failure is not None and not reason:
            return JiemiError.of(found.failure)
        first = found.failure.message if found.failure is not None else words
        remedy = found.failure.own_remedy if found.failure is not None else ""
        return JiemiError(reason, f"{first}. {beside}", remedy)
    return JiemiError("KeyMissing", f"no key given opens the file. {beside}")


def _asked(outcomes: Sequence[Outcome]) -> str:
    return _list([f"{each.recipient} ({each.verdict.value})" for each in outcomes if each.recipient])


def _list(names: Sequence[str]) -> str:
    shown = list(dict.fromkeys(names))
    return first_of(shown, _MAX_SHOWN)
