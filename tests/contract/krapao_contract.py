"""What every `Krapao` does. One suite for the fake, for the client over Cap'n Proto, and for the real service.

A test module subclasses `KrapaoContract` (its name beginning with Test) and gives a fixture `world`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Protocol

import attrs
import pytest
import trio

from jiemi.core.content.formats import Format
from jiemi.core.errors import JiemiError
from jiemi.rpc.contract import (
    MAX_FILES,
    Changes,
    Encryption,
    Files,
    FilesRequest,
    Head,
    Krapao,
    NestedPlaces,
    Rendered,
    RenderRequest,
    Repository,
    is_revision,
)
from jiemi.rpc.keys import DecryptionKey
from jiemi.rpc.source import GitCredentials, Source, TagRange
from jiemi.rpc.verification import PublicKeys, SignatureKind, Verification, VerifyMode

DEADLINE_SECONDS = 30
"""For what must happen, on a machine that is busy with other things."""

FILE = "app/secret.enc.yaml"

Contents = Mapping[str, Sequence[object]]
"""Documents by path."""


class World(Protocol):
    """A Krapao, and a git host that it can reach.

    Attributes:
        krapao: the one that is tested.
        url: of a repository that exists and is empty at first.
        missing_url: of one that does not exist, on a host that answers.
        credentials: for both.
        keys: open every file.
        wrong_keys: valid keys that open none.
        sops_path: of a .sops.yaml that every commit has.
    """

    krapao: Krapao
    url: str
    missing_url: str
    credentials: GitCredentials
    keys: tuple[DecryptionKey, ...]
    wrong_keys: tuple[DecryptionKey, ...]
    sops_path: str

    async def commit(self, files: Contents, *, branch: str | None = None, plain: Contents | None = None) -> str:
        """Commit files that decrypt to these documents, beside those there are. Returns the revision.

        Args:
            branch: None for main, which HEAD is.
            plain: files that are not encrypted.
        """
        ...

    async def tag(self, name: str, revision: str) -> None: ...

    async def sealed(self, text: str) -> str:
        """A SOPS file that the keys decrypt to this text."""
        ...


async def head(repository: Repository, max_age_seconds: float = 0) -> str:
    with trio.fail_after(DEADLINE_SECONDS):
        return (await repository.head(max_age_seconds=max_age_seconds)).revision


async def render(
    world: World, repository: Repository, revision: str, path: str = FILE, *, sops_path: str | None = None
) -> Rendered:
    with trio.fail_after(DEADLINE_SECONDS):
        return await repository.render(RenderRequest(revision, path, sops_path, world.keys))


async def files(repository: Repository, revision: str, *patterns: str, exclude: tuple[str, ...] = ()) -> Files:
    with trio.fail_after(DEADLINE_SECONDS):
        return await repository.files(FilesRequest(revision, patterns, exclude))


def paths(found: Files) -> list[str]:
    return [entry.path for entry in found.entries]


def documents(rendered: Rendered) -> list[object]:
    return [json.loads(document.reveal()) for document in rendered.documents]


class KrapaoContract:
    """The suite."""

    async def test_head_tells_the_newest_commit(self, world: World) -> None:
        first = await world.commit({FILE: [{"a": 1}]})
        assert is_revision(first)
        async with world.krapao.open(Source(world.url), world.credentials) as repository:
            assert await head(repository) == first
            second = await world.commit({FILE: [{"a": 2}]})
            assert await head(repository) == second
            assert first != second

    async def test_tenants_are_served_alike_and_an_id_that_could_not_be_one_is_refused(self, world: World) -> None:
        revision = await world.commit({FILE: [{"a": 1}]})
        for tenant in ("", "0123456789abcdef", "A-z._-" * 10):
            async with world.krapao.open(Source(world.url), world.credentials, tenant) as repository:
                assert await head(repository) == revision
        for tenant in ("x" * 65, "a b", "a/b", "é", "a\n"):
            async with world.krapao.open(Source(world.url), world.credentials, tenant) as repository:
                with pytest.raises(JiemiError) as raised:
                    await head(repository)
                assert raised.value.failure.reason == "InvalidSpec"

    async def test_an_answer_that_is_young_enough_is_given_again(self, world: World) -> None:
        first = await world.commit({FILE: [{"a": 1}]})
        async with world.krapao.open(Source(world.url), world.credentials) as repository:
            assert await head(repository) == first
            second = await world.commit({FILE: [{"a": 2}]})
            assert await head(repository, max_age_seconds=3_600) == first
            assert await head(repository) == second

    async def test_a_branch_and_a_tag_are_followed(self, world: World) -> None:
        first = await world.commit({FILE: [{"a": 1}]})
        await world.tag("v1", first)
        other = await world.commit({FILE: [{"a": 2}]}, branch="other")
        newest = await world.commit({FILE: [{"a": 3}]})
        for source, revision in (
            (Source(world.url), newest),
            (Source(world.url, branch="main"), newest),
            (Source(world.url, branch="other"), other),
            (Source(world.url, tag="v1"), first),
        ):
            async with world.krapao.open(source, world.credentials) as repository:
                assert await head(repository) == revision, source

    async def test_the_newest_tag_of_a_range_and_any_ref_by_its_full_name_are_followed(self, world: World) -> None:
        first = await world.commit({FILE: [{"a": 1}]})
        second = await world.commit({FILE: [{"a": 2}]})
        for name, revision in (("v1.0.0", first), ("v1.2.0", second), ("v2.0.0-rc.1", first), ("latest", first)):
            await world.tag(name, revision)
        ones = Source(world.url, tags=TagRange("1.x"))
        for source, revision, ref in (
            (Source(world.url), second, "HEAD"),
            (Source(world.url, branch="main"), second, "refs/heads/main"),
            (Source(world.url, tag="latest"), first, "refs/tags/latest"),
            (Source(world.url, name="refs/tags/v1.0.0"), first, "refs/tags/v1.0.0"),
            (Source(world.url, name="refs/heads/main"), second, "refs/heads/main"),
            (Source(world.url, commit=first), first, None),
            (ones, second, "refs/tags/v1.2.0"),
            (Source(world.url, tags=TagRange("*", "0$")), second, "refs/tags/v1.2.0"),
            (Source(world.url, tags=TagRange(">=1-0", r"-rc\.")), first, "refs/tags/v2.0.0-rc.1"),
        ):
            async with world.krapao.open(source, world.credentials) as repository:
                with trio.fail_after(DEADLINE_SECONDS):
                    assert await repository.head(max_age_seconds=0) == Head(revision, ref), source
        async with world.krapao.open(ones, world.credentials) as repository:
            third = await world.commit({FILE: [{"a": 3}]})
            await world.tag("v1.10.0", third)
            assert await head(repository) == third
            assert documents(await render(world, repository, third)) == [{"a": 3}]

    async def test_opening_does_not_fail_and_the_first_call_tells_why(self, world: World) -> None:
        await world.commit({FILE: [{"a": 1}]})
        for source, reasons in (
            # Many hosts tell a stranger nothing, and so ask for credentials where there is no repository.
            (Source(world.missing_url), {"RepositoryNotFound", "RepositoryAccessDenied"}),
            (Source(world.url, branch="gone"), {"RefNotFound"}),
            (Source(world.url, tag="gone"), {"RefNotFound"}),
            (Source(world.url, name="refs/pull/1/head"), {"RefNotFound"}),
            (Source(world.url, tags=TagRange("*")), {"RefNotFound"}),
            (Source(world.url, tags=TagRange("new")), {"InvalidSpec"}),
            (Source(world.url, tags=TagRange("*", "(")), {"InvalidSpec"}),
        ):
            async with world.krapao.open(source, world.credentials) as repository:
                with pytest.raises(JiemiError) as caught:
                    await head(repository)
                assert caught.value.failure.reason in reasons, source

    async def test_a_file_comes_as_documents_in_their_order(self, world: World) -> None:
        content = [
            {"kind": "Secret", "data": {"ключ": "значение"}},
            {"kind": "ConfigMap"},
            {"n": 1, "list": [True, None]},
        ]
        revision = await world.commit({FILE: content})
        async with world.krapao.open(Source(world.url), world.credentials) as repository:
            rendered = await render(world, repository, await head(repository))
            assert rendered.revision == revision
            assert documents(rendered) == content
            assert documents(await render(world, repository, revision, sops_path=world.sops_path)) == content

    async def test_the_revision_that_was_asked_for_is_read_whatever_arrived(self, world: World) -> None:
        first = await world.commit({FILE: [{"a": 1}]})
        async with world.krapao.open(Source(world.url), world.credentials) as repository:
            await head(repository)
            second = await world.commit({FILE: [{"a": 2}]})
            assert await head(repository) == second
            assert documents(await render(world, repository, first)) == [{"a": 1}]
            assert documents(await render(world, repository, second)) == [{"a": 2}]

    async def test_what_is_not_there_is_reported_by_its_reason(self, world: World) -> None:
        revision = await world.commit({FILE: [{"a": 1}]})
        async with world.krapao.open(Source(world.url), world.credentials) as repository:
            await head(repository)
            for request, reason in (
                (RenderRequest("0" * 40, FILE, None, world.keys), "RevisionNotFound"),
                (RenderRequest(revision, "gone.yaml", None, world.keys), "FileNotFound"),
                (RenderRequest(revision, FILE, "gone/.sops.yaml", world.keys), "FileNotFound"),
                (RenderRequest(revision, FILE, None, world.wrong_keys), "KeyMissing"),
                (RenderRequest(revision, FILE, None, ()), "KeyMissing"),
            ):
                with pytest.raises(JiemiError) as caught, trio.fail_after(DEADLINE_SECONDS):
                    await repository.render(request)
                assert caught.value.failure.reason == reason, request

    async def test_globs_and_paths_give_the_files_that_match_in_order_each_once(self, world: World) -> None:
        content = {
            name: [{"a": name}]
            for name in ("app/b.enc.yaml", "app/web/a.enc.yaml", "app/web/deep/c.enc.yaml", "top.yaml")
        }
        revision = await world.commit(content, plain={"app/README.md": ["x"], "vendor/app/d.enc.yaml": []})
        async with world.krapao.open(Source(world.url), world.credentials) as repository:
            await head(repository)
            for patterns, exclude, expected in (
                (("top.yaml",), (), ["top.yaml"]),
                (("./app//b.enc.yaml",), (), ["app/b.enc.yaml"]),
                (("gone/../app/x/../b.enc.yaml",), (), ["app/b.enc.yaml"]),
                (("app/*",), (), ["app/README.md", "app/b.enc.yaml"]),
                (("app/*.yaml", "**/a.*", "app/b.enc.yaml"), (), ["app/b.enc.yaml", "app/web/a.enc.yaml"]),
                (("**/*.enc.yaml",), ("vendor", "deep/"), ["app/b.enc.yaml", "app/web/a.enc.yaml"]),
                (("app/**",), ("*.md", "/app/web/deep"), ["app/b.enc.yaml", "app/web/a.enc.yaml"]),
                (("vendor/app/d.enc.yaml", "app/**"), ("*.yaml", "*.md"), ["vendor/app/d.enc.yaml"]),
                (("none/**", "*.json"), (), []),
                (("**/" + world.sops_path,), (), []),
                ((), (), []),
            ):
                found = await files(repository, revision, *patterns, exclude=exclude)
                assert (found.revision, paths(found)) == (revision, expected), patterns

    async def test_a_files_hash_is_the_same_as_long_as_the_file_is(self, world: World) -> None:
        first = await world.commit({"a.yaml": [{"a": 1}], "b.yaml": [{"b": 1}]})
        async with world.krapao.open(Source(world.url), world.credentials) as repository:
            await head(repository)
            before = await files(repository, first, "*.yaml")
            second = await world.commit({"b.yaml": [{"b": 2}]})
            await head(repository)
            after = await files(repository, second, "*.yaml")
            assert await files(repository, first, "*.yaml") == before
            [config] = (await files(repository, first, world.sops_path)).entries
        assert [entry.path for entry in after.entries] == ["a.yaml", "b.yaml"]
        assert before.entries[0] == after.entries[0]
        assert before.entries[1].blob != after.entries[1].blob
        assert {entry.config for entry in before.entries + after.entries} == {config.blob}
        for entry in before.entries:
            assert is_revision(entry.blob)

    async def test_two_revisions_differ_by_the_files_that_were_changed_added_and_removed(self, world: World) -> None:
        first = await world.commit({FILE: [{"a": 1}], "app/other.enc.yaml": [{"a": 1}]}, plain={"deep/er/x.yaml": [{}]})
        async with world.krapao.open(Source(world.url), world.credentials) as repository:
            assert await head(repository) == first
            assert (await files(repository, first, FILE)).direct
            second = await world.commit({FILE: [{"a": 2}]}, plain={"deep/new/y.yaml": [{"a": 1}]})
            assert await head(repository) == second
            with trio.fail_after(DEADLINE_SECONDS):
                assert await repository.changes(first, second) == Changes((FILE, "deep/new/y.yaml"))
                assert await repository.changes(second, first) == Changes((FILE, "deep/new/y.yaml"))
                assert await repository.changes(second, second) == Changes()
            third = await world.commit({}, plain={"deep/new/y.yaml": [{"a": 2}]})
            assert await head(repository) == third
            with trio.fail_after(DEADLINE_SECONDS):
                assert await repository.changes(first, third) == Changes((FILE, "deep/new/y.yaml"))

    async def test_only_what_the_host_has_named_is_compared(self, world: World) -> None:
        unseen = await world.commit({FILE: [{"a": 1}]})
        newest = await world.commit({FILE: [{"a": 2}]})
        async with world.krapao.open(Source(world.url), world.credentials) as repository:
            assert await head(repository) == newest
            for before, after in ((unseen, newest), (newest, unseen), (newest, "0" * 40), ("x", newest)):
                with pytest.raises(JiemiError) as raised, trio.fail_after(DEADLINE_SECONDS):
                    await repository.changes(before, after)
                assert raised.value.failure.reason == "RevisionNotFound", (before, after)

    async def test_a_path_that_is_no_file_is_reported_and_a_glob_that_takes_none_is_not(self, world: World) -> None:
        revision = await world.commit({FILE: [{"a": 1}]})
        async with world.krapao.open(Source(world.url), world.credentials) as repository:
            await head(repository)
            for asked, pattern, reason in (
                (revision, "gone.yaml", "FileNotFound"),
                (revision, "app", "NotAFile"),
                ("0" * 40, "**", "RevisionNotFound"),
            ):
                with pytest.raises(JiemiError) as caught:
                    await files(repository, asked, "app/**", pattern)
                assert caught.value.failure.reason == reason, pattern
                if reason != "RevisionNotFound":
                    # The field is Miwen's to name: it knows whether it was a file, files or sopsPath.
                    assert pattern in caught.value.failure.message
                    assert caught.value.failure.path == pattern
            with pytest.raises(JiemiError, match=r"app/\*\*"):
                await files(repository, revision, "app/")

    async def test_more_files_than_the_limit_are_refused(self, world: World) -> None:
        revision = await world.commit({}, plain={f"many/{n}.yaml": [] for n in range(MAX_FILES + 1)})
        async with world.krapao.open(Source(world.url), world.credentials) as repository:
            await head(repository)
            with pytest.raises(JiemiError) as caught:
                await files(repository, revision, "many/*")
            assert caught.value.failure.reason == "LimitExceeded"
            assert "spec.source.files" in caught.value.failure.text
            assert len((await files(repository, revision, "many/*", exclude=("7.yaml",))).entries) == MAX_FILES

    async def test_a_commit_that_is_pinned_stays_whatever_moves(self, world: World) -> None:
        first = await world.commit({FILE: [{"a": 1}]})
        other = await world.commit({FILE: [{"a": 2}]}, branch="other")
        newest = await world.commit({FILE: [{"a": 3}]})
        for pinned, content in ((first, 1), (other, 2), (newest, 3)):
            async with world.krapao.open(Source(world.url, commit=pinned), world.credentials) as repository:
                for max_age_seconds in (0, 60):
                    assert await head(repository, max_age_seconds) == pinned
                assert paths(await files(repository, pinned, "app/*")) == [FILE]
                assert documents(await render(world, repository, pinned)) == [{"a": content}]
        async with world.krapao.open(Source(world.url, commit=first), world.credentials) as repository:
            # Without a head before it, too.
            assert documents(await render(world, repository, first)) == [{"a": 1}]

    async def test_a_commit_that_is_pinned_and_not_there_is_reported(self, world: World) -> None:
        await world.commit({FILE: [{"a": 1}]})
        gone = "0123456789" * 4
        async with world.krapao.open(Source(world.url, commit=gone), world.credentials) as repository:
            assert await head(repository) == gone  # which proves that the repository may be read, and no more
            with pytest.raises(JiemiError) as caught:
                await files(repository, gone, FILE)
            assert (caught.value.failure.reason, gone in caught.value.failure.text) == ("RefNotFound", True)
            with pytest.raises(JiemiError) as caught:
                await render(world, repository, gone)
            assert caught.value.failure.reason == "RefNotFound"
        async with world.krapao.open(Source(world.url, commit="main"), world.credentials) as repository:
            with pytest.raises(JiemiError) as caught:
                await head(repository)
            assert caught.value.failure.reason == "RefNotFound"
        async with world.krapao.open(Source(world.missing_url, commit=gone), world.credentials) as repository:
            with pytest.raises(JiemiError) as caught:
                await head(repository)
            assert caught.value.failure.reason in {"RepositoryNotFound", "RepositoryAccessDenied"}

    async def test_a_plain_file_is_taken_only_where_that_is_allowed(self, world: World) -> None:
        content = [{"kind": "ConfigMap", "data": {"ключ": "значение"}}, {"kind": "Secret"}]
        revision = await world.commit({FILE: content}, plain={"plain.yaml": content})
        async with world.krapao.open(Source(world.url), world.credentials) as repository:
            await head(repository)
            for path, keys, encrypted in ((FILE, world.keys, True), ("plain.yaml", (), False)):
                with trio.fail_after(DEADLINE_SECONDS):
                    rendered = await repository.render(RenderRequest(revision, path, None, keys, allow_plain=True))
                assert documents(rendered) == content
                assert rendered.encrypted is encrypted
            assert rendered.encryption == Encryption()
            with pytest.raises(JiemiError) as caught:
                await render(world, repository, revision, "plain.yaml")
            assert caught.value.failure.reason == "NotEncrypted"
            with pytest.raises(JiemiError) as caught:
                await repository.render(RenderRequest(revision, FILE, None, world.wrong_keys, allow_plain=True))
            assert caught.value.failure.reason == "KeyMissing"

    async def test_a_value_that_is_a_sops_file_is_decrypted_only_where_that_is_asked_for(self, world: World) -> None:
        def secret(value: str, kind: str = "Secret") -> dict[str, object]:
            return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}, "stringData": {"a": value, "b": "c"}}

        sealed = await world.sealed("hello")
        revision = await world.commit({FILE: [secret(sealed)]}, plain={"plain.yaml": [secret(sealed), {"kind": "X"}]})
        places = NestedPlaces((("apiVersion", "v1"), ("kind", "Secret")), texts=("stringData",), encoded=("data",))
        async with world.krapao.open(Source(world.url), world.credentials) as repository:
            await head(repository)
            for path, nested, value in (
                (FILE, (places,), "hello"),
                ("plain.yaml", (places,), "hello"),
                (FILE, (), sealed),
                ("plain.yaml", (), sealed),
            ):
                request = RenderRequest(revision, path, None, world.keys, allow_plain=True, nested=nested)
                with trio.fail_after(DEADLINE_SECONDS):
                    rendered = await repository.render(request)
                assert documents(rendered)[0] == secret(value)
                assert rendered.encrypted is (path == FILE)
                assert rendered.opened == len(nested)
                # What is known of the MAC is that of whatever was decrypted.
                assert rendered.encryption.mac_only_encrypted is (False if nested or path == FILE else None)

    async def test_a_file_whose_mac_covers_everything_is_taken_where_that_is_wanted(self, world: World) -> None:
        revision = await world.commit({FILE: [{"a": 1}]})
        async with world.krapao.open(Source(world.url), world.credentials) as repository:
            await head(repository)
            with trio.fail_after(DEADLINE_SECONDS):
                rendered = await repository.render(
                    RenderRequest(revision, FILE, None, world.keys, require_full_mac=True)
                )
            assert documents(rendered) == [{"a": 1}]
            assert rendered.encryption.mac_only_encrypted is False

    async def test_a_stated_format_is_obeyed_and_reported(self, world: World) -> None:
        revision = await world.commit({FILE: [{"a": 1}]}, plain={"plain.yaml": [{"b": 2}]})
        async with world.krapao.open(Source(world.url), world.credentials) as repository:
            await head(repository)
            for path, allow_plain in ((FILE, False), ("plain.yaml", True)):
                for stated in (Format.YAML, None):
                    request = RenderRequest(revision, path, None, world.keys, allow_plain=allow_plain, format=stated)
                    with trio.fail_after(DEADLINE_SECONDS):
                        rendered = await repository.render(request)
                    assert rendered.format is stated
                    assert rendered.plain_documents == ()  # all of a file, or none

    async def test_of_a_revision_that_is_not_signed_as_it_must_be_nothing_is_had(self, world: World) -> None:
        revision = await world.commit({FILE: [{"a": 1}]})
        line = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        keys = (PublicKeys("ann.pub", line),)
        wanted = Verification(VerifyMode.COMMIT, SignatureKind.SSH, keys)
        for source in (Source(world.url), Source(world.url, commit=revision)):
            async with world.krapao.open(attrs.evolve(source, verification=wanted), world.credentials) as repository:
                assert await head(repository) == revision
                for call in (
                    lambda: repository.verify(FilesRequest(revision, (FILE,))),
                    lambda: files(repository, revision, FILE),
                    lambda: render(world, repository, revision),
                ):
                    with pytest.raises(JiemiError) as caught:
                        await call()
                    assert caught.value.failure.reason == "SignatureMissing"

    async def test_many_tasks_may_use_one_repository(self, world: World) -> None:
        revision = await world.commit({FILE: [{"a": 1}]})
        seen: list[object] = []

        async def use() -> None:
            seen.append(await head(repository, max_age_seconds=60))
            seen.append(documents(await render(world, repository, revision)))

        async with (
            world.krapao.open(Source(world.url), world.credentials) as repository,
            trio.open_nursery() as nursery,
        ):
            for _ in range(8):
                nursery.start_soon(use)
        assert seen.count(revision) == 8
        assert seen.count([{"a": 1}]) == 8

    async def test_a_cancelled_call_leaves_the_repository_usable(self, world: World) -> None:
        revision = await world.commit({FILE: [{"a": 1}]})
        async with world.krapao.open(Source(world.url), world.credentials) as repository:
            for _ in range(3):
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await repository.head(max_age_seconds=0)
                assert scope.cancelled_caught
            assert await head(repository) == revision

    async def test_a_watch_hears_of_what_another_question_saw(self, world: World) -> None:
        await world.commit({FILE: [{"a": 1}]})
        send, receive = trio.open_memory_channel[Head](100)
        async with (
            world.krapao.open(Source(world.url), world.credentials) as watched,
            world.krapao.open(Source(world.url), world.credentials) as asked,
            trio.open_nursery() as nursery,
        ):
            await head(watched)
            await head(asked)
            nursery.start_soon(watched.watch, send.send_nowait)
            with trio.fail_after(DEADLINE_SECONDS):
                # The watch is on when a movement comes through, so move until then.
                heard = None
                while heard is None:
                    revision = await world.commit({FILE: [{"a": 2}]})
                    assert await head(asked) == revision
                    with trio.move_on_after(0.5):
                        heard = await receive.receive()
                # News may be merged, but the newest is always told.
                revision = await world.commit({FILE: [{"a": 3}]})
                assert await head(asked) == revision
                while heard.revision != revision:
                    heard = await receive.receive()
            nursery.cancel_scope.cancel()

    async def test_a_repository_can_be_opened_again(self, world: World) -> None:
        revision = await world.commit({FILE: [{"a": 1}]})
        for _ in range(3):
            async with world.krapao.open(Source(world.url), world.credentials) as repository:
                assert await head(repository, max_age_seconds=60) == revision
