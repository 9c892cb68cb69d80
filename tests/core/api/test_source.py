"""spec.source names files by path or by glob, and what of the repository is followed."""

from __future__ import annotations

from typing import Any

import pytest
from support.first_version import spec_of, with_value

from jiemi.core.api.decryptor import read_decryptor
from jiemi.core.api.source import SourceSpec
from jiemi.core.errors import Failure


@pytest.mark.parametrize("path", ["apps/*.yaml", "**", "a/**/b.yaml", "x*"])
def test_a_glob_as_the_one_file_is_sent_to_where_globs_belong(path: str) -> None:
    decryptor = read_decryptor(with_value("spec.source.fileToDecrypt", path))
    assert isinstance(decryptor.spec, Failure)
    assert decryptor.spec.text == (
        "must be the path of one file, not a glob @ spec.source.fileToDecrypt. Put the glob into spec.source.files."
    )


@pytest.mark.parametrize(
    ("field", "globs", "says"),
    [
        ("files", ["**/*.yaml", "!charts/**"], "files[1]. Put what is to be left out into spec.source.exclude"),
        ("exclude", ["*.md", "!keep.md"], "exclude[1]. Write globs that leave out no more"),
    ],
)
def test_a_glob_that_begins_as_git_turns_one_round_is_refused(field: str, globs: list[str], says: str) -> None:
    decryptor = read_decryptor(with_value(f"spec.source.{field}", globs))
    assert isinstance(decryptor.spec, Failure)
    assert decryptor.spec.reason == "InvalidSpec"
    assert says in decryptor.spec.text


def test_a_file_whose_name_begins_with_an_exclamation_mark_can_be_named() -> None:
    assert spec_of(read_decryptor(with_value("spec.source.files", ["!secret.yaml"]))).source.files == ("!secret.yaml",)


@pytest.mark.parametrize(
    ("source", "described"),
    [
        ({"fileToDecrypt": "a.yaml"}, "a.yaml"),
        ({"files": ["apps/**", "b.yaml"]}, "apps/**, b.yaml"),
        ({"fileToDecrypt": "a.yaml", "files": ["b.yaml"], "exclude": ["c"]}, "a.yaml, b.yaml"),
        ({"fileToDecrypt": None, "files": ["b.yaml"]}, "b.yaml"),
        ({"fileToDecrypt": "p" * 4096}, "p" * 4096),
        ({"files": ["g" * 1024] * 5}, ", ".join(["g" * 1024] * 5)[:4095] + "…"),
    ],
)
def test_files_are_named_by_path_or_by_glob_and_described_in_a_line(source: dict[str, Any], described: str) -> None:
    obj = with_value("spec.source", {"repository": {"url": "https://git.example/app.git"}, **source})
    found = spec_of(read_decryptor(obj)).source
    assert found.described == described
    assert isinstance(found, SourceSpec)
    assert (found.files, found.exclude) == (tuple(source.get("files", ())), tuple(source.get("exclude", ())))


@pytest.mark.parametrize("other", [{}, {"branch": "main"}, {"tag": "v1"}])
@pytest.mark.parametrize("commit", ["0123456789" * 4, "0123456789abcdef" * 4])
def test_a_commit_may_be_given_beside_what_is_followed_else(commit: str, other: dict[str, str]) -> None:
    ref = spec_of(
        read_decryptor(with_value("spec.source.repository.ref", {"commit": commit, **other}))
    ).source.repository.ref
    assert ref is not None
    assert (ref.commit, ref.branch, ref.tag) == (commit, other.get("branch"), other.get("tag"))
