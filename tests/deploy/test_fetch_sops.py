"""sops in Krapao's image: one's own, or the release's with its checksum."""

from __future__ import annotations

import hashlib
import http.server
import importlib.util
import platform
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from jiemi.controlplane.pins import PINS, SOPS_RELEASE_URL, Tool

CONTENT = b"the program"


@pytest.fixture
def script() -> ModuleType:
    path = Path(__file__).parents[2] / "deploy" / "images" / "fetch_sops.py"
    spec = importlib.util.spec_from_file_location("fetch_sops", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def release(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A release host on loopback that serves CONTENT for this machine."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/sops.linux.here" else 404)
            self.end_headers()
            self.wfile.write(CONTENT)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    monkeypatch.setattr(script, "URL", f"http://127.0.0.1:{server.server_address[1]}/sops.linux.")
    yield
    server.shutdown()
    thread.join()
    server.server_close()


def test_it_is_the_release_that_jiemi_is_tested_with(script: ModuleType) -> None:
    version = PINS[Tool.SOPS].version
    assert f"{SOPS_RELEASE_URL}/sops-v{version}.linux." == script.URL
    assert {name for name, _ in script.RELEASES.values()} == {"amd64", "arm64"}


def test_a_program_of_ones_own_is_taken_and_nothing_is_asked_for(script: ModuleType, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_bytes(b"mine")
    script.main(tmp_path / "target", own)
    assert (tmp_path / "target").read_bytes() == b"mine"
    assert (tmp_path / "target").stat().st_mode & 0o7777 == 0o555


@pytest.mark.usefixtures("release")
def test_the_release_is_taken_where_its_checksum_is_right(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "RELEASES", {platform.machine(): ("here", hashlib.sha256(CONTENT).hexdigest())})
    script.main(tmp_path / "target", tmp_path / "own")
    assert (tmp_path / "target").read_bytes() == CONTENT
    assert (tmp_path / "target").stat().st_mode & 0o7777 == 0o555


@pytest.mark.usefixtures("release")
def test_another_program_is_refused_and_not_written(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "RELEASES", {platform.machine(): ("here", "0" * 64)})
    with pytest.raises(SystemExit, match=r"has the SHA-256 [0-9a-f]{64}, not 0{64}: refused"):
        script.main(tmp_path / "target", tmp_path / "own")
    assert list(tmp_path.iterdir()) == []


def test_where_there_is_no_release_it_says_what_to_do(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "RELEASES", {})
    with pytest.raises(SystemExit, match="put a program sops into the root of the context"):
        script.main(tmp_path / "target", tmp_path / "own")
