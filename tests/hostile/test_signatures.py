"""Each forgery gets what its row says: of its revision nothing is opened, and what was signed before still opens."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio
from hostile.cases_signatures import KEY_CASES, PGP, PGP_CASES, SSH_CASES, TAG_CASES, SignedCase
from hostile.followed import Followed
from hostile.lab import Lab
from hostile.left import Before, contents, require_no_canary, told
from hostile.workshop import Signers, Workshop
from prometheus_client import generate_latest
from structlog.testing import capture_logs
from support.krapao.pgp_keys import gpg_home_in_memory
from support.krapao.work_tree import Work

from jiemi.core.errors import JiemiError
from jiemi.demo.git_server import GitServer
from jiemi.krapao.metrics import KrapaoMetrics
from jiemi.krapao.service import open_service
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.contract import FilesRequest, RenderRequest, Repository
from jiemi.rpc.source import Source
from jiemi.rpc.verification import Verification

MAX_SECONDS = 15
FILE = "s.yaml"


@pytest.fixture(scope="module")
def signers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signers]:
    for home in gpg_home_in_memory():
        yield Signers.made(home, tmp_path_factory.mktemp("signers"))


@pytest.mark.parametrize("case", [*SSH_CASES, *PGP_CASES, *TAG_CASES, *KEY_CASES], ids=lambda case: case.name)
async def test_a_forgery_gets_what_its_row_says(
    case: SignedCase,
    lab: Lab,
    settings: KrapaoSettings,
    server: GitServer,
    signers: Signers,
    tmp_path: Path,
    passed: list[bytes],
) -> None:
    followed = Followed.on(server, lab)
    server.create("signed.git")
    bare = server.root / "signed.git"
    (tmp_path / "shop").mkdir()
    shop = Workshop(Work(tmp_path / "work"), signers, tmp_path / "shop")
    (shop.work.path / FILE).write_bytes(lab.file())
    shop.work.git("add", "--all")
    trusted = shop.pgp_keys if case.kind is PGP else shop.ssh_keys
    signer = signers.bob if case.kind is PGP else signers.ann
    shop.commit(signer)
    shop.tag(signer, "v1")
    good = shop.work.git("rev-parse", "HEAD")
    shop.work.push(bare, "HEAD:refs/heads/main", "v1")
    keys = case.make(shop) or trusted
    url = server.url_of("signed.git")
    metrics = KrapaoMetrics()
    before = Before.now()
    errors: list[JiemiError] = []
    with capture_logs() as logs, trio.fail_after(90):
        async with open_service(settings, metrics) as krapao:
            source = Source(url, verification=Verification(case.mode, case.kind, trusted), **case.ref)
            if case.mode.wants_tag:
                source = Source(url, verification=source.verification, tag="v1")
            async with krapao.open(source, followed.credentials) as own:
                assert (await own.head(max_age_seconds=0)).revision == good
                await followed.require_good(own, good)
                decryptions, opened = _decryptions(metrics), len(passed)
                shop.work.push(bare, "refs/heads/main:refs/heads/main", "refs/tags/v1:refs/tags/v1")
                wanted = Verification(case.mode, case.kind, keys, **case.policy)
                counts = wanted.minimum_signers > 1
                began = time.monotonic()
                async with krapao.open(
                    Source(url, verification=wanted, **case.ref), followed.credentials
                ) as repository:
                    revision = (await repository.head(max_age_seconds=0)).revision
                    errors += [await _refusal(call) for call in _calls(repository, revision, lab, counts=counts)]
                assert time.monotonic() - began < MAX_SECONDS
                assert (_decryptions(metrics), len(passed)) == (decryptions, opened)
                await followed.require_good(own, good)
                await followed.require_next_served(krapao)
        await before.require_again()
    assert {error.failure.reason for error in errors} == {case.gets}, str(errors[0])
    for error in errors:
        assert case.says in error.failure.text, str(error)
        assert error.failure.text.isprintable()
    assert "PRIVATE KEY" not in "".join(map(told, errors)) + repr(logs)
    require_no_canary(lab, "an error", [told(error).encode() for error in errors])
    require_no_canary(lab, "a log", [repr(logs).encode()])
    require_no_canary(lab, "a file", contents(tmp_path / "state"))


def _calls(repository: Repository, revision: str, lab: Lab, *, counts: bool) -> list[Callable[[], Awaitable[object]]]:
    """Everything by which something of a revision could be had. Where a file's signers are counted, the revision itself
    may be good: then files may be listed."""
    found: list[Callable[[], Awaitable[object]]] = [
        lambda: repository.verify(FilesRequest(revision, (FILE,))),
        lambda: repository.render(RenderRequest(revision, FILE, None, (lab.age,))),
    ]
    if not counts:
        found.append(lambda: repository.files(FilesRequest(revision, ("*.yaml",))))
    return found


async def _refusal(call: Callable[[], Awaitable[object]]) -> JiemiError:
    with pytest.raises(JiemiError) as caught:
        await call()
    return caught.value


def _decryptions(metrics: KrapaoMetrics) -> float:
    """How often anything of decryption happened."""
    counted = ("jiemi_sops_run_duration_seconds_count", "jiemi_key_requests_total", "jiemi_decryptions_total")
    page = generate_latest(metrics.registry).decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in page if line.startswith(counted))
