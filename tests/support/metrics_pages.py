"""Metrics, as a page of them says, and how pages are asked for."""

from __future__ import annotations

import trio
from prometheus_client.parser import text_string_to_metric_families


def samples(text: str, name: str, **labels: str) -> list[tuple[dict[str, str], float]]:
    """The samples of a metric that have these labels: all of their labels, and the value."""
    return [
        (sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]


def total(text: str, name: str, **labels: str) -> float:
    """The sum of those samples."""
    return sum(value for _, value in samples(text, name, **labels))


async def ask(port: int, request: bytes) -> bytes:
    """What a port of loopback answers to some bytes, until it closes the connection."""
    with trio.fail_after(10):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(request)
            answer = b""
            while data := await stream.receive_some():
                answer += data
            return answer


def get(path: str, method: str = "GET") -> bytes:
    """A request for a page."""
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
