"""An image of one layer, as the archive that `docker save` writes and containerd imports."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jiemi.controlplane.pins import host_platform


def write_image(to: Path, name: str, files: Mapping[str, bytes], command: list[str]) -> None:
    """Write an archive with an image of some programs, of which it runs one. The same files give the same bytes.

    Args:
        to: the file.
        name: the image's whole name, with its tag.
        files: content by path in the image, without the first slash. All of them may be run.
        command: what it runs, as no user that exists.

    Source: the Docker Image Specification v1.2, "Combined Image JSON + Filesystem Changeset Format".
    """
    layer = _tar({path: (content, 0o755) for path, content in sorted(files.items())})
    config: dict[str, Any] = {
        "architecture": host_platform().partition("-")[2],
        "os": "linux",
        "config": {"Entrypoint": command, "User": "65535:65535"},
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


def _tar(files: Mapping[str, tuple[bytes, int]]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, (content, mode) in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()
