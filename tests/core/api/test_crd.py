"""The CustomResourceDefinition says what the classes say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from jiemi.core.api.crd import crd, crd_yaml

REPOSITORY = Path(__file__).parents[3]


def _version() -> dict[str, Any]:
    version: dict[str, Any] = crd()["spec"]["versions"][0]
    return version


def _schemas(schema: dict[str, Any], at: str) -> list[tuple[str, dict[str, Any]]]:
    found = [(at, schema)]
    for name, inner in schema.get("properties", {}).items():
        found += _schemas(inner, f"{at}.{name}")
    if "items" in schema:
        found += _schemas(schema["items"], f"{at}[]")
    return found


def test_the_file_under_deploy_is_what_the_command_prints() -> None:
    assert (REPOSITORY / "deploy" / "crd.yaml").read_text() == crd_yaml(), "run `just crd`"
    assert YAML(typ="safe").load(crd_yaml()) == crd()


def test_kubectl_apply_can_keep_it_in_its_annotation() -> None:
    # All annotations of an object may take 262,144 bytes (apimachinery, TotalAnnotationSizeLimitB), and kubectl
    # keeps in one what was applied. Beyond that only `--server-side` and `replace` would work.
    assert len(json.dumps(crd(), separators=(",", ":"))) < 200_000


def test_every_field_has_a_type_and_a_description() -> None:
    root = _version()["schema"]["openAPIV3Schema"]
    for at, schema in _schemas(root["properties"]["spec"], "spec") + _schemas(root["properties"]["status"], "status"):
        assert "type" in schema, at
        assert at in ("spec", "status") or at.endswith("[]") or schema["description"].endswith("."), at


def test_the_first_versions_fields_keep_name_and_type() -> None:
    root = _version()["schema"]["openAPIV3Schema"]
    types = {at: schema["type"] for at, schema in _schemas(root, "")}
    expected = {
        ".spec.provider.aws.keyId.literal": "string",
        ".spec.provider.aws.accessKey.secretName": "string",
        ".spec.provider.aws.region.key": "string",
        ".spec.provider.gcp.serviceAccount.literal": "string",
        ".spec.provider.pgp.privateKey.literal": "string",
        ".spec.provider.vault.token.literal": "string",
        ".spec.source.repository.url": "string",
        ".spec.source.repository.credentials.username.literal": "string",
        ".spec.source.repository.credentials.token.literal": "string",
        ".spec.source.repository.credentials.ssh.literal": "string",
        ".spec.source.fileToDecrypt": "string",
        ".spec.source.sopsPath": "string",
        ".status.current.id": "integer",
        ".status.current.revision": "string",
        ".status.current.file_to_decrypt": "string",
        ".status.current.deployed_at": "string",
        ".status.current.status": "string",
        ".status.current.error_message": "string",
        ".status.history": "array",
        ".status.history[].id": "integer",
    }
    assert {at: types.get(at) for at in expected} == expected


def test_it_has_the_columns_the_short_name_and_the_status_subresource() -> None:
    version = _version()
    columns = version["additionalPrinterColumns"]
    assert [each["name"] for each in columns if not each.get("priority")] == [
        "Ready",
        "Revision",
        "Flags",
        "Age",
        "Message",
    ]
    assert [each["name"] for each in columns if each.get("priority")] == [
        *("Status", "Reason", "Commit", "Attempted", "Ref", "File", "Repository")
    ]
    assert version["subresources"] == {"status": {}}
    assert crd()["spec"]["names"]["shortNames"] == ["dec"]
    assert crd()["spec"]["names"]["categories"] == ["jiemi"]
