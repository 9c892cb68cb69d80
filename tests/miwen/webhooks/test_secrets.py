"""Which webhooks there are, as the Secrets of a cluster come and go; on the virtual clock."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing
from fakes.kubernetes import FakeCluster, FakeKubernetes
from support.miwen.world import settle
from support.webhooks.requests import NOW, SECRET

from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.core.webhooks.webhook import LABEL
from jiemi.miwen.report.events import EventRecorder
from jiemi.miwen.webhooks import secrets as module
from jiemi.miwen.webhooks.secrets import WebhookSecrets
from jiemi.miwen.webhooks.unusable import report_unusable

OTHER = "another-secret-of-many-characters"


def put(
    cluster: FakeCluster, name: str = "app", namespace: str = "team-a", kind: str | None = "github", **data: str
) -> None:
    labels = {LABEL: kind} if kind is not None else {}
    values = {key: base64.b64encode(value.encode()).decode() for key, value in (data or {"token": SECRET}).items()}
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    cluster.put({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": values})


@contextlib.asynccontextmanager
async def following(kubernetes: FakeKubernetes) -> AsyncIterator[WebhookSecrets]:
    secrets = WebhookSecrets(kubernetes, random=lambda: 0.5)
    async with trio.open_nursery() as nursery:
        await nursery.start(secrets.run)
        await settle()
        yield secrets
        nursery.cancel_scope.cancel()


async def test_webhooks_come_change_and_go_with_their_secrets() -> None:
    cluster = FakeCluster()
    put(cluster, "old")
    put(cluster, "other", kind=None)
    async with following(FakeKubernetes(cluster)) as secrets:
        assert set(secrets.webhooks) == {("team-a", "old")}
        put(cluster)
        await settle()
        assert list(secrets.webhooks["team-a", "app"].secrets) == [SensitiveText(SECRET)]
        put(cluster, new=OTHER, old=SECRET)
        await settle()
        assert list(secrets.webhooks["team-a", "app"].secrets) == [SensitiveText(OTHER), SensitiveText(SECRET)]
        put(cluster, kind=None)
        await settle()
        assert ("team-a", "app") not in secrets.webhooks
        cluster.delete("Secret", "team-a", "old")
        await settle()
        assert not secrets.webhooks


async def test_a_secret_that_is_spoilt_is_taken_no_longer(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = FakeCluster()
    put(cluster)
    async with following(FakeKubernetes(cluster)) as secrets:
        put(cluster, token="short")
        await settle()
        assert not secrets.webhooks
        put(cluster)
        await settle()
        assert secrets.webhooks


async def test_one_that_cant_be_read_is_taken_no_longer_and_read_again_later(
    autojump_clock: trio.testing.MockClock,
) -> None:
    cluster = FakeCluster()
    put(cluster)
    kubernetes = FakeKubernetes(cluster)
    async with following(kubernetes) as secrets:
        kubernetes.fail_next("get_secret", JiemiError("ClusterUnavailable", "down"))
        put(cluster, token=OTHER)
        await settle()
        assert not secrets.webhooks
        await trio.sleep(6)
        assert secrets.webhooks["team-a", "app"].secrets == (SensitiveText(OTHER),)


async def test_a_list_that_is_read_again_forgets_what_went_meanwhile(
    autojump_clock: trio.testing.MockClock,
) -> None:
    cluster = FakeCluster()
    put(cluster)
    put(cluster, "stays")
    async with following(FakeKubernetes(cluster)) as secrets:
        cluster.end_watches()
        cluster.delete("Secret", "team-a", "app")
        cluster.compact()
        await trio.sleep(120)
        assert set(secrets.webhooks) == {("team-a", "stays")}


async def test_a_namespace_has_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OF_A_NAMESPACE", 2)
    cluster = FakeCluster()
    for name in ("a", "b", "c"):
        put(cluster, name)
    put(cluster, "a", "team-b")
    async with following(FakeKubernetes(cluster)) as secrets:
        assert sorted(secrets.webhooks) == [("team-a", "a"), ("team-a", "b"), ("team-b", "a")]


async def test_without_the_right_to_list_there_are_none_and_nothing_crashes() -> None:
    cluster = FakeCluster()
    put(cluster)
    kubernetes = FakeKubernetes(cluster)
    kubernetes.deny("list", "secrets")
    async with following(kubernetes) as secrets:
        assert not secrets.webhooks


def reported(cluster: FakeCluster) -> list[dict[str, Any]]:
    """The Events on Secrets."""
    events = [obj for key, obj in cluster.objects.items() if key[1] == "Event"]
    return [dict(event) for event in events if event["regarding"]["kind"] == "Secret"]


async def test_a_secret_that_declares_no_usable_webhook_gets_an_event_and_one_more_when_it_is_mended(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_OF_A_NAMESPACE", 3)
    cluster = FakeCluster()
    cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a"}})
    kubernetes = FakeKubernetes(cluster)
    events = EventRecorder(kubernetes, instance="miwen-0", now=lambda: NOW, random=lambda: 0.5)
    for name, kind, token in (("a", "github", SECRET), ("kind", "other", SECRET), ("short", "github", "canary")):
        put(cluster, name, kind=kind, token=token)
    async with following(kubernetes) as secrets, trio.open_nursery() as nursery:
        put(cluster, "many")
        await nursery.start(lambda task_status: events.run(task_status=task_status))
        nursery.start_soon(report_unusable, secrets, events)
        await settle()
        found = {each["regarding"]["name"]: each for each in reported(cluster)}
        assert set(found) == {"short", "kind", "many"}
        short = found["short"]
        assert short["note"] == "No webhook is taken by this Secret: key token: it must have 16 to 4096 characters."
        assert found["kind"]["note"].startswith(
            "No webhook is taken by this Secret: label jiemi.cr/webhook: it must be"
        )
        assert (short["type"], short["reason"], short["metadata"]["namespace"]) == (
            "Warning",
            "WebhookUnusable",
            "team-a",
        )
        assert short["regarding"]["uid"] == cluster.objects["v1", "Secret", "team-a", "short"]["metadata"]["uid"]
        assert "canary" not in str(reported(cluster))
        put(cluster, "short")
        await settle()
        [mended] = [each for each in reported(cluster) if each["reason"] == "WebhookUsable"]
        assert (mended["type"], mended["regarding"]["name"]) == ("Normal", "short")
        put(cluster, "kind", kind=None)  # no webhook any more: nothing more to say
        await settle()
        count = len(reported(cluster))
        await trio.sleep(3_700)  # what lasts is said again
        assert [each["regarding"]["name"] for each in reported(cluster)[count:]] == ["many"]
        nursery.cancel_scope.cancel()
