"""Which images of a clone are kept: one run must not take those of another away, nor may they pile up."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from jiemi.controlplane.node import images
from jiemi.controlplane.node.images import KEPT_SECONDS, Images, ImageSettings, images_of_clone


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageSettings:
    """Of a clone, whose builds take no time."""

    async def build(settings: ImageSettings, to: Path, on_line: Callable[[str], None]) -> Images:
        made = Images.of_folder(to)
        for each in (made.krapao, made.miwen):
            each.write_bytes(b"image")
        return made

    monkeypatch.setattr(images, "build_images", build)
    source = tmp_path / "clone"
    for name in images._SOURCES:
        (source / name).mkdir(parents=True)
    return ImageSettings(source, "0.1.0", base="base", sops=None, epoch_seconds=0, arguments={})


def grown_old(folder: Path) -> None:
    then = time.time() - KEPT_SECONDS - 60
    os.utime(folder, (then, then))


async def test_images_that_another_run_took_lately_stay(settings: ImageSettings, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    theirs = await images_of_clone(settings, cache, lambda _: None)
    ours = await images_of_clone(attrs.evolve(settings, version="0.1.1"), cache, lambda _: None)
    assert not theirs.missing()
    assert not ours.missing()


@pytest.mark.parametrize("is_taken_again", [True, False], ids=["taken again", "not taken"])
async def test_those_that_no_run_took_for_long_go_with_what_killed_builds_left(
    settings: ImageSettings, tmp_path: Path, is_taken_again: bool
) -> None:
    cache = tmp_path / "cache"
    theirs = await images_of_clone(settings, cache, lambda _: None)
    grown_old(theirs.krapao.parent)
    killed = cache / ".making-killed"
    killed.mkdir()
    if is_taken_again:
        assert await images_of_clone(settings, cache, lambda _: None) == theirs
    await images_of_clone(attrs.evolve(settings, version="0.1.1"), cache, lambda _: None)
    assert bool(theirs.missing()) is not is_taken_again
    assert not killed.exists()
