"""What every form of the port's `Objects` does as a ServiceAccount, and with rights that are missing.

As `kubernetes_contract`: a test module subclasses `KubernetesAccountsContract` and gives a fixture `world`.
"""

from __future__ import annotations

import pytest
from contract.kubernetes_objects_contract import OTHER_UID, ours, ref
from contract.kubernetes_parts import CANARY, World, denied, encoded, secret

from jiemi.miwen.kubernetes.port import Account


class KubernetesAccountsContract:
    async def test_what_an_account_does_needs_its_rights_and_none_of_miwen_s(self, world: World) -> None:
        account = await world.account({("create", "secrets"), ("patch", "secrets"), ("get", "secrets")})
        async with world.limited({("impersonate", "serviceaccounts")}) as kubernetes:
            objects = kubernetes.objects(account)
            metadata = await objects.apply(secret("made", stringData={"a": "b"}), default_namespace=world.namespace)
            assert ours(metadata) == {"data.a"}
            assert await objects.get_metadata(ref(world, "made")) == metadata
            message = await denied(objects.delete(ref(world, "made"), uid=metadata["uid"]), "DeleteForbidden")
            assert f"Grant `delete` on secrets of the core API group to {account}" in message
            # Miwen itself may not.
            message = await denied(kubernetes.objects(None).get(ref(world, "made")), "ReadForbidden")
            assert "to Miwen's ServiceAccount" in message

    async def test_what_does_not_fit_is_not_known_without_reading(self, world: World) -> None:
        account = await world.account({("delete", "secrets"), ("patch", "secrets")})
        made = await world.put(secret("made", world.namespace, data={"a": encoded(CANARY)}))
        objects, there = world.kubernetes.objects(account), ref(world, "made")
        version = made["metadata"]["resourceVersion"]
        for doing in (
            objects.delete(there, uid=OTHER_UID),
            objects.delete(there, uid=made["metadata"]["uid"], resource_version="1"),
            objects.remove_fields(there, [("data", "a")], resource_version="1"),
            objects.remove_fields(there, [("data", "b")], resource_version=version),
        ):
            assert "Grant `get`" in await denied(doing, "ReadForbidden")
        await objects.remove_fields(there, [("data", "a")], resource_version=version)
        assert await objects.delete(there, uid=made["metadata"]["uid"])

    async def test_an_account_without_rights_learns_what_it_needs(self, world: World) -> None:
        account = await world.account(set())
        made = await world.put(secret("made", world.namespace, data={"a": encoded(CANARY)}))
        objects = world.kubernetes.objects(account)
        there, version = ref(world, "made"), made["metadata"]["resourceVersion"]
        manifest = secret("made", stringData={"a": CANARY})
        for doing, reason, verbs in (
            (objects.apply(manifest, default_namespace=world.namespace), "ApplyForbidden", "`create` and `patch`"),
            (objects.dry_run(manifest, default_namespace=world.namespace), "ApplyForbidden", "`create` and `patch`"),
            (objects.get(there), "ReadForbidden", "`get`"),
            (objects.get_metadata(there), "ReadForbidden", "`get`"),
            (objects.delete(there, uid=made["metadata"]["uid"]), "DeleteForbidden", "`delete`"),
            (
                objects.remove_fields(there, [("data", "a")], resource_version=version),
                "ApplyForbidden",
                "`create` and `patch`",
            ),
        ):
            message = await denied(doing, reason)
            where = f"in namespace {world.namespace}"
            assert f"Grant {verbs} on secrets of the core API group to {account} {where}" in message
        assert await world.get("v1", "Secret", world.namespace, "made") == made

    async def test_without_the_right_to_act_as_an_account_that_is_what_is_missing(self, world: World) -> None:
        account = await world.account({("get", "secrets"), ("create", "secrets"), ("patch", "secrets")})
        made = await world.put(secret("made", world.namespace))
        async with world.limited({("get", "secrets"), ("delete", "secrets"), ("patch", "secrets")}) as kubernetes:
            objects = kubernetes.objects(account)
            there = ref(world, "made")
            for doing in (
                objects.apply(secret("made"), default_namespace=world.namespace),
                objects.dry_run(secret("made"), default_namespace=world.namespace),
                objects.get(there),
                objects.get_metadata(there),
                objects.delete(there, uid=made["metadata"]["uid"]),
                objects.remove_fields(there, [("data", "a")], resource_version=made["metadata"]["resourceVersion"]),
            ):
                message = await denied(doing, "ImpersonationForbidden")
                right = f"`impersonate` on serviceaccounts of the core API group (resourceNames: {account.name})"
                grant = f"Grant {right} to Miwen's ServiceAccount in namespace {account.namespace} "
                assert grant in message

    @pytest.mark.parametrize(
        ("namespace", "name"), [("team", "a\r\nX: y"), ("team", "ü"), ("team", ""), ("team", "a:b"), ("a.b", "a")]
    )
    async def test_no_other_user_is_ever_acted_as(self, world: World, namespace: str, name: str) -> None:
        objects = world.kubernetes.objects(Account(namespace, name))
        await denied(objects.get(ref(world, "made")), "ImpersonationForbidden")
        doing = objects.apply(secret("made"), default_namespace=world.namespace)
        await denied(doing, "ImpersonationForbidden")
