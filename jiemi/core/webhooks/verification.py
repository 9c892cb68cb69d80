"""Whether a webhook is genuine: over the raw body, in constant time, with several secrets at once for rotation.

What a request lacks is known from its headers alone (`is_signed`), so a stranger's body is not even read. `verify`
compares with every secret, also after one fits, so the time shows neither how many there are nor which one fits. One
that is repeated in a header, and so may be read in two ways, is refused.

What proves nothing is no proof here: an empty secret or a short one is not taken (`check_secret`), and neither is a
signing token that arrives as a plain token.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence

from jiemi.core.sensitive import SensitiveText
from jiemi.core.webhooks.headers import Headers
from jiemi.core.webhooks.hosts import (
    STANDARD_ID,
    STANDARD_SIGNATURE,
    STANDARD_TIMESTAMP,
    HmacHeader,
    Host,
    Scheme,
)
from jiemi.core.webhooks.sns import TOPIC_HEADER, TYPE_HEADER, is_topic
from jiemi.core.webhooks.verdict import Verdict

MIN_SECRET_CHARACTERS = 16
MAX_SECRET_CHARACTERS = 4_096
MAX_SECRETS = 8
"""Those of one webhook: the old and the new one, and some to spare. Each costs one HMAC of the body."""

WINDOW = datetime.timedelta(minutes=5)
"""How far the time of a request may be from ours; what Standard Webhooks' own libraries take."""

_SIGNING_TOKEN = "whsec_"  # noqa: S105 - how such a secret begins
_MAX_SIGNATURES = 16
_TIMESTAMP = re.compile(rb"[0-9]{1,12}")
_ID = re.compile(rb"[!-~]{1,256}")


def check_secret(host: Host, secret: SensitiveText) -> str:
    """What is wrong with a secret, so that it is not used; "" where nothing is. The text holds nothing of it."""
    value = secret.reveal()
    if host.scheme is Scheme.SNS:
        return "" if is_topic(value) else "it must be the ARN of a topic: arn:aws:sns:REGION:ACCOUNT:NAME"
    if not MIN_SECRET_CHARACTERS <= len(value) <= MAX_SECRET_CHARACTERS:
        return f"it must have {MIN_SECRET_CHARACTERS} to {MAX_SECRET_CHARACTERS} characters"
    if not all("!" <= char <= "~" for char in value):
        return "it may have no spaces, line breaks or characters beyond ASCII"
    return _form_objection(host, value)


def _form_objection(host: Host, value: str) -> str:
    """What is wrong with the form that a host's secrets have; "" where nothing is."""
    if host.scheme is Scheme.STANDARD and _signing_key(value) is None:
        return "it must be whsec_ and 24 to 64 bytes in base64"
    if value.startswith(_SIGNING_TOKEN) and host.scheme is Scheme.TOKEN and _signing_key(value) is None:
        return "it begins with whsec_, but is no signing token: 24 to 64 bytes in base64 must follow"
    if host.scheme is Scheme.BASIC and (":" not in value or value.startswith(":")):
        return "it must be USER:PASSWORD"
    return ""


def is_signed(host: Host, headers: Headers) -> bool:
    """Whether a request has what its host sends, as far as can be seen without the body."""
    if host.scheme is Scheme.HMAC:
        return _hmac_header(host, headers) is not None
    if host.scheme is Scheme.SNS:
        return all(headers.one(name) for name in (TYPE_HEADER, TOPIC_HEADER))
    if host.scheme is Scheme.OIDC:
        return (headers.one("authorization") or b"")[:7].lower() == b"bearer "
    if host.scheme is Scheme.BASIC:
        return (headers.one("authorization") or b"")[:6].lower() == b"basic "
    if host.scheme is Scheme.TOKEN and headers.one(host.token):
        return True
    return all(headers.one(name) for name in (STANDARD_ID, STANDARD_TIMESTAMP, STANDARD_SIGNATURE))


def verify(
    host: Host, headers: Headers, body: bytes, secrets: Sequence[SensitiveText], now: datetime.datetime
) -> Verdict:
    """What a request is.

    Args:
        body: the bytes as they came.
        secrets: those that may have been used, at most `MAX_SECRETS`; one that `check_secret` objects to never fits.
            None fits a host that signs by a key of its own (SNS, OIDC).
        now: the time, with a time zone.
    """
    if not is_signed(host, headers):
        return Verdict.UNSIGNED
    if host.scheme in (Scheme.SNS, Scheme.OIDC):
        return Verdict.FORGED
    usable = [secret.reveal() for secret in secrets[:MAX_SECRETS] if not check_secret(host, secret)]
    if host.scheme is Scheme.HMAC:
        return _by_hmac(host, headers, body, usable)
    if host.scheme is Scheme.BASIC:
        return _by_basic(headers, usable)
    signing = [key for value in usable if (key := _signing_key(value)) is not None]
    if host.scheme is Scheme.TOKEN:
        # A signing token that is sent as a token may have been seen by anyone on the way: it is none.
        tokens = [value for value in usable if not value.startswith(_SIGNING_TOKEN)]
        given = headers.one(host.token) or b""
        if _any(hmac.compare_digest(given, token.encode()) for token in tokens):
            return Verdict.GENUINE
    return _by_standard(headers, body, signing, now)


def delivery_id(host: Host, headers: Headers, body: bytes) -> bytes:
    """What is the same for two arrivals of one delivery: a hash of its id, where the host gives it one, and its body.

    Hosts that sign the body alone do not vouch for the id. So a replay under another id is not seen here; it makes
    Miwen ask the repository's host once, as the delivery itself did.
    """
    found = hashlib.sha256()
    given = next((value for name in host.deliveries if (value := headers.one(name))), b"")
    found.update(len(given).to_bytes(8, "big") + given + body)
    return found.digest()


def _by_hmac(host: Host, headers: Headers, body: bytes, secrets: Sequence[str]) -> Verdict:
    found = _hmac_header(host, headers)
    if found is None:
        return Verdict.UNSIGNED
    algorithm, given = found
    fits = _any(
        hmac.compare_digest(given, hmac.new(secret.encode(), body, algorithm).hexdigest().encode())
        for secret in secrets
    )
    return Verdict.GENUINE if fits else Verdict.FORGED


def _hmac_header(host: Host, headers: Headers) -> tuple[str, bytes] | None:
    """The hash function and the digits of the first header that is there; None where it can't be one."""
    header: HmacHeader | None = next((each for each in host.signatures if headers.has(each.name)), None)
    value = headers.one(header.name) if header is not None else None
    if header is None or value is None:
        return None
    for prefix, algorithm in header.algorithms.items():
        digits = value[len(prefix) :]
        if value.startswith(prefix.encode()) and re.fullmatch(rb"[0-9A-Fa-f]{64}|[0-9A-Fa-f]{128}", digits):
            return algorithm, digits.lower()
    return None


def _by_basic(headers: Headers, secrets: Sequence[str]) -> Verdict:
    try:
        given = base64.b64decode((headers.one("authorization") or b"")[6:].strip(), validate=True)
    except binascii.Error:
        return Verdict.FORGED
    fits = _any(hmac.compare_digest(given, secret.encode()) for secret in secrets)
    return Verdict.GENUINE if fits else Verdict.FORGED


def _by_standard(headers: Headers, body: bytes, keys: Sequence[bytes], now: datetime.datetime) -> Verdict:
    at, by = headers.one(STANDARD_TIMESTAMP) or b"", headers.one(STANDARD_ID) or b""
    if not _TIMESTAMP.fullmatch(at) or not _ID.fullmatch(by):
        return Verdict.FORGED
    given = [
        each[3:] for each in (headers.one(STANDARD_SIGNATURE) or b"").split()[:_MAX_SIGNATURES] if each[:3] == b"v1,"
    ]
    made = [base64.b64encode(hmac.digest(key, by + b"." + at + b"." + body, "sha256")) for key in keys]
    if not _any(hmac.compare_digest(one, other) for one in given for other in made):
        return Verdict.FORGED
    return Verdict.GENUINE if abs(now.timestamp() - int(at)) <= WINDOW.total_seconds() else Verdict.STALE


def _signing_key(secret: str) -> bytes | None:
    """The key of a signing token; None where the text is none."""
    if not secret.startswith(_SIGNING_TOKEN):
        return None
    try:
        key = base64.b64decode(secret.removeprefix(_SIGNING_TOKEN), validate=True)
    except binascii.Error:
        return None
    return key if 24 <= len(key) <= 64 else None


def _any(found: Iterable[bool]) -> bool:
    """Whether one of them is true; all are computed."""
    return any(tuple(found))
