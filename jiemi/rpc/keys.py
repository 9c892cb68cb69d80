"""What may open a file's data key: the credentials of one Decryptor, a value for each key service.

Each stands for one provider of the spec (`jiemi.core.api.provider`), with its references resolved. `ambient` says
that it names no credential, so that the identity of Krapao's own Pod is meant; Krapao decides whether that may be used.

What a key *allows* bounds what a file may make of it: the file's writer chooses the key service, the role and the key
that are asked, and may not be who wrote the Decryptor.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import attrs

from jiemi.core.sensitive import SensitiveText

NO_SERVER = ""
"""A pattern that takes no server's address."""


@attrs.frozen
class KeyOrigin:
    """Where lines of a private key come from, for messages about them.

    Attributes:
        name: the field, Secret and key: "spec.provider.age.privateKeys[1] (key 'b' of Secret default/keys)".
        lines: how many lines, each with its end, behind those of the origin before.
    """

    name: str
    lines: int


@attrs.frozen
class AgeKey:
    """age identities, one a line as `age-keygen` prints them (comments allowed), and OpenSSH private keys in PEM.

    Attributes:
        origins: where the lines come from, if from several places.
    """

    provider: ClassVar[str] = "age"
    private_key: SensitiveText
    origins: tuple[KeyOrigin, ...] = ()


@attrs.frozen
class PgpKey:
    """OpenPGP private keys, ASCII-armored as `gpg --export-secret-keys --armor` prints them.

    Attributes:
        passphrase: of those that have one, or None.
        origins: where the lines come from, if from several places.
    """

    provider: ClassVar[str] = "pgp"
    private_key: SensitiveText
    passphrase: SensitiveText | None = None
    origins: tuple[KeyOrigin, ...] = ()


def named_parts(key: AgeKey | PgpKey, field: str) -> Iterator[tuple[str, str]]:
    """A private key's text by where it comes from, with the name of that.

    Args:
        field: the name where the key does not say more.
    """
    lines = key.private_key.reveal().splitlines(keepends=True) if key.origins else []
    for origin in key.origins:
        yield origin.name, "".join(lines[: origin.lines])
        del lines[: origin.lines]
    if lines or not key.origins:
        yield field, "".join(lines) if key.origins else key.private_key.reveal()


@attrs.frozen(kw_only=True)
class AwsKey:
    """An identity for AWS KMS.

    Attributes:
        key_id, access_key, session_token: as AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN.
        region: where nothing else names one; a key's ARN names its own.
        role_arn: the role that is assumed before KMS is asked, and the only one that a file may name.
        endpoint, sts_endpoint: URLs of KMS and STS where they are not AWS's public ones.
        allowed_keys: patterns of ARNs (`*` for any characters but `:` and `/`) that may be asked; empty for all.
    """

    provider: ClassVar[str] = "aws"
    key_id: SensitiveText | None = None
    access_key: SensitiveText | None = None
    session_token: SensitiveText | None = None
    region: SensitiveText | None = None
    role_arn: SensitiveText | None = None
    endpoint: SensitiveText | None = None
    sts_endpoint: SensitiveText | None = None
    allowed_keys: tuple[str, ...] = ()

    @property
    def ambient(self) -> bool:
        return self.key_id is None


@attrs.frozen(kw_only=True)
class GcpKey:
    """An identity for Google Cloud KMS.

    Attributes:
        service_account: a service account's key file (JSON).
        access_token: an OAuth 2.0 access token, in place of it.
        endpoint: URL of KMS where it is not Google's public one.
        allowed_keys: patterns of resource ids that may be asked; empty for all.
    """

    provider: ClassVar[str] = "gcp"
    service_account: SensitiveText | None = None
    access_token: SensitiveText | None = None
    endpoint: SensitiveText | None = None
    allowed_keys: tuple[str, ...] = ()

    @property
    def ambient(self) -> bool:
        return self.service_account is None and self.access_token is None


@attrs.frozen(kw_only=True)
class AzureKey:
    """An identity for Azure Key Vault.

    Attributes:
        tenant_id, client_id: of the application.
        client_secret: its secret.
        client_certificate: in place of that, its certificate with the private key (PEM).
        authority_host: URL of Microsoft Entra where it is not the public cloud's.
        allowed_vaults: URLs of vaults that may be asked; empty for all of Azure's own domains.
    """

    provider: ClassVar[str] = "azure"
    tenant_id: SensitiveText | None = None
    client_id: SensitiveText | None = None
    client_secret: SensitiveText | None = None
    client_certificate: SensitiveText | None = None
    authority_host: SensitiveText | None = None
    allowed_vaults: tuple[str, ...] = ()

    @property
    def ambient(self) -> bool:
        return self.client_secret is None and self.client_certificate is None


@attrs.frozen(kw_only=True)
class VaultKey:
    """An identity for the transit engine of HashiCorp Vault or OpenBao.

    Attributes:
        address: URL of the server; the token is sent there and nowhere else. None where the spec names none.
        pinned_address: with no address, the one that an earlier decryption used; or None.
        token: a token.
        role_id, secret_id, app_role_mount: in place of it, an AppRole login.
        kubernetes_role, kubernetes_token, kubernetes_mount: in place of it, a login by a ServiceAccount's token;
            without a token by that of Krapao's own Pod.
        namespace: of Vault Enterprise or OpenBao.
        ca_bundle: authorities (PEM) that sign the server's certificate.
        allowed_keys: patterns of MOUNT/keys/NAME that may be asked; empty for all.
        allowed_addresses: where the operator's policy bounds which servers get the token, whoever names them: patterns
            of those that do, beside those of Krapao's own operator (`NO_SERVER` where there are none). Empty where it
            does not.
    """

    provider: ClassVar[str] = "vault"
    address: SensitiveText | None = None
    pinned_address: str | None = None
    token: SensitiveText | None = None
    role_id: SensitiveText | None = None
    secret_id: SensitiveText | None = None
    app_role_mount: SensitiveText | None = None
    kubernetes_role: SensitiveText | None = None
    kubernetes_token: SensitiveText | None = None
    kubernetes_mount: SensitiveText | None = None
    namespace: SensitiveText | None = None
    ca_bundle: SensitiveText | None = None
    allowed_keys: tuple[str, ...] = ()
    allowed_addresses: tuple[str, ...] = ()

    @property
    def ambient(self) -> bool:
        return self.token is None and self.role_id is None and self.kubernetes_token is None


@attrs.frozen(kw_only=True)
class HuaweiKey:
    """An identity for Huawei Cloud KMS (DEW).

    Attributes:
        access_key, secret_key: the access key's two halves (AK, SK).
        project_id: of the region that the keys are in.
        allowed_keys: patterns of REGION:UUID that may be asked; empty for all.
    """

    provider: ClassVar[str] = "huawei"
    access_key: SensitiveText
    secret_key: SensitiveText
    project_id: SensitiveText
    allowed_keys: tuple[str, ...] = ()


DecryptionKey = AgeKey | PgpKey | AwsKey | GcpKey | AzureKey | VaultKey | HuaweiKey
