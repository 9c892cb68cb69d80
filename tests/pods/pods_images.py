"""What is in the images that the Pods run: sizes, users, rights, programs, packages, labels."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.kubernetes.kubectl import Kubectl
from support.paths import ROOT
from support.pods.cluster import given
from support.pods.image_content import ImageContent, read_image
from support.pods.images import EPOCH, LABELS

from jiemi.controlplane.node.images import NAMES

MEGABYTE = 1_000_000
PROMISED = 90 * MEGABYTE
"""Bytes above the base, as an engine unpacks them, which no image may have."""
LIMITS = {"krapao": 90 * MEGABYTE, "miwen": 52 * MEGABYTE}
"""The same, for what is in them today. docs/operations.md says what that is."""
PULLED = {"krapao": 30 * MEGABYTE, "miwen": 17 * MEGABYTE}
"""Bytes above the base that are pulled."""

OPERATIONS = (ROOT / "docs" / "operations.md").read_text()

_FILE, _FOLDER = "0", "5"
"""Kinds of entries."""

PODS = {"krapao": "statefulset/repository", "miwen": "deployment/miwen"}
SITE = "opt/jiemi/lib/python3.13/site-packages"
BUILDERS = {"cc", "gcc", "g++", "ld", "as", "make", "go", "rustc", "cargo", "strip", "pip", "pip3"}
OF_GNUPG = {"gpg", "gpg-agent"}
"""Its programs that Krapao starts. They can start no other one."""
ABSENT = {
    "krapao": {"kubernetes", "aiohttp", "requests", "pydantic", "pydantic_core", "pygments", "pyrage", "hypothesis"},
    "miwen": {
        "dulwich",
        "paramiko",
        "h2",
        "re2",
        "google",
        "nacl",
        "bcrypt",
        "aiohttp",
        "pygments",
        "pyrage",
        "hypothesis",
    },
}
"""Packages, by what is imported, that an image must not hold."""

EVERY_MODULE = """
import importlib, pkgutil, jiemi
missing = {}
names = [each.name for each in pkgutil.walk_packages(jiemi.__path__, "jiemi.")]
for name in names:
    if name == "jiemi.__main__":
        continue
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing[name] = error.name
import json
print(json.dumps([names, missing]))
"""


@pytest.fixture(scope="session")
def contents() -> Mapping[str, ImageContent]:
    """Both images, by name."""
    return dict(zip(NAMES, map(read_image, map(Path, given("IMAGES").split(":"))), strict=False))


@pytest.mark.parametrize("name", NAMES)
def test_the_image_stays_within_its_size(name: str, contents: Mapping[str, ImageContent]) -> None:
    own = contents[name].own
    size, pulled = sum(layer.size for layer in own), sum(layer.compressed_size() for layer in own)
    print(f"{name}: {size / MEGABYTE:.1f} MB above the base, {pulled / MEGABYTE:.1f} MB pulled")
    assert own
    assert size < PROMISED
    assert size <= LIMITS[name]
    assert pulled <= PULLED[name]


def test_the_docs_say_how_large_they_are(contents: Mapping[str, ImageContent]) -> None:
    row = re.search(r"^\| unpacked, above the base \| ([\d.]+) \| ([\d.]+) \|$", OPERATIONS, re.MULTILINE)
    assert row is not None
    for name, said in zip(NAMES, row.groups(), strict=True):
        measured = sum(layer.size for layer in contents[name].own)
        assert abs(float(said) * MEGABYTE - measured) < MEGABYTE / 2, name


@pytest.mark.parametrize("name", NAMES)
def test_the_user_of_the_image_can_change_nothing_in_it_and_gains_no_rights(
    name: str, contents: Mapping[str, ImageContent]
) -> None:
    assert contents[name].configuration["config"]["User"] == "65532:65532"
    for path, entry in contents[name].entries():
        assert entry.owner[0] == 0, path
        if entry.kind == _FILE:
            assert not entry.mode & 0o6002, path
        if entry.kind == _FOLDER:
            assert entry.mode & 0o1002 != 0o0002, path
        assert "security.capability" not in str(entry.attributes), path


@pytest.mark.parametrize("name", NAMES)
def test_there_is_nothing_in_it_to_build_or_install_with(name: str, contents: Mapping[str, ImageContent]) -> None:
    programs = {
        Path(path).name
        for path, entry in contents[name].entries()
        # dpkg keeps scripts of packages, which nobody starts in the image.
        if entry.mode & 0o111 and entry.kind == _FILE and not path.startswith("var/lib/dpkg/info/")
    }
    assert "jiemi" in programs
    assert {each for each in programs if re.match("gpg|keyboxd", each)} == (OF_GNUPG if name == "krapao" else set())
    assert programs & BUILDERS == set()
    packages = {path.removeprefix(f"{SITE}/").split("/")[0] for path, _ in contents[name].entries()}
    assert {"jiemi", "trio", "capnp"} <= packages
    assert packages & ABSENT[name] == set()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_started_needs_no_shell(name: str, contents: Mapping[str, ImageContent], installed: Kubectl) -> None:
    configuration = contents[name].configuration["config"]
    assert configuration["Entrypoint"] == ["/usr/bin/tini", "--", "/opt/jiemi/bin/jiemi"]
    assert configuration["Cmd"] == [name, "--help"]
    assert "Healthcheck" not in configuration
    scripts = {path: entry for path, entry in contents[name].entries() if path.startswith("opt/jiemi/bin/")}
    assert {"opt/jiemi/bin/jiemi", "opt/jiemi/bin/python"} <= scripts.keys()
    # The programs of pip's scripts are run by Python itself, whose path stands in their first line.
    shown = installed("exec", PODS[name], "--", "python", "-c", "print(open('/opt/jiemi/bin/jiemi').readline())")
    assert shown.strip() == "#!/opt/jiemi/bin/python"
    # Process 1 and all that runs beneath it: no shell stands between them.
    running = installed("exec", PODS[name], "--", "python", "-c", _RUNNING)
    assert "/usr/bin/tini" in running
    assert not re.search(r"^\S*/(ba|da|)sh\b", running, re.MULTILINE)


_RUNNING = """
import pathlib
for each in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    print(each.read_bytes().replace(bytes(1), b" ").decode())
"""


@pytest.mark.parametrize("name", NAMES)
def test_the_labels_say_what_it_is_and_where_it_is_from(name: str, contents: Mapping[str, ImageContent]) -> None:
    labels = contents[name].configuration["config"]["Labels"]
    of_image = {key.removeprefix("org.opencontainers.image."): value for key, value in labels.items()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert of_image["title"] == name
    assert of_image["description"].startswith("Jiemi's ")
    assert of_image["version"] == project["version"]
    assert of_image["licenses"] == project["license"]
    assert {key.upper(): of_image[key] for key in ("source", "revision", "created")} == LABELS


@pytest.mark.parametrize("name", NAMES)
def test_it_holds_no_time_of_its_build(name: str, contents: Mapping[str, ImageContent]) -> None:
    assert contents[name].configuration["created"] == "2025-01-01T00:00:00Z"
    assert {entry.seconds for _, entry in contents[name].entries()} == {EPOCH}


@pytest.mark.parametrize("name", NAMES)
def test_what_the_service_runs_is_compiled_because_its_root_is_read_only(
    name: str, contents: Mapping[str, ImageContent]
) -> None:
    paths = {path for path, _ in contents[name].entries()}
    sources = {path for path in paths if re.match(rf"{SITE}/(jiemi/{name}|trio/_core)/.*\.py$", path)}
    sources |= {f"{SITE}/jiemi/cli/{each}.py" for each in ("entry", "main", name, f"probe_{name}")}
    sources.add(f"{SITE}/jiemi/rpc/bridge.py")
    sources = {path for path in sources if "/_tests/" not in path and "windows" not in path and "kqueue" not in path}
    assert len(sources) > 60
    assert [path for path in sorted(sources) if _compiled(path) not in paths] == []


def _compiled(path: str) -> str:
    source = Path(path)
    return str(source.parent / "__pycache__" / f"{source.stem}.cpython-313.pyc")


@pytest.mark.parametrize("name", NAMES)
def test_each_python_package_holds_what_its_record_says(name: str, installed: Kubectl) -> None:
    count, wrong = json.loads(installed("exec", PODS[name], "--", "python", "-c", RECORDS))
    assert count > 1_000
    assert wrong == []


RECORDS = """
import base64, hashlib, importlib.metadata, json
count, wrong = 0, []
for each in importlib.metadata.distributions(path=["/opt/jiemi/lib/python3.13/site-packages"]):
    for file in each.files:
        count += 1
        path = file.locate()
        if not path.exists():
            wrong.append(str(file))
        elif file.hash is not None:
            digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).decode().rstrip("=")
            if (digest, path.stat().st_size) != (file.hash.value, file.size):
                wrong.append(str(file))
print(json.dumps([count, wrong]))
"""


@pytest.mark.parametrize("name", NAMES)
def test_every_module_that_the_service_runs_can_be_imported_in_its_pod(name: str, installed: Kubectl) -> None:
    names, missing = json.loads(installed("exec", PODS[name], "--", "python", "-c", EVERY_MODULE))
    assert len(names) > 200
    assert set(missing.values()) <= ABSENT[name]
    needed = (f"jiemi.{name}", "jiemi.rpc", "jiemi.core", "jiemi.concurrency", "jiemi.metrics", f"jiemi.cli.{name}")
    assert [each for each in missing if each.startswith((*needed, "jiemi.cli.main", f"jiemi.cli.probe_{name}"))] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_command_of_the_other_service_says_what_it_lacks(name: str, installed: Kubectl) -> None:
    other, extra = {"krapao": ("status", "miwen"), "miwen": ("doctor", "krapao")}[name]
    script = f"import subprocess; print(subprocess.run(['jiemi', '{other}'], capture_output=True, text=True).stderr)"
    said = installed("exec", PODS[name], "--", "python", "-c", script)
    assert re.fullmatch(
        rf"error: this command is not installed here: pip install 'jiemi\[{extra}\]' \(\w+\)", said.strip()
    )
