"""What every form of the Kubernetes port does. Suites for the fake and for the real form on a real API server.

This one is of Decryptors, Secrets, Events and of what an apply does; `kubernetes_objects_contract` is of objects of any
kind, `kubernetes_accounts_contract` of what is done as an account, `kubernetes_metadata_contract` of lists and watches
of metadata. A test module subclasses each (its name beginning with Test) and gives a fixture `world`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
import trio
from contract.kubernetes_parts import (
    CANARY,
    DEADLINE_SECONDS,
    Events,
    World,
    decryptor,
    denied,
    encoded,
    event,
    failure_of,
    refused,
    secret,
    status,
    version_now,
)

from jiemi.core.api.decryptor import API_VERSION, KIND
from jiemi.core.errors import JiemiError
from jiemi.core.objects.endpoints import endpoints
from jiemi.core.objects.watch_events import Bookmark, Change, Expired
from jiemi.core.sensitive import SensitiveText
from jiemi.miwen.kubernetes.port import JsonObject


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

    async def test_a_watch_reports_what_happened_since_its_version_in_order(self, world: World) -> None:
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

    async def test_a_secret_is_made_where_there_is_none_and_never_changed(self, world: World) -> None:
        kubernetes = world.kubernetes
        assert await kubernetes.create_secret(world.namespace, "made", {"token": SensitiveText(CANARY)}) is True
        assert await kubernetes.create_secret(world.namespace, "made", {"token": SensitiveText("other")}) is False
        live = await world.get("v1", "Secret", world.namespace, "made")
        assert live["data"] == {"token": encoded(CANARY)}
        assert kubernetes.requests.snapshot().of("create", "secrets") == 2

    async def test_a_secret_needs_a_namespace_that_stays_and_the_right_to_make_it(self, world: World) -> None:
        missing = f"{world.namespace}-not"
        reason, message = await failure_of(
            world.kubernetes.create_secret(missing, "s", {"token": SensitiveText(CANARY)})
        )
        assert reason == "NamespaceNotFound"
        async with world.limited({("get", "secrets")}) as kubernetes:
            doing = kubernetes.create_secret(world.namespace, "s", {"token": SensitiveText(CANARY)})
            denial = await denied(doing, "SecretForbidden")
        assert (
            f"`create` on secrets of the core API group to Miwen's ServiceAccount in namespace {world.namespace}"
            in denial
        )
        assert CANARY not in message + denial

    async def test_a_secret_is_made_with_a_type_and_labels_and_replaced_only_as_it_was_read(self, world: World) -> None:
        kubernetes = world.kubernetes
        parts = {"tls.crt": SensitiveText("one"), "tls.key": SensitiveText(CANARY)}
        labels = {"app.kubernetes.io/managed-by": "jiemi"}
        assert await kubernetes.create_secret(
            world.namespace, "made", parts, of_type="kubernetes.io/tls", labels=labels
        )
        read = await kubernetes.get_secret(world.namespace, "made")
        assert (read["type"], read["metadata"]["labels"]) == ("kubernetes.io/tls", labels)
        two = {"tls.crt": SensitiveText("two"), "tls.key": SensitiveText("other")}
        assert await kubernetes.replace_secret(read, two) is True
        assert await kubernetes.replace_secret(read, parts) is False, "it was changed since it was read"
        live = await world.get("v1", "Secret", world.namespace, "made")
        assert live["data"] == {"tls.crt": encoded("two"), "tls.key": encoded("other")}
        assert live["metadata"]["labels"] == labels
        await world.delete("v1", "Secret", world.namespace, "made")
        assert await kubernetes.replace_secret(live, parts) is False, "it is gone"
        assert kubernetes.requests.snapshot().of("update", "secrets") == 3

    async def test_a_secret_needs_the_right_to_be_replaced(self, world: World) -> None:
        await world.put(secret("made", world.namespace, data={"a": encoded("b")}))
        async with world.limited({("get", "secrets")}) as kubernetes:
            read = await kubernetes.get_secret(world.namespace, "made")
            denial = await denied(kubernetes.replace_secret(read, {"a": SensitiveText(CANARY)}), "SecretForbidden")
        assert "`update` on secrets of the core API group to Miwen's ServiceAccount" in denial
        assert CANARY not in denial

    async def test_a_lease_is_written_only_as_it_was_read(self, world: World) -> None:
        leases, place = world.kubernetes.leases, (world.namespace, "active")
        assert await leases.get(*place) is None
        spec = {"holderIdentity": "a", "leaseDurationSeconds": 6, "renewTime": "2026-01-01T00:00:00.000000Z"}
        made = await leases.write(*place, None, spec)
        assert made is not None
        assert await leases.write(*place, None, spec) is None, "there is one now"
        read = await leases.get(*place)
        assert read == made
        other = await leases.write(*place, read, {**spec, "holderIdentity": "b"})
        assert other is not None
        assert other["spec"] == {**spec, "holderIdentity": "b"}
        assert await leases.write(*place, read, spec) is None, "somebody else has written it"
        assert (await leases.write(*place, other, spec) or {})["spec"] == spec

    async def test_the_pods_behind_one_service_are_known_by_a_list_and_a_watch_of_its_endpoint_slices(
        self, world: World
    ) -> None:
        slices, of = world.kubernetes.endpoint_slices, (world.namespace, "repository-svc")
        await world.serve("repository-svc", "repository-0")
        await world.serve("another-svc", "another-0")
        page = await slices.list(*of, limit=10, continue_token=None)
        [item] = page.items
        live = await world.get("discovery.k8s.io/v1", "EndpointSlice", world.namespace, item["metadata"]["name"])
        # A list of a kind of the API server's own leaves out apiVersion and kind of each.
        assert {**live, **item} == live
        known = {item["metadata"]["name"]: item}
        [first] = endpoints(known.values(), "capnp")
        assert (first.pod, first.port, first.ready) == ("repository-0", 50208, True)
        async with slices.watch(*of, resource_version=page.resource_version) as chunks:
            events = Events(chunks)
            await world.serve("another-svc", "another-1")
            for pods in (["repository-0", "repository-1"], ["repository-1"], []):
                await world.serve("repository-svc", *pods)
                with trio.fail_after(DEADLINE_SECONDS):
                    while [each.pod for each in endpoints(known.values(), "capnp") if each.ready] != pods:
                        event = await events.next()
                        assert isinstance(event, Change | Bookmark), event
                        if isinstance(event, Change):
                            metadata = event.object["metadata"]
                            assert metadata["labels"]["kubernetes.io/service-name"] == "repository-svc"
                            known[metadata["name"]] = event.object
        reason, _ = await failure_of(slices.list(*of, limit=1, continue_token="nonsense"))
        assert reason == "WatchExpired"

    async def test_endpoint_slices_need_the_right_to_be_listed_and_watched(self, world: World) -> None:
        grant = "`list` and `watch` on endpointslices of API group discovery.k8s.io to Miwen's ServiceAccount in"
        of = (world.namespace, "repository-svc")
        async with world.limited({("list", "endpointslices")}) as kubernetes:
            page = await kubernetes.endpoint_slices.list(*of, limit=1, continue_token=None)

            async def watch() -> None:
                async with kubernetes.endpoint_slices.watch(*of, resource_version=page.resource_version):
                    pass

            assert grant in await denied(watch(), "KrapaoUnavailable")
        async with world.limited({("watch", "endpointslices")}) as kubernetes:
            doing = kubernetes.endpoint_slices.list(*of, limit=1, continue_token=None)
            assert grant in await denied(doing, "KrapaoUnavailable")

    async def test_apply_creates_and_returns_metadata_only(self, world: World) -> None:
        manifest = secret("made", stringData={"password": CANARY})
        result = await world.kubernetes.objects(None).apply(manifest, default_namespace=world.namespace)
        live = await world.get("v1", "Secret", world.namespace, "made")
        assert live["data"] == {"password": encoded(CANARY)}
        assert result == live["metadata"]
        assert world.kubernetes.requests.snapshot().of("apply", "secrets") == 1

    async def test_apply_of_the_same_again_changes_nothing(self, world: World) -> None:
        manifest = secret("made", data={"password": encoded(CANARY)})
        first = await world.kubernetes.objects(None).apply(manifest, default_namespace=world.namespace)
        assert await world.kubernetes.objects(None).apply(manifest, default_namespace=world.namespace) == first

    async def test_apply_removes_fields_that_it_gave_before_and_keeps_those_of_others(self, world: World) -> None:
        await world.put(secret("shared", world.namespace, data={"theirs": encoded("t"), "taken": encoded("old")}))
        await world.kubernetes.objects(None).apply(
            secret("shared", data={"a": encoded("1"), "b": encoded("2"), "taken": encoded("new")}),
            default_namespace=world.namespace,
        )
        await world.kubernetes.objects(None).apply(
            secret("shared", data={"b": encoded("3"), "taken": encoded("new")}), default_namespace=world.namespace
        )
        live = await world.get("v1", "Secret", world.namespace, "shared")
        assert live["data"] == {"theirs": encoded("t"), "b": encoded("3"), "taken": encoded("new")}

    async def test_a_manifest_s_own_namespace_comes_before_the_default(self, world: World) -> None:
        result = await world.kubernetes.objects(None).apply(
            secret("made", world.namespace), default_namespace="default"
        )
        assert result["namespace"] == world.namespace

    async def test_a_kind_of_the_whole_cluster_gets_no_namespace(self, world: World) -> None:
        name = f"{world.namespace}-made"
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "namespace": "default"}}
        result = await world.kubernetes.objects(None).apply(manifest, default_namespace=world.namespace)
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

    async def test_one_decryptor_is_read(self, world: World) -> None:
        await world.put(decryptor(world, "one"))
        live = await world.get(API_VERSION, KIND, world.namespace, "one")
        assert await world.kubernetes.get_decryptor(world.namespace, "one") == live
        for name in ("two", "..", "a/b", ""):
            assert await world.kubernetes.get_decryptor(world.namespace, name) is None

    async def test_finalizers_are_set_and_taken_off(self, world: World) -> None:
        made = await world.put(decryptor(world, "one"))
        uid = made["metadata"]["uid"]

        async def write(finalizers: list[str], now: Mapping[str, Any]) -> JsonObject | None:
            version = now["metadata"]["resourceVersion"]
            return await world.kubernetes.set_finalizers(
                world.namespace, "one", finalizers, uid=uid, resource_version=version
            )

        with_two = await write(["tests.example/a", "tests.example/b"], made)
        assert with_two is not None
        assert with_two["metadata"]["finalizers"] == ["tests.example/a", "tests.example/b"]
        assert with_two["spec"] == made["spec"]
        assert with_two["metadata"]["generation"] == 1
        without = await write([], with_two)
        assert without is not None
        assert "finalizers" not in without["metadata"]
        assert await world.get(API_VERSION, KIND, world.namespace, "one") == without
        # In a state that is past, nothing is written.
        reason, message = await failure_of(write(["tests.example/c"], with_two))
        assert reason == "ApplyConflict"
        assert f"Decryptor {world.namespace}/one" in message
        assert await world.get(API_VERSION, KIND, world.namespace, "one") == without
        counts = world.kubernetes.requests.snapshot()
        assert (counts.of("patch", "decryptors"), counts.writes) == (3, 3)

    async def test_an_object_that_is_being_deleted_is_gone_with_its_last_finalizer(self, world: World) -> None:
        kubernetes, namespace = world.kubernetes, world.namespace
        new = decryptor(world, "one")
        new["metadata"]["finalizers"] = ["tests.example/a", "tests.example/b"]
        await world.put(new)
        await world.delete(API_VERSION, KIND, namespace, "one")
        doomed = await kubernetes.get_decryptor(namespace, "one")
        assert doomed is not None
        metadata = doomed["metadata"]
        assert "deletionTimestamp" in metadata
        assert metadata["generation"] == 2
        state = {"uid": metadata["uid"], "resource_version": metadata["resourceVersion"]}
        # None can be added any more.
        more = [*metadata["finalizers"], "tests.example/c"]
        reason, _ = await failure_of(kubernetes.set_finalizers(namespace, "one", more, **state))
        assert reason == "ApplyConflict"
        left = await kubernetes.set_finalizers(namespace, "one", ["tests.example/b"], **state)
        assert left is not None
        state["resource_version"] = left["metadata"]["resourceVersion"]
        assert await kubernetes.set_finalizers(namespace, "one", [], **state) is None
        assert not await world.exists(API_VERSION, KIND, namespace, "one")
        assert await kubernetes.set_finalizers(namespace, "one", [], **state) is None

    async def test_the_finalizers_of_another_object_of_that_name_are_left_alone(self, world: World) -> None:
        made = await world.put(decryptor(world, "one"))
        version = made["metadata"]["resourceVersion"]
        other = "00000000-0000-0000-0000-000000000000"
        finalizers = ["tests.example/a"]
        set_finalizers = world.kubernetes.set_finalizers
        assert await set_finalizers(world.namespace, "one", finalizers, uid=other, resource_version=version) is None
        assert "finalizers" not in (await world.get(API_VERSION, KIND, world.namespace, "one"))["metadata"]

    async def test_an_event_is_created_once(self, world: World) -> None:
        for note in ("first", "again"):
            await world.kubernetes.create_event(world.namespace, event(world, "e", note=note))
        live = await world.get("events.k8s.io/v1", "Event", world.namespace, "e")
        assert (live["note"], live["reason"], live["regarding"]["name"]) == ("first", "Applied", "one")
        counts = world.kubernetes.requests.snapshot()
        assert (counts.of("create", "events"), counts.writes) == (2, 2)

    async def test_an_event_needs_a_namespace_that_stays(self, world: World) -> None:
        missing, doomed = f"{world.namespace}-not", await world.doomed_namespace()
        for namespace in (missing, doomed):
            reason, message = await failure_of(world.kubernetes.create_event(namespace, event(world, "e")))
            assert reason == "NamespaceNotFound"
            assert namespace in message

    @pytest.mark.parametrize(
        ("field", "value", "named"),
        [
            ("eventTime", None, "eventTime (FieldValueRequired)"),
            ("action", "", "action (FieldValueRequired)"),
            ("type", f"{CANARY}", "type (FieldValueInvalid)"),
            ("note", CANARY * 100, "message (FieldValueInvalid)"),
        ],
    )
    async def test_an_event_that_is_wrong_is_rejected(self, world: World, field: str, value: Any, named: str) -> None:
        reason, message = await failure_of(
            world.kubernetes.create_event(world.namespace, event(world, "e", **{field: value}))
        )
        assert reason == "ApplyRejected"
        assert named in message
        assert f"Event {world.namespace}/e" in message

    async def test_a_right_that_is_missing_is_named(self, world: World) -> None:
        made = await world.put(decryptor(world, "one"))
        uid = made["metadata"]["uid"]
        await world.put(secret("there", world.namespace))
        async with world.limited({("get", "configmaps"), ("patch", "secrets")}) as kubernetes:
            with pytest.raises(JiemiError) as caught:
                await kubernetes.list_decryptors(limit=1, continue_token=None)
            assert caught.value.failure.reason == "ListForbidden"
            assert "`list` and `watch` on decryptors of API group jiemi.cr" in str(caught.value)
            with pytest.raises(JiemiError) as caught:
                async with kubernetes.watch_decryptors(resource_version="1"):
                    pass
            assert caught.value.failure.reason == "ListForbidden"
            assert "`list` and `watch` on decryptors" in str(caught.value)
            with pytest.raises(JiemiError) as caught:
                await kubernetes.get_secret(world.namespace, "there")
            assert caught.value.failure.reason == "SecretForbidden"
            assert (
                f"`get` on secrets of the core API group to Miwen's ServiceAccount in namespace {world.namespace}"
                in str(caught.value)
            )
            with pytest.raises(JiemiError) as caught:
                await kubernetes.patch_status(world.namespace, "one", status(1), uid=uid)
            assert caught.value.failure.reason == "ListForbidden"
            assert "`patch` on decryptors/status of API group jiemi.cr" in str(caught.value)
            version = made["metadata"]["resourceVersion"]
            doing = kubernetes.set_finalizers(world.namespace, "one", [], uid=uid, resource_version=version)
            assert "`patch` on decryptors of API group jiemi.cr" in await denied(doing, "ListForbidden")
            doing = kubernetes.get_decryptor(world.namespace, "one")
            assert "`get` on decryptors of API group jiemi.cr" in await denied(doing, "ListForbidden")
            message = await denied(kubernetes.create_event(world.namespace, event(world, "e")), "EventForbidden")
            whom = f"to Miwen's ServiceAccount in namespace {world.namespace}"
            assert f"`create` on events of API group events.k8s.io {whom}" in message
            manifest = secret("made", stringData={"password": CANARY})
            message = await refused(kubernetes, manifest, "ApplyForbidden", namespace=world.namespace)
            # It may patch Secrets, but not create them, and this one is not there.
            assert "`create` and `patch` on secrets of the core API group" in message
            assert world.namespace in message
            await kubernetes.objects(None).apply(
                secret("there", data={"a": encoded("1")}), default_namespace=world.namespace
            )

    async def test_rights_that_suffice_suffice(self, world: World) -> None:
        made = await world.put(decryptor(world, "one"))
        rights = {(verb, "decryptors") for verb in ("get", "list", "watch", "patch")}
        rights |= {(verb, "secrets") for verb in ("get", "create", "patch")}
        async with world.limited(rights | {("patch", "decryptors/status"), ("create", "events")}) as kubernetes:
            version = await version_now(kubernetes)
            await kubernetes.objects(None).apply(secret("made"), default_namespace=world.namespace)
            assert (await kubernetes.get_secret(world.namespace, "made"))["kind"] == "Secret"
            async with kubernetes.watch_decryptors(resource_version=version) as chunks:
                uid = made["metadata"]["uid"]
                assert await kubernetes.patch_status(world.namespace, "one", status(1), uid=uid) is not None
                assert await Events(chunks).changes(1) == [("MODIFIED", "one")]
            live = await kubernetes.get_decryptor(world.namespace, "one")
            assert live is not None
            now = live["metadata"]["resourceVersion"]
            assert await kubernetes.set_finalizers(
                world.namespace, "one", ["tests.example/a"], uid=uid, resource_version=now
            )
            await kubernetes.create_event(world.namespace, event(world, "e"))

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
