"""The Kubernetes port in memory. It keeps tests/contract/kubernetes_contract.py, so it can be believed.

`FakeCluster` is the API server: objects, versions, what happened. `FakeKubernetes` is one client of it, with rights,
faults and counts of its own. Times are trio's, so a virtual clock works.
"""

from __future__ import annotations

import base64
import json
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import attrs
import trio
from fakes.copies import copied
from fakes.kubernetes_cluster import FakeCluster, Happened, Key, Refused

from jiemi.core.api.decryptor import API_VERSION, GROUP, KIND, PLURAL
from jiemi.core.errors import JiemiError
from jiemi.core.objects.identity import ObjectRef
from jiemi.core.sensitive import SensitiveText
from jiemi.miwen.kubernetes import errors
from jiemi.miwen.kubernetes.counts import RequestCounter
from jiemi.miwen.kubernetes.discovery import JUST_NOW_SECONDS, Discovery, Resource, is_path_part, label, target
from jiemi.miwen.kubernetes.errors import Act
from jiemi.miwen.kubernetes.missing_rights import Right, RightMissing
from jiemi.miwen.kubernetes.port import Account, JsonObject, Page
from jiemi.miwen.kubernetes.refusal import Cause, Refusal
from jiemi.miwen.kubernetes.shown import Shown

__all__ = ["BOOKMARK_SECONDS", "FakeCluster", "FakeKubernetes", "FakeObjects"]

BOOKMARK_SECONDS = 60.0
"""How often the real API server sends a bookmark."""

_DECRYPTORS = Resource(API_VERSION, KIND, PLURAL, namespaced=True)
_SLICES = Resource("discovery.k8s.io/v1", "EndpointSlice", "endpointslices", namespaced=True)


@attrs.frozen
class _Selection:
    """What a list or watch is of.

    Attributes:
        namespace: None for all, or for a kind that has none.
        label_selector: requirements of the forms `key` and `key=value`, with commas between.
        field_selector: of the forms `field=value` and `field!=value`.
        metadata_only: whether PartialObjectMetadata is shown.
    """

    resource: Resource
    namespace: str | None
    label_selector: str = ""
    field_selector: str = ""
    metadata_only: bool = False

    def has(self, obj: JsonObject | None) -> bool:
        if obj is None or (obj["apiVersion"], obj["kind"]) != (self.resource.api_version, self.resource.kind):
            return False
        metadata = obj["metadata"]
        labels = metadata.get("labels") or {}
        for requirement in filter(None, self.label_selector.split(",")):
            key, equals, value = requirement.partition("=")
            if key not in labels or (equals and labels[key] != value):
                return False
        for requirement in filter(None, self.field_selector.split(",")):
            path, _, value = requirement.partition("=")
            found: Any = obj
            for part in path.removesuffix("!").split("."):
                found = (found or {}).get(part)
            if (found == value) is path.endswith("!"):
                return False
        return self.namespace in {None, metadata.get("namespace")}

    def shown(self, obj: JsonObject) -> JsonObject:
        if not self.metadata_only:
            return copied(obj)
        partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
        return {**partial, "metadata": copied(obj["metadata"])}


class FakeKubernetes:
    """The port.

    Args:
        cluster: what it talks to; None makes one.
        namespaces: those that it looks at; empty: all.
        rights: pairs of verb and resource that it has ("get", "secrets"); None: all.
        watch_timeout_seconds, watch_grace_seconds: as in KubernetesSettings.

    Attributes:
        cluster: what it talks to.
        requests: counts as the real form does.
        silent: while it is True, nothing arrives on watches.
        delays: seconds that each call of a method takes, by the method's name (also of `Objects`).
        late_answers: seconds that its answer takes once it is done; for `set_managed_fields`.
        closed: collections that may not be listed or watched: plural and namespace.
    """

    def __init__(
        self,
        cluster: FakeCluster | None = None,
        *,
        namespaces: tuple[str, ...] = (),
        rights: Collection[tuple[str, str]] | None = None,
        watch_timeout_seconds: float = 300.0,
        watch_grace_seconds: float = 30.0,
    ) -> None:
        self.cluster = cluster if cluster is not None else FakeCluster()
        self.leases = FakeLeases(self.cluster)
        self.endpoint_slices = FakeEndpointSlices(self)
        self.requests = RequestCounter()
        self.silent = False
        self.delays: dict[str, float] = {}
        self.late_answers: dict[str, float] = {}
        self.denied: set[tuple[str, str]] = set()
        self.discovery = Discovery(self._fetch_kinds, self._fetch_all_kinds)
        self._namespaces = namespaces
        self.closed: set[tuple[str, str | None]] = set()
        self._rights = rights
        self._watch_timeout = watch_timeout_seconds
        self._watch_silence = watch_timeout_seconds + watch_grace_seconds
        self._faults: defaultdict[str, deque[JiemiError]] = defaultdict(deque)

    def fail_next(self, method: str, *failures: JiemiError) -> None:
        """Let the next calls of a method (also of `Objects`, as whoever) fail, one failure each."""
        assert hasattr(self, method) or hasattr(FakeObjects, method)
        self._faults[method] += failures

    def heal(self, method: str) -> None:
        """Let no further call of a method fail."""
        self._faults[method].clear()

    def deny(self, verb: str, resource: str) -> None:
        """Take a right away; ("impersonate", "serviceaccounts") is the one to act as accounts."""
        self.denied.add((verb, resource))

    # --- lists and watches

    @property
    def scopes(self) -> tuple[str | None, ...]:
        return self._namespaces or (None,)

    async def list_decryptors(self, *, limit: int, continue_token: str | None, namespace: str | None = None) -> Page:
        doing = "listing the Decryptors"
        await self.begin("list_decryptors", "list", PLURAL)
        selection = _Selection(_DECRYPTORS, self._looked_at(namespace))
        self._require_decryptors("list", doing, selection.namespace)
        return self.page(selection, doing, limit, continue_token)

    @asynccontextmanager
    async def watch_decryptors(
        self, *, resource_version: str, namespace: str | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        doing = "watching the Decryptors"
        await self.begin("watch_decryptors", "watch", PLURAL)
        selection = _Selection(_DECRYPTORS, self._looked_at(namespace))
        self._require_decryptors("watch", doing, selection.namespace)
        async with self.watching(selection, doing, resource_version) as chunks:
            yield chunks

    async def list_metadata(
        self,
        resource: Resource,
        *,
        label_selector: str,
        field_selector: str,
        limit: int,
        continue_token: str | None,
        namespace: str | None = None,
    ) -> Page:
        doing = f"listing {resource.plural}"
        await self.begin("list_metadata", "list", resource.plural)
        selection = self._selection(resource, label_selector, field_selector, namespace)
        self._require_collection("list", selection, doing)
        return self.page(selection, doing, limit, continue_token)

    @asynccontextmanager
    async def watch_metadata(
        self,
        resource: Resource,
        *,
        label_selector: str,
        field_selector: str,
        resource_version: str,
        namespace: str | None = None,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        doing = f"watching {resource.plural}"
        await self.begin("watch_metadata", "watch", resource.plural)
        selection = self._selection(resource, label_selector, field_selector, namespace)
        self._require_collection("watch", selection, doing)
        async with self.watching(selection, doing, resource_version) as chunks:
            yield chunks

    def _looked_at(self, namespace: str | None) -> str | None:
        return self._namespaces[0] if namespace is None and len(self._namespaces) == 1 else namespace

    def _selection(
        self, resource: Resource, label_selector: str, field_selector: str, namespace: str | None
    ) -> _Selection:
        namespace = self._looked_at(namespace) if resource.namespaced else None
        return _Selection(resource, namespace, label_selector, field_selector, metadata_only=True)

    def _require_decryptors(self, verb: str, doing: str, namespace: str | None) -> None:
        if KIND not in self.cluster.served(API_VERSION):
            raise JiemiError("ListForbidden", f"{doing}: the CRD {PLURAL}.{GROUP} is not installed; apply deploy/")
        if not self.may(verb, PLURAL) or (PLURAL, namespace) in self.closed:
            right = Right(("list", "watch"), PLURAL, GROUP, namespace)
            raise RightMissing("ListForbidden", doing, right)

    def _require_collection(self, verb: str, selection: _Selection, doing: str) -> None:
        resource = selection.resource
        if self.cluster.served(resource.api_version).get(resource.kind) != resource:
            self.discovery.forget(resource.api_version)
            raise errors.kind_unknown(resource.api_version, resource.kind)
        if not self.may(verb, resource.plural) or (resource.plural, selection.namespace) in self.closed:
            act = Act(doing, resource.plural, resource, selection.namespace)
            raise errors.access_failure(_no_right(verb, resource), act, "WatchForbidden", "list", "watch")

    def page(self, selection: _Selection, doing: str, limit: int, continue_token: str | None) -> Page:
        def place(obj: JsonObject) -> list[str]:
            return [obj["metadata"].get("namespace") or "", obj["metadata"]["name"]]

        found = sorted((obj for obj in self.cluster.objects.values() if selection.has(obj)), key=place)
        after: list[str] = []
        version = self.cluster.version
        if continue_token is not None:
            try:
                version, *after = json.loads(continue_token)
            except ValueError:
                version = -1
            if version < self.cluster.oldest:
                raise JiemiError("WatchExpired", f"{doing}: too old")
        # A real one shows the later pages as they were when the first was read. This one shows what is there now, which
        # the watch that starts at the first page's version says again.
        rest = [obj for obj in found if place(obj) > after]
        page = rest[:limit]
        token = json.dumps([version, *place(page[-1])]) if len(rest) > limit else None
        return Page(tuple(selection.shown(obj) for obj in page), str(version), token)

    @asynccontextmanager
    async def watching(
        self, selection: _Selection, doing: str, resource_version: str
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        self.cluster.watches += 1
        try:
            began, old = trio.current_time(), len(self.cluster.events)
            async with aclosing(self._watch(selection, doing, int(resource_version), began, old)) as chunks:
                yield chunks
        finally:
            self.cluster.watches -= 1

    async def _watch(
        self, selection: _Selection, doing: str, version: int, began: float, old: int
    ) -> AsyncGenerator[bytes, None]:
        """The bytes; what ended watches before the first `old` events were sent is not for this one."""
        await trio.lowlevel.checkpoint()
        if version < self.cluster.oldest:
            # The real one says this in the stream, with status 200.
            yield _line("ERROR", {"kind": "Status", "status": "Failure", "reason": "Expired", "code": 410})
            return
        last = began
        end = began + self._watch_timeout
        place = next((i for i, each in enumerate(self.cluster.events) if each.version > version), old)
        while True:
            news = self.cluster.news
            if self.silent:
                await trio.sleep_until(last + self._watch_silence)
                raise JiemiError("ClusterUnavailable", f"{doing}: nothing came for {self._watch_silence:g} s")
            while place < len(self.cluster.events):
                happened = self.cluster.events[place]
                place += 1
                if happened.change == "END" and place > old:
                    return
                if happened.change == "ERROR" and place > old:
                    yield _line(happened.change, happened.obj)
                    return
                if happened.change not in {"END", "ERROR"} and (line := _told(selection, happened)):
                    last = trio.current_time()
                    yield line
            now = trio.current_time()
            if now >= end:
                return
            with trio.move_on_after(min(BOOKMARK_SECONDS, end - now)) as scope:
                await news.wait()
            if scope.cancelled_caught and not self.silent:
                last = trio.current_time()
                kind, api_version = selection.resource.kind, selection.resource.api_version
                metadata = {"resourceVersion": str(self.cluster.version)}
                bookmark = {"kind": kind, "apiVersion": api_version, "metadata": metadata}
                yield _line("BOOKMARK", selection.shown(bookmark))

    # --- objects

    def objects(self, account: Account | None) -> FakeObjects:
        return FakeObjects(self, account)

    async def _fetch_kinds(self, api_version: str) -> Mapping[str, Resource]:
        await self.begin("resource", "get", "discovery")
        return self.cluster.served(api_version)

    async def _fetch_all_kinds(self) -> Sequence[Resource]:
        await self.begin("resource", "list", "discovery")
        return list(self.cluster.kinds.values())

    # --- Secrets, Decryptors, Events

    async def get_secret(self, namespace: str, name: str) -> JsonObject:
        label = f"Secret {namespace}/{name}"
        if not is_path_part(namespace) or not is_path_part(name):
            raise JiemiError("SecretNotFound", f"{label}: no Secret can have that name")
        await self.begin("get_secret", "get", "secrets")
        if not self.may("get", "secrets"):
            raise RightMissing("SecretForbidden", f"reading {label}", Right(("get",), "secrets", "", namespace))
        secret = self.cluster.get("Secret", namespace, name)
        if secret is None:
            raise JiemiError("SecretNotFound", f"there is no {label}")
        return secret

    async def create_secret(
        self,
        namespace: str,
        name: str,
        data: Mapping[str, SensitiveText],
        *,
        of_type: str = "Opaque",
        labels: Mapping[str, str] | None = None,
    ) -> bool:
        await self.begin("create_secret", "create", "secrets")
        resource = Resource("v1", "Secret", "secrets", namespaced=True)
        act = Act("creating", label("Secret", namespace, name), resource, namespace)
        if not self.may("create", "secrets"):
            raise errors.access_failure(_no_right("create", resource), act, "SecretForbidden", "create")
        metadata = {"namespace": namespace, "name": name} | ({"labels": dict(labels)} if labels else {})
        made = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata,
            "data": _encoded(data),
            "type": of_type,
        }
        try:
            self.cluster.require_namespace(namespace)
            self.cluster.create(("v1", "Secret", namespace, name), made)
        except Refused as refused:
            if refused.refusal.reason != "AlreadyExists":
                raise errors.apply_failure(refused.refusal, act) from None
            return False
        return True

    async def replace_secret(self, secret: JsonObject, data: Mapping[str, SensitiveText]) -> bool:
        await self.begin("replace_secret", "update", "secrets")
        namespace, name = secret["metadata"]["namespace"], secret["metadata"]["name"]
        resource = Resource("v1", "Secret", "secrets", namespaced=True)
        act = Act("writing", label("Secret", namespace, name), resource, namespace)
        if not self.may("update", "secrets"):
            raise errors.access_failure(_no_right("update", resource), act, "SecretForbidden", "update")
        key = ("v1", "Secret", namespace, name)
        live = self.cluster.objects.get(key)
        if live is None or live["metadata"]["resourceVersion"] != secret["metadata"]["resourceVersion"]:
            return False
        try:
            self.cluster.replace(key, {**copied(dict(secret)), "data": _encoded(data)})
        except Refused as refused:
            raise errors.apply_failure(refused.refusal, act) from None
        return True

    async def patch_status(
        self, namespace: str, name: str, status: JsonObject, *, uid: str, keep_rest: bool = False
    ) -> JsonObject | None:
        await self.begin("patch_status", "patch", f"{PLURAL}/status")
        self._require("patch", f"{PLURAL}/status", f"writing the status of Decryptor {namespace}/{name}", namespace)
        key = (API_VERSION, KIND, namespace, name)
        live = self.cluster.objects.get(key)
        if live is None or live["metadata"]["uid"] != uid:
            return None
        rest = live.get("status") if keep_rest else {}
        if rest is None:
            return None  # a JSON patch has no place to put a part
        return copied(self.cluster.set_status(key, {**rest, **status}))

    async def set_finalizers(
        self, namespace: str, name: str, finalizers: Sequence[str], *, uid: str, resource_version: str
    ) -> JsonObject | None:
        await self.begin("set_finalizers", "patch", PLURAL)
        self._require("patch", PLURAL, f"writing the finalizers of Decryptor {namespace}/{name}", namespace)
        key = (API_VERSION, KIND, namespace, name)
        live = self.cluster.objects.get(key)
        if live is None or live["metadata"]["uid"] != uid:
            return None
        obj = copied(live)
        old = obj["metadata"].pop("finalizers", [])
        if finalizers:
            obj["metadata"]["finalizers"] = list(finalizers)
        doomed = "deletionTimestamp" in obj["metadata"]
        if obj["metadata"]["resourceVersion"] != resource_version or (doomed and not set(finalizers) <= set(old)):
            raise errors.changed(f"Decryptor {namespace}/{name}")
        made = self.cluster.replace(key, obj)
        return copied(made) if key in self.cluster.objects else None

    async def get_decryptor(self, namespace: str, name: str) -> JsonObject | None:
        await self.begin("get_decryptor", "get", PLURAL)
        self._require("get", PLURAL, f"reading Decryptor {namespace}/{name}", namespace)
        return self.cluster.get(KIND, namespace, name, api_version=API_VERSION)

    async def create_event(self, namespace: str, event: JsonObject) -> None:
        name = event["metadata"]["name"]
        await self.begin("create_event", "create", "events")
        resource = Resource("events.k8s.io/v1", "Event", "events", namespaced=True)
        act = Act("creating an Event", label("Event", namespace, name), resource, namespace)
        if not self.may("create", "events"):
            raise errors.access_failure(_no_right("create", resource), act, "EventForbidden", "create")
        required = ("eventTime", "reportingController", "reportingInstance", "action", "reason", "type")
        wrong = [Cause("FieldValueRequired", field) for field in required if not event.get(field)]
        if event.get("type", "Normal") not in {"Normal", "Warning"}:
            wrong.append(Cause("FieldValueInvalid", "type"))
        if len(event.get("note", "")) > 1024:
            wrong.append(Cause("FieldValueInvalid", "message"))
        try:
            self.cluster.require_namespace(namespace)
            if wrong:
                raise Refused(Refusal(422, "Invalid", of_name=name, causes=tuple(wrong)))
            metadata = {**event["metadata"], "namespace": namespace}
            made = {"apiVersion": resource.api_version, "kind": resource.kind, **event, "metadata": metadata}
            self.cluster.create((resource.api_version, resource.kind, namespace, name), copied(made))
        except Refused as refused:
            if refused.refusal.reason != "AlreadyExists":
                raise errors.apply_failure(refused.refusal, act) from None

    # ---

    async def begin(self, method: str, verb: str, resource: str) -> None:
        """Count a request, take its time, and fail where a test wants it."""
        self.requests.add(verb, resource)
        await trio.sleep(self.delays.get(method, 0))
        if self._faults[method]:
            raise self._faults[method].popleft()

    def may(self, verb: str, resource: str, account: Account | None = None) -> bool:
        """Whether Miwen, or the account, has a right."""
        if account is not None:
            rights = self.cluster.account_rights.get(f"{account.namespace}/{account.name}")
            return rights is None or (verb, resource) in rights
        return (verb, resource) not in self.denied and (self._rights is None or (verb, resource) in self._rights)

    def _require(self, verb: str, resource: str, doing: str, namespace: str) -> None:
        if not self.may(verb, resource):
            raise RightMissing("ListForbidden", doing, Right((verb,), resource, GROUP, namespace))


class FakeObjects:
    """The port's Objects. Made by `FakeKubernetes.objects`."""

    def __init__(self, kubernetes: FakeKubernetes, account: Account | None) -> None:
        self._kubernetes = kubernetes
        self._cluster = kubernetes.cluster
        self._account = account

    async def resource(self, api_version: str, kind: str, *, fresh: bool = False) -> Resource | None:
        return await self._kubernetes.discovery.find(api_version, kind, fresh=fresh)

    async def similar_kinds(self, kind: str) -> Sequence[Resource]:
        try:
            return await self._kubernetes.discovery.similar(kind)
        except JiemiError:
            return ()

    async def apply(self, manifest: JsonObject, *, default_namespace: str, take_over: bool = True) -> JsonObject:
        obj = await self._apply("apply", manifest, default_namespace, take_over)
        return copied(dict(obj["metadata"]))

    async def dry_run(self, manifest: JsonObject, *, default_namespace: str, take_over: bool = True) -> JsonObject:
        return await self._apply("dry_run", manifest, default_namespace, take_over)

    async def _apply(self, method: str, manifest: JsonObject, default_namespace: str, take_over: bool) -> JsonObject:
        api_version, kind = str(manifest["apiVersion"]), str(manifest["kind"])
        resource = await self.resource(api_version, kind)
        if resource is None:
            raise errors.kind_unknown(api_version, kind)
        to = target(manifest, resource, default_namespace=default_namespace)
        doing = "applying" if method == "apply" else "trying"
        act = Act(f"{doing} {to.label}", to.label, resource, to.namespace, self._account, Shown(manifest))
        await self._kubernetes.begin(method, method.replace("_", "-"), resource.plural)
        key = (api_version, kind, to.namespace, to.name)
        try:
            if self._cluster.served(api_version).get(kind) != resource:
                raise Refused(Refusal(404))
            verbs = ("patch",) if key in self._cluster.objects else ("patch", "create")
            self._require(resource, *verbs)
            return copied(self._cluster.apply(to, resource, take_over=take_over, dry_run=method == "dry_run"))
        except Refused as refused:
            failure = errors.apply_failure(refused.refusal, act)
            if failure.failure.reason == "KindUnknown":
                self._kubernetes.discovery.forget(api_version)
            raise failure from None

    async def get(self, ref: ObjectRef) -> JsonObject | None:
        found = await self._find("get", "get", ref)
        return copied(found)

    async def get_metadata(self, ref: ObjectRef) -> JsonObject | None:
        found = await self._find("get_metadata", "get-metadata", ref)
        return None if found is None else copied(dict(found["metadata"]))

    async def _find(self, method: str, counted: str, ref: ObjectRef) -> JsonObject | None:
        place = await self._place(ref)
        if place is None:
            return None
        resource, key, act = place
        await self._kubernetes.begin(method, counted, resource.plural)
        try:
            self._require(resource, "get")
        except Refused as refused:
            act = attrs.evolve(act, doing=f"reading {ref.label}")
            raise errors.access_failure(refused.refusal, act, "ReadForbidden", "get") from None
        return self._cluster.get(key[1], key[2], key[3], api_version=key[0])

    async def delete(self, ref: ObjectRef, *, uid: str, resource_version: str | None = None) -> bool:
        place = await self._place(ref)
        if place is None:
            return False
        resource, key, act = place
        act = attrs.evolve(act, doing=f"deleting {ref.label}")
        await self._kubernetes.begin("delete", "delete", resource.plural)
        try:
            self._require(resource, "delete")
            live = self._cluster.objects.get(key)
            if live is None:
                return False
            version = live["metadata"]["resourceVersion"]
            if live["metadata"]["uid"] != uid or resource_version not in {None, version}:
                await self.get_metadata(ref)  # as the real one, which does not know which of the two it is without it
                if live["metadata"]["uid"] != uid:
                    return False
                raise errors.changed(ref.label)
            self._cluster.remove(key)
        except Refused as refused:
            raise errors.access_failure(refused.refusal, act, "DeleteForbidden", "delete") from None
        return True

    async def remove_fields(
        self, ref: ObjectRef, paths: Sequence[tuple[str, ...]], *, resource_version: str
    ) -> JsonObject:
        async with self._changing(ref, "removing fields of", "remove-fields") as (key, live):
            if live["metadata"]["resourceVersion"] != resource_version:
                await self.get_metadata(ref)
                raise errors.changed(ref.label)
            obj = dict(copied(live))
            for path in paths:
                holder: Any = obj
                for part in path[:-1]:
                    holder = holder.get(part) if isinstance(holder, dict) else None
                if not isinstance(holder, dict) or path[-1] not in holder:
                    await self.get_metadata(ref)
                    raise errors.no_such_field(ref.label)
                del holder[path[-1]]
            return copied(self._cluster.replace(key, obj)["metadata"])

    async def set_managed_fields(
        self, ref: ObjectRef, managed_fields: Sequence[Any], *, uid: str, resource_version: str
    ) -> JsonObject:
        async with self._changing(ref, "taking over", "set-managed-fields") as (key, live):
            if (live["metadata"]["uid"], live["metadata"]["resourceVersion"]) != (uid, resource_version):
                raise errors.changed(ref.label)
            metadata: JsonObject = copied(self._cluster.set_managed_fields(key, managed_fields)["metadata"])
        await trio.sleep(self._kubernetes.late_answers.get("set_managed_fields", 0))
        return metadata

    @asynccontextmanager
    async def _changing(self, ref: ObjectRef, doing: str, verb: str) -> AsyncIterator[tuple[Key, JsonObject]]:
        """An object that a JSON patch is about to change, and its key."""
        place = await self._place(ref)
        if place is None:
            raise errors.changed(ref.label)
        resource, key, act = place
        await self._kubernetes.begin(verb.replace("-", "_"), verb, resource.plural)
        try:
            self._require(resource, "patch")
            live = self._cluster.objects.get(key)
            if live is None:
                raise errors.changed(ref.label)
            yield key, live
        except Refused as refused:
            raise errors.apply_failure(refused.refusal, attrs.evolve(act, doing=f"{doing} {ref.label}")) from None

    async def _place(self, ref: ObjectRef) -> tuple[Resource, Key, Act] | None:
        """Where an object is; None where there can be none."""
        discovery = self._kubernetes.discovery
        resource = await discovery.find(ref.api_version, ref.kind, unknown_seconds=JUST_NOW_SECONDS)
        if resource is None or not is_path_part(ref.name) or (resource.namespaced and not is_path_part(ref.namespace)):
            return None
        namespace = ref.namespace if resource.namespaced else None
        key = (ref.api_version, ref.kind, namespace, ref.name)
        return resource, key, Act(ref.label, ref.label, resource, namespace, self._account)

    def _require(self, resource: Resource, *verbs: str) -> None:
        """Refuse what the account, or Miwen, may not do."""
        account = self._account
        if account is not None and not account.is_possible:
            raise JiemiError("ImpersonationForbidden", "no ServiceAccount can have the name that is given")
        if account is not None and not self._kubernetes.may("impersonate", "serviceaccounts"):
            message = (
                f'serviceaccounts "{account.name}" is forbidden: User "x" cannot impersonate resource "serviceaccounts"'
            )
            raise Refused(Refusal(403, "Forbidden", message=message))
        for verb in verbs:
            if not self._kubernetes.may(verb, resource.plural, account):
                raise Refused(_no_right(verb, resource))


class FakeLeases:
    """The Leases of a cluster in memory.

    Attributes:
        away: whether nothing is answered, until a caller's deadline or for a second.
    """

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self.away = False

    async def get(self, namespace: str, name: str) -> JsonObject | None:
        await self._answer()
        found = self._cluster.objects.get(("coordination.k8s.io/v1", "Lease", namespace, name))
        return dict(copied(found)) if found is not None else None

    async def write(self, namespace: str, name: str, lease: JsonObject | None, spec: JsonObject) -> JsonObject | None:
        await self._answer()
        key = ("coordination.k8s.io/v1", "Lease", namespace, name)
        live = self._cluster.objects.get(key)
        if lease is None:
            made = {"apiVersion": key[0], "kind": key[1], "metadata": {"namespace": namespace, "name": name}}
            if live is not None:
                return None
            return dict(copied(self._cluster.create(key, {**made, "spec": dict(spec)})))
        if live is None or live["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"]:
            return None
        return dict(copied(self._cluster.replace(key, {**copied(dict(lease)), "spec": dict(spec)})))

    async def _answer(self) -> None:
        await trio.sleep(0.01)
        if self.away:
            await trio.sleep(1)
            raise JiemiError("ClusterUnavailable", "the API server is away")


@attrs.frozen
class FakeEndpointSlices:
    """The EndpointSlices of a cluster in memory."""

    kubernetes: FakeKubernetes

    async def list(self, namespace: str, service: str, *, limit: int, continue_token: str | None) -> Page:
        selection, doing = await self._begin("list", "listing", namespace, service)
        return self.kubernetes.page(selection, doing, limit, continue_token)

    @asynccontextmanager
    async def watch(
        self, namespace: str, service: str, *, resource_version: str
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        selection, doing = await self._begin("watch", "watching", namespace, service)
        async with self.kubernetes.watching(selection, doing, resource_version) as chunks:
            yield chunks

    async def _begin(self, verb: str, doing: str, namespace: str, service: str) -> tuple[_Selection, str]:
        await self.kubernetes.begin(f"{verb}_endpoint_slices", verb, _SLICES.plural)
        selection = _Selection(_SLICES, namespace, f"kubernetes.io/service-name={service}")
        doing = f"{doing} the EndpointSlices of Service {namespace}/{service}"
        if not self.kubernetes.may(verb, _SLICES.plural):
            act = Act(doing, _SLICES.plural, _SLICES, namespace)
            raise errors.access_failure(_no_right(verb, _SLICES), act, "KrapaoUnavailable", "list", "watch")
        return selection, doing


def _encoded(data: Mapping[str, SensitiveText]) -> dict[str, str]:
    return {key: base64.b64encode(value.reveal().encode()).decode() for key, value in data.items()}


def _no_right(verb: str, resource: Resource) -> Refusal:
    message = f'{resource.plural} is forbidden: User "x" cannot {verb} resource "{resource.plural}"'
    return Refusal(403, "Forbidden", message=message)


def _told(selection: _Selection, happened: Happened) -> bytes | None:
    """What a watch says of a change: of an object that enters the selection ADDED, of one that leaves it DELETED."""
    was = selection.has(happened.before)
    is_now = happened.change != "DELETED" and selection.has(happened.obj)
    if is_now:
        return _line("MODIFIED" if was else "ADDED", selection.shown(happened.obj))
    if not was or happened.before is None:
        return None
    # The real one shows the object as it was while it was selected, with the version of the change.
    gone = copied(happened.before)
    gone["metadata"]["resourceVersion"] = str(happened.version)
    return _line("DELETED", selection.shown(gone))


def _line(change: str, obj: JsonObject) -> bytes:
    return json.dumps({"type": change, "object": obj}).encode() + b"\n"
