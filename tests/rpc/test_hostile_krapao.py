"""What a hostile Krapao answers to `verify` and `changes` becomes a typed failure, and the next call is answered."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog.testing
import trio
from rpc.hostile_krapao import CANARY, CHANGES, REVISION, VERIFY
from rpc.rpc_helpers import QUICK, SOURCE

from jiemi.core.errors import JiemiError
from jiemi.rpc.address import UnixAddress
from jiemi.rpc.bridge import open_bridge
from jiemi.rpc.client import connect
from jiemi.rpc.contract import FilesRequest, Repository
from jiemi.rpc.source import GitCredentials


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UnixAddress]:
    socket = tmp_path_factory.mktemp("hostile") / "k.sock"
    run = [sys.executable, "-m", "rpc.hostile_krapao", str(socket)]
    tests = str(Path(__file__).parents[1])
    with subprocess.Popen(
        run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=tests
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"serving\n"
        yield UnixAddress(str(socket))
        process.terminate()


async def _ask(repository: Repository, method: str, name: str) -> None:
    if method == "verify":
        await repository.verify(FilesRequest(REVISION, (name,)))
    else:
        await repository.changes(REVISION, f"{list(CHANGES).index(name):040x}")


async def _refusal(repository: Repository, method: str, name: str) -> JiemiError:
    with pytest.raises(JiemiError) as caught:
        await _ask(repository, method, name)
    return caught.value


@pytest.mark.parametrize(
    ("method", "name"), [*(("verify", name) for name in VERIFY), *(("changes", name) for name in CHANGES)]
)
async def test_what_no_krapao_answers_is_a_typed_failure(hostile: UnixAddress, method: str, name: str) -> None:
    _, reason, says = (VERIFY if method == "verify" else CHANGES)[name]
    with structlog.testing.capture_logs() as logs, trio.fail_after(60):
        async with (
            open_bridge() as bridge,
            connect(hostile, bridge=bridge, settings=QUICK) as client,
            client.open(SOURCE, GitCredentials()) as repository,
        ):
            error = await _refusal(repository, method, name)
            assert (error.failure.reason, says in error.failure.message) == (reason, True), str(error)
            assert error.failure.text.isprintable()
            assert len(error.failure.text) < 1_000
            # The connection, or the next one, is as good as before.
            after = await _refusal(repository, method, "failure_unknown")
            assert "NobodyKnows" in after.failure.message
    assert CANARY not in repr(logs) + str(error)
