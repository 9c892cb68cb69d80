"""Krapao's service on real git and real sops: sharing, tenants, restarts, and no secret anywhere."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio
from support.canaries.command_lines import watching_command_lines
from support.krapao.age_files import AgePair, Encrypter
from support.krapao.work_tree import Work

from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.demo.git_server import Asked, Fault, GitServer, serve_git
from jiemi.krapao.service import open_service
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.contract import Changes, FilesRequest, RenderRequest, Repository
from jiemi.rpc.keys import AgeKey, PgpKey
from jiemi.rpc.source import GitCredentials, Source

DATA = Path(__file__).parent.parent / "data"
NOBODY = GitCredentials()
SECRET = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\nstringData:\n  password: {}\n"


@pytest.fixture
def real(settings: KrapaoSettings, sops_path: Path) -> KrapaoSettings:
    return attrs.evolve(settings, sops=sops_path)


@pytest.fixture
def bare(git_server: GitServer) -> Path:
    git_server.create("r.git")
    return git_server.root / "r.git"


async def test_fifty_users_of_one_repository_cost_one_clone_and_one_fetch_per_revision(
    git_server: GitServer, bare: Path, work: Work, real: KrapaoSettings, encrypt: Encrypter, age_pair: AgePair
) -> None:
    work.commit({"s.yaml": encrypt(SECRET.format("one"), "--age", age_pair.public)})
    work.push(bare)
    url = git_server.url_of("r.git")
    key = AgeKey(SensitiveText(age_pair.private))
    seen: list[str] = []
    async with open_service(real) as krapao:

        async def tick(repository: Repository, max_age_seconds: float) -> None:
            head = await repository.head(max_age_seconds=max_age_seconds)
            rendered = await repository.render(RenderRequest(head.revision, "s.yaml", None, (key,)))
            [document] = rendered.documents
            seen.append(json.loads(document.reveal())["stringData"]["password"])

        async with contextlib.AsyncExitStack() as stack:
            repositories = [await stack.enter_async_context(krapao.open(Source(url), NOBODY)) for _ in range(50)]
            for content in ("one", "two"):
                if content == "two":
                    work.commit({"s.yaml": encrypt(SECRET.format("two"), "--age", age_pair.public)})
                    work.push(bare)
                git_server.forget_hits()
                seen.clear()
                async with trio.open_nursery() as nursery:
                    for repository in repositories:
                        nursery.start_soon(tick, repository, 0 if content == "two" else 60)
                assert seen == [content] * 50
                assert git_server.count(Asked.FETCH) == 1
                # one to find the revision, one that every fetch begins with
                assert git_server.count(Asked.LS_REFS) == 2
            git_server.forget_hits()
            async with trio.open_nursery() as nursery:
                for repository in repositories:
                    nursery.start_soon(tick, repository, 3_600)
            assert git_server.hits == []


async def test_a_tenant_without_the_credentials_gets_nothing_of_a_clone_that_is_here(
    tmp_path: Path, work: Work, real: KrapaoSettings, encrypt: Encrypter, age_pair: AgePair
) -> None:
    root = tmp_path / "private"
    root.mkdir()
    key = AgeKey(SensitiveText(age_pair.private))
    async with serve_git(root, username="ann", token=SensitiveText("t")) as server, open_service(real) as krapao:
        source = Source(server.create("r.git"))
        revision = work.commit({"s.yaml": encrypt(SECRET.format("x"), "--age", age_pair.public)})
        work.push(root / "r.git")
        request = RenderRequest(revision, "s.yaml", None, (key,))
        right = GitCredentials(username=SensitiveText("ann"), token=SensitiveText("t"))
        async with krapao.open(source, right) as repository:
            await repository.render(request)
            for wrong in (NOBODY, GitCredentials(username=SensitiveText("ann"), token=SensitiveText("no"))):
                async with krapao.open(source, wrong) as other:
                    for call in (other.render(request), other.head(max_age_seconds=3_600)):
                        with pytest.raises(JiemiError) as caught:
                            await call
                        assert caught.value.failure.reason == "RepositoryAccessDenied"


async def test_a_restarted_service_renders_from_the_clone_that_is_there(
    git_server: GitServer, bare: Path, work: Work, real: KrapaoSettings, encrypt: Encrypter, age_pair: AgePair
) -> None:
    revision = work.commit({"s.yaml": encrypt(SECRET.format("x"), "--age", age_pair.public)})
    work.push(bare)
    request = RenderRequest(revision, "s.yaml", None, (AgeKey(SensitiveText(age_pair.private)),))
    for _ in range(2):
        async with open_service(real) as krapao, krapao.open(Source(git_server.url_of("r.git")), NOBODY) as repository:
            await repository.render(request)
    assert git_server.count(Asked.FETCH) == 1


async def test_one_state_folder_serves_one_service_at_a_time(real: KrapaoSettings, tmp_path: Path) -> None:
    async with open_service(real):
        with pytest.raises(JiemiError, match="another Krapao"):
            async with open_service(real):
                pass
    async with open_service(real):
        pass
    with pytest.raises(LookupError):  # as it was raised, in no group
        async with open_service(real):
            raise LookupError
    (tmp_path / "file").write_text("")
    with pytest.raises(JiemiError, match="state folder"):
        async with open_service(attrs.evolve(real, state_dir=tmp_path / "file" / "x")):
            pass


async def test_a_state_folder_that_is_deleted_is_made_again_and_locked_again(
    git_server: GitServer, bare: Path, work: Work, settings: KrapaoSettings
) -> None:
    async with open_service(settings) as krapao, krapao.open(Source(git_server.url_of("r.git")), NOBODY) as repository:
        for number in range(3):
            revision = work.commit({"x": str(number)})
            work.push(bare)
            assert (await repository.head(max_age_seconds=0)).revision == revision
            request = FilesRequest(revision, ("x",))
            assert len((await repository.files(request)).entries) == 1
            shutil.rmtree(settings.state_dir)
            assert len((await repository.files(request)).entries) == 1
            assert settings.state_dir.stat().st_mode & 0o777 == 0o700
            with pytest.raises(JiemiError, match="another Krapao"):
                async with open_service(settings):
                    pass


async def test_a_state_folder_that_another_krapao_took_meanwhile_is_not_written_to(
    git_server: GitServer, bare: Path, work: Work, settings: KrapaoSettings
) -> None:
    revision = work.commit({"x": "one"})
    work.push(bare)
    url, request = git_server.url_of("r.git"), FilesRequest(revision, ("x",))
    async with open_service(settings) as first, first.open(Source(url), NOBODY) as repository:
        shutil.rmtree(settings.state_dir)
        async with open_service(settings) as second, second.open(Source(url), NOBODY) as other:
            assert len((await other.files(request)).entries) == 1
            shutil.rmtree(settings.state_dir / "repositories")
            with pytest.raises(JiemiError, match="StorageFailed: another Krapao"):
                await repository.files(request)
        assert len((await repository.files(request)).entries) == 1


async def test_what_a_file_says_of_its_encryption_comes_with_it_and_what_sops_yaml_no_longer_names(
    git_server: GitServer,
    bare: Path,
    work: Work,
    real: KrapaoSettings,
    encrypt: Encrypter,
    age_pair: AgePair,
    other_age_pair: AgePair,
) -> None:
    data = encrypt(SECRET.format("x"), "--age", f"{age_pair.public},{other_age_pair.public}")
    both, one = (
        f"creation_rules: [{{age: '{names}'}}]"
        for names in (f"{age_pair.public},{other_age_pair.public}", age_pair.public)
    )
    files: dict[str, bytes | str] = {".sops.yaml": both, "a/b/s.yaml": data, "s.yaml": data, "a/.sops.yaml": one}
    revision = work.commit({**files, "c/.sops.yaml": "a: [", "c/s.yaml": data})
    work.push(bare)
    stale = (f"age {other_age_pair.public}",)
    key = AgeKey(SensitiveText(age_pair.private))
    async with open_service(real) as krapao, krapao.open(Source(git_server.url_of("r.git")), NOBODY) as repository:
        for path, sops_path, expected in (
            ("s.yaml", None, ()),
            ("a/b/s.yaml", None, stale),  # the nearest one above the file
            ("a/b/s.yaml", ".sops.yaml", ()),  # the one that is named
            ("c/s.yaml", None, ()),  # one that can't be read warns of nobody
        ):
            found = (await repository.render(RenderRequest(revision, path, sops_path, (key,)))).encryption
            assert found.stale_recipients == expected
            assert set(found.recipients) == {f"age {age_pair.public}", *stale}
            assert found.sops_version == "3.13.3"
            assert found.last_modified is not None


async def test_an_error_keeps_its_reason_through_the_service(
    git_server: GitServer, bare: Path, work: Work, real: KrapaoSettings, encrypt: Encrypter, age_pair: AgePair
) -> None:
    encrypted = encrypt(SECRET.format("x"), "--age", age_pair.public)
    not_json_like = encrypt("a: .nan\nb: x\n", "--age", age_pair.public)
    revision = work.commit({"s.yaml": encrypted, "p.yaml": "a: 1\n", "x.env": "A=1", "n.yaml": not_json_like})
    work.push(bare)
    key = AgeKey(SensitiveText(age_pair.private))
    async with open_service(real) as krapao, krapao.open(Source(git_server.url_of("r.git")), NOBODY) as repository:
        for path, sops_path, keys, reason in (
            ("gone.yaml", None, (key,), "FileNotFound"),
            ("s.yaml", ".sops.yaml", (key,), "FileNotFound"),
            ("p.yaml", None, (key,), "NotEncrypted"),
            ("x.env", None, (key,), "NotEncrypted"),
            ("n.yaml", None, (key,), "UnknownFormat"),
            ("s.yaml", None, (), "KeyMissing"),
        ):
            with pytest.raises(JiemiError) as caught:
                await repository.render(RenderRequest(revision, path, sops_path, keys))
            assert caught.value.failure.reason == reason, path
            assert ("sopsPath" in caught.value.failure.text) == (sops_path is not None)


async def test_leaving_the_service_in_the_middle_of_work_leaves_nothing(
    git_server: GitServer, bare: Path, work: Work, real: KrapaoSettings, threads_before: None
) -> None:
    work.commit({"s.yaml": "x"})
    work.push(bare)
    git_server.fault = Fault(hang=True)
    with trio.fail_after(10), trio.move_on_after(0.3):
        async with (
            open_service(real) as krapao,
            trio.open_nursery() as nursery,
            krapao.open(Source(git_server.url_of("r.git")), NOBODY) as repository,
        ):
            for _ in range(5):
                nursery.start_soon(lambda: repository.head(max_age_seconds=0))
            await trio.sleep_forever()


CANARY = "canary-7Qw2-plaintext"
TOKEN = "canary-9Zx4-token"


@pytest.fixture
def command_lines() -> Iterator[set[bytes]]:
    """Every command line that is seen in /proc while the test runs."""
    with watching_command_lines() as seen:
        yield seen


async def test_no_secret_is_in_a_log_an_error_a_file_or_a_command_line(
    tmp_path: Path,
    work: Work,
    real: KrapaoSettings,
    encrypt: Encrypter,
    age_pair: AgePair,
    other_age_pair: AgePair,
    capfd: pytest.CaptureFixture[str],
    command_lines: set[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    root = tmp_path / "private"
    root.mkdir()
    pgp = (DATA / "pgp-test-key.asc").read_text()
    pgp_secrets = [line for line in pgp.splitlines() if len(line) == 64]
    secrets = [CANARY, TOKEN, age_pair.private, other_age_pair.private, *pgp_secrets, "correct horse"]
    told: list[str] = []
    async with serve_git(root, username="ann", token=SensitiveText(TOKEN)) as server, open_service(real) as krapao:
        source = Source(server.create("r.git"))
        good = encrypt(SECRET.format(CANARY), "--age", age_pair.public)
        revision = work.commit(
            {
                "s.yaml": good,
                "tampered.yaml": good.replace(b"name:", b"eman:"),
                "old.yaml": (DATA / "sops-3.7.3" / "all.yaml").read_bytes(),
            }
        )
        work.push(root / "r.git")
        right = GitCredentials(username=SensitiveText("ann"), token=SensitiveText(TOKEN))
        wrong = GitCredentials(username=SensitiveText("bob"), token=SensitiveText(TOKEN))
        keys = (AgeKey(SensitiveText(age_pair.private)),)
        async with krapao.open(source, right) as repository:
            rendered = await repository.render(RenderRequest(revision, "s.yaml", None, keys))
            assert CANARY in rendered.documents[0].reveal().decode()
            told.append(repr(rendered))
            old = RenderRequest(revision, "old.yaml", None, (PgpKey(SensitiveText(pgp)),))
            assert b"correct horse" in (await repository.render(old)).documents[0].reveal()
            for path, some in (
                ("s.yaml", (AgeKey(SensitiveText(other_age_pair.private)),)),
                ("s.yaml", (PgpKey(SensitiveText(pgp)),)),
                ("s.yaml", (PgpKey(SensitiveText(pgp.replace("\n", " "))),)),
                ("tampered.yaml", keys),
            ):
                with pytest.raises(JiemiError) as caught:
                    await repository.render(RenderRequest(revision, path, None, some))
                told.append(str(caught.value) + repr(caught.value))
        async with krapao.open(source, wrong) as repository:
            with pytest.raises(JiemiError) as caught:
                await repository.head(max_age_seconds=0)
            told.append(str(caught.value))
        told.append(repr((right, keys, source)))
    out = capfd.readouterr()
    assert "render" in out.out
    written = [each for folder in (real.state_dir, scratch) for each in folder.rglob("*") if each.is_file()]
    assert any(each.suffix == ".pack" for each in written)
    assert any(b"sops" in line for line in command_lines)
    for secret in secrets:
        assert secret not in out.out + out.err
        assert not any(secret in each for each in told)
        assert not any(secret.encode() in line for line in command_lines)
        assert not any(secret.encode() in each.read_bytes() for each in written)


@pytest.mark.parametrize("max_packs", [2, 50])
async def test_revisions_are_compared_across_clones_that_are_recreated(
    git_server: GitServer, bare: Path, work: Work, settings: KrapaoSettings, max_packs: int
) -> None:
    async with (
        open_service(attrs.evolve(settings, max_packs=max_packs)) as krapao,
        krapao.open(Source(git_server.url_of("r.git")), NOBODY) as repository,
    ):
        work.commit({"a/x": "0", "b/y": "0"})
        work.push(bare)
        before = (await repository.head(max_age_seconds=0)).revision
        for number in range(1, 4):
            work.commit({"a/x": str(number)})
            work.push(bare)
            git_server.forget_hits()
            after = (await repository.head(max_age_seconds=0)).revision
            assert await repository.changes(before, after) == Changes(("a/x",))
            fetches = sum(hit.asked is Asked.FETCH for hit in git_server.hits)
            # The earlier revision too, where a new clone took the place of the one that had it.
            assert fetches == (2 if max_packs == 2 or number == 1 else 1)
            before = after


async def test_what_another_tenant_fetched_is_not_compared_for_one_to_whom_the_host_did_not_name_it(
    git_server: GitServer, bare: Path, work: Work, settings: KrapaoSettings
) -> None:
    url, other = git_server.url_of("r.git"), GitCredentials(token=SensitiveText("other"))
    async with open_service(settings) as krapao, krapao.open(Source(url), NOBODY) as first:
        old = work.commit({"x": "one"})
        work.push(bare)
        assert (await first.head(max_age_seconds=0)).revision == old
        new = work.commit({"x": "two"})
        work.push(bare)
        assert (await first.head(max_age_seconds=0)).revision == new
        assert await first.changes(old, new) == Changes(("x",))
        async with krapao.open(Source(url), other) as second:
            for before, after in ((old, new), (new, old)):
                with pytest.raises(JiemiError, match="RevisionNotFound: the host has not named revision"):
                    await second.changes(before, after)
            assert await second.changes(new, new) == Changes()
