"""The alerts about webhooks, each fired by its cause: Secrets and requests as they come, over a real socket."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import structlog
import trio
from fakes.kubernetes import FakeKubernetes
from support.metrics_pages import ask
from support.monitoring.examples import page
from support.monitoring.promtool import Promtool
from support.monitoring.recording import Recording
from support.webhooks.requests import SECRET, Request, raw, request, status

from jiemi.cli.miwen_flags import MiwenFlags
from jiemi.cli.webhooks import serve_webhooks
from jiemi.core.webhooks.webhook import LABEL
from jiemi.krapao.metrics import KrapaoMetrics
from jiemi.miwen.report.metrics import MiwenMetrics
from jiemi.miwen.webhooks.intake import Intake
from jiemi.rpc.address import TcpAddress

pytestmark = pytest.mark.e2e

ONLY = {"jiemi_build_info", "jiemi_webhooks", "jiemi_webhooks_unusable", "jiemi_webhook_requests_total"}


@attrs.define
class Port:
    """The port for webhooks of a Miwen, whose page is recorded."""

    kubernetes: FakeKubernetes
    metrics: MiwenMetrics
    recording: Recording
    number: int = 0
    krapao: KrapaoMetrics = attrs.field(factory=KrapaoMetrics)

    def declare(self, value: str, name: str = "app") -> None:
        data = {"token": base64.b64encode(value.encode()).decode()}
        metadata = {"name": name, "namespace": "default", "labels": {LABEL: "github"}}
        self.kubernetes.cluster.put({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})

    async def until(self, usable: int, unusable: int) -> None:
        with trio.fail_after(10):
            while self.metrics.webhooks is None or self.metrics.webhooks() != (usable, unusable):  # noqa: ASYNC110 - a watch brings it
                await trio.sleep(0.01)

    async def send(self, sent: Request) -> int:
        return status(await ask(self.number, raw(sent, "/webhooks/default/app")))

    async def go_on(self, minutes: float, each_ten: Callable[[], Awaitable[Any]] | None = None) -> None:
        """Record that so much time passes.

        Args:
            each_ten: what happens each ten minutes of it.
        """
        for number in range(round(minutes * 60 / self.recording.every_seconds)):
            if each_ten is not None and number * self.recording.every_seconds % 600 == 0:
                await each_ten()
            self.recording.scrape({"miwen": page(self.metrics), "krapao": page(self.krapao)})


@pytest.fixture
async def port(nursery: trio.Nursery, tmp_path: Path) -> Port:
    kubernetes, metrics = FakeKubernetes(), MiwenMetrics()
    kubernetes.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}})
    flags = MiwenFlags(krapao=["unix:/nowhere"])
    with structlog.testing.capture_logs() as lines:
        webhooks = await serve_webhooks(flags, TcpAddress("127.0.0.1", 0), kubernetes, metrics, nursery)
    assert webhooks is not None
    webhooks.receiver.taker = Intake(webhooks.verifier, "jiemi", lambda _: 1)
    [line] = [each for each in lines if each["event"] == "webhooks"]
    return Port(kubernetes, metrics, Recording(tmp_path, 0, only=ONLY), int(line["address"].rpartition(":")[2]))


@pytest.mark.parametrize("value", ["short", "with a space in it, though long enough", ""])
async def test_a_secret_that_declares_no_usable_webhook_is_reported_until_it_is_mended(
    port: Port, promtool: Promtool, value: str
) -> None:
    port.declare(SECRET, "other")
    port.declare(value)
    await port.until(1, 1)
    await port.go_on(20)
    port.declare(SECRET)
    await port.until(2, 0)
    await port.go_on(5)
    port.recording.require_alerts(promtool, {14: {}, 17: {"JiemiWebhookUnusable": 1}, 24: {}})


@pytest.mark.parametrize(
    "sent",
    [request("github").with_body(b"{}"), request("github").without("x-hub-signature-256")],
    ids=["forged", "unsigned"],
)
async def test_requests_that_are_refused_again_and_again_are_reported_and_good_ones_are_not(
    port: Port, promtool: Promtool, sent: Request
) -> None:
    port.declare(SECRET)
    await port.until(1, 0)

    async def refused() -> None:
        assert await port.send(sent) == 403

    async def taken() -> None:
        assert await port.send(request("github")) == 202

    await port.go_on(60, taken)
    await port.go_on(70, refused)
    await port.go_on(90, taken)
    port.recording.require_alerts(promtool, {59: {}, 75: {}, 125: {"JiemiWebhooksRefused": 1}, 210: {}})


async def test_strangers_that_know_no_webhook_are_not_reported(port: Port, promtool: Promtool) -> None:
    async def guessed() -> None:
        assert await port.send(request("github")) == 403

    await port.go_on(120, guessed)
    assert port.metrics.value("jiemi_webhook_requests_total", outcome="unknown") > 10
    port.recording.require_alerts(promtool, {60: {}, 119: {}})
