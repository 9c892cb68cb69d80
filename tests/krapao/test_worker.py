"""Sharing, ageing and permission in a worker, on a fake git and the virtual clock."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence
from pathlib import Path

import pytest
import structlog.testing
import trio
import trio.lowlevel
import trio.testing

from jiemi.concurrency.askers import Askers
from jiemi.core.content.formats import Format
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveBytes, SensitiveText
from jiemi.core.urls import Location
from jiemi.krapao.confinement.spawn import Measures
from jiemi.krapao.decryption.port import Budget, Decrypted, RenderingShare, WantedForm
from jiemi.krapao.git.port import Advertised, FileHistory, GitStore, Listed, Ref, SignedObjects
from jiemi.krapao.git.submodules import Start
from jiemi.krapao.reading.reader import Reading
from jiemi.krapao.repositories import Repositories
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.contract import Changes, FileEntry, Files, FilesRequest, Head, RenderRequest, Repository
from jiemi.rpc.keys import AgeKey, DecryptionKey
from jiemi.rpc.source import GitCredentials, Source

URL = "https://git.example/r.git"
NOBODY = GitCredentials()


def revision(number: int) -> str:
    return f"{number:040x}"


class FakeGit:
    """A host with one repository: each listing and fetch takes a second."""

    def __init__(self) -> None:
        self.head = revision(1)
        self.listings = 0
        self.fetches: list[str] = []
        self.stored: set[str] = set()
        self.running = 0
        self.most_running = 0
        self.failure: Exception | None = None
        self.fetch_failure: JiemiError | None = None
        self.files_failure: JiemiError | None = None
        self.searches = 0
        self.comparisons = 0
        self.opened = 0
        self.commits: dict[str, bytes] = {}
        self._turn = trio.Lock()

    @contextlib.asynccontextmanager
    async def open(self, location: Location, credentials: GitCredentials) -> AsyncIterator[GitStore]:
        self.opened += 1
        yield self

    @contextlib.asynccontextmanager
    async def _work(self) -> AsyncIterator[None]:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            yield
        finally:
            self.running -= 1

    async def advertised(
        self, ref: Ref, askers: Askers | None = None, *, on_begin: Callable[[], None] = lambda: None
    ) -> Advertised:
        async with self._turn, self._work():
            on_begin()
            self.listings += 1
            found = self.head
            await trio.sleep(1)
            if self.failure is not None:
                raise self.failure
            return Advertised(found, found) if ref.commit is None else Advertised(ref.commit, ref.commit)

    async def fetch(self, wanted: Advertised, askers: Askers | None = None, *, with_tag: bool = False) -> None:
        async with self._turn, self._work():
            self.fetches.append(wanted.revision)
            await trio.sleep(1)
            if self.fetch_failure is not None:
                raise self.fetch_failure
            self.stored.add(wanted.revision)

    async def signed(self, wanted: Advertised, askers: Askers | None = None, *, with_tag: bool) -> SignedObjects:
        await trio.lowlevel.checkpoint()
        if wanted.revision not in self.stored:
            raise JiemiError("RevisionNotFound", "not here")
        return SignedObjects(self.commits.get(wanted.revision, b""))

    async def histories(
        self, wanted: Advertised, paths: Sequence[str], askers: Askers | None = None, *, max_commits: int, deepen: bool
    ) -> Mapping[str, FileHistory]:
        raise NotImplementedError

    async def files(self, request: FilesRequest, askers: Askers | None = None, *, max_bytes: int) -> Files:
        self.searches += 1
        await trio.lowlevel.checkpoint()
        if request.revision not in self.stored:
            raise JiemiError("RevisionNotFound", "not here")
        if self.files_failure is not None:
            raise self.files_failure
        return Files(request.revision, tuple(FileEntry(pattern, revision(7)) for pattern in request.patterns))

    async def changes(self, before: str, after: str, askers: Askers | None = None) -> Changes:
        self.comparisons += 1
        await trio.lowlevel.checkpoint()
        if not {before, after} <= self.stored:
            raise JiemiError("RevisionNotFound", "not here")
        return Changes((f"{before[:4]}-{after[:4]}",))

    async def listed(self, request: FilesRequest, at: Start, askers: Askers | None = None, *, max_bytes: int) -> Listed:
        return Listed(await self.files(request, askers, max_bytes=max_bytes))

    async def read(
        self,
        revision: str,
        path: str,
        askers: Askers | None = None,
        *,
        max_bytes: int,
        into_submodules: bool = False,
    ) -> bytes:
        await trio.lowlevel.checkpoint()
        if revision not in self.stored:
            raise JiemiError("RevisionNotFound", "not here")
        if path == "gone.yaml":
            raise JiemiError("FileNotFound", f"{path}: gone")
        if path.startswith("sops"):
            return b"sops:\n  mac: ENC[AES256_GCM,data:x]\n"
        return f"at: {revision}\n".encode()


class FakeDecrypter:
    def __init__(self) -> None:
        self.runs = 0
        self.failure: JiemiError | None = None
        self.owned: dict[Hashable, tuple[DecryptionKey, ...]] = {}

    async def decrypt(
        self,
        data: bytes,
        format: Format,
        keys: tuple[DecryptionKey, ...],
        *,
        allowed_recipients: tuple[str, ...] = (),
        form: WantedForm = WantedForm(),  # noqa: B008 - frozen
        rendering: RenderingShare = RenderingShare(),  # noqa: B008 - frozen
    ) -> Decrypted:
        self.runs += 1
        if self.failure is not None:
            raise self.failure
        return Decrypted(SensitiveBytes(data))

    def budget(self) -> Budget:
        return Budget(30, 200, 1_000_000)

    def own(self, owner: Hashable, keys: tuple[DecryptionKey, ...]) -> None:
        self.owned = {**self.owned, owner: keys}


async def _unconfined() -> Measures:
    return Measures()


@pytest.fixture
def git() -> FakeGit:
    return FakeGit()


@pytest.fixture
def decrypter() -> FakeDecrypter:
    return FakeDecrypter()


@pytest.fixture
async def krapao(git: FakeGit, decrypter: FakeDecrypter, tmp_path: Path) -> AsyncIterator[Repositories]:
    async with trio.open_nursery() as nursery:
        settings = KrapaoSettings(state_dir=tmp_path, max_revisions=3)
        yield Repositories(nursery, git.open, decrypter, settings, Reading(settings, _unconfined))
        nursery.cancel_scope.cancel()


async def test_fifty_who_ask_at_once_cost_one_listing(
    krapao: Repositories, git: FakeGit, autojump_clock: trio.testing.MockClock
) -> None:
    seen: list[str] = []

    async def one() -> None:
        async with krapao.open(Source(URL), NOBODY) as repository:
            seen.append((await repository.head(max_age_seconds=90)).revision)
            await trio.sleep(5)

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(one)
    assert seen == [revision(1)] * 50
    assert (git.listings, git.opened, krapao.worker_count) == (1, 1, 0)


async def test_an_answer_ages_from_when_its_listing_began(
    krapao: Repositories, git: FakeGit, autojump_clock: trio.testing.MockClock
) -> None:
    async with krapao.open(Source(URL), NOBODY) as repository:
        await repository.head(max_age_seconds=10)  # began at 0, ended at 1
        await trio.sleep(8.9)
        await repository.head(max_age_seconds=10)
        assert git.listings == 1
        await trio.sleep(0.2)
        await repository.head(max_age_seconds=10)
        assert git.listings == 2


async def test_zero_never_takes_what_a_listing_that_had_begun_may_have_read(
    krapao: Repositories, git: FakeGit, autojump_clock: trio.testing.MockClock
) -> None:
    seen: list[str] = []

    async def ask(repository: Repository, max_age_seconds: float) -> None:
        seen.append((await repository.head(max_age_seconds=max_age_seconds)).revision)

    async with krapao.open(Source(URL), NOBODY) as repository, trio.open_nursery() as nursery:
        nursery.start_soon(ask, repository, 0)
        await trio.sleep(0.5)
        git.head = revision(2)
        for _ in range(5):
            nursery.start_soon(ask, repository, 0)
        nursery.start_soon(ask, repository, 60)
    assert seen.count(revision(2)) >= 5
    assert git.listings == 2
    assert git.most_running == 1


async def test_a_failure_goes_to_all_who_wait_and_is_not_kept(
    krapao: Repositories, git: FakeGit, autojump_clock: trio.testing.MockClock
) -> None:
    git.failure = JiemiError("HostUnreachable", "down")
    caught: list[JiemiError] = []

    async def ask(repository: Repository) -> None:
        with pytest.raises(JiemiError) as error:
            await repository.head(max_age_seconds=90)
        caught.append(error.value)

    async with krapao.open(Source(URL), NOBODY) as repository:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask, repository)
        assert [each.failure.reason for each in caught] == ["HostUnreachable"] * 3
        assert len({id(each) for each in caught}) == 3
        assert git.listings == 1
        git.failure = None
        assert (await repository.head(max_age_seconds=90)).revision == revision(1)


async def test_a_fault_of_our_own_ends_the_question_and_not_the_service(
    krapao: Repositories, git: FakeGit, autojump_clock: trio.testing.MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    git.failure = RuntimeError("SECRET")
    async with krapao.open(Source(URL), NOBODY) as repository:
        with pytest.raises(JiemiError) as caught:
            await repository.head(max_age_seconds=0)
        assert caught.value.failure.reason == "InternalError"
        assert "SECRET" not in str(caught.value) + capsys.readouterr().out
        git.failure = None
        await repository.head(max_age_seconds=0)


async def test_a_cancelled_waiter_leaves_the_others_and_the_last_one_ends_the_work(
    krapao: Repositories, git: FakeGit, autojump_clock: trio.testing.MockClock
) -> None:
    async with krapao.open(Source(URL), NOBODY) as repository:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_head_for, repository, 0.3)
            nursery.start_soon(_head_for, repository, 5)
            await trio.sleep(0.4)
            assert git.running == 1
        assert trio.current_time() == 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_head_for, repository, 0.3)
            nursery.start_soon(_head_for, repository, 0.5)
            await trio.sleep(0.6)
            assert git.running == 0
        assert git.listings == 2


async def _head_for(repository: Repository, seconds: float) -> None:
    with trio.move_on_after(seconds):
        await repository.head(max_age_seconds=0)


async def test_one_fetch_and_one_run_serve_all_who_want_the_same_file(
    krapao: Repositories, git: FakeGit, decrypter: FakeDecrypter, autojump_clock: trio.testing.MockClock
) -> None:
    async with krapao.open(Source(URL), NOBODY) as repository:
        await repository.head(max_age_seconds=0)
        other = AgeKey(SensitiveText("other"))
        requests = [RenderRequest(revision(1), "a.yaml"), RenderRequest(revision(1), "b.yaml")]
        requests += [RenderRequest(revision(1), "a.yaml", None, (other,))]
        async with trio.open_nursery() as nursery:
            for request in requests * 10:
                nursery.start_soon(repository.render, request)
        assert git.fetches == [revision(1)]
        assert decrypter.runs == 3


async def test_the_revision_that_was_asked_for_is_read_whatever_arrives_meanwhile(
    krapao: Repositories, git: FakeGit, autojump_clock: trio.testing.MockClock
) -> None:
    async with krapao.open(Source(URL), NOBODY) as repository:
        await repository.head(max_age_seconds=0)
        git.head = revision(2)
        await repository.head(max_age_seconds=0)
        rendered = await repository.render(RenderRequest(revision(1), "a.yaml"))
        assert [one.reveal() for one in rendered.documents] == [f'{{"at":{int(revision(1))}}}'.encode()]


async def test_one_fetch_and_one_search_serve_all_who_ask_for_the_same_files(
    krapao: Repositories, git: FakeGit, autojump_clock: trio.testing.MockClock
) -> None:
    answers: list[Files] = []

    async def ask(repository: Repository, request: FilesRequest) -> None:
        answers.append(await repository.files(request))

    async with krapao.open(Source(URL), NOBODY) as repository:
        await repository.head(max_age_seconds=0)
        requests = [FilesRequest(revision(1), ("a", "b")), FilesRequest(revision(1), ("a", "b"), ("c",))]
        async with trio.open_nursery() as nursery:
            for request in requests * 10:
                nursery.start_soon(ask, repository, request)
        assert git.fetches == [revision(1)]
        assert git.searches == 2 * 2  # once more after the fetch
        assert answers == [Files(revision(1), (FileEntry("a", revision(7)), FileEntry("b", revision(7))))] * 20


async def test_files_of_a_revision_that_the_host_has_not_named_are_not_reported(
    krapao: Repositories, git: FakeGit, autojump_clock: trio.testing.MockClock
) -> None:
    git.stored.add(revision(9))  # another tenant's fetch
    async with krapao.open(Source(URL), NOBODY) as repository:
        for wanted in (revision(9), "main", "../x"):
            with pytest.raises(JiemiError) as caught:
                await repository.files(FilesRequest(wanted, ("**",)))
            assert caught.value.failure.reason == "RevisionNotFound"
        assert git.searches == 0


async def test_what_is_wrong_with_files_is_reported_with_its_field(
    krapao: Repositories, git: FakeGit, autojump_clock: trio.testing.MockClock
) -> None:
    async with krapao.open(Source(URL), NOBODY) as repository:
        for reason, told in (
            # Which field names the path, Miwen knows.
            ("FileNotFound", "x"),
            ("NotAFile", "x"),
            ("LimitExceeded", "spec.source.files: x"),
            ("Timeout", "x"),
        ):
            git.files_failure = JiemiError(reason, "x")
            with pytest.raises(JiemiError) as caught:
                await repository.files(FilesRequest(revision(1), ("x",)))
            assert (caught.value.failure.reason, caught.value.failure.message) == (reason, told)


async def test_what_was_found_is_logged_by_its_number_only(
    krapao: Repositories, git: FakeGit, autojump_clock: trio.testing.MockClock
) -> None:
    with structlog.testing.capture_logs() as logs:
        async with krapao.open(Source(URL), NOBODY) as repository:
            await repository.files(FilesRequest(revision(1), ("a", "b")))
    [line] = [each for each in logs if each["event"] == "files"]
    assert (line["log_level"], line["patterns"], line["files"], line["duration_ms"]) == ("debug", 2, 2, 2_000)


async def test_all_commits_that_are_pinned_share_the_listings_that_let_them_in(
    krapao: Repositories, git: FakeGit, autojump_clock: trio.testing.MockClock
) -> None:
    async def ask(number: int, max_age_seconds: float) -> None:
        async with krapao.open(Source(URL, commit=revision(number)), NOBODY) as repository:
            assert await repository.head(max_age_seconds=max_age_seconds) == Head(revision(number))
            await trio.sleep(100)

    async with trio.open_nursery() as nursery:
        for number in range(100, 150):
            nursery.start_soon(ask, number, 60)
        await trio.sleep(30)
        assert git.listings == 1
        nursery.start_soon(ask, 200, 60)  # let in not long ago
        nursery.start_soon(ask, 201, 60)
        await trio.sleep(1)
        assert git.listings == 1
        for number in range(300, 310):
            nursery.start_soon(ask, number, 0)  # asks now, once for all of them
        await trio.sleep(5)
        assert git.listings == 2
        nursery.start_soon(ask, 400, 4)  # which is too long ago
        await trio.sleep(2)
        assert git.listings == 3
    assert krapao.worker_count == 0


async def test_a_listing_for_a_branch_lets_a_commit_in_too_and_a_refused_one_does_not(
    krapao: Repositories, git: FakeGit, autojump_clock: trio.testing.MockClock
) -> None:
    async with (
        krapao.open(Source(URL), NOBODY) as branch,
        krapao.open(Source(URL, commit=revision(5)), NOBODY) as pinned,
    ):
        git.failure = JiemiError("RepositoryAccessDenied", "no")
        for repository in (branch, pinned):
            with pytest.raises(JiemiError, match="RepositoryAccessDenied"):
                await repository.head(max_age_seconds=60)
        with pytest.raises(JiemiError, match="RepositoryAccessDenied"):
            await pinned.files(FilesRequest(revision(5), ("x",)))
        git.failure = None
        await branch.head(max_age_seconds=60)
        listings = git.listings
        assert await pinned.head(max_age_seconds=60) == Head(revision(5))
        assert (await pinned.files(FilesRequest(revision(5), ("x",)))).revision == revision(5)
        assert git.listings == listings
        git.head = revision(2)
        assert await pinned.head(max_age_seconds=0) == Head(revision(5))


async def test_a_pinned_commit_that_the_host_does_not_give_is_reported_so_and_another_revision_is_not(
    krapao: Repositories, git: FakeGit, autojump_clock: trio.testing.MockClock
) -> None:
    async with (
        krapao.open(Source(URL), NOBODY) as branch,
        krapao.open(Source(URL, commit=revision(1)), NOBODY) as pinned,
    ):
        for failed, why in (
            ("RevisionNotFound", "it is not in the repository, or the host gives only tips of branches"),
            ("RefNotFound", "it is a tag, a folder or a file"),
        ):
            git.fetch_failure = JiemiError(failed, "x")
            told = f"spec.source.repository.ref.commit: the host does not give commit {revision(1)}: {why}"
            for call in (
                lambda: pinned.files(FilesRequest(revision(1), ("x",))),
                lambda: pinned.render(RenderRequest(revision(1), "x")),
            ):
                with pytest.raises(JiemiError) as caught:
                    await call()
                assert (caught.value.failure.reason, caught.value.failure.message) == ("RefNotFound", told)
            with pytest.raises(JiemiError) as caught:
                await branch.files(FilesRequest(revision(1), ("x",)))
            assert caught.value.failure.reason == failed
        with pytest.raises(JiemiError, match="RevisionNotFound"):
            await pinned.files(FilesRequest(revision(8), ("x",)))


async def test_a_watch_of_a_pinned_commit_hears_nothing(
    krapao: Repositories, git: FakeGit, autojump_clock: trio.testing.MockClock
) -> None:
    heard: list[Head] = []
    async with krapao.open(Source(URL, commit=revision(1)), NOBODY) as pinned, trio.open_nursery() as nursery:
        nursery.start_soon(pinned.watch, heard.append)
        for number in range(3):
            git.head = revision(number)
            await pinned.head(max_age_seconds=0)
        nursery.cancel_scope.cancel()
    assert heard == []


async def test_a_plain_file_where_that_is_allowed_never_meets_the_decrypter(
    krapao: Repositories, git: FakeGit, decrypter: FakeDecrypter, autojump_clock: trio.testing.MockClock
) -> None:
    async with krapao.open(Source(URL), NOBODY) as repository:
        rendered = await repository.render(RenderRequest(revision(1), "a.yaml", allow_plain=True))
        assert [one.reveal() for one in rendered.documents] == [f'{{"at":{int(revision(1))}}}'.encode()]
        for path, whole in (("a.yaml", True), ("a.ini", True), ("a.bin", False)):
            request = RenderRequest(revision(1), path, whole_file=whole, allow_plain=True)
            whole_file = await repository.render(request)
            assert whole_file.content is not None
            assert (whole_file.content.reveal(), whole_file.documents) == (f"at: {revision(1)}\n".encode(), ())
            assert not whole_file.encrypted
        assert decrypter.runs == 0
        with pytest.raises(JiemiError, match=r"FileNotFound: spec\.source\.sopsPath"):
            await repository.render(RenderRequest(revision(1), "a.yaml", "gone.yaml", allow_plain=True))
        with pytest.raises(JiemiError, match=r"UnknownFormat: a\.ini: a plain INI file"):
            await repository.render(RenderRequest(revision(1), "a.ini", allow_plain=True))
        assert (await repository.render(RenderRequest(revision(1), "a.yaml"))).encrypted
        assert decrypter.runs == 1


async def test_a_file_that_only_looks_encrypted_is_reported_so_where_plain_ones_are_allowed(
    krapao: Repositories, git: FakeGit, decrypter: FakeDecrypter, autojump_clock: trio.testing.MockClock
) -> None:
    decrypter.failure = JiemiError("NotEncrypted", "the file has no sops block")
    async with krapao.open(Source(URL), NOBODY) as repository:
        with pytest.raises(JiemiError, match=r"NotEncrypted: sops\.yaml: it is neither encrypted nor plain"):
            await repository.render(RenderRequest(revision(1), "sops.yaml", allow_plain=True))
        with pytest.raises(JiemiError, match=r"NotEncrypted: a\.yaml: the file has no sops block"):
            await repository.render(RenderRequest(revision(1), "a.yaml"))


async def test_a_revision_that_the_host_has_not_named_to_these_credentials_is_not_rendered(
    krapao: Repositories, git: FakeGit, autojump_clock: trio.testing.MockClock
) -> None:
    git.stored.add(revision(9))  # another tenant's fetch
    async with krapao.open(Source(URL), GitCredentials(token=SensitiveText("x"))) as repository:
        for wanted in (revision(9), "main", "../x"):
            with pytest.raises(JiemiError) as caught:
                await repository.render(RenderRequest(wanted, "a.yaml"))
            assert caught.value.failure.reason == "RevisionNotFound"
        git.failure = JiemiError("RepositoryAccessDenied", "no")
        with pytest.raises(JiemiError) as caught:
            await repository.render(RenderRequest(revision(9), "a.yaml"))
        assert caught.value.failure.reason == "RepositoryAccessDenied"


async def test_a_worker_that_began_again_asks_the_host_before_it_renders(
    krapao: Repositories, git: FakeGit, autojump_clock: trio.testing.MockClock
) -> None:
    async with krapao.open(Source(URL), NOBODY) as repository:
        await repository.render(RenderRequest(revision(1), "a.yaml"))
        assert git.listings == 1


async def test_only_so_many_revisions_are_remembered(
    krapao: Repositories, git: FakeGit, autojump_clock: trio.testing.MockClock
) -> None:
    async with krapao.open(Source(URL), NOBODY) as repository:
        for number in range(1, 6):
            git.head = revision(number)
            await repository.head(max_age_seconds=0)
        await repository.render(RenderRequest(revision(3), "a.yaml"))
        with pytest.raises(JiemiError) as caught:
            await repository.render(RenderRequest(revision(2), "a.yaml"))
        assert caught.value.failure.reason == "RevisionNotFound"


async def test_what_is_missing_is_named_by_its_field(
    krapao: Repositories, git: FakeGit, autojump_clock: trio.testing.MockClock
) -> None:
    async with krapao.open(Source(URL), NOBODY) as repository:
        for request, field in (
            (RenderRequest(revision(1), "gone.yaml"), "FileNotFound: gone.yaml"),
            (RenderRequest(revision(1), "a.yaml", "gone.yaml"), "spec.source.sopsPath"),
        ):
            with pytest.raises(JiemiError, match=field):
                await repository.render(request)
        with pytest.raises(JiemiError, match=r"^UnknownFormat: a\.json: its content is not JSON"):
            await repository.render(RenderRequest(revision(1), "a.json"))


async def test_a_watch_hears_moves_of_its_ref_and_ends_when_cancelled(
    krapao: Repositories, git: FakeGit, autojump_clock: trio.testing.MockClock
) -> None:
    heard: list[Head] = []
    async with (
        krapao.open(Source(URL), NOBODY) as watched,
        krapao.open(Source(URL), NOBODY) as asked,
        krapao.open(Source(URL, branch="other"), NOBODY) as elsewhere,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(watched.watch, heard.append)
        await trio.lowlevel.checkpoint()
        await asked.head(max_age_seconds=0)
        await asked.head(max_age_seconds=0)
        git.head = revision(2)
        await elsewhere.head(max_age_seconds=0)
        assert heard == []
        await asked.head(max_age_seconds=0)
        assert heard == [Head(revision(2))]
        nursery.cancel_scope.cancel()


async def test_closing_ends_what_is_under_way(
    krapao: Repositories, git: FakeGit, autojump_clock: trio.testing.MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        async with krapao.open(Source(URL), NOBODY) as repository:
            caught: list[str] = []

            async def ask() -> None:
                try:
                    await repository.head(max_age_seconds=0)
                except JiemiError as error:
                    caught.append(error.failure.reason)

            nursery.start_soon(ask)
            await trio.sleep(0.5)
        assert (git.running, krapao.worker_count) == (0, 0)
    assert caught == ["KrapaoUnavailable"]


async def test_equal_urls_and_credentials_share_a_worker_and_others_do_not(
    krapao: Repositories, git: FakeGit, autojump_clock: trio.testing.MockClock
) -> None:
    def token(text: str) -> GitCredentials:
        return GitCredentials(token=SensitiveText(text))

    async with contextlib.AsyncExitStack() as stack:
        for source, credentials in (
            (Source(URL), token("a")),
            (Source("https://GIT.example:443/r.git", tag="v1"), token("a")),
            (Source(URL), token("b")),
            (Source(URL), NOBODY),
            (Source(URL + "x"), NOBODY),
        ):
            await stack.enter_async_context(krapao.open(source, credentials))
        assert (git.opened, krapao.worker_count) == (4, 4)
    assert krapao.worker_count == 0


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (Source("https://user:SECRET@host/r.git"), "InvalidUrl"),
        (Source("file:///etc"), "SchemeNotAllowed"),
        (Source("ext::sh"), "InvalidUrl"),
        (Source(URL, branch="a b"), "RefNotFound"),
        (Source(URL, branch="a\nb"), "RefNotFound"),
        (Source(URL, tag="../x"), "RefNotFound"),
        (Source(URL, tag=""), "RefNotFound"),
        (Source(URL, commit=""), "RefNotFound"),
        (Source(URL, commit="main"), "RefNotFound"),
        (Source(URL, commit="A" * 40), "RefNotFound"),
        (Source(URL, commit="a" * 39), "RefNotFound"),
        (Source(URL, commit="a" * 40 + "\n"), "RefNotFound"),
    ],
)
async def test_a_source_that_can_not_be_is_reported_by_the_first_question(
    krapao: Repositories, git: FakeGit, source: Source, reason: str
) -> None:
    async with krapao.open(source, NOBODY) as repository:
        for _ in range(2):
            with pytest.raises(JiemiError) as caught:
                await repository.head(max_age_seconds=0)
            assert caught.value.failure.reason == reason
            assert "SECRET" not in str(caught.value)
            with pytest.raises(JiemiError) as caught:
                await repository.files(FilesRequest(revision(1), ("x",)))
            assert caught.value.failure.reason == reason
        with trio.move_on_after(0.01):
            await repository.watch(lambda _: None)
    assert git.listings == 0
