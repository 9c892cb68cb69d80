"""Whichever object of a revision is not here, it is found out; and what is here is not looked through twice."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from dulwich.object_format import SHA1
from dulwich.objects import ObjectID
from support.krapao.work_tree import Work

from jiemi.krapao.git import completeness
from jiemi.krapao.git.completeness import missing_object
from jiemi.krapao.git.pack_store import PackStore, open_packs
from jiemi.krapao.git.revision import tree_of

FILES: dict[str, bytes | str] = {"a.yaml": "a", "deep/down/b.yaml": "b", "deep/c.yaml": "c", "same/a.yaml": "a"}


def never() -> None:
    pass


def objects_of(work: Work, *revisions: str) -> list[str]:
    return [line.split()[0] for line in work.git("rev-list", "--objects", *revisions).splitlines()]


def store(work: Work, folder: Path, names: list[str]) -> Path:
    """A folder of packs with these objects alone."""
    (folder / "pack").mkdir(parents=True, exist_ok=True)
    run = ["git", "pack-objects", "--quiet", str(folder / "pack" / "pack")]
    subprocess.run(run, cwd=work.path, input="\n".join(names).encode(), check=True, capture_output=True)
    return folder


def missing(path: Path, after: str, before: str | None = None, arrived: frozenset[bytes] = frozenset()) -> str | None:
    with open_packs(path, object_format=SHA1) as objects:
        tree = tree_of(objects, after)
        assert tree is not None
        return missing_object(objects, tree, before and tree_of(objects, before), arrived=arrived, check=never)


@pytest.fixture(params=[1_000, 0], ids=["lookups", "names"])
def lookups(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completeness, "_MAX_LOOKUPS", request.param)


@pytest.mark.usefixtures("lookups")
def test_each_object_that_a_revision_refers_to_is_missed(work: Work, tmp_path: Path) -> None:
    (work.path / "link").symlink_to("a.yaml")
    revision = work.commit(FILES)
    names = objects_of(work, revision)
    assert len(names) == 9
    assert missing(store(work, tmp_path / "whole", names), revision) is None
    for number, name in enumerate(names):
        if name not in (revision, work.git("rev-parse", f"{revision}^{{tree}}")):
            path = store(work, tmp_path / str(number), [each for each in names if each != name])
            assert missing(path, revision) == name
            assert missing(path, revision, revision) is None  # it was looked through before


@pytest.mark.usefixtures("lookups")
def test_of_a_push_what_is_new_is_missed_and_what_was_here_is_not_looked_at(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = work.commit(FILES)
    path = store(work, tmp_path / "clone", objects_of(work, first))
    work.git("mv", "deep", "moved")
    second = work.commit({"moved/new/d.yaml": "d"})
    new = [name for name in objects_of(work, f"{first}..{second}") if name != first]
    file = work.git("rev-parse", f"{second}:moved/new/d.yaml")
    store(work, path, [name for name in new if name != file])
    assert missing(path, second, first) == file
    store(work, path, [file])
    looked_at: list[bytes] = []
    get_raw = PackStore.get_raw

    def record(self: PackStore, name: ObjectID) -> tuple[int, bytes]:
        looked_at.append(name)
        return get_raw(self, name)

    monkeypatch.setattr(PackStore, "get_raw", record)
    assert missing(path, second, first) is None
    assert work.git("rev-parse", f"{second}:same").encode() not in looked_at


def test_submodules_and_folders_that_git_can_not_read_are_nobodys_loss(work: Work, tmp_path: Path) -> None:
    work.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},sub")
    work.git("commit", "--quiet", "-m", "x")
    revision = work.git("rev-parse", "HEAD")
    assert missing(store(work, tmp_path / "clone", objects_of(work, revision)), revision) is None


def test_beyond_a_bound_of_folders_the_host_is_believed(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = work.commit(FILES)
    names = objects_of(work, revision)
    file = work.git("rev-parse", f"{revision}:deep/down/b.yaml")
    path = store(work, tmp_path / "clone", [name for name in names if name != file])
    assert missing(path, revision) == file
    monkeypatch.setattr(completeness, "MAX_TREE_BYTES", 50)
    assert missing(path, revision) is None


def test_with_more_objects_than_there_is_memory_for_the_host_is_believed(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = work.commit(FILES)
    file = work.git("rev-parse", f"{revision}:a.yaml")
    path = store(work, tmp_path / "clone", [name for name in objects_of(work, revision) if name != file])
    monkeypatch.setattr(completeness, "_MAX_LOOKUPS", 0)
    assert missing(path, revision) == file
    monkeypatch.setattr(completeness, "_MAX_NAMES", 3)
    assert missing(path, revision) is None


def test_where_the_earlier_revision_is_not_whole_nothing_is_taken_from_it(work: Work, tmp_path: Path) -> None:
    first = work.commit(FILES)
    folder = work.git("rev-parse", f"{first}:deep")
    path = store(work, tmp_path / "clone", [name for name in objects_of(work, first) if name != folder])
    second = work.commit({"deep/new.yaml": "n"})
    store(work, path, [name for name in objects_of(work, second) if name not in objects_of(work, first)])
    assert missing(path, second, first) is None
    assert missing(path, first) == folder


def test_a_call_that_is_cancelled_ends(work: Work, tmp_path: Path) -> None:
    revision = work.commit(FILES)

    def cancelled() -> None:
        raise InterruptedError

    check: Callable[[], None] = cancelled
    with open_packs(store(work, tmp_path / "clone", objects_of(work, revision)), object_format=SHA1) as objects:
        tree = tree_of(objects, revision)
        assert tree is not None
        with pytest.raises(InterruptedError):
            missing_object(objects, tree, None, arrived=frozenset(), check=check)


def test_what_came_is_not_looked_up(work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    revision = work.commit(FILES)
    names = objects_of(work, revision)
    path = store(work, tmp_path / "whole", names)
    looked_up: list[str] = []
    has = PackStore.has

    def counted(self: PackStore, sha: str) -> bool:
        looked_up.append(sha)
        return has(self, sha)

    monkeypatch.setattr(PackStore, "has", counted)
    assert missing(path, revision, arrived=frozenset(map(bytes.fromhex, names))) is None
    assert looked_up == []
    files = {work.git("rev-parse", f"{revision}:{name}") for name in FILES}
    assert missing(path, revision) is None
    assert set(looked_up) == files
