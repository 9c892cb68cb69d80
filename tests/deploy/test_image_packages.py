"""What each image installs is what its service imports: neither more nor less than its extra brings.

Each service is imported whole in a process of its own, in which nothing else can be imported than what is in its
image: the packages of its extra, without those of deploy/images/unused-NAME.txt and the files that trim.py removes.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.paths import ROOT

from jiemi.cli.entry import EXTRAS

IMAGES = ROOT / "deploy" / "images"
SERVICES = ("krapao", "miwen")
LACKING = {
    "capnp._gen": "jinja2",  # its generator of source
    "prometheus_client.aiohttp.exposition": "aiohttp",
    "paramiko.config": "invoke",  # `Match exec` of an ssh configuration; Krapao reads none
    "rich.markdown": "markdown_it",
    "rich.syntax": "pygments",
    "rich.traceback": "pygments",  # structlog shows exceptions without it, and Jiemi by names and places only
    "trio._core._windows_cffi": "cffi",
    "trio._subprocess_platform.waitid": "cffi",  # where Python has no os.waitid
    "trio._tools.windows_ffi_build": "cffi",
}
"""Modules that name one which is left out, and which: none of them is imported, or they do without it."""

PRIVILEGES = {"krapao": {"kubernetes"}, "miwen": {"dulwich", "paramiko", "protobuf", "h2"}}
"""Distributions that the other one needs, and that this one must not have."""

_IMPORT_ALL = """
import importlib, importlib.abc, json, pkgutil, sys

absent, names, command = json.loads(sys.argv[1])

class OnlyWhatIsInTheImage(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if any(name == each or name.startswith(each + ".") for each in absent):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None

sys.meta_path.insert(0, OnlyWhatIsInTheImage())
sys.dont_write_bytecode = True
for name in names:
    module = importlib.import_module(name)
    for each in pkgutil.walk_packages(getattr(module, "__path__", ()), name + "."):
        importlib.import_module(each.name)
from click.testing import CliRunner
from jiemi.cli.main import app
result = CliRunner().invoke(app, command)
print(json.dumps([result.exit_code, sorted({each.partition(".")[0] for each in sys.modules})]))
"""


@pytest.fixture(scope="module")
def trim() -> ModuleType:
    spec = importlib.util.spec_from_file_location("trim", IMAGES / "trim.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _needed(requirement: str) -> Iterator[str]:
    """The names of a requirement's distribution and of all that it needs, as they are installed here."""
    seen: set[tuple[str, str]] = set()
    ahead = [(Requirement(requirement), extra) for extra in ("", *Requirement(requirement).extras)]
    while ahead:
        wanted, extra = ahead.pop()
        name = canonicalize_name(wanted.name)
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        yield name
        for line in importlib.metadata.requires(name) or ():
            each = Requirement(line)
            if each.marker is None or each.marker.evaluate({"extra": extra, "python_version": "3.13"}):
                ahead += [(each, inner) for inner in ("", *each.extras)]


def _left_out(service: str) -> set[str]:
    lines = (IMAGES / f"unused-{service}.txt").read_text().splitlines()
    return {canonicalize_name(line) for line in lines if not line.startswith("#")}


def _in_image(service: str) -> set[str]:
    return set(_needed(f"jiemi[{service}]")) - _left_out(service)


def _imported_names(distributions: set[str]) -> set[str]:
    found = importlib.metadata.packages_distributions()
    return {name for name, owners in found.items() if distributions & {canonicalize_name(each) for each in owners}}


@pytest.mark.parametrize("service", SERVICES)
def test_the_service_imports_nothing_else_than_what_is_in_its_image(service: str, trim: ModuleType) -> None:
    ours = _imported_names(_in_image(service))
    assert {"jiemi", "trio", "capnp"} <= ours
    others = set(importlib.metadata.packages_distributions()) - ours
    assert {"pytest", *(_imported_names(PRIVILEGES[service]) - {"google"})} <= others
    removed = _removed(trim)
    assert "kubernetes.aio" in removed
    assert "kubernetes.client.models.v1_pod" in removed
    assert "kubernetes.client.models.__init__" not in removed
    command = {
        "krapao": ["krapao", "--state-dir=/nonexistent", "--max-holders=3", "--help"],
        "miwen": ["miwen", "--krapao=tcp:host:1", "--interval=3m", "--help"],
    }[service]
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT_ALL, json.dumps([[*others, *removed], trim.IMPORTED[service], command])],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    status, loaded = json.loads(done.stdout)
    assert status == 0
    assert set(loaded) & _imported_names(PRIVILEGES[service]) == set()


def _removed(trim: ModuleType) -> set[str]:
    """The modules that trim.py removes, as they are installed here."""
    site = _site()
    return {
        path.relative_to(site).as_posix().removesuffix(".py").replace("/", ".")
        for path in trim.unused(site)
        if path.is_dir() or path.suffix == ".py"
    }


def _site() -> Path:
    return Path(importlib.util.find_spec("trio").origin).parents[1]  # type: ignore[union-attr, arg-type]


def _named(module: str, source: Path) -> Iterator[str]:
    """The modules that a file imports, at any time."""
    package = module if source.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: -(node.level - 1) or None] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{each.name}" for each in node.names)


@pytest.mark.parametrize("service", SERVICES)
def test_who_may_miss_what_is_left_out_is_known(service: str, trim: ModuleType) -> None:
    left_out = _imported_names(_left_out(service)) | _removed(trim)
    is_left_out = re.compile(rf"({'|'.join(map(re.escape, left_out))})(\.|$)")
    found: dict[str, set[str]] = {}
    for distribution in _in_image(service):
        for file in importlib.metadata.files(distribution) or ():
            module = re.sub(r"(/__init__)?\.py$", "", file.as_posix()).replace("/", ".")
            # The kubernetes package's classes name each other; Miwen uses none of them.
            if file.suffix != ".py" or is_left_out.match(module) or module.startswith("kubernetes."):
                continue
            for named in _named(module, Path(str(file.locate()))):
                if match := is_left_out.match(named):
                    found.setdefault(module, set()).add(match[1])
    there = _imported_names(_in_image(service))
    assert found == {
        name: {missed}
        for name, missed in LACKING.items()
        if name.partition(".")[0] in there and is_left_out.match(missed)
    }


@pytest.mark.parametrize("service", SERVICES)
def test_what_is_left_out_would_be_installed_otherwise(service: str) -> None:
    assert _left_out(service) <= set(_needed(f"jiemi[{service}]"))


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_has_nothing_of_the_other_service(service: str) -> None:
    assert _in_image(service) & PRIVILEGES[service] == set()


def test_what_a_bare_installation_lacks_is_named_with_its_extra() -> None:
    bare = set(_needed("jiemi"))
    for extra in SERVICES:
        direct: set[str] = {
            canonicalize_name(each.name)
            for each in map(Requirement, importlib.metadata.requires("jiemi") or ())
            if each.marker is not None and re.search(rf"extra == .{extra}.", str(each.marker))
        }
        names = _imported_names(direct - bare)
        assert {name for name in EXTRAS if EXTRAS[name] == extra} == {name for name in names if name[0] != "_"}


@pytest.mark.parametrize("service", SERVICES)
def test_the_dockerfile_installs_that_extra_and_removes_what_is_listed(service: str) -> None:
    dockerfile = (IMAGES / f"Dockerfile.{service}").read_text()
    assert f'jiemi-*.whl)[{service}]"' in dockerfile
    assert f"uninstall --yes --requirement deploy/images/unused-{service}.txt" in dockerfile
    assert f"python deploy/images/trim.py {service} /opt/jiemi" in dockerfile
