"""The settings with which a tool is resolved, and how progress and failures are reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import attrs

from jiemi.controlplane.pins import (
    ENVTEST_RELEASE_URL,
    ENVTEST_SHA512,
    ENVTEST_VERSION,
    KUBERNETES_RELEASE_URL,
    PINS,
    SOPS_RELEASE_URL,
    Tool,
    host_platform,
)

ASSETS_NAME = "KUBEBUILDER_ASSETS"
"""The environment variable, known from kubebuilder's tests, that names a directory with etcd and kube-apiserver."""


ASSETS = (Tool.ETCD, Tool.KUBE_APISERVER)
"""What that directory holds, and what an envtest archive does."""


@attrs.frozen
class ToolSettings:
    """Where tools may come from.

    Attributes:
        cache_dir: Jiemi's cache directory; made when it is needed.
        search_path: directories to search, as in PATH; Go is searched there too.
        environment: what child processes (Go, Python's package installer) get beside PATH: HOME, GOPROXY, GOFLAGS,
            proxies, SSL_CERT_FILE and the like. The proxy of downloads comes from it too.
        sops, etcd, kube_apiserver: programs that the user gave, or None.
        assets_dir: directory that holds `etcd` and `kube-apiserver`, or None.
        sops_release_url, envtest_release_url, kubernetes_release_url: address of the directory with the release's
            files; None: no downloads.
        sops_sha256: checksum of this platform's sops release, in hexadecimal; None: the one in the release's own file.
        envtest_version, envtest_sha512: version of the envtest archive, and its checksums by platform.
        platform: `linux-amd64` and so on.
        connect_timeout_seconds: limit for looking up the release host's name, and again for the connection.
        stall_timeout_seconds: longest time in which a download may send nothing.
        download_timeout_seconds: limit for one download as a whole.
        build_timeout_seconds: limit for one build as a whole.
    """

    cache_dir: Path
    search_path: str
    environment: Mapping[str, str] = attrs.field(repr=False)
    sops: Path | None = None
    etcd: Path | None = None
    kube_apiserver: Path | None = None
    assets_dir: Path | None = None
    sops_release_url: str | None = SOPS_RELEASE_URL
    envtest_release_url: str | None = ENVTEST_RELEASE_URL
    kubernetes_release_url: str | None = KUBERNETES_RELEASE_URL
    sops_sha256: str | None = None
    envtest_version: str = ENVTEST_VERSION
    envtest_sha512: Mapping[str, str] = attrs.field(default=ENVTEST_SHA512, repr=False)
    platform: str = attrs.field(factory=host_platform)
    connect_timeout_seconds: float = 5.0
    stall_timeout_seconds: float = 30.0
    download_timeout_seconds: float = 900.0
    build_timeout_seconds: float = 3_600.0

    def given(self, tool: Tool) -> tuple[Path, str] | None:
        """The program that the user gave for a tool, and the name of the flag that gave it."""
        own = {Tool.SOPS: self.sops, Tool.ETCD: self.etcd, Tool.KUBE_APISERVER: self.kube_apiserver}.get(tool)
        flag = PINS[tool].flag
        if own is not None and flag is not None:
            return own, flag
        if tool in ASSETS and self.assets_dir is not None:
            return self.assets_dir / tool.value, ASSETS_NAME
        return None


class Progress(Protocol):
    """Takes reports about what is being done for a tool."""

    def step(self, tool: Tool, text: str) -> None:
        """Report one thing that is being done or was found; the next report about the same tool replaces it.

        Args:
            text: without the tool's name.
        """


class WayError(Exception):
    """One way to get a tool failed; the text says why."""


class ToolError(Exception):
    """A tool is not available. The text lists each way that was tried and what the user can do."""

    def __init__(self, tool: Tool, tried: Sequence[str]) -> None:
        self.tool = tool
        self.tried = tuple(tried)
        lines = "".join(f"\n  - {reason}" for reason in tried)
        flag = PINS[tool].flag
        given = f"Give one with {flag} PATH, put" if flag is not None else "Put"
        if tool in ASSETS:
            given = given.replace(", put", f", set {ASSETS_NAME}, put")
        super().__init__(
            f"{tool.value} is not available:{lines}\n"
            f"{given} one on the PATH, or allow access to the internet or a Go module proxy (GOPROXY) and try again."
        )
