"""Messages of Amazon SNS, by which CodeCommit notifies: who they are from, what of them is signed, how one subscribes.

https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html describes the signature (version 1 by
SHA-1, version 2 by SHA-256), https://docs.aws.amazon.com/sns/latest/dg/http-subscription-confirmation-json.html the
confirmation. A message names the certificate that signed it, and an address to confirm a subscription at; both are
looked up only below SNS's own host of the topic's region, for a topic that the webhook names.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import json
import re
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import attrs

from jiemi.core.webhooks.headers import Headers
from jiemi.core.webhooks.verdict import Verdict

TYPE_HEADER = "x-amz-sns-message-type"
TOPIC_HEADER = "x-amz-sns-topic-arn"

PAST, FUTURE = datetime.timedelta(hours=1), datetime.timedelta(minutes=5)
"""How far the time of a message may be from ours. SNS tries again for up to an hour, with the same time."""

_TOPIC = re.compile(r"arn:(aws|aws-cn|aws-us-gov):sns:([a-z]{2}(?:-[a-z]+)+-[0-9]{1,2}):[0-9]{12}:[A-Za-z0-9_-]{1,256}")
_CERTIFICATE_PATH = re.compile(r"/SimpleNotificationService-[0-9a-f]{16,64}\.pem")
_TOKEN = re.compile(r"[0-9A-Za-z_-]{1,1024}")
_DOMAINS = {"aws": "amazonaws.com", "aws-cn": "amazonaws.com.cn", "aws-us-gov": "amazonaws.com"}

_SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
"""What of each type is signed, in this order; a Notification may have no Subject."""

_HASHES = {"1": "sha1", "2": "sha256"}
_MAX_URL_CHARACTERS = 4_096


@attrs.frozen
class SnsMessage:
    """A message, of which everything is checked but the signature.

    Attributes:
        kind: Notification, SubscriptionConfirmation or UnsubscribeConfirmation.
        text: what the topic's publisher wrote.
        certificate_url: where the certificate is that signed it.
        hash: sha1 or sha256.
        signed: the bytes that are signed.
        subscribe_url: where a subscription is confirmed; "" where it is no confirmation.
    """

    kind: str
    text: str
    certificate_url: str
    hash: str
    signed: bytes
    signature: bytes
    subscribe_url: str = ""


def is_topic(text: str) -> bool:
    """Whether a text is the ARN of a topic."""
    return _TOPIC.fullmatch(text) is not None


def is_of_topic(headers: Headers, topics: Collection[str]) -> bool:
    """Whether a request says in its head that it is of one of some topics."""
    return (headers.one(TOPIC_HEADER) or b"").decode("ascii", "replace") in topics


def read_message(body: bytes, topics: Collection[str], now: datetime.datetime) -> SnsMessage | Verdict:
    """The message of one of some topics; else why it is none.

    Args:
        now: the time, with a time zone.
    """
    data = _parse(body)
    kind = data.get("Type")
    topic = _TOPIC.fullmatch(str(data.get("TopicArn")))
    if not isinstance(kind, str) or kind not in _SIGNED or topic is None or topic[0] not in topics:
        return Verdict.FORGED
    names = [name for name in _SIGNED[kind] if name != "Subject" or "Subject" in data]
    if not all(isinstance(data.get(name), str) for name in names):
        return Verdict.FORGED
    algorithm, signature = _HASHES.get(str(data.get("SignatureVersion"))), _signature(data.get("Signature"))
    host = f"sns.{topic[2]}.{_DOMAINS[topic[1]]}"
    certificate = _url(data.get("SigningCertURL", data.get("SigningCertUrl")), host)
    is_certificate = certificate is not None and _CERTIFICATE_PATH.fullmatch(certificate.path) and not certificate.query
    subscribe = _subscribe_url(data, host, topic[0]) if kind == "SubscriptionConfirmation" else ""
    if algorithm is None or signature is None or not is_certificate or subscribe is None:
        return Verdict.FORGED
    if not _is_fresh(data["Timestamp"], now):
        return Verdict.STALE
    signed = "".join(f"{name}\n{data[name]}\n" for name in names).encode("utf-8", "surrogatepass")
    return SnsMessage(kind, data["Message"], certificate.geturl(), algorithm, signed, signature, subscribe)


def _parse(body: bytes) -> Mapping[str, Any]:
    if body.count(b"{") + body.count(b"[") > 10_000:
        return {}
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, Mapping) else {}


def _signature(text: Any) -> bytes | None:
    try:
        found = base64.b64decode(text, validate=True) if isinstance(text, str) and len(text) <= 2_048 else b""
    except (binascii.Error, ValueError):
        return None
    return found or None


def _url(text: Any, host: str) -> Any:
    """A URL in its parts, where it is one of https, at that host alone, and has nothing that is read in two ways."""
    if not isinstance(text, str) or len(text) > _MAX_URL_CHARACTERS or not all("!" <= char <= "~" for char in text):
        return None
    try:
        found = urlsplit(text)
    except ValueError:
        return None
    is_there = (found.scheme, found.netloc) == ("https", host)
    return found if is_there and not found.fragment and "\\" not in text else None


def _subscribe_url(data: Mapping[str, Any], host: str, topic: str) -> str | None:
    """The address of a confirmation of that very topic, made of its parts; None where it is another."""
    found = _url(data["SubscribeURL"], host)
    if found is None or found.path not in ("", "/"):
        return None
    try:
        query = parse_qs(found.query, strict_parsing=True, max_num_fields=4)
    except ValueError:
        return None
    token = data["Token"]
    wanted = {"Action": ["ConfirmSubscription"], "TopicArn": [topic], "Token": [token]}
    if query != wanted or _TOKEN.fullmatch(token) is None:
        return None
    return f"https://{host}/?Action=ConfirmSubscription&TopicArn={topic}&Token={token}"


def _is_fresh(text: str, now: datetime.datetime) -> bool:
    try:
        at = datetime.datetime.fromisoformat(text)
    except ValueError:
        return False
    return at.tzinfo is not None and -FUTURE <= now - at <= PAST
