"""What is fuzzed of webhooks: bodies, tokens, keys, messages of SNS, and the Secrets that declare them."""

from __future__ import annotations

import base64
import functools
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from fuzz.target import Target
from support.webhooks.requests import FORMS, NOW, request
from support.webhooks.signed import SNS, TOPIC, Issuer, Sns, codecommit_event, codecommit_trigger

from jiemi.core.webhooks.headers import Headers
from jiemi.core.webhooks.hosts import HOSTS, Scheme
from jiemi.core.webhooks.oidc import (
    ALGORITHMS,
    OidcToken,
    OidcTrust,
    check_trust,
    discovery_url,
    fitting_keys,
    keys_url,
    read_token,
)
from jiemi.core.webhooks.payload import MalformedPayload, read_push
from jiemi.core.webhooks.repository import repository_key
from jiemi.core.webhooks.sns import SnsMessage, read_message
from jiemi.core.webhooks.verdict import Verdict
from jiemi.core.webhooks.webhook import LABEL, REPOSITORIES, WebhookUnusable, read_webhook
from jiemi.miwen.webhooks.signatures import is_signed_by_certificate, is_signed_by_key

CANARY = "canary-77ab01"

# Bodies: the first byte says of which host, the headers stand before an empty line


_KINDS = tuple(HOSTS)


def _headers(head: bytes) -> Headers:
    pairs = (line.partition(b":") for line in head.split(b"\n"))
    return Headers([(name.strip().lower(), value) for name, _, value in pairs])


def _check_body(data: bytes) -> str:
    if not data:
        return "nothing"
    kind = _KINDS[data[0] % len(_KINDS)]
    head, _, body = data[1:].partition(b"\n\n")
    try:
        push = read_push(HOSTS[kind], _headers(head), body)
    except MalformedPayload as error:
        assert CANARY not in str(error)
        assert error.__cause__ is None
        return f"malformed {error}"
    if push is None:
        return f"{kind} none"
    assert len(push.urls) <= 100
    assert all(ref.startswith("refs/") for ref in push.refs)
    keys = {repository_key(url) for url in push.urls}
    return f"{kind} {min(len(push.urls), 4)} {min(len(push.refs), 3)} {len(keys - {None})}"


def _body_of(form: str) -> bytes:
    sent = request(form)
    head = b"\n".join(f"{name}: {value}".encode() for name, value in sent.fields)
    return bytes([_KINDS.index(sent.kind)]) + head + b"\n\n" + sent.body


_CODECOMMIT = bytes([_KINDS.index("codecommit")]) + b"x: y\n\n"


@functools.cache
def _sns() -> Sns:
    return Sns(rsa.generate_private_key(65537, 1024))  # noqa: S505 - short ones are kept in the corpus


@functools.cache
def _certificate() -> bytes:
    return _sns().certificate()


@functools.cache
def _issuer() -> Issuer:
    return Issuer()


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


BODIES = Target(
    _check_body,
    (
        *map(_body_of, FORMS),
        _CODECOMMIT + codecommit_trigger("r", "refs/heads/main").encode(),
        _CODECOMMIT + codecommit_event("r", "main").encode(),
        (
            b"\0x-github-event: push\ncontent-type: application/x-www-form-urlencoded\n\n"
            b"payload=%7B%22ref%22%3A%22refs/heads/a%22%7D"
        ),
        b'\0x-github-event: create\n\n{"ref_type": "tag", "ref": "v1", "repository": {"clone_url": "https://h/r"}}',
        b'\0x-github-event: pull_request\n\n{"number": 7, "repository": {}}',
        b'\1x-gitlab-event: x\n\n{"object_kind": "merge_request", "object_attributes": {"iid": 1}}',
        b'\0x-github-event: push\n\n{"ref": 5, "repository": ["' + CANARY.encode() + b'"]}',
    ),
    (
        b"{}",
        b"[]",
        b"null",
        b"true",
        b"[" * 40,
        b'"ref": ',
        b'"refs/heads/main"',
        b'"repository": ',
        b'"clone_url": ',
        b'"\\ud800"',
        b"1e999",
        b"9" * 60,
        b"-0",
        b"push",
        b"Push Hook",
        b"\n\n",
        b"payload=",
        b"%7B",
        b"&",
        CANARY.encode(),
    ),
    max_bytes=6_000,
)

# Messages of SNS

_TOPICS = (TOPIC,)


def _check_sns(data: bytes) -> str:
    found = read_message(data, _TOPICS, NOW)
    if not isinstance(found, SnsMessage):
        return f"no message {found.name} {_shape(data)}"
    assert found.certificate_url.startswith(f"{SNS}/SimpleNotificationService-")
    assert found.certificate_url.endswith(".pem")
    assert found.subscribe_url == "" or found.subscribe_url.startswith(
        f"{SNS}/?Action=ConfirmSubscription&TopicArn={TOPIC}&"
    )
    assert "\n" not in found.subscribe_url + found.certificate_url
    is_signed = is_signed_by_certificate(found, _certificate(), NOW)
    assert not is_signed_by_certificate(found, data, NOW)
    if is_signed:
        assert found.text in _SIGNED_TEXTS
    return f"{found.kind} {found.hash} {is_signed} {len(found.signed).bit_length()}"


def _shape(data: bytes) -> str:
    """Which fields of a message a text has."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return ""
    return (
        "".join(type(found[name]).__name__[0] if name in found else "-" for name in _FIELDS)
        if isinstance(found, dict)
        else "?"
    )


_FIELDS = ("Type", "TopicArn", "Timestamp", "Signature", "SigningCertURL", "Subject", "Token")
_SIGNED_TEXTS = ("hello", "confirm", codecommit_trigger("r", "refs/heads/main"))
_SNS = tuple(
    _json(_sns().message(text, version=version, kind=kind))
    for text, version, kind in (
        (_SIGNED_TEXTS[0], "2", "Notification"),
        (_SIGNED_TEXTS[0], "1", "Notification"),
        (_SIGNED_TEXTS[1], "2", "SubscriptionConfirmation"),
        (_SIGNED_TEXTS[1], "2", "UnsubscribeConfirmation"),
        (_SIGNED_TEXTS[2], "2", "Notification"),
    )
)

SNS_MESSAGES = Target(
    _check_sns,
    (
        *_SNS,
        _json(_sns().message("hello", Subject="s")),
        _json(_sns().message("hello", SigningCertURL="https://sns.eu-west-1.amazonaws.com.evil.example/x.pem")),
        _json(_sns().message("hello", Timestamp="0001-01-01T00:00:00+14:00")),
        _json(_sns().message("hello", Timestamp="9999-12-31T23:59:59-14:00")),
        _json(_sns().message("hello") | {"Signature": "AAAA"}),
        _json(_sns().message("hello") | {"Signature": 5}),
        b"[]",
        b"{",
    ),
    (
        b'"Type": ',
        b'"Subject": ',
        b'"Signature": "',
        b'"SignatureVersion": "1"',
        b'"SigningCertURL": ',
        b'"SubscribeURL": ',
        b'"Token": ',
        b'"Timestamp": "2026-11-29T12:00:00Z"',
        b"https://sns.eu-west-1.amazonaws.com/",
        b"@evil.example",
        b"%2e%2e",
        b"?",
        b"&TopicArn=",
        b"\\u000a",
        b"\\ud800",
        b"null",
        b"{",
        b"[",
        b"+24:00",
    ),
    max_bytes=4_000,
)

# Tokens of OpenID providers and their keys. A token's parts stand in lines of their own, and are put into base64url

_TRUST = OidcTrust("https://issuer.example", "jiemi", "repo:acme/app:ref:refs/heads/main")


def _part(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _parts(token: str) -> bytes:
    """The reverse: a token as an input of kind 0."""
    return (
        b"\n".join(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.split(".")[:2])
        + b"\n"
        + base64.urlsafe_b64decode(token.split(".")[2] + "==")
    )


def _token_of(data: bytes) -> OidcToken | Verdict:
    return read_token(Headers([(b"authorization", b"Bearer " + data)]), _TRUST, NOW)


def _check_oidc(data: bytes) -> str:
    if not data:
        return "nothing"
    kind, rest = data[0] % 4, data[1:]
    if kind < 2:
        parts = rest.split(b"\n", 2)
        token = _token_of(rest if kind else b".".join(map(_part, parts)))
        if not isinstance(token, OidcToken):
            return f"no token {token.name}"
        assert token.algorithm in ALGORITHMS
        is_signed = any(is_signed_by_key(token, key) for key in fitting_keys(_issuer().keys(), token))
        assert not is_signed or token.signed in _SIGNED_TOKENS
        return f"token {token.algorithm} {token.key_id is None} {is_signed}"
    if kind == 2:
        assert discovery_url(_TRUST.issuer).startswith("https://issuer.example/")
        url = keys_url(rest, _TRUST.issuer)
        assert url is None or url.startswith("https://")
        return f"description {url is None} {(url or '')[:30]!r}"
    signed = 0
    for token in _good_tokens():
        keys = fitting_keys(rest, token)
        assert len(keys) <= 10
        found = [is_signed_by_key(token, key) for key in keys]
        signed += sum(found)
    return f"keys {len(keys)} {min(signed, 20)}"


@functools.cache
def _good_tokens() -> tuple[OidcToken, ...]:
    found = [_token_of(each.encode()) for each in _TOKENS]
    assert all(isinstance(each, OidcToken) for each in found)
    return tuple(each for each in found if isinstance(each, OidcToken))


_TOKENS = tuple(_issuer().token(each) for each in ("RS256", "PS256", "ES256", "ES384", "EdDSA"))
_SIGNED_TOKENS = frozenset(each.rpartition(".")[0].encode() for each in _TOKENS) | {
    each.rpartition(".")[0].encode() for each in (_issuer().token(header={"kid": None}),)
}

OIDC = Target(
    _check_oidc,
    (
        *(b"\0" + _parts(each) for each in _TOKENS),
        *(b"\1" + each.encode() for each in _TOKENS),
        b"\0" + _parts(_issuer().token(header={"crit": ["x"]})),
        b"\0" + _parts(_issuer().token(aud=["other", "jiemi"], exp=1e300)),
        b"\0" + _parts(_issuer().token(nbf=None, iat=True)),
        b'\0{"alg": "none"}\n{}\n',
        b'\0{"alg": "HS256"}\n{}\nx',
        b"\2" + _issuer().description(),
        b"\2" + _issuer().description(jwks_uri="http://issuer.example/keys"),
        b"\2" + _issuer().description(jwks_uri="https://me@169.254.169.254/keys"),
        b"\3" + _issuer().keys(),
        b'\3{"keys": [{"kty": "RSA", "kid": "rsa", "n": "AQAB", "e": "AQAB"}]}',
        b'\3{"keys": [{"kty": "EC", "kid": "p256", "crv": "P-256", "x": "AA", "y": "AA"}, 5, null]}',
        b'\3{"keys": {}}',
    ),
    (
        b"\n",
        b".",
        b'"alg": "RS256"',
        b'"alg": "ES256"',
        b'"kid": null',
        b'"aud": "jiemi"',
        b'"exp": ',
        b"1e999",
        b"NaN",
        b"9" * 400,
        b"-1",
        b"null",
        b"[",
        b"{",
        b'"n": "',
        b'"e": "AQAB"',
        b'"crv": "P-256"',
        b'"use": "enc"',
        b'"key_ops": ["verify"]',
        b"\\ud800",
        b"=",
        b"https://",
    ),
    max_bytes=5_000,
)

# The Secrets that declare webhooks: a line for the label and the annotation, then for each key one with its value


def _check_declaration(data: bytes) -> str:
    text = data.decode("utf-8", "replace")
    kind, _, rest = text.partition("\n")
    repositories, _, rest = rest.partition("\n")
    lines = [each.partition(":") for each in rest.split("\n") if each]
    lines = [each for each in lines if CANARY not in each[0]]  # a key's name may be shown
    encoded = {name: value if name.startswith("!") else _b64(value) for name, _, value in lines}
    metadata: dict[str, Any] = {"namespace": "n", "name": "s", "labels": {LABEL: kind}}
    if repositories:
        metadata["annotations"] = {REPOSITORIES: repositories}
    try:
        found = read_webhook({"metadata": metadata, "data": encoded})
    except WebhookUnusable as error:
        assert CANARY not in str(error)
        return f"unusable {str(error)[:60]!r}"
    if HOSTS[kind].scheme is Scheme.OIDC:
        assert found.trust is not None
        assert not check_trust(found.trust.issuer, found.trust.audience, found.trust.subject)
    else:
        assert len(found.secrets) == len(encoded)
    assert CANARY not in repr(found.secrets)
    return f"{kind} {len(found.secrets)} {min(len(found.repositories), 3)}"


def _b64(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


_LONG = CANARY + "-" + "x" * 32
DECLARATIONS = Target(
    _check_declaration,
    (
        *(f"{kind}\n\nkey:{_LONG}".encode() for kind in _KINDS),
        f"github\nhttps://h/a git@h:b\na:{_LONG}\nb:{_LONG}".encode(),
        f"github\nhttps://h/a nothing\na:{_LONG}".encode(),
        b"standard\n\nkey:whsec_" + base64.b64encode(bytes(range(32))),
        b"azure-devops\n\nkey:jiemi:a-password-that-is-long",
        b"oidc\n\nissuer:https://issuer.example\naudience:jiemi\nsubject:repo:acme/*",
        b"oidc\n\nissuer:http://issuer.example\naudience:jiemi\nsubject:*",
        f"codecommit\n\ntopic:{TOPIC}".encode(),
        b"github\n\n",
        b"github\n\nshort:x",
        b"github\n\n!raw:no base64",
        b"\n\n",
    ),
    (
        b"\n",
        b":",
        b"whsec_",
        b"!",
        b"https://",
        b" ",
        b"issuer:",
        b"audience:",
        b"subject:",
        b"\xff",
        b"\0",
        CANARY.encode(),
        *(kind.encode() for kind in _KINDS),
    ),
    max_bytes=2_000,
)

TARGETS = {
    "webhook-bodies": BODIES,
    "sns": SNS_MESSAGES,
    "oidc": OIDC,
    "webhook-secrets": DECLARATIONS,
}
