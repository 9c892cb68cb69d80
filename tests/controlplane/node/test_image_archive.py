"""An image of one layer, read back as containerd reads it."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
import trio

from jiemi.controlplane.node.image_archive import write_image
from jiemi.controlplane.node.isolation import SEARCH_PATH
from jiemi.controlplane.node.sandbox import libraries, write_sandbox_image


def _image(tmp_path: Path, content: bytes, file: str) -> Path:
    write_image(tmp_path / file, "localhost/waits:1", {"bin/waits": content}, ["/bin/waits", "long"])
    return tmp_path / file


def _read(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        files = {member.name: archive.extractfile(member) for member in archive}
        return {name: file.read() for name, file in files.items() if file is not None}


def _layer(tmp_path: Path, archive: Path) -> Path:
    """The image's one layer, unpacked."""
    read = _read(archive)
    [manifest] = json.loads(read["manifest.json"])
    [layer] = manifest["Layers"]
    (tmp_path / "layer.tar").write_bytes(read[layer])
    with tarfile.open(tmp_path / "layer.tar") as packed:
        packed.extractall(tmp_path / "root", filter="tar")
    return tmp_path / "root"


def test_the_image_has_its_name_its_program_and_the_layers_digest(tmp_path: Path) -> None:
    archive = _image(tmp_path, b"#!program", "a.tar")
    read = _read(archive)
    [manifest] = json.loads(read["manifest.json"])
    assert manifest["RepoTags"] == ["localhost/waits:1"]
    config = json.loads(read[manifest["Config"]])
    [layer] = manifest["Layers"]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(read[layer]).hexdigest()}"]
    assert config["config"]["Entrypoint"] == ["/bin/waits", "long"]
    assert config["config"]["User"].split(":")[0] != "0"
    program = _layer(tmp_path, archive) / "bin" / "waits"
    assert (program.read_bytes(), program.stat().st_mode & 0o777) == (b"#!program", 0o755)


def test_the_same_program_gives_the_same_image_and_another_gives_another(tmp_path: Path) -> None:
    first = _image(tmp_path, b"1", "a.tar").read_bytes()
    assert _image(tmp_path, b"1", "b.tar").read_bytes() == first
    assert _image(tmp_path, b"2", "c.tar").read_bytes() != first


def test_the_sandbox_holds_all_that_its_program_is_loaded_with(tmp_path: Path) -> None:
    trio.run(write_sandbox_image, tmp_path / "sandbox.tar")
    [manifest] = json.loads(_read(tmp_path / "sandbox.tar")["manifest.json"])
    config = json.loads(_read(tmp_path / "sandbox.tar")[manifest["Config"]])
    [program, argument] = config["config"]["Entrypoint"]
    root = _layer(tmp_path, tmp_path / "sandbox.tar")
    # Its own loader, with its own libraries only, finds every one: --list is what ldd(1) asks it for.
    loader = next(path for path in root.rglob("ld-linux*"))
    folders = ":".join({str(path.parent) for path in root.rglob("*.so*")})
    listed = subprocess.run(
        [loader, "--inhibit-cache", "--library-path", folders, "--list", root / program.removeprefix("/")],
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    assert "not found" not in listed.stdout
    assert all(str(root) in line for line in listed.stdout.splitlines() if "=>" in line)
    assert argument == "infinity"


@pytest.mark.parametrize("name", ["sleep", "ldd"])
def test_a_program_has_libraries_and_a_script_has_none(name: str) -> None:
    ldd, program = (str(shutil.which(each, path=SEARCH_PATH)) for each in ("ldd", name))
    found = trio.run(libraries, ldd, program)
    assert bool(found) is (name == "sleep")
    assert all(Path(path).is_file() for path in found)
