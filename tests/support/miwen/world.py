"""Miwen over both fakes, on trio's virtual clock."""

from __future__ import annotations

import base64
import contextlib
import datetime
from collections.abc import AsyncIterator, Mapping
from typing import Any

import attrs
import trio
import trio.testing
from fakes.krapao import RIGHT_KEY, FakeKrapao, FakeOrigin
from fakes.kubernetes import FakeCluster, FakeKubernetes

from jiemi.core.api.decryptor import API_VERSION, KIND
from jiemi.miwen.report.metrics import MiwenMetrics
from jiemi.miwen.service import MiwenPorts, MiwenSettings, Webhooks, run_miwen
from jiemi.tracing.spans import Tracer

INTERVAL = 180.0
URL = "https://git.example/app.git"
FILE = "secret.enc.yaml"
START = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)


def secret(name: str = "app", namespace: str | None = None, **values: str) -> dict[str, Any]:
    """A Secret as a document of the repository."""
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values}


@attrs.define
class World:
    """A cluster, a repository, and a Miwen between them."""

    cluster: FakeCluster
    kubernetes: FakeKubernetes
    krapao: FakeKrapao
    origin: FakeOrigin

    def add(self, name: str = "app", namespace: str = "default", **spec: Any) -> None:
        """A Decryptor with the right key as a literal, where nothing else is said.

        One that is not called app puts the file into a Secret of its own name: two of them can't have one object.
        """
        if name != "app" and not {"source", "target"} & set(spec):
            spec["target"] = {"name": name, "key": "file"}
        source = {"repository": {"url": URL}, "fileToDecrypt": FILE}
        provider = {"age": {"privateKey": {"literal": RIGHT_KEY.private_key.reveal()}}}
        self.cluster.put(
            {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"provider": provider, "source": source, **spec},
            }
        )

    def add_secret(self, name: str, namespace: str = "default", **values: str) -> None:
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        metadata = {"name": name, "namespace": namespace}
        self.cluster.put({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})

    def delete(self, name: str = "app", namespace: str = "default") -> None:
        self.cluster.delete(KIND, namespace, name, api_version=API_VERSION)

    def status(self, name: str = "app", namespace: str = "default") -> dict[str, Any]:
        found = self.cluster.get(KIND, namespace, name, api_version=API_VERSION)
        assert found is not None
        status: dict[str, Any] = found.get("status") or {}
        return status

    def current(self, name: str = "app") -> dict[str, Any]:
        current: dict[str, Any] = self.status(name)["current"]
        return current

    def reason(self, name: str = "app") -> str:
        return str(self.condition("Ready", name)["reason"])

    def condition(self, kind: str, name: str = "app") -> Mapping[str, Any]:
        """The condition of that type; empty where there is none."""
        return next((each for each in self.status(name)["conditions"] if each["type"] == kind), {})

    def data(self, name: str = "app", namespace: str = "default") -> Mapping[str, str] | None:
        """The values of a Secret in the cluster, decoded."""
        found = self.cluster.get("Secret", namespace, name)
        if found is None:
            return None
        return {key: base64.b64decode(value).decode() for key, value in found.get("data", {}).items()}

    def versions(self) -> int:
        """Grows with every write to the cluster."""
        return self.cluster.version

    def heads(self) -> int:
        return sum(call[0] == "head" for call in self.krapao.calls)

    def renders(self) -> int:
        return sum(call[0] == "render" for call in self.krapao.calls)


async def settle() -> None:
    """Let everything run that needs no time to pass."""
    await trio.testing.wait_all_tasks_blocked()


@contextlib.asynccontextmanager
async def miwen(
    world: World,
    *,
    interval: float = INTERVAL,
    metrics: MiwenMetrics | None = None,
    tracer: Tracer | None = None,
    webhooks: Webhooks | None = None,
    **settings: Any,
) -> AsyncIterator[None]:
    """Run Miwen on the world while the context lasts.

    Args:
        metrics: where it counts; its own where nobody reads them.
        tracer: where its spans go.
        webhooks: where it takes webhooks; nowhere by itself.
    """

    began = trio.current_time()

    def now() -> datetime.datetime:
        return START + datetime.timedelta(seconds=trio.current_time() - began)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            lambda: run_miwen(
                MiwenPorts(
                    world.kubernetes, world.krapao, now, lambda: 0.5, metrics or MiwenMetrics(), tracer, webhooks
                ),  # no jitter
                MiwenSettings(interval_seconds=interval, **settings),
            )
        )
        await settle()
        yield
        nursery.cancel_scope.cancel()
    assert (world.krapao.opened, world.krapao.running, world.krapao.watching) == (0, 0, 0)
