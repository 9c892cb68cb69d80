"""A double of Huawei Cloud KMS (part of DEW) and of the one call to IAM that its clients make, under TLS.

It follows the published API: `encrypt-data` and `decrypt-data` (https://support.huaweicloud.com/intl/en-us/api-dew/
EncryptData.html, …/DecryptData.html), the list of projects (https://support.huaweicloud.com/intl/en-us/api-iam/
iam_06_0001.html), the signature of requests (SDK-HMAC-SHA256,
https://support.huaweicloud.com/intl/en-us/devg-apisign/api-sign-algorithm.html) and the error codes of DEW and of the
gateway before it (…/api-dew/ErrorCode.html).

It is no proxy: the SDK has a transport of its own that takes no proxy from the environment. But it takes a region's
address from there, and IAM's, the latter by https only.

Left out: temporary credentials, tokens and agencies, policies beyond one switch, other algorithms than
SYMMETRIC_DEFAULT, additional authenticated data, and the age of a signature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
import urllib.parse
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from doubles.authority import Authority, open_authority
from doubles.serving import LOOPBACK, Answer, Double, Request, json_answer, serving

REGION = "tr-west-1"

_NONCE_BYTES = 12
_AUTHORIZATION = re.compile(
    r"SDK-HMAC-SHA256 Access=(?P<access_key>[^,]+), SignedHeaders=(?P<headers>[^,]*)"
    r", Signature=(?P<signature>[0-9a-f]{64})"
)


@attrs.frozen
class AccessKey:
    """An access key's two halves (AK, SK)."""

    access_key: str
    secret_key: str = attrs.field(repr=False)


class Huawei(Double):
    """An account with one user and one project in one region.

    Attributes:
        address: URL of KMS and IAM.
        authority: signs its certificate.
        project_id: of the region.
        user: who may use all keys.
        askers: the access key that signed each request, None where the signature was not good.
    """

    def __init__(self, authority: Authority) -> None:
        super().__init__()
        self.address = ""
        self.authority = authority
        self.project_id = secrets.token_hex(16)
        self.user = AccessKey(secrets.token_hex(10).upper(), secrets.token_urlsafe(30))
        self.askers: list[str | None] = []
        self._keys: dict[str, AESGCM] = {}
        self._disabled: set[str] = set()

    def environment(self, user: AccessKey | None = None, *, project_id: str | None = None) -> dict[str, str]:
        """What a sops process needs, as the user or whoever is given; with project_id "" it asks IAM for that."""
        user = user or self.user
        found = {
            "HUAWEICLOUD_SDK_AK": user.access_key,
            "HUAWEICLOUD_SDK_SK": user.secret_key,
            f"HUAWEICLOUD_SDK_REGION_KMS_{REGION.replace('-', '_').upper()}": self.address,
            "HUAWEICLOUD_SDK_IAM_ENDPOINT": self.address,
            "SSL_CERT_FILE": str(self.authority.path),
        }
        project_id = self.project_id if project_id is None else project_id
        return found | ({"HUAWEICLOUD_SDK_PROJECT_ID": project_id} if project_id else {})

    def wrong_environment(self) -> dict[str, str]:
        """The same with a secret key that is not the access key's."""
        return self.environment(attrs.evolve(self.user, secret_key="x" * 40))

    def create_key(self) -> str:
        """Makes a key; returns REGION:UUID, as `sops --hckms` wants it."""
        key_id = str(uuid.uuid4())
        self._keys[key_id] = AESGCM(AESGCM.generate_key(256))
        return f"{REGION}:{key_id}"

    def disable_key(self, key: str) -> None:
        self._disabled.add(key.rpartition(":")[2])

    def throttle_answer(self, request: Request) -> Answer:
        del request
        return _gateway_error(429, "APIGW.0308", "The throttling threshold has been reached.")

    def unavailable_answer(self, request: Request) -> Answer:
        del request
        return _gateway_error(503, "APIGW.0201", "Backend unavailable.")

    def answer(self, request: Request) -> Answer:
        stated = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
        good = (
            stated is not None
            and stated["access_key"] == self.user.access_key
            and hmac.compare_digest(_signature(request, stated["headers"], self.user.secret_key), stated["signature"])
        )
        self.askers.append(self.user.access_key if good else None)
        if not good:
            text = "Incorrect IAM authentication information: verify aksk signature fail"
            return _gateway_error(401, "APIGW.0301", text)
        match request.path.strip("/").split("/"):
            case ["v3", "projects"] if request.query.get("name") == REGION:
                return json_answer(200, {"projects": [{"id": self.project_id, "name": REGION}], "links": {}})
            case ["v1.0", self.project_id, "kms", "encrypt-data" | "decrypt-data" as operation]:
                return self._use_key(operation, request)
        return _gateway_error(404, "APIGW.0101", "The API does not exist or has not been published in the environment")

    def _use_key(self, operation: str, request: Request) -> Answer:
        body = request.json()
        key_id = str(body.get("key_id", ""))
        if self.deny:
            return _error(403, "KMS.0303", "Insufficient permissions.")
        if key_id not in self._keys:
            return _error(400, "KMS.0205", "Invalid key ID.")
        if key_id in self._disabled:
            return _error(400, "KMS.0209", "The key has been disabled.")
        key = self._keys[key_id]
        try:
            if operation == "encrypt-data":
                nonce = os.urandom(_NONCE_BYTES)
                sealed = nonce + key.encrypt(nonce, str(body["plain_text"]).encode(), None)
                return json_answer(200, {"key_id": key_id, "cipher_text": base64.b64encode(sealed).decode()})
            sealed = base64.b64decode(str(body["cipher_text"]), validate=True)
            plaintext = key.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None)
            return json_answer(200, {"key_id": key_id, "plain_text": plaintext.decode()})
        except (InvalidTag, KeyError, ValueError, binascii.Error):
            return _error(400, "KMS.0204", "Invalid cipher_text.")


@contextmanager
def open_huawei() -> Iterator[Huawei]:
    """Plays Huawei Cloud KMS and IAM on loopback."""
    with open_authority() as authority:
        huawei = Huawei(authority)
        with serving(huawei, authority=authority, tls=True) as port:
            huawei.address = f"https://{LOOPBACK}:{port}"
            yield huawei


def _signature(request: Request, headers: str, secret_key: str) -> str:
    quoted = "/".join(urllib.parse.quote(urllib.parse.unquote(part), "-_.~") for part in request.path.split("/"))
    query = "&".join(
        f"{urllib.parse.quote(name, '-_.~')}={urllib.parse.quote(value, '-_.~')}"
        for name, value in sorted(request.query.items())
    )
    canonical = "\n".join(
        [
            request.method,
            quoted if quoted.endswith("/") else f"{quoted}/",
            query,
            *(f"{name}:{request.headers.get(name, '').strip()}" for name in headers.split(";")),
            "",
            headers,
            request.headers.get("x-sdk-content-sha256") or hashlib.sha256(request.body).hexdigest(),
        ]
    )
    moment = request.headers.get("x-sdk-date", "")
    signed = f"SDK-HMAC-SHA256\n{moment}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    return hmac.digest(secret_key.encode(), signed.encode(), "sha256").hex()


def _error(status: int, code: str, text: str) -> Answer:
    value = {"error": {"error_code": code, "error_msg": text}}
    return json_answer(status, value, ("X-Request-Id", secrets.token_hex(16)))


def _gateway_error(status: int, code: str, text: str) -> Answer:
    request_id = secrets.token_hex(16)
    value = {"error_code": code, "error_msg": text, "request_id": request_id}
    return json_answer(status, value, ("X-Request-Id", request_id))
