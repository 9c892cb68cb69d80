"""Requests of hosts that sign by a key of their own: messages of SNS, and tokens of an OpenID provider."""

from __future__ import annotations

import base64
import datetime
import json
import uuid
from typing import Any

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from support.webhooks.requests import NOW, Request

REGION = "eu-west-1"
TOPIC = f"arn:aws:sns:{REGION}:111122223333:pushes"
SNS = f"https://sns.{REGION}.amazonaws.com"
CERTIFICATE_URL = f"{SNS}/SimpleNotificationService-{'0a' * 16}.pem"
HOUR = datetime.timedelta(hours=1)


@attrs.define
class Sns:
    """A topic, and the key by which its messages are signed."""

    key: rsa.RSAPrivateKey = attrs.field(factory=lambda: rsa.generate_private_key(65537, 2048))

    def certificate(self, *, begins: datetime.datetime = NOW - HOUR, days: int = 30) -> bytes:
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.amazonaws.com")])
        end = begins + datetime.timedelta(days=days)
        builder = x509.CertificateBuilder(name, name, self.key.public_key(), 1, begins, end)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def message(self, text: str, *, version: str = "2", kind: str = "Notification", **changed: Any) -> dict[str, Any]:
        """A message; what is changed is signed too."""
        data: dict[str, Any] = {
            "Type": kind,
            "MessageId": str(uuid.uuid4()),
            "TopicArn": TOPIC,
            "Message": text,
            "Timestamp": NOW.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "SignatureVersion": version,
            "SigningCertURL": CERTIFICATE_URL,
        }
        if kind != "Notification":
            token = uuid.uuid4().hex
            url = f"{SNS}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token={token}"
            data |= {"Token": token, "SubscribeURL": url}
        data |= changed
        names = ["Message", "MessageId"]
        names += ["Subject"] if "Subject" in data else []
        names += ["SubscribeURL", "Timestamp", "Token"] if kind != "Notification" else ["Timestamp"]
        signed = "".join(f"{name}\n{data[name]}\n" for name in (*names, "TopicArn", "Type")).encode()
        algorithm = hashes.SHA1() if version == "1" else hashes.SHA256()  # noqa: S303 - version 1 has no other
        data["Signature"] = base64.b64encode(self.key.sign(signed, padding.PKCS1v15(), algorithm)).decode()
        return data


def sns_request(data: dict[str, Any]) -> Request:
    """A message as SNS sends it."""
    fields = (
        ("Content-Type", "text/plain; charset=UTF-8"),
        ("x-amz-sns-message-type", str(data.get("Type"))),
        ("x-amz-sns-message-id", str(data.get("MessageId"))),
        ("x-amz-sns-topic-arn", str(data.get("TopicArn"))),
    )
    return Request("codecommit", TOPIC, fields, json.dumps(data).encode())


def codecommit_trigger(repository: str, ref: str) -> str:
    """What a trigger of CodeCommit writes into a topic."""
    record = {
        "awsRegion": REGION,
        "codecommit": {"references": [{"commit": "b" * 40, "ref": ref}]},
        "eventName": "ReferenceChanges",
        "eventSource": "aws:codecommit",
        "eventSourceARN": f"arn:aws:codecommit:{REGION}:111122223333:{repository}",
    }
    return json.dumps({"Records": [record]})


def codecommit_event(repository: str, ref: str, event: str = "referenceUpdated") -> str:
    """What EventBridge writes into a topic."""
    detail = {"event": event, "repositoryName": repository, "referenceFullName": ref, "referenceType": "branch"}
    return json.dumps(
        {
            "detail-type": "CodeCommit Repository State Change",
            "source": "aws.codecommit",
            "region": REGION,
            "resources": [f"arn:aws:codecommit:{REGION}:111122223333:{repository}"],
            "detail": detail,
        }
    )


def _number(value: int, size: int | None = None) -> str:
    return encoded(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


def encoded(data: bytes) -> str:
    """In base64url without padding (RFC 7515)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@attrs.define
class Issuer:
    """An OpenID provider, with a key for each kind of algorithm."""

    url: str = "https://issuer.example"
    rsa: rsa.RSAPrivateKey = attrs.field(factory=lambda: rsa.generate_private_key(65537, 2048))
    p256: ec.EllipticCurvePrivateKey = attrs.field(factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    p384: ec.EllipticCurvePrivateKey = attrs.field(factory=lambda: ec.generate_private_key(ec.SECP384R1()))
    ed25519: ed25519.Ed25519PrivateKey = attrs.field(factory=ed25519.Ed25519PrivateKey.generate)

    def description(self, **changed: Any) -> bytes:
        return json.dumps({"issuer": self.url, "jwks_uri": f"{self.url}/keys", **changed}).encode()

    def keys(self) -> bytes:
        """The key set."""
        numbers = self.rsa.public_key().public_numbers()
        found: list[dict[str, Any]] = [
            {"kty": "RSA", "kid": "rsa", "use": "sig", "n": _number(numbers.n), "e": _number(numbers.e)}
        ]
        for name, key, curve, size in (("p256", self.p256, "P-256", 32), ("p384", self.p384, "P-384", 48)):
            point = key.public_key().public_numbers()
            found.append(
                {"kty": "EC", "kid": name, "crv": curve, "x": _number(point.x, size), "y": _number(point.y, size)}
            )
        raw = self.ed25519.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        found.append({"kty": "OKP", "kid": "ed25519", "crv": "Ed25519", "x": encoded(raw)})
        return json.dumps({"keys": found}).encode()

    def token(self, algorithm: str = "RS256", *, header: dict[str, Any] | None = None, **changed: Any) -> str:
        """A token; a claim that is changed to None is left out."""
        at = int(NOW.timestamp())
        claims: dict[str, Any] = {
            "iss": self.url,
            "aud": "jiemi",
            "sub": "repo:acme/app:ref:refs/heads/main",
            "iat": at,
            "nbf": at,
            "exp": at + 300,
            "jti": str(uuid.uuid4()),
        }
        claims = {name: value for name, value in (claims | changed).items() if value is not None}
        names = {"ES256": "p256", "ES384": "p384", "EdDSA": "ed25519"}
        head = {"alg": algorithm, "typ": "JWT", "kid": names.get(algorithm, "rsa")} | (header or {})
        head = {name: value for name, value in head.items() if value is not None}
        signed = f"{encoded(json.dumps(head).encode())}.{encoded(json.dumps(claims).encode())}"
        return f"{signed}.{encoded(self._sign(algorithm, signed.encode()))}"

    def _sign(self, algorithm: str, data: bytes) -> bytes:
        if algorithm == "EdDSA":
            return self.ed25519.sign(data)
        sizes = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
        chosen = sizes[algorithm[2:]]
        if algorithm.startswith("ES"):
            key, size = (self.p256, 32) if algorithm == "ES256" else (self.p384, 48)
            r, s = decode_dss_signature(key.sign(data, ec.ECDSA(chosen)))
            return r.to_bytes(size, "big") + s.to_bytes(size, "big")
        scheme: padding.AsymmetricPadding = padding.PKCS1v15()
        if algorithm.startswith("PS"):
            scheme = padding.PSS(padding.MGF1(chosen), chosen.digest_size)
        return self.rsa.sign(data, scheme, chosen)


def oidc_request(
    token: str, body: bytes = b'{"repository": "https://git.example/o/r.git", "ref": "refs/heads/main"}'
) -> Request:
    """A request with a token."""
    fields = (("Content-Type", "application/json"), ("Authorization", f"Bearer {token}"))
    return Request("oidc", "", fields, body)
