"""The SBOM of each image: valid, complete, and without a trace of the machine that wrote it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio
from support.paths import DATA, ROOT
from support.pods.sbom import fault_of_sbom, syft, write_sbom

import jiemi
from jiemi.controlplane.node.images import NAMES, Images
from jiemi.controlplane.pins import PINS, Tool

_LOCAL = [f"{folder}/" for folder in (ROOT, Path.home(), tempfile.gettempdir(), "/var/tmp", "/home")]


@pytest.fixture(scope="session")
def sboms(builds: tuple[Images, Images], tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The SBOM of each image."""
    program = trio.run(syft)
    folder = tmp_path_factory.mktemp("sbom")
    paths = {name: folder / f"{name}.cdx.json" for name in NAMES}
    for name, path in paths.items():
        write_sbom(program, getattr(builds[0], name), f"jiemi/{name}", jiemi.__version__, path)
    return paths


@pytest.mark.parametrize("name", NAMES)
def test_it_is_valid_cyclonedx(name: str, sboms: Mapping[str, Path]) -> None:
    assert fault_of_sbom(sboms[name]) is None


def test_one_that_is_not_valid_is_found(sboms: Mapping[str, Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    content = json.loads(sboms["miwen"].read_text())
    content["components"][0]["type"] = "nothing"
    broken.write_text(json.dumps(content))
    assert "nothing" in (fault_of_sbom(broken) or "")


def _components(sbom: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(sbom.read_text())["components"]
    return found


def _versions(sbom: Path, kind: str) -> dict[str, str]:
    """Names and versions of one kind of package (as in a package URL)."""
    return {
        each["name"]: each["version"] for each in _components(sbom) if each.get("purl", "").startswith(f"pkg:{kind}/")
    }


@pytest.mark.parametrize("name", NAMES)
def test_it_says_of_which_image_it_is(name: str, sboms: Mapping[str, Path]) -> None:
    component = json.loads(sboms[name].read_text())["metadata"]["component"]
    assert (component["type"], component["name"]) == ("container", f"jiemi/{name}")
    assert component["version"] == jiemi.__version__


@pytest.mark.parametrize("name", NAMES)
def test_it_says_which_version_of_which_tool_wrote_it(name: str, sboms: Mapping[str, Path]) -> None:
    [tool] = json.loads(sboms[name].read_text())["metadata"]["tools"]["components"]
    assert tool["name"] == "syft"
    assert f"github.com/anchore/syft v{tool['version']} " in (DATA / "syft" / "go.mod").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_it_lists_jiemi_and_each_python_package_in_the_version_that_the_tests_have(
    name: str, sboms: Mapping[str, Path]
) -> None:
    found = _versions(sboms[name], "pypi")
    expected = {"krapao": ("dulwich", "paramiko", "cryptography"), "miwen": ("kubernetes", "cryptography")}[name]
    for each in ("jiemi", "pycapnp", "trio", *expected):
        assert found[each] == importlib.metadata.version(each)
    assert not {"krapao": {"kubernetes"}, "miwen": {"dulwich", "paramiko"}}[name] & found.keys()


@pytest.mark.parametrize("name", NAMES)
def test_it_lists_debians_packages(name: str, sboms: Mapping[str, Path]) -> None:
    found = _versions(sboms[name], "deb")
    assert {"libc6", "tini", "ca-certificates", "openssl"} <= found.keys()
    assert ("gpg" in found) is (name == "krapao")


def test_it_lists_sops_with_the_go_modules_that_are_linked_into_it(sboms: Mapping[str, Path]) -> None:
    found = _versions(sboms["krapao"], "golang")
    assert found["github.com/getsops/sops/v3"] == f"v{PINS[Tool.SOPS].version}"
    assert {"filippo.io/age", "github.com/ProtonMail/go-crypto", "stdlib"} <= found.keys()
    assert _versions(sboms["miwen"], "golang") == {}


@pytest.mark.parametrize("name", NAMES)
def test_it_names_no_path_of_this_machine_and_no_host_of_its_registries(name: str, sboms: Mapping[str, Path]) -> None:
    text = sboms[name].read_text()
    assert [each for each in (*_LOCAL, os.uname().nodename) if each in text] == []
    assert "file://" not in text
    hosts = set(re.findall(r"https?://([^/\"\s:]+)", text))
    assert [host for host in hosts if re.search(r"proxy|mirror|artifact|registry|internal|\.local$", host)] == []
