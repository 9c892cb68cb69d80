"""What every form of the Kubernetes port does. One suite for the fake and for the real form on a real API server.

A test module subclasses `KubernetesContract` (its name beginning with Test) and gives a fixture `world`.
"""

from __future__ import annotations

import base64
import json
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import pytest
import trio

from jiemi.core.decryptor import API_VERSION, KIND
from jiemi.core.errors import JiemiError
from jiemi.core.watch import Bookmark, Change, Event, Expired, LineSplitter, parse_event
from jiemi.miwen.kubernetes.counts import RequestCounter
from jiemi.miwen.kubernetes.port import JsonObject, Kubernetes

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

    kubernetes: CountingKubernetes
    namespace: str

    async def put(self, obj: JsonObject) -> Mapping[str, Any]:
        """Create an object, or replace it (its status stays), as an administrator."""
        ...

    async def delete(self, api_version: str, kind: str, namespace: str, name: str) -> None: ...

    async def get(self, api_version: str, kind: str, namespace: str | None, name: str) -> Mapping[str, Any]: ...

    def limited(self, rights: Collection[tuple[str, str]]) -> AbstractAsyncContextManager[Kubernetes]:
        """The port with these rights only, pairs of verb and resource, and the watch of `namespace`."""
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


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class Events:
    """Reads a watch."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._lines = LineSplitter()
        self._ready: deque[Event] = deque()

    async def next(self) -> Event | None:
        """The next event; None at the end."""
        while not self._ready:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                return None
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


async def refused(kubernetes: Kubernetes, manifest: JsonObject, reason: str, *, namespace: str) -> str:
    """Apply what can't be applied; returns the message."""
    with pytest.raises(JiemiError) as caught:
        await kubernetes.apply(manifest, default_namespace=namespace)
    message = caught.value.failure.message
    assert caught.value.failure.reason == reason, message
    assert CANARY not in str(caught.value)
    assert CANARY not in repr(caught.value)
    assert encoded(CANARY) not in str(caught.value)
    return message


class KubernetesContract:
    async def test_a_list_comes_in_pages_and_holds_everything_once(self, world: World) -> None:
        names = [f"d{number}" for number in range(5)]
        for name in names:
            await world.put(decryptor(world, name))
        token: str | None = None
        found: list[str] = []
        pages = 0
        while True:
            page = await world.kubernetes.list_decryptors(limit=2, continue_token=token)
            assert page.resource_version.isdecimal()
            found += [item["metadata"]["name"] for item in page.items]
            pages += 1
            token = page.continue_token
            if token is None:
                break
        assert (sorted(found), pages) == (names, 3)
        assert world.kubernetes.requests.snapshot().of("list", "decryptors") == 3

    async def test_an_empty_list_has_a_version_too(self, world: World) -> None:
        page = await world.kubernetes.list_decryptors(limit=10, continue_token=None)
        assert (page.items, page.continue_token) == ((), None)
        assert page.resource_version.isdecimal()

    async def test_a_page_token_that_is_of_no_use_means_list_again(self, world: World) -> None:
        with pytest.raises(JiemiError) as caught:
            await world.kubernetes.list_decryptors(limit=10, continue_token="nonsense")
        assert caught.value.failure.reason == "WatchExpired"

    async def test_a_watch_tells_what_happened_since_its_version_in_order(self, world: World) -> None:
        await world.put(decryptor(world, "before"))
        version = await version_now(world.kubernetes)
        await world.put(decryptor(world, "one"))
        async with world.kubernetes.watch_decryptors(resource_version=version) as chunks:
            events = Events(chunks)
            assert await events.changes(1) == [("ADDED", "one")]
            await world.put(decryptor(world, "one", "other.enc.yaml"))
            await world.put(decryptor(world, "two"))
            await world.delete(API_VERSION, KIND, world.namespace, "one")
            assert await events.changes(3) == [("MODIFIED", "one"), ("ADDED", "two"), ("DELETED", "one")]

    async def test_a_watch_goes_on_where_another_ended(self, world: World) -> None:
        version = await version_now(world.kubernetes)
        await world.put(decryptor(world, "one"))
        async with world.kubernetes.watch_decryptors(resource_version=version) as chunks:
            with trio.fail_after(DEADLINE_SECONDS):
                event = await Events(chunks).next()
        assert isinstance(event, Change)
        await world.put(decryptor(world, "two"))
        async with world.kubernetes.watch_decryptors(resource_version=event.resource_version) as chunks:
            assert await Events(chunks).changes(1) == [("ADDED", "two")]

    async def test_a_watch_ends_by_itself_after_its_timeout(self, world: World) -> None:
        async with world.short_watch() as kubernetes:
            version = await version_now(kubernetes)
            with trio.fail_after(DEADLINE_SECONDS):
                async with kubernetes.watch_decryptors(resource_version=version) as chunks:
                    seen = await Events(chunks).rest()
        assert all(isinstance(event, Bookmark) for event in seen)

    async def test_a_watch_from_a_version_that_is_too_old_says_so(self, world: World) -> None:
        await world.put(decryptor(world, "one"))
        with trio.fail_after(DEADLINE_SECONDS):
            try:
                async with world.kubernetes.watch_decryptors(resource_version="1") as chunks:
                    assert await Events(chunks).next() == Expired()
            except JiemiError as error:
                assert error.failure.reason == "WatchExpired"

    async def test_a_wait_for_a_chunk_that_is_cancelled_ends_the_watch(self, world: World) -> None:
        version = await version_now(world.kubernetes)
        with trio.fail_after(DEADLINE_SECONDS):
            async with world.kubernetes.watch_decryptors(resource_version=version) as chunks:
                with trio.move_on_after(0.05) as scope:
                    await anext(chunks)
                assert scope.cancelled_caught
                with pytest.raises(StopAsyncIteration):
                    await anext(chunks)

    async def test_what_the_reader_of_a_watch_raises_leaves_it_as_it_is(self, world: World) -> None:
        version = await version_now(world.kubernetes)
        with pytest.raises(LookupError, match="mine"):
            async with world.kubernetes.watch_decryptors(resource_version=version):
                raise LookupError("mine")

    async def test_a_secret_is_read_with_its_base64_data(self, world: World) -> None:
        await world.put(secret("credentials", world.namespace, data={"token": encoded(CANARY)}))
        read = await world.kubernetes.get_secret(world.namespace, "credentials")
        assert read["data"] == {"token": encoded(CANARY)}

    @pytest.mark.parametrize("name", ["missing", "Not_A_Name", "..", "a/b", "", "a%2fb", "a\nb"])
    async def test_a_secret_that_is_not_there_is_not_found_whatever_its_name(self, world: World, name: str) -> None:
        with pytest.raises(JiemiError) as caught:
            await world.kubernetes.get_secret(world.namespace, name)
        assert caught.value.failure.reason == "SecretNotFound"

    async def test_apply_creates_and_returns_metadata_only(self, world: World) -> None:
        manifest = secret("made", stringData={"password": CANARY})
        result = await world.kubernetes.apply(manifest, default_namespace=world.namespace)
        live = await world.get("v1", "Secret", world.namespace, "made")
        assert live["data"] == {"password": encoded(CANARY)}
        assert result == {
            "name": "made",
            "namespace": world.namespace,
            "uid": live["metadata"]["uid"],
            "resourceVersion": live["metadata"]["resourceVersion"],
        }
        assert world.kubernetes.requests.snapshot().of("apply", "secrets") == 1

    async def test_apply_of_the_same_again_changes_nothing(self, world: World) -> None:
        manifest = secret("made", data={"password": encoded(CANARY)})
        first = await world.kubernetes.apply(manifest, default_namespace=world.namespace)
        assert await world.kubernetes.apply(manifest, default_namespace=world.namespace) == first

    async def test_apply_removes_fields_that_it_gave_before_and_keeps_those_of_others(self, world: World) -> None:
        await world.put(secret("shared", world.namespace, data={"theirs": encoded("t"), "taken": encoded("old")}))
        await world.kubernetes.apply(
            secret("shared", data={"a": encoded("1"), "b": encoded("2"), "taken": encoded("new")}),
            default_namespace=world.namespace,
        )
        await world.kubernetes.apply(
            secret("shared", data={"b": encoded("3"), "taken": encoded("new")}), default_namespace=world.namespace
        )
        live = await world.get("v1", "Secret", world.namespace, "shared")
        assert live["data"] == {"theirs": encoded("t"), "b": encoded("3"), "taken": encoded("new")}

    async def test_a_manifest_s_own_namespace_comes_before_the_default(self, world: World) -> None:
        result = await world.kubernetes.apply(secret("made", world.namespace), default_namespace="default")
        assert result["namespace"] == world.namespace

    async def test_a_kind_of_the_whole_cluster_gets_no_namespace(self, world: World) -> None:
        name = f"{world.namespace}-made"
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "namespace": "default"}}
        result = await world.kubernetes.apply(manifest, default_namespace=world.namespace)
        assert (result["name"], result.get("namespace")) == (name, None)

    @pytest.mark.parametrize(
        ("api_version", "kind"),
        [
            ("v1", "Nothing"),
            ("none.example/v1", "Nothing"),
            ("v9", "Secret"),
            ("../v1", "Secret"),
            ("apps/v1/x", "Deployment"),
            ("v1?x", "Secret"),
            ("a..b/v1", "Secret"),
        ],
    )
    async def test_a_kind_that_is_not_served_is_unknown(self, world: World, api_version: str, kind: str) -> None:
        manifest = {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}}
        message = await refused(world.kubernetes, manifest, "KindUnknown", namespace=world.namespace)
        assert kind in message

    async def test_a_namespace_that_is_missing_is_named(self, world: World) -> None:
        manifest = secret("made", f"{world.namespace}-not", stringData={"password": CANARY})
        message = await refused(world.kubernetes, manifest, "NamespaceNotFound", namespace=world.namespace)
        assert f"{world.namespace}-not" in message

    @pytest.mark.parametrize(
        ("fields", "named"),
        [
            ({"stringData": {"password": 12345}}, "stringData.password"),
            ({"data": {"password": f"{CANARY}!!"}}, "base64"),
        ],
    )
    async def test_a_value_of_the_wrong_form_is_rejected_and_not_shown(
        self, world: World, fields: dict[str, Any], named: str
    ) -> None:
        message = await refused(world.kubernetes, secret("made", **fields), "ApplyRejected", namespace=world.namespace)
        assert f"Secret {world.namespace}/made" in message
        assert named in message
        assert "12345" not in message

    @pytest.mark.parametrize("name", ["Not_A_Name", "..", "a/b", "."])
    async def test_a_name_that_can_be_none_is_rejected_with_its_field(self, world: World, name: str) -> None:
        message = await refused(world.kubernetes, secret(name), "ApplyRejected", namespace=world.namespace)
        assert "metadata.name" in message

    async def test_an_immutable_secret_is_not_changed(self, world: World) -> None:
        first = secret("fixed", immutable=True, data={"password": encoded("old")})
        await world.kubernetes.apply(first, default_namespace=world.namespace)
        second = secret("fixed", immutable=True, data={"password": encoded(CANARY)})
        message = await refused(world.kubernetes, second, "ApplyRejected", namespace=world.namespace)
        assert "data (FieldValueForbidden)" in message

    async def test_status_is_replaced_as_a_whole_and_nothing_else(self, world: World) -> None:
        made = await world.put(decryptor(world, "one"))
        uid = made["metadata"]["uid"]
        first = await world.kubernetes.patch_status(
            world.namespace, "one", status(1, observedGeneration=1, lastAttemptedRevision="b" * 40), uid=uid
        )
        assert first is not None
        second = await world.kubernetes.patch_status(world.namespace, "one", status(2), uid=uid)
        assert second is not None
        assert second["status"] == status(2)
        assert second["spec"] == made["spec"]
        assert second["metadata"]["generation"] == 1
        assert (await world.get(API_VERSION, KIND, world.namespace, "one"))["status"] == status(2)
        counts = world.kubernetes.requests.snapshot()
        assert (counts.of("patch", "decryptors/status"), counts.writes) == (2, 2)

    async def test_the_status_of_another_object_of_that_name_is_left_alone(self, world: World) -> None:
        await world.put(decryptor(world, "one"))
        other = "00000000-0000-0000-0000-000000000000"
        assert await world.kubernetes.patch_status(world.namespace, "one", status(1), uid=other) is None
        assert "status" not in await world.get(API_VERSION, KIND, world.namespace, "one")

    async def test_the_status_of_an_object_that_is_gone_is_no_error(self, world: World) -> None:
        made = await world.put(decryptor(world, "one"))
        await world.delete(API_VERSION, KIND, world.namespace, "one")
        uid = made["metadata"]["uid"]
        assert await world.kubernetes.patch_status(world.namespace, "one", status(1), uid=uid) is None

    async def test_a_right_that_is_missing_is_named(self, world: World) -> None:
        made = await world.put(decryptor(world, "one"))
        uid = made["metadata"]["uid"]
        await world.put(secret("there", world.namespace))
        async with world.limited({("get", "configmaps"), ("patch", "secrets")}) as kubernetes:
            with pytest.raises(JiemiError) as caught:
                await kubernetes.list_decryptors(limit=1, continue_token=None)
            assert caught.value.failure.reason == "ListForbidden"
            assert "`list` on decryptors of API group jiemi.cr" in str(caught.value)
            with pytest.raises(JiemiError) as caught:
                async with kubernetes.watch_decryptors(resource_version="1"):
                    pass
            assert caught.value.failure.reason == "ListForbidden"
            assert "`watch` on decryptors" in str(caught.value)
            with pytest.raises(JiemiError) as caught:
                await kubernetes.get_secret(world.namespace, "there")
            assert caught.value.failure.reason == "SecretForbidden"
            assert f"`get` on secrets of the core API group in namespace {world.namespace}" in str(caught.value)
            with pytest.raises(JiemiError) as caught:
                await kubernetes.patch_status(world.namespace, "one", status(1), uid=uid)
            assert caught.value.failure.reason == "ListForbidden"
            assert "`patch` on decryptors/status of API group jiemi.cr" in str(caught.value)
            manifest = secret("made", stringData={"password": CANARY})
            message = await refused(kubernetes, manifest, "ApplyForbidden", namespace=world.namespace)
            # It may patch Secrets, but not create them, and this one is not there.
            assert "`create` and `patch` on secrets of the core API group" in message
            assert world.namespace in message
            await kubernetes.apply(secret("there", data={"a": encoded("1")}), default_namespace=world.namespace)

    async def test_rights_that_suffice_suffice(self, world: World) -> None:
        made = await world.put(decryptor(world, "one"))
        rights = {("list", "decryptors"), ("watch", "decryptors"), ("patch", "decryptors/status"), ("get", "secrets")}
        async with world.limited(rights | {("create", "secrets"), ("patch", "secrets")}) as kubernetes:
            version = await version_now(kubernetes)
            await kubernetes.apply(secret("made"), default_namespace=world.namespace)
            assert (await kubernetes.get_secret(world.namespace, "made"))["kind"] == "Secret"
            async with kubernetes.watch_decryptors(resource_version=version) as chunks:
                uid = made["metadata"]["uid"]
                assert await kubernetes.patch_status(world.namespace, "one", status(1), uid=uid) is not None
                assert await Events(chunks).changes(1) == [("MODIFIED", "one")]

    async def test_many_at_once_get_their_own_answers(self, world: World) -> None:
        for number in range(10):
            await world.put(secret(f"s{number}", world.namespace, data={"n": encoded(str(number))}))
        read: dict[str, Any] = {}

        async def get(name: str) -> None:
            read[name] = (await world.kubernetes.get_secret(world.namespace, name))["data"]

        with trio.fail_after(DEADLINE_SECONDS):
            async with trio.open_nursery() as nursery:
                for number in range(10):
                    nursery.start_soon(get, f"s{number}")
        assert read == {f"s{number}": {"n": encoded(str(number))} for number in range(10)}

    async def test_objects_are_plain_json_values(self, world: World) -> None:
        made = await world.put(decryptor(world, "one"))
        page = await world.kubernetes.list_decryptors(limit=1, continue_token=None)
        assert json.loads(json.dumps(page.items[0]))["metadata"]["uid"] == made["metadata"]["uid"]
