"""The Decryptor custom resource, as types.

These classes are the API: the CustomResourceDefinition is generated from them (`jiemi.core.crd`) and Miwen reads
objects with them. The first version's fields keep name, shape and meaning; what was added since is optional.

`read_decryptor` accepts whatever the API server sends. An object whose spec can't be read still has a name, a uid and a
status to write to, so its spec is then the Failure that says what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import attrs

from jiemi.core.errors import Failure
from jiemi.core.fields import FieldError, Rule, api, json_name, structure
from jiemi.core.sensitive import SensitiveText

GROUP = "jiemi.cr"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "Decryptor"
PLURAL = "decryptors"

PROVIDERS = ("age", "aws", "azure", "gcp", "huawei", "pgp", "vault")

_NO_ITEMS: Mapping[str, str] = MappingProxyType({})

HISTORY_LIMIT = 10
"""The most entries of status.history, as in the first version."""


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
        "The value itself. Anyone who may read the Decryptor reads it: prefer a Secret.", default=None, nullable=True
    )
    secret_name: str | None = api(
        "Name of a Secret in the Decryptor's namespace.", default=None, nullable=True, maxLength=253
    )
    key: str | None = api("Key in that Secret's data.", default=None, nullable=True, maxLength=253)

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


def _together(first: str, second: str) -> Rule:
    """A rule: neither or both of two fields."""
    given = [f"(has(self.{name}) && dyn(self.{name}) != null)" for name in (first, second)]
    return Rule(f"{given[0]} == {given[1]}", f"give {first} together with {second}, or neither")


def _at_most_one(*names: str) -> Rule:
    """A rule: no two of some fields."""
    given = [f"(has(self.{name}) && dyn(self.{name}) != null ? 1 : 0)" for name in names]
    return Rule(f"{' + '.join(given)} <= 1", f"give one of {', '.join(names)} at most")


@attrs.frozen
class AgeProvider:
    """age identities."""

    private_key: CredentialValue = api(
        "One or more age identities (AGE-SECRET-KEY-1…), one a line as age-keygen prints them; or OpenSSH private keys."
    )


@attrs.frozen
class AwsProvider:
    """AWS KMS. Without keyId and accessKey Krapao's own identity, where its operator allows that."""

    RULES: ClassVar[tuple[Rule, ...]] = (_together("keyId", "accessKey"),)

    key_id: CredentialValue | None = _value("The access key's id (AWS_ACCESS_KEY_ID).")
    access_key: CredentialValue | None = _value("The secret access key (AWS_SECRET_ACCESS_KEY).")
    region: CredentialValue | None = _value("The region, for example eu-west-3; a key's ARN tells its own.")
    session_token: CredentialValue | None = _value("The session token of temporary credentials (AWS_SESSION_TOKEN).")
    role_arn: CredentialValue | None = _value(
        "A role that is assumed before KMS is asked, and the only one that a file may name."
    )
    endpoint: CredentialValue | None = _value("URL of KMS where it is not AWS's public one.")
    sts_endpoint: CredentialValue | None = _value("URL of STS where it is not AWS's public one.")
    allowed_keys: tuple[str, ...] = _patterns(
        "ARNs of the keys that a file may name; * stands for any characters but : and /. Without it, any key."
    )

    def __attrs_post_init__(self) -> None:
        if (self.key_id is None) != (self.access_key is None):
            raise FieldError("give keyId together with accessKey, or neither")


@attrs.frozen
class AzureProvider:
    """Azure Key Vault. Without a secret or certificate Krapao's own identity, where its operator allows that."""

    RULES: ClassVar[tuple[Rule, ...]] = (_at_most_one("clientSecret", "clientCertificate"),)

    tenant_id: CredentialValue | None = _value("The directory's (tenant's) id.")
    client_id: CredentialValue | None = _value("The application's (client's) id.")
    client_secret: CredentialValue | None = _value("The application's secret.")
    client_certificate: CredentialValue | None = _value(
        "In place of the secret, the application's certificate with its private key (PEM, without passphrase)."
    )
    authority_host: CredentialValue | None = _value("URL of Microsoft Entra where it is not the public cloud's.")
    allowed_vaults: tuple[str, ...] = _patterns(
        "URLs of the vaults that a file may name. Without it, any in Azure's own domains."
    )

    def __attrs_post_init__(self) -> None:
        if self.client_secret is not None and self.client_certificate is not None:
            raise FieldError("give one of clientSecret, clientCertificate at most")


@attrs.frozen
class GcpProvider:
    """Google Cloud KMS. Without a credential Krapao's own identity, where its operator allows that."""

    RULES: ClassVar[tuple[Rule, ...]] = (_at_most_one("serviceAccount", "accessToken"),)

    service_account: CredentialValue | None = _value("The service account's key file (JSON).")
    access_token: CredentialValue | None = _value("In place of it, an OAuth 2.0 access token.")
    endpoint: CredentialValue | None = _value("URL of KMS where it is not Google's public one.")
    allowed_keys: tuple[str, ...] = _patterns(
        "Resource ids of the keys that a file may name; * stands for any characters but : and /. Without it, any key."
    )

    def __attrs_post_init__(self) -> None:
        if self.service_account is not None and self.access_token is not None:
            raise FieldError("give one of serviceAccount, accessToken at most")


@attrs.frozen
class HuaweiProvider:
    """Huawei Cloud KMS (DEW)."""

    access_key: CredentialValue = api("The access key's id (AK).")
    secret_key: CredentialValue = api("The secret access key (SK).")
    project_id: CredentialValue = api("The project's id in the keys' region.")
    allowed_keys: tuple[str, ...] = _patterns(
        "Keys (REGION:UUID) that a file may name; * stands for any characters but : and /. Without it, any key."
    )


@attrs.frozen
class PgpProvider:
    """OpenPGP keys."""

    private_key: CredentialValue = api(
        "The private key, ASCII-armored (gpg --export-secret-keys --armor); several may follow one another."
    )
    passphrase: CredentialValue | None = _value("The key's passphrase, where it has one.")


@attrs.frozen
class VaultAppRole:
    """An AppRole login."""

    role_id: CredentialValue = api("The role's id.")
    secret_id: CredentialValue = api("The secret's id.")
    mount_path: CredentialValue | None = _value("Where the auth method is mounted; approle without it.")


@attrs.frozen
class VaultKubernetes:
    """A login by a ServiceAccount's token."""

    role: CredentialValue = api("The role of the auth method.")
    token: CredentialValue | None = _value(
        "The token. Without it that of Krapao's own Pod, where its operator allows that."
    )
    mount_path: CredentialValue | None = _value("Where the auth method is mounted; kubernetes without it.")


@attrs.frozen
class VaultProvider:
    """HashiCorp Vault's or OpenBao's transit engine."""

    RULES: ClassVar[tuple[Rule, ...]] = (_at_most_one("token", "appRole", "kubernetes"),)

    address: CredentialValue | None = _value(
        "URL of the server, the only one that the token is sent to. Without it the one of the first successful "
        "decryption (status.vaultAddress), where the operator does not require a name."
    )
    token: CredentialValue | None = _value(
        "A token. Without it and a login the operator's own, where the operator allows that."
    )
    app_role: VaultAppRole | None = api("Log in by AppRole.", default=None, nullable=True)
    kubernetes: VaultKubernetes | None = api("Log in by a ServiceAccount's token.", default=None, nullable=True)
    namespace: CredentialValue | None = _value("The namespace (Vault Enterprise, OpenBao).")
    ca_bundle: CredentialValue | None = _value("Authorities that sign the server's certificate (PEM).")
    allowed_keys: tuple[str, ...] = _patterns(
        "MOUNT/keys/NAME of the keys that a file may name; * stands for any characters but : and /. Without it, any."
    )

    def __attrs_post_init__(self) -> None:
        if sum(each is not None for each in (self.token, self.app_role, self.kubernetes)) > 1:
            raise FieldError("give one of token, appRole, kubernetes at most")


@attrs.frozen
class Provider:
    """What opens the file's data key."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            " || ".join(f"(has(self.{name}) && dyn(self.{name}) != null)" for name in PROVIDERS),
            f"name at least one of {', '.join(PROVIDERS)}",
        ),
    )

    age: AgeProvider | None = api("Decrypt with age identities.", default=None, nullable=True)
    aws: AwsProvider | None = api("Decrypt with AWS KMS.", default=None, nullable=True)
    azure: AzureProvider | None = api("Decrypt with Azure Key Vault.", default=None, nullable=True)
    gcp: GcpProvider | None = api("Decrypt with Google Cloud KMS.", default=None, nullable=True)
    huawei: HuaweiProvider | None = api("Decrypt with Huawei Cloud KMS.", default=None, nullable=True)
    pgp: PgpProvider | None = api("Decrypt with an OpenPGP key.", default=None, nullable=True)
    vault: VaultProvider | None = api("Decrypt with Vault's or OpenBao's transit engine.", default=None, nullable=True)

    def __attrs_post_init__(self) -> None:
        if not self.named():
            raise FieldError(f"name at least one of {', '.join(PROVIDERS)}")

    def named(self) -> tuple[str, ...]:
        """The names of the providers that are given."""
        return tuple(name for name in PROVIDERS if getattr(self, name) is not None)


@attrs.frozen
class RepositoryCredentials:
    """What the repository's host asks for."""

    username: CredentialValue | None = api("User name, for https.", default=None, nullable=True)
    token: CredentialValue | None = api("Access token or password, for https.", default=None, nullable=True)
    ssh: CredentialValue | None = api(
        "Private key, without passphrase, in OpenSSH or PEM form, for ssh.", default=None, nullable=True
    )
    known_hosts: CredentialValue | None = api(
        "Lines of a known_hosts file that vouch for the ssh host, beside the operator's own.",
        default=None,
        nullable=True,
    )


@attrs.frozen
class RepositoryRef:
    """What is followed in the repository."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule("!(has(self.branch) && has(self.tag))", "branch contradicts tag: give one or the other"),
    )

    branch: str | None = api("Name of the branch to follow.", default=None, minLength=1, maxLength=255)
    tag: str | None = api("Name of the tag to follow.", default=None, minLength=1, maxLength=255)

    def __attrs_post_init__(self) -> None:
        if self.branch is not None and self.tag is not None:
            raise FieldError("branch contradicts tag: give one or the other")


@attrs.frozen
class Repository:
    """A git repository."""

    url: str = api(
        "https://, http://, ssh:// or git:// address, or user@host:path. It must hold no password.",
        minLength=1,
        maxLength=2048,
    )
    credentials: RepositoryCredentials | None = api(
        "What the host asks for; nothing for a public repository.", default=None, nullable=True
    )
    ref: RepositoryRef | None = api(
        "What is followed; without it, the repository's default branch (HEAD).", default=None
    )


@attrs.frozen
class SourceSpec:
    """Where the encrypted file is."""

    repository: Repository = api("The git repository.")
    file_to_decrypt: str = api(
        "Path of the encrypted file in the repository. Its ending tells sops's format: .yaml, .yml, .json, .env, .ini; "
        "any other is binary. Without target it must hold Kubernetes objects.",
        minLength=1,
        maxLength=4096,
    )
    sops_path: str | None = api(
        "Path of the .sops.yaml in the repository. Decrypting does not need it; where it is named it must exist.",
        default=None,
        nullable=True,
        maxLength=4096,
    )


@attrs.frozen
class TargetSpec:
    """The object that a file which holds no Kubernetes objects becomes."""

    name: str = api("Name of the object; its namespace is the Decryptor's.", minLength=1, maxLength=253)
    kind: str = api("Secret or ConfigMap.", default="Secret", enum=["Secret", "ConfigMap"])
    type: str | None = api("Type of the Secret, for example kubernetes.io/tls.", default=None, maxLength=253)
    labels: Mapping[str, str] = api("Labels of the object.", default=_NO_ITEMS, maxProperties=64)
    annotations: Mapping[str, str] = api("Annotations of the object.", default=_NO_ITEMS, maxProperties=64)
    key: str | None = api(
        "Key under which the whole file is put. Without it, each variable of a dotenv file and each text on the top of "
        "a YAML or JSON file is a key of its own, and INI and binary files are put under their name without .enc.",
        default=None,
        minLength=1,
        maxLength=253,
        pattern="^[-._a-zA-Z0-9]+$",
    )

    def __attrs_post_init__(self) -> None:
        if self.kind not in ("Secret", "ConfigMap"):
            raise FieldError("must be Secret or ConfigMap @ kind")


@attrs.frozen
class DecryptorSpec:
    """What is to be decrypted and applied."""

    provider: Provider = api("What opens the file's data key.")
    source: SourceSpec = api("Where the encrypted file is.")
    target: TargetSpec | None = api(
        "Put the file into a Secret or ConfigMap, in place of applying the objects in it.", default=None, nullable=True
    )


@attrs.frozen
class StatusRecord:
    """One deployment."""

    id: int = api("Counts the deployments of this Decryptor, from 1; 0 where there was none yet.", minimum=0)
    revision: str = api("The full commit hash that is deployed; empty where none is yet.")
    file_to_decrypt: str = api("The file that was decrypted.", json_name="file_to_decrypt")
    deployed_at: str | None = api(
        "When it was deployed (RFC 3339); null where nothing was yet.", json_name="deployed_at", nullable=True
    )
    status: str = api("Sync, or NotSync when the cluster does not follow the repository.", enum=["Sync", "NotSync"])
    error_message: str | None = api(
        "Reason and message of what is wrong; null when nothing is.",
        default=None,
        json_name="error_message",
        nullable=True,
    )


@attrs.frozen
class Condition:
    """One condition, as in metav1.Condition."""

    type: str = api("Kind of condition, for example Ready.", maxLength=316)
    status: str = api("True, False or Unknown.", enum=["True", "False", "Unknown"])
    reason: str = api("Why, in one word.", maxLength=1024)
    message: str = api("Why, in a sentence; never a secret's value.", maxLength=32768)
    last_transition_time: str = api("When the status changed last (RFC 3339).", format="date-time")
    observed_generation: int | None = api("The spec's generation that this is about.", default=None, minimum=0)


@attrs.frozen
class EncryptionStatus:
    """How a file is encrypted."""

    recipients: tuple[str, ...] = api(
        "Whom it is encrypted for: kind and public name of each.", default=(), maxItems=64
    )
    last_modified: str | None = api("When it was encrypted last (RFC 3339).", default=None)
    sops_version: str | None = api("The sops release that wrote it.", default=None)
    stale_recipients: tuple[str, ...] = api(
        "Those of them that the repository's .sops.yaml does not name.", default=(), maxItems=64
    )
    key_expires_at: str | None = api(
        "When the first of the keys expires that opened it (RFC 3339); absent where none does.", default=None
    )


@attrs.frozen
class DecryptorStatus:
    """What Miwen says of a Decryptor."""

    current: StatusRecord = api("The deployment that is in the cluster now.")
    history: tuple[StatusRecord, ...] = api(
        "The deployments before it, the newest last.", default=(), nullable=True, maxItems=HISTORY_LIMIT
    )
    conditions: tuple[Condition, ...] = api(
        "Conditions; Ready is True while the cluster follows the repository.", default=(), maxItems=16
    )
    observed_generation: int | None = api("The spec's generation that this status is about.", default=None, minimum=0)
    last_attempted_revision: str | None = api(
        "The full commit hash that was tried last, deployed or not.", default=None
    )
    encryption: EncryptionStatus | None = api("How the file that is deployed is encrypted, as it says.", default=None)
    vault_address: str | None = api(
        "The Vault server that the provider's token is sent to, because the first successful decryption used it and "
        "spec.provider.vault.address names none.",
        default=None,
    )


@attrs.frozen
class ObjectMeta:
    """Which object it is, and which state of it."""

    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: str
    deleting: bool

    @property
    def key(self) -> tuple[str, str]:
        return (self.namespace, self.name)


@attrs.frozen
class Decryptor:
    """A Decryptor object as it was read.

    Attributes:
        meta: which object.
        spec: what it wants, or what is wrong with that.
        status: what was last written, or None (never, or by someone who wrote what can't be read).
    """

    meta: ObjectMeta
    spec: DecryptorSpec | Failure
    status: DecryptorStatus | None


def read_decryptor(obj: Mapping[str, Any]) -> Decryptor:
    """Read an object that the API server sent.

    Raises:
        FieldError: it has no usable metadata, so that it is no object of the API server's at all.
    """
    meta = _read_meta(obj.get("metadata"))
    spec: DecryptorSpec | Failure
    try:
        spec = structure(obj.get("spec"), DecryptorSpec, "spec")
    except FieldError as error:
        spec = Failure("InvalidSpec", str(error))
    return Decryptor(meta, spec, _read_status(obj.get("status")))


def _read_meta(value: Any) -> ObjectMeta:
    if not isinstance(value, Mapping):
        raise FieldError("must be an object @ metadata")
    texts = [value.get(name) for name in ("namespace", "name", "uid", "resourceVersion")]
    generation = value.get("generation", 0)
    if not all(isinstance(text, str) and text for text in texts) or not isinstance(generation, int):
        raise FieldError("namespace, name, uid, resourceVersion and generation are needed @ metadata")
    namespace, name, uid, resource_version = (str(text) for text in texts)
    return ObjectMeta(namespace, name, uid, generation, resource_version, value.get("deletionTimestamp") is not None)


def _read_status(value: Any) -> DecryptorStatus | None:
    if not isinstance(value, Mapping) or not value:
        return None
    plain = {name: part for name, part in value.items() if part is not None}
    try:
        return structure(plain, DecryptorStatus, "status")
    except FieldError:
        return None


def credential_values(spec: DecryptorSpec) -> Iterator[tuple[str, CredentialValue]]:
    """Every credential value of the spec with its path: ("spec.provider.age.privateKey", …)."""
    yield from _credential_values(spec, "spec")


def _credential_values(value: Any, at: str) -> Iterator[tuple[str, CredentialValue]]:
    if isinstance(value, CredentialValue):
        yield at, value
    elif attrs.has(type(value)):
        for attribute in attrs.fields(type(value)):
            yield from _credential_values(getattr(value, attribute.name), f"{at}.{json_name(attribute)}")
