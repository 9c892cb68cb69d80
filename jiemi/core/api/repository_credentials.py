"""spec.source.repository.credentials: what the repository's host asks for."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from jiemi.core.api.fields import FieldError, Rule, api, contradiction, given, together
from jiemi.core.api.provider import CredentialValue

_CONTRADICTIONS = (
    ("bearer", "username"),
    ("bearer", "token"),
    ("github_app", "username"),
    ("github_app", "token"),
    ("github_app", "bearer"),
)
_TOGETHER = (("client_certificate", "client_key"),)
_WITHOUT_KEY = "passphrase is for ssh: give that too"
_VALUES = (
    *("username", "token", "ssh", "known_hosts", "bearer", "ca_bundle", "client_certificate", "client_key"),
    "passphrase",
    "github_app",
)
_JSON_NAMES = {
    "known_hosts": "knownHosts",
    "ca_bundle": "caBundle",
    "client_certificate": "clientCertificate",
    "client_key": "clientKey",
    "github_app": "githubApp",
}


def _json(name: str) -> str:
    return _JSON_NAMES.get(name, name)


def _value(description: str) -> Any:
    """An optional credential value."""
    return api(description, default=None, nullable=True)


@attrs.frozen
class GitHubApp:
    """A GitHub App. Krapao logs in as its installation, with tokens of an hour that may only read this repository."""

    RULES: ClassVar[tuple[Rule, ...]] = (contradiction("installationId", "installationOwner"),)

    app_id: CredentialValue = api("The App's id or client id, which its settings page shows.")
    private_key: CredentialValue = api("A private key of the App (PEM), as its settings page generates it.")
    installation_id: CredentialValue | None = _value(
        "The number of the App's installation, at the end of the address of the installation's page. The default is "
        "the installation that may read the repository."
    )
    installation_owner: CredentialValue | None = _value(
        "The organization or user whose installation of the App is used, instead of installationId."
    )
    base_url: CredentialValue | None = _value(
        "URL of the API of a GitHub Enterprise Server: https://HOST/api/v3. The default is that of github.com, or of "
        "the repository's own ghe.com domain."
    )

    def __attrs_post_init__(self) -> None:
        if self.installation_id is not None and self.installation_owner is not None:
            raise FieldError("installationId contradicts installationOwner: give one or the other")


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
    github_app: GitHubApp | None = api(
        "A GitHub App for https, instead of a token of a person's account. It needs the permission to read the "
        "repository's contents.",
        json_name="githubApp",
        default=None,
        nullable=True,
    )

    secret_name: str | None = api(
        "Name of a Secret in the Decryptor's namespace with all credentials, in Flux's form, instead of single values. "
        "For https: username and password, bearerToken, ca.crt (or caFile), tls.crt and tls.key (or certFile "
        "and keyFile), and of a GitHub App githubAppID, githubAppPrivateKey, githubAppInstallationID (or "
        "githubAppInstallationOwner) and githubAppBaseURL. For ssh: identity, known_hosts, and password as the "
        "passphrase of identity.",
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
