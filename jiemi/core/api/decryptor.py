"""The Decryptor custom resource, as it is read.

`read_decryptor` accepts whatever the API server sends. An object whose spec can't be read still has a name, a uid and a
status to write to, so its spec is then the Failure that says what is wrong. The spec's own classes are in
`jiemi.core.api.spec`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from jiemi.core.api.decryptor_status import Condition, DecryptorStatus
from jiemi.core.api.fields import FieldError, structure, unstructure
from jiemi.core.api.spec import DecryptorSpec, credential_values
from jiemi.core.api.status_reading import Status
from jiemi.core.credential_limits import limit_bytes, size_bytes
from jiemi.core.errors import Failure
from jiemi.core.memory import held_bytes

GROUP = "jiemi.cr"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "Decryptor"
PLURAL = "decryptors"

_MAX_ANNOTATION = 1_000

FINALIZER = f"{GROUP}/cleanup"
"""Keeps a Decryptor that is deleted until its objects are (deletionPolicy: Delete)."""

RECONCILE_AT = f"{GROUP}/reconcile-at"
"""An annotation of the Decryptor: another value of it makes Miwen deploy again now."""


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
    # Of a status there are also indexes by object (measured: 2.7 MiB for 4,000 entries; their JSON alone is counted as
    # 1.8).
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
