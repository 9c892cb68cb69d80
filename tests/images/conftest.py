"""Both images, built twice: each time from an empty store, of which nothing is kept but the archives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trio
from support.pods.images import build_images_again, images_sops, require_programs

import jiemi
from jiemi.cli.tools import tool_settings
from jiemi.controlplane.node.images import Images


@pytest.fixture(scope="session")
def builds() -> Iterator[tuple[Images, Images]]:
    """The archives of two builds."""
    require_programs()
    sops = trio.run(images_sops)
    cache = tool_settings().cache_dir / "images"
    # Not in /tmp, which may be a tmpfs.
    with TemporaryDirectory(dir="/var/tmp", prefix="jiemi-images-") as folder:
        made = []
        for number in ("one", "two"):
            to = Path(folder) / number
            to.mkdir()
            made.append(build_images_again(cache, sops, jiemi.__version__, to))
        one, two = made
        yield one, two
