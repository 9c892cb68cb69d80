"""Files in submodules: made by the real `git submodule`, over a real git server, decrypted by the real sops."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import structlog
from support.krapao.age_files import AgePair, Encrypter
from support.krapao.work_tree import Work

from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.core.trace_context import TraceContext
from jiemi.demo.git_server import Asked, GitServer, serve_git
from jiemi.krapao.followed_submodules import MAX_DEPTH, MAX_SUBMODULES
from jiemi.krapao.service import open_service
from jiemi.krapao.settings import KrapaoSettings
from jiemi.krapao.traced import TracedKrapao
from jiemi.krapao.worker import Worker
from jiemi.rpc.contract import FilesRequest, Krapao, RenderRequest
from jiemi.rpc.keys import AgeKey
from jiemi.rpc.source import GitCredentials, Source, Submodules
from jiemi.tracing.current import add_trace, current, in_trace
from jiemi.tracing.spans import Span, Tracer

NOBODY = GitCredentials()
TOKEN = "canary-5b1c"
ANN = GitCredentials(username=SensitiveText("ann"), token=SensitiveText(TOKEN))
FOLLOWED = Submodules()
SECRET = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\nstringData:\n  password: {}\n"


@pytest.fixture
async def krapao(settings: KrapaoSettings, sops_path: Path) -> AsyncIterator[Krapao]:
    async with open_service(attrs.evolve(settings, sops=sops_path)) as service:
        yield service


class Lab:
    """An application's repository, and others that are submodules of it."""

    def __init__(self, server: GitServer, folder: Path) -> None:
        self.server, self.folder = server, folder

    def repository(self, name: str, files: dict[str, bytes | str]) -> tuple[Work, str]:
        """A repository with files, pushed; returns its work tree and its revision."""
        self.server.create(f"{name}.git")
        work = Work(self.folder / f"work-{name}")
        revision = work.commit(files)
        work.push(self.server.root / f"{name}.git")
        return work, revision

    def add(self, work: Work, name: str, path: str, url: str | None = None) -> str:
        """Make one repository a submodule of another, and push that; returns the other's revision.

        Args:
            url: that .gitmodules gets; None for a relative one.
        """
        work.git("submodule", "add", "--quiet", str(self.server.root / f"{name}.git"), path)
        work.git("config", "--file", ".gitmodules", f"submodule.{path}.url", url or f"../{name}.git")
        return self.push(work)

    def push(self, work: Work) -> str:
        revision = work.commit({})
        work.push(self.server.root / f"{work.path.name.removeprefix('work-')}.git")
        return revision

    async def files(
        self,
        krapao: Krapao,
        patterns: tuple[str, ...],
        exclude: tuple[str, ...] = (),
        *,
        submodules: Submodules | None = FOLLOWED,
        credentials: GitCredentials = NOBODY,
    ) -> list[str]:
        source = Source(self.server.url_of("app.git"), submodules=submodules)
        async with krapao.open(source, credentials) as repository:
            head = await repository.head(max_age_seconds=0)
            found = await repository.files(FilesRequest(head.revision, patterns, exclude))
            return [entry.path for entry in found.entries]

    async def fails(self, krapao: Krapao, patterns: tuple[str, ...] = ("**",), **more: object) -> JiemiError:
        with pytest.raises(JiemiError) as caught:
            await self.files(krapao, patterns, **more)  # type: ignore[arg-type]
        return caught.value


@pytest.fixture
def lab(git_server: GitServer, tmp_path: Path) -> Lab:
    return Lab(git_server, tmp_path)


async def test_files_in_submodules_are_listed_and_decrypted_as_if_they_were_in_the_repository(
    lab: Lab, krapao: Krapao, encrypt: Encrypter, age_pair: AgePair
) -> None:
    sealed = encrypt(SECRET.format("deep"), "--age", age_pair.public)
    rules = f"creation_rules:\n- age: {age_pair.public}\n"
    lab.repository("inner", {"deep/s.yaml": sealed, "deep/readme.md": "x"})
    shared, _ = lab.repository("shared", {"a.yaml": sealed, ".sops.yaml": rules, "charts/b.yaml": "b: 1\n"})
    lab.add(shared, "inner", "vendor/inner")
    app, _ = lab.repository("app", {"own.yaml": sealed, "apps/.sops.yaml": rules})
    lab.add(app, "shared", "apps/shared")
    every = ["apps/shared/a.yaml", "apps/shared/charts/b.yaml", "apps/shared/vendor/inner/deep/s.yaml", "own.yaml"]
    assert await lab.files(krapao, ("**/*.yaml",)) == every
    assert await lab.files(krapao, ("apps/*/a.yaml", "apps/shared/vendor/inner/deep/s.yaml")) == [every[0], every[2]]
    assert await lab.files(krapao, ("**/*.yaml",), ("vendor/",)) == [every[0], every[1], every[3]]
    assert await lab.files(krapao, ("**/*.yaml",), ("apps/shared",)) == [every[3]]
    assert await lab.files(krapao, ("**/*.yaml",), submodules=None) == [every[3]]
    key = (AgeKey(SensitiveText(age_pair.private)),)
    async with krapao.open(Source(lab.server.url_of("app.git"), submodules=FOLLOWED), NOBODY) as repository:
        head = await repository.head(max_age_seconds=0)
        found = await repository.files(FilesRequest(head.revision, ("**/*.yaml",)))
        # A .sops.yaml counts for what is below it, in submodules too: that of the submodule itself is nearer.
        configs = {entry.path: entry.config for entry in found.entries}
        assert configs["own.yaml"] is None
        assert configs[every[0]] == configs[every[2]] == shared.git("rev-parse", "HEAD:.sops.yaml")
        lab.server.forget_hits()
        for path in (every[0], every[2], every[3]):
            rendered = await repository.render(RenderRequest(head.revision, path, None, key))
            [document] = rendered.documents
            assert json.loads(document.reveal())["stringData"]["password"] == "deep"
            assert rendered.encryption is not None
        # The hosts were asked by the listing of files already.
        assert lab.server.hits == []


async def test_what_is_done_in_a_submodule_has_the_trace_of_the_call_and_its_worker_has_none(
    lab: Lab, krapao: Krapao, monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[TraceContext | None] = []

    def noting(*arguments: Any) -> Worker:
        began.append(current())
        return Worker(*arguments)

    monkeypatch.setattr("jiemi.krapao.repositories.Worker", noting)
    lab.repository("shared", {"a.yaml": "a: 1\n"})
    app, _ = lab.repository("app", {"x": "x"})
    revision = lab.add(app, "shared", "sub")
    trace = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", sampled=True)
    spans: list[Span] = []
    traced = TracedKrapao(krapao, Tracer(spans.append))
    async with traced.open(Source(lab.server.url_of("app.git"), submodules=FOLLOWED), NOBODY) as repository:
        await repository.head(max_age_seconds=0)
        with structlog.testing.capture_logs(processors=[add_trace]) as lines, in_trace(trace):
            await repository.files(FilesRequest(revision, ("sub/*.yaml",)))
    assert began == [None, None], "of the repository and of the submodule"
    of_shared = [each for each in lines if str(each.get("repository", "")).endswith("shared.git")]
    assert {each["event"] for each in of_shared} >= {"listed", "clone"}
    assert {each.get("trace_id") for each in lines} == {trace.trace_id}
    by_id = {each.context.span_id: each for each in spans}
    [files] = [each for each in spans if each.name == "krapao.files"]
    for name in ("listing", "fetch"):
        assert all(by_id[each.parent or ""] is files for each in spans if each.name == name)
    assert [each.name for each in spans].count("fetch") == 2


async def test_a_commit_that_moves_a_submodule_is_seen_and_its_files_with_it(lab: Lab, krapao: Krapao) -> None:
    shared, _ = lab.repository("shared", {"a.yaml": "a: 1\n"})
    app, _ = lab.repository("app", {"x": "x"})
    before = lab.add(app, "shared", "sub")
    async with krapao.open(Source(lab.server.url_of("app.git"), submodules=FOLLOWED), NOBODY) as repository:
        await repository.head(max_age_seconds=0)
        first = await repository.files(FilesRequest(before, ("sub/*.yaml",)))
        assert [entry.path for entry in first.entries] == ["sub/a.yaml"]
        assert not first.direct
        shared.commit({"b.yaml": "b: 1\n"})
        shared.push(lab.server.root / "shared.git")
        app.git("-C", "sub", "pull", "--quiet", str(lab.server.root / "shared.git"), "main")
        after = lab.push(app)
        assert (await repository.head(max_age_seconds=0)).revision == after
        second = await repository.files(FilesRequest(after, ("sub/*.yaml",)))
        assert [entry.path for entry in second.entries] == ["sub/a.yaml", "sub/b.yaml"]
        changes = await repository.changes(before, after)
        assert "sub/" in changes.folders


async def test_what_is_in_a_submodule_without_following_names_the_field(lab: Lab, krapao: Krapao) -> None:
    lab.repository("shared", {"a.yaml": "a: 1\n"})
    app, _ = lab.repository("app", {"x": "x"})
    lab.add(app, "shared", "sub")
    error = await lab.fails(krapao, ("sub/a.yaml",), submodules=None)
    assert error.failure.reason == "FileNotFound"
    assert "sub is a submodule" in error.failure.text
    assert "spec.source.repository.submodules" in error.failure.text
    assert "spec.source.repository.submodules" in (await lab.fails(krapao, ("sub",), submodules=None)).failure.text
    error = await lab.fails(krapao, ("sub/gone.yaml",))
    assert error.failure.reason == "FileNotFound"
    assert "submodule sub" in error.failure.message
    assert "gone.yaml" in error.failure.message
    error = await lab.fails(krapao, ("sub",))
    assert "sub/**" in error.failure.text


async def test_credentials_go_to_their_own_host_and_nowhere_else(tmp_path: Path, krapao: Krapao, lab: Lab) -> None:
    root = tmp_path / "private"
    root.mkdir()
    async with serve_git(root, username="ann", token=SensitiveText(TOKEN)) as private:
        own = Lab(private, tmp_path / "own")
        own.folder.mkdir()
        own.repository("shared", {"a.yaml": "a: 1\n"})
        app, _ = own.repository("app", {"x": "x"})
        own.add(app, "shared", "relative")
        assert await own.files(krapao, ("*/a.yaml",), credentials=ANN) == ["relative/a.yaml"]
        # The same server under another name is another host.
        elsewhere = private.url_of("shared.git").replace("127.0.0.1", "localhost")
        own.add(app, "shared", "absolute", elsewhere)
        error = await own.fails(krapao, ("*/a.yaml",), credentials=ANN)
        assert error.failure.reason == "SubmoduleNotAllowed"
        assert "submodule absolute is on localhost" in error.failure.message
        private.forget_hits()
        error = await own.fails(krapao, ("*/a.yaml",), credentials=ANN, submodules=Submodules(("localhost",)))
        assert error.failure.reason in ("RepositoryAccessDenied", "RepositoryNotFound")
        assert "submodule absolute" in error.failure.message
        assert f"only to {private.url.removesuffix('/')}" in error.failure.text
        assert TOKEN not in str(error)
        refused = [hit for hit in private.hits if hit.status == 401]
        assert refused, "the host that is no longer the same was asked without credentials"
        # A public one on a host that is named needs none.
        lab.repository("shared", {"a.yaml": "a: 1\n"})
        app.git("config", "--file", ".gitmodules", "submodule.absolute.url", lab.server.url_of("shared.git"))
        app.git("-C", "absolute", "fetch", "--quiet", str(lab.server.root / "shared.git"), "main")
        app.git("-C", "absolute", "checkout", "--quiet", "FETCH_HEAD")
        own.push(app)
        assert await own.files(krapao, ("*/a.yaml",), credentials=ANN) == ["absolute/a.yaml", "relative/a.yaml"]


async def test_submodules_in_submodules_and_many_of_them_are_bounded(lab: Lab, krapao: Krapao) -> None:
    lab.repository("n0", {"a.yaml": "a: 0\n"})
    for number in range(1, MAX_DEPTH + 2):
        work, _ = lab.repository(f"n{number}" if number <= MAX_DEPTH else "app", {"x": "x"})
        lab.add(work, f"n{number - 1}", "s")
    error = await lab.fails(krapao)
    assert error.failure.reason == "LimitExceeded"
    assert f"more than {MAX_DEPTH} deep" in error.failure.text
    assert await lab.files(krapao, ("s/s/s/s/x",)) == ["s/s/s/s/x"]


async def test_more_submodules_than_the_bound_end_the_search(lab: Lab, krapao: Krapao) -> None:
    _, commit = lab.repository("shared", {"a.yaml": "a: 0\n"})
    app, _ = lab.repository("app", {"x": "x"})
    count = MAX_SUBMODULES + 1
    for number in range(count):
        app.git("update-index", "--add", "--cacheinfo", f"160000,{commit},m/{number}")
    (app.path / ".gitmodules").write_text(
        "".join(f'[submodule "{n}"]\n\tpath = m/{n}\n\turl = ../shared.git\n' for n in range(count))
    )
    app.git("add", ".gitmodules")
    app.git("commit", "--quiet", "-m", "x")
    app.push(lab.server.root / "app.git")
    assert await lab.files(krapao, ("m/1*/a.yaml",)) == sorted(
        f"m/{n}/a.yaml" for n in range(count) if str(n).startswith("1")
    )
    # One repository is one clone and one listing, however many submodules are of it.
    assert lab.server.count(Asked.FETCH) == 2
    error = await lab.fails(krapao)
    assert error.failure.reason == "LimitExceeded"
    assert f"more than {MAX_SUBMODULES} submodules" in error.failure.text


async def test_what_is_open_for_submodules_ends_with_the_repository(
    settings: KrapaoSettings, sops_path: Path, lab: Lab, threads_before: None
) -> None:
    lab.repository("shared", {"a.yaml": "a: 0\n"})
    app, _ = lab.repository("app", {"x": "x"})
    lab.add(app, "shared", "sub")
    async with open_service(attrs.evolve(settings, sops=sops_path)) as krapao:
        for _ in range(2):
            assert await lab.files(krapao, ("**/a.yaml",)) == ["sub/a.yaml"]
            assert krapao.worker_count == 0
