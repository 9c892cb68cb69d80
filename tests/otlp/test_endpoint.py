"""Which URLs are taken as a collector's, and what a request to one is."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from jiemi.otlp.endpoint import read_endpoint


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("http://127.0.0.1:4318", "127.0.0.1", 4318, "/v1/traces"),
        ("http://localhost:4318/", "localhost", 4318, "/v1/traces"),
        ("http://[::1]:4318", "::1", 4318, "/v1/traces"),
        ("https://collector.example", "collector.example", 443, "/v1/traces"),
        ("https://collector.example:4318/tenant/v1/traces", "collector.example", 4318, "/tenant/v1/traces"),
    ],
)
def test_a_collector_is_on_this_host_or_speaks_tls(url: str, host: str, port: int, path: str) -> None:
    found = read_endpoint(url)
    assert (found.host, found.port, found.path) == (host, port, path)
    assert (found.tls is not None) == url.startswith("https")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://collector.example:4318", "http is for a collector on this host"),
        ("http://10.0.0.1", "http is for a collector on this host"),
        ("http://127.0.0.1.example", "http is for a collector on this host"),
        ("https://me:canary@collector.example", "has credentials"),
        ("https://canary@collector.example", "has credentials"),
        ("https://collector.example/?token=canary", "a query"),
        ("https://collector.example/#canary", "a fragment"),
        ("grpc://collector.example", "no http:// or https:// URL"),
        ("collector:4318", "no http:// or https:// URL"),
        ("", "no http:// or https:// URL"),
        ("https://", "no http:// or https:// URL"),
        ("https://collector.example:canary", "no URL"),
        ("https://collector.example/a\r\nX: y", "characters"),
        ("https://collector.example/é", "characters"),
    ],
)
def test_what_is_none_is_refused_and_not_quoted(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        read_endpoint(url)
    assert "canary" not in str(caught.value)


def test_a_flag_allows_http_over_a_network() -> None:
    assert read_endpoint("http://collector.example", insecure=True).tls is None


def test_authorities_are_read_and_are_for_https(tmp_path: Path) -> None:
    empty = tmp_path / "ca.pem"
    empty.write_text("nothing")
    with pytest.raises(ssl.SSLError, match="NO_CERTIFICATE"):
        read_endpoint("https://collector.example", ca_bundle=empty)
    with pytest.raises(ValueError, match="authorities are for https"):
        read_endpoint("http://127.0.0.1", ca_bundle=empty)
