"""Webhooks sent to a service that runs, over HTTP."""

from __future__ import annotations

import http.client
import re

from support.e2e.lab import Service
from support.webhooks.requests import Request

_LISTENING = re.compile(r'"address": ?"tcp:[^"]*:(\d+)"[^\n]*"event": ?"webhooks"|"event": ?"webhooks"[^\n]*:(\d+)"')


def webhooks_port(service: Service) -> int | None:
    """The port of a Miwen that was started with `--webhooks-listen 127.0.0.1:0`; None where it has none yet."""
    found = _LISTENING.search(service.log_text())
    return int(found[1] or found[2]) if found is not None else None


def deliver(service: Service, sent: Request, namespace: str, name: str) -> int | None:
    """Send a request; returns the status of the answer, None where the port is not there yet."""
    port = webhooks_port(service)
    if port is None:
        return None
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", f"/webhooks/{namespace}/{name}", sent.body, dict(sent.fields))
        return connection.getresponse().status
    finally:
        connection.close()
