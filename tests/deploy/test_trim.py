"""What deploy/images/trim.py does to an installed environment."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import py_compile
import sys
from base64 import urlsafe_b64encode
from pathlib import Path
from types import ModuleType

import pytest
from support.paths import ROOT


@pytest.fixture
def trim(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("trim", ROOT / "deploy" / "images" / "trim.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "UNUSED", {"parcel": ("parcel/generated", "parcel/lib/[!_]*")})
    monkeypatch.setitem(module.IMPORTED, "test", ("parcel.kept",))
    return module


FILES = {
    "parcel/__init__.py": "",
    "parcel/kept.py": "import parcel.lib\n",
    "parcel/lazy.py": "",
    "parcel/generated/one.py": "",
    "parcel/generated/deep/two.py": "",
    "parcel/lib/__init__.py": "",
    "parcel/lib/parcel.c": "int main() {}",
}


def _digest(content: bytes) -> str:
    return urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """An environment with one package, and with this Python in place of its own."""
    site = tmp_path / "lib" / "python3.99" / "site-packages"
    rows = []
    for name, text in FILES.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text)
        rows.append(f"{name},sha256={_digest(text.encode())},{len(text)}")
    information = site / "parcel-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: parcel\nVersion: 1\n")
    (information / "RECORD").write_text("\n".join([*rows, "parcel-1.dist-info/RECORD,,", ""]))
    (tmp_path / "bin").mkdir()
    return tmp_path


def test_listed_files_go_and_the_record_says_what_is_left(trim: ModuleType, environment: Path) -> None:
    (site,) = environment.glob("lib/python3.*/site-packages")
    removed = [path.relative_to(site).as_posix() for path in trim.unused(site)]
    assert removed == ["parcel/generated", "parcel/lib/parcel.c"]
    (site / "parcel" / "lib" / "parcel.c").unlink()
    (site / "parcel" / "kept.py").write_text("changed = 1\n")
    trim._write_record(site / "parcel-1.dist-info" / "RECORD", site)
    (found,) = importlib.metadata.distributions(path=[str(site)])
    files = {str(file): file for file in found.files or ()}
    assert files.keys() == (FILES.keys() - {"parcel/lib/parcel.c"}) | {"parcel-1.dist-info/RECORD"}
    kept = files["parcel/kept.py"]
    assert kept.hash is not None
    assert (kept.hash.value, kept.size) == (_digest(b"changed = 1\n"), 12)


def test_what_is_imported_is_compiled_with_the_hash_of_its_source_and_no_time(
    trim: ModuleType, environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (site,) = environment.glob("lib/python3.*/site-packages")
    monkeypatch.setattr(trim, "_LOADED", f"import sys; sys.path.insert(0, {str(site)!r})\n" + trim._LOADED)
    trim._compile(Path(sys.executable), "test", site)
    tag = sys.implementation.cache_tag
    compiled = {path.relative_to(site).as_posix(): path.read_bytes() for path in site.rglob("*.pyc")}
    assert compiled.keys() == {
        f"parcel/__pycache__/__init__.{tag}.pyc",
        f"parcel/__pycache__/kept.{tag}.pyc",
        f"parcel/lib/__pycache__/__init__.{tag}.pyc",
    }
    # PEP 552: the second word has bit 0 where there is a hash in place of a time, and bit 1 where it is checked.
    assert {content[4:8] for content in compiled.values()} == {(0b01).to_bytes(4, "little")}
    source = site / "parcel" / "kept.py"
    again = py_compile.compile(
        str(source),
        cfile=str(environment / "again.pyc"),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    assert again is not None
    assert Path(again).read_bytes() == compiled[f"parcel/__pycache__/kept.{tag}.pyc"]


def test_a_command_that_fails_ends_the_build(trim: ModuleType) -> None:
    with pytest.raises(SystemExit, match="ended with status 3"):
        trim._run([sys.executable, "-c", "raise SystemExit(3)"])
