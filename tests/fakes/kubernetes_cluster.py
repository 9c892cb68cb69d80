"""What the API server of the fake Kubernetes knows: objects, versions, what happened, and what it does not take.

Every change goes by `_store`, which keeps what a real one keeps: uid, version, generation, who owns which field
(`managed_fields`), and what watches receive.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import re
import uuid
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import attrs
import trio
from fakes import managed_fields
from fakes.copies import copied

from jiemi.core.api.decryptor import API_VERSION, KIND, PLURAL
from jiemi.core.objects.managed_fields import FIELD_MANAGER
from jiemi.miwen.kubernetes.discovery import Resource, Target
from jiemi.miwen.kubernetes.port import (
    JsonObject,
)
from jiemi.miwen.kubernetes.refusal import Cause, Refusal

Key = tuple[str, str, str | None, str]
"""apiVersion, kind, namespace (None for a kind that has none), name."""

OTHER = "kubectl-edit"
"""The field manager of whoever is not Miwen."""

CRD = ("apiextensions.k8s.io/v1", "CustomResourceDefinition")
EVENT = ("events.k8s.io/v1", "Event")

_RBAC = "rbac.authorization.k8s.io/v1"
_KINDS = (
    ("v1", "Namespace", "namespaces", False),
    ("v1", "Secret", "secrets", True),
    ("v1", "ConfigMap", "configmaps", True),
    ("v1", "Service", "services", True),
    ("v1", "ServiceAccount", "serviceaccounts", True),
    ("v1", "PersistentVolumeClaim", "persistentvolumeclaims", True),
    ("v1", "ResourceQuota", "resourcequotas", True),
    ("networking.k8s.io/v1", "IPAddress", "ipaddresses", False),
    ("apps/v1", "Deployment", "deployments", True),
    ("apps/v1", "StatefulSet", "statefulsets", True),
    ("apps/v1", "DaemonSet", "daemonsets", True),
    ("batch/v1", "Job", "jobs", True),
    (_RBAC, "Role", "roles", True),
    (_RBAC, "RoleBinding", "rolebindings", True),
    (_RBAC, "ClusterRole", "clusterroles", False),
    (_RBAC, "ClusterRoleBinding", "clusterrolebindings", False),
    (*CRD, "customresourcedefinitions", False),
    (*EVENT, "events", True),
    (API_VERSION, KIND, PLURAL, True),
)
_WITHOUT_GENERATION = {"Namespace", "Secret", "ConfigMap", "ServiceAccount", "Event", "Role", "RoleBinding"}

_FIXED = "Invalid value: x: field is immutable"
_IMMUTABLE: Mapping[str, tuple[tuple[tuple[str, ...], Cause], ...]] = {
    "Secret": ((("type",), Cause("FieldValueInvalid", "type", _FIXED)),),
    "Service": (
        (
            ("spec", "clusterIP"),
            Cause("FieldValueInvalid", "spec.clusterIPs[0]", "Invalid value: x: may not change once set"),
        ),
    ),
    "PersistentVolumeClaim": (
        (("spec",), Cause("FieldValueForbidden", "spec", "Forbidden: spec is immutable after creation except …")),
    ),
    "Job": ((("spec", "template"), Cause("FieldValueInvalid", "spec.template", _FIXED)),),
    "Deployment": ((("spec", "selector"), Cause("FieldValueInvalid", "spec.selector", _FIXED)),),
    "DaemonSet": ((("spec", "selector"), Cause("FieldValueInvalid", "spec.selector", _FIXED)),),
    "StatefulSet": (
        (("spec", "selector"), Cause("FieldValueInvalid", "spec.selector", _FIXED)),
        (("spec", "serviceName"), Cause("FieldValueInvalid", "spec.serviceName", _FIXED)),
    ),
    "RoleBinding": ((("roleRef",), Cause("FieldValueInvalid", "roleRef", _FIXED)),),
    "ClusterRoleBinding": ((("roleRef",), Cause("FieldValueInvalid", "roleRef", _FIXED)),),
}

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_START = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)

Policy = Callable[[str, JsonObject], bool]
"""Whether an admission policy refuses an operation ("CREATE", "UPDATE", "DELETE") with an object."""


class Refused(Exception):
    """The API server does not do it."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal)
        self.refusal = refusal


@attrs.frozen
class Happened:
    """A change, or what ends watches ("END", "ERROR").

    Attributes:
        before: the object before it, where there was one.
    """

    version: int
    change: str
    obj: dict[str, Any]
    before: dict[str, Any] | None


class FakeCluster:
    """What an API server knows. The namespace `default` is there from the beginning.

    Attributes:
        kinds: what is served.
        crd_delay_seconds: how long it takes until the kind of a new CustomResourceDefinition is served.
        account_rights: pairs of verb and plural that a ServiceAccount ("namespace/name") has; one that is not here has
            all. Whoever is impersonated acts by these; Miwen's own rights are its FakeKubernetes's.
        policies: admission policies by name.
        watches: how many are open.
    """

    def __init__(self) -> None:
        self.version = 100
        self.kinds: dict[tuple[str, str], Resource] = {}
        self.crd_delay_seconds = 0.0
        self.account_rights: dict[str, set[tuple[str, str]]] = {}
        self.policies: dict[str, Policy] = {}
        self.objects: dict[Key, dict[str, Any]] = {}
        self.events: list[Happened] = []
        self.oldest = self.version
        self.news = trio.Event()
        self.watches = 0
        self._coming: list[tuple[float, Key]] = []
        for api_version, kind, plural, namespaced in _KINDS:
            self.add_kind(api_version, kind, plural, namespaced=namespaced)
        self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}})

    # --- kinds

    def add_kind(self, api_version: str, kind: str, plural: str, *, namespaced: bool) -> None:
        """Serve another kind, as a CustomResourceDefinition makes the real one do."""
        self.kinds[api_version, kind] = Resource(api_version, kind, plural, namespaced)

    def remove_kind(self, api_version: str, kind: str) -> None:
        """Serve a kind no more."""
        del self.kinds[api_version, kind]

    def served(self, api_version: str) -> dict[str, Resource]:
        """The kinds of an apiVersion that are served now."""
        self.settle()
        return {kind: each for (version, kind), each in self.kinds.items() if version == api_version}

    def settle(self) -> None:
        """Let CustomResourceDefinitions whose time has come be established."""
        while self._coming and self._coming[0][0] <= _seconds():
            _, key = self._coming.pop(0)
            crd = self.objects.get(key)
            if crd is not None:
                for resource in _resources_of(crd):
                    self.kinds[resource.api_version, resource.kind] = resource
                true = {"status": "True", "lastTransitionTime": now()}
                conditions = [{"type": "NamesAccepted", **true}, {"type": "Established", **true}]
                status = {"conditions": conditions, "acceptedNames": crd["spec"]["names"]}
                self.set_status(key, status, manager="kube-apiserver")

    # --- as anyone but Miwen

    def put(self, obj: JsonObject, manager: str = OTHER) -> dict[str, Any]:
        """Create an object or replace it, as anyone but Miwen would; its status stays where none is given.

        Args:
            manager: the field manager that does it; it then owns what it changed (metadata.managedFields).
        """
        key = key_of(obj)
        made = stored_form(obj)
        old = self.objects.get(key)
        if old is not None and "status" in old:
            made.setdefault("status", copied(old["status"]))
        return copied(self._update(key, made, manager))

    def edit(
        self,
        kind: str,
        namespace: str | None,
        name: str,
        *,
        manager: str = OTHER,
        api_version: str = "v1",
        **changes: Any,
    ) -> dict[str, Any]:
        """Change fields of an object, as anyone but Miwen would: `edit("Secret", "team", "app", data={"key": "dg=="})`.

        Args:
            changes: a JSON merge patch: None takes a field out, lists are replaced (RFC 7386).
        """
        obj = copied(self.objects[api_version, kind, namespace, name])
        _merge_patch(obj, changes)
        return self.put(obj, manager)

    def strip_managed_fields(self, kind: str, namespace: str | None, name: str, *, api_version: str = "v1") -> None:
        """Take metadata.managedFields out of an object, as a client may do."""
        key = (api_version, kind, namespace, name)
        obj = copied(self.objects[key])
        obj["metadata"].pop("managedFields", None)
        self._store(key, obj)

    def get(self, kind: str, namespace: str | None, name: str, *, api_version: str = "v1") -> dict[str, Any] | None:
        """An object as it is now."""
        self.settle()
        return copied(self.objects.get((api_version, kind, namespace, name)))

    def delete(self, kind: str, namespace: str | None, name: str, *, api_version: str = "v1") -> None:
        """Delete an object. One that has finalizers stays, marked, until the last is taken off."""
        key = (api_version, kind, namespace, name)
        obj = copied(self.objects[key])
        metadata = obj["metadata"]
        if not metadata.get("finalizers"):
            self._take_away(key, obj)
        elif "deletionTimestamp" not in metadata:
            metadata |= {"deletionTimestamp": now(), "deletionGracePeriodSeconds": 0}
            if "generation" in metadata:
                metadata["generation"] += 1
            self._store(key, obj)

    # --- faults

    def compact(self) -> None:
        """Forget what happened until now, as etcd does after some minutes: older versions and pages are gone (410)."""
        self.version += 1
        self.oldest = self.version

    def end_watches(self) -> None:
        """End all watches, as an API server that restarts does."""
        self._tell("END", {}, None)

    def fail_watches(self, code: int) -> None:
        """Say an error in all watches, which ends them."""
        self._tell("ERROR", {"kind": "Status", "status": "Failure", "code": code}, None)

    # --- as Miwen

    def apply(
        self,
        to: Target,
        resource: Resource,
        *,
        manager: str = FIELD_MANAGER,
        take_over: bool = True,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Server-side apply. Lists are replaced whole.

        Raises:
            Refused: the refusal is that of a real API server.
        """
        key = (resource.api_version, resource.kind, to.namespace, to.name)
        live = self.objects.get(key)
        self._require_valid(to, live)
        new = managed_fields.applied(live, stored_form(to.body), manager, take_over=take_over, now=now())
        if isinstance(new, list):
            causes = tuple(
                Cause("FieldManagerConflict", f".{'.'.join(each.path)}", f'conflict with "{each.manager}" using v1')
                for each in new
            )
            raise Refused(Refusal(409, "Conflict", causes=causes))
        self._require_changeable(new, live)
        self._admit("CREATE" if live is None else "UPDATE", new)
        if live is None:
            self._require_quota(resource, to)
        if not dry_run:
            return self._store(key, new)
        if live is None:
            new["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
            if resource.kind == "Secret":
                new.setdefault("type", "Opaque")
        return new

    def replace(self, key: Key, obj: dict[str, Any]) -> dict[str, Any]:
        """Miwen's other changes of an object that is there.

        Raises:
            Refused: as `apply`.
        """
        self._require_changeable(obj, self.objects[key])
        self._admit("UPDATE", obj)
        return self._update(key, obj, FIELD_MANAGER)

    def set_managed_fields(self, key: Key, listed: Sequence[Any]) -> dict[str, Any]:
        """Replace who owns the fields of an object.

        Raises:
            Refused: an admission policy refuses it.
        """
        obj = copied(self.objects[key])
        obj["metadata"]["managedFields"] = copied(list(listed))
        self._admit("UPDATE", obj)
        return self._store(key, obj)

    def create(self, key: Key, obj: dict[str, Any]) -> dict[str, Any]:
        """Create an object that is not there.

        Raises:
            Refused: as `apply`; 409 AlreadyExists.
        """
        self.require_namespace(key[2])
        if key in self.objects:
            raise Refused(Refusal(409, "AlreadyExists"))
        self._admit("CREATE", obj)
        return self._update(key, obj, FIELD_MANAGER)

    def remove(self, key: Key) -> None:
        """Delete an object as Miwen.

        Raises:
            Refused: an admission policy refuses it.
        """
        self._admit("DELETE", self.objects[key])
        self.delete(key[1], key[2], key[3], api_version=key[0])

    def set_status(self, key: Key, status: JsonObject, *, manager: str = FIELD_MANAGER) -> dict[str, Any]:
        """Replace an object's status."""
        return self._update(key, {**copied(self.objects[key]), "status": copied(dict(status))}, manager)

    def require_namespace(self, namespace: str | None) -> None:
        """Objects can be made there.

        Raises:
            Refused: they can't.
        """
        if namespace is None:
            return
        found = self.objects.get(("v1", "Namespace", None, namespace))
        if found is None:
            raise Refused(Refusal(404, "NotFound", of_kind="namespaces", of_name=namespace))
        if "deletionTimestamp" in found["metadata"]:
            raise Refused(Refusal(403, "Forbidden", causes=(Cause("NamespaceTerminating", "metadata.namespace"),)))

    # ---

    def _update(self, key: Key, obj: dict[str, Any], manager: str) -> dict[str, Any]:
        old = self.objects.get(key)
        if old is None and key[1] == "Secret":
            obj.setdefault("type", "Opaque")
        managed_fields.updated(old, obj, manager, now=now())
        return self._store(key, obj)

    def _store(self, key: Key, obj: dict[str, Any]) -> dict[str, Any]:
        """Store an object whose managedFields are right; the rest of what a server sets is set here."""
        old = self.objects.get(key)
        metadata = obj["metadata"] = dict(obj["metadata"])
        if old is None:
            if key[1] == "Secret":
                obj.setdefault("type", "Opaque")
            for field in ("deletionTimestamp", "deletionGracePeriodSeconds", "generation"):
                metadata.pop(field, None)
            metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
            if key[1] not in _WITHOUT_GENERATION:
                metadata["generation"] = 1
        else:
            fixed = {"uid", "resourceVersion", "creationTimestamp"}
            metadata |= {field: old["metadata"][field] for field in fixed}
            for field in ("deletionTimestamp", "deletionGracePeriodSeconds", "generation"):
                if field in old["metadata"]:
                    metadata[field] = metadata.get(field) or old["metadata"][field]
            if obj == old:
                return old
            if "generation" in metadata and obj.get("spec") != old.get("spec"):
                metadata["generation"] = old["metadata"]["generation"] + 1
            if "deletionTimestamp" in metadata and not metadata.get("finalizers"):
                self._take_away(key, obj)
                return obj
        self.version += 1
        metadata["resourceVersion"] = str(self.version)
        self.objects[key] = obj
        self._tell("ADDED" if old is None else "MODIFIED", obj, old)
        if key[:2] == CRD and (old is None or obj["spec"] != old["spec"]):
            self._coming.append((_seconds() + self.crd_delay_seconds, key))
            self._coming.sort()
            self.settle()
            return self.objects[key]
        return obj

    def _take_away(self, key: Key, obj: dict[str, Any]) -> None:
        before = self.objects.pop(key)
        gone = copied(obj)
        self.version += 1
        gone["metadata"]["resourceVersion"] = str(self.version)
        self._tell("DELETED", gone, before)
        if key[:2] == CRD:
            for resource in _resources_of(obj):
                self.kinds.pop((resource.api_version, resource.kind), None)
                for each in [each for each in self.objects if each[:2] == (resource.api_version, resource.kind)]:
                    self._take_away(each, self.objects[each])

    def _tell(self, change: str, obj: dict[str, Any], before: dict[str, Any] | None) -> None:
        self.events.append(Happened(self.version, change, copied(obj), copied(before)))
        self.news.set()
        self.news = trio.Event()

    def _require_valid(self, to: Target, live: JsonObject | None) -> None:
        """What a real one says of an object's form, of the little that the tests need."""
        if live is None:
            self.require_namespace(to.namespace)
        if to.kind in {"Secret", "ConfigMap"}:
            for field in ("data", "stringData"):
                for key, value in (to.body.get(field) or {}).items():
                    if not isinstance(value, str | None):
                        fault = f".{field}.{key}: expected string, got &value.valueUnstructured{{Value:{value}}}"
                        message = f"failed to create typed patch object (/{to.name}; /v1, Kind={to.kind}): {fault}"
                        raise Refused(Refusal(500, message=message))
        if to.kind == "Secret":
            try:
                for value in (to.body.get("data") or {}).values():
                    base64.b64decode(value or "", validate=True)
            except binascii.Error:
                message = "failed to convert new object: illegal base64 data at input byte 6"
                raise Refused(Refusal(500, message=message)) from None
        if _NAME.fullmatch(to.name) is None:
            raise Refused(_invalid(Cause("FieldValueInvalid", "metadata.name")))

    def _require_changeable(self, new: JsonObject, live: JsonObject | None) -> None:
        if live is None:
            return
        causes = [
            cause
            for path, cause in _IMMUTABLE.get(live["kind"], ())
            if _at(live, path) is not None and _at(live, path) != _at(new, path)
        ]
        if live["kind"] in {"Secret", "ConfigMap"} and live.get("immutable"):
            problem = "Forbidden: field is immutable when `immutable` is set"
            causes += [
                Cause("FieldValueForbidden", field, problem)
                for field in ("data", "immutable")
                if new.get(field) != live.get(field)
            ]
        if causes:
            raise Refused(_invalid(*causes))

    def _admit(self, operation: str, obj: JsonObject) -> None:
        for name, refuses in self.policies.items():
            if refuses(operation, obj):
                by = f"ValidatingAdmissionPolicy '{name}' with binding '{name}' denied request: {obj.get('data')}"
                message = f'objects "x" is forbidden: {by}'
                raise Refused(Refusal(422, "Invalid", of_name="x", causes=(Cause("", "", by),), message=message))

    def _require_quota(self, resource: Resource, to: Target) -> None:
        for (_, kind, namespace, name), quota in self.objects.items():
            if kind != "ResourceQuota" or namespace != to.namespace:
                continue
            here = sum(each[:3] == (resource.api_version, resource.kind, namespace) for each in self.objects)
            for limited, most in quota["spec"]["hard"].items():
                if limited.removeprefix("count/") == resource.plural and here >= int(most):
                    used = f"requested: {limited}=1, used: {limited}={here}, limited: {limited}={most}"
                    message = f'{resource.plural} "{to.name}" is forbidden: exceeded quota: {name}, {used}'
                    raise Refused(Refusal(403, "Forbidden", of_kind=resource.plural, of_name=to.name, message=message))


def key_of(obj: JsonObject) -> Key:
    return obj["apiVersion"], obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"]


def now() -> str:
    """RFC 3339, on trio's clock."""
    return (_START + datetime.timedelta(seconds=_seconds())).isoformat(timespec="seconds").replace("+00:00", "Z")


def _seconds() -> float:
    try:
        return trio.current_time()
    except RuntimeError:  # a fixture makes the cluster before trio runs
        return 0.0


def stored_form(obj: JsonObject) -> dict[str, Any]:
    """A copy; a Secret's stringData becomes data when it is written, and a null in a map of texts the empty text."""
    stored = copied(dict(obj))
    metadata = stored["metadata"]
    maps = [(metadata, "labels"), (metadata, "annotations")]
    if stored["kind"] in {"Secret", "ConfigMap"}:
        maps += [(stored, "data"), (stored, "stringData"), (stored, "binaryData")]
    for holder, name in maps:
        if isinstance(holder.get(name), dict):
            holder[name] = {key: "" if value is None else value for key, value in holder[name].items()}
    if stored["kind"] == "Secret" and (texts := stored.pop("stringData", None)):
        encoded = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
        stored["data"] = {**(stored.get("data") or {}), **encoded}
    return stored


def _resources_of(crd: JsonObject) -> list[Resource]:
    spec = crd["spec"]
    names, namespaced = spec["names"], spec["scope"] == "Namespaced"
    return [
        Resource(f"{spec['group']}/{version['name']}", names["kind"], names["plural"], namespaced)
        for version in spec["versions"]
        if version.get("served", True)
    ]


def _merge_patch(obj: MutableMapping[str, Any], patch: Mapping[str, Any]) -> None:
    for key, value in patch.items():
        if value is None:
            obj.pop(key, None)
        elif isinstance(value, Mapping):
            if not isinstance(obj.get(key), dict):
                obj[key] = {}
            _merge_patch(obj[key], value)
        else:
            obj[key] = copied(value)


def _at(obj: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        obj = obj.get(part) if isinstance(obj, Mapping) else None
    return obj


def _invalid(*causes: Cause) -> Refusal:
    return Refusal(422, "Invalid", of_name="x", causes=causes)
