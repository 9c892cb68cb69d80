"""Each hostile commit gets what its row says, and the next tenant of the same repository is served."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from dulwich.repo import Repo
from hostile.case import OPENS
from hostile.cases_globs import CASES as GLOB_CASES
from hostile.cases_globs import GlobCase
from hostile.cases_joined import CASES as JOINED_CASES
from hostile.cases_nested import CASES as NESTED_CASES
from hostile.cases_plain import CASES as PLAIN_CASES
from hostile.cases_repositories import CASES, FILE, Objects, TreeCase
from hostile.lab import Lab
from hostile.left import Before, contents, require_no_canary, told
from structlog.testing import capture_logs

from jiemi.core.errors import JiemiError
from jiemi.demo.git_server import GitServer, serve_git
from jiemi.krapao.service import open_service
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.contract import Files, FilesRequest, RenderRequest
from jiemi.rpc.source import GitCredentials, Source


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[GitServer]:
    root = tmp_path / "repositories"
    root.mkdir()
    async with serve_git(root) as server:
        yield server


@pytest.mark.parametrize("case", [*CASES, *PLAIN_CASES, *NESTED_CASES, *JOINED_CASES], ids=lambda case: case.name)
async def test_a_hostile_commit_gets_what_its_row_says(
    case: TreeCase, lab: Lab, settings: KrapaoSettings, server: GitServer, tmp_path: Path
) -> None:
    server.create("r.git")
    repo = Repo(str(server.root / "r.git"))
    objects = Objects(repo)
    # A branch of the same repository, which another tenant follows.
    objects.commit(objects.tree((b"s.yaml", FILE, objects.blob(lab.other_file))), b"refs/heads/other")
    objects.commit(objects.tree(*case.tree(objects, lab)))
    repo.close()
    before = Before.now()
    error: JiemiError | None = None
    url = server.url_of("r.git")
    with capture_logs() as logs, trio.fail_after(40):
        async with open_service(settings) as krapao:
            async with krapao.open(Source(url, branch="main"), GitCredentials()) as repository:
                head = await repository.head(max_age_seconds=0)
                try:
                    rendered = await repository.render(
                        RenderRequest(
                            head.revision,
                            case.path,
                            None,
                            case.keys(lab),
                            allow_plain=case.allow_plain,
                            nested=case.nested,
                            require_full_mac=case.require_full_mac,
                        )
                    )
                except JiemiError as caught:
                    error = caught
            async with krapao.open(Source(url, branch="other"), GitCredentials()) as repository:
                head = await repository.head(max_age_seconds=0)
                [document] = (
                    await repository.render(RenderRequest(head.revision, "s.yaml", None, (lab.other,)))
                ).documents
                assert json.loads(document.reveal()) == {"a": "of the next tenant"}
        await before.require_again()
    if error is None:
        assert case.gets == OPENS
        plain = case.expected(lab) if case.expected is not None else case.plain
        assert rendered.encrypted == (plain is None if case.is_encrypted is None else case.is_encrypted)
        expected = [lab.tree] if plain is None else plain
        assert [json.loads(each.reveal()) for each in rendered.documents] == expected
    else:
        assert (error.failure.reason, case.says in error.failure.text) == (case.gets, True), str(error)
        assert error.failure.text.isprintable()
    assert not (tmp_path / "ran").exists()
    require_no_canary(lab, "an error", [told(error).encode()])
    require_no_canary(lab, "a log", [repr(logs).encode()])
    require_no_canary(lab, "a file", contents(tmp_path))


@pytest.mark.parametrize("case", GLOB_CASES, ids=lambda case: case.name)
async def test_globs_find_in_a_hostile_commit_what_their_row_says(
    case: GlobCase, lab: Lab, settings: KrapaoSettings, server: GitServer, tmp_path: Path
) -> None:
    server.create("r.git")
    repo = Repo(str(server.root / "r.git"))
    objects = Objects(repo)
    good = (b"good.yaml", FILE, objects.blob(lab.other_file))
    objects.commit(objects.tree(good), b"refs/heads/other")
    objects.commit(objects.tree(*case.tree(objects, lab), good))
    repo.close()
    before = Before.now()
    found: Files | None = None
    error: JiemiError | None = None
    url = server.url_of("r.git")
    with capture_logs() as logs, trio.fail_after(120):
        async with open_service(settings) as krapao:
            async with krapao.open(Source(url, branch="main"), GitCredentials()) as repository:
                head = await repository.head(max_age_seconds=0)
                try:
                    found = await repository.files(
                        FilesRequest(head.revision, tuple(case.patterns), tuple(case.exclude))
                    )
                    # What is found is what is read under that path.
                    paths = tuple(entry.path for entry in found.entries)
                    again = await repository.files(FilesRequest(head.revision, paths))
                    assert again.entries == found.entries
                except JiemiError as caught:
                    error = caught
            async with krapao.open(Source(url, branch="other"), GitCredentials()) as repository:
                head = await repository.head(max_age_seconds=0)
                for pattern in ("**", "good.yaml"):
                    assert len((await repository.files(FilesRequest(head.revision, (pattern,)))).entries) == 1
        await before.require_again()
    if error is None:
        assert found is not None
        assert (case.gets, [entry.path for entry in found.entries]) == (OPENS, list(case.finds))
    else:
        assert (error.failure.reason, case.says in error.failure.text) == (case.gets, True), str(error)
        assert error.failure.text.isprintable()
    require_no_canary(lab, "a log", [repr(logs).encode(), told(error).encode()])


async def test_a_mistaken_entry_does_not_cost_the_other_tenants_their_clone(
    lab: Lab, settings: KrapaoSettings, server: GitServer
) -> None:
    server.create("r.git")
    repo = Repo(str(server.root / "r.git"))
    objects = Objects(repo)
    tree = objects.tree((b"s.yaml", FILE, objects.blob(lab.other_file)))
    objects.commit(objects.tree((b"evil.yaml", FILE, tree), (b"s.yaml", FILE, objects.blob(lab.other_file))))
    repo.close()
    async with (
        open_service(settings) as krapao,
        krapao.open(Source(server.url_of("r.git"), branch="main"), GitCredentials()) as repository,
    ):
        head = await repository.head(max_age_seconds=0)
        good = RenderRequest(head.revision, "s.yaml", None, (lab.other,))
        await repository.render(good)
        server.forget_hits()
        with pytest.raises(JiemiError):
            await repository.render(RenderRequest(head.revision, "evil.yaml", None, (lab.age,)))
        await repository.render(good)
        assert [hit.asked.name for hit in server.hits if hit.asked.name == "FETCH"] == []
