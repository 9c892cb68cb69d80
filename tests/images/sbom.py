"""`just sbom [FOLDER]`: write an SBOM of each image, as CycloneDX, into dist/sbom or the folder."""

from __future__ import annotations

import sys
from pathlib import Path

import trio
from support.paths import ROOT
from support.pods.images import build_images, images_sops, require_programs
from support.pods.sbom import syft, write_sbom

import jiemi
from jiemi.cli.tools import tool_settings
from jiemi.controlplane.node.images import NAMES


def main(folder: Path) -> None:
    """Write them.

    Args:
        folder: where; it is made.
    """
    require_programs()
    sops = trio.run(images_sops)
    program = trio.run(syft)
    images = build_images(tool_settings().cache_dir / "images", sops, jiemi.__version__)
    folder.mkdir(parents=True, exist_ok=True)
    for name, archive in zip(NAMES, (images.krapao, images.miwen), strict=True):
        to = folder / f"{name}.cdx.json"
        write_sbom(program, archive, f"jiemi/{name}", jiemi.__version__, to)
        print(to)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist" / "sbom")
