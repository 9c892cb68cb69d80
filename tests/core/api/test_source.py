"""spec.source names files by path or by glob, and what of the repository is followed."""

from __future__ import annotations

from typing import Any

import pytest
from support.first_version import spec_of, with_value

from jiemi.core.api.decryptor import read_decryptor
from jiemi.core.api.source import SourceSpec
from jiemi.core.errors import Failure


@pytest.mark.parametrize("path", ["apps/*.yaml", "**", "a/**/b.yaml", "x*"])
def test_a_glob_in_file_to_decrypt_is_refused_with_a_pointer_to_files(path: str) -> None:
    decryptor = read_decryptor(with_value("spec.source.fileToDecrypt", path))
    assert isinstance(decryptor.spec, Failure)
    assert decryptor.spec.text == (
        "must be the path of one file, not a glob @ spec.source.fileToDecrypt. Put the glob into spec.source.files."
    )


@pytest.mark.parametrize(
    ("field", "globs", "says"),
    [
        ("files", ["**/*.yaml", "!charts/**"], "files[1]. Put globs of files to leave out into spec.source.exclude"),
        ("exclude", ["*.md", "!keep.md"], "exclude[1]. Write globs that exclude only"),
    ],
)
def test_a_glob_that_begins_with_an_exclamation_mark_is_refused(field: str, globs: list[str], says: str) -> None:
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
def test_files_are_given_by_path_or_glob_and_described_in_one_line(source: dict[str, Any], described: str) -> None:
    obj = with_value("spec.source", {"repository": {"url": "https://git.example/app.git"}, **source})
    found = spec_of(read_decryptor(obj)).source
    assert found.described == described
    assert isinstance(found, SourceSpec)
    assert (found.files, found.exclude) == (tuple(source.get("files", ())), tuple(source.get("exclude", ())))


@pytest.mark.parametrize("other", [{}, {"branch": "main"}, {"tag": "v1"}])
@pytest.mark.parametrize("commit", ["0123456789" * 4, "0123456789abcdef" * 4])
def test_a_commit_may_be_given_beside_a_branch_or_tag(commit: str, other: dict[str, str]) -> None:
    ref = spec_of(
        read_decryptor(with_value("spec.source.repository.ref", {"commit": commit, **other}))
    ).source.repository.ref
    assert ref is not None
    assert (ref.commit, ref.branch, ref.tag) == (commit, other.get("branch"), other.get("tag"))


KEYS = {"provider": "ssh", "secretName": "signers"}
TAG_WANTED = "verify.mode is for a tag: name one by ref.tag, ref.semver or ref.name (refs/tags/…), without ref.commit"


@pytest.mark.parametrize(
    ("verify", "ref", "says"),
    [
        ({}, None, None),
        ({"mode": "Commit"}, {"branch": "main"}, None),
        ({"mode": "Tag"}, {"tag": "v1"}, None),
        ({"mode": "TagAndCommit"}, {"semver": "1.x"}, None),
        ({"mode": "Tag"}, {"name": "refs/tags/v1"}, None),
        ({"minimumSigners": 2, "historyCommits": 500, "authors": ["*@example.com"]}, None, None),
        ({"mode": "Tag"}, None, TAG_WANTED),
        ({"mode": "Tag"}, {"branch": "main"}, TAG_WANTED),
        ({"mode": "Tag"}, {"name": "refs/pull/1/head"}, TAG_WANTED),
        ({"mode": "TagAndCommit"}, {"tag": "v1", "commit": "a" * 40}, TAG_WANTED),
        ({"mode": "HEAD"}, None, "must be Commit, Tag or TagAndCommit @ spec.source.repository.verify.mode"),
        ({"provider": "gpg"}, None, "must be pgp or ssh @ spec.source.repository.verify.provider"),
        ({"secretName": None}, None, "must be a string @ spec.source.repository.verify.secretName"),
        ({"signers": []}, None, "must not be empty @ spec.source.repository.verify.signers"),
        ({"authors": []}, None, "must not be empty @ spec.source.repository.verify.authors"),
        ({"minimumSigners": 0}, None, "must be 1 to 10 @ spec.source.repository.verify.minimumSigners"),
        ({"minimumSigners": 2, "historyCommits": 1_001}, None, "must be 1 to 1000 @"),
        ({"historyCommits": 10}, None, "historyCommits is for minimumSigners: give that too @"),
    ],
)
def test_what_must_be_signed_is_read_and_what_contradicts_itself_is_named(
    verify: dict[str, Any], ref: dict[str, str] | None, says: str | None
) -> None:
    repository = {"url": "https://git.example/app.git", "verify": {**KEYS, **verify}} | ({"ref": ref} if ref else {})
    spec = read_decryptor(with_value("spec.source.repository", repository)).spec
    if says is None:
        assert not isinstance(spec, Failure)
    else:
        assert isinstance(spec, Failure)
        assert says in spec.message
