"""Krapao over its RPC: of a revision that is not verified nothing is opened. Real git, sops and ssh-keygen."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest
import structlog.testing
import trio
from prometheus_client import generate_latest
from support.krapao.age_files import AgePair, Encrypter
from support.krapao.work_tree import Work
from support.network.addresses import LOOPBACK
from support.signing.signers import SshSigner, ssh_signer

from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.demo.git_server import GitServer, serve_git
from jiemi.krapao.metrics import KrapaoMetrics
from jiemi.krapao.service import open_service
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.address import UnixAddress
from jiemi.rpc.bridge import open_bridge
from jiemi.rpc.client import connect
from jiemi.rpc.contract import FilesRequest, Krapao, RenderRequest, Repository
from jiemi.rpc.keys import AgeKey
from jiemi.rpc.server import serve
from jiemi.rpc.source import GitCredentials, Source, TagRange
from jiemi.rpc.verification import PublicKeys, SignatureKind, Verification, VerifyMode

FILE = "secret.enc.yaml"


@attrs.define
class Place:
    """A repository that is followed, and what its Krapao counts."""

    work: Work
    bare: Path
    url: str
    krapao: Krapao
    metrics: KrapaoMetrics
    key: AgeKey
    server: GitServer

    def push(self, *refs: str) -> str:
        self.work.push(self.bare, *(refs or ("HEAD:refs/heads/main",)))
        return self.work.git("rev-parse", "HEAD")

    def decryptions(self) -> float:
        """How often anything of decryption happened: runs of sops, requests for data keys, files that were to be
        decrypted."""
        counted = ("jiemi_sops_run_duration_seconds_count", "jiemi_key_requests_total", "jiemi_decryptions_total")
        page = generate_latest(self.metrics.registry).decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in page if line.startswith(counted))

    def source(self, verification: Verification, **ref: str) -> Source:
        return Source(self.url, verification=verification, **ref)  # type: ignore[arg-type] # one of its refs


@pytest.fixture
def ann(tmp_path: Path) -> SshSigner:
    return ssh_signer(tmp_path, "ann")


def policy(*signers: SshSigner, mode: VerifyMode = VerifyMode.COMMIT) -> Verification:
    keys = tuple(PublicKeys(f"{each.path.name}.pub", each.line.encode()) for each in signers)
    return Verification(mode, SignatureKind.SSH, keys)


@pytest.fixture
async def place(tmp_path: Path, tools: dict[str, Path]) -> AsyncIterator[Place]:
    root = tmp_path / "root"
    root.mkdir()
    work = Work(tmp_path / "work")
    identity = AgePair()
    sealed = Encrypter(tools["sops"], tmp_path)("a: secret\n", "--age", identity.public)
    work.commit({FILE: sealed, "plain.yaml": "a: b\n"})
    metrics = KrapaoMetrics()
    settings = KrapaoSettings(state_dir=tmp_path / "state", sops=tools["sops"], addresses=LOOPBACK)
    async with (
        serve_git(root) as server,
        open_bridge() as bridge,
        open_service(settings, metrics) as service,
        trio.open_nursery() as nursery,
    ):
        url = server.create("r.git")
        address = await nursery.start(
            lambda **kw: serve(service, UnixAddress(str(tmp_path / "k.sock")), bridge=bridge, **kw)
        )
        async with connect(address, bridge=bridge) as client:
            key = AgeKey(SensitiveText(identity.private))
            yield Place(work, root / "r.git", url, client, metrics, key, server)
        nursery.cancel_scope.cancel()


async def refusal(repository: Repository, revision: str, place: Place) -> str:
    """The one reason for which nothing of a revision is had."""
    reasons = set()
    for call in (
        lambda: repository.verify(FilesRequest(revision, (FILE,))),
        lambda: repository.files(FilesRequest(revision, ("*.yaml",))),
        lambda: repository.render(RenderRequest(revision, FILE, None, (place.key,))),
        lambda: repository.render(RenderRequest(revision, "plain.yaml", None, (), allow_plain=True)),
    ):
        with pytest.raises(JiemiError) as caught:
            await call()
        reasons.add(caught.value.failure.reason)
    [reason] = reasons
    return str(reason)


async def test_of_a_revision_that_is_not_verified_nothing_is_opened_and_no_sops_runs(
    place: Place, ann: SshSigner, tmp_path: Path
) -> None:
    eve = ssh_signer(tmp_path, "eve")
    async with place.krapao.open(place.source(policy(ann)), GitCredentials()) as repository:
        unsigned = place.push()
        assert (await repository.head(max_age_seconds=0)).revision == unsigned
        assert await refusal(repository, unsigned, place) == "SignatureMissing"
        eve.configure(place.work)
        place.work.git("commit", "--quiet", "--amend", "--no-edit", "-S")
        by_eve = place.push()
        assert (await repository.head(max_age_seconds=0)).revision == by_eve
        assert await refusal(repository, by_eve, place) == "SignerUnknown"
        assert place.decryptions() == 0
        ann.configure(place.work)
        place.work.git("commit", "--quiet", "--amend", "--no-edit", "-S")
        by_ann = place.push()
        assert (await repository.head(max_age_seconds=0)).revision == by_ann
        found = await repository.verify(FilesRequest(by_ann, ()))
        assert found.commit is not None
        assert (found.commit.name, found.commit.key) == ("ann", ann.fingerprint)
        rendered = await repository.render(RenderRequest(by_ann, FILE, None, (place.key,)))
        assert rendered.documents
        done = place.decryptions()
        assert done >= 3  # a run of sops, a request for its data key, a file
        # What was pushed before is not had by its hash either.
        assert await refusal(repository, unsigned, place) == "SignatureMissing"
    # Who took the signer away is asked again, of what was verified a moment ago; so is one that pins the commit.
    for source in (place.source(policy(eve)), place.source(policy(eve), commit=by_ann)):
        async with place.krapao.open(source, GitCredentials()) as repository:
            assert await refusal(repository, by_ann, place) == "SignerUnknown"
    assert place.decryptions() == done


async def test_a_signed_tag_is_fetched_and_verified_though_its_commit_is_here_already(
    place: Place, ann: SshSigner
) -> None:
    revision = place.push()
    ann.configure(place.work)
    async with place.krapao.open(Source(place.url), GitCredentials()) as plain:
        await plain.head(max_age_seconds=0)
        assert (await plain.files(FilesRequest(revision, (FILE,)))).entries
        place.work.git("tag", "-s", "v1.0.0", "-m", "first")
        place.push("HEAD:refs/heads/main", "v1.0.0")
        wanted = policy(ann, mode=VerifyMode.TAG)
        sources = (
            place.source(wanted, tag="v1.0.0"),
            place.source(wanted, name="refs/tags/v1.0.0"),
            attrs.evolve(place.source(wanted), tags=TagRange("1.x")),
        )
        for source in sources:
            async with place.krapao.open(source, GitCredentials()) as repository:
                assert (await repository.head(max_age_seconds=0)).revision == revision
                found = await repository.verify(FilesRequest(revision, ()))
                assert found.tag is not None
                assert (found.tag.name, found.ref, found.commit) == ("ann", "refs/tags/v1.0.0", None)
                assert (await repository.files(FilesRequest(revision, (FILE,)))).entries
        both = place.source(policy(ann, mode=VerifyMode.TAG_AND_COMMIT), tag="v1.0.0")
        async with place.krapao.open(both, GitCredentials()) as repository:
            await repository.head(max_age_seconds=0)
            assert await refusal(repository, revision, place) == "SignatureMissing"
        # The tag is made again, of the same commit and without a signature; then it is a mere name.
        for arguments in (("-a", "-m", "x"), ()):
            place.work.git("tag", "-f", *arguments, "v1.0.0")
            place.push("v1.0.0")
            async with place.krapao.open(place.source(wanted, tag="v1.0.0"), GitCredentials()) as repository:
                assert (await repository.head(max_age_seconds=0)).revision == revision
                expected = "SignatureMissing" if arguments else "TagRequired"
                assert await refusal(repository, revision, place) == expected
    assert place.decryptions() == 0


async def test_a_pinned_commit_counts_where_its_tag_was_verified_before(place: Place, ann: SshSigner) -> None:
    ann.configure(place.work)
    place.work.git("tag", "-s", "v1", "-m", "first")
    revision = place.push("HEAD:refs/heads/main", "v1")
    wanted = policy(ann, mode=VerifyMode.TAG)
    pinned = place.source(wanted, commit=revision)
    async with place.krapao.open(pinned, GitCredentials()) as repository:
        await repository.head(max_age_seconds=0)
        assert await refusal(repository, revision, place) == "TagRequired"
    async with place.krapao.open(place.source(wanted, tag="v1"), GitCredentials()) as repository:
        await repository.head(max_age_seconds=0)
        await repository.verify(FilesRequest(revision, ()))
    async with place.krapao.open(pinned, GitCredentials()) as repository:
        assert (await repository.verify(FilesRequest(revision, ()))).ref == "refs/tags/v1"
        rendered = await repository.render(RenderRequest(revision, FILE, None, (place.key,)))
        assert rendered.documents


async def test_a_repository_that_is_opened_without_a_policy_verifies_nothing_and_says_so(place: Place) -> None:
    revision = place.push()
    async with place.krapao.open(Source(place.url), GitCredentials()) as repository:
        await repository.head(max_age_seconds=0)
        with pytest.raises(JiemiError) as caught:
            await repository.verify(FilesRequest(revision, ()))
        assert caught.value.failure.reason == "InvalidSpec"


async def test_tags_of_tags_are_followed_so_far_and_no_further(place: Place, ann: SshSigner) -> None:
    ann.configure(place.work)
    place.work.git("tag", "-s", "t1", "-m", "x")
    for number in range(2, 10):
        place.work.git("-c", "advice.nestedTag=false", "tag", "-s", f"t{number}", "-m", "x", f"t{number - 1}")
    revision = place.push("HEAD:refs/heads/main", "t8", "t9")
    wanted = policy(ann, mode=VerifyMode.TAG)
    async with place.krapao.open(place.source(wanted, tag="t8"), GitCredentials()) as repository:
        await repository.head(max_age_seconds=0)
        assert (await repository.verify(FilesRequest(revision, ()))).ref == "refs/tags/t8"
    async with place.krapao.open(place.source(wanted, tag="t9"), GitCredentials()) as repository:
        await repository.head(max_age_seconds=0)
        assert await refusal(repository, revision, place) == "LimitExceeded"


async def test_many_who_ask_at_once_cost_one_check(place: Place, ann: SshSigner) -> None:
    ann.configure(place.work)
    place.work.git("commit", "--quiet", "--amend", "--no-edit", "-S")
    revision = place.push()
    source = place.source(policy(ann))
    with structlog.testing.capture_logs() as lines:
        async with contextlib.AsyncExitStack() as stack, trio.open_nursery() as nursery:
            for _ in range(20):
                opened = await stack.enter_async_context(place.krapao.open(source, GitCredentials()))
                await opened.head(max_age_seconds=60)
                nursery.start_soon(opened.verify, FilesRequest(revision, ()))
    assert [each["event"] for each in lines if each["event"] in ("verified", "not_verified")] == ["verified"]
