"""A double of Microsoft Entra ID and Azure Key Vault, under their own names: a CONNECT proxy that ends TLS.

It follows the published APIs: the client credentials grant with a secret, a certificate or a federated token
(https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow), and the keys of a vault
(https://learn.microsoft.com/rest/api/keyvault/keys/encrypt/encrypt, …/decrypt/decrypt, …/get-key/get-key) with the
challenge that tells which tenant a vault belongs to
(https://learn.microsoft.com/azure/key-vault/general/authentication-requests-and-responses).

Left out: users, managed identities, other clouds than the public one, Managed HSM, roles beyond one switch and a set of
vaults for each application, all algorithms but RSA-OAEP-256, old versions of keys, and continuous access evaluation.
"""

from __future__ import annotations

import datetime
import re
import secrets
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID
from doubles.authority import Authority, open_authority
from doubles.jwt import BadTokenError, Token, from_base64url, sign, to_base64url
from doubles.serving import LOOPBACK, Answer, Double, Request, json_answer, serving

LOGIN_HOST = "login.microsoftonline.com"
VAULT_DOMAIN = "vault.azure.net"

_LEASE_SECONDS = 3599
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_EXCHANGE = "api://AzureADTokenExchange"
_KEY = re.compile(r"/keys/(?P<name>[^/]+)(?:/(?P<version>[^/]+))?(?:/(?P<operation>encrypt|decrypt))?/?")
_OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)


@attrs.frozen
class Application:
    """A service principal, with all three of its credentials.

    Attributes:
        certificate: with its private key, as PEM.
        subject: whose federated tokens it takes.
    """

    client_id: str
    client_secret: str = attrs.field(repr=False)
    certificate: str = attrs.field(repr=False)
    subject: str


class Azure(Double):
    """A tenant with one application.

    Attributes:
        proxy: URL of the proxy.
        authority: signs for all hosts that are played.
        tenant_id: of the tenant.
        application: may use all keys.
        strangers: other hosts that are played: vaults without keys that want a token, as a thief's would.
        bearers: the bearer token of each request to a vault, None where there was none.
        token_requests: number of tokens that were asked for.
    """

    def __init__(self, authority: Authority, directory: Path, clock: Callable[[], float]) -> None:
        super().__init__()
        self.proxy = ""
        self.authority = authority
        self.tenant_id = str(uuid.uuid4())
        self.strangers: set[str] = set()
        self.bearers: list[str | None] = []
        self.token_requests = 0
        self._directory = directory
        self._clock = clock
        self._issuer = _new_key()
        self._applications: dict[str, Application] = {}
        self._tokens: dict[str, tuple[str, float]] = {}
        self._keys: dict[tuple[str, str], tuple[str, rsa.RSAPrivateKey]] = {}
        self.application = self.create_application("jiemi")

    def environment(self, application: Application | None = None) -> dict[str, str]:
        """What a sops process needs, by a secret."""
        application = application or self.application
        return self._common(application) | {
            "AZURE_CLIENT_SECRET": application.client_secret,
            # Or the library asks the metadata address and runs programs for what it misses.
            "AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential",
        }

    def certificate_environment(self, application: Application | None = None) -> dict[str, str]:
        """The same by a certificate."""
        application = application or self.application
        return self._common(application) | {
            "AZURE_CLIENT_CERTIFICATE_PATH": self._write(application.certificate),
            "AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential",
        }

    def federated_environment(self, token: str | None = None) -> dict[str, str]:
        """The same by a federated token, as of a ServiceAccount of a cluster; the application's own, or one given."""
        return self._common(self.application) | {
            "AZURE_FEDERATED_TOKEN_FILE": self._write(token or self.create_federated_token(self.application.subject)),
            "AZURE_TOKEN_CREDENTIALS": "WorkloadIdentityCredential",
        }

    def wrong_environment(self) -> dict[str, str]:
        """By a secret that is not the application's."""
        return self.environment(attrs.evolve(self.application, client_secret="x" * 40))

    def wrong_certificate_environment(self) -> dict[str, str]:
        """By a certificate that is not the application's."""
        return self.certificate_environment(attrs.evolve(self.application, certificate=_new_certificate("other")))

    def wrong_federated_environment(self) -> dict[str, str]:
        """By a token of the same subject from another cluster."""
        return self.federated_environment(self._federated_token(self.application.subject, _new_key()))

    def _common(self, application: Application) -> dict[str, str]:
        return {
            "HTTPS_PROXY": self.proxy,
            # Nothing is played there; so that it is seen if something is asked in the clear.
            "HTTP_PROXY": self.proxy,
            "SSL_CERT_FILE": str(self.authority.path),
            "AZURE_TENANT_ID": self.tenant_id,
            "AZURE_CLIENT_ID": application.client_id,
        }

    def _write(self, text: str) -> str:
        path = self._directory / secrets.token_hex(8)
        path.write_text(text)
        return str(path)

    def create_application(self, name: str) -> Application:
        """Makes a service principal, which may use all keys."""
        client_id = str(uuid.uuid4())
        self._applications[client_id] = Application(
            client_id, secrets.token_urlsafe(30), _new_certificate(name), f"system:serviceaccount:{name}:{name}"
        )
        return self._applications[client_id]

    def create_federated_token(self, subject: str) -> str:
        """Issues a token as the cluster would that the applications trust."""
        return self._federated_token(subject, self._issuer)

    def _federated_token(self, subject: str, key: rsa.RSAPrivateKey) -> str:
        now = int(self._clock())
        claims = {"sub": subject, "aud": [_EXCHANGE], "iat": now, "exp": now + _LEASE_SECONDS}
        return sign({"iss": "https://cluster.invalid", **claims}, key)

    def create_key(self, name: str, vault: str = "jiemi") -> str:
        """Makes a key, and the vault with it; returns its URL with the version, as `sops --azure-kv` wants it."""
        version = secrets.token_hex(16)
        self._keys[f"{vault}.{VAULT_DOMAIN}", name] = version, _new_key()
        return f"https://{vault}.{VAULT_DOMAIN}/keys/{name}/{version}"

    def delete_key(self, name: str, vault: str = "jiemi") -> None:
        """Deletes a key; its vault stays if it has others."""
        del self._keys[f"{vault}.{VAULT_DOMAIN}", name]

    def plays(self, host: str) -> bool:
        return host == LOGIN_HOST or host in self.strangers or any(host == vault for vault, _ in self._keys)

    def throttle_answer(self, request: Request) -> Answer:
        del request
        return _error(429, "Throttled", "Request was not processed because too many requests were received.")

    def unavailable_answer(self, request: Request) -> Answer:
        del request
        return _error(503, "ServiceUnavailable", "The service is unavailable.")

    def answer(self, request: Request) -> Answer:
        if request.host == LOGIN_HOST:
            return self._answer_login(request)
        if self.plays(request.host):
            return self._answer_vault(request)
        return Answer(404)

    def _answer_login(self, request: Request) -> Answer:
        login = f"https://{LOGIN_HOST}"
        match request.path.strip("/").split("/"):
            case ["common", "discovery", "instance"]:
                asked = request.query.get("authorization_endpoint", "").removeprefix(f"{login}/").partition("/")[0]
                cloud = {"preferred_network": LOGIN_HOST, "preferred_cache": LOGIN_HOST, "aliases": [LOGIN_HOST]}
                endpoint = f"{login}/{asked}/v2.0/.well-known/openid-configuration"
                return json_answer(
                    200, {"tenant_discovery_endpoint": endpoint, "api-version": "1.1", "metadata": [cloud]}
                )
            case [tenant, *_] if tenant != self.tenant_id:
                return _login_error(400, "invalid_tenant", 90002, f"Tenant '{tenant}' not found.")
            case [tenant, "v2.0", ".well-known", "openid-configuration"]:
                return json_answer(
                    200,
                    {
                        "token_endpoint": f"{login}/{tenant}/oauth2/v2.0/token",
                        "authorization_endpoint": f"{login}/{tenant}/oauth2/v2.0/authorize",
                        "device_authorization_endpoint": f"{login}/{tenant}/oauth2/v2.0/devicecode",
                        "issuer": f"{login}/{tenant}/v2.0",
                        "jwks_uri": f"{login}/{tenant}/discovery/v2.0/keys",
                    },
                )
            case [_, "oauth2", "v2.0", "token"] if request.method == "POST":
                return self._grant(request.form())
        return Answer(404)

    def _grant(self, asked: dict[str, str]) -> Answer:
        self.token_requests += 1
        application = self._applications.get(asked.get("client_id", ""))
        if application is None:
            text = f"Application with identifier '{asked.get('client_id')}' was not found in the directory."
            return _login_error(400, "unauthorized_client", 700016, text)
        if asked.get("grant_type") != "client_credentials" or f"https://{VAULT_DOMAIN}/.default" not in asked.get(
            "scope", ""
        ):
            return _login_error(400, "invalid_request", 900144, "The request body must contain other parameters.")
        if "client_assertion" in asked:
            refusal = self._refusal_of_assertion(application, asked)
        elif secrets.compare_digest(asked.get("client_secret", ""), application.client_secret):
            refusal = None
        else:
            refusal = _login_error(401, "invalid_client", 7000215, "Invalid client secret provided.")
        if refusal is not None:
            return refusal
        token = f"eyJ0eXAi.{secrets.token_urlsafe(60)}"
        self._tokens[token] = application.client_id, self._clock() + _LEASE_SECONDS
        return json_answer(
            200,
            {
                "token_type": "Bearer",
                "expires_in": _LEASE_SECONDS,
                "ext_expires_in": _LEASE_SECONDS,
                "access_token": token,
            },
        )

    def _refusal_of_assertion(self, application: Application, asked: dict[str, str]) -> Answer | None:
        """None where the assertion is the application's: signed by its certificate, or federated."""
        certificate = x509.load_pem_x509_certificate(application.certificate.encode())
        try:
            token = Token.parse(asked["client_assertion"])
            if asked.get("client_assertion_type") != _ASSERTION or float(token.claims.get("exp", 0)) < self._clock():
                raise BadTokenError("of another type, or too old")
            if token.claims.get("iss") != application.client_id:
                token.verify(self._issuer.public_key())
                if token.claims.get("sub") != application.subject or _EXCHANGE not in token.claims.get("aud", ""):
                    raise BadTokenError("of another subject")
                return None
            key = certificate.public_key()
            assert isinstance(key, rsa.RSAPublicKey)
            token.verify(key)
            if f"/{self.tenant_id}/" not in str(token.claims.get("aud")):
                raise BadTokenError("meant for another")
        except BadTokenError as error:
            return _login_error(401, "invalid_client", 700027, f"Client assertion failed validation: {error}.")
        return None

    def _answer_vault(self, request: Request) -> Answer:
        self.bearers.append(request.bearer)
        if self._tokens.get(request.bearer or "", ("", 0.0))[1] <= self._clock():
            challenge = (
                f'Bearer authorization="https://{LOGIN_HOST}/{self.tenant_id}", resource="https://{VAULT_DOMAIN}"'
            )
            text = "AKV10000: Request is missing a Bearer or PoP token."
            return _error(401, "Unauthorized", text, ("WWW-Authenticate", challenge))
        asked = _KEY.fullmatch(request.path)
        if asked is None:
            return _error(404, "NotFound", "The resource was not found.")
        if self.deny:
            action = asked["operation"] or "read"
            client_id = self._tokens[request.bearer or ""][0]
            return _error(
                403,
                "Forbidden",
                "Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or "
                "role definitions were changed recently, please observe propagation time.\r\n"
                f"Caller: appid={client_id};iss=https://sts.windows.net/{self.tenant_id}/\r\n"
                f"Action: 'Microsoft.KeyVault/vaults/keys/{action}/action'\r\nAssignment: (not found)\r\n",
            )
        version, key = self._keys.get((request.host, asked["name"]), ("", None))
        if key is None or asked["version"] not in {None, version}:
            text = f"A key with (name/id) {asked['name']} was not found in this key vault."
            return _error(404, "KeyNotFound", text)
        return self._use_key(key, f"https://{request.host}/keys/{asked['name']}/{version}", asked["operation"], request)

    def _use_key(self, key: rsa.RSAPrivateKey, key_id: str, operation: str | None, request: Request) -> Answer:
        public = key.public_key()
        if operation is None:
            numbers = public.public_numbers()
            described = {
                "kid": key_id,
                "kty": "RSA",
                "key_ops": ["encrypt", "decrypt"],
                "n": to_base64url(numbers.n.to_bytes(key.key_size // 8)),
                "e": to_base64url(numbers.e.to_bytes(3)),
            }
            return json_answer(200, {"key": described, "attributes": {"enabled": True}})
        body = request.json()
        if body.get("alg") != "RSA-OAEP-256":
            return _error(400, "BadParameter", "Property has invalid value: alg")
        try:
            value = from_base64url(str(body.get("value", "")))
            result = public.encrypt(value, _OAEP) if operation == "encrypt" else key.decrypt(value, _OAEP)
        except ValueError:
            return _error(400, "BadParameter", "The parameter is incorrect.")
        return json_answer(200, {"kid": key_id, "value": to_base64url(result)})


@contextmanager
def open_azure(clock: Callable[[], float] = time.time) -> Iterator[Azure]:
    """Plays Entra ID and Key Vault behind a proxy on loopback.

    Args:
        clock: seconds since 1970, which tokens and assertions go by.
    """
    with open_authority() as authority, tempfile.TemporaryDirectory(prefix="jiemi-azure-") as directory:
        azure = Azure(authority, Path(directory), clock)
        with serving(azure, authority=authority) as port:
            azure.proxy = f"http://{LOOPBACK}:{port}"
            yield azure


def _new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def _new_certificate(name: str) -> str:
    key = _new_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode() + private.decode()


def _error(status: int, code: str, text: str, *headers: tuple[str, str]) -> Answer:
    return json_answer(status, {"error": {"code": code, "message": text}}, *headers)


def _login_error(status: int, error: str, number: int, text: str) -> Answer:
    trace, correlation = uuid.uuid4(), uuid.uuid4()
    return json_answer(
        status,
        {
            "error": error,
            "error_description": f"AADSTS{number}: {text} Trace ID: {trace} Correlation ID: {correlation}",
            "error_codes": [number],
            "trace_id": str(trace),
            "correlation_id": str(correlation),
        },
    )
