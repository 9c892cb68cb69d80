"""A Vault token by a login: AppRole, or the token of a Kubernetes ServiceAccount.

sops takes a token only, so Krapao logs in by itself, to the address that the guard let through.
https://developer.hashicorp.com/vault/api-docs/auth/approle#login-with-approle
https://developer.hashicorp.com/vault/api-docs/auth/kubernetes#login
"""

from __future__ import annotations

import json
import re
import ssl
from pathlib import Path
from typing import Any

import attrs
import structlog
import trio
import urllib3
from urllib3.exceptions import HTTPError

from jiemi.concurrency.calls import Interrupter, run_blocking
from jiemi.concurrency.http import Watch, close_pool, make_interruptible
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.krapao.decryption.credential_files import require_authorities
from jiemi.krapao.network.connecting import Permit
from jiemi.krapao.operator_environment import OperatorEnvironment
from jiemi.rpc.keys import VaultKey

_log = structlog.get_logger("jiemi.krapao.decryption")

_MAX_ANSWER_BYTES = 1024 * 1024
_SECONDS = 8
_MOUNT = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+){0,7}")
_NO_VAULT = "the login to Vault failed: no Vault answers there, or it is busy or down; Krapao's log says which"
_POD_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
"""https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/"""


@attrs.frozen
class VaultToken:
    """A token, and how long it lasts.

    Attributes:
        token: for VAULT_TOKEN.
        lease_seconds: how long it may be used, or None where nothing says.
    """

    token: SensitiveText
    lease_seconds: float | None = None


async def vault_token(
    key: VaultKey, address: str, operator: OperatorEnvironment, *, permit: Permit | None = None
) -> VaultToken:
    """The token for a server, by a login where the key says how.

    Args:
        address: of the server; the guard let it through.
        permit: judges the addresses of the server before a login connects to one of them; None permits all.

    Raises:
        JiemiError: AddressNotAllowed, KeyInvalid, AmbientIdentityNotAllowed, KeyServiceDenied, KeyServiceUnreachable.
    """
    if key.token is not None:
        return VaultToken(key.token)
    if key.role_id is not None:
        if key.secret_id is None:
            raise JiemiError(
                "KeyInvalid",
                "spec.provider.vault.appRole has no secretId beside roleId",
                "Give the AppRole's secret id in spec.provider.vault.appRole.secretId.",
            )
        body = {"role_id": key.role_id.reveal().strip(), "secret_id": key.secret_id.reveal().strip()}
        mount = _mount(key.app_role_mount, "approle", "appRole")
        return await _login(key, address, operator, mount, body, permit)
    if key.kubernetes_role is not None:
        token = key.kubernetes_token.reveal() if key.kubernetes_token is not None else _pod_token(operator)
        body = {"role": key.kubernetes_role.reveal().strip(), "jwt": token.strip()}
        mount = _mount(key.kubernetes_mount, "kubernetes", "kubernetes")
        return await _login(key, address, operator, mount, body, permit)
    identity = operator.identity("vault")
    if "VAULT_TOKEN" not in identity:
        raise JiemiError(
            "AmbientIdentityNotAllowed",
            "Krapao's own environment has no VAULT_TOKEN",
            "Give a token in spec.provider.vault.token, or a login in appRole or kubernetes.",
        )
    return VaultToken(SensitiveText(identity["VAULT_TOKEN"]))


def _mount(value: SensitiveText | None, default: str, field: str) -> str:
    mount = value.reveal().strip().strip("/") if value is not None else default
    if _MOUNT.fullmatch(mount) is None:
        raise JiemiError(
            "KeyInvalid",
            f"spec.provider.vault.{field}.mountPath is no path of an auth method",
            f"Write it as `vault auth list` does, without auth/ before it: {default}.",
        )
    return mount


def _pod_token(operator: OperatorEnvironment) -> str:
    operator.identity("vault")
    try:
        return _POD_TOKEN.read_text()
    except OSError as error:
        raise JiemiError(
            "AmbientIdentityNotAllowed",
            f"Krapao's Pod has no ServiceAccount token of its own ({error.strerror})",
            "Give one in spec.provider.vault.kubernetes.token.",
        ) from error


async def _login(
    key: VaultKey,
    address: str,
    operator: OperatorEnvironment,
    mount: str,
    body: dict[str, str],
    permit: Permit | None,
) -> VaultToken:
    context = ssl.create_default_context(cafile=operator.network.get("SSL_CERT_FILE"))
    if key.ca_bundle is not None:
        require_authorities(key.ca_bundle, "spec.provider.vault.caBundle")
        context = ssl.create_default_context(cadata=key.ca_bundle.reveal())
    headers = {"Content-Type": "application/json", "X-Vault-Request": "true"}
    if key.namespace is not None:
        headers["X-Vault-Namespace"] = key.namespace.reveal().strip()

    def post(_: Interrupter) -> tuple[int, bytes]:
        pool = make_interruptible(
            urllib3.PoolManager(ssl_context=context, retries=False, timeout=_SECONDS), Watch(permit)
        )
        try:
            answer = pool.request(
                "POST",
                f"{address}/v1/auth/{mount}/login",
                body=json.dumps(body).encode(),
                headers=headers,
                redirect=False,
                preload_content=False,
            )
            return answer.status, answer.read(_MAX_ANSWER_BYTES)
        finally:
            close_pool(pool)

    try:
        status, data = await run_blocking(post, limiter=trio.CapacityLimiter(1))
    except (HTTPError, OSError) as error:
        # Its text may quote the address, which is the file's; and whether a port is closed, filtered or another
        # service's is nothing for a Decryptor's author.
        _log.warning("vault_login_failed", error=type(error).__name__)
        raise JiemiError("KeyServiceUnreachable", _NO_VAULT) from None
    if status >= 500 or status == 429:
        _log.warning("vault_login_failed", status=status)
        raise JiemiError("KeyServiceUnreachable", _NO_VAULT)
    auth = _auth(data) if status == 200 else None
    if auth is None:
        raise JiemiError(
            "KeyServiceDenied",
            f"the login to Vault by auth/{mount} was refused (status {status})",
            "Correct the role and what it logs in with in spec.provider.vault, and mountPath where the method is "
            "mounted elsewhere.",
        )
    lease = auth.get("lease_duration")
    return VaultToken(
        SensitiveText(str(auth["client_token"])), float(lease) if isinstance(lease, int) and lease > 0 else None
    )


def _auth(data: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    auth = found.get("auth") if isinstance(found, dict) else None
    return auth if isinstance(auth, dict) and isinstance(auth.get("client_token"), str) else None
