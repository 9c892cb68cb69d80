"""Each host that answers badly gets what its row says; what was followed before, and others' files, still open."""

from __future__ import annotations

import time
from pathlib import Path

import attrs
import pytest
import trio
from cryptography.hazmat.primitives.serialization import PrivateFormat
from hostile.cases_hosts import CHANGED, ENDLESS, OVER_SSH, ChangedCase, EndlessCase
from hostile.followed import Followed
from hostile.lab import Lab
from hostile.left import Before, contents, require_no_canary, told
from structlog.testing import capture_logs
from support.krapao.ssh_keys import made, written
from support.network.changed_answers import Answer, between
from support.network.endless_host import again_and_again, endless_host

from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.demo.git_server import GitServer
from jiemi.krapao.service import open_service
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.contract import FilesRequest, RenderRequest, Repository
from jiemi.rpc.source import GitCredentials, Source

MAX_SENT_BYTES = 12_000_000
"""What is under way in the sockets' buffers included."""
MAX_SECONDS = 15
SSH_KEY = written(made("ed25519"), PrivateFormat.OpenSSH)


@pytest.mark.parametrize("case", ENDLESS, ids=lambda case: case.name)
async def test_a_host_without_end_gets_what_its_row_says(
    case: EndlessCase, lab: Lab, settings: KrapaoSettings, server: GitServer, tmp_path: Path
) -> None:
    followed = Followed.on(server, lab)
    bounded = attrs.evolve(
        settings, max_refs_bytes=300_000, git_timeout_seconds=40, connect_timeout_seconds=20, listing_grace_seconds=0.5
    )
    if case.scheme == OVER_SSH:
        credentials = GitCredentials(ssh=SensitiveText(SSH_KEY), known_hosts=SensitiveText("x ssh-ed25519 AAAA"))
    else:
        credentials = followed.credentials
    before = Before.now()
    answer = again_and_again(case.first, case.again, case.pause_seconds)
    with capture_logs() as logs, trio.fail_after(60), endless_host(answer) as (port, sent):
        async with open_service(bounded) as krapao:
            began = time.monotonic()
            source = Source(f"{case.scheme}://127.0.0.1:{port}/r", branch="main")
            async with krapao.open(source, credentials) as repository:
                with pytest.raises(JiemiError) as caught:
                    await repository.head(max_age_seconds=0)
            assert time.monotonic() - began < MAX_SECONDS
            await followed.require_next_served(krapao)
    await before.require_again()
    _require_as_the_row_says(case, caught.value, lab)
    assert sent[0] < MAX_SENT_BYTES
    require_no_canary(lab, "a log", [repr(logs).encode()])
    require_no_canary(lab, "a file", contents(tmp_path))


@pytest.mark.parametrize("case", CHANGED, ids=lambda case: case.name)
async def test_a_host_that_answers_otherwise_gets_what_its_row_says(
    case: ChangedCase, lab: Lab, settings: KrapaoSettings, server: GitServer, tmp_path: Path
) -> None:
    followed = Followed.on(server, lab)
    is_hostile, hostile_change = False, case.change(lab)

    def change(path: str, answer: Answer) -> Answer:
        return hostile_change(path, answer) if is_hostile else answer

    before = Before.now()
    with capture_logs() as logs, trio.fail_after(60), between(server, change) as address:
        async with (
            open_service(attrs.evolve(settings, **case.settings)) as krapao,
            krapao.open(Source(f"{address}/r.git", branch="main"), followed.credentials) as repository,
        ):
            assert (await repository.head(max_age_seconds=0)).revision == followed.good
            await followed.require_good(repository, followed.good)
            is_hostile, pushed = True, followed.push()
            with pytest.raises(JiemiError) as caught:
                await _rendered(repository, lab)
            # What was deployed is still there to be kept right.
            await followed.require_good(repository, followed.good)
            await followed.require_next_served(krapao)
            is_hostile = False
            if case.name != "host-retry":
                assert (await repository.head(max_age_seconds=0)).revision == pushed
                await followed.require_good(repository, pushed)
    await before.require_again()
    _require_as_the_row_says(case, caught.value, lab)
    require_no_canary(lab, "a log", [repr(logs).encode()])
    require_no_canary(lab, "a file", contents(tmp_path))


async def _rendered(repository: Repository, lab: Lab) -> None:
    head = await repository.head(max_age_seconds=0)
    await repository.files(FilesRequest(head.revision, ("**",)))
    await repository.render(RenderRequest(head.revision, "s.yaml", None, (lab.age,)))


def _require_as_the_row_says(case: EndlessCase | ChangedCase, error: JiemiError, lab: Lab) -> None:
    assert (error.failure.reason, case.says in error.failure.text) == (case.gets, True), str(error)
    assert error.failure.text.isprintable()
    require_no_canary(lab, "an error", [told(error).encode()])
