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

_NO_ITEMS: Mapping[str, str] = MappingProxyType({})


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
