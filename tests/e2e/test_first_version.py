"""Decryptors in the first version's form, with files that older sops releases made (tests/data)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from support.e2e.lab import Lab, Repository

pytestmark = pytest.mark.e2e

DATA = Path(__file__).parents[1] / "data"
RELEASES = sorted(path.name for path in DATA.glob("sops-*"))
NAMESPACE = "e2e-first-version"
_DEMO = {"password": "correct horse", "on": "yes", "number": "007"}
EXPECTED = {
    "all.yaml": ("default", "demo", _DEMO),
    "regex.yaml": ("default", "demo", _DEMO),
    "multi.yaml": (NAMESPACE, "second", {"b": "two"}),
    "all.json": (NAMESPACE, "demo", {"password": "correct horse", "count": "12"}),
}
"""The Secret that each file holds: namespace, name, values."""


def _example() -> dict[str, Any]:
    """The Decryptor of examples/pgp.yaml."""
    documents = YAML(typ="safe").load_all((Path(__file__).parents[2] / "examples" / "pgp.yaml").read_text())
    [decryptor] = [document for document in documents if document["kind"] == "Decryptor"]
    found: dict[str, Any] = decryptor
    return found


@pytest.fixture(scope="module")
def repository(lab: Lab) -> Iterator[Repository]:
    lab.namespace(NAMESPACE)
    _, address = lab.start_krapao()
    lab.start_miwen(address, NAMESPACE, interval="1s")
    lab.secret(NAMESPACE, "pgp-key", **{"private.asc": (DATA / "pgp-test-key.asc").read_text()})
    files = {path.relative_to(DATA).as_posix(): path.read_bytes() for path in DATA.glob("sops-*/*")}
    yield lab.repository({**files, ".sops.yaml": b"creation_rules: []\n"})
    lab.end_services()


def _provider(form: str) -> dict[str, Any]:
    if form == "literal":
        value: dict[str, Any] = {"literal": (DATA / "pgp-test-key.asc").read_text()}
    else:
        # Explicit nulls, as clients of the first version may send them.
        value = {"secretName": "pgp-key", "key": "private.asc", "literal": None}
    return {"pgp": {"privateKey": value}}


def test_the_example_is_of_the_form_that_is_tested_here() -> None:
    spec = _example()["spec"]
    assert set(spec) == {"provider", "source"}
    assert set(spec["provider"]) == {"pgp"}
    assert set(spec["source"]) == {"repository", "fileToDecrypt", "sopsPath"}


@pytest.mark.parametrize("form", ["literal", "secretName"])
@pytest.mark.parametrize("file", EXPECTED)
@pytest.mark.parametrize("release", RELEASES)
def test_a_pgp_decryptor_opens_files_of_an_older_sops(
    lab: Lab, repository: Repository, release: str, file: str, form: str
) -> None:
    assert len(RELEASES) >= 2
    name = f"{release}-{file}-{form}".replace(".", "-").lower()
    manifest = _example()
    manifest["metadata"] = {"name": name, "namespace": NAMESPACE}
    manifest["spec"] = {
        "provider": _provider(form),
        "source": {
            "repository": {"url": repository.url},
            "fileToDecrypt": f"{release}/{file}",
            "sopsPath": ".sops.yaml",
        },
    }
    namespace, secret, values = EXPECTED[file]
    lab.admin.call("DELETE", f"/api/v1/namespaces/{namespace}/secrets/{secret}")
    lab.admin.apply(manifest).ok()
    try:
        lab.until_synced(NAMESPACE, name, repository.run("rev-parse", "HEAD"))
        assert lab.data(namespace, secret) == values
    finally:
        # The next one makes the same Secret, which one Decryptor only can have.
        lab.delete_decryptor(NAMESPACE, name)
