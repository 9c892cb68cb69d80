"""The processes that hold credentials: who shares one, when each ends, and what one that dies or hangs costs."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import attrs
import pyrage
import pytest
import trio
from support.krapao.work_tree import Work

from jiemi.core.content.formats import Format
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.demo.git_server import GitServer
from jiemi.krapao.decryption.sops import SopsDecrypter
from jiemi.krapao.metrics import KrapaoMetrics
from jiemi.krapao.service import open_service
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.contract import RenderRequest
from jiemi.rpc.keys import AgeKey
from jiemi.rpc.source import GitCredentials, Source

DEADLINE_SECONDS = 20
PLAIN = "a: SECRET-VALUE\n"


class Tenants:
    """Age keys, and a file for each."""

    def __init__(self, encrypt: Callable[..., bytes]) -> None:
        self._encrypt = encrypt

    def new(self) -> tuple[AgeKey, bytes]:
        identity = pyrage.x25519.Identity.generate()
        return AgeKey(SensitiveText(str(identity))), self._encrypt(PLAIN, "--age", str(identity.to_public()))


@pytest.fixture
def tenants(encrypt: Callable[..., bytes]) -> Tenants:
    return Tenants(encrypt)


@pytest.fixture
def real(settings: KrapaoSettings, sops_path: Path, runtime: Path) -> KrapaoSettings:
    return attrs.evolve(settings, sops=sops_path, runtime_dir=runtime)


async def opens(decrypter: SopsDecrypter, key: AgeKey, data: bytes) -> None:
    assert b"SECRET-VALUE" in (await decrypter.decrypt(data, Format.YAML, (key,))).plain.reveal()


def holders() -> list[int]:
    """The ids of the holders that are children of ours."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if not entry.name.isdecimal() or b"\0keyservice\0" not in (entry / "cmdline").read_bytes():
                continue
            stat = (entry / "stat").read_text()
            if int(stat[stat.rindex(")") + 2 :].split()[1]) == os.getpid():
                found.append(int(entry.name))
    return sorted(found)


async def until(check: Callable[[], bool]) -> None:
    with trio.fail_after(DEADLINE_SECONDS):
        while not check():  # noqa: ASYNC110 - what other processes do
            await trio.sleep(0.01)


async def test_runs_of_the_same_credentials_share_one_and_others_get_their_own(
    real: KrapaoSettings, nursery: trio.Nursery, tenants: Tenants
) -> None:
    decrypter = SopsDecrypter(nursery, real)
    (one, file_of_one), (two, file_of_two) = tenants.new(), tenants.new()
    async with trio.open_nursery() as at_once:
        for _ in range(6):
            at_once.start_soon(opens, decrypter, one, file_of_one)
    assert len(holders()) == decrypter.holder_count == 1
    first = holders()
    await opens(decrypter, two, file_of_two)
    await opens(decrypter, one, file_of_one)
    assert len(holders()) == 2
    assert set(first) < set(holders())


async def test_one_that_is_idle_ends_and_takes_its_folder_with_it(
    real: KrapaoSettings, nursery: trio.Nursery, tenants: Tenants, runtime: Path
) -> None:
    decrypter = SopsDecrypter(nursery, attrs.evolve(real, holder_idle_seconds=0.2))
    await opens(decrypter, *tenants.new())
    await until(lambda: decrypter.holder_count == 0)
    assert holders() == []
    assert list(runtime.iterdir()) == []  # noqa: ASYNC240


async def test_there_are_never_more_than_the_bound_and_the_longest_unused_ends_first(
    real: KrapaoSettings, nursery: trio.Nursery, tenants: Tenants
) -> None:
    decrypter = SopsDecrypter(nursery, attrs.evolve(real, max_holders=2))
    one, two, three = (tenants.new() for _ in range(3))
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, len(holders()))
            await trio.sleep(0.002)

    async with trio.open_nursery() as watching:
        watching.start_soon(watch)
        await opens(decrypter, *one)
        [first] = holders()
        await opens(decrypter, *two)
        [second] = set(holders()) - {first}
        await opens(decrypter, *one)  # now the second is the longest unused
        await opens(decrypter, *three)
        assert first in holders()
        assert second not in holders()
        async with trio.open_nursery() as at_once:  # more at once than there may be: they wait for each other
            for tenant in (one, two, three, one, two, three):
                at_once.start_soon(opens, decrypter, *tenant)
        watching.cancel_scope.cancel()
    assert most == 2


async def test_one_ends_when_its_last_owner_uses_other_credentials_or_goes(
    real: KrapaoSettings, nursery: trio.Nursery, tenants: Tenants
) -> None:
    decrypter = SopsDecrypter(nursery, real)
    (old, old_file), (new, new_file) = tenants.new(), tenants.new()
    for owner in ("a", "b"):
        decrypter.own(owner, (old,))
    await opens(decrypter, old, old_file)
    decrypter.own("a", (new,))
    await opens(decrypter, new, new_file)
    assert len(holders()) == 2  # b still uses the old ones
    decrypter.own("b", (new,))
    await until(lambda: len(holders()) == 1)
    decrypter.own("a", ())
    await opens(decrypter, new, new_file)
    assert len(holders()) == 1
    decrypter.own("b", ())
    await until(lambda: holders() == [])


async def test_closing_a_repository_ends_the_holders_of_its_credentials(
    real: KrapaoSettings, tenants: Tenants, git_server: GitServer, work: Work
) -> None:
    url = git_server.create("r.git")
    key, data = tenants.new()
    revision = work.commit({"s.yaml": data})
    work.push(git_server.root / "r.git")
    metrics = KrapaoMetrics()
    async with open_service(real, metrics) as krapao:
        async with krapao.open(Source(url), GitCredentials()) as repository:
            await repository.render(RenderRequest(revision, "s.yaml", None, (key,)))
            assert metrics.value("jiemi_key_holders") == 1
            assert metrics.value("jiemi_key_requests_total", provider="age", outcome="opened") == 1
        await until(lambda: metrics.value("jiemi_key_holders") == 0)


async def test_one_that_dies_while_nobody_asks_is_started_again_without_an_error(
    real: KrapaoSettings, nursery: trio.Nursery, tenants: Tenants
) -> None:
    decrypter = SopsDecrypter(nursery, real)
    key, data = tenants.new()
    await opens(decrypter, key, data)
    [pid] = holders()
    os.kill(pid, signal.SIGKILL)
    await until(lambda: decrypter.holder_count == 0)
    await opens(decrypter, key, data)
    assert pid not in holders()


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
async def test_one_that_hangs_or_dies_while_it_is_asked_costs_one_clear_error_and_is_started_again(
    real: KrapaoSettings, nursery: trio.Nursery, tenants: Tenants, number: signal.Signals
) -> None:
    decrypter = SopsDecrypter(nursery, attrs.evolve(real, key_service_timeout_seconds=1))
    key, data = tenants.new()
    await opens(decrypter, key, data)
    [pid] = holders()
    os.kill(pid, signal.SIGSTOP)
    async with trio.open_nursery() as asking:
        if number is signal.SIGKILL:

            async def kill_once_asked() -> None:
                await trio.sleep(0.4)  # by then the opener has asked, and waits; if not, it is the other case
                os.kill(pid, signal.SIGKILL)

            asking.start_soon(kill_once_asked)
        with pytest.raises(JiemiError) as caught:
            await decrypter.decrypt(data, Format.YAML, (key,))
    assert caught.value.failure.reason == "KeyHolderFailed"
    await opens(decrypter, key, data)
    await until(lambda: pid not in holders())


async def test_ending_the_decrypter_ends_all_of_them_wherever_they_are(
    real: KrapaoSettings, tenants: Tenants, runtime: Path
) -> None:
    key, data = tenants.new()
    for step in range(8):
        async with trio.open_nursery() as nursery:
            decrypter = SopsDecrypter(nursery, real)
            nursery.start_soon(opens, decrypter, key, data)
            await trio.sleep(0.015 * step)
            nursery.cancel_scope.cancel()
        assert holders() == []
        assert list(runtime.iterdir()) == []  # noqa: ASYNC240
