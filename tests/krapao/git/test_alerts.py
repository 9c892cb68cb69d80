"""The alert of deploy/monitoring that Krapao's volume causes, and what its metrics say of git hosts."""

from __future__ import annotations

import contextlib
from pathlib import Path

import attrs
import pytest
from krapao.git.clone_checks import NOBODY
from prometheus_client import generate_latest
from support.krapao.work_tree import Work
from support.metrics_pages import total
from support.monitoring.promtool import Promtool
from support.monitoring.recording import Recording

from jiemi.core.errors import JiemiError
from jiemi.core.urls import parse_url
from jiemi.demo.git_server import GitServer
from jiemi.krapao.git.clones import Clones
from jiemi.krapao.git.port import Ref
from jiemi.krapao.metrics import KrapaoMetrics
from jiemi.krapao.settings import KrapaoSettings
from jiemi.miwen.report.metrics import MiwenMetrics


def page(metrics: KrapaoMetrics | MiwenMetrics) -> str:
    metrics.prepare()
    return generate_latest(metrics.registry).decode()


@attrs.frozen
class Scraped:
    recording: Recording
    promtool: Promtool

    def go_on(self, minutes: float, metrics: KrapaoMetrics) -> None:
        """Record so many minutes during which nothing happens."""
        for _ in range(round(minutes * 60 / self.recording.every_seconds)):
            self.recording.scrape({"krapao": page(metrics), "miwen": page(MiwenMetrics())})

    def require(self, wanted: dict[float, dict[str, int]]) -> None:
        self.recording.require_alerts(self.promtool, wanted)


@pytest.mark.e2e
async def test_a_volume_full_of_clones_in_use_is_reported(
    git_server: GitServer, work: Work, settings: KrapaoSettings, tmp_path: Path, promtool: Promtool
) -> None:
    metrics = KrapaoMetrics()
    clones = Clones(attrs.evolve(settings, max_store_bytes=300_000), metrics=metrics)
    scraped = Scraped(Recording(tmp_path, 0), promtool)
    scraped.go_on(5, metrics)
    work.commit({"x": "one"})
    async with contextlib.AsyncExitStack() as opened:
        for name in ("a.git", "b.git", "c.git"):
            git_server.create(name)
            work.push(git_server.root / name)
            store = await opened.enter_async_context(clones.open(parse_url(git_server.url_of(name)), NOBODY))
            await store.fetch(await store.advertised(Ref()))
        assert metrics.value("jiemi_store_bytes") > 0.9 * metrics.value("jiemi_store_limit_bytes") == 270_000
        scraped.go_on(40, metrics)
    await clones.prune()
    scraped.go_on(5, metrics)
    scraped.require({4: {}, 34: {}, 36: {"JiemiStoreFull": 1}, 44: {"JiemiStoreFull": 1}, 49: {}})


async def test_listings_and_fetches_are_counted_with_their_bytes_and_what_came_of_them(
    git_server: GitServer, work: Work, settings: KrapaoSettings
) -> None:
    metrics = KrapaoMetrics()
    clones = Clones(settings, metrics=metrics)
    work.commit({"x": "one" * 10_000})
    git_server.create("r.git")
    work.push(git_server.root / "r.git")
    async with clones.open(parse_url(git_server.url_of("r.git")), NOBODY) as store:
        await store.fetch(await store.advertised(Ref()))
        with pytest.raises(JiemiError):
            await store.advertised(Ref(branch="none"))
    async with clones.open(parse_url(git_server.url_of("none.git")), NOBODY) as store:
        with pytest.raises(JiemiError):
            await store.advertised(Ref())
    text = page(metrics)
    for operation, outcome, count in (
        ("listing", "ok", 1),
        ("listing", "RefNotFound", 1),
        ("listing", "RepositoryNotFound", 1),
        ("fetch", "ok", 1),
    ):
        assert total(text, "jiemi_git_requests_total", operation=operation, outcome=outcome) == count
    assert total(text, "jiemi_git_requests_total") == 4
    assert total(text, "jiemi_git_request_duration_seconds_count", operation="listing") == 3
    assert 100 < total(text, "jiemi_git_received_bytes_total", operation="fetch") < 100_000
    assert "none" not in text.replace('listing="none"', "").replace("none, ok, failed", "")
    assert "r.git" not in text
