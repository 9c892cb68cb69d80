"""What is reported of objects can be believed whatever happens to the watch, and what is kept of them is small."""

from __future__ import annotations

import gc
import json
import math
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

import trio
from fakes.kubernetes import FakeCluster, FakeKubernetes
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from jiemi.core.errors import JiemiError
from jiemi.core.objects.identity import NAME_LABEL, NAMESPACE_LABEL, Owner
from jiemi.miwen.kubernetes.discovery import Resource
from jiemi.miwen.kubernetes.port import JsonObject, Kubernetes, Page
from jiemi.miwen.watch.kind_watch import SECRETS
from jiemi.miwen.watch.object_watches import ObjectWatches

CONFIG_MAPS = Resource("v1", "ConfigMap", "configmaps", namespaced=True)
OURS = Owner.of("team", "app").labels


class _Mirror:
    """A listener that believes its notifications, and sees that nothing is reported twice or against what is there."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.objects: dict[str, tuple[str, str]] = {}
        self._cluster = cluster
        self._newest: dict[str, int] = {}

    def __call__(self, resource: Resource, metadata: JsonObject, *, deleted: bool) -> None:
        name, state = metadata["name"], (metadata["uid"], metadata["resourceVersion"])
        if deleted:
            assert there(self._cluster).get(name) != state, "it is there as it was"
            self.objects.pop(name, None)
        else:
            assert int(state[1]) > self._newest.get(name, 0), "it was reported already"
            self._newest[name] = int(state[1])
            self.objects[name] = state


def there(cluster: FakeCluster) -> dict[str, tuple[str, str]]:
    """The ConfigMaps with our label: name to uid and version."""
    return {
        obj["metadata"]["name"]: (obj["metadata"]["uid"], obj["metadata"]["resourceVersion"])
        for (_, kind, _, _), obj in cluster.objects.items()
        if kind == "ConfigMap" and NAME_LABEL in obj["metadata"].get("labels", {})
    }


_names = st.sampled_from(["a", "b", "c"])
_steps = st.one_of(
    st.tuples(st.just("put"), _names, st.booleans()),
    st.tuples(st.just("delete"), _names),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 1.0, 40.0, 400.0])),
    st.tuples(st.just("fail"), st.sampled_from(["list_metadata", "watch_metadata"]), st.integers(1, 3)),
    st.tuples(st.just("watch-error"), st.sampled_from([410, 500])),
    st.tuples(st.sampled_from(["end", "compact", "deny", "allow", "hush", "speak", "unserve", "serve"])),
)


@given(st.lists(_steps, max_size=25))
@settings(deadline=None, max_examples=150)
def test_what_is_reported_adds_up_to_what_is_there(steps: list[tuple[Any, ...]]) -> None:
    async def run() -> None:
        kubernetes = FakeKubernetes()
        cluster = kubernetes.cluster
        mirror = _Mirror(cluster)
        async with trio.open_nursery() as nursery:
            watches = ObjectWatches(kubernetes, nursery, mirror, random=lambda: 0.5)
            watches.want(CONFIG_MAPS)
            for step in [*steps, ("allow",), ("speak",), ("serve",), ("wait", 1000)]:
                if step[0] == "wait":
                    await trio.sleep(step[1])
                elif step[0] in {"put", "delete"}:
                    _change(cluster, *step)
                else:
                    _disturb(kubernetes, *step)
            assert mirror.objects == there(cluster)
            assert watches.failure(CONFIG_MAPS) is None
            for name in ("a", "b", "c"):
                _, version = mirror.objects.get(name, (None, None))
                assert watches.version_of("", "ConfigMap", "default", name) == version
            nursery.cancel_scope.cancel()
        assert cluster.watches == 0

    trio.run(run, clock=MockClock(autojump_threshold=0))


def _change(cluster: FakeCluster, action: str, name: str, ours: bool = False) -> None:
    if action == "put":
        labels = {**(OURS if ours else {NAMESPACE_LABEL: "x"}), "version": str(cluster.version)}
        metadata = {"name": name, "namespace": "default", "labels": labels}
        cluster.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    elif cluster.get("ConfigMap", "default", name) is not None:
        cluster.delete("ConfigMap", "default", name)


def _disturb(kubernetes: FakeKubernetes, *step: Any) -> None:
    cluster = kubernetes.cluster
    match step:
        case ("fail", method, times):
            kubernetes.fail_next(method, *[JiemiError("ClusterUnavailable", "no answer")] * times)
        case ("watch-error", code):
            cluster.fail_watches(code)
        case ("end",):
            cluster.end_watches()
        case ("compact",):
            cluster.compact()
        case ("deny",):
            kubernetes.deny("watch", "configmaps")
        case ("allow",):
            kubernetes.denied.clear()
        case ("hush" | "speak" as how,):
            kubernetes.silent = how == "hush"
        case ("unserve",):
            cluster.kinds.pop(("v1", "ConfigMap"), None)
        case ("serve",):
            cluster.add_kind("v1", "ConfigMap", "configmaps", namespaced=True)
        case _:
            raise AssertionError(step)


class _ManySecrets:
    """Lists Secrets with metadata as long as they come, recreated for each page; its watch says nothing."""

    scopes = (None,)

    def __init__(self, number: int) -> None:
        self._number = number

    async def list_metadata(self, resource: Resource, *, limit: int, continue_token: str | None, **_: str) -> Page:
        await trio.lowlevel.checkpoint()
        begin = int(continue_token or 0)
        items = tuple(json.loads(json.dumps(self._secret(each))) for each in range(begin, begin + limit))
        return Page(items, "1", str(begin + limit) if begin + limit < self._number else None)

    @asynccontextmanager
    async def watch_metadata(self, resource: Resource, **_: str) -> AsyncIterator[AsyncIterator[bytes]]:
        await trio.lowlevel.checkpoint()
        async with aclosing(self._nothing()) as chunks:
            yield chunks

    async def _nothing(self) -> AsyncGenerator[bytes, None]:
        while True:
            await trio.sleep(math.inf)
            yield b""

    def _secret(self, number: int) -> JsonObject:
        fields: JsonObject = {f"f:key-{each}": {} for each in range(30)}
        return {
            "metadata": {
                "name": f"credentials-of-application-{number}",
                "namespace": f"team-{number % 50}",
                "uid": f"0a1b2c3d-0000-4000-8000-{number:012}",
                "resourceVersion": str(100_000_000 + number),
                "labels": OURS | {f"label-{each}": "x" * 60 for each in range(20)},
                "annotations": {"note": "x" * 1000},
                "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:data": fields}}],
            }
        }


async def test_ten_thousand_secrets_are_kept_in_a_few_megabytes(autojump_clock: MockClock) -> None:
    number = 10_000
    heard = 0

    def hear(resource: Resource, metadata: JsonObject, *, deleted: bool) -> None:
        nonlocal heard
        heard += 1

    async with trio.open_nursery() as nursery:
        watches = ObjectWatches(cast(Kubernetes, _ManySecrets(number)), nursery, hear, random=lambda: 0.5)
        gc.collect()
        tracemalloc.start()
        try:
            assert await watches.synced(SECRETS)
            gc.collect()
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        nursery.cancel_scope.cancel()
    assert heard == number
    assert kept / number < 600
