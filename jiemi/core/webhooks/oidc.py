"""Requests that show who they are by a token of an OpenID provider: a CI job, or a workload of a cloud.

https://openid.net/specs/openid-connect-core-1_0.html (the token: RFC 7519, RFC 7515) and
https://openid.net/specs/openid-connect-discovery-1_0.html (where the keys are: RFC 7517). The webhook names the issuer,
the audience and the subjects, because a public issuer gives a token for any audience to everyone. Which algorithms are
taken is a table: none of them takes a secret, or nothing, for a key.

All of this is decided before a key is looked up, so a request that could not be genuine makes nobody ask the issuer.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import json
import math
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import attrs

from jiemi.core.addresses import normal_address
from jiemi.core.patterns import matches
from jiemi.core.webhooks.headers import Headers
from jiemi.core.webhooks.verdict import Verdict

ALGORITHMS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
        **dict.fromkeys(("ES256", "ES384"), "EC"),
        "EdDSA": "OKP",
    }
)
"""The algorithms that are taken (RFC 7518, RFC 8037), and the type of key of each."""

MAX_DOCUMENT_BYTES = 256 * 1024
"""Of a discovery document or a set of keys; the largest public ones have some 10 KiB."""

LEEWAY = datetime.timedelta(seconds=60)
MOST_LIFETIME = datetime.timedelta(hours=24)

_MAX_TOKEN_BYTES = 12 * 1024
_MAX_KEYS = 100
_PART = re.compile(rb"[A-Za-z0-9_-]+")


@attrs.frozen
class OidcTrust:
    """Whose tokens are taken.

    Attributes:
        issuer: as tokens have it: an https:// URL.
        audience: one of those that a token is for.
        subject: pattern of the subjects (`jiemi.core.patterns`).
    """

    issuer: str
    audience: str
    subject: str


@attrs.frozen
class OidcToken:
    """A token, of which everything is checked but the signature.

    Attributes:
        algorithm: one of `ALGORITHMS`.
        key_id: of the key that signed it; None where it does not say.
        signed: the bytes that are signed.
    """

    algorithm: str
    key_id: str | None
    signed: bytes
    signature: bytes


def check_trust(issuer: str, audience: str, subject: str) -> str:
    """What is wrong with the parts of an `OidcTrust`; "" where nothing is."""
    address = normal_address(issuer)
    if address is None or not address.startswith("https://") or len(issuer) > 512:
        return "issuer: it must be an https:// URL, as the tokens of the issuer have it"
    if not 1 <= len(audience) <= 512 or not all("!" <= char <= "~" for char in audience):
        return "audience: it must have 1 to 512 characters, and no spaces"
    if not 1 <= len(subject) <= 512 or not subject.isprintable():
        return "subject: it must be a pattern of 1 to 512 characters, such as repo:acme/app:ref:refs/heads/main"
    return ""


def read_token(headers: Headers, trust: OidcTrust, now: datetime.datetime) -> OidcToken | Verdict:
    """The token of a request; else why it is not taken.

    Args:
        now: the time, with a time zone.
    """
    given = headers.one("authorization") or b""
    if given[:7].lower() != b"bearer ":
        return Verdict.UNSIGNED
    parts = given[7:].strip().split(b".")
    if len(given) > _MAX_TOKEN_BYTES or len(parts) != 3 or not all(map(_PART.fullmatch, parts)):
        return Verdict.FORGED
    header, claims, signature = _header(parts[0]), _object(parts[1]), _decoded(parts[2])
    if header is None or claims is None or signature is None or not _is_for(claims, trust):
        return Verdict.FORGED
    verdict = _timely(claims, now)
    return verdict if verdict is not None else OidcToken(*header, parts[0] + b"." + parts[1], signature)


def _header(part: bytes) -> tuple[str, str | None] | None:
    """The algorithm and the key's id; None where the header is none that is taken."""
    header = _object(part) or {}
    algorithm, key_id = header.get("alg"), header.get("kid")
    # RFC 7515, section 4.1.11: what is critical and not known here must not be ignored.
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS or "crit" in header:
        return None
    is_id = key_id is None or (isinstance(key_id, str) and len(key_id) <= 512)
    return (algorithm, key_id) if is_id else None


def _is_for(claims: Mapping[str, Any], trust: OidcTrust) -> bool:
    audience, subject = claims.get("aud"), claims.get("sub")
    audiences = audience if isinstance(audience, list) else [audience]
    return (
        claims.get("iss") == trust.issuer
        and trust.audience in audiences[:100]
        and isinstance(subject, str)
        and len(subject) <= 1_024
        and matches(subject, trust.subject)
    )


def _timely(claims: Mapping[str, Any], now: datetime.datetime) -> Verdict | None:
    """Why a token is refused by its times (seconds since the epoch); None where it is not."""
    at, leeway = now.timestamp(), LEEWAY.total_seconds()
    expires, issued = _time(claims.get("exp")), _time(claims.get("iat"))
    begins = _time(claims["nbf"]) if "nbf" in claims else issued
    if expires is None or issued is None or begins is None:
        return Verdict.FORGED
    if expires - issued > MOST_LIFETIME.total_seconds():
        return Verdict.FORGED
    return None if issued - leeway <= at and begins - leeway <= at < expires + leeway else Verdict.STALE


def _time(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if abs(value) < 1e12 and math.isfinite(value) else None


def discovery_url(issuer: str) -> str:
    """Where an issuer's description is (OpenID Connect Discovery, section 4)."""
    return f"{issuer.rstrip('/')}/.well-known/openid-configuration"


def keys_url(document: bytes, issuer: str) -> str | None:
    """Where an issuer's keys are, by its description; None where that is another's, or names none."""
    data = _json(document)
    url = data.get("jwks_uri") if isinstance(data, dict) and data.get("issuer") == issuer else None
    if not isinstance(url, str) or normal_address(url) is None or not url.startswith("https://"):
        return None
    return url


def fitting_keys(keys: bytes, token: OidcToken) -> Sequence[Mapping[str, Any]]:
    """The keys of a set that may have signed a token, at most ten."""
    data = _json(keys)
    found = data.get("keys") if isinstance(data, dict) else None
    if not isinstance(found, list):
        return []
    return [each for each in found[:_MAX_KEYS] if isinstance(each, dict) and _fits(each, token)][:10]


def _fits(key: Mapping[str, Any], token: OidcToken) -> bool:
    operations = key.get("key_ops")
    return (
        key.get("kty") == ALGORITHMS[token.algorithm]
        and (token.key_id is None or key.get("kid") == token.key_id)
        and key.get("use") in (None, "sig")
        and key.get("alg") in (None, token.algorithm)
        and (operations is None or (isinstance(operations, list) and "verify" in operations))
    )


def _json(data: bytes) -> Any:
    try:
        return json.loads(data) if len(data) <= MAX_DOCUMENT_BYTES else None
    except (ValueError, RecursionError):
        return None


def _object(part: bytes) -> dict[str, Any] | None:
    decoded = _decoded(part)
    found = _json(decoded) if decoded is not None else None
    return found if isinstance(found, dict) else None


def _decoded(part: bytes) -> bytes | None:
    try:
        return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except (binascii.Error, ValueError):
        return None
