"""Readers of foreign bytes: any input gives an answer or the error that is named, and never a file elsewhere."""

from __future__ import annotations

import contextlib
import gzip
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.concurrency.calls import Interrupter
from jiemi.controlplane.release import extract, find_checksum, find_proxy
from jiemi.controlplane.tools import parse_version

DIGEST = "ab" * 32


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"{DIGEST}  sops.linux\n", DIGEST),
        (f"{DIGEST.upper()} *sops.linux\r\n", DIGEST),
        (f"{'0' * 64}  sops.linux.amd64\n{DIGEST}  sops.linux\n", DIGEST),
        (f"{DIGEST}  ./sops.linux\n", None),
        (f"{DIGEST}\n", None),
        ("cafe  sops.linux\n", None),
        ("", None),
    ],
)
def test_a_checksums_file_is_read_as_sha256sum_writes_it(text: str, found: str | None) -> None:
    assert find_checksum(text, "sops.linux") == found


@given(st.text())
def test_any_text_is_a_checksums_file_without_ours(text: str) -> None:
    assert find_checksum(text, "sops.linux") is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("sops 3.13.3\n", "3.13.3"),
        ("sops 3.10.2 (latest)", "3.10.2"),
        ("etcd Version: 3.6.16\nGit SHA: Not provided\nGo Version: go1.26.8", "3.6.16"),
        ("Kubernetes v1.37.2", "1.37.2"),
        ("Kubernetes v1.36.0-rc.1+abc", "1.36.0"),
        ("go1.26.8", None),
        ("error", None),
    ],
)
def test_a_version_is_read_from_each_tools_words(text: str, found: str | None) -> None:
    assert parse_version(text) == found


@given(st.text())
def test_any_text_has_a_version_of_numbers_or_none(text: str) -> None:
    version = parse_version(text)
    assert version is None or all(part.isdecimal() for part in version.split("."))


@given(st.one_of(st.binary(max_size=2_000), st.binary(max_size=2_000).map(gzip.compress)))
def test_any_bytes_are_unpacked_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "archive").write_bytes(content)
        inside = directory / "inside"
        inside.mkdir()
        with contextlib.suppress(tarfile.TarError, EOFError, OSError):
            extract(directory / "archive", {"etcd"}, inside, Interrupter())
        assert {path.name for path in directory.iterdir()} == {"archive", "inside"}
        assert {path.name for path in inside.iterdir()} <= {"etcd"}


@pytest.mark.parametrize(
    ("url", "environment", "proxy"),
    [
        ("https://a.example/x", {}, None),
        ("https://a.example/x", {"https_proxy": "http://p:1"}, "http://p:1"),
        ("https://a.example/x", {"HTTPS_PROXY": "p:1"}, "http://p:1"),
        ("https://a.example/x", {"HTTP_PROXY": "http://p:1"}, None),
        ("https://a.example/x", {"ALL_PROXY": "http://p:1"}, "http://p:1"),
        ("https://a.example/x", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "b.example, .example"}, None),
        ("https://a.example/x", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, None),
        ("https://a.example/x", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "ample"}, "http://p:1"),
        ("https://a.example:8443/x", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a.example:8443"}, None),
        ("https://a.example/x", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a.example:8443"}, "http://p:1"),
    ],
)
def test_the_proxy_is_found_as_other_programs_find_it(url: str, environment: dict[str, str], proxy: str | None) -> None:
    assert find_proxy(url, environment) == proxy
