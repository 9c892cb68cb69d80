"""sops in Krapao's image: one's own, the release's with its checksum, or one that is built from its Go modules."""

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

from jiemi.controlplane.pins import GO_REQUIREMENT, PINS, SOPS_RELEASE_URL, Tool

CONTENT = b"the program"


@pytest.fixture
def script() -> ModuleType:
    path = Path(__file__).parents[2] / "deploy" / "images" / "get_sops.py"
    spec = importlib.util.spec_from_file_location("get_sops", path)
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


def test_the_source_is_what_jiemi_itself_builds_and_as_it_builds_it(script: ModuleType) -> None:
    pin = PINS[Tool.SOPS]
    assert (pin.package, pin.ldflags, pin.tags) == (script.PACKAGE, script.LDFLAGS, script.TAGS)
    module = Path(__file__).parents[2] / "jiemi" / "controlplane" / "modules" / pin.module / "go.mod"
    assert f"\tgithub.com/getsops/sops/v3 v{pin.version}" in module.read_text()
    # The same Go, for Linux only.
    assert script.GO_REQUIREMENT.split() == GO_REQUIREMENT.split()[:3]


@pytest.mark.parametrize("way", ["source", "release"])
def test_a_program_of_ones_own_is_taken_and_nothing_is_asked_for(script: ModuleType, tmp_path: Path, way: str) -> None:
    own = tmp_path / "own"
    own.write_bytes(b"mine")
    script.main(way, tmp_path / "target", own)
    assert (tmp_path / "target").read_bytes() == b"mine"
    assert (tmp_path / "target").stat().st_mode & 0o7777 == 0o555


@pytest.mark.usefixtures("release")
def test_the_release_is_taken_where_its_checksum_is_right(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "RELEASES", {platform.machine(): ("here", hashlib.sha256(CONTENT).hexdigest())})
    script.main("release", tmp_path / "target", tmp_path / "own")
    assert (tmp_path / "target").read_bytes() == CONTENT
    assert (tmp_path / "target").stat().st_mode & 0o7777 == 0o555


@pytest.mark.usefixtures("release")
def test_another_program_is_refused_and_not_written(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "RELEASES", {platform.machine(): ("here", "0" * 64)})
    with pytest.raises(SystemExit, match=r"has the SHA-256 [0-9a-f]{64}, not 0{64}: refused"):
        script.main("release", tmp_path / "target", tmp_path / "own")
    assert list(tmp_path.iterdir()) == []


def test_where_there_is_no_release_it_says_what_to_do(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "RELEASES", {})
    with pytest.raises(SystemExit, match="give SOPS=source"):
        script.main("release", tmp_path / "target", tmp_path / "own")


def test_it_is_built_with_the_pinned_go_from_the_module_beside_it(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], directory: Path) -> None:
        assert directory == tmp_path
        commands.append(command)
        if command[1] == "build":
            Path(command[command.index("-o") + 1]).write_bytes(CONTENT)
        else:
            requirements = Path(command[command.index("--requirement") + 1])
            assert requirements.read_text() == f"{script.GO_REQUIREMENT}\n"

    monkeypatch.setattr(script, "_run", run)
    script.main("source", tmp_path / "target", tmp_path / "own")
    install, build = commands
    assert {"--require-hashes", "--no-deps"} <= set(install)
    assert build[0] == f"{install[install.index('--target') + 1]}/go/bin/go"
    assert {"-mod=readonly", "-trimpath"} <= set(build)
    assert (tmp_path / "target").stat().st_mode & 0o7777 == 0o555


def test_another_way_is_refused(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="SOPS is elsewhere: it must be source or release"):
        script.main("elsewhere", tmp_path / "target", tmp_path / "own")
