"""Jiemi's own images, built from a clone by buildah, which needs no daemon and no network of its own.

    base image -> deploy/images/Dockerfile.krapao, Dockerfile.miwen -> archives, as `docker save` writes them

Each build has a store of its own, which ends with it: what is kept is the archives, until what goes into them changes.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs
import trio

from jiemi.controlplane import children
from jiemi.controlplane.locks import locked
from jiemi.controlplane.node.isolation import SEARCH_PATH

DEBIAN_PACKAGES = ("buildah",)
"""Where what builds them comes from on Debian and Ubuntu."""

NAMES = ("krapao", "miwen")

_SOURCES = ("constraints.txt", "pyproject.toml", "README.md", "LICENSE", "schema", "deploy", "examples/demo", "jiemi")
"""What goes into them, as .dockerignore has it."""

_AUTHORITIES = ("SSL_CERT_FILE", "PIP_CERT")
"""Environment variables that name a file with the authorities of this machine."""

_STEP_SECONDS = 1_200.0

KEPT_SECONDS = 3_600.0
"""How long images stay after a run took them, though there are newer ones. It needs them until its node has them."""

_MAKING = ".making-"
_IMAGE_ID = re.compile(r"[0-9a-f]{64}")


class ImageError(Exception):
    """The images can't be built; the text says why."""


@attrs.frozen
class Images:
    """The archives."""

    krapao: Path
    miwen: Path

    @classmethod
    def of_folder(cls, folder: Path) -> Images:
        """As they are named in a folder."""
        return cls(folder / "krapao.tar", folder / "miwen.tar")

    def missing(self) -> list[Path]:
        """Those that are not there."""
        return [each for each in (self.krapao, self.miwen) if not each.is_file()]


@attrs.frozen
class ImageSettings:
    """What is built, and of what.

    Attributes:
        source: a clone of Jiemi's repository.
        version: the images' tag.
        base: the image with Python that they begin with, as buildah takes one: a name, or `docker-archive:PATH`.
        sops: the program that goes into Krapao's; None: the Dockerfile builds one.
        epoch_seconds: what the build takes for its time, seconds since 1970; None: the clock.
        arguments: further arguments of the Dockerfiles.
    """

    source: Path
    version: str
    base: str
    sops: Path | None = None
    epoch_seconds: int | None = None
    arguments: Mapping[str, str] = attrs.field(factory=dict)


def missing_programs() -> list[str]:
    """The programs that a build needs and this machine lacks."""
    return [each for each in ("buildah",) if shutil.which(each, path=SEARCH_PATH) is None]


async def images_of_clone(settings: ImageSettings, cache: Path, on_line: Callable[[str], None]) -> Images:
    """Build both images, or take those of an earlier build from the same files.

    Args:
        cache: folder that outlives the run; the images of other files are removed from it, except those that another
            run took within `KEPT_SECONDS`.
        on_line: called with what is under way.

    Raises:
        ImageError: they can't be built.
        OSError: the cache can't be written.
    """
    await trio.Path(cache).mkdir(parents=True, exist_ok=True)
    async with locked(cache / "lock", lambda: on_line("another process builds images")):
        key = await trio.to_thread.run_sync(_digest_of_inputs, settings)
        images = Images.of_folder(cache / key)
        if not images.missing():
            os.utime(cache / key)
            return images
        for old in _old(cache, len(key)):
            await remove(old)
        making = Path(tempfile.mkdtemp(prefix=_MAKING, dir=cache))
        try:
            (making / key).mkdir()
            await build_images(settings, making / key, on_line)
            (making / key).rename(cache / key)
        finally:
            with trio.CancelScope(shield=True):
                await remove(making)
        return images


async def build_images(settings: ImageSettings, to: Path, on_line: Callable[[str], None]) -> Images:
    """Build both images, whether or not there are some.

    Args:
        to: folder on a real file system for the archives; what the build needs meanwhile is beside them.
        on_line: called with what is under way.

    Raises:
        ImageError: they can't be built.
    """
    scratch = Path(tempfile.mkdtemp(prefix=_MAKING, dir=to))
    try:
        engine = Buildah(scratch / "store")
        context = scratch / "context"
        await trio.to_thread.run_sync(_export, settings, context)
        on_line(f"the base, {settings.base}")
        base = await engine.pull(settings.base)
        made = Images.of_folder(to)
        for name, archive in zip(NAMES, (made.krapao, made.miwen), strict=True):
            on_line(f"jiemi/{name}:{settings.version}")
            await engine.build(settings, name, context, base, archive)
    finally:
        with trio.CancelScope(shield=True):
            await remove(scratch)
    return made


@attrs.frozen
class Buildah:
    """buildah with a store of its own.

    Attributes:
        store: folder for it, on a real file system.
    """

    store: Path

    async def run(self, *arguments: str) -> tuple[str, ...]:
        """Run a command; returns the last lines that it wrote.

        Raises:
            ImageError: it failed.
        """
        program = shutil.which("buildah", path=SEARCH_PATH)
        if program is None:
            raise ImageError("there is no buildah on this machine")
        try:
            done = await children.run(
                [program, "--storage-driver=vfs", f"--root={self.store}", f"--runroot={self.store}-run", *arguments],
                environment={**os.environ, "PATH": SEARCH_PATH},
                timeout_seconds=_STEP_SECONDS,
            )
        except (OSError, TimeoutError) as error:
            raise ImageError(f"buildah {arguments[0]}: {error}") from error
        if done.status != 0:
            said = "".join(f"\n  {line}" for line in done.lines[-15:])
            raise ImageError(f"buildah {arguments[0]} ended with status {done.status}:{said}")
        return done.lines

    async def pull(self, image: str) -> str:
        """Get an image; returns its id.

        Raises:
            ImageError: it can't be had.
        """
        lines = await self.run("pull", "--quiet", image)
        for line in reversed(lines):
            if _IMAGE_ID.fullmatch(line):
                return line
        raise ImageError(f"buildah pull gave no id for {image}")

    async def build(self, settings: ImageSettings, name: str, context: Path, base: str, archive: Path) -> None:
        """Build one image as its Dockerfile says. pip's configuration and the authorities of this machine are lent to
        the build; they are not in the image.

        Raises:
            ImageError: it can't be built.
        """
        lent = [Path("/etc/pip.conf"), *(Path(os.environ[each]) for each in _AUTHORITIES if os.environ.get(each))]
        volumes = [f"--volume={path}:{path}:ro" for path in dict.fromkeys(lent) if path.is_file()]
        time = [] if settings.epoch_seconds is None else [f"--timestamp={settings.epoch_seconds}"]
        image = f"docker.io/jiemi/{name}:{settings.version}"
        arguments = {"PYTHON_IMAGE": base, **settings.arguments}
        await self.run(
            *("bud", "--isolation=chroot", "--network=host", *time, *volumes),
            *(f"--build-arg={key}={value}" for key, value in arguments.items()),
            *(f"--file={context / 'deploy' / 'images' / f'Dockerfile.{name}'}", f"--tag={image}", str(context)),
        )
        await self.run("push", "--quiet", image, f"docker-archive:{archive}:{image}")


async def remove(folder: Path) -> None:
    """Remove a folder with many files. It needs a thread for that, which ends by itself."""
    await trio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))


def _inputs(source: Path) -> list[Path]:
    tops = [source / name for name in _SOURCES]
    found = [path for top in tops for path in ([top] if top.is_file() else top.rglob("*"))]
    return sorted(path for path in found if path.is_file() and path.suffix != ".pyc")


def _old(cache: Path, key_length: int) -> list[Path]:
    """The images of other files that no run took lately, and what builds that were killed left."""
    since = time.time() - KEPT_SECONDS
    images = [each for each in cache.glob("[0-9a-f]" * key_length) if each.stat().st_mtime < since]
    return [*images, *cache.glob(f"{_MAKING}*")]


def _digest_of_inputs(settings: ImageSettings) -> str:
    digest = hashlib.sha256(repr((settings.base, settings.version, settings.epoch_seconds)).encode())
    digest.update(repr(sorted(settings.arguments.items())).encode())
    for path in (*_inputs(settings.source), *([settings.sops] if settings.sops is not None else [])):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _export(settings: ImageSettings, to: Path) -> None:
    """The build's context: what goes into the images, and nothing that lies beside it."""
    for path in (*_inputs(settings.source), settings.source / ".dockerignore"):
        target = to / path.relative_to(settings.source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    if settings.sops is not None:
        shutil.copy(settings.sops, to / "sops")
