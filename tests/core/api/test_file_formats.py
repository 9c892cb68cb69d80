"""A file's format as the spec states it: for all files, by glob, or by the file's name."""

from __future__ import annotations

from typing import Any

import pytest

from jiemi.core.api.fields import FieldError, structure
from jiemi.core.api.file_formats import FormatOfFile
from jiemi.core.api.source import SourceSpec
from jiemi.core.content.formats import Format

REPOSITORY = {"url": "https://git.example/app.git"}


def source(**fields: Any) -> SourceSpec:
    return structure({"repository": REPOSITORY, "fileToDecrypt": "a", **fields}, SourceSpec, "spec.source")


@pytest.mark.parametrize(
    ("path", "named"),
    [
        (".env.production", "dotenv"),
        ("values.yaml.enc", "yaml"),
        (".dockerconfigjson", "json"),
        ("secrets.yaml", "ini"),
    ],
)
def test_one_format_applies_to_all_files_whatever_their_names_imply(path: str, named: str) -> None:
    found = source(format=named).format_of(path)
    assert found == FormatOfFile(Format(named), "spec.source.format")
    assert found.stated is Format(named)


def test_without_a_stated_format_the_name_implies_it() -> None:
    assert source().format_of("a/b.yaml") == FormatOfFile(Format.YAML)
    assert source(format=None).format_of(".env.production") == FormatOfFile(Format.BINARY)
    assert source().format_of("b.env").stated is None


@pytest.mark.parametrize(
    ("path", "format", "field"),
    [
        ("app/values.yaml.enc", Format.YAML, "spec.source.formats[0]"),
        ("values.yaml.enc", Format.YAML, "spec.source.formats[0]"),
        ("legacy/values.yaml.enc", Format.YAML, "spec.source.formats[0]"),
        ("legacy/deep/x", Format.INI, "spec.source.formats[1]"),
        ("a/.env.production", Format.DOTENV, "spec.source.formats[2]"),
        ("config/one", Format.JSON, "spec.source.formats[3]"),
        ("other/config/one", Format.BINARY, "spec.source.format"),
        ("x.yaml", Format.BINARY, "spec.source.format"),
    ],
)
def test_the_first_glob_that_matches_a_file_states_its_format(path: str, format: Format, field: str) -> None:
    spec = source(
        format="binary",
        formats=[
            {"files": "*.yaml.enc", "format": "yaml"},
            {"files": "legacy/**", "format": "ini"},
            {"files": ".env.*", "format": "dotenv"},
            {"files": "config/one", "format": "json"},
        ],
    )
    assert spec.format_of(path) == FormatOfFile(format, field)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": "env"}, "must be yaml, json, dotenv, ini or binary @ spec.source.format"),
        ({"format": "YAML"}, "must be yaml, json, dotenv, ini or binary @ spec.source.format"),
        ({"format": ""}, "must be yaml, json, dotenv, ini or binary @ spec.source.format"),
        ({"format": ["yaml"]}, "must be a string @ spec.source.format"),
        ({"format": {"files": "*", "format": "yaml"}}, "must be a string @ spec.source.format"),
        ({"formats": "yaml"}, "must be a list @ spec.source.formats"),
        ({"formats": [{"files": "*.enc"}]}, "required field missing @ spec.source.formats[0].format"),
        ({"formats": [{"format": "yaml"}]}, "required field missing @ spec.source.formats[0].files"),
        ({"formats": [{"files": "*.enc", "format": "yml"}]}, "@ spec.source.formats[0].format"),
        ({"formats": [{"files": "./", "format": "yaml"}]}, "must name files @ spec.source.formats[0].files"),
    ],
)
def test_an_unknown_format_is_refused_with_its_field(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(FieldError) as caught:
        source(**fields)
    assert message in str(caught.value)
