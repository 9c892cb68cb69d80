"""The images of deploy/images, built without a container engine.

The base, `python:3.13-slim` for users, is a Debian of our own here (debootstrap): there may be no image registry. It is
made once per machine; the images are made again where what goes into them has changed. Krapao's holds a sops that is
built as `SOPS=source` builds it, but once per machine.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import trio
from support.kubernetes.go_programs import go_program
from support.paths import ROOT

from jiemi.controlplane.node.images import Buildah, Images, ImageSettings, images_of_clone
from jiemi.controlplane.node.images import build_images as build
from jiemi.controlplane.node.isolation import SEARCH_PATH
from jiemi.controlplane.pins import PINS, Tool

DEBIAN_PACKAGES = ("buildah", "debootstrap")
SUITE = "trixie"
_BASE = "localhost/jiemi/python:trixie"
_PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
_STEP_SECONDS = 1_200

EPOCH = 1_735_689_600
"""What these builds take for their time: the first second of 2025."""

LABELS = {"SOURCE": "https://git.example.com/jiemi", "REVISION": "0" * 40, "CREATED": "2025-01-01T00:00:00Z"}
"""The arguments that become labels."""


def missing_programs() -> list[str]:
    """The programs that building images needs and this machine lacks."""
    return [each for each in DEBIAN_PACKAGES if shutil.which(each, path=SEARCH_PATH) is None]


def require_programs() -> None:
    """End the program, with what to install, where images can't be built.

    Raises:
        SystemExit: a program is missing, or this is not root.
    """
    missing = missing_programs()
    if missing:
        raise SystemExit(
            f"Images can't be built here: this machine lacks {', '.join(missing)}.\n"
            f"On Debian or Ubuntu: sudo apt-get install --no-install-recommends {' '.join(DEBIAN_PACKAGES)}"
        )
    if os.geteuid() != 0:
        raise SystemExit("Images can't be built here: only root can, without a container engine")


async def images_sops() -> Path:
    """The sops of Krapao's image: from the cache of tools, or built into it."""
    pin = PINS[Tool.SOPS]
    modules = ROOT / "jiemi" / "controlplane" / "modules"
    return await go_program(pin.module, package=pin.package, ldflags=pin.ldflags, tags=pin.tags, modules=modules)


def build_images(cache: Path, sops: Path, version: str) -> Images:
    """Build both images, or take those of an earlier run.

    Args:
        cache: folder that outlives the run.
        sops: the program that goes into Krapao's image.
        version: the images' tag.
    """
    return trio.run(images_of_clone, _settings(cache, sops, version), cache, _say)


def build_images_again(cache: Path, sops: Path, version: str, to: Path) -> Images:
    """Build both images, whether or not there are some.

    Args:
        cache: as for `build_images`; the base is kept there.
        sops: the program that goes into Krapao's image.
        version: the images' tag.
        to: folder that they are put into.
    """
    return trio.run(build, _settings(cache, sops, version), to, _say)


def base_image(cache: Path) -> str:
    """The base, as buildah takes one.

    Args:
        cache: as for `build_images`.
    """
    cache.mkdir(parents=True, exist_ok=True)
    archive = cache / f"base-{SUITE}-image.tar"
    with _locked(cache / "base-lock"):
        if not archive.exists():
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                making = Path(scratch) / "image.tar"
                _make_base(Path(scratch) / "rootfs.tar")
                trio.run(_as_image, Path(scratch), making)
                making.rename(archive)
    return f"docker-archive:{archive}"


def _settings(cache: Path, sops: Path, version: str) -> ImageSettings:
    return ImageSettings(ROOT, version, base=base_image(cache), sops=sops, epoch_seconds=EPOCH, arguments=LABELS)


async def _as_image(folder: Path, to: Path) -> None:
    """The folder's rootfs.tar as an image."""
    engine = Buildah(folder / "store")
    (folder / "Dockerfile").write_text("FROM scratch\nADD rootfs.tar /\n")
    await engine.run("bud", "--isolation=chroot", f"--timestamp={EPOCH}", f"--tag={_BASE}", str(folder))
    await engine.run("push", "--quiet", _BASE, f"docker-archive:{to}:{_BASE}")


def _say(line: str) -> None:
    sys.stderr.write(f"       {line}\n")


def _make_base(to: Path) -> None:
    """A Debian with Python, as a tar."""
    with tempfile.TemporaryDirectory(dir=to.parent) as scratch:
        rootfs = Path(scratch) / "rootfs"
        _run([_program("debootstrap"), "--variant=minbase", f"--include={_PACKAGES}", SUITE, str(rootfs), _mirror()])
        # As apt is set up here: the mirror may serve lists that are older than they say.
        for each in Path("/etc/apt/apt.conf.d").glob("99*"):
            shutil.copy(each, rootfs / "etc" / "apt" / "apt.conf.d")
        (rootfs / "usr" / "bin" / "python").symlink_to("python3")
        for each in (rootfs / "usr" / "lib").glob("python3*/EXTERNALLY-MANAGED"):
            each.unlink()
        for folder in ("var/cache/apt/archives", "var/lib/apt/lists"):
            shutil.rmtree(rootfs / folder)
        making = Path(scratch) / "rootfs.tar"
        _run([_program("tar"), f"--directory={rootfs}", f"--file={making}", "--create", "."])
        making.rename(to)


def _mirror() -> str:
    """Debian's mirror as apt has it here."""
    lines = [
        line.split()
        for path in (Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*")))
        if path.is_file()
        for line in path.read_text().splitlines()
    ]
    for words in lines:
        if words[:1] == ["URIs:"]:
            return words[1]
        if words[:1] == ["deb"]:
            return next(word for word in words if "://" in word)
    raise SystemExit("apt names no mirror on this machine")


def _environment() -> Mapping[str, str]:
    return {**os.environ, "PATH": SEARCH_PATH}


def _run(command: list[str]) -> None:
    done = subprocess.run(
        command,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=_STEP_SECONDS,
    )
    if done.returncode != 0:
        tail = done.stdout.decode("utf-8", "replace")[-4_000:]
        raise SystemExit(f"{' '.join(command[:8])} … ended with status {done.returncode}\n{tail}")


def _program(name: str) -> str:
    found = shutil.which(name, path=SEARCH_PATH)
    if found is None:
        raise SystemExit(f"there is no {name} on this machine")
    return found


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
