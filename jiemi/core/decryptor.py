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

from jiemi.core.decryptor_status import DecryptorStatus
from jiemi.core.errors import Failure
from jiemi.core.fields import FieldError, Rule, api, json_name, structure
from jiemi.core.provider import CredentialValue, Provider

GROUP = "jiemi.cr"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "Decryptor"
PLURAL = "decryptors"

_NO_ITEMS: Mapping[str, str] = MappingProxyType({})


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
