"""What every form of the port's `Objects` does with objects of any kind.

As `kubernetes_contract`: a test module subclasses `KubernetesObjectsContract` and gives a fixture `world`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import trio
from contract.kubernetes_parts import CANARY, DEADLINE_SECONDS, World, denied, encoded, failure_of, refused, secret

from jiemi.core.objects.identity import ObjectRef
from jiemi.miwen.kubernetes.discovery import JUST_NOW_SECONDS, Resource
from jiemi.miwen.kubernetes.port import JsonObject

CRDS = ("apiextensions.k8s.io/v1", "CustomResourceDefinition")
OTHER_UID = "00000000-0000-0000-0000-000000000000"


def ref(world: World, name: str, kind: str = "Secret", api_version: str = "v1") -> ObjectRef:
    return ObjectRef(api_version, kind, world.namespace, name)


def ours(metadata: JsonObject) -> set[str]:
    """The fields that Miwen's entry in managedFields holds: "data.password"."""
    return {
        path
        for entry in metadata.get("managedFields", [])
        if (entry["manager"], entry["operation"]) == ("jiemi", "Apply")
        for path in _paths(entry["fieldsV1"])
    }


def _paths(tree: Mapping[str, Any], before: str = "") -> set[str]:
    found: set[str] = set()
    for key, inner in tree.items():
        path = before + key.removeprefix("f:")
        found |= _paths(inner, f"{path}.") if inner else {path}
    return found


_LABELS = {"app": "demo"}
_CONTAINERS = {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"}
_POD = {"metadata": {"labels": _LABELS}, "spec": _CONTAINERS}
_RUNNING_POD = {"metadata": {"labels": _LABELS}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
_SELECTED = {"selector": {"matchLabels": _LABELS}, "template": _RUNNING_POD}
_OTHER_LABELS = {"app": "other"}
_OTHER_SELECTED = {
    "selector": {"matchLabels": _OTHER_LABELS},
    "template": {**_RUNNING_POD, "metadata": {"labels": _OTHER_LABELS}},
}
_CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
_ROLE = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role"}
_SUBJECTS = [{"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"}]


class KubernetesObjectsContract:
    # --- kinds

    @pytest.mark.parametrize("kind", ["Secret", "secret", "secrets", "SECRETS"])
    async def test_what_may_be_meant_by_a_kind_is_found(self, world: World, kind: str) -> None:
        found = await world.kubernetes.objects(None).similar_kinds(kind)
        assert Resource("v1", "Secret", "secrets", namespaced=True) in found

    async def test_by_a_kind_that_nobody_has_nothing_is_meant(self, world: World) -> None:
        assert list(await world.kubernetes.objects(None).similar_kinds("Nonesuch")) == []

    # --- apply

    async def test_an_apply_answers_with_which_manager_owns_which_field(self, world: World) -> None:
        await world.put(secret("shared", world.namespace, data={"theirs": encoded("t"), "same": encoded("s")}))
        manifest = secret("shared", data={"password": encoded(CANARY), "same": encoded("s")})
        metadata = await world.kubernetes.objects(None).apply(manifest, default_namespace=world.namespace)
        assert ours(metadata) == {"data.password", "data.same"}
        assert CANARY not in str(metadata)
        assert encoded(CANARY) not in str(metadata)

    async def test_an_apply_of_a_bare_name_owns_nothing(self, world: World) -> None:
        metadata = await world.kubernetes.objects(None).apply(secret("bare"), default_namespace=world.namespace)
        assert ours(metadata) == set()

    async def test_a_field_that_another_changes_or_removes_is_no_longer_ours(self, world: World) -> None:
        objects = world.kubernetes.objects(None)
        data = {key: encoded(key) for key in ("changed", "removed", "kept", "repeated")}
        manifest = secret("made", data=data) | {"metadata": {"name": "made", "labels": {"a": "b"}}}
        made = await objects.apply(manifest, default_namespace=world.namespace)
        assert ours(made) == {"data.changed", "data.removed", "data.kept", "data.repeated", "metadata.labels.a"}
        changes = {"changed": encoded("other"), "removed": None, "added": encoded("x"), "repeated": encoded("repeated")}
        await world.edit("v1", "Secret", world.namespace, "made", {"data": changes}, manager="kubectl-edit")
        after = await objects.get_metadata(ref(world, "made"))
        assert after is not None
        assert ours(after) == {"data.kept", "data.repeated", "metadata.labels.a"}
        # The next apply takes back what differs, and leaves what others added.
        again = await objects.apply(manifest, default_namespace=world.namespace)
        assert ours(again) == ours(made)
        live = await world.get("v1", "Secret", world.namespace, "made")
        assert live["data"] == {**data, "added": encoded("x")}

    async def test_fields_of_others_are_taken_over_or_not_as_it_is_asked(self, world: World) -> None:
        objects = world.kubernetes.objects(None)
        await world.put(
            secret("shared", world.namespace, data={"password": encoded(f"{CANARY}-old"), "same": encoded("s")})
        )
        manifest = secret("shared", data={"password": encoded(CANARY), "same": encoded("s")})
        for attempt in (objects.apply, objects.dry_run):
            message = await denied(
                attempt(manifest, default_namespace=world.namespace, take_over=False), "FieldConflict"
            )
            assert f"Secret {world.namespace}/shared" in message
            assert "data.password (owned by tests)" in message
            assert "data.same" not in message
        live = await world.get("v1", "Secret", world.namespace, "shared")
        assert live["data"]["password"] == encoded(f"{CANARY}-old")
        await objects.apply(manifest, default_namespace=world.namespace)
        await objects.apply(manifest, default_namespace=world.namespace, take_over=False)
        live = await world.get("v1", "Secret", world.namespace, "shared")
        assert live["data"]["password"] == encoded(CANARY)

    async def test_a_value_that_is_the_same_is_no_conflict(self, world: World) -> None:
        await world.put(secret("shared", world.namespace, data={"password": encoded("p")}))
        manifest = secret("shared", stringData={"password": "p"})
        metadata = await world.kubernetes.objects(None).apply(
            manifest, default_namespace=world.namespace, take_over=False
        )
        assert ours(metadata) == {"data.password"}

    async def test_whose_the_fields_are_can_be_set_and_nothing_else_changes(self, world: World) -> None:
        objects = world.kubernetes.objects(None)
        await world.put(secret("shared", world.namespace, data={"a": encoded("x"), "b": encoded("y")}))
        manifest = secret("shared", data={"a": encoded("x")})
        metadata = await objects.apply(manifest, default_namespace=world.namespace)
        before = await world.get("v1", "Secret", world.namespace, "shared")
        mine = [each for each in metadata["managedFields"] if each["manager"] == "jiemi"]
        named = {"uid": str(metadata["uid"]), "resource_version": str(metadata["resourceVersion"])}
        after = await objects.set_managed_fields(ref(world, "shared"), mine, **named)
        assert [each["manager"] for each in after["managedFields"]] == ["jiemi"]
        assert ours(after) == ours(metadata)
        live = await world.get("v1", "Secret", world.namespace, "shared")
        assert live["data"] == before["data"]
        # What nobody holds any more stays; what is ours alone goes with the next apply.
        await objects.apply(secret("shared", data={"b": encoded("y")}), default_namespace=world.namespace)
        live = await world.get("v1", "Secret", world.namespace, "shared")
        assert live["data"] == {"b": encoded("y")}
        for other in ({**named}, {**named, "uid": OTHER_UID, "resource_version": live["metadata"]["resourceVersion"]}):
            await denied(objects.set_managed_fields(ref(world, "shared"), mine, **other), "ApplyConflict")
        await denied(objects.set_managed_fields(ref(world, "none"), mine, **named), "ApplyConflict")

    async def test_a_null_in_a_map_of_texts_is_the_empty_text_and_ours(self, world: World) -> None:
        objects = world.kubernetes.objects(None)
        await world.put(secret("made", world.namespace, data={"b": encoded("theirs")}))
        manifest = secret("made", data={"a": encoded("x"), "b": None}) | {
            "metadata": {"name": "made", "labels": {"l": None}, "annotations": None}
        }
        metadata = await objects.apply(manifest, default_namespace=world.namespace)
        assert ours(metadata) >= {"data.a", "data.b", "metadata.labels.l"}
        live = await world.get("v1", "Secret", world.namespace, "made")
        assert (live["data"], live["metadata"]["labels"]) == ({"a": encoded("x"), "b": ""}, {"l": ""})
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "made"}, "data": {"a": None}}
        assert "data.a" in ours(await objects.apply(config, default_namespace=world.namespace))
        assert (await world.get("v1", "ConfigMap", world.namespace, "made"))["data"] == {"a": ""}

    @pytest.mark.parametrize("value", [5, True, ["x"], {}])
    async def test_a_value_that_is_no_text_is_refused(self, world: World, value: Any) -> None:
        for manifest in (secret("made", stringData={"a": value}), secret("made", data={"a": value})):
            await denied(
                world.kubernetes.objects(None).apply(manifest, default_namespace=world.namespace), "ApplyRejected"
            )

    async def test_a_dry_run_gives_the_whole_object_and_makes_nothing(self, world: World) -> None:
        objects = world.kubernetes.objects(None)
        manifest = secret("made", stringData={"password": CANARY})
        would_be = await objects.dry_run(manifest, default_namespace=world.namespace)
        assert would_be["data"] == {"password": encoded(CANARY)}
        assert would_be["type"] == "Opaque"
        assert would_be["metadata"]["namespace"] == world.namespace
        assert not await world.exists("v1", "Secret", world.namespace, "made")
        counts = world.kubernetes.requests.snapshot()
        assert (counts.of("dry-run", "secrets"), counts.writes) == (1, 0)

    async def test_a_dry_run_on_an_object_that_is_there_changes_nothing(self, world: World) -> None:
        objects = world.kubernetes.objects(None)
        await objects.apply(
            secret("made", data={"a": encoded("1"), "b": encoded("2")}), default_namespace=world.namespace
        )
        await world.edit("v1", "Secret", world.namespace, "made", {"data": {"theirs": encoded("t")}})
        before = await world.get("v1", "Secret", world.namespace, "made")
        manifest = secret("made", data={"a": encoded("3")})
        would_be = await objects.dry_run(manifest, default_namespace=world.namespace)
        assert would_be["data"] == {"a": encoded("3"), "theirs": encoded("t")}
        assert await world.get("v1", "Secret", world.namespace, "made") == before
        same = await objects.dry_run(secret("made", data=before["data"]), default_namespace=world.namespace)
        assert same["data"] == before["data"]

    # --- what is refused

    @pytest.mark.parametrize(
        ("api_version", "kind", "first", "second", "named"),
        [
            ("v1", "Secret", {"type": "a/b"}, {"type": "c/d"}, "type"),
            ("v1", "Secret", {"immutable": True}, {"immutable": True, "data": {"a": encoded(CANARY)}}, "data"),
            ("v1", "ConfigMap", {"immutable": True}, {"immutable": False}, "immutable"),
            (
                "v1",
                "Service",
                {"spec": {"clusterIP": "None", "ports": [{"port": 80}], "selector": _LABELS}},
                {"spec": {"clusterIP": "10.0.0.77", "ports": [{"port": 80}], "selector": _LABELS}},
                "spec.clusterIPs[0]",
            ),
            (
                "apps/v1",
                "StatefulSet",
                {"spec": {**_SELECTED, "serviceName": "a"}},
                {"spec": {**_OTHER_SELECTED, "serviceName": "a"}},
                "spec.selector",
            ),
            (
                "apps/v1",
                "StatefulSet",
                {"spec": {**_SELECTED, "serviceName": "a"}},
                {"spec": {**_SELECTED, "serviceName": "b"}},
                "spec.serviceName",
            ),
            ("apps/v1", "Deployment", {"spec": _SELECTED}, {"spec": _OTHER_SELECTED}, "spec.selector"),
            ("apps/v1", "DaemonSet", {"spec": _SELECTED}, {"spec": _OTHER_SELECTED}, "spec.selector"),
            (
                "batch/v1",
                "Job",
                {"spec": {"template": {"spec": _CONTAINERS}}},
                {"spec": {"template": {"spec": {**_CONTAINERS, "hostNetwork": True}}}},
                "spec.template",
            ),
            (
                "v1",
                "PersistentVolumeClaim",
                {"spec": _CLAIM},
                {"spec": {**_CLAIM, "accessModes": ["ReadOnlyMany"]}},
                "spec",
            ),
            (
                "rbac.authorization.k8s.io/v1",
                "RoleBinding",
                {"roleRef": {**_ROLE, "name": "a"}, "subjects": _SUBJECTS},
                {"roleRef": {**_ROLE, "name": "b"}, "subjects": _SUBJECTS},
                "roleRef",
            ),
        ],
    )
    async def test_a_field_that_can_not_be_changed_is_named(
        self, world: World, api_version: str, kind: str, first: JsonObject, second: JsonObject, named: str
    ) -> None:
        objects = world.kubernetes.objects(None)
        manifest = {"apiVersion": api_version, "kind": kind, "metadata": {"name": "fixed"}}
        await objects.apply({**manifest, **first}, default_namespace=world.namespace)
        for attempt in (objects.apply, objects.dry_run):
            message = await denied(attempt({**manifest, **second}, default_namespace=world.namespace), "FieldImmutable")
            assert f"{kind} {world.namespace}/fixed" in message
            assert f": {named} (" in message, message
            assert "10.0.0.77" not in message

    async def test_what_can_be_changed_beside_it_is_changed(self, world: World) -> None:
        objects = world.kubernetes.objects(None)
        manifest = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web"}}
        for replicas in (1, 2):
            spec = {**_SELECTED, "serviceName": "a", "replicas": replicas}
            await objects.apply({**manifest, "spec": spec}, default_namespace=world.namespace)
        live = await world.get("apps/v1", "StatefulSet", world.namespace, "web")
        assert (live["spec"]["replicas"], live["metadata"]["generation"]) == (2, 2)

    async def test_an_admission_policy_is_named_and_its_text_is_not_shown(self, world: World) -> None:
        objects = world.kubernetes.objects(None)
        kept = await world.put(secret("kept", world.namespace, data={"kept": encoded(CANARY), "a": encoded("a")}))
        await world.put(secret("bad", world.namespace, data={"banned": encoded(CANARY), "a": encoded("a")}))
        bad = await world.get("v1", "Secret", world.namespace, "bad")
        async with world.policy() as name:
            manifest = secret("made", stringData={"banned": CANARY})
            for doing in (
                objects.apply(manifest, default_namespace=world.namespace),
                objects.dry_run(manifest, default_namespace=world.namespace),
                objects.delete(ref(world, "kept"), uid=kept["metadata"]["uid"]),
                objects.remove_fields(
                    ref(world, "bad"), [("data", "a")], resource_version=bad["metadata"]["resourceVersion"]
                ),
            ):
                message = await denied(doing, "AdmissionDenied")
                assert f"ValidatingAdmissionPolicy {name}" in message
                assert "this value" not in message
            await objects.apply(secret("made"), default_namespace=world.namespace)
        assert await world.exists("v1", "Secret", world.namespace, "kept")

    async def test_a_quota_that_is_used_up_is_named(self, world: World) -> None:
        objects = world.kubernetes.objects(None)
        await world.quota("small", {"count/secrets": "1"})
        await self._until_counted(world)
        message = await refused(
            world.kubernetes, secret("two", data={"a": encoded(CANARY)}), "QuotaExceeded", namespace=world.namespace
        )
        assert f"quota small of namespace {world.namespace} is used up: count/secrets" in message
        # What is there already can be changed.
        await objects.apply(secret("one", data={"a": encoded("1")}), default_namespace=world.namespace)

    async def _until_counted(self, world: World) -> None:
        """Make the one Secret that the quota allows. A real API server takes a moment to know a quota."""
        objects = world.kubernetes.objects(None)
        await objects.apply(secret("one"), default_namespace=world.namespace)
        with trio.fail_after(DEADLINE_SECONDS):
            while True:
                reason, _ = await failure_of(objects.dry_run(secret("probe"), default_namespace=world.namespace))
                if reason == "QuotaExceeded":
                    return
                # It was not counted yet.
                await world.delete("v1", "Secret", world.namespace, "one")
                await objects.apply(secret("one"), default_namespace=world.namespace)
                await trio.sleep(0.05)

    async def test_a_namespace_that_is_being_deleted_is_waited_for(self, world: World) -> None:
        doomed = await world.doomed_namespace()
        manifest = secret("made", doomed, stringData={"password": CANARY})
        message = await refused(world.kubernetes, manifest, "NamespaceNotFound", namespace=world.namespace)
        assert f"namespace {doomed}" in message
        assert "being deleted" in message

    # --- reads

    async def test_an_object_is_read_whole_or_its_metadata_alone(self, world: World) -> None:
        objects = world.kubernetes.objects(None)
        await world.put(secret("there", world.namespace, data={"password": encoded(CANARY)}))
        live = await world.get("v1", "Secret", world.namespace, "there")
        assert await objects.get(ref(world, "there")) == live
        assert await objects.get_metadata(ref(world, "there")) == live["metadata"]
        counts = world.kubernetes.requests.snapshot()
        assert (counts.of("get", "secrets"), counts.of("get-metadata", "secrets"), counts.writes) == (1, 1, 0)

    async def test_an_object_of_the_whole_cluster_is_read(self, world: World) -> None:
        there = ObjectRef("v1", "Namespace", "", world.namespace)
        found = await world.kubernetes.objects(None).get(there)
        assert found is not None
        assert (found["kind"], found["metadata"]["name"]) == ("Namespace", world.namespace)

    @pytest.mark.parametrize(
        ("api_version", "kind", "name"),
        [
            ("v1", "Secret", "missing"),
            ("v1", "Secret", ".."),
            ("v1", "Secret", "a/b"),
            ("v1", "Secret", ""),
            ("v1", "Nothing", "there"),
            ("none.example/v1", "Nothing", "there"),
            ("../v1", "Secret", "there"),
        ],
    )
    async def test_what_is_not_there_is_none(self, world: World, api_version: str, kind: str, name: str) -> None:
        objects = world.kubernetes.objects(None)
        missing = ref(world, name, kind, api_version)
        assert await objects.get(missing) is None
        assert await objects.get_metadata(missing) is None
        assert not await objects.delete(missing, uid=OTHER_UID)
        doing = objects.remove_fields(missing, [("data", "a")], resource_version="1")
        await denied(doing, "ApplyConflict")

    # --- deletion

    async def test_an_object_is_deleted_once(self, world: World) -> None:
        objects = world.kubernetes.objects(None)
        made = await objects.apply(secret("made"), default_namespace=world.namespace)
        version = made["resourceVersion"]
        assert await objects.delete(ref(world, "made"), uid=made["uid"], resource_version=version)
        assert not await world.exists("v1", "Secret", world.namespace, "made")
        assert not await objects.delete(ref(world, "made"), uid=made["uid"], resource_version=version)
        assert world.kubernetes.requests.snapshot().of("delete", "secrets") == 2

    async def test_another_object_of_that_name_stays(self, world: World) -> None:
        objects = world.kubernetes.objects(None)
        made = await objects.apply(secret("made"), default_namespace=world.namespace)
        assert not await objects.delete(ref(world, "made"), uid=OTHER_UID)
        assert not await objects.delete(ref(world, "made"), uid=OTHER_UID, resource_version=made["resourceVersion"])
        assert await world.exists("v1", "Secret", world.namespace, "made")

    async def test_an_object_that_was_changed_since_stays(self, world: World) -> None:
        objects = world.kubernetes.objects(None)
        made = await objects.apply(secret("made"), default_namespace=world.namespace)
        await world.edit("v1", "Secret", world.namespace, "made", {"data": {"a": encoded(CANARY)}})
        doing = objects.delete(ref(world, "made"), uid=made["uid"], resource_version=made["resourceVersion"])
        message = await denied(doing, "ApplyConflict")
        assert f"Secret {world.namespace}/made" in message
        assert await world.exists("v1", "Secret", world.namespace, "made")
        assert await objects.delete(ref(world, "made"), uid=made["uid"])

    async def test_an_object_with_finalizers_is_marked(self, world: World) -> None:
        objects = world.kubernetes.objects(None)
        manifest = secret("made") | {"metadata": {"name": "made", "finalizers": ["tests.example/stays"]}}
        made = await objects.apply(manifest, default_namespace=world.namespace)
        for _ in range(2):
            assert await objects.delete(ref(world, "made"), uid=made["uid"])
        metadata = await objects.get_metadata(ref(world, "made"))
        assert metadata is not None
        assert "deletionTimestamp" in metadata
        await world.edit("v1", "Secret", world.namespace, "made", {"metadata": {"finalizers": None}})
        assert not await world.exists("v1", "Secret", world.namespace, "made")

    # --- removal of fields

    async def test_fields_of_others_are_removed_and_no_others(self, world: World) -> None:
        objects = world.kubernetes.objects(None)
        made = await objects.apply(secret("made", data={"ours": encoded("o")}), default_namespace=world.namespace)
        labels = {"tests.example/added": "x", "kept": "k"}
        changes = {"data": {"added": encoded(CANARY), "kept": encoded("k")}, "metadata": {"labels": labels}}
        edited = await world.edit("v1", "Secret", world.namespace, "made", changes)
        after = await objects.remove_fields(
            ref(world, "made"),
            [("data", "added"), ("metadata", "labels", "tests.example/added")],
            resource_version=edited["metadata"]["resourceVersion"],
        )
        live = await world.get("v1", "Secret", world.namespace, "made")
        assert live["data"] == {"ours": encoded("o"), "kept": encoded("k")}
        assert after == live["metadata"]
        assert after["labels"] == {"kept": "k"}
        assert ours(after) == ours(made)
        counts = world.kubernetes.requests.snapshot()
        assert (counts.of("remove-fields", "secrets"), counts.of("apply", "secrets")) == (1, 1)

    async def test_a_field_that_is_not_there_lets_the_others_stay(self, world: World) -> None:
        made = await world.put(secret("made", world.namespace, data={"a": encoded(CANARY)}))
        for missing in (("data", "b"), ("stringData", "b"), ("metadata", "labels", "a/b")):
            doing = world.kubernetes.objects(None).remove_fields(
                ref(world, "made"), [("data", "a"), missing], resource_version=made["metadata"]["resourceVersion"]
            )
            assert "no such field" in await denied(doing, "ApplyRejected")
        assert (await world.get("v1", "Secret", world.namespace, "made"))["data"] == {"a": encoded(CANARY)}

    async def test_no_field_is_removed_from_an_object_that_was_changed_since(self, world: World) -> None:
        made = await world.put(secret("made", world.namespace, data={"a": encoded(CANARY)}))
        await world.edit("v1", "Secret", world.namespace, "made", {"data": {"b": encoded("b")}})
        doing = world.kubernetes.objects(None).remove_fields(
            ref(world, "made"), [("data", "a")], resource_version=made["metadata"]["resourceVersion"]
        )
        await denied(doing, "ApplyConflict")
        live = await world.get("v1", "Secret", world.namespace, "made")
        assert live["data"] == {"a": encoded(CANARY), "b": encoded("b")}

    async def test_no_field_is_removed_from_what_can_not_be_changed_or_can_not_be_without(self, world: World) -> None:
        objects = world.kubernetes.objects(None)
        fixed = await world.put(secret("fixed", world.namespace, immutable=True, data={"a": encoded(CANARY)}))
        doing = objects.remove_fields(
            ref(world, "fixed"), [("data", "a")], resource_version=fixed["metadata"]["resourceVersion"]
        )
        assert "data (FieldValueForbidden)" in await denied(doing, "FieldImmutable")

    # --- kinds

    async def test_objects_are_found_though_another_kind_of_their_group_was_not(self, world: World) -> None:
        kubernetes = world.kubernetes
        objects = kubernetes.objects(None)
        await world.put(secret("made", world.namespace, data={"a": encoded(CANARY)}))
        assert await objects.resource("v1", "Secret") is not None
        gone = Resource("v1", "Gone", "gones", namespaced=True)
        for _ in range(3):
            listing = kubernetes.list_metadata(gone, label_selector="", field_selector="", limit=1, continue_token=None)
            assert (await failure_of(listing))[0] == "KindUnknown"
            assert await objects.get(ref(world, "made")) is not None
            assert await objects.get_metadata(ref(world, "made")) is not None
        assert kubernetes.requests.snapshot().of("get", "discovery") <= 2
        metadata = await objects.get_metadata(ref(world, "made"))
        assert metadata is not None
        await failure_of(
            kubernetes.list_metadata(gone, label_selector="", field_selector="", limit=1, continue_token=None)
        )
        assert await objects.delete(ref(world, "made"), uid=metadata["uid"])

    async def test_that_a_kind_is_unknown_is_asked_before_it_is_said_that_there_is_no_object(
        self, world: World
    ) -> None:
        objects = world.kubernetes.objects(None)
        unknown = ObjectRef("none.example/v1", "Thing", world.namespace, "x")
        assert await objects.resource(unknown.api_version, unknown.kind) is None
        await trio.sleep(JUST_NOW_SECONDS)
        asked = world.kubernetes.requests.snapshot().of("get", "discovery")
        assert await objects.resource(unknown.api_version, unknown.kind) is None
        assert world.kubernetes.requests.snapshot().of("get", "discovery") == asked
        for _ in range(10):
            assert (await objects.get(unknown), await objects.get_metadata(unknown)) == (None, None)
        assert world.kubernetes.requests.snapshot().of("get", "discovery") == asked + 1

    async def test_a_kind_is_found_as_soon_as_it_is_served_when_it_is_asked_for_afresh(self, world: World) -> None:
        objects = world.kubernetes.objects(None)
        group = f"{world.namespace}.example"
        names = {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"}
        schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
        version = {"name": "v1", "served": True, "storage": True, "schema": schema}
        crd = {
            "apiVersion": CRDS[0],
            "kind": CRDS[1],
            "metadata": {"name": f"things.{group}"},
            "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
        }
        assert await objects.resource(f"{group}/v1", "Thing") is None
        await objects.apply(crd, default_namespace=world.namespace)
        try:
            with trio.fail_after(DEADLINE_SECONDS):
                while (resource := await objects.resource(f"{group}/v1", "Thing", fresh=True)) is None:  # noqa: ASYNC110
                    await trio.sleep(0.05)
            assert (resource.plural, resource.namespaced) == ("things", True)
            # It is known from now on, also to others.
            assert await world.kubernetes.objects(None).resource(f"{group}/v1", "Thing") == resource
            thing = {"apiVersion": f"{group}/v1", "kind": "Thing", "metadata": {"name": "x"}, "spec": {"a": 1}}
            with trio.fail_after(DEADLINE_SECONDS):
                while True:
                    # A real one may list a kind a moment before it serves it.
                    reason, _ = await failure_of(objects.apply(thing, default_namespace=world.namespace))
                    if reason == "":
                        break
                    assert reason == "KindUnknown"
                    await objects.resource(f"{group}/v1", "Thing", fresh=True)
                    await trio.sleep(0.05)
            crd_ref = ObjectRef(*CRDS, "", f"things.{group}")
            live = await objects.get(crd_ref)
            assert live is not None
            conditions = {each["type"]: each["status"] for each in live["status"]["conditions"]}
            assert conditions["Established"] == "True"
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(DEADLINE_SECONDS):
                await world.delete(*CRDS, None, f"things.{group}")
