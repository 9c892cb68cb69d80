"""What is in the archive of an image (the format of `docker save`): its configuration, and each layer file by file."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs


@attrs.frozen
class Entry:
    """A file, folder or link of a layer, as far as it makes a difference to whoever runs the image.

    Attributes:
        kind: tar's letter for what it is.
        owner: the numbers of its user and group.
        seconds: when it was changed, since 1970.
        link: what it points to.
        digest: of its bytes.
        attributes: extended ones, such as capabilities.
    """

    kind: str
    mode: int
    owner: tuple[int, int]
    size: int
    seconds: float
    link: str
    digest: str
    attributes: Mapping[str, str]


@attrs.frozen
class Layer:
    """A layer.

    Attributes:
        content: its tar.
        entries: what is in it, by path.
    """

    content: bytes = attrs.field(repr=False)
    entries: Mapping[str, Entry]

    @property
    def size(self) -> int:
        """Bytes as an engine unpacks them."""
        return len(self.content)

    def compressed_size(self) -> int:
        """Bytes as they are pulled, about: gzip at its usual level."""
        return len(gzip.compress(self.content, 6, mtime=0))


@attrs.frozen
class ImageContent:
    """An image.

    Attributes:
        configuration: the OCI image's configuration.
        layers: from the base upwards.
    """

    configuration: Mapping[str, Any]
    layers: Sequence[Layer]

    @property
    def own(self) -> Sequence[Layer]:
        """The layers above the base, which is one layer (`images.build_base`)."""
        return self.layers[1:]

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """What is in the layers above the base."""
        for layer in self.own:
            yield from layer.entries.items()


def read_image(archive: Path) -> ImageContent:
    """Read an archive that holds one image."""
    with tarfile.open(archive) as image:
        [manifest] = json.loads(_member(image, "manifest.json"))
        configuration = json.loads(_member(image, manifest["Config"]))
        return ImageContent(configuration, [_layer(_member(image, name)) for name in manifest["Layers"]])


def differences(one: ImageContent, other: ImageContent) -> list[str]:
    """In which ways two images differ."""
    keys = sorted(one.configuration.keys() | other.configuration.keys())
    found = [f"configuration {key}" for key in keys if one.configuration.get(key) != other.configuration.get(key)]
    if len(one.layers) != len(other.layers):
        found.append(f"{len(one.layers)} and {len(other.layers)} layers")
    for number, (left, right) in enumerate(zip(one.layers, other.layers, strict=False)):
        found += [
            f"layer {number}: {path}: {left.entries.get(path)} and {right.entries.get(path)}"
            for path in sorted(left.entries.keys() | right.entries.keys())
            if left.entries.get(path) != right.entries.get(path)
        ]
        if left.content != right.content and left.entries == right.entries:
            found.append(f"layer {number}: the order or the form of its entries")
    return found


def _member(image: tarfile.TarFile, name: str) -> bytes:
    file = image.extractfile(name)
    assert file is not None, name
    return file.read()


def _layer(content: bytes) -> Layer:
    entries = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as layer:
        for each in layer:
            file = layer.extractfile(each) if each.isfile() else None
            entries[each.name.removeprefix("./").rstrip("/")] = Entry(
                each.type.decode(),
                each.mode,
                (each.uid, each.gid),
                each.size,
                each.mtime,
                each.linkname,
                hashlib.sha256(file.read()).hexdigest() if file is not None else "",
                {key: value for key, value in each.pax_headers.items() if key.startswith("SCHILY.xattr")},
            )
    return Layer(content, entries)
