"""The images of deploy/images, built without a container engine.

The base, `python:3.13-slim` for users, is a Debian of our own here (debootstrap): there may be no image registry. It is
made once per machine; the images are made again where what goes into them has changed. Krapao's holds a sops that is
built as `SOPS=source` builds it, but once per machine.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import attrs
from support.kubernetes.go_programs import go_program
from support.paths import ROOT

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

NAMES = ("krapao", "miwen")

_AUTHORITIES = ("SSL_CERT_FILE", "PIP_CERT")
"""Environment variables that name a file with the authorities of this machine."""


@attrs.frozen
class Images:
    """Archives of images (the format of `docker save`)."""

    krapao: Path
    miwen: Path


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
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / "lock"):
        key = _digest_of_inputs(sops)
        folder = cache / key
        images = Images(folder / "krapao.tar", folder / "miwen.tar")
        if images.krapao.exists() and images.miwen.exists():
            return images
        for old in cache.glob("[0-9a-f]*"):
            if old.is_dir() and len(old.name) == len(key):
                shutil.rmtree(old)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            making = Path(scratch) / "images"
            making.mkdir()
            _build(cache, sops, version, making)
            making.rename(folder)
        return images


def build_images_again(cache: Path, sops: Path, version: str, to: Path) -> Images:
    """Build both images, whether or not there are some.

    Args:
        cache: as for `build_images`; the base is kept there.
        sops: the program that goes into Krapao's image.
        version: the images' tag.
        to: folder that they are put into.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / "lock"):
        return _build(cache, sops, version, to)


def _build(cache: Path, sops: Path, version: str, to: Path) -> Images:
    base = cache / f"base-{SUITE}.tar"
    if not base.exists():
        _make_base(base)
    engine = _Buildah(cache)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        context = Path(scratch) / "context"
        _export(context, sops)
        engine.build_base(Path(scratch) / "base", base)
        for name in NAMES:
            engine.build(name, context, to / f"{name}.tar", f"docker.io/jiemi/{name}:{version}")
    engine.forget()
    return Images(to / "krapao.tar", to / "miwen.tar")


class _Buildah:
    def __init__(self, cache: Path) -> None:
        self._store = cache / "store"
        self._command = [
            *(_program("buildah"), "--storage-driver=vfs", f"--root={self._store}", f"--runroot={cache / 'store-run'}"),
        ]

    def build_base(self, folder: Path, rootfs: Path) -> None:
        folder.mkdir()
        os.link(rootfs, folder / "rootfs.tar")
        (folder / "Dockerfile").write_text("FROM scratch\nADD rootfs.tar /\n")
        _run([*self._command, "bud", "--isolation=chroot", f"--timestamp={EPOCH}", f"--tag={_BASE}", str(folder)])

    def build(self, name: str, context: Path, archive: Path, image: str) -> None:
        """Build one image as its Dockerfile says, with pip's configuration of this machine lent to the build."""
        lent = [Path("/etc/pip.conf"), *(Path(os.environ[each]) for each in _AUTHORITIES if os.environ.get(each))]
        volumes = [f"--volume={path}:{path}:ro" for path in dict.fromkeys(lent) if path.is_file()]
        _run(
            [
                *self._command,
                *("bud", "--isolation=chroot", "--network=host", f"--timestamp={EPOCH}", *volumes),
                *(f"--build-arg={key}={value}" for key, value in {"PYTHON_IMAGE": _BASE, **LABELS}.items()),
                *(f"--file={context / 'deploy' / 'images' / f'Dockerfile.{name}'}", f"--tag={image}", str(context)),
            ]
        )
        _run([*self._command, "push", "--quiet", image, f"docker-archive:{archive}:{image}"])

    def forget(self) -> None:
        """Give the room of the layers back: the archives are what is kept."""
        _run([*self._command, "rmi", "--all", "--force"])
        shutil.rmtree(self._store, ignore_errors=True)


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


def _tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, timeout=60).stdout
    return [ROOT / os.fsdecode(name) for name in listed.split(b"\0") if name and (ROOT / os.fsdecode(name)).is_file()]


_INPUTS = ("constraints.txt", "pyproject.toml", "README.md", "LICENSE", "schema", "deploy", "examples", "jiemi")


def _inputs() -> list[Path]:
    tops = [ROOT / each for each in _INPUTS]
    return sorted(path for path in _tracked() if any(path.is_relative_to(top) for top in tops))


def _digest_of_inputs(sops: Path) -> str:
    digest = hashlib.sha256(SUITE.encode())
    for path in (*_inputs(), sops):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _export(to: Path, sops: Path) -> None:
    """The build's context: what is tracked, and nothing that lies beside it."""
    for path in (*_inputs(), ROOT / ".dockerignore"):
        target = to / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    shutil.copy(sops, to / "sops")


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
