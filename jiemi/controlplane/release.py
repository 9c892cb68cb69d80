"""Tools from the releases that their projects publish.

A download runs on one worker thread that a cancellation ends at once (jiemi.concurrency). The bytes go to a file in the
directory of the caller, are hashed on the way, and count only when the checksum is right. The host's name is looked up
first, apart and with a deadline: a machine without internet gets an error within seconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import os
import re
import socket
import tarfile
import urllib.parse
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import attrs
import trio
import urllib3

from jiemi.concurrency.calls import Interrupter, interruptible_socket, run_blocking
from jiemi.concurrency.http import make_interruptible
from jiemi.controlplane.pins import PINS, Tool
from jiemi.controlplane.settings import ASSETS, ToolSettings, WayError

MEBIBYTE = 1024 * 1024
DOWNLOAD_LIMIT_BYTES = 500 * MEBIBYTE
"""The releases are 60 to 120 MiB."""
CHECKSUMS_LIMIT_BYTES = MEBIBYTE

_CHUNK_BYTES = 256 * 1024
_REDIRECTS = 5
_REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
_REPORT_SECONDS = 1.0


@attrs.define
class _Transfer:
    """A download, and how far it is: written by the worker thread, read by the one that reports.

    Attributes:
        url: where the file is.
        to: the file that it becomes.
        limit_bytes: the most that it may have.
        received_bytes: how much is there.
        total_bytes: how much there will be; None where the host does not say.
    """

    url: str
    to: Path
    limit_bytes: int
    received_bytes: int = 0
    total_bytes: int | None = None


async def fetch(
    tool: Tool, settings: ToolSettings, directory: Path, report: Callable[[str], None]
) -> Mapping[Tool, Path]:
    """Download a tool, and what comes in the same archive, into a directory.

    Returns:
        Executable files in the directory; their content is what the project published.

    Raises:
        WayError: it could not be reached, or is not what it should be.
    """
    if tool in ASSETS:
        return await _fetch_envtest(settings, directory, report)
    if tool is Tool.SOPS:
        return {tool: await _fetch_sops(settings, directory, report)}
    if PINS[tool].module == "kubernetes":
        return {tool: await _fetch_of_kubernetes(tool, settings, directory, report)}
    raise WayError("release: it is built from its Go module only")


async def _fetch_sops(settings: ToolSettings, directory: Path, report: Callable[[str], None]) -> Path:
    base = settings.sops_release_url
    if base is None:
        raise WayError("release: downloads are switched off")
    version = PINS[Tool.SOPS].version
    name = f"sops-v{version}.{settings.platform.replace('-', '.')}"
    wanted = settings.sops_sha256
    if wanted is None:
        # The release publishes its checksums beside its files. They protect from a damaged download. Only TLS
        # shows that it is the project's own release, so without TLS they say nothing.
        if not _is_trusted(base):
            raise WayError(f"release: {base} is not https, and no checksum for {name} was given")
        sums = directory / "checksums.txt"
        await _download(f"{base}/sops-v{version}.checksums.txt", sums, settings, CHECKSUMS_LIMIT_BYTES, report)
        wanted = find_checksum(sums.read_text("utf-8", "replace"), name)
        if wanted is None:
            raise WayError(f"release: its checksums name no {name}")
    path = directory / name
    await _download(f"{base}/{name}", path, settings, DOWNLOAD_LIMIT_BYTES, report)
    await _check(path, "sha256", wanted)
    path.chmod(0o755)
    return path


async def _fetch_of_kubernetes(
    tool: Tool, settings: ToolSettings, directory: Path, report: Callable[[str], None]
) -> Path:
    base = settings.kubernetes_release_url
    if base is None:
        raise WayError("release: downloads are switched off")
    url = f"{base}/{settings.platform.replace('-', '/')}/{tool.value}"
    # As for sops: the checksum beside the file is worth something over TLS only.
    if not _is_trusted(base):
        raise WayError(f"release: {base} is not https")
    sums = directory / "checksum.txt"
    await _download(f"{url}.sha256", sums, settings, CHECKSUMS_LIMIT_BYTES, report)
    wanted = sums.read_text("utf-8", "replace").strip().lower()
    if re.fullmatch(r"[0-9a-f]{64}", wanted) is None:
        raise WayError(f"release: {url}.sha256 holds no SHA-256")
    path = directory / tool.value
    await _download(url, path, settings, DOWNLOAD_LIMIT_BYTES, report)
    await _check(path, "sha256", wanted)
    path.chmod(0o755)
    return path


async def _fetch_envtest(settings: ToolSettings, directory: Path, report: Callable[[str], None]) -> Mapping[Tool, Path]:
    base = settings.envtest_release_url
    if base is None:
        raise WayError("release: downloads are switched off")
    wanted = settings.envtest_sha512.get(settings.platform)
    if wanted is None:
        raise WayError(f"release: there is none for {settings.platform}")
    name = f"envtest-v{settings.envtest_version}-{settings.platform}.tar.gz"
    archive = directory / name
    await _download(f"{base}/{name}", archive, settings, DOWNLOAD_LIMIT_BYTES, report)
    await _check(archive, "sha512", wanted)
    report("unpacking")
    names = {tool.value for tool in ASSETS}
    try:
        found = await run_blocking(
            lambda interrupter: extract(archive, names, directory, interrupter), limiter=trio.CapacityLimiter(1)
        )
    except (tarfile.TarError, EOFError, OSError) as error:
        raise WayError(f"release: {name} can't be unpacked: {error}") from error
    archive.unlink()
    missing = names - found.keys()
    if missing:
        raise WayError(f"release: {name} holds no {' and no '.join(sorted(missing))}")
    return {tool: found[tool.value] for tool in ASSETS}


def find_checksum(text: str, name: str) -> str | None:
    """The SHA-256 of a file in the text of a checksums file, as sha256sum writes it; None where there is none."""
    for line in text.splitlines():
        digest, _, named = line.strip().partition(" ")
        if named.strip().removeprefix("*") == name and re.fullmatch(r"[0-9a-fA-F]{64}", digest):
            return digest.lower()
    return None


def extract(archive: Path, names: Collection[str], directory: Path, interrupter: Interrupter) -> dict[str, Path]:
    """Unpack the regular files of these names, whatever directory they are in, and nothing else.

    Only the content is taken from the archive: not the path, the mode or the owner.

    Raises:
        tarfile.TarError, EOFError, OSError: it is no whole archive, or the call was interrupted.
    """
    found: dict[str, Path] = {}
    with tarfile.open(archive, "r|gz") as tar:
        for member in tar:
            name = member.name.rpartition("/")[2]
            source = tar.extractfile(member) if member.isreg() and name in names and name not in found else None
            if source is None:
                continue
            path = directory / name
            with path.open("xb") as target:
                left = DOWNLOAD_LIMIT_BYTES
                while chunk := source.read(_CHUNK_BYTES):
                    interrupter.use(None)
                    left -= len(chunk)
                    if left < 0:
                        raise tarfile.TarError(f"{name} is larger than {DOWNLOAD_LIMIT_BYTES} bytes")
                    target.write(chunk)
            path.chmod(0o755)
            found[name] = path
    return found


async def _check(path: Path, algorithm: str, wanted: str) -> None:
    def digest() -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest()

    got = await trio.to_thread.run_sync(digest)
    if got != wanted.lower():
        raise WayError(f"release: {path.name} has the {algorithm} {got}, not {wanted.lower()}: refused")


async def _download(
    url: str, to: Path, settings: ToolSettings, limit_bytes: int, report: Callable[[str], None]
) -> None:
    """Download one file over HTTP. Redirects are followed, except from https to http.

    Raises:
        WayError: no answer, not in time, not complete, or not what was asked for.
    """
    transfer = _Transfer(url, to, limit_bytes)
    proxy = find_proxy(url, settings.environment)
    try:
        with trio.fail_after(settings.download_timeout_seconds):
            await _look_up(proxy or url, settings.connect_timeout_seconds)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_report_transfer, transfer, report)
                outcome = await run_blocking(
                    lambda interrupter: _try_get(transfer, proxy, settings, interrupter),
                    limiter=trio.CapacityLimiter(1),
                )
                nursery.cancel_scope.cancel()
    except trio.TooSlowError as error:
        raise WayError(f"release: {url} was not there within {settings.download_timeout_seconds:g} s") from error
    if outcome is not None:
        raise outcome


def _try_get(
    transfer: _Transfer, proxy: str | None, settings: ToolSettings, interrupter: Interrupter
) -> WayError | None:
    """The download, on a worker thread. The error is returned because raising it in a nursery would make it a group."""
    timeout = urllib3.Timeout(connect=settings.connect_timeout_seconds, read=settings.stall_timeout_seconds)
    manager = (
        urllib3.PoolManager(timeout=timeout, retries=False)
        if proxy is None
        else urllib3.ProxyManager(proxy, timeout=timeout, retries=False)
    )
    try:
        with make_interruptible(manager) as pool:
            _get(pool, transfer, interrupter)
    except WayError as error:
        return error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        failure = WayError(f"release: {transfer.url}: {error}")
        failure.__cause__ = error
        return failure
    return None


def _get(pool: urllib3.PoolManager, transfer: _Transfer, interrupter: Interrupter) -> None:
    asked = url = transfer.url
    for _ in range(_REDIRECTS + 1):
        response = pool.urlopen("GET", url, redirect=False, preload_content=False)
        try:
            if response.status in _REDIRECT_STATUSES:
                following = urllib.parse.urljoin(url, response.headers.get("location", ""))
                if url.startswith("https:") and not following.startswith("https:"):
                    raise WayError(f"release: {asked} leads away from https")
                url = following
                continue
            if response.status != 200:
                raise WayError(f"release: {asked} answers with status {response.status}")
            length = response.headers.get("content-length", "")
            transfer.total_bytes = int(length) if length.isdecimal() else None
            with transfer.to.open("wb") as file, _interruptible(response, interrupter):
                # urllib3 raises where the body is shorter than its Content-Length.
                for chunk in response.stream(_CHUNK_BYTES, decode_content=False):
                    transfer.received_bytes += len(chunk)
                    if transfer.received_bytes > transfer.limit_bytes:
                        raise WayError(f"release: {asked} is larger than {transfer.limit_bytes} bytes")
                    file.write(chunk)
            return
        finally:
            response.close()
    raise WayError(f"release: {asked} redirects more than {_REDIRECTS} times")


@contextlib.contextmanager
def _interruptible(response: urllib3.BaseHTTPResponse, interrupter: Interrupter) -> Iterator[None]:
    # If the host closes the connection after this response, http.client has let go of it, and so has
    # jiemi.concurrency.http: only the response still holds the socket.
    with socket.socket(fileno=os.dup(response.fileno())) as sock, interruptible_socket(interrupter, sock):
        yield


async def _look_up(url: str, timeout_seconds: float) -> None:
    parts = urllib.parse.urlsplit(url)
    try:
        with trio.fail_after(timeout_seconds):
            # The resolver can't be interrupted: trio stops waiting, and the thread ends at the resolver's own deadline.
            await trio.socket.getaddrinfo(parts.hostname, parts.port or parts.scheme)
    except (OSError, UnicodeError, trio.TooSlowError) as error:
        raise WayError(f"release: the name {parts.hostname} can't be looked up (no internet?)") from error


async def _report_transfer(transfer: _Transfer, report: Callable[[str], None]) -> None:
    while True:
        total = "" if transfer.total_bytes is None else f" of {transfer.total_bytes / MEBIBYTE:.1f}"
        report(f"downloading {transfer.to.name}: {transfer.received_bytes / MEBIBYTE:.1f}{total} MiB")
        await trio.sleep(_REPORT_SECONDS)


def find_proxy(url: str, environment: Mapping[str, str]) -> str | None:
    """The proxy for an address, by the usual variables (`https_proxy`, `no_proxy`, upper case too), or None."""
    parts = urllib.parse.urlsplit(url)

    def variable(name: str) -> str:
        return environment.get(name) or environment.get(name.upper()) or ""

    if parts.hostname is None or _bypasses(parts.hostname, parts.port, variable("no_proxy")):
        return None
    proxy = variable(f"{parts.scheme}_proxy") or variable("all_proxy")
    if not proxy:
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _bypasses(host: str, port: int | None, exempt: str) -> bool:
    """Whether `no_proxy` names the host: itself, a domain that it is in, with or without its port, or `*`."""
    for entry in (part.strip().lower() for part in exempt.split(",")):
        name, _, entry_port = entry.partition(":")
        name = name.removeprefix("*").removeprefix(".")
        if entry == "*" or (name and (host == name or host.endswith(f".{name}")) and entry_port in ("", str(port))):
            return True
    return False


def _is_trusted(url: str) -> bool:
    """Whether nobody can change what comes from there: it comes over TLS or from this machine."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https":
        return True
    try:
        return ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False
