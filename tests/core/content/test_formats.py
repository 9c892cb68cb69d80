"""A file's name says how it is written."""

from __future__ import annotations

import pytest

from jiemi.core.content.formats import Format, ending_in_capitals, format_of


@pytest.mark.parametrize("path", ["a.yaml", "x/b.yml", "C.yaml", "d.enc.yaml", ".yaml"])
def test_yaml_is_known_by_its_name(path: str) -> None:
    assert format_of(path) is Format.YAML


def test_json_is_known_by_its_name_and_so_are_dotenv_and_ini() -> None:
    assert format_of("dir.yaml/x.json") is Format.JSON
    assert format_of("config/x.env") is Format.DOTENV
    assert format_of("config/.env") is Format.DOTENV
    assert format_of("x.ini") is Format.INI
    for path in ("x", "yaml", "x.yaml/y", "x.pem"):
        assert format_of(path) is Format.BINARY


@pytest.mark.parametrize("path", ["A.JSON", "b.YML", "b.Yaml", "C.ENV", "x/D.Ini", ".Env", "E.yAML"])
def test_an_ending_in_capitals_names_no_format_as_in_sops(path: str) -> None:
    assert format_of(path) is Format.BINARY
    assert ending_in_capitals(path) == path[path.rindex(".") :]


@pytest.mark.parametrize("path", ["a.yaml", "A.json", "x.pem", "X.PEM", "YAML", "x.YAML/y", "x.JSON.enc", "x.", ""])
def test_other_names_have_no_ending_in_capitals(path: str) -> None:
    assert ending_in_capitals(path) is None
