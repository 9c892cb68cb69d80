"""An image of one program, read back as containerd reads it."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

from jiemi.controlplane.node.image_archive import write_image


def _image(tmp_path: Path, content: bytes, file: str) -> Path:
    program = tmp_path / "waits"
    program.write_bytes(content)
    write_image(tmp_path / file, "localhost/waits:1", program)
    return tmp_path / file


def test_the_image_has_its_name_its_program_and_the_layers_digest(tmp_path: Path) -> None:
    with tarfile.open(_image(tmp_path, b"#!program", "a.tar")) as archive:
        files = {member.name: archive.extractfile(member) for member in archive}
        read = {name: file.read() for name, file in files.items() if file is not None}
    [manifest] = json.loads(read["manifest.json"])
    assert manifest["RepoTags"] == ["localhost/waits:1"]
    config = json.loads(read[manifest["Config"]])
    [layer] = manifest["Layers"]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(read[layer]).hexdigest()}"]
    assert config["config"]["Entrypoint"] == ["/waits"]
    assert config["config"]["User"].split(":")[0] != "0"
    (tmp_path / "layer.tar").write_bytes(read[layer])
    with tarfile.open(tmp_path / "layer.tar") as packed:
        [member] = packed.getmembers()
        program = packed.extractfile(member)
        assert (member.name, member.mode, program.read() if program is not None else None) == (
            "waits",
            0o755,
            b"#!program",
        )


def test_the_same_program_gives_the_same_image_and_another_gives_another(tmp_path: Path) -> None:
    first = _image(tmp_path, b"1", "a.tar").read_bytes()
    assert _image(tmp_path, b"1", "b.tar").read_bytes() == first
    assert _image(tmp_path, b"2", "c.tar").read_bytes() != first
