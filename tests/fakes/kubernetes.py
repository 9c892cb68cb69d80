"""The Kubernetes port in memory. It keeps tests/contract/kubernetes_contract.py, so it can be believed.

`FakeCluster` is the API server: objects, versions, what happened. `FakeKubernetes` is one client of it, with rights,
faults and counts of its own. Times are trio's, so a virtual clock works.
"""

from __future__ import annotations

import base64
import binascii
import copy
import json
import re
import uuid
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import aclosing, asynccontextmanager
from typing import Any

import trio

from jiemi.core.decryptor import API_VERSION, GROUP, KIND, PLURAL
from jiemi.core.errors import JiemiError
from jiemi.miwen.kubernetes import errors
from jiemi.miwen.kubernetes.counts import RequestCounter
from jiemi.miwen.kubernetes.discovery import Resource, Target, is_path_part, target
from jiemi.miwen.kubernetes.errors import Cause, Refusal
from jiemi.miwen.kubernetes.port import JsonObject, Page

BOOKMARK_SECONDS = 60.0
"""How often the real API server sends a bookmark."""

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")

Key = tuple[str, str, str | None, str]


class FakeCluster:
    """What an API server knows. The namespace `default` is there from the beginning."""

    def __init__(self) -> None:
        self.version = 100
        self.kinds: dict[tuple[str, str], Resource] = {}
        self.objects: dict[Key, dict[str, Any]] = {}
        self.applied: dict[Key, JsonObject] = {}
        self.events: list[tuple[int, str, dict[str, Any]]] = []
        self.oldest = self.version
        self.news = trio.Event()
        self.watches = 0
        for api_version, kind, plural, namespaced in (
            ("v1", "Namespace", "namespaces", False),
            ("v1", "Secret", "secrets", True),
            ("v1", "ConfigMap", "configmaps", True),
            (API_VERSION, KIND, PLURAL, True),
        ):
            self.add_kind(api_version, kind, plural, namespaced=namespaced)
        self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}})

    def add_kind(self, api_version: str, kind: str, plural: str, *, namespaced: bool) -> None:
        """Serve another kind, as a CustomResourceDefinition makes the real one do."""
        self.kinds[api_version, kind] = Resource(api_version, kind, plural, namespaced)

    def remove_kind(self, api_version: str, kind: str) -> None:
        """Serve a kind no more."""
        del self.kinds[api_version, kind]

    def put(self, obj: JsonObject) -> dict[str, Any]:
        """Create an object or replace it, as anyone but Miwen would; its status stays where none is given."""
        key = _key(obj)
        made = copy.deepcopy(dict(obj))
        old = self.objects.get(key)
        if old is not None and "status" in old:
            made.setdefault("status", copy.deepcopy(old["status"]))
        return copy.deepcopy(self._store(key, made))

    def get(self, kind: str, namespace: str | None, name: str, *, api_version: str = "v1") -> dict[str, Any] | None:
        """An object as it is now."""
        return copy.deepcopy(self.objects.get((api_version, kind, namespace, name)))

    def delete(self, kind: str, namespace: str | None, name: str, *, api_version: str = "v1") -> None:
        """Take an object away."""
        key = (api_version, kind, namespace, name)
        gone = self.objects.pop(key)
        self.applied.pop(key, None)
        self.version += 1
        gone["metadata"]["resourceVersion"] = str(self.version)
        self._tell("DELETED", gone)

    def compact(self) -> None:
        """Forget what happened until now, as etcd does after some minutes: older versions and pages are gone (410)."""
        self.version += 1
        self.oldest = self.version

    def end_watches(self) -> None:
        """End all watches, as an API server that restarts does."""
        self._tell("END", {})

    def fail_watches(self, code: int) -> None:
        """Say an error in all watches, which ends them."""
        self._tell("ERROR", {"kind": "Status", "status": "Failure", "code": code})

    def apply(self, to: Target, resource: Resource) -> dict[str, Any]:
        """Server-side apply by Miwen's field manager. Lists are replaced whole; fields that Miwen gave before and
        gives no more are removed, though another may own them too."""
        key = (resource.api_version, resource.kind, to.namespace, to.name)
        live = copy.deepcopy(self.objects.get(key, {}))
        body = _stored_form(to.body)
        _remove(live, self.applied.get(key, {}), body)
        _merge(live, body)
        self.applied[key] = body
        return self._store(key, live)

    def set_status(self, key: Key, status: JsonObject) -> dict[str, Any]:
        return self._store(key, {**copy.deepcopy(self.objects[key]), "status": copy.deepcopy(dict(status))})

    def _store(self, key: Key, obj: dict[str, Any]) -> dict[str, Any]:
        old = self.objects.get(key)
        metadata = obj["metadata"] = dict(obj["metadata"])
        server_set = {"uid", "resourceVersion", "generation"}
        if old is None:
            metadata |= {"uid": str(uuid.uuid4()), "generation": 1}
        else:
            metadata |= {field: old["metadata"][field] for field in server_set}
            if obj == old:
                return old
            if obj.get("spec") != old.get("spec"):
                metadata["generation"] += 1
        self.version += 1
        metadata["resourceVersion"] = str(self.version)
        self.objects[key] = obj
        self._tell("ADDED" if old is None else "MODIFIED", obj)
        return obj

    def _tell(self, change: str, obj: dict[str, Any]) -> None:
        if change not in {"END", "ERROR"} and (obj["apiVersion"], obj["kind"]) != (API_VERSION, KIND):
            return
        self.events.append((self.version, change, copy.deepcopy(obj)))
        self.news.set()
        self.news = trio.Event()


class FakeKubernetes:
    """The port.

    Args:
        cluster: what it talks to; None makes one.
        namespace: whose Decryptors it looks at; None: all.
        rights: pairs of verb and resource that it has ("get", "secrets"); None: all.
        watch_timeout_seconds, watch_grace_seconds: as in KubernetesSettings.

    Attributes:
        cluster: what it talks to.
        requests: counts as the real form does.
        silent: while it is True, nothing arrives on watches.
        delays: seconds that each call of a method takes, by the method's name.
    """

    def __init__(
        self,
        cluster: FakeCluster | None = None,
        *,
        namespace: str | None = None,
        rights: Collection[tuple[str, str]] | None = None,
        watch_timeout_seconds: float = 300.0,
        watch_grace_seconds: float = 30.0,
    ) -> None:
        self.cluster = cluster if cluster is not None else FakeCluster()
        self.requests = RequestCounter()
        self.silent = False
        self.delays: dict[str, float] = {}
        self.denied: set[tuple[str, str]] = set()
        self._namespace = namespace
        self._rights = rights
        self._watch_timeout = watch_timeout_seconds
        self._watch_silence = watch_timeout_seconds + watch_grace_seconds
        self._faults: defaultdict[str, deque[JiemiError]] = defaultdict(deque)

    def fail_next(self, method: str, *failures: JiemiError) -> None:
        """Let the next calls of a method fail, one failure each."""
        assert hasattr(self, method)
        self._faults[method] += failures

    def deny(self, verb: str, resource: str) -> None:
        """Take a right away."""
        self.denied.add((verb, resource))

    async def list_decryptors(self, *, limit: int, continue_token: str | None) -> Page:
        await self._begin("list_decryptors", "list", PLURAL)
        self._require_list("list", "listing the Decryptors")
        found = sorted(
            (obj for obj in self.cluster.objects.values() if self._seen(obj)),
            key=lambda obj: (obj["metadata"]["namespace"], obj["metadata"]["name"]),
        )
        after: list[str] = []
        version = self.cluster.version
        if continue_token is not None:
            try:
                version, *after = json.loads(continue_token)
            except ValueError:
                version = -1
            if version < self.cluster.oldest:
                raise JiemiError("WatchExpired", "listing the Decryptors: too old")
        # A real one shows the later pages as they were when the first was read. This one shows what is there now, which
        # the watch that starts at the first page's version says again.
        rest = [obj for obj in found if [obj["metadata"]["namespace"], obj["metadata"]["name"]] > after]
        page = rest[:limit]
        token = None
        if len(rest) > limit:
            token = json.dumps([version, page[-1]["metadata"]["namespace"], page[-1]["metadata"]["name"]])
        return Page(tuple(copy.deepcopy(page)), str(version), token)

    @asynccontextmanager
    async def watch_decryptors(self, *, resource_version: str) -> AsyncIterator[AsyncIterator[bytes]]:
        await self._begin("watch_decryptors", "watch", PLURAL)
        self._require_list("watch", "watching the Decryptors")
        self.cluster.watches += 1
        try:
            async with aclosing(
                self._watch(int(resource_version), trio.current_time(), len(self.cluster.events))
            ) as chunks:
                yield chunks
        finally:
            self.cluster.watches -= 1

    async def _watch(self, version: int, began: float, old: int) -> AsyncGenerator[bytes, None]:
        """The bytes; what ended watches before the first `old` events were told is not for this one."""
        await trio.lowlevel.checkpoint()
        if version < self.cluster.oldest:
            # The real one says this in the stream, with status 200.
            yield _line("ERROR", {"kind": "Status", "status": "Failure", "reason": "Expired", "code": 410})
            return
        last = began
        end = began + self._watch_timeout
        place = next((i for i, each in enumerate(self.cluster.events) if each[0] > version), old)
        while True:
            news = self.cluster.news
            if self.silent:
                await trio.sleep_until(last + self._watch_silence)
                problem = f"watching the Decryptors: nothing came for {self._watch_silence:g} s"
                raise JiemiError("ClusterUnavailable", problem)
            while place < len(self.cluster.events):
                _, change, obj = self.cluster.events[place]
                place += 1
                if change == "END" and place > old:
                    return
                if change == "ERROR" and place > old:
                    yield _line(change, obj)
                    return
                if change not in {"END", "ERROR"} and self._seen(obj):
                    last = trio.current_time()
                    yield _line(change, obj)
            now = trio.current_time()
            if now >= end:
                return
            with trio.move_on_after(min(BOOKMARK_SECONDS, end - now)) as scope:
                await news.wait()
            if scope.cancelled_caught and not self.silent:
                last = trio.current_time()
                metadata = {"resourceVersion": str(self.cluster.version)}
                yield _line("BOOKMARK", {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata})

    async def get_secret(self, namespace: str, name: str) -> JsonObject:
        label = f"Secret {namespace}/{name}"
        if not is_path_part(namespace) or not is_path_part(name):
            raise JiemiError("SecretNotFound", f"{label}: no Secret can have that name")
        await self._begin("get_secret", "get", "secrets")
        if not self._may("get", "secrets"):
            raise errors.forbidden(
                "SecretForbidden",
                f"reading {label}",
                verbs="`get`",
                resource="secrets",
                group="",
                namespace=namespace,
            )
        secret = self.cluster.get("Secret", namespace, name)
        if secret is None:
            raise JiemiError("SecretNotFound", f"there is no {label}")
        return secret

    async def apply(self, manifest: JsonObject, *, default_namespace: str) -> JsonObject:
        api_version, kind = str(manifest["apiVersion"]), str(manifest["kind"])
        resource = self.cluster.kinds.get((api_version, kind))
        if resource is None:
            await self._begin("apply", "get", "discovery")
            raise errors.kind_unknown(api_version, kind)
        to = target(manifest, resource, default_namespace=default_namespace)
        await self._begin("apply", "apply", resource.plural)
        refusal = self._refusal(to, resource)
        if refusal is not None:
            raise errors.apply_failure(refusal, resource, to.namespace, to.label)
        metadata = self.cluster.apply(to, resource)["metadata"]
        return {
            field: metadata[field] for field in ("name", "namespace", "uid", "resourceVersion") if field in metadata
        }

    async def patch_status(self, namespace: str, name: str, status: JsonObject, *, uid: str) -> JsonObject | None:
        await self._begin("patch_status", "patch", f"{PLURAL}/status")
        if not self._may("patch", f"{PLURAL}/status"):
            raise errors.forbidden(
                "ListForbidden",
                f"writing the status of Decryptor {namespace}/{name}",
                verbs="`patch`",
                resource=f"{PLURAL}/status",
                group=GROUP,
                namespace=self._namespace,
            )
        key = (API_VERSION, KIND, namespace, name)
        live = self.cluster.objects.get(key)
        if live is None or live["metadata"]["uid"] != uid:
            return None
        return copy.deepcopy(self.cluster.set_status(key, status))

    async def _begin(self, method: str, verb: str, resource: str) -> None:
        self.requests.add(verb, resource)
        await trio.sleep(self.delays.get(method, 0))
        if self._faults[method]:
            raise self._faults[method].popleft()

    def _may(self, verb: str, resource: str) -> bool:
        return (verb, resource) not in self.denied and (self._rights is None or (verb, resource) in self._rights)

    def _require_list(self, verb: str, doing: str) -> None:
        if (API_VERSION, KIND) not in self.cluster.kinds:
            raise JiemiError("ListForbidden", f"{doing}: the CRD {PLURAL}.{GROUP} is not installed; apply deploy/")
        if not self._may(verb, PLURAL):
            raise errors.forbidden(
                "ListForbidden", doing, verbs=f"`{verb}`", resource=PLURAL, group=GROUP, namespace=self._namespace
            )

    def _seen(self, obj: JsonObject) -> bool:
        return (obj["apiVersion"], obj["kind"]) == (API_VERSION, KIND) and self._namespace in {
            None,
            obj["metadata"]["namespace"],
        }

    def _refusal(self, to: Target, resource: Resource) -> Refusal | None:
        """What the API server would not take, of all that it would not."""
        live = self.cluster.objects.get((resource.api_version, resource.kind, to.namespace, to.name))
        for verb in ("patch",) if live is not None else ("patch", "create"):
            if not self._may(verb, resource.plural):
                message = f'{resource.plural} is forbidden: User "x" cannot {verb} resource "{resource.plural}"'
                return Refusal(403, "Forbidden", message=message)
        if to.namespace is not None and self.cluster.get("Namespace", None, to.namespace) is None:
            return Refusal(404, "NotFound", of_kind="namespaces", of_name=to.namespace)
        return _invalid(to, live)


def _invalid(to: Target, live: JsonObject | None) -> Refusal | None:
    if to.kind in {"Secret", "ConfigMap"}:
        for field in ("data", "stringData"):
            for key, value in (to.body.get(field) or {}).items():
                if not isinstance(value, str):
                    fault = f".{field}.{key}: expected string, got &value.valueUnstructured{{Value:{value}}}"
                    message = f"failed to create typed patch object (/{to.name}; /v1, Kind={to.kind}): {fault}"
                    return Refusal(500, message=message)
    if to.kind == "Secret":
        try:
            for value in (to.body.get("data") or {}).values():
                base64.b64decode(value, validate=True)
        except binascii.Error:
            return Refusal(500, message="failed to convert new object: illegal base64 data at input byte 6")
    if _NAME.fullmatch(to.name) is None:
        return Refusal(422, "Invalid", causes=(Cause("FieldValueInvalid", "metadata.name"),))
    if live is not None and live.get("immutable") and _stored_form(to.body).get("data") != live.get("data"):
        return Refusal(422, "Invalid", causes=(Cause("FieldValueForbidden", "data"),))
    return None


def _key(obj: JsonObject) -> Key:
    return obj["apiVersion"], obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"]


def _line(change: str, obj: JsonObject) -> bytes:
    return json.dumps({"type": change, "object": obj}).encode() + b"\n"


def _stored_form(body: JsonObject) -> dict[str, Any]:
    """A Secret's stringData becomes data when it is written."""
    stored = copy.deepcopy(dict(body))
    if stored["kind"] == "Secret" and stored.get("stringData"):
        texts = stored.pop("stringData")
        encoded = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
        stored["data"] = {**stored.get("data", {}), **encoded}
    return stored


def _remove(live: dict[str, Any], before: JsonObject, now: JsonObject) -> None:
    for key, value in before.items():
        if isinstance(value, dict) and isinstance(live.get(key), dict):
            _remove(live[key], value, now[key] if isinstance(now.get(key), dict) else {})
            if key not in now and not live[key]:
                del live[key]
        elif key not in now:
            live.pop(key, None)


def _merge(live: dict[str, Any], now: JsonObject) -> None:
    for key, value in now.items():
        if isinstance(value, dict) and isinstance(live.get(key), dict):
            _merge(live[key], value)
        else:
            live[key] = copy.deepcopy(value)
