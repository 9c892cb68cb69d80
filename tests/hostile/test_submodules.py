"""Each hostile submodule gets what its row says; no other host sees the credentials, and no program is started."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from dulwich.repo import Repo
from hostile.case import OPENS
from hostile.cases_repositories import FILE, Objects
from hostile.cases_submodules import CASES, Made, SubmoduleCase
from hostile.lab import Lab
from hostile.left import Before, contents, require_no_canary, told
from structlog.testing import capture_logs

from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.demo.git_server import GitServer
from jiemi.krapao.service import open_service
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.contract import FilesRequest
from jiemi.rpc.source import GitCredentials, Source, Submodules


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_hostile_submodule_gets_what_its_row_says(
    case: SubmoduleCase, lab: Lab, settings: KrapaoSettings, server: GitServer, tmp_path: Path
) -> None:
    commits = {}
    for name, content in (("shared", b"a: shared\n"), ("other", b"a: other\n")):
        server.create(f"{name}.git")
        repo = Repo(str(server.root / f"{name}.git"))
        objects = Objects(repo)
        commits[name] = objects.commit(objects.tree((b"a.yaml", FILE, objects.blob(content))))
        repo.close()
    server.create("r.git")
    repo = Repo(str(server.root / "r.git"))
    objects = Objects(repo)
    good = (b"good.txt", FILE, objects.blob(b"good"))
    made = Made(objects=objects, lab=lab, shared=commits["shared"], address=server.url.removesuffix("/"))
    objects.commit(objects.tree(*case.tree(made), good))
    repo.close()
    credentials = GitCredentials(username=SensitiveText("ann"), token=SensitiveText(lab.credentials["vault"]))
    before = Before.now()
    error: JiemiError | None = None
    paths: list[str] = []
    with capture_logs() as logs, trio.fail_after(60):
        async with (
            open_service(settings) as krapao,
            krapao.open(
                Source(server.url_of("r.git"), branch="main", submodules=Submodules(case.hosts)), credentials
            ) as repository,
        ):
            head = await repository.head(max_age_seconds=0)
            try:
                found = await repository.files(FilesRequest(head.revision, tuple(case.patterns)))
                paths = [entry.path for entry in found.entries]
            except JiemiError as caught:
                error = caught
            # Files that are in no submodule are there all the same.
            others = await repository.files(FilesRequest(head.revision, ("*.txt",)))
            assert [entry.path for entry in others.entries] == ["good.txt"]
        await before.require_again()
    if error is None:
        assert (case.gets, paths) == (OPENS, list(case.finds))
    else:
        assert (error.failure.reason, case.says in error.failure.text) == (case.gets, True), str(error)
        assert error.failure.text.isprintable()
        assert "submodule" in error.failure.text
    assert not (tmp_path / "ran").exists()
    require_no_canary(lab, "an error", [told(error).encode()])
    require_no_canary(lab, "a log", [repr(logs).encode()])
    require_no_canary(lab, "a file", contents(tmp_path))
