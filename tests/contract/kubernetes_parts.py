"""What the suites of the Kubernetes port share: what they ask of a cluster, objects, and the reading of watches."""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import trio

from jiemi.core.api.decryptor import API_VERSION, KIND
from jiemi.core.errors import JiemiError
from jiemi.core.objects.watch_events import Change, Event, LineSplitter, parse_event
from jiemi.miwen.kubernetes.counts import RequestCounter
from jiemi.miwen.kubernetes.port import Account, JsonObject, Kubernetes

DEADLINE_SECONDS = 30
"""For what must happen, on a machine that is busy with other things."""

CANARY = "canary-5f1e9c"
"""Part of every secret value here; no error may show it."""


class CountingKubernetes(Kubernetes, Protocol):
    requests: RequestCounter


class World(Protocol):
    """A cluster, and the port that is tested.

    Attributes:
        kubernetes: looks at `namespace` alone, with all rights.
        namespace: a new one.
    """

    @property
    def kubernetes(self) -> CountingKubernetes: ...

    @property
    def namespace(self) -> str: ...

    async def put(self, obj: JsonObject, *, manager: str = "tests") -> Mapping[str, Any]:
        """Create an object, or replace it (its status stays), as an administrator.

        Args:
            manager: the field manager.
        """
        ...

    async def edit(
        self,
        api_version: str,
        kind: str,
        namespace: str | None,
        name: str,
        changes: JsonObject,
        *,
        manager: str = "tests",
    ) -> Mapping[str, Any]:
        """Change fields of an object by a JSON merge patch (RFC 7386), as an administrator."""
        ...

    async def delete(self, api_version: str, kind: str, namespace: str | None, name: str) -> None: ...

    async def get(self, api_version: str, kind: str, namespace: str | None, name: str) -> Mapping[str, Any]: ...

    async def exists(self, api_version: str, kind: str, namespace: str | None, name: str) -> bool: ...

    async def doomed_namespace(self) -> str:
        """Another namespace, whose deletion has begun and does not end."""
        ...

    def policy(self) -> AbstractAsyncContextManager[str]:
        """An admission policy of `namespace`; gives its name. It refuses to create or change Secrets whose data has the
        key "banned", and to delete those which have the key "kept".
        """
        ...

    async def quota(self, name: str, hard: Mapping[str, str]) -> None:
        """Limit how many objects `namespace` may hold: {"count/secrets": "1"}."""
        ...

    async def serve(self, service: str, *pods: str) -> None:
        """Have these Pods, and no others, behind a Service of `namespace`: all ready, at port 50208."""
        ...

    async def account(self, rights: Collection[tuple[str, str]]) -> Account:
        """A new ServiceAccount with these rights in `namespace`, pairs of verb and resource."""
        ...

    def limited(self, rights: Collection[tuple[str, str]]) -> AbstractAsyncContextManager[CountingKubernetes]:
        """The port with these rights only, and the watch of `namespace`; ("impersonate", "serviceaccounts") is one."""
        ...

    def short_watch(self) -> AbstractAsyncContextManager[Kubernetes]:
        """The port with a watch timeout of 3 seconds."""
        ...


def decryptor(world: World, name: str, file: str = "secret.enc.yaml") -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, "namespace": world.namespace},
        "spec": {
            "provider": {"age": {"privateKey": {"secretName": "age", "key": "key"}}},
            "source": {"repository": {"url": "https://git.example/app.git"}, "fileToDecrypt": file},
        },
    }


def status(number: int, **more: Any) -> dict[str, Any]:
    current = {
        "id": number,
        "revision": "a" * 40,
        "file_to_decrypt": "secret.enc.yaml",
        "deployed_at": "2026-11-24T03:00:00Z",
        "status": "Sync",
        "error_message": None,
    }
    return {"current": current, "history": [], **more}


def secret(name: str, namespace: str | None = None, **fields: Any) -> dict[str, Any]:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, **fields}


def endpoint_slice(namespace: str, name: str, service: str, *pods: str) -> dict[str, Any]:
    """An EndpointSlice of a Service, with a Pod at each address 10.0.0.1, 10.0.0.2 and so on."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "endpoints": [
            {
                "addresses": [f"10.0.0.{number}"],
                "conditions": {"ready": True},
                "targetRef": {"kind": "Pod", "name": pod, "namespace": namespace},
            }
            for number, pod in enumerate(pods, 1)
        ],
        "ports": [{"name": "capnp", "port": 50208, "protocol": "TCP"}],
    }


def event(world: World, name: str, **fields: Any) -> dict[str, Any]:
    """An Event about the Decryptor "one"."""
    regarding = {"apiVersion": API_VERSION, "kind": KIND, "name": "one", "namespace": world.namespace}
    return {
        "metadata": {"name": name},
        "eventTime": "2026-11-24T03:00:00.000000Z",
        "reportingController": "jiemi.cr/miwen",
        "reportingInstance": "miwen-0",
        "action": "Apply",
        "reason": "Applied",
        "type": "Normal",
        "note": "1 object is applied",
        "regarding": regarding,
    } | fields


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class Events:
    """Reads a watch; `seen` are its bytes so far."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self.seen = b""
        self._chunks = chunks
        self._lines = LineSplitter()
        self._ready: deque[Event] = deque()

    async def next(self) -> Event | None:
        """The next event; None at the end."""
        while not self._ready:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                return None
            self.seen += chunk
            self._ready += [parse_event(line) for line in self._lines.feed(chunk)]
        return self._ready.popleft()

    async def rest(self) -> list[Event]:
        """The events up to the end."""
        found: list[Event] = []
        while (event := await self.next()) is not None:
            found.append(event)
        return found

    async def changes(self, number: int) -> list[tuple[str, str]]:
        """The next changes: type and name."""
        taken: list[tuple[str, str]] = []
        with trio.fail_after(DEADLINE_SECONDS):
            while len(taken) < number:
                event = await self.next()
                assert event is not None, "the watch ended"
                if isinstance(event, Change):
                    taken.append((event.type.value, event.object["metadata"]["name"]))
        return taken


async def version_now(kubernetes: Kubernetes) -> str:
    return (await kubernetes.list_decryptors(limit=1, continue_token=None)).resource_version


async def failure_of(doing: Awaitable[Any]) -> tuple[str, str]:
    """Reason and message of what fails, which must show no secret; two empty texts when it succeeds."""
    try:
        await doing
    except JiemiError as error:
        for text in (str(error), repr(error)):
            assert CANARY not in text
            assert encoded(CANARY) not in text
        return error.failure.reason, error.failure.text
    return "", ""


async def denied(doing: Awaitable[Any], reason: str) -> str:
    """The message of what fails with that reason."""
    failed, message = await failure_of(doing)
    assert failed == reason, (failed, message)
    return message


async def refused(kubernetes: Kubernetes, manifest: JsonObject, reason: str, *, namespace: str) -> str:
    """Apply what can't be applied; returns the message."""
    return await denied(kubernetes.objects(None).apply(manifest, default_namespace=namespace), reason)
