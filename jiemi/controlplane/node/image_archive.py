"""An image of one program, as the archive that `docker save` writes and containerd imports."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

from jiemi.controlplane.pins import host_platform


def write_image(to: Path, name: str, program: Path) -> None:
    """Write an archive with an image that holds one static program and runs it. The same program gives the same bytes.

    Args:
        to: the file.
        name: the image's whole name, with its tag.
        program: the program; in the image it is /PROGRAM.

    Source: the Docker Image Specification v1.2, "Combined Image JSON + Filesystem Changeset Format".
    """
    layer = _tar({program.name: (program.read_bytes(), 0o755)})
    config: dict[str, Any] = {
        "architecture": host_platform().partition("-")[2],
        "os": "linux",
        "config": {"Entrypoint": [f"/{program.name}"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    to.write_bytes(
        _tar(
            {
                "manifest.json": (json.dumps(manifest).encode(), 0o644),
                "config.json": (json.dumps(config).encode(), 0o644),
                "layer.tar": (layer, 0o644),
            }
        )
    )


def _tar(files: dict[str, tuple[bytes, int]]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, (content, mode) in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()
