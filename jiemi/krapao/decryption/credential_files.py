"""Credentials that are files: what a service account's key file, a certificate and a bundle of authorities must be.

A wrong one is refused here, before any process sees it, and without being quoted.
"""

from __future__ import annotations

import json
import re
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from jiemi.core.addresses import is_plain_host, normal_address
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText

HOST_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
"""One label of a host's name. The AWS libraries make such names of regions, too."""

_SERVICE_ACCOUNT_FIELDS = (
    "type",
    "project_id",
    "private_key_id",
    "private_key",
    "client_email",
    "client_id",
    "token_uri",
    "universe_domain",
)
_MAX_VARIABLE_CHARACTERS = 64 * 1024
"""Linux takes 128 KiB for a variable (MAX_ARG_STRLEN); a key file has 3."""

_KEY_FILE = "Put the JSON key file of a service account there, as Google Cloud gave it."


def service_account(value: SensitiveText) -> str:
    """A service account's key file, as one line of JSON with the fields of that kind only.

    The other kinds of credential files that Google's libraries take (`external_account` and its relatives) name files,
    URLs and programs that would be read with Krapao's own rights.

    Raises:
        JiemiError: KeyInvalid.
    """
    field = "spec.provider.gcp.serviceAccount"
    found = _json_object(value)
    if found is None:
        raise JiemiError("KeyInvalid", f"{field} is no JSON object", _KEY_FILE)
    if found.get("type") != "service_account":
        raise JiemiError(
            "KeyInvalid",
            f"{field} is a credential of another type than service_account, which Krapao does not take",
            _KEY_FILE,
        )
    for name in ("private_key", "client_email"):
        if not isinstance(found.get(name), str) or not found[name]:
            raise JiemiError("KeyInvalid", f"{field} has no {name}", _KEY_FILE)
    token_uri = found.get("token_uri", "https://oauth2.googleapis.com/token")
    if not isinstance(token_uri, str) or normal_address(token_uri) is None:
        raise JiemiError("KeyInvalid", f"{field}: its token_uri is no URL", _KEY_FILE)
    domain = found.get("universe_domain")
    if isinstance(domain, str) and not (is_plain_host(domain) and all(map(HOST_LABEL.fullmatch, domain.split(".")))):
        raise JiemiError("KeyInvalid", f"{field}: its universe_domain is no name of a domain", _KEY_FILE)
    kept = {name: found[name] for name in _SERVICE_ACCOUNT_FIELDS if isinstance(found.get(name), str)}
    text = json.dumps({**kept, "token_uri": token_uri})
    if len(text) > _MAX_VARIABLE_CHARACTERS:
        raise JiemiError("KeyInvalid", f"{field} is larger than any service account's key file", _KEY_FILE)
    return text


def _json_object(value: SensitiveText) -> dict[str, Any] | None:
    try:
        found = json.loads(value.reveal())
    except (ValueError, RecursionError):  # their texts quote the document
        return None
    return found if isinstance(found, dict) else None


def require_certificate(value: SensitiveText) -> None:
    """Refuse what is no certificate of an Azure application with its private key.

    Raises:
        JiemiError: KeyInvalid.
    """
    data = value.reveal().encode("utf-8", "replace")
    try:
        x509.load_pem_x509_certificates(data)
        serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError):  # TypeError: it has a passphrase
        pass
    else:
        return
    raise JiemiError(
        "KeyInvalid",
        "spec.provider.azure.clientCertificate holds no certificate with its private key in PEM without passphrase",
        "Put both there, one behind the other: BEGIN CERTIFICATE, and BEGIN PRIVATE KEY without passphrase.",
    )


def require_authorities(value: SensitiveText, field: str) -> None:
    """Refuse what holds no certificate.

    Raises:
        JiemiError: KeyInvalid.
    """
    try:
        x509.load_pem_x509_certificates(value.reveal().encode("utf-8", "replace"))
    except ValueError:
        pass
    else:
        return
    raise JiemiError(
        "KeyInvalid",
        f"{field} holds no certificate (PEM)",
        "Put the certificates of the server's authorities there, each from BEGIN CERTIFICATE to END CERTIFICATE.",
    )
