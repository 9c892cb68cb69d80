"""The Decryptor custom resource, as types.

These classes are the API: the CustomResourceDefinition is generated from them (`jiemi.core.api.crd`) and Miwen reads
objects with them. The first version's fields keep name, shape and meaning; what was added since is optional.

`read_decryptor` accepts whatever the API server sends. An object whose spec can't be read still has a name, a uid and a
status to write to, so its spec is then the Failure that says what is wrong.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import attrs

from jiemi.core.api.decryptor_status import Condition, DecryptorStatus
from jiemi.core.api.durations import DURATION_PATTERN, duration_seconds
from jiemi.core.api.fields import FieldError, Rule, api, json_name, structure, unstructure
from jiemi.core.api.file_formats import FileFormat, FormatOfFile, format_field, format_of_file, require_format
from jiemi.core.api.provider import CredentialValue, Provider
from jiemi.core.api.status_reading import Status
from jiemi.core.content.globs import is_glob
from jiemi.core.credential_limits import limit_bytes, size_bytes
from jiemi.core.errors import Failure
from jiemi.core.memory import held_bytes

GROUP = "jiemi.cr"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "Decryptor"
PLURAL = "decryptors"

_NO_ITEMS: Mapping[str, str] = MappingProxyType({})

_MAX_DESCRIBED = 4096
"""Characters of the files' description in status; a path is never cut."""

_MAX_ANNOTATION = 1_000

FINALIZER = f"{GROUP}/cleanup"
"""Keeps a Decryptor that is deleted until its objects are (deletionPolicy: Delete)."""

RECONCILE_AT = f"{GROUP}/reconcile-at"
"""An annotation of the Decryptor: another value of it makes Miwen deploy again now."""


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
    commit: str | None = api(
        "Full hash of a commit. It is deployed, and branch and tag are not followed, until this is taken out again.",
        default=None,
        pattern="^([0-9a-f]{40}|[0-9a-f]{64})$",
    )

    def __attrs_post_init__(self) -> None:
        if self.branch is not None and self.tag is not None:
            raise FieldError("branch contradicts tag: give one or the other")
        if self.commit is not None and re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", self.commit) is None:
            raise FieldError(
                "must be a full commit hash in lower case @ commit",
                "Give all 40 (or 64) characters of the hash, as `git rev-parse` prints it.",
            )


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
    """Where the files are. At least one of fileToDecrypt and files is given."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(has(self.fileToDecrypt) && dyn(self.fileToDecrypt) != null) || (has(self.files) && size(self.files) > 0)",
            "give fileToDecrypt or files",
        ),
    )

    repository: Repository = api("The git repository.")
    file_to_decrypt: str | None = api(
        "Path of the encrypted file in the repository, not a glob. Its ending tells sops's format: .yaml, .yml, .json, "
        ".env, .ini; any other is binary, unless format or formats states it. Without target it must hold Kubernetes "
        "objects.",
        default=None,
        minLength=1,
        maxLength=4096,
    )
    files: tuple[str, ...] = api(
        "Paths and globs of files, beside or in place of fileToDecrypt; files that are not encrypted are applied too. "
        "* stands for any characters but /, a folder ** for any number of folders: apps/**/*.enc.yaml.",
        default=(),
        maxItems=100,
        items={"minLength": 1, "maxLength": 1024},
    )
    exclude: tuple[str, ...] = api(
        "Globs of files and folders that the globs of files leave out; one without / is for any folder: *.md, charts/.",
        default=(),
        maxItems=100,
        items={"minLength": 1, "maxLength": 1024},
    )
    format: str | None = format_field(
        "sops's format of every file, in place of what its name tells, as sops encrypt --input-type: dotenv for "
        ".env.production, yaml for values.yaml.enc, json for .dockerconfigjson.",
        default=None,
        nullable=True,
    )
    formats: tuple[FileFormat, ...] = api(
        "The format of some files, where it is not one for all; the first that matches counts, before format.",
        default=(),
        maxItems=50,
    )
    sops_path: str | None = api(
        "Path of the .sops.yaml in the repository. Decrypting does not need it; where it is named it must exist.",
        default=None,
        nullable=True,
        maxLength=4096,
    )

    def __attrs_post_init__(self) -> None:
        if self.file_to_decrypt is None and not self.files:
            raise FieldError("give fileToDecrypt or files")
        require_format(self.format)
        if self.file_to_decrypt is not None and is_glob(self.file_to_decrypt):
            # What it names must be encrypted and hold an object; of what a glob matches, that can't be said.
            raise FieldError(
                "must be the path of one file, not a glob @ fileToDecrypt", "Put the glob into spec.source.files."
            )

    def format_of(self, path: str) -> FormatOfFile:
        """The format of the file at a path."""
        return format_of_file(path, self.formats, self.format)

    @property
    def described(self) -> str:
        """The files in a few words: the path of fileToDecrypt, or the globs."""
        named = ((self.file_to_decrypt,) if self.file_to_decrypt is not None else ()) + self.files
        text = ", ".join(named)
        return text if len(text) <= _MAX_DESCRIBED else f"{text[: _MAX_DESCRIBED - 1]}…"


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
class CommonMetadata:
    """What is put on every object, over what its manifest says."""

    labels: Mapping[str, str] = api("Labels of every object.", default=_NO_ITEMS, maxProperties=64)
    annotations: Mapping[str, str] = api("Annotations of every object.", default=_NO_ITEMS, maxProperties=64)


@attrs.frozen
class Dependency:
    """A Decryptor that must be ready first."""

    name: str = api("Its name.", minLength=1, maxLength=253)
    namespace: str | None = api("Its namespace; without it, this Decryptor's.", default=None, maxLength=63)


def _one_of(description: str, *values: str) -> Any:
    """A text out of a few; the first is the default."""
    return api(f"{description} {values[0]} without it.", default=values[0], enum=list(values))


def _duration(description: str) -> Any:
    """An optional duration."""
    return api(f"{description} For example 90s, 10m, 1h30m.", default=None, maxLength=32, pattern=DURATION_PATTERN)


@attrs.frozen
class DecryptorSpec:
    """What is to be decrypted and applied."""

    provider: Provider = api("What opens the file's data key.")
    source: SourceSpec = api("Where the files are.")
    target: TargetSpec | None = api(
        "Put what fileToDecrypt holds, and files that hold no Kubernetes objects, into a Secret or ConfigMap.",
        default=None,
        nullable=True,
    )
    encrypted_kinds: tuple[str, ...] = api(
        "Kinds of custom resources, each as KIND.GROUP (ClusterIssuer.cert-manager.io), that encrypted files may hold "
        "though only a glob of source.files matches the file. Their values are in the cluster in clear.",
        default=(),
        maxItems=50,
        items={"minLength": 3, "maxLength": 317, "pattern": r"^[A-Za-z0-9]+(\.[a-z0-9-]+)+$"},
    )
    target_namespace: str | None = api(
        "Namespace of every object that has one, whatever its manifest says.", default=None, minLength=1, maxLength=63
    )
    common_metadata: CommonMetadata | None = api("Labels and annotations of every object.", default=None)
    apply_policy: str = _one_of(
        "BestEffort applies every object that can be; Atomic asks the API server about all first (a dry run) and "
        "applies none where one is refused.",
        "BestEffort",
        "Atomic",
    )
    conflict_policy: str = _one_of(
        "What happens with fields that another field manager owns with another value: TakeOver, or Refuse the object.",
        "TakeOver",
        "Refuse",
    )
    force: bool = api(
        "Delete objects that the API server does not let be changed to what git describes (immutable fields, for "
        "example), and recreate them.",
        default=False,
    )
    prune: bool = api(
        "Delete objects that were applied and are no longer in the repository, except those annotated "
        "jiemi.cr/prune: disabled.",
        default=False,
    )
    allow_empty: bool = api(
        "Whether no object at all is a state that may be followed (with prune: everything is deleted).", default=False
    )
    deletion_policy: str = _one_of(
        "What becomes of the objects when the Decryptor is deleted: they stay (Orphan), or are deleted.",
        "Orphan",
        "Delete",
    )
    drift_policy: str = _one_of(
        "What happens when another changes or deletes an object: it is applied again (Correct), or only told (Report).",
        "Correct",
        "Report",
    )
    mode: str = _one_of(
        "Apply follows the repository; DryRun only computes what an apply would do, into status.plan.",
        "Apply",
        "DryRun",
    )
    wait: bool = api("Be ready only when the applied objects are, within timeout.", default=False)
    service_account_name: str | None = api(
        "ServiceAccount in the Decryptor's namespace that everything is applied and deleted as.",
        default=None,
        minLength=1,
        maxLength=253,
    )
    depends_on: tuple[Dependency, ...] = api("Decryptors that must be ready first.", default=(), maxItems=50)
    suspend: bool = api("Do nothing while this is true.", default=False)
    interval: str | None = _duration("How often the repository is looked at; Miwen's --interval without it.")
    retry_interval: str | None = _duration("How soon a failure is tried again; growing pauses without it.")
    timeout: str | None = _duration("The longest that decrypting and applying may take; 5m without it.")

    def __attrs_post_init__(self) -> None:
        for name, value, allowed in (
            ("applyPolicy", self.apply_policy, ("BestEffort", "Atomic")),
            ("conflictPolicy", self.conflict_policy, ("TakeOver", "Refuse")),
            ("deletionPolicy", self.deletion_policy, ("Orphan", "Delete")),
            ("driftPolicy", self.drift_policy, ("Correct", "Report")),
            ("mode", self.mode, ("Apply", "DryRun")),
        ):
            if value not in allowed:
                raise FieldError(f"must be {' or '.join(allowed)} @ {name}")
        for name, text in (
            ("interval", self.interval),
            ("retryInterval", self.retry_interval),
            ("timeout", self.timeout),
        ):
            if text is not None:
                try:
                    seconds = duration_seconds(text)
                except ValueError:
                    raise FieldError(f"must be a duration such as 90s, 10m or 1h30m @ {name}") from None
                if seconds < 1:
                    raise FieldError(f"must be 1s at least @ {name}")


@attrs.frozen
class ObjectMeta:
    """Which object it is, and which state of it.

    Attributes:
        deleting_since: when its deletion was asked for (RFC 3339), or None.
        finalizers: `FINALIZER` where it is there. Those of others are not kept: nobody here asks for them, and
            there may be a mebibyte of them in each of many Decryptors.
        reconcile_at: the annotation `RECONCILE_AT`, or None.
    """

    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: str
    deleting_since: str | None = None
    finalizers: tuple[str, ...] = ()
    reconcile_at: str | None = None

    @property
    def deleting(self) -> bool:
        return self.deleting_since is not None

    @property
    def key(self) -> tuple[str, str]:
        return (self.namespace, self.name)


def _unread(status: Any) -> Status:
    if isinstance(status, Status):
        return status
    return Status(unstructure(status) if status is not None else None, "")


@attrs.frozen
class Decryptor:
    """A Decryptor object as it was read.

    Attributes:
        meta: which object.
        spec: what it wants, or what is wrong with that.
        held_bytes: about how much memory it takes, for as long as it is followed.
    """

    meta: ObjectMeta
    spec: DecryptorSpec | Failure
    _status: Status = attrs.field(alias="status", converter=_unread)
    held_bytes: int = attrs.field(default=0, eq=False)

    @property
    def status(self) -> DecryptorStatus | None:
        """What was last written, as far as it can be read; None: nothing. It is read when it is first asked for, which
        may take 10 ms and more; `ready` and `observed_generation` don't."""
        return self._status.value

    @property
    def without_status(self) -> Decryptor:
        """The same, with no more of its status than `ready` and `observed_generation`. Who follows it holds its own."""
        return attrs.evolve(self, status=self._status.of_readiness())

    @property
    def ready(self) -> Condition | None:
        """The status's condition Ready."""
        return self._status.ready

    @property
    def observed_generation(self) -> int | None:
        """The generation that the status is about."""
        return self._status.observed_generation


def read_decryptor(obj: Mapping[str, Any]) -> Decryptor:
    """Read an object that the API server sent.

    Raises:
        FieldError: it has no usable metadata, so that it is no object of the API server's at all.
    """
    meta = _read_meta(obj.get("metadata"))
    spec: DecryptorSpec | Failure
    try:
        spec = structure(obj.get("spec"), DecryptorSpec, "spec")
        _require_bounded(spec)
    except FieldError as error:
        spec = Failure("InvalidSpec", str(error), error.remedy)
    described = spec.source.described if isinstance(spec, DecryptorSpec) else ""
    # Of a status there are also indexes by object (measured: 2.7 MiB for 4,000 entries, of 1.8 told).
    size = held_bytes(obj.get("status")) * 3 // 2
    size += held_bytes(obj.get("spec")) if isinstance(spec, DecryptorSpec) else 0
    return Decryptor(meta, spec, Status(obj.get("status"), described), size)


def _require_bounded(spec: DecryptorSpec) -> None:
    """Refuse literals beyond their bounds, which an object may have that is older than its CustomResourceDefinition.

    Raises:
        FieldError: names the field.
    """
    for at, value in credential_values(spec):
        if value.literal is not None and size_bytes(value.literal) > limit_bytes(at):
            size, limit = size_bytes(value.literal), limit_bytes(at)
            raise FieldError(
                f"the value has {size} bytes, of {limit} at most @ {at}.literal", "Put the credential alone there."
            )


def _read_meta(value: Any) -> ObjectMeta:
    if not isinstance(value, Mapping):
        raise FieldError("must be an object @ metadata")
    texts = [value.get(name) for name in ("namespace", "name", "uid", "resourceVersion")]
    generation = value.get("generation", 0)
    if not all(isinstance(text, str) and text for text in texts) or not isinstance(generation, int):
        raise FieldError("namespace, name, uid, resourceVersion and generation are needed @ metadata")
    namespace, name, uid, resource_version = (str(text) for text in texts)
    deleting, finalizers = value.get("deletionTimestamp"), value.get("finalizers")
    annotations = value.get("annotations")
    reconcile_at = annotations.get(RECONCILE_AT) if isinstance(annotations, Mapping) else None
    return ObjectMeta(
        namespace,
        name,
        uid,
        generation,
        resource_version,
        None if deleting is None else str(deleting),
        (FINALIZER,) if isinstance(finalizers, list) and FINALIZER in finalizers else (),
        str(reconcile_at)[:_MAX_ANNOTATION] if reconcile_at is not None else None,
    )


def credential_values(spec: DecryptorSpec) -> Iterator[tuple[str, CredentialValue]]:
    """Every credential value of the spec with its path: ("spec.provider.age.privateKey", …)."""
    yield from _credential_values(spec, "spec")


def _credential_values(value: Any, at: str) -> Iterator[tuple[str, CredentialValue]]:
    if isinstance(value, CredentialValue):
        yield at, value
    elif (names := _names_of(value.__class__)) is not None:
        for name, in_json in names:
            yield from _credential_values(getattr(value, name), f"{at}.{in_json}")
    elif isinstance(value, tuple):
        for index, each in enumerate(value):
            yield from _credential_values(each, f"{at}[{index}]")


@functools.cache
def _names_of(cls: type[Any]) -> tuple[tuple[str, str], ...] | None:
    """The attributes of an API class, as they are called here and in JSON; None for any other class."""
    if not attrs.has(cls):
        return None
    return tuple((attribute.name, json_name(attribute)) for attribute in attrs.fields(cls))
