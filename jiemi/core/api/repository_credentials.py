"""spec.source.repository.credentials: what the repository's host asks for."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from jiemi.core.api.fields import FieldError, Rule, api, contradiction, given, together
from jiemi.core.api.provider import CredentialValue

_CONTRADICTIONS = (("bearer", "username"), ("bearer", "token"))
_TOGETHER = (("client_certificate", "client_key"),)
_WITHOUT_KEY = "passphrase is for ssh: give that too"
_VALUES = (
    *("username", "token", "ssh", "known_hosts", "bearer", "ca_bundle", "client_certificate", "client_key"),
    "passphrase",
)
_JSON_NAMES = {
    "known_hosts": "knownHosts",
    "ca_bundle": "caBundle",
    "client_certificate": "clientCertificate",
    "client_key": "clientKey",
}


def _json(name: str) -> str:
    return _JSON_NAMES.get(name, name)


def _value(description: str) -> Any:
    """An optional credential value."""
    return api(description, default=None, nullable=True)


@attrs.frozen
class RepositoryCredentials:
    """The credentials that the repository's host asks for."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        *(contradiction(_json(one), _json(other)) for one, other in _CONTRADICTIONS),
        *(together(_json(one), _json(other)) for one, other in _TOGETHER),
        *(contradiction("secretName", _json(value)) for value in _VALUES),
        Rule(f"!{given('passphrase')} || {given('ssh')}", _WITHOUT_KEY),
    )

    username: CredentialValue | None = _value("User name for https.")
    token: CredentialValue | None = _value("Access token or password for https.")
    ssh: CredentialValue | None = _value("Private key for ssh (Ed25519, ECDSA or RSA), in OpenSSH or PEM form.")
    known_hosts: CredentialValue | None = _value(
        "Lines of a known_hosts file with the ssh host's keys, in addition to those that the operator gives Krapao."
    )
    bearer: CredentialValue | None = _value(
        "Token for https that is sent as Authorization: Bearer, for hosts that take no basic authentication."
    )
    ca_bundle: CredentialValue | None = _value(
        "Certificates of the authorities that sign the https host's certificate (PEM), in addition to those that "
        "Krapao trusts."
    )
    client_certificate: CredentialValue | None = _value(
        "Client certificate for https, with its chain (PEM), for hosts that require one."
    )
    client_key: CredentialValue | None = _value("Private key of the client certificate (PEM), without a passphrase.")

    passphrase: CredentialValue | None = _value("Passphrase of the private key for ssh, if the key has one.")

    secret_name: str | None = api(
        "Name of a Secret in the Decryptor's namespace with all credentials, in Flux's form, instead of single values. "
        "For https: username and password, bearerToken, ca.crt (or caFile), tls.crt and tls.key (or certFile and "
        "keyFile). For ssh: identity, known_hosts, and password as the passphrase of identity.",
        default=None,
        nullable=True,
        maxLength=253,
    )

    def __attrs_post_init__(self) -> None:
        for one, other in _CONTRADICTIONS:
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise FieldError(f"{_json(one)} contradicts {_json(other)}: give one or the other")
        for one, other in _TOGETHER:
            if (getattr(self, one) is None) != (getattr(self, other) is None):
                raise FieldError(f"give {_json(one)} together with {_json(other)}, or neither")
        for value in _VALUES if self.secret_name is not None else ():
            if getattr(self, value) is not None:
                raise FieldError(f"secretName contradicts {_json(value)}: give one or the other")
        if self.passphrase is not None and self.ssh is None:
            raise FieldError(_WITHOUT_KEY)
