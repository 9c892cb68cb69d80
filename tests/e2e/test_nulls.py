"""Nulls, as sops leaves them and people write them, in objects of many kinds: applied once, and kept right.

A null is what the API server makes of it. If one made each apply a change, or took an object out of what is compared,
whoever may write to the repository could switch drift correction off: no MAC covers a null.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from support.e2e.lab import Lab, settled, until
from support.e2e.scene import Scene, config_map, deployment, seconds_until, secret
from support.kubernetes.written import but_for_controllers

pytestmark = pytest.mark.e2e

FAST_SECONDS = 5.0


@pytest.fixture(scope="module")
def scene(lab: Lab) -> Iterator[Scene]:
    namespace = lab.namespace("e2e-nulls")
    _, address = lab.start_krapao(name="nulls")
    lab.start_miwen(address, namespace, interval="10m")
    yield Scene(lab, namespace)
    lab.end_services()


def _deployment(name: str) -> dict[str, Any]:
    made = deployment(name)
    template = made["spec"]["template"]
    template["metadata"] = {"labels": {"app": name, "null": None}, "annotations": {"null": None, "kept": "1"}}
    [container] = template["spec"]["containers"]
    container |= {"env": [{"name": "A", "value": None}], "resources": {"limits": None}, "command": None}
    template["spec"]["volumes"] = None
    return made


def _service(name: str) -> dict[str, Any]:
    spec = {"ports": [{"port": 80, "name": None}], "selector": {"null": None, "kept": "1"}, "externalName": None}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "annotations": None}, "spec": spec}


def _labelled(name: str) -> dict[str, Any]:
    metadata = {"name": name, "labels": {"null": None, "kept": "1"}, "annotations": {"null": None}}
    return {**secret(name, a="b"), "metadata": metadata}


def _typed(name: str) -> dict[str, Any]:
    return {**secret(name, kept="1"), "type": None, "immutable": None, "data": {"null": None}}


@attrs.frozen
class Case:
    """An object with nulls, and what others do to it.

    Attributes:
        made: gives the object by its name.
        changes: merge patches, at most three: more within a minute are a fight.
    """

    made: Callable[[str], dict[str, Any]]
    changes: tuple[dict[str, Any], ...]


CASES = {
    "deployment": Case(
        _deployment,
        (
            {"spec": {"template": {"metadata": {"annotations": {"kept": "2"}}}}},
            {"spec": {"template": {"metadata": {"labels": {"null": "2"}}}}},
        ),
    ),
    "service": Case(_service, ({"spec": {"selector": {"kept": "2"}}},)),
    "config-map": Case(
        lambda name: config_map(name) | {"data": {"null": None, "kept": "1"}, "binaryData": {"bytes": None}},
        ({"data": {"kept": "2"}}, {"data": {"null": "2"}}, {"data": {"null": None}}),
    ),
    "labels": Case(
        _labelled,
        (
            {"metadata": {"labels": {"null": "2"}}},
            {"metadata": {"labels": {"null": None}}},
            {"metadata": {"annotations": {"null": None}}},
        ),
    ),
    "secret": Case(_typed, ({"data": {"null": "Mg=="}}, {"data": {"kept": None}}, {"data": {"null": None}})),
}


@pytest.mark.parametrize("name", CASES)
def test_an_object_with_nulls_is_written_once_and_what_others_change_is_put_back(scene: Scene, name: str) -> None:
    case = CASES[name]
    manifest = case.made(name)
    scene.follow(name, manifest)
    admin = scene.lab.admin
    path = admin.path_of({**manifest, "metadata": {"name": name, "namespace": scene.namespace}})

    def live() -> dict[str, Any]:
        return but_for_controllers(admin.call("GET", path).ok())

    def content() -> dict[str, Any]:
        found = live()
        shown = {each: found["metadata"].get(each) or {} for each in ("labels", "annotations")}
        return {**found, "metadata": shown}

    before, wanted = settled(name, live), content()
    scene.annotate(name, reconcile_at="again")
    until("it was applied again", lambda: scene.status(name).get("lastHandledReconcileAt") == "again")
    assert live() == before, "the same is no write"
    for change in case.changes:
        scene.write(path, change)
        assert seconds_until(f"{change} is put back", lambda: content() == wanted) < FAST_SECONDS
    assert not scene.condition(name, "Drifted")
