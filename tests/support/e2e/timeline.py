"""Real services, scraped for a while: 0.25 s stand for the 30 s between two scrapes of Prometheus."""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import attrs
from support.e2e.lab import Service, until
from support.monitoring.promtool import Promtool
from support.monitoring.recording import Recording

SCRAPE_SECONDS = 0.25
_LISTENING = re.compile(r'"address": "tcp:127\.0\.0\.1:(\d+)", "path": "/metrics"')


def port_of(service: Service) -> int | None:
    """The port of the metrics and probes of a service that was started with `METRICS`; None where it has none yet."""
    found = _LISTENING.search(service.log_text())
    return int(found[1]) if found is not None else None


def page_of(service: Service) -> str | None:
    """The metrics of a service that was started with `METRICS`; None where there is no answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port_of(service) or 9}/metrics", timeout=10) as page:
            text: str = page.read().decode()
            return text
    except (urllib.error.URLError, OSError):
        return None


@attrs.define
class Timeline:
    """What the services show over time.

    Attributes:
        services: those that are scraped, by the names of their components.
    """

    services: dict[str, Service]
    recording: Recording

    @classmethod
    def begin(cls, services: Mapping[str, Service], folder: Path) -> Timeline:
        """Begin now. Every service serves its page."""
        for service in services.values():
            until("metrics are served", partial(page_of, service), on_failure=service.log_text)
        recording = Recording(folder, time.time())
        recording.stretch = recording.every_seconds / SCRAPE_SECONDS
        return cls(dict(services), recording)

    def go_on(self, minutes: float) -> None:
        """Record so many minutes of the timeline."""
        due = time.monotonic()
        for _ in range(round(minutes * 60 / self.recording.every_seconds)):
            self.recording.scrape({name: page_of(service) for name, service in self.services.items()})
            due += SCRAPE_SECONDS
            time.sleep(max(0.0, due - time.monotonic()))

    def require(self, promtool: Promtool, wanted: Mapping[float, Mapping[str, int]]) -> None:
        """As `Recording.require_alerts`."""
        self.recording.require_alerts(promtool, wanted)
