"""Which files a Decryptor is about, which of them have to be looked into, and which are never rendered."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import trio.testing
from fakes.krapao import SOPS_PATH, Content, FakeKrapao, FakeOrigin, Plain
from hypothesis import given
from hypothesis import strategies as st
from support.miwen.world import FILE, URL, World, miwen, secret, settle

from jiemi.core.api.decryptor_status import FileStatus
from jiemi.core.api.fields import structure
from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.errors import Failure, JiemiError
from jiemi.miwen.reconcile.file_changes import Todo, require_some, source_of, todo, wanted_files
from jiemi.rpc.source import Source

CONFIGS: dict[str, Content] = {"conf/rules.yaml": [{"creation_rules": []}], "apps/.sops.yaml": [{"creation_rules": []}]}
FILES: dict[str, Content] = {
    path: [secret(path)] for path in ("b.enc.yaml", "apps/z.enc.yaml", "apps/a.enc.yaml", "apps/README.md")
}


def spec(source: dict[str, Any], ref: dict[str, str] | None = None, **more: Any) -> DecryptorSpec:
    repository = {"url": URL} | ({"ref": ref} if ref is not None else {})
    return structure(
        {
            "provider": {"age": {"privateKey": {"literal": "x"}}},
            "source": {"repository": repository, **source},
            **more,
        },
        DecryptorSpec,
        "spec",
    )


async def wanted(krapao: FakeKrapao, revision: str, **source: Any) -> tuple[FileStatus, ...]:
    found = spec(source)
    async with krapao.open(source_of(found), _NO_CREDENTIALS) as repository:
        return await wanted_files(repository, revision, found.source)


async def paths(krapao: FakeKrapao, revision: str, **source: Any) -> list[str]:
    return [file.path for file in await wanted(krapao, revision, **source)]


_NO_CREDENTIALS: Any = None


@pytest.fixture
def krapao() -> FakeKrapao:
    return FakeKrapao()


@pytest.fixture
def origin(krapao: FakeKrapao) -> FakeOrigin:
    return krapao.add_origin(URL)


# --- what is followed


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        (None, Source(URL)),
        ({}, Source(URL)),
        ({"branch": "main"}, Source(URL, branch="main")),
        ({"tag": "v1"}, Source(URL, tag="v1")),
        ({"commit": "a" * 40}, Source(URL, commit="a" * 40)),
        ({"commit": "a" * 40, "branch": "main"}, Source(URL, commit="a" * 40)),
        ({"commit": "a" * 64, "tag": "v1"}, Source(URL, commit="a" * 64)),
    ],
)
def test_a_commit_goes_before_what_is_followed(ref: dict[str, str] | None, expected: Source) -> None:
    assert source_of(spec({"fileToDecrypt": "f"}, ref)) == expected


# --- which files are wanted


async def test_files_are_those_that_are_named_and_those_that_globs_take_ordered_by_path(
    krapao: FakeKrapao, origin: FakeOrigin
) -> None:
    revision = origin.commit(FILES)
    assert await paths(krapao, revision, fileToDecrypt="b.enc.yaml") == ["b.enc.yaml"]
    assert await paths(krapao, revision, fileToDecrypt="b.enc.yaml", files=["apps/*.enc.yaml"]) == [
        "apps/a.enc.yaml",
        "apps/z.enc.yaml",
        "b.enc.yaml",
    ]
    assert await paths(krapao, revision, files=["**"], exclude=["*.md", "z.*"]) == ["apps/a.enc.yaml", "b.enc.yaml"]
    assert await paths(krapao, revision, files=["nothing/**"]) == []


@pytest.mark.parametrize(
    ("source", "field"),
    [
        ({"fileToDecrypt": "gone.yaml"}, "spec.source.fileToDecrypt"),
        ({"fileToDecrypt": "./gone.yaml", "files": ["*.yaml"]}, "spec.source.fileToDecrypt"),
        ({"files": ["b.enc.yaml", "apps/*", "gone.yaml"]}, "spec.source.files[2]"),
        ({"fileToDecrypt": "b.enc.yaml", "sopsPath": "conf/gone.yaml"}, "spec.source.sopsPath"),
        ({"files": ["apps"]}, "spec.source.files[0]"),
    ],
)
async def test_a_path_that_is_no_file_is_reported_with_the_field_that_names_it(
    krapao: FakeKrapao, origin: FakeOrigin, source: dict[str, Any], field: str
) -> None:
    revision = origin.commit(FILES)
    with pytest.raises(JiemiError) as caught:
        await wanted(krapao, revision, **source)
    assert caught.value.failure.message.startswith(f"{field}: ")


async def test_a_file_that_is_named_twice_is_asked_for_and_wanted_once(krapao: FakeKrapao, origin: FakeOrigin) -> None:
    revision = origin.commit(FILES)
    found = await paths(krapao, revision, fileToDecrypt="b.enc.yaml", files=["*.yaml", "b.enc.yaml", "*.yaml"])
    assert found == ["b.enc.yaml"]
    [request] = krapao.files_requests
    assert request.patterns == ("b.enc.yaml", "*.yaml")


async def test_a_file_is_known_by_the_hashes_of_its_content_and_of_its_config(
    krapao: FakeKrapao, origin: FakeOrigin
) -> None:
    first = origin.commit(FILES)
    old = {file.path: file for file in await wanted(krapao, first, files=["**"])}
    second = origin.commit({"apps/a.enc.yaml": [secret("changed")]})
    new = {file.path: file for file in await wanted(krapao, second, files=["**"])}
    assert {path for path in old if old[path] != new[path]} == {"apps/a.enc.yaml"}
    assert old["b.enc.yaml"].config == origin.config
    assert len({file.blob for file in old.values()}) == len(old)


async def test_a_config_is_no_manifest_whatever_glob_may_take_it(krapao: FakeKrapao, origin: FakeOrigin) -> None:
    revision = origin.commit({**FILES, **CONFIGS})
    found = await paths(krapao, revision, files=["**"], sopsPath=SOPS_PATH)
    assert found == ["apps/README.md", "apps/a.enc.yaml", "apps/z.enc.yaml", "b.enc.yaml", "conf/rules.yaml"]
    found = await paths(krapao, revision, files=["**"], sopsPath="conf/rules.yaml")
    assert found == ["apps/README.md", "apps/a.enc.yaml", "apps/z.enc.yaml", "b.enc.yaml"]
    assert await paths(krapao, revision, fileToDecrypt="b.enc.yaml", sopsPath="apps/.sops.yaml") == ["b.enc.yaml"]


async def test_a_config_that_is_named_as_a_file_is_one(krapao: FakeKrapao, origin: FakeOrigin) -> None:
    revision = origin.commit({**FILES, **CONFIGS})
    assert await paths(krapao, revision, fileToDecrypt="conf/rules.yaml", sopsPath="conf/rules.yaml") == [
        "conf/rules.yaml"
    ]
    assert await paths(krapao, revision, files=["apps/.sops.yaml"]) == ["apps/.sops.yaml"]


async def test_the_config_that_the_spec_names_is_the_config_of_every_file(
    krapao: FakeKrapao, origin: FakeOrigin
) -> None:
    first = origin.commit({**FILES, **CONFIGS})
    entry = origin.entry(first, "conf/rules.yaml")
    found = await wanted(krapao, first, files=["**"], sopsPath="conf/rules.yaml")
    assert {file.config for file in found} == {entry.blob} != {origin.config}
    # So another config means that every file is to be looked into again.
    second = origin.commit({"conf/rules.yaml": [{"creation_rules": [{"age": "age1"}]}]})
    changed = await wanted(krapao, second, files=["**"], sopsPath="conf/rules.yaml")
    assert not set(found) & set(changed)
    assert [file.blob for file in found] == [file.blob for file in changed]


async def test_paths_that_are_written_otherwise_are_the_same_paths(krapao: FakeKrapao, origin: FakeOrigin) -> None:
    revision = origin.commit({**FILES, **CONFIGS})
    plain = await wanted(krapao, revision, fileToDecrypt="apps/a.enc.yaml", sopsPath="conf/rules.yaml")
    assert await wanted(krapao, revision, fileToDecrypt="./apps//a.enc.yaml", sopsPath="./conf//rules.yaml") == plain
    around = await wanted(krapao, revision, fileToDecrypt="x/../apps/a.enc.yaml", sopsPath="conf/y/../rules.yaml")
    assert around == plain
    named = await wanted(krapao, revision, fileToDecrypt="./apps/.sops.yaml", files=["./b.enc.yaml"])
    assert [file.path for file in named] == ["apps/.sops.yaml", "b.enc.yaml"]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ({"fileToDecrypt": "missing.yaml"}, "FileNotFound"),
        ({"files": ["*.yaml", "missing.yaml"]}, "FileNotFound"),
        ({"fileToDecrypt": "b.enc.yaml", "sopsPath": "missing/.sops.yaml"}, "FileNotFound"),
        ({"files": ["apps"]}, "NotAFile"),
    ],
)
async def test_what_is_named_must_be_there(
    krapao: FakeKrapao, origin: FakeOrigin, source: dict[str, Any], reason: str
) -> None:
    revision = origin.commit(FILES)
    with pytest.raises(JiemiError) as caught:
        await wanted(krapao, revision, **source)
    assert caught.value.failure.reason == reason


# --- what there is to do


A1, A2 = FileStatus("a", "1"), FileStatus("a", "2")
B1, B2 = FileStatus("b", "1"), FileStatus("b", "1", "config")
BROKEN = Failure("MacMismatch", "a was changed")


def work(*files: FileStatus, deployed: tuple[FileStatus, ...] = (), **more: Any) -> Todo:
    options: dict[str, Any] = {"render_all": False, "failed": {}}
    return todo(files, deployed, **(options | more))


def test_files_that_are_deployed_as_they_are_need_nothing() -> None:
    found = work(A1, B1, deployed=(B1, A1))
    assert (found.files, found.render, found.removed_paths, found.failed) == ((A1, B1), (), frozenset(), {})
    assert found.nothing
    assert found.kept == {"a", "b"}


def test_files_that_are_new_or_changed_or_have_another_config_are_rendered() -> None:
    assert work(A1, B1).render == (A1, B1)
    assert work(A2, B1, deployed=(A1, B1)).render == (A2,)
    found = work(A1, B2, deployed=(A1, B1))
    assert (found.render, set(found.removed_paths), set(found.kept)) == ((B2,), set(), {"a"})
    assert not found.nothing


def test_files_that_are_deployed_and_no_longer_wanted_are_left() -> None:
    found = work(A1, deployed=(A1, B1))
    assert (found.render, set(found.removed_paths), set(found.kept)) == ((), {"b"}, {"a"})
    assert not found.nothing
    assert work(deployed=(A1,)).removed_paths == {"a"}


def test_everything_is_done_though_it_has_not_changed() -> None:
    found = work(A1, B1, deployed=(A1, B1), render_all=True)
    assert (found.render, found.render_all, set(found.kept)) == ((A1, B1), True, set())


def test_what_is_known_to_fail_is_not_tried_again_until_it_changes() -> None:
    known = {A1: BROKEN}
    found = work(A1, B1, deployed=(B1,), failed=known)
    assert (found.render, found.failed, set(found.kept)) == ((), {"a": BROKEN}, {"b"})
    assert not found.nothing  # it is told of all the same
    changed = work(A2, B1, deployed=(B1,), failed=known)
    assert (changed.render, changed.failed) == ((A2,), {})
    # One that is deployed so has not failed.
    assert work(A1, deployed=(A1,), failed=known).nothing


def test_who_does_everything_believes_no_failure() -> None:
    found = work(A1, B1, deployed=(B1,), render_all=True, failed={A1: BROKEN})
    assert (found.render, found.failed) == ((A1, B1), {})


_FILES = st.lists(
    st.builds(FileStatus, st.sampled_from("abcd"), st.sampled_from("12"), st.sampled_from(["x", None])),
    unique_by=lambda file: file.path,
).map(tuple)


@given(_FILES, _FILES, st.booleans(), _FILES)
def test_each_file_is_rendered_kept_failed_or_left_and_never_two_of_these(
    files: tuple[FileStatus, ...],
    deployed: tuple[FileStatus, ...],
    everything: bool,
    failed: tuple[FileStatus, ...],
) -> None:
    found = work(*files, deployed=deployed, render_all=everything, failed=dict.fromkeys(failed, BROKEN))
    parts = [{file.path for file in found.render}, set(found.kept), set(found.failed), set(found.removed_paths)]
    assert set.union(*parts) == {file.path for file in (*files, *deployed)}
    assert not any(one & other for one, other in itertools.combinations(parts, 2))
    assert found.removed_paths == {file.path for file in deployed} - {file.path for file in files}
    assert everything or not set(found.render) & set(failed)
    assert set(found.failed.values()) <= {BROKEN}
    for file in files:
        assert (file.path in found.kept) is (file in deployed and not everything)
    assert found.nothing is (not found.removed_paths and {file.path for file in files} == found.kept)


def test_no_file_at_all_is_refused_unless_it_is_meant() -> None:
    source = {"files": ["none/**"]}
    with pytest.raises(JiemiError, match=r"NothingToApply: spec\.source\.files matches no file"):
        require_some(work(), spec(source))
    with pytest.raises(JiemiError, match="NothingToApply"):
        require_some(work(deployed=(A1,)), spec(source))
    require_some(work(), spec(source, allowEmpty=True))
    require_some(work(A1), spec(source))
    require_some(work(A1, deployed=(A1,)), spec(source))


# --- what comes of it


async def test_a_file_to_decrypt_must_be_encrypted_however_its_path_is_written(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.origin.commit({FILE: Plain([secret(greeting="in the clear")])})
    world.add(source={"repository": {"url": URL}, "fileToDecrypt": f"./{FILE}"})
    async with miwen(world):
        await settle()
        assert world.reason() == "NotEncrypted"
    assert world.data() is None


async def test_the_keys_of_a_file_that_breaks_stay_in_the_secret_that_it_shares(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.origin.commit({"one.env": [{"ONE": "1"}], "two.env": [{"TWO": "2"}]})
    world.add(source={"repository": {"url": URL}, "files": ["*.env"]}, target={"name": "app"})
    async with miwen(world):
        await settle()
        assert world.data() == {"ONE": "1", "TWO": "2"}
        world.origin.commit({"one.env": Failure("MacMismatch", "one.env was changed"), "two.env": [{"TWO": "3"}]})
        await trio.sleep(400)
        assert world.reason() == "MacMismatch"
        data = world.data()
        assert data is not None
        assert data["ONE"] == "1"  # the last good value
