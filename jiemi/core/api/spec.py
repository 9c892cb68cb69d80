"""The spec of a Decryptor, as types.

The CustomResourceDefinition is generated from these classes (`jiemi.core.api.crd`), and so is the table of docs/api.md.
The first version's fields keep name, shape and meaning; what was added since is optional. A rule that needs two fields
stands with its class.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import attrs

from jiemi.core.api.durations import DURATION_PATTERN, duration_seconds
from jiemi.core.api.fields import FieldError, api, json_name
from jiemi.core.api.provider import CredentialValue, Provider
from jiemi.core.api.source import SourceSpec
from jiemi.core.names import NAMESPACE_RULE, is_namespace_name, is_object_name, name_rule

_NO_ITEMS: Mapping[str, str] = MappingProxyType({})


@attrs.frozen
class TargetSpec:
    """The object that is made from a file without Kubernetes objects."""

    name: str = api("Name of the object. It is in the Decryptor's namespace.", minLength=1, maxLength=253)
    kind: str = api("Kind of the object: Secret or ConfigMap.", default="Secret", enum=["Secret", "ConfigMap"])
    type: str | None = api("Type of the Secret, for example kubernetes.io/tls.", default=None, maxLength=253)
    labels: Mapping[str, str] = api("Labels of the object.", default=_NO_ITEMS, maxProperties=64)
    annotations: Mapping[str, str] = api("Annotations of the object.", default=_NO_ITEMS, maxProperties=64)
    key: str | None = api(
        "Key that holds the whole file. Without it, each variable of a dotenv file and each top-level text of a YAML "
        "or JSON file becomes a key, and an INI or binary file is stored under its name without .enc.",
        default=None,
        minLength=1,
        maxLength=253,
        pattern="^[-._a-zA-Z0-9]+$",
    )

    def __attrs_post_init__(self) -> None:
        if self.kind not in ("Secret", "ConfigMap"):
            raise FieldError("must be Secret or ConfigMap @ kind")
        _require_name(self.name, "name")


@attrs.frozen
class CommonMetadata:
    """Labels and annotations that are set on every object and override those of its manifest."""

    labels: Mapping[str, str] = api("Labels that are set on every object.", default=_NO_ITEMS, maxProperties=64)
    annotations: Mapping[str, str] = api(
        "Annotations that are set on every object.", default=_NO_ITEMS, maxProperties=64
    )


@attrs.frozen
class Dependency:
    """A Decryptor that must be ready first."""

    name: str = api("Name of the Decryptor.", minLength=1, maxLength=253)
    namespace: str | None = api(
        "Namespace of the Decryptor. The default is the namespace of this one.", default=None, maxLength=63
    )

    def __attrs_post_init__(self) -> None:
        if "/" in self.name:
            raise FieldError("must be a name alone @ name", "Put the namespace into `namespace` beside it.")


def _require_name(name: str, field: str) -> None:
    """Refuse what no Secret, ConfigMap or ServiceAccount can be called."""
    if not is_object_name(name, group="", kind="Secret"):
        rule = name_rule(group="", kind="Secret")
        raise FieldError(f"must be a name that an object can have @ {field}", f"Use {rule}.")


def _one_of(description: str, *values: str) -> Any:
    """A field that takes one of a few texts; the first is the default."""
    return api(f"{description} The default is {values[0]}.", default=values[0], enum=list(values))


def _duration(description: str) -> Any:
    """An optional duration."""
    return api(
        f"{description} It is written as 90s, 10m or 1h30m.", default=None, maxLength=32, pattern=DURATION_PATTERN
    )


@attrs.frozen
class DecryptorSpec:
    """The files to decrypt, the keys for them, and how their objects are applied."""

    provider: Provider = api("Keys and key services that decrypt the files' data keys.")
    source: SourceSpec = api("Repository and files to follow.")
    target: TargetSpec | None = api(
        "Secret or ConfigMap that receives the content of fileToDecrypt and of files without Kubernetes objects.",
        default=None,
        nullable=True,
    )
    encrypted_kinds: tuple[str, ...] = api(
        "Kinds of custom resources, as KIND.GROUP (ClusterIssuer.cert-manager.io), that may be in encrypted files that "
        "only a glob of source.files matches. Their values are stored in the cluster in clear text.",
        default=(),
        maxItems=50,
        items={"minLength": 3, "maxLength": 317, "pattern": r"^[A-Za-z0-9]+(\.[a-z0-9-]+)+$"},
    )
    target_namespace: str | None = api(
        "Namespace for every namespaced object, whatever its manifest says.", default=None, minLength=1, maxLength=63
    )
    common_metadata: CommonMetadata | None = api("Labels and annotations that are set on every object.", default=None)
    apply_policy: str = _one_of(
        "Whether some objects may be applied while others are refused. BestEffort applies every object that it can; "
        "Atomic first sends all objects to the API server as a dry run, and applies none if one is refused.",
        "BestEffort",
        "Atomic",
    )
    conflict_policy: str = _one_of(
        "What happens when another field manager owns a field with a different value: TakeOver sets the field, Refuse "
        "does not apply the object.",
        "TakeOver",
        "Refuse",
    )
    force: bool = api(
        "Whether to delete and recreate objects that the API server does not allow to be changed to what git "
        "describes, for example because a field is immutable.",
        default=False,
    )
    prune: bool = api(
        "Whether to delete applied objects that are no longer in the repository, except those annotated "
        "jiemi.cr/prune: disabled.",
        default=False,
    )
    allow_empty: bool = api(
        "Whether a repository without any object is valid. With prune, everything is deleted then.", default=False
    )
    deletion_policy: str = _one_of(
        "What happens to the objects when the Decryptor is deleted: Orphan leaves them, Delete deletes them.",
        "Orphan",
        "Delete",
    )
    drift_policy: str = _one_of(
        "What happens when somebody else changes or deletes an object: Correct applies it again, Report only reports "
        "it.",
        "Correct",
        "Report",
    )
    mode: str = _one_of(
        "Whether changes are made. Apply follows the repository; DryRun only writes what an apply would do to "
        "status.plan.",
        "Apply",
        "DryRun",
    )
    wait: bool = api(
        "Whether Ready waits until all applied objects are ready, and fails if they are not within timeout.",
        default=False,
    )
    service_account_name: str | None = api(
        "ServiceAccount in the Decryptor's namespace that Miwen impersonates to apply and delete objects.",
        default=None,
        minLength=1,
        maxLength=253,
    )
    depends_on: tuple[Dependency, ...] = api("Decryptors that must be ready first.", default=(), maxItems=50)
    suspend: bool = api("Whether Miwen leaves the Decryptor and its objects alone.", default=False)
    interval: str | None = _duration("How often the repository is checked. The default is Miwen's --interval.")
    retry_interval: str | None = _duration("How soon a failed attempt is repeated. The default is a growing backoff.")
    timeout: str | None = _duration("How long decrypting and applying may take. The default is 5m.")

    def __attrs_post_init__(self) -> None:
        if self.service_account_name is not None:
            _require_name(self.service_account_name, "serviceAccountName")
        if self.target_namespace is not None and not is_namespace_name(self.target_namespace):
            raise FieldError("must be a name that a namespace can have @ targetNamespace", f"Use {NAMESPACE_RULE}.")
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
