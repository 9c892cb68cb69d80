"""A double of Google Cloud KMS and of Google's OAuth token endpoint, over plain HTTP.

It follows the published REST API v1 (https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys,
`encrypt` and `decrypt`) and the grant of a token for a service account's assertion
(https://developers.google.com/identity/protocols/oauth2/service-account#httprest). Errors have the form of
https://cloud.google.com/apis/design/errors.

Left out: gRPC, and the self-signed assertions that go in place of a token there (https://google.aip.dev/auth/4111);
checksums, additional authenticated data, versions of keys, IAM's own API, scopes of tokens, impersonation and workload
identity federation.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from doubles.jwt import BadTokenError, Token
from doubles.serving import LOOPBACK, Answer, Double, Request, json_answer, serving

PROJECT = "jiemi-test"

_NONCE_BYTES = 12
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_LEASE_SECONDS = 3600
_SKEW_SECONDS = 300
_OPERATION = re.compile(r"/v1/(projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/:]+):(encrypt|decrypt)")


@attrs.frozen
class ServiceAccount:
    """An account with one key.

    Attributes:
        email: its name.
        key_file: the JSON that Google offers for download, as GOOGLE_CREDENTIALS takes it.
    """

    email: str
    key_id: str
    key: rsa.RSAPrivateKey = attrs.field(repr=False)
    token_uri: str

    @property
    def key_file(self) -> str:
        pem = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return json.dumps(
            {
                "type": "service_account",
                "project_id": PROJECT,
                "private_key_id": self.key_id,
                "private_key": pem.decode(),
                "client_email": self.email,
                "client_id": "100000000000000000000",
                "auth_uri": f"{self.token_uri}/auth",
                "token_uri": self.token_uri,
                "auth_provider_x509_cert_url": f"{self.token_uri}/certs",
                "client_x509_cert_url": f"{self.token_uri}/x509",
                "universe_domain": "googleapis.com",
            }
        )


class Gcp(Double):
    """A project with one service account.

    Attributes:
        endpoint: URL of KMS.
        token_uri: URL of the token endpoint.
        account: may use all keys that are not kept for others.
        bearers: the bearer token of each request to KMS, None where there was none.
        token_requests: number of tokens that were asked for.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self.endpoint = ""
        self.token_requests = 0
        self.bearers: list[str | None] = []
        self._clock = clock
        self._accounts: dict[str, ServiceAccount] = {}
        self._tokens: dict[str, tuple[str, float]] = {}
        self._keys: dict[str, AESGCM] = {}
        self._kept: dict[str, frozenset[str]] = {}

    @property
    def token_uri(self) -> str:
        return f"{self.endpoint}/token"

    @property
    def account(self) -> ServiceAccount:
        return next(iter(self._accounts.values()))

    def environment(self, account: ServiceAccount | None = None) -> dict[str, str]:
        """What a sops process needs, as the account or another that is given."""
        return {"GOOGLE_CREDENTIALS": (account or self.account).key_file, **self._addresses()}

    def token_environment(self, token: str) -> dict[str, str]:
        """The same with an access token."""
        return {"GOOGLE_OAUTH_ACCESS_TOKEN": token, **self._addresses()}

    def wrong_environment(self) -> dict[str, str]:
        """The same with a key that is not the account's."""
        return self.environment(attrs.evolve(self.account, key=_new_key()))

    def _addresses(self) -> dict[str, str]:
        return {"SOPS_GCP_KMS_ENDPOINT": self.endpoint, "SOPS_GCP_KMS_CLIENT_TYPE": "rest"}

    def create_account(self, name: str) -> ServiceAccount:
        """Makes a service account, which may use all keys that are not kept for others."""
        email = f"{name}@{PROJECT}.iam.gserviceaccount.com"
        self._accounts[email] = ServiceAccount(email, secrets.token_hex(20), _new_key(), self.token_uri)
        return self._accounts[email]

    def create_token(self, account: ServiceAccount | None = None, lease_seconds: float = _LEASE_SECONDS) -> str:
        """Issues an access token, as `gcloud auth print-access-token` would print."""
        token = f"ya29.{secrets.token_urlsafe(40)}"
        self._tokens[token] = ((account or self.account).email, self._clock() + lease_seconds)
        return token

    def create_key(self, name: str, *, only: Collection[ServiceAccount] = ()) -> str:
        """Makes a key; returns its resource id, as `sops --gcp-kms` wants it.

        Args:
            only: the accounts that it is kept for; empty for all.
        """
        resource = f"projects/{PROJECT}/locations/global/keyRings/sops/cryptoKeys/{name}"
        self._keys[resource] = AESGCM(AESGCM.generate_key(256))
        self._kept[resource] = frozenset(account.email for account in only)
        return resource

    def delete_key(self, resource: str) -> None:
        del self._keys[resource]

    def throttle_answer(self, request: Request) -> Answer:
        del request
        return _error(429, "RESOURCE_EXHAUSTED", "Quota exceeded for quota metric 'Cryptographic requests'.")

    def unavailable_answer(self, request: Request) -> Answer:
        del request
        return _error(503, "UNAVAILABLE", "The service is currently unavailable.")

    def answer(self, request: Request) -> Answer:
        if request.path == "/token":
            return self._grant(request)
        self.bearers.append(request.bearer)
        operation = _OPERATION.fullmatch(request.path)
        if operation is None or request.method != "POST":
            return _error(404, "NOT_FOUND", "Requested entity was not found.")
        email = self._authenticate(request)
        if email is None:
            return _error(
                401,
                "UNAUTHENTICATED",
                "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other "
                "valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project.",
            )
        return self._use_key(operation[1], operation[2], email, request)

    def _grant(self, request: Request) -> Answer:
        self.token_requests += 1
        asked = request.form()
        if asked.get("grant_type") != _GRANT:
            return json_answer(400, {"error": "unsupported_grant_type", "error_description": "Invalid grant_type"})
        try:
            account = self._verify(asked.get("assertion", ""))
        except BadTokenError:
            return json_answer(400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
        token = {"access_token": self.create_token(account), "expires_in": _LEASE_SECONDS, "token_type": "Bearer"}
        return json_answer(200, token)

    def _authenticate(self, request: Request) -> str | None:
        email, expires_at = self._tokens.get(request.bearer or "", ("", 0.0))
        return email if expires_at > self._clock() else None

    def _verify(self, assertion: str) -> ServiceAccount:
        token = Token.parse(assertion)
        account = self._accounts.get(str(token.claims.get("iss")))
        if account is None:
            raise BadTokenError("no such account")
        token.verify(account.key.public_key())
        now = self._clock()
        if not now - _SKEW_SECONDS < float(token.claims.get("exp", 0)) < now + _LEASE_SECONDS + _SKEW_SECONDS:
            raise BadTokenError("too old or too long")
        if token.claims.get("aud") != self.token_uri:
            raise BadTokenError("meant for another")
        return account

    def _use_key(self, resource: str, operation: str, email: str, request: Request) -> Answer:
        only = self._kept.get(resource, frozenset[str]())
        if self.deny or (only and email not in only):
            use = f"cloudkms.cryptoKeyVersions.useTo{operation.capitalize()}"
            text = f"Permission '{use}' denied on resource '{resource}' (or it may not exist)."
            return _error(403, "PERMISSION_DENIED", text)
        key = self._keys.get(resource)
        if key is None:
            return _error(404, "NOT_FOUND", f"CryptoKey {resource} not found.")
        try:
            if operation == "encrypt":
                nonce = os.urandom(_NONCE_BYTES)
                given = base64.b64decode(request.json()["plaintext"], validate=True)
                wrapped = base64.b64encode(nonce + key.encrypt(nonce, given, None)).decode()
                return json_answer(200, {"name": f"{resource}/cryptoKeyVersions/1", "ciphertext": wrapped})
            given = base64.b64decode(request.json()["ciphertext"], validate=True)
            plaintext = key.decrypt(given[:_NONCE_BYTES], given[_NONCE_BYTES:], None)
            return json_answer(200, {"plaintext": base64.b64encode(plaintext).decode(), "usedPrimary": True})
        except (InvalidTag, KeyError, ValueError, binascii.Error):
            text = "Decryption failed: verify that 'name' refers to the correct CryptoKey."
            return _error(400, "INVALID_ARGUMENT", text)


@contextmanager
def open_gcp(clock: Callable[[], float] = time.time) -> Iterator[Gcp]:
    """Plays Google Cloud KMS on loopback.

    Args:
        clock: seconds since 1970, which tokens and assertions go by.
    """
    gcp = Gcp(clock)
    with serving(gcp) as port:
        gcp.endpoint = f"http://{LOOPBACK}:{port}"
        gcp.create_account("jiemi")
        yield gcp


def _new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def _error(code: int, status: str, text: str) -> Answer:
    return json_answer(code, {"error": {"code": code, "message": text, "status": status}})
