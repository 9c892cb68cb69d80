"""Make a Python environment that pip has installed small, and the same each time: `python trim.py SERVICE ENVIRONMENT`.

1. Files that the service never reads are removed: UNUSED, a list by package.
2. Libraries lose their debug symbols, as those of Debian's packages do.
3. What the service imports is compiled to byte code, because the image is read-only. The byte code holds the hash of
   its source and no time. Modules that nothing imports stay as source: one that is imported after all is compiled in
   memory.

Each package's RECORD says afterwards what is there.
"""

import base64
import csv
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

UNUSED: Mapping[str, Sequence[str]] = {
    # Tests of their own.
    "trio": ("trio/_tests", "trio/_core/_tests"),
    "sniffio": ("sniffio/_tests",),
    # Its `git` for people: Krapao speaks the protocol by the modules beneath.
    "dulwich": (
        "dulwich/__main__.py",
        "dulwich/cli.py",
        "dulwich/porcelain",
        "dulwich/tests",
        "dulwich/web.py",
        "../../../bin/dul*",
        # What that `git` works with, beyond objects, packs, refs and the protocol.
        "dulwich/_diff_tree.*",
        "dulwich/aiohttp",
        "dulwich/am.py",
        "dulwich/annotate.py",
        "dulwich/bisect.py",
        "dulwich/cloud",
        "dulwich/diffstat.py",
        "dulwich/fastexport.py",
        "dulwich/filter_branch.py",
        "dulwich/lfs_server.py",
        "dulwich/maintenance.py",
        "dulwich/mbox.py",
        "dulwich/range_diff.py",
        "dulwich/rerere.py",
        "dulwich/stash.py",
        "dulwich/stripspace.py",
        "dulwich/subtree.py",
        "dulwich/whitespace.py",
    ),
    # What reads C declarations, while a library is built. A built one needs `_cffi_backend` alone.
    "cffi": ("cffi", "../../../bin/cffi-gen-src"),
    # Generated from the API server's description: a class for each kind and for each group, twice. Miwen makes its
    # requests itself (jiemi/miwen/kubernetes/http.py); the client opens its connection alone.
    "kubernetes": ("kubernetes/aio", "kubernetes/client/api", "kubernetes/client/models/[!_]*"),
    # What its library was compiled from, and what generates source from a schema.
    "pycapnp": (
        "capnp/helpers",
        "capnp/includes",
        "capnp/lib/*.cpp",
        "capnp/lib/*.h",
        "capnp/lib/*.pxd",
        "capnp/lib/*.pyx",
        "capnp/templates",
        "../../../bin/capnpc-cython",
    ),
    # Manifests for people who install the package, and where its wheel lay while the image was built.
    "jiemi": ("jiemi/deploy", "jiemi/examples", "jiemi-*.dist-info/direct_url.json"),
}

IMPORTED: Mapping[str, Sequence[str]] = {
    "krapao": ("jiemi.cli.entry", "jiemi.cli.krapao", "jiemi.cli.probe_krapao", "jiemi.cli.doctor", "jiemi.krapao"),
    "miwen": ("jiemi.cli.entry", "jiemi.cli.miwen", "jiemi.cli.probe_miwen", "jiemi.cli.status", "jiemi.miwen"),
}
"""What each service runs: these modules, and those inside these packages."""

_LOADED = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    for each in pkgutil.walk_packages(getattr(module, "__path__", ()), f"{name}."):
        importlib.import_module(each.name)
from jiemi.cli.main import app
app(["probe", "miwen", "--alive-file", "/nonexistent"], standalone_mode=False)
for module in list(sys.modules.values()):
    if getattr(module, "__file__", None):
        print(module.__file__)
"""


def main(service: str, environment: Path) -> None:
    """Trim the environment.

    Args:
        service: krapao or miwen.
        environment: where it was installed.
    """
    (site,) = environment.glob("lib/python3.*/site-packages")
    for path in unused(site):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    _strip(sorted(path for path in site.rglob("*") if ".so" in path.suffixes and path.is_file()))
    for record in sorted(site.glob("*.dist-info/RECORD")):
        _write_record(record, site)
    _compile(environment / "bin" / "python", service, site)


def unused(site: Path) -> list[Path]:
    """The files and folders of UNUSED that are there.

    Args:
        site: the folder site-packages.
    """
    return sorted(path for patterns in UNUSED.values() for pattern in patterns for path in site.glob(pattern))


def _strip(libraries: list[Path]) -> None:
    _run(["strip", "--strip-unneeded", *map(str, libraries)])


def _write_record(record: Path, site: Path) -> None:
    """Write a package's list of files again: its format is that of the specification "Recording installed projects"."""
    with record.open(newline="") as file:
        rows = [row for row in csv.reader(file) if (site / row[0]).exists()]
    with record.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for path, digest, _ in sorted(rows):
            if not digest:
                writer.writerow([path, "", ""])
                continue
            content = (site / path).read_bytes()
            encoded = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
            writer.writerow([path, f"sha256={encoded}", len(content)])


def _compile(python: Path, service: str, site: Path) -> None:
    # Isolated: the source of Jiemi may lie in the working directory, too.
    loaded = _run([str(python), "-I", "-B", "-c", _LOADED, *IMPORTED[service]]).splitlines()
    files = {Path(line) for line in loaded if line.endswith(".py")}
    listed = "\n".join(sorted(str(path) for path in files if path.is_relative_to(site)))
    command = [str(python), "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "-i", "-"]
    _run(command, given=listed)


def _run(command: list[str], given: str = "") -> str:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, env=environment, input=given, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{command[0]} ended with status {done.returncode}")
    return done.stdout


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
