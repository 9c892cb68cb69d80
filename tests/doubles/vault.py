"""A double of HashiCorp Vault and OpenBao, as far as sops and Jiemi use them.

It follows the published HTTP API: the transit engine (https://developer.hashicorp.com/vault/api-docs/secret/transit,
https://openbao.org/api-docs/secret/transit/), the AppRole and Kubernetes logins (…/api-docs/auth/approle and
…/auth/kubernetes) and a token's own lookup, renewal and revocation (…/auth/token).

Left out: policies beyond a set of keys for each token, key versions and rotation, derived and convergent keys, batches,
response wrapping, creation of a key by its first use, and the review of a ServiceAccount's token (the tokens that pass
are those that a test names).
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from doubles.authority import Authority, open_authority
from doubles.serving import LOOPBACK, Answer, Double, Request, json_answer, serving

_NONCE_BYTES = 12
_PREFIX = "vault:v1:"


@attrs.define
class _Token:
    """`keys` is what it may use, as NAMESPACE/MOUNT/keys/NAME; None is for all."""

    accessor: str
    namespace: str
    keys: frozenset[str] | None
    lease_seconds: int
    renewable: bool
    expires_at: float | None


@attrs.frozen
class _AppRole:
    secret_ids: frozenset[str]
    keys: frozenset[str] | None
    lease_seconds: int


@attrs.frozen
class _KubernetesRole:
    tokens: frozenset[str]
    keys: frozenset[str] | None
    lease_seconds: int


class Vault(Double):
    """A server with one root token.

    Attributes:
        address: its URL, as VAULT_ADDR and in a file's `vault_address`.
        root_token: may use all keys of all namespaces, and does not expire.
        authority: signs its certificate; None over plain HTTP.
        tokens_seen: the X-Vault-Token of each request in order, None where there was none.
        logins: number of logins that succeeded.
        redirect_to: a URL of another server that all requests are sent on to, as a standby node does; or None.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self.address = ""
        self.authority: Authority | None = None
        self.root_token = f"hvs.{secrets.token_urlsafe(18)}"
        self.logins = 0
        self.redirect_to: str | None = None
        self._clock = clock
        self._keys: dict[str, AESGCM] = {}
        self._tokens: dict[str, _Token] = {}
        self._app_roles: dict[tuple[str, str, str], _AppRole] = {}
        self._kubernetes_roles: dict[tuple[str, str, str], _KubernetesRole] = {}

    @property
    def tokens_seen(self) -> list[str | None]:
        return [request.headers.get("x-vault-token") for request in self.requests]

    def environment(self, token: str | None = None, namespace: str = "") -> dict[str, str]:
        """What a sops process needs, with the root token or the one given."""
        found = {"VAULT_TOKEN": token or self.root_token}
        if namespace:
            found["VAULT_NAMESPACE"] = namespace
        if self.authority is not None:
            found["VAULT_CACERT"] = str(self.authority.path)
        return found

    def wrong_environment(self) -> dict[str, str]:
        """The same with a token that nobody issued."""
        return self.environment("hvs.nobody-issued-this")

    def create_key(self, name: str, mount: str = "transit", namespace: str = "") -> str:
        """Makes a key; returns its URI, as `sops --hc-vault-transit` wants it."""
        self._keys[_path(namespace, mount, name)] = AESGCM(AESGCM.generate_key(256))
        return f"{self.address}/v1/{mount}/keys/{name}"

    def delete_key(self, name: str, mount: str = "transit", namespace: str = "") -> None:
        del self._keys[_path(namespace, mount, name)]

    def create_token(
        self,
        *,
        keys: Collection[str] | None = None,
        namespace: str = "",
        lease_seconds: int = 0,
        renewable: bool = False,
    ) -> str:
        """Issues a token.

        Args:
            keys: MOUNT/keys/NAME that it may use; None for all.
            lease_seconds: after which it ends; 0 for never.
        """
        token = f"hvs.{secrets.token_urlsafe(18)}"
        self._tokens[token] = _Token(
            accessor=secrets.token_urlsafe(12),
            namespace=namespace.strip("/"),
            keys=_scoped(keys, namespace),
            lease_seconds=lease_seconds,
            renewable=renewable,
            expires_at=self._clock() + lease_seconds if lease_seconds else None,
        )
        return token

    def create_app_role(
        self,
        *,
        keys: Collection[str] | None = None,
        mount: str = "approle",
        namespace: str = "",
        lease_seconds: int = 3600,
    ) -> tuple[str, str]:
        """Makes an AppRole; returns its role_id and a secret_id."""
        role_id, secret_id = str(uuid.uuid4()), str(uuid.uuid4())
        self._app_roles[namespace.strip("/"), mount, role_id] = _AppRole(
            frozenset({secret_id}), _scoped(keys, namespace), lease_seconds
        )
        return role_id, secret_id

    def create_kubernetes_role(
        self,
        role: str,
        tokens: Collection[str],
        *,
        keys: Collection[str] | None = None,
        mount: str = "kubernetes",
        namespace: str = "",
        lease_seconds: int = 3600,
    ) -> None:
        """Makes a role of the Kubernetes login that these ServiceAccount tokens may take."""
        self._kubernetes_roles[namespace.strip("/"), mount, role] = _KubernetesRole(
            frozenset(tokens), _scoped(keys, namespace), lease_seconds
        )

    def expire_tokens(self) -> None:
        """Ends every leased token now, as if its time had passed."""
        for token in self._tokens.values():
            if token.expires_at is not None:
                token.expires_at = self._clock()

    def revoke(self, token: str) -> None:
        """Ends a token, as an administrator would."""
        del self._tokens[token]

    def live_tokens(self) -> list[str]:
        """The tokens that could still be used, the root token aside."""
        return [token for token in self._tokens if self._find_token(token) is not None]

    def throttle_answer(self, request: Request) -> Answer:
        return _errors(429, f'request path "{request.path[4:]}": rate limit quota exceeded')

    def unavailable_answer(self, request: Request) -> Answer:
        del request
        return _errors(503, "Vault is sealed")

    def answer(self, request: Request) -> Answer:
        if self.redirect_to is not None:
            return Answer(307, headers=(("Location", f"{self.redirect_to}{request.path}"),))
        parts = request.path.strip("/").split("/")
        namespace = request.headers.get("x-vault-namespace", "").strip("/")
        match parts[1:] if parts[0] == "v1" else []:
            case ["auth", *mount, "login"] if mount:
                return self._log_in(namespace, "/".join(mount), request)
            case ["auth", "token", "lookup-self" | "renew-self" | "revoke-self" as operation]:
                return self._own_token(request, operation)
            case [*mount, "encrypt" | "decrypt" as operation, key] if mount:
                return self._use_key(namespace, "/".join(mount), key, operation, request)
        if self._find_token(request.headers.get("x-vault-token")) is None:
            return _DENIED
        return _errors(404)

    def _find_token(self, text: str | None) -> _Token | None:
        if text == self.root_token:
            return _Token("root", "", None, 0, False, None)
        token = self._tokens.get(text or "")
        if token is None or (token.expires_at is not None and token.expires_at <= self._clock()):
            return None
        return token

    def _use_key(self, namespace: str, mount: str, key: str, operation: str, request: Request) -> Answer:
        token = self._find_token(request.headers.get("x-vault-token"))
        path = _path(namespace, mount, key)
        if token is None or self.deny or not _within(namespace, token.namespace):
            return _DENIED
        if token.keys is not None and path not in token.keys:
            return _DENIED
        if not any(name.startswith(_path(namespace, mount, "")) for name in self._keys):
            route = f"{mount}/{operation}/{key}"
            return _errors(404, f'no handler for route "{route}". route entry not found.')
        if path not in self._keys:
            return _errors(400, "encryption key not found")
        if operation == "encrypt":
            return self._encrypt(self._keys[path], request)
        return self._decrypt(self._keys[path], request)

    def _encrypt(self, key: AESGCM, request: Request) -> Answer:
        try:
            plaintext = base64.b64decode(request.json()["plaintext"], validate=True)
        except (KeyError, binascii.Error):
            return _errors(400, "failed to base64-decode plaintext")
        nonce = os.urandom(_NONCE_BYTES)
        wrapped = base64.b64encode(nonce + key.encrypt(nonce, plaintext, None)).decode()
        return _secret({"ciphertext": _PREFIX + wrapped, "key_version": 1})

    def _decrypt(self, key: AESGCM, request: Request) -> Answer:
        ciphertext = str(request.json().get("ciphertext", ""))
        if not ciphertext.startswith(_PREFIX):
            return _errors(400, "invalid ciphertext: no prefix")
        try:
            wrapped = base64.b64decode(ciphertext.removeprefix(_PREFIX), validate=True)
            plaintext = key.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], None)
        except (binascii.Error, ValueError):
            return _errors(400, "invalid ciphertext: could not decode base64")
        except InvalidTag:
            return _errors(400, "cipher: message authentication failed")
        return _secret({"plaintext": base64.b64encode(plaintext).decode()})

    def _log_in(self, namespace: str, mount: str, request: Request) -> Answer:
        asked = request.json()
        if self.deny:
            return _DENIED
        if "role_id" in asked:
            app_role = self._app_roles.get((namespace, mount, str(asked["role_id"])))
            if app_role is None or asked.get("secret_id") not in app_role.secret_ids:
                return _errors(400, "invalid role or secret ID")
            keys, lease_seconds = app_role.keys, app_role.lease_seconds
        else:
            name = str(asked.get("role", ""))
            role = self._kubernetes_roles.get((namespace, mount, name))
            if role is None:
                return _errors(400, f'invalid role name "{name}"')
            if asked.get("jwt") not in role.tokens:
                return _DENIED
            keys, lease_seconds = role.keys, role.lease_seconds
        token = self.create_token(namespace=namespace, lease_seconds=lease_seconds, renewable=True)
        self._tokens[token].keys = keys
        self.logins += 1
        return self._auth(token)

    def _own_token(self, request: Request, operation: str) -> Answer:
        text = request.headers.get("x-vault-token", "")
        token = self._find_token(text)
        if token is None:
            return _DENIED
        if operation == "revoke-self":
            self._tokens.pop(text, None)
            return Answer(204)
        if operation == "renew-self":
            if not token.renewable:
                return _errors(400, "lease is not renewable")
            token.expires_at = self._clock() + token.lease_seconds
            return self._auth(text)
        ttl = 0 if token.expires_at is None else int(token.expires_at - self._clock())
        return _secret({"accessor": token.accessor, "id": text, "ttl": ttl, "renewable": token.renewable})

    def _auth(self, text: str) -> Answer:
        token = self._tokens[text]
        auth = {
            "client_token": text,
            "accessor": token.accessor,
            "policies": ["default"],
            "token_policies": ["default"],
            "metadata": {},
            "lease_duration": token.lease_seconds,
            "renewable": token.renewable,
            "entity_id": "",
            "token_type": "service",
            "orphan": True,
            "num_uses": 0,
        }
        return _secret(None, auth)


@contextmanager
def open_vault(*, tls: bool = False, clock: Callable[[], float] = time.monotonic) -> Iterator[Vault]:
    """Plays a Vault on loopback.

    Args:
        tls: under an authority of its own (`Vault.authority`).
        clock: what the tokens' leases go by, in seconds.
    """
    vault = Vault(clock)
    with ExitStack() as stack:
        if tls:
            vault.authority = stack.enter_context(open_authority())
        port = stack.enter_context(serving(vault, authority=vault.authority, tls=tls))
        vault.address = f"{'https' if tls else 'http'}://{LOOPBACK}:{port}"
        yield vault


def _path(namespace: str, mount: str, key: str) -> str:
    return f"{namespace.strip('/')}/{mount}/keys/{key}"


def _scoped(keys: Collection[str] | None, namespace: str) -> frozenset[str] | None:
    return None if keys is None else frozenset(f"{namespace.strip('/')}/{key}" for key in keys)


def _within(namespace: str, of_token: str) -> bool:
    """Whether a token of one namespace holds in another: in its own and those below."""
    return not of_token or namespace == of_token or namespace.startswith(f"{of_token}/")


def _errors(status: int, *texts: str) -> Answer:
    return json_answer(status, {"errors": list(texts)})


_DENIED = _errors(403, "permission denied")


def _secret(data: object, auth: object = None) -> Answer:
    envelope = {
        "request_id": str(uuid.uuid4()),
        "lease_id": "",
        "renewable": False,
        "lease_duration": 0,
        "data": data,
        "wrap_info": None,
        "warnings": None,
        "auth": auth,
    }
    return json_answer(200, envelope)
