"""Kinds are asked for once, and where a manifest goes follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.errors import JiemiError
from jiemi.miwen.kubernetes.discovery import (
    ALL_KINDS_SECONDS,
    JUST_NOW_SECONDS,
    MAX_GROUPS,
    REFRESH_SECONDS,
    Discovery,
    Resource,
    is_api_version,
    is_path_part,
    parse_all_kinds,
    parse_resources,
    target,
)

DEPLOYMENT = Resource("apps/v1", "Deployment", "deployments", namespaced=True)
NODE = Resource("v1", "Node", "nodes", namespaced=False)


class _Server:
    def __init__(self) -> None:
        self.kinds: dict[str, Mapping[str, Resource]] = {"apps/v1": {"Deployment": DEPLOYMENT}}
        self.asked: list[str] = []
        self.fault: JiemiError | None = None

    async def fetch(self, api_version: str) -> Mapping[str, Resource]:
        self.asked.append(api_version)
        await trio.sleep(1)
        if self.fault is not None:
            raise self.fault
        return self.kinds.get(api_version, {})


async def test_a_kind_is_asked_for_once(autojump_clock: trio.testing.MockClock) -> None:
    server = _Server()
    discovery = Discovery(server.fetch)
    for _ in range(3):
        assert await discovery.find("apps/v1", "Deployment") == DEPLOYMENT
        await trio.sleep(1_000)
    assert server.asked == ["apps/v1"]


async def test_many_that_ask_at_once_share_one_question(autojump_clock: trio.testing.MockClock) -> None:
    server = _Server()
    discovery = Discovery(server.fetch)
    found: list[Resource | None] = []

    async def find(kind: str) -> None:
        found.append(await discovery.find("apps/v1", kind))

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(find, "Deployment" if number % 2 else f"Unknown{number}")
    assert (found.count(DEPLOYMENT), found.count(None)) == (25, 25)
    assert server.asked == ["apps/v1"]
    assert trio.current_time() == 1


async def test_an_unknown_kind_is_asked_for_again_after_some_seconds_only(
    autojump_clock: trio.testing.MockClock,
) -> None:
    server = _Server()
    discovery = Discovery(server.fetch)
    asked_at: list[float] = []
    while trio.current_time() < 20:
        before = len(server.asked)
        assert await discovery.find("example.org/v1", "Thing") is None
        if len(server.asked) > before:
            asked_at.append(trio.current_time())
        await trio.sleep(0.5)
    assert len(asked_at) == 4
    assert all(later - earlier >= REFRESH_SECONDS for earlier, later in pairwise(asked_at))
    thing = Resource("example.org/v1", "Thing", "things", namespaced=True)
    server.kinds["example.org/v1"] = {"Thing": thing}
    await trio.sleep(REFRESH_SECONDS)
    assert await discovery.find("example.org/v1", "Thing") == thing


async def test_a_question_that_failed_is_asked_again_by_the_next(autojump_clock: trio.testing.MockClock) -> None:
    server = _Server()
    server.fault = JiemiError("ClusterUnavailable", "no answer")
    discovery = Discovery(server.fetch)
    with pytest.raises(JiemiError, match="no answer"):
        await discovery.find("apps/v1", "Deployment")
    server.fault = None
    assert await discovery.find("apps/v1", "Deployment") == DEPLOYMENT


async def test_who_is_cancelled_while_asking_leaves_the_question_to_the_next(
    autojump_clock: trio.testing.MockClock,
) -> None:
    server = _Server()
    discovery = Discovery(server.fetch)
    with trio.move_on_after(0.5):
        await discovery.find("apps/v1", "Deployment")
    assert await discovery.find("apps/v1", "Deployment") == DEPLOYMENT


async def test_what_was_forgotten_is_asked_for_again(autojump_clock: trio.testing.MockClock) -> None:
    server = _Server()
    discovery = Discovery(server.fetch)
    await discovery.find("apps/v1", "Deployment")
    await trio.sleep(REFRESH_SECONDS)
    discovery.forget("apps/v1")
    discovery.forget("never/v1")
    server.kinds = {}
    assert await discovery.find("apps/v1", "Deployment") is None


async def test_what_was_forgotten_is_asked_for_at_once_and_its_kinds_stay(
    autojump_clock: trio.testing.MockClock,
) -> None:
    server = _Server()
    discovery = Discovery(server.fetch)
    await discovery.find("apps/v1", "Deployment")
    moved = Resource("apps/v1", "Deployment", "deploys", namespaced=True)
    server.kinds["apps/v1"] = {"Deployment": moved}
    discovery.forget("apps/v1")
    assert await discovery.find("apps/v1", "Deployment") == moved
    # It is wrong again, as an API server that is slow to notice makes it: the last answer is all there is.
    discovery.forget("apps/v1")
    assert await discovery.find("apps/v1", "Deployment") == moved
    assert len(server.asked) == 2


async def test_what_is_forgotten_again_and_again_is_asked_for_every_few_seconds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    server = _Server()
    discovery = Discovery(server.fetch)
    while trio.current_time() < 60:
        assert await discovery.find("apps/v1", "Deployment") == DEPLOYMENT
        assert await discovery.find("apps/v1", "Unknown") is None
        discovery.forget("apps/v1")
        await trio.sleep(0.1)
    assert len(server.asked) <= 60 / REFRESH_SECONDS + 1


async def test_what_is_forgotten_while_it_is_asked_for_is_asked_for_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    server = _Server()
    discovery = Discovery(server.fetch)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(discovery.find, "apps/v1", "Deployment")
        await trio.sleep(0.5)
        discovery.forget("apps/v1")
    await discovery.find("apps/v1", "Deployment")
    assert len(server.asked) == 2


async def test_a_question_about_what_was_forgotten_is_open_until_it_is_answered(
    autojump_clock: trio.testing.MockClock,
) -> None:
    server = _Server()
    discovery = Discovery(server.fetch)
    await discovery.find("apps/v1", "Deployment")
    discovery.forget("apps/v1")
    server.fault = JiemiError("ClusterUnavailable", "no answer")
    for _ in range(2):
        with pytest.raises(JiemiError, match="no answer"):
            await discovery.find("apps/v1", "Deployment")
    with trio.move_on_after(0.5):
        await discovery.find("apps/v1", "Deployment")
    server.fault = None
    assert await discovery.find("apps/v1", "Deployment") == DEPLOYMENT
    assert len(server.asked) == 5


async def test_an_old_answer_does_not_say_that_a_kind_is_unknown_where_a_new_answer_is_wanted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    server = _Server()
    discovery = Discovery(server.fetch)
    thing = Resource("example.org/v1", "Thing", "things", namespaced=True)
    assert await discovery.find("example.org/v1", "Thing") is None
    server.kinds["example.org/v1"] = {"Thing": thing}
    assert await discovery.find("example.org/v1", "Thing", unknown_seconds=JUST_NOW_SECONDS) is None
    await trio.sleep(JUST_NOW_SECONDS)
    assert await discovery.find("example.org/v1", "Thing") is None
    assert len(server.asked) == 1
    assert await discovery.find("example.org/v1", "Thing", unknown_seconds=JUST_NOW_SECONDS) == thing
    assert await discovery.find("example.org/v1", "Thing", unknown_seconds=JUST_NOW_SECONDS) == thing
    assert len(server.asked) == 2


async def test_names_that_users_invent_do_not_fill_the_memory() -> None:
    async def fetch(_: str) -> Mapping[str, Resource]:
        return {}

    discovery = Discovery(fetch)
    for number in range(2 * MAX_GROUPS):
        await discovery.find(f"g{number}.example/v1", "Thing")
    assert len(discovery._groups) <= MAX_GROUPS


async def test_what_is_no_api_version_is_not_even_asked_for() -> None:
    server = _Server()
    assert await Discovery(server.fetch).find("../../v1", "Secret") is None
    assert server.asked == []


def test_a_resource_list_is_read_without_subresources_and_nonsense() -> None:
    listed = {
        "resources": [
            {"name": "deployments", "kind": "Deployment", "namespaced": True},
            {"name": "deployments/scale", "kind": "Scale", "namespaced": True},
            {"name": "deployments/status", "kind": "Deployment", "namespaced": True},
            {"name": 7, "kind": "Seven"},
            "nonsense",
        ]
    }
    assert parse_resources("apps/v1", listed) == {"Deployment": DEPLOYMENT}
    assert parse_resources("apps/v1", {"resources": None}) == {}


def test_paths() -> None:
    assert DEPLOYMENT.path("team", "app") == "/apis/apps/v1/namespaces/team/deployments/app"
    assert NODE.path(None, "a") == "/api/v1/nodes/a"
    assert (DEPLOYMENT.group, NODE.group) == ("apps", "")
    # RBAC names may hold a colon, and no name may leave its place in the path.
    roles = Resource("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", namespaced=False)
    assert roles.path(None, "system:a?b#c").endswith("/clusterroles/system%3Aa%3Fb%23c")


def test_a_manifest_goes_to_its_namespace_or_the_default_or_none() -> None:
    def where(resource: Resource, **metadata: object) -> tuple[str | None, object]:
        to = target({"metadata": {"name": "x"} | metadata}, resource, default_namespace="default")
        return to.namespace, to.body["metadata"].get("namespace")

    assert where(DEPLOYMENT, namespace="team") == ("team", "team")
    assert where(DEPLOYMENT) == ("default", "default")
    assert where(DEPLOYMENT, namespace="") == ("default", "default")
    assert where(NODE, namespace="team") == (None, None)


@pytest.mark.parametrize("metadata", [{"name": ".."}, {"name": ""}, {"name": 7}, {"name": "a", "namespace": "a/../b"}])
def test_a_manifest_whose_name_can_be_none_goes_nowhere(metadata: dict[str, object]) -> None:
    with pytest.raises(JiemiError, match="ApplyRejected"):
        target({"metadata": metadata}, DEPLOYMENT, default_namespace="default")


@given(st.text())
def test_a_path_part_stays_one_part(name: str) -> None:
    if is_path_part(name):
        path = DEPLOYMENT.path("team", name)
        assert path.count("/") == 7
        assert not set(path) & set("?# \\")
        assert path.rpartition("/")[2] not in {"", ".", ".."}


@given(st.text(alphabet="av1/.-?#% \n", max_size=12) | st.text())
def test_an_api_version_is_one_or_two_parts(text: str) -> None:
    if is_api_version(text):
        assert text.count("/") <= 1
        assert ".." not in text
        assert text.replace("/", "").replace(".", "").replace("-", "").isalnum()


INGRESS = Resource("networking.k8s.io/v1", "Ingress", "ingresses", namespaced=True)
OLD_INGRESS = Resource("networking.k8s.io/v1beta1", "Ingress", "ingresses", namespaced=True)
SECRET = Resource("v1", "Secret", "secrets", namespaced=True)


async def test_what_may_be_meant_by_a_kind_is_found_by_name_and_plural_whatever_the_capitals() -> None:
    async def all_kinds() -> list[Resource]:
        return [SECRET, INGRESS, OLD_INGRESS]

    discovery = Discovery(_Server().fetch, all_kinds)
    for kind in ("Secret", "secret", "Secrets"):
        assert await discovery.similar(kind) == (SECRET,)
    assert await discovery.similar("Ingress") == (INGRESS,)  # of each group the preferred version
    assert await discovery.similar("Widget") == ()


async def test_all_kinds_are_asked_for_once_a_minute_and_by_one_though_the_answer_fails(
    autojump_clock: trio.testing.MockClock,
) -> None:
    asked = []

    async def all_kinds() -> list[Resource]:
        asked.append(trio.current_time())
        await trio.sleep(1)
        if len(asked) == 2:
            raise JiemiError("ClusterUnavailable", "it is away")
        return [SECRET]

    discovery = Discovery(_Server().fetch, all_kinds)
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(discovery.similar, "secret")
    assert len(asked) == 1
    await trio.sleep(ALL_KINDS_SECONDS)
    with pytest.raises(JiemiError):
        await discovery.similar("secret")
    assert await discovery.similar("secret") == ()
    await trio.sleep(ALL_KINDS_SECONDS)
    assert await discovery.similar("secret") == (SECRET,)
    assert len(asked) == 3


def test_a_list_of_all_kinds_is_read_without_what_makes_no_sense() -> None:
    def item(kind: object, plural: object = "x", scope: str = "Namespaced") -> dict[str, object]:
        return {"resource": plural, "responseKind": {"kind": kind}, "scope": scope}

    core = {"metadata": {}, "versions": [{"version": "v1", "resources": [item("Secret", "secrets")]}]}
    versions = [
        {"version": "v1", "resources": [item("Widget", "widgets", "Cluster"), item(None), item("X", "../y")]},
        {"version": "v2", "resources": [item("A b"), "nonsense"]},
        {"version": "../v2", "resources": [item("Widget", "widgets")]},
        {"version": None},
        None,
    ]
    listed = {"items": [core, {"metadata": {"name": "a.example"}, "versions": versions}, {"metadata": None}, 7]}
    assert parse_all_kinds(listed) == [SECRET, Resource("a.example/v1", "Widget", "widgets", namespaced=False)]
    assert parse_all_kinds({"items": None}) == []
