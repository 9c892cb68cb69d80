"""spec.provider, as types: the keys and key services that decrypt files' data keys. See `jiemi.core.api.spec`."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from jiemi.core.api.fields import FieldError, Rule, api, together
from jiemi.core.sensitive import SensitiveText

PROVIDERS = ("age", "aws", "azure", "gcp", "huawei", "pgp", "vault")


@attrs.frozen
class CredentialValue:
    """A credential: the text itself, or where it is in a Secret of the Decryptor's namespace."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(has(self.literal) && dyn(self.literal) != null) != "
            "(has(self.secretName) && dyn(self.secretName) != null && has(self.key) && dyn(self.key) != null)",
            "give either literal, or secretName together with key",
        ),
        Rule(
            "!(has(self.literal) && dyn(self.literal) != null && "
            "((has(self.secretName) && dyn(self.secretName) != null) || (has(self.key) && dyn(self.key) != null)))",
            "literal contradicts secretName and key: give either literal, or secretName together with key",
        ),
    )

    literal: SensitiveText | None = api(
        "The value itself. Everyone who may read the Decryptor can read it, so a Secret is safer.",
        default=None,
        nullable=True,
    )
    secret_name: str | None = api(
        "Name of a Secret in the Decryptor's namespace.", default=None, nullable=True, maxLength=253
    )
    key: str | None = api(
        "Key in that Secret's data. In privateKeys, * matches any characters: *.agekey means every key with that "
        "ending.",
        default=None,
        nullable=True,
        maxLength=253,
    )

    def __attrs_post_init__(self) -> None:
        if self.literal is not None and (self.secret_name is not None or self.key is not None):
            raise FieldError("literal contradicts secretName and key: give one or the other")
        if self.literal is None and (self.secret_name is None or self.key is None):
            raise FieldError("give either literal, or secretName together with key")


def _value(description: str) -> Any:
    """An optional credential value."""
    return api(description, default=None, nullable=True)


def _patterns(description: str) -> Any:
    """An optional list of patterns."""
    return api(description, default=(), maxItems=100, items={"minLength": 1, "maxLength": 2048})


def _at_most_one(*names: str) -> Rule:
    """A rule: no two of some fields."""
    given = [f"(has(self.{name}) && dyn(self.{name}) != null ? 1 : 0)" for name in names]
    return Rule(f"{' + '.join(given)} <= 1", f"give at most one of {', '.join(names)}")


_SOME_KEY = Rule(
    "(has(self.privateKey) && dyn(self.privateKey) != null) || (has(self.privateKeys) && size(self.privateKeys) > 0)",
    "give privateKey or privateKeys",
)


def _private_keys(description: str) -> Any:
    """An optional list of private keys."""
    return api(description, default=(), maxItems=20)


@attrs.frozen
class AgeProvider:
    """age identities."""

    RULES: ClassVar[tuple[Rule, ...]] = (_SOME_KEY,)

    private_key: CredentialValue | None = _value(
        "One or more age identities (AGE-SECRET-KEY-1…), one per line as age-keygen prints them, or OpenSSH private "
        "keys."
    )
    private_keys: tuple[CredentialValue, ...] = _private_keys(
        'Identities from several Secrets, or from several keys of one Secret (key: "*.agekey"), in addition to or '
        "instead of privateKey. Each must exist."
    )

    def __attrs_post_init__(self) -> None:
        _require_some_key(self)


def _require_some_key(provider: AgeProvider | PgpProvider) -> None:
    if provider.private_key is None and not provider.private_keys:
        raise FieldError(_SOME_KEY.message)


@attrs.frozen
class AwsProvider:
    """AWS KMS. Without keyId and accessKey, Krapao's own identity is used where its operator allows that."""

    RULES: ClassVar[tuple[Rule, ...]] = (together("keyId", "accessKey"),)

    key_id: CredentialValue | None = _value("The access key's id (AWS_ACCESS_KEY_ID).")
    access_key: CredentialValue | None = _value("The secret access key (AWS_SECRET_ACCESS_KEY).")
    region: CredentialValue | None = _value(
        "The default region, for example eu-west-3. A key's ARN names the key's own region."
    )
    session_token: CredentialValue | None = _value("The session token of temporary credentials (AWS_SESSION_TOKEN).")
    role_arn: CredentialValue | None = _value(
        "ARN of a role to assume before calling KMS. It is the only role that a file may name."
    )
    endpoint: CredentialValue | None = _value("URL of KMS, if it is not AWS's public one.")
    sts_endpoint: CredentialValue | None = _value("URL of STS, if it is not AWS's public one.")
    allowed_keys: tuple[str, ...] = _patterns(
        "ARNs of the keys that a file may name. * matches any characters except : and /. The default is any key."
    )

    def __attrs_post_init__(self) -> None:
        if (self.key_id is None) != (self.access_key is None):
            raise FieldError("give keyId together with accessKey, or neither")


@attrs.frozen
class AzureProvider:
    """Azure Key Vault. Without a secret or certificate, Krapao's own identity is used where its operator allows it."""

    RULES: ClassVar[tuple[Rule, ...]] = (_at_most_one("clientSecret", "clientCertificate"),)

    tenant_id: CredentialValue | None = _value("The directory's (tenant's) id.")
    client_id: CredentialValue | None = _value("The application's (client's) id.")
    client_secret: CredentialValue | None = _value("The application's secret.")
    client_certificate: CredentialValue | None = _value(
        "The application's certificate with its private key (PEM, without a passphrase), instead of clientSecret."
    )
    authority_host: CredentialValue | None = _value("URL of Microsoft Entra, if it is not the public cloud's.")
    allowed_vaults: tuple[str, ...] = _patterns(
        "URLs of the vaults that a file may name. The default is any vault in Azure's own domains."
    )

    def __attrs_post_init__(self) -> None:
        if self.client_secret is not None and self.client_certificate is not None:
            raise FieldError("give at most one of clientSecret, clientCertificate")


@attrs.frozen
class GcpProvider:
    """Google Cloud KMS. Without a credential, Krapao's own identity is used where its operator allows that."""

    RULES: ClassVar[tuple[Rule, ...]] = (_at_most_one("serviceAccount", "accessToken"),)

    service_account: CredentialValue | None = _value("The service account's key file (JSON).")
    access_token: CredentialValue | None = _value("An OAuth 2.0 access token, instead of serviceAccount.")
    endpoint: CredentialValue | None = _value("URL of KMS, if it is not Google's public one.")
    allowed_keys: tuple[str, ...] = _patterns(
        "Resource ids of the keys that a file may name. * matches any characters except : and /. The default is any "
        "key."
    )

    def __attrs_post_init__(self) -> None:
        if self.service_account is not None and self.access_token is not None:
            raise FieldError("give at most one of serviceAccount, accessToken")


@attrs.frozen
class HuaweiProvider:
    """Huawei Cloud KMS (DEW)."""

    access_key: CredentialValue = api("The access key's id (AK).")
    secret_key: CredentialValue = api("The secret access key (SK).")
    project_id: CredentialValue = api("The project's id in the keys' region.")
    allowed_keys: tuple[str, ...] = _patterns(
        "Keys (REGION:UUID) that a file may name. * matches any characters except : and /. The default is any key."
    )


@attrs.frozen
class PgpProvider:
    """OpenPGP keys."""

    RULES: ClassVar[tuple[Rule, ...]] = (_SOME_KEY,)

    private_key: CredentialValue | None = _value(
        "One or more private keys, as gpg --export-secret-keys writes them, with or without --armor."
    )
    private_keys: tuple[CredentialValue, ...] = _private_keys(
        'Private keys from several Secrets, or from several keys of one Secret (key: "*.asc"), in addition to or '
        "instead of privateKey. Each must exist."
    )
    passphrase: CredentialValue | None = _value("Passphrase of the keys that have one.")

    def __attrs_post_init__(self) -> None:
        _require_some_key(self)


@attrs.frozen
class VaultAppRole:
    """An AppRole login."""

    role_id: CredentialValue = api("The role's id.")
    secret_id: CredentialValue = api("The secret's id.")
    mount_path: CredentialValue | None = _value("Mount path of the auth method. The default is approle.")


@attrs.frozen
class VaultKubernetes:
    """A login with a ServiceAccount's token."""

    role: CredentialValue = api("The role of the auth method.")
    token: CredentialValue | None = _value(
        "The token. The default is that of Krapao's own Pod, where its operator allows that."
    )
    mount_path: CredentialValue | None = _value("Mount path of the auth method. The default is kubernetes.")


@attrs.frozen
class VaultProvider:
    """HashiCorp Vault's or OpenBao's transit engine."""

    RULES: ClassVar[tuple[Rule, ...]] = (_at_most_one("token", "appRole", "kubernetes"),)

    address: CredentialValue | None = _value(
        "URL of the server. The token is sent to no other. The default is the server of the first successful "
        "decryption (status.vaultAddress), unless the operator requires an address."
    )
    token: CredentialValue | None = _value(
        "A token. Without a token or login, the operator's own token is used where the operator allows that."
    )
    app_role: VaultAppRole | None = api("A login with an AppRole.", default=None, nullable=True)
    kubernetes: VaultKubernetes | None = api("A login with a ServiceAccount's token.", default=None, nullable=True)
    namespace: CredentialValue | None = _value("The namespace (Vault Enterprise, OpenBao).")
    ca_bundle: CredentialValue | None = _value(
        "Certificates of the authorities that sign the server's certificate (PEM)."
    )
    allowed_keys: tuple[str, ...] = _patterns(
        "MOUNT/keys/NAME of the keys that a file may name. * matches any characters except : and /. The default is any "
        "key."
    )

    def __attrs_post_init__(self) -> None:
        if sum(each is not None for each in (self.token, self.app_role, self.kubernetes)) > 1:
            raise FieldError("give at most one of token, appRole, kubernetes")


@attrs.frozen
class Provider:
    """Keys and key services that decrypt the files' data keys."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            " || ".join(f"(has(self.{name}) && dyn(self.{name}) != null)" for name in PROVIDERS),
            f"name at least one of {', '.join(PROVIDERS)}",
        ),
    )

    age: AgeProvider | None = api("age identities.", default=None, nullable=True)
    aws: AwsProvider | None = api("Access to AWS KMS.", default=None, nullable=True)
    azure: AzureProvider | None = api("Access to Azure Key Vault.", default=None, nullable=True)
    gcp: GcpProvider | None = api("Access to Google Cloud KMS.", default=None, nullable=True)
    huawei: HuaweiProvider | None = api("Access to Huawei Cloud KMS.", default=None, nullable=True)
    pgp: PgpProvider | None = api("OpenPGP keys.", default=None, nullable=True)
    vault: VaultProvider | None = api("Access to the transit engine of Vault or OpenBao.", default=None, nullable=True)

    def __attrs_post_init__(self) -> None:
        if not self.named():
            raise FieldError(f"name at least one of {', '.join(PROVIDERS)}")

    def named(self) -> tuple[str, ...]:
        """The names of the providers that are given."""
        return tuple(name for name in PROVIDERS if getattr(self, name) is not None)
