"""minimumSigners: which commits count for a file, from the real git over http, whatever of the history is here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest
from support.krapao.work_tree import Work
from support.network.addresses import LOOPBACK
from support.signing.signers import SshSigner, ssh_signer

from jiemi.core.errors import JiemiError
from jiemi.demo.git_server import serve_git
from jiemi.krapao.service import open_service
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.contract import FilesRequest, Krapao, RenderRequest
from jiemi.rpc.source import GitCredentials, Source, Submodules
from jiemi.rpc.verification import PublicKeys, SignatureKind, Verification, VerifyMode


@attrs.define
class Team:
    """A repository, and those who may sign."""

    work: Work
    bare: Path
    url: str
    krapao: Krapao
    signers: dict[str, SshSigner]

    def commit(self, by: str | None, **files: str) -> str:
        self._as(by)
        for name, content in files.items():
            (self.work.path / f"{name}.yaml").write_text(content)
        self.work.git("add", "--all")
        self.work.git("commit", "--quiet", "--allow-empty", *(["-S"] if by else []), "-m", "x")
        return self.work.git("rev-parse", "HEAD")

    def merge(self, by: str | None, branch: str, *options: str) -> str:
        self._as(by)
        self.work.git("merge", "--quiet", "--no-ff", *(["-S"] if by else []), *options, "-m", "merge", branch)
        return self.work.git("rev-parse", "HEAD")

    def branch(self, name: str, start: str = "HEAD") -> None:
        self.work.git("checkout", "--quiet", "-b", name, start)

    def main(self) -> None:
        self.work.git("checkout", "--quiet", "main")

    def _as(self, by: str | None) -> None:
        if by is not None:
            self.signers[by].configure(self.work)

    async def says(self, *patterns: str, history: int = 100, minimum: int = 2) -> str:
        """The reason for which the newest revision is refused, or its file a.yaml; "" where none is."""
        self.work.push(self.bare)
        revision = self.work.git("rev-parse", "HEAD")
        keys = tuple(PublicKeys(f"{name}.pub", each.line.encode()) for name, each in self.signers.items())
        verification = Verification(
            VerifyMode.COMMIT, SignatureKind.SSH, keys, minimum_signers=minimum, history_commits=history
        )
        source = Source(self.url, verification=verification)
        async with self.krapao.open(source, GitCredentials()) as repository:
            await repository.head(max_age_seconds=0)
            try:
                await repository.verify(FilesRequest(revision, patterns or ("a.yaml",)))
            except JiemiError as error:
                self.text = str(error)
                if patterns:
                    return error.failure.reason
                with pytest.raises(JiemiError) as caught:
                    await repository.render(RenderRequest(revision, "a.yaml", None, (), allow_plain=True))
                assert caught.value.failure.reason == error.failure.reason
                return error.failure.reason
            for _ in range(2):
                await repository.render(RenderRequest(revision, "a.yaml", None, (), allow_plain=True))
            return ""

    text: str = ""


@pytest.fixture(params=["filter", "no filter"])
async def team(request: pytest.FixtureRequest, tmp_path: Path, tools: dict[str, Path]) -> AsyncIterator[Team]:
    root = tmp_path / "root"
    root.mkdir()
    work = Work(tmp_path / "work")
    settings = KrapaoSettings(state_dir=tmp_path / "state", sops=tools["sops"], addresses=LOOPBACK)
    async with serve_git(root) as server, open_service(settings) as service:
        url = server.create("r.git")
        if request.param == "filter":
            work.git("--git-dir", str(root / "r.git"), "config", "uploadpack.allowFilter", "true")
        signers = {name: ssh_signer(tmp_path, name) for name in ("ann", "bob")}
        found = Team(work, root / "r.git", url, service, signers)
        found.commit(None, a="a: 1\n", b="b: 1\n")
        yield found


async def test_a_signed_commit_that_another_merges_has_two_signers(team: Team) -> None:
    team.branch("change")
    team.commit("ann", a="a: 2\n")
    assert await team.says() == "TooFewSigners"
    assert "a.yaml: its present form is signed by ann, and 2 different signers are wanted" in team.text
    team.main()
    team.merge("bob", "change")
    assert await team.says() == ""
    # What has nothing to do with it takes nothing away, nor does it add to it.
    for number in range(5):
        team.commit("ann", b=f"b: {number}\n")
    assert await team.says() == ""
    assert await team.says("*.yaml") == "TooFewSigners"
    assert "b.yaml" in team.text


async def test_one_signer_counts_once_and_one_whose_key_is_not_there_not_at_all(team: Team, tmp_path: Path) -> None:
    team.branch("change")
    team.commit("ann", a="a: 2\n")
    team.main()
    team.merge("ann", "change")
    assert await team.says() == "TooFewSigners"
    team.signers["eve"] = ssh_signer(tmp_path, "eve")
    team.branch("next")
    team.commit("eve", a="a: 3\n")
    del team.signers["eve"]
    team.main()
    team.merge("bob", "next")
    assert await team.says() == "TooFewSigners"
    assert "is signed by bob" in team.text


async def test_what_a_merge_changes_by_itself_has_one_signer(team: Team) -> None:
    team.branch("change")
    team.commit("ann", a="a: 2\n")
    team.main()
    team.merge("bob", "change", "--no-commit")
    (team.work.path / "a.yaml").write_text("a: 2\nmore: smuggled in\n")
    team.work.git("add", "--all")
    team.work.git("commit", "--quiet", "-S", "-m", "merge")
    assert await team.says() == "TooFewSigners"


async def test_an_old_form_that_was_signed_by_enough_is_not_brought_back_by_one(team: Team) -> None:
    team.branch("old")
    team.commit("ann", a="a: old\n")
    team.main()
    team.merge("bob", "old")
    assert await team.says() == ""
    team.branch("new")
    team.commit("ann", a="a: new\n")
    team.main()
    team.merge("bob", "new")
    assert await team.says() == ""
    team.commit("bob", a="a: old\n")
    assert await team.says() == "TooFewSigners"
    # By a merge that takes the file from the old commit, which is in the history of the new one.
    team.work.git("reset", "--quiet", "--hard", "HEAD^")
    tree = team.work.git("rev-parse", "old^{tree}")
    team._as("bob")
    forged = team.work.git("commit-tree", "-S", tree, "-p", "HEAD", "-p", "old", "-m", "x")
    team.work.git("reset", "--quiet", "--hard", forged)
    assert await team.says() == "TooFewSigners"
    assert "is signed by bob" in team.text


async def test_a_change_further_back_than_is_looked_says_so(team: Team) -> None:
    team.branch("change")
    team.commit("ann", a="a: 2\n")
    team.main()
    team.merge("bob", "change")
    for number in range(12):
        team.commit("ann", b=f"b: {number}\n")
    assert await team.says(history=10) == "HistoryMissing"
    assert "in the 10 commits before" in team.text
    assert await team.says(history=20) == ""


async def test_the_newest_commit_must_be_signed_however_many_signed_the_file(team: Team) -> None:
    team.branch("change")
    team.commit("ann", a="a: 2\n")
    team.main()
    team.merge("bob", "change")
    team.commit(None, b="b: 2\n")
    assert await team.says() == "SignatureMissing"


async def test_a_link_has_no_signers_that_can_be_counted(team: Team) -> None:
    (team.work.path / "a.yaml").unlink()
    (team.work.path / "a.yaml").symlink_to("b.yaml")
    team.commit("ann")
    assert await team.says() == "NotAFile"


async def test_a_file_in_a_submodule_has_the_signers_of_the_commits_that_moved_the_submodule(team: Team) -> None:
    inner = team.commit("ann", a="a: 1\n")
    (team.work.path / ".gitmodules").write_text(f'[submodule "sub"]\n\tpath = sub\n\turl = ../{team.bare.name}\n')
    team.work.git("update-index", "--add", "--cacheinfo", f"160000,{inner},sub")
    team.branch("moved")
    team.work.git("add", ".gitmodules")
    team.work.git("commit", "--quiet", "-S", "-m", "x")
    team.work.push(team.bare)

    async def render(revision: str) -> str:
        team.work.push(team.bare)
        keys = tuple(PublicKeys(f"{name}.pub", each.line.encode()) for name, each in team.signers.items())
        verification = Verification(VerifyMode.COMMIT, SignatureKind.SSH, keys, minimum_signers=2, history_commits=100)
        source = Source(team.url, verification=verification, submodules=Submodules())
        async with team.krapao.open(source, GitCredentials()) as repository:
            await repository.head(max_age_seconds=0)
            try:
                await repository.render(RenderRequest(revision, "sub/a.yaml", None, (), allow_plain=True))
            except JiemiError as error:
                return error.failure.reason
            return ""

    assert await render(team.work.git("rev-parse", "HEAD")) == "TooFewSigners"
    team.main()
    assert await render(team.merge("bob", "moved")) == ""
