"""Credentials of key services, right and wrong, and the plan that comes of them."""

from __future__ import annotations

import base64
import datetime
import json
import traceback
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from jiemi.core.sensitive import SensitiveText
from jiemi.krapao.decryption.environments import (
    CloudKey,
    Plan,
    plan,
)
from jiemi.krapao.operator_environment import OperatorEnvironment
from jiemi.rpc.keys import VaultKey

CANARY = "canary-41d0"


NOBODY = OperatorEnvironment()


VAULT = "https://vault.example:8200"


def secret(text: str = CANARY) -> SensitiveText:
    return SensitiveText(text)


def made(key: CloudKey, operator: OperatorEnvironment = NOBODY, *, token: str = "token") -> Plan:  # noqa: S107
    vault = isinstance(key, VaultKey)
    return plan(key, operator, vault_address=VAULT if vault else "", vault_token=token if vault else "")


def account(**more: Any) -> str:
    fields = {
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "1",
        "private_key": f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----\n",
        "client_email": "sops@p.iam.gserviceaccount.com",
        "client_id": "2",
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    return json.dumps({name: value for name, value in (fields | more).items() if value is not None})


def certificate(*, key: bool = True, passphrase: bytes | None = None) -> str:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(private, hashes.SHA256())
    )
    hidden = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    text = built.public_bytes(serialization.Encoding.PEM)
    if key:
        text += private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden)
    return text.decode()


CERTIFICATE = certificate(key=False)


def assert_says_nothing(error: BaseException, *values: str) -> None:
    """Nothing that can be printed of an error holds a credential: its texts, its chain, its frames' values aside."""
    seen: list[BaseException] = []
    pending: list[BaseException | None] = [error]
    while pending:
        each = pending.pop()
        if each is None or each in seen:
            continue
        seen.append(each)
        pending += [each.__cause__, each.__context__]
        shown = f"{each} {each!r} {each.args!r} {vars(each)!r} {getattr(each, '__notes__', '')!r}"
        for value in (CANARY, *values):
            assert value not in shown
            assert base64.b64encode(value.encode()).decode() not in shown
    shown = "".join(traceback.format_exception(error))
    assert not [value for value in (CANARY, *values) if value in shown]
