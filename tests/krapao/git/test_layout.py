"""State folders that another release left: older ones are migrated or cloned again, newer ones are set aside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import structlog
import trio
from support.krapao.work_tree import Work

from jiemi.concurrency.calls import Interrupter
from jiemi.demo.git_server import Asked, GitServer
from jiemi.krapao.git.layout import LAYOUT, prepare, remove_set_aside, repositories
from jiemi.krapao.git.store import Store
from jiemi.krapao.service import open_service
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.contract import FilesRequest
from jiemi.rpc.source import GitCredentials, Source


def a_store(state: Path, layout: str | None) -> Path:
    """A state folder with a file among its clones."""
    clone = repositories(state) / "clone"
    clone.mkdir(parents=True)
    (clone / "content").write_text(f"of {layout}")
    if layout is not None:
        (state / "layout").write_text(layout)
    return clone / "content"


def layout_of(state: Path) -> str:
    return (state / "layout").read_text()


def swept(state: Path) -> list[str]:
    """What is left once the store has looked at its volume."""
    Store(repositories(state), 10**9, 10**9, lambda _: None).read(Interrupter())
    return sorted(path.relative_to(state).as_posix() for path in state.rglob("*") if path.is_file())


def test_a_new_folder_gets_this_releases_number(tmp_path: Path) -> None:
    prepare(tmp_path)
    assert layout_of(tmp_path) == f"{LAYOUT}\n"
    assert swept(tmp_path) == ["layout"]


@pytest.mark.parametrize("layout", [None, "1\n", "1"])
def test_clones_of_this_layout_stay_and_so_do_those_of_releases_before_there_was_a_number(
    tmp_path: Path, layout: str | None
) -> None:
    content = a_store(tmp_path, layout)
    prepare(tmp_path, layout=1)
    assert content.read_text() == f"of {layout}"
    assert layout_of(tmp_path).strip() == "1"


def _appends(text: str) -> Callable[[Path], None]:
    def migrate(clones: Path) -> None:
        path = clones / "clone" / "content"
        path.write_text(path.read_text() + text)

    return migrate


def test_an_older_layout_is_migrated_step_by_step(tmp_path: Path) -> None:
    content = a_store(tmp_path, "1\n")
    prepare(tmp_path, layout=3, migrations={1: _appends(", migrated"), 2: _appends(" twice")})
    assert content.read_text() == "of 1\n, migrated twice"
    assert layout_of(tmp_path) == "3\n"


def test_a_migration_that_was_cut_off_begins_again_and_those_before_it_do_not(tmp_path: Path) -> None:
    a_store(tmp_path, "1\n")
    tries: list[int] = []

    def migrate(clones: Path) -> None:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("the power went")

    content = tmp_path / "repositories" / "clone" / "content"
    steps = {1: _appends(", once"), 2: migrate}
    with pytest.raises(OSError, match="the power went"):
        prepare(tmp_path, layout=3, migrations=steps)
    assert layout_of(tmp_path) == "2\n"
    prepare(tmp_path, layout=3, migrations=steps)
    assert layout_of(tmp_path) == "3\n"
    assert content.read_text() == "of 1\n, once"
    assert len(tries) == 2


@pytest.mark.parametrize("layout", [None, "1\n"])
def test_an_older_layout_that_nobody_can_migrate_is_removed(tmp_path: Path, layout: str | None) -> None:
    a_store(tmp_path, layout)
    with structlog.testing.capture_logs() as logs:
        prepare(tmp_path, layout=3, migrations={2: _appends("")})
    assert [(each["event"], each["layout"], each["known_layout"]) for each in logs] == [("older_store_removed", 1, 3)]
    assert layout_of(tmp_path) == "3\n"
    assert not (repositories(tmp_path) / "clone").exists()
    assert swept(tmp_path) == ["layout"]


@pytest.mark.parametrize(
    ("layout", "name"),
    [("2\n", "set-aside-2"), ("17\n", "set-aside-17"), ("", "set-aside-unknown"), ("one\n", "set-aside-unknown")],
)
def test_a_newer_layout_is_set_aside_as_it_is_and_reported(tmp_path: Path, layout: str, name: str) -> None:
    a_store(tmp_path, layout)
    with structlog.testing.capture_logs() as logs:
        prepare(tmp_path, layout=1)
    [line] = logs
    assert line["event"] == "newer_store_set_aside"
    assert line["folder"] == str(tmp_path / name)
    assert layout_of(tmp_path) == "1\n"
    assert swept(tmp_path) == ["layout", f"{name}/clone/content"]
    assert (tmp_path / name / "clone" / "content").read_text() == f"of {layout}"


def test_going_back_twice_keeps_the_newest_of_what_was_set_aside(tmp_path: Path) -> None:
    for content in ("first", "second"):
        a_store(tmp_path, "2\n").write_text(content)
        prepare(tmp_path, layout=1)
    assert swept(tmp_path) == ["layout", "set-aside-2/clone/content"]
    assert (tmp_path / "set-aside-2" / "clone" / "content").read_text() == "second"


def test_a_release_that_knows_the_layout_removes_what_was_set_aside(tmp_path: Path) -> None:
    a_store(tmp_path, "2\n")
    prepare(tmp_path, layout=1)
    kept = a_store(tmp_path, "1\n")
    prepare(tmp_path, layout=2, migrations={1: _appends("")})
    assert swept(tmp_path) == ["layout", "repositories/clone/content"]
    assert kept.exists()


def test_what_was_set_aside_goes_first_when_the_volume_is_full(tmp_path: Path) -> None:
    a_store(tmp_path, "2\n")
    prepare(tmp_path, layout=1)
    store = Store(repositories(tmp_path), 10**9, 10**9, lambda _: None, lambda: remove_set_aside(tmp_path))
    kept = a_store(tmp_path, None)
    store.read(Interrupter())
    assert store.free("another", (), 0)
    assert kept.exists(), "and nothing else, where that is enough"
    assert not (tmp_path / "set-aside-2").exists()


def test_a_process_that_ended_at_any_moment_leaves_what_the_next_one_can_use(tmp_path: Path) -> None:
    for moment in range(5):
        state = tmp_path / str(moment)
        a_store(state, "2\n")
        if moment >= 1:  # the clones were set aside
            repositories(state).rename(state / "set-aside-2")
        if moment >= 2:  # beside what was hidden before
            (state / "removed-layout-1").mkdir()
        if moment >= 3:  # and half of the number written
            (state / "layout.new").write_text("")
        if moment >= 4:  # and the whole
            (state / "layout").write_text("1\n")
            (state / "layout.new").unlink()
        for _ in range(2):
            prepare(state, layout=1)
            assert layout_of(state) == "1\n"
            assert swept(state) == ["layout", "set-aside-2/clone/content"], moment
        assert not list(state.rglob("removed-*"))


@pytest.mark.parametrize("layout", ["0\n", "2\n", "\x00\xff"])
async def test_krapao_clones_again_and_serves_on_a_store_that_it_does_not_know(
    git_server: GitServer, repository: Path, work: Work, settings: KrapaoSettings, layout: str
) -> None:
    revision = work.commit({"a.yaml": b"a: b\n"})
    work.push(repository)
    source = Source(git_server.url_of("r.git"))

    async def look() -> None:
        with trio.fail_after(30):
            async with open_service(settings) as krapao, krapao.open(source, GitCredentials()) as opened:
                head = await opened.head(max_age_seconds=0)
                files = await opened.files(FilesRequest(head.revision, ("a.yaml",)))
        assert head.revision == revision
        assert [entry.path for entry in files.entries] == ["a.yaml"]

    await look()
    assert git_server.count(Asked.FETCH) == 1
    # Another layout: the same names with something else in them.
    for pack in repositories(settings.state_dir).rglob("*.pack"):
        pack.chmod(0o600)
        pack.write_bytes(b"not a pack of this layout")
    (settings.state_dir / "layout").write_bytes(layout.encode("latin-1"))
    await look()
    assert git_server.count(Asked.FETCH) == 2
    assert layout_of(settings.state_dir) == f"{LAYOUT}\n"
    aside = [path.name for path in settings.state_dir.glob("set-aside-*")]
    assert aside == {"0\n": [], "2\n": ["set-aside-2"]}.get(layout, ["set-aside-unknown"])
    # And what was cloned is used from then on.
    await look()
    assert git_server.count(Asked.FETCH) == 2
