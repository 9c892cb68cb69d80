"""Alerts of deploy/monitoring, fired by their causes: Miwen over the fakes, hours long on the virtual clock.

What Miwen's page shows is recorded every 30 s, and promtool says which of the shipped rules fire when. Those whose
cause is in Krapao or in processes that end are in tests/e2e/test_alerts.py and tests/krapao/git/test_alerts.py.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from fakes.krapao import RIGHT_KEY
from prometheus_client import generate_latest
from support.miwen.world import FILE, START, URL, World, miwen, secret
from support.monitoring.promtool import Promtool
from support.monitoring.recording import Recording
from trio.testing import MockClock

from jiemi.core.errors import Failure, JiemiError
from jiemi.krapao.metrics import KrapaoMetrics
from jiemi.metrics.registry import ServiceMetrics
from jiemi.miwen.report.metrics import MiwenMetrics
from jiemi.rpc.contract import Encryption

pytestmark = pytest.mark.e2e


def page(metrics: ServiceMetrics) -> str:
    metrics.prepare()
    return generate_latest(metrics.registry).decode()


@attrs.frozen
class Scraped:
    """A Miwen that is scraped, beside a Krapao that is well."""

    recording: Recording
    promtool: Promtool
    metrics: MiwenMetrics = attrs.field(factory=MiwenMetrics)
    krapao: KrapaoMetrics = attrs.field(factory=KrapaoMetrics)

    async def go_on(self, minutes: float) -> None:
        """Let time pass, and record it."""
        for _ in range(round(minutes * 60 / self.recording.every_seconds)):
            self.recording.scrape({"miwen": page(self.metrics), "krapao": page(self.krapao)})
            await trio.sleep(self.recording.every_seconds)

    def require(self, wanted: dict[float, dict[str, int]]) -> None:
        """Require that exactly these alerts fire at these minutes."""
        self.recording.require_alerts(self.promtool, wanted)


@pytest.fixture
def scraped(tmp_path: Path, promtool: Promtool) -> Scraped:
    return Scraped(Recording(tmp_path, START.timestamp()), promtool)


@contextlib.asynccontextmanager
async def running(world: World, scraped: Scraped, **settings: Any) -> AsyncIterator[None]:
    async with miwen(world, metrics=scraped.metrics, **settings):
        yield


async def test_nothing_fires_while_all_is_well_and_there_are_pushes(
    world: World, scraped: Scraped, autojump_clock: MockClock
) -> None:
    world.add()
    async with running(world, scraped):
        for number in range(4):
            await scraped.go_on(20)
            world.origin.commit({FILE: [secret(greeting=str(number))]})
        await scraped.go_on(20)
    assert world.data("app") == {"greeting": "3"}
    scraped.require({1: {}, 30: {}, 60: {}, 99: {}})


async def test_a_decryptor_whose_key_is_missing_is_not_ready_until_the_key_is_there(
    world: World, scraped: Scraped, autojump_clock: MockClock
) -> None:
    world.add(provider={"age": {"privateKey": {"secretName": "key", "key": "age"}}})
    async with running(world, scraped):
        await scraped.go_on(30)
        assert world.reason() == "SecretNotFound"
        world.add_secret("key", age=RIGHT_KEY.private_key.reveal())
        await scraped.go_on(5)
    scraped.require({14: {}, 16: {"JiemiDecryptorNotReady": 1}, 29: {"JiemiDecryptorNotReady": 1}, 32: {}})


async def test_a_suspended_decryptor_is_not_complained_of_until_it_has_been_for_a_week(
    world: World, scraped: Scraped, autojump_clock: MockClock
) -> None:
    world.origin.fail = Failure("HostUnreachable", "the host is down")
    # Sparse, because a week is long; and only what the rules read.
    scraped.recording.every_seconds = 240
    scraped.recording.only = {
        *("jiemi_build_info", "jiemi_decryptor_info", "jiemi_decryptor_ready", "jiemi_decryptor_interval_seconds"),
        *("jiemi_decryptor_repository_seen_timestamp_seconds", "jiemi_decryptor_last_look_timestamp_seconds"),
    }
    world.add(suspend=True)
    async with running(world, scraped, interval=1_800):
        await scraped.go_on(8 * 24 * 60)
    scraped.require({60: {}, 6.9 * 24 * 60: {}, 7.1 * 24 * 60: {"JiemiSuspendedForLong": 1}})


async def test_a_git_host_that_is_down_is_reported_for_its_decryptors_and_forgotten_when_it_is_back(
    world: World, scraped: Scraped, autojump_clock: MockClock
) -> None:
    world.add("app")
    world.add("other")
    async with running(world, scraped):
        await scraped.go_on(10)
        world.origin.fail = Failure("HostUnreachable", "the host is down")
        await scraped.go_on(60)
        world.origin.fail = None
        await scraped.go_on(10)
    not_ready, not_seen = {"JiemiDecryptorNotReady": 2}, {"JiemiRepositoryNotSeen": 2}
    scraped.require({10: {}, 24: {}, 30: not_ready, 44: not_ready, 56: not_ready | not_seen, 78: {}})


async def test_a_loop_that_hangs_is_reported(world: World, scraped: Scraped, autojump_clock: MockClock) -> None:
    world.add()
    async with running(world, scraped):
        await scraped.go_on(10)
        world.krapao.gate = trio.Event()  # a call that nobody ever answers, and that has no deadline
        await scraped.go_on(90)
        world.krapao.gate.set()
        await scraped.go_on(5)
    not_seen = {"JiemiRepositoryNotSeen": 1}
    scraped.require({40: {}, 60: not_seen, 90: not_seen | {"JiemiDecryptorNotLookedAt": 1}, 104: {}})


async def test_somebody_that_changes_an_object_back_each_time_is_reported(
    world: World, scraped: Scraped, autojump_clock: MockClock
) -> None:
    document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "app"}, "data": {"a": "ours"}}
    world.origin.commit({FILE: [document]})
    world.add()
    over = trio.Event()

    async def insist() -> None:
        while not over.is_set():
            found = world.cluster.get("ConfigMap", "default", "app")
            if found is not None and found["data"] == {"a": "ours"}:
                world.cluster.edit("ConfigMap", "default", "app", manager="rival", data={"a": "theirs"})
            await trio.sleep(1)

    async with running(world, scraped), trio.open_nursery() as nursery:
        nursery.start_soon(insist)
        await scraped.go_on(14)
        assert world.reason() == "DriftConflict"
        over.set()
        await scraped.go_on(60)
    scraped.require({4: {}, 10: {"JiemiDriftConflict": 1}, 13: {"JiemiDriftConflict": 1}, 70: {}})
    assert scraped.metrics.value("jiemi_drift_corrections_total") >= 3


async def test_a_watch_that_miwen_has_no_right_to_is_reported(
    world: World, scraped: Scraped, autojump_clock: MockClock
) -> None:
    world.add()
    world.kubernetes.deny("watch", "secrets")
    async with running(world, scraped):
        await scraped.go_on(15)
        world.kubernetes.denied.clear()
        await scraped.go_on(15)
    scraped.require({9: {}, 11: {"JiemiWatchClosed": 1}, 14: {"JiemiWatchClosed": 1}, 29: {}})
    assert scraped.metrics.watches.failed["secrets", "WatchForbidden"] > 1


async def test_an_api_server_that_is_down_closes_every_watch(
    world: World, scraped: Scraped, autojump_clock: MockClock
) -> None:
    world.add()
    down = JiemiError("ClusterUnavailable", "the API server does not answer")
    async with running(world, scraped):
        await scraped.go_on(5)
        for method in ("watch_decryptors", "watch_metadata"):
            world.kubernetes.fail_next(method, *[down] * 1_000)
        world.cluster.end_watches()
        await scraped.go_on(15)
    scraped.require({14: {}, 19: {"JiemiWatchClosed": 2}})
    # It fails and is tried again, so the process lives.
    assert [loop.name for loop in scraped.metrics.health.loops() if loop.hangs] == []


async def test_work_that_waits_long_for_a_slot_is_reported(
    world: World, scraped: Scraped, autojump_clock: MockClock
) -> None:
    never, call = trio.Event(), world.krapao._call

    @contextlib.asynccontextmanager
    async def hanging(*what: str) -> AsyncIterator[None]:
        if what[0] == "render":
            await never.wait()
        async with call(*what):
            yield

    world.krapao._call = hanging  # type: ignore[method-assign]
    for number in range(4):
        world.add(f"d{number}")
    async with running(world, scraped, max_concurrent_deployments=1):
        await scraped.go_on(14)
        assert scraped.metrics.slot_use["deployments"].used == 1
    scraped.require({4: {}, 13: {"JiemiQueueSlow": 1}})


@pytest.mark.parametrize("reason", ["InternalError", "StorageFailed", "SopsMissing"])
async def test_what_only_the_operator_can_mend_is_reported(
    world: World, scraped: Scraped, autojump_clock: MockClock, reason: str
) -> None:
    call = world.krapao._call
    failure: Exception | None = ZeroDivisionError()
    if reason != "InternalError":
        failure = JiemiError(reason, "as the test wants")

    @contextlib.asynccontextmanager
    async def failing(*what: str) -> AsyncIterator[None]:
        async with call(*what):
            if failure is not None:
                raise failure
            yield

    world.add()
    world.krapao._call = failing  # type: ignore[method-assign]
    async with running(world, scraped):
        await scraped.go_on(12)
        assert world.reason() == reason
        failure = None
        await scraped.go_on(8)
    scraped.require({9: {}, 11: {"JiemiOperatorNeeded": 1}, 19: {}})


async def test_a_krapao_that_does_not_answer_is_reported(
    world: World, scraped: Scraped, autojump_clock: MockClock
) -> None:
    world.add()
    async with running(world, scraped):
        await scraped.go_on(5)
        world.origin.fail = Failure("KrapaoUnavailable", "no connection")
        await scraped.go_on(14)
        world.origin.fail = None
        await scraped.go_on(5)
    scraped.require({14: {}, 18: {"JiemiKrapaoUnreachable": 1}, 23: {}})


async def test_decryptors_that_are_turned_away_are_reported(
    world: World, scraped: Scraped, autojump_clock: MockClock
) -> None:
    for number in range(3):
        world.add(f"d{number}")
    async with running(world, scraped, decryptor_memory_bytes=250 * 1024):
        await scraped.go_on(20)
        assert scraped.metrics.value("jiemi_decryptors_turned_away") == 2
        world.delete("d0")
        world.delete("d1")
        world.delete("d2")
        await scraped.go_on(5)
    scraped.require({14: {}, 16: {"JiemiDecryptorsTurnedAway": 1}, 24: {}})


async def test_a_key_that_expires_soon_is_reported(world: World, scraped: Scraped, autojump_clock: MockClock) -> None:
    expires = START + datetime.timedelta(days=3)
    world.origin.encryption = Encryption(key_expires_at=expires.strftime("%Y-%m-%dT%H:%M:%SZ"))
    world.add()
    async with running(world, scraped):
        await scraped.go_on(65)
    assert world.condition("KeyExpiring")["status"] == "True"
    scraped.require({59: {}, 62: {"JiemiKeyExpiring": 1}})


@pytest.mark.parametrize("signer", [None, "eve"], ids=["unsigned", "signed by somebody else"])
async def test_a_revision_that_is_not_signed_as_it_should_be_is_reported_soon(
    world: World, scraped: Scraped, autojump_clock: MockClock, signer: str | None
) -> None:
    world.add_secret("signers", ann="ssh-ed25519 AAAA")
    verify = {"provider": "ssh", "secretName": "signers"}
    world.add(source={"repository": {"url": URL, "verify": verify}, "fileToDecrypt": FILE})
    world.origin.signers[world.origin.commit({FILE: [secret(greeting="one")]})] = "ann"
    async with running(world, scraped):
        await scraped.go_on(10)
        revision = world.origin.commit({FILE: [secret(greeting="two")]})
        if signer is not None:
            world.origin.signers[revision] = signer
        await scraped.go_on(10)
        assert world.data() == {"greeting": "one"}
        world.origin.signers[world.origin.commit({FILE: [secret(greeting="three")]})] = "ann"
        await scraped.go_on(10)
    scraped.require({9: {}, 17: {"JiemiRevisionNotVerified": 1}, 19: {"JiemiRevisionNotVerified": 1}, 28: {}})


async def test_a_krapao_of_an_older_release_is_the_operators_to_upgrade(
    world: World, scraped: Scraped, autojump_clock: MockClock
) -> None:
    world.origin.fail = Failure("ProviderNotSupportedYet", "Krapao is older")
    world.add()
    async with running(world, scraped):
        await scraped.go_on(14)
    scraped.require({9: {}, 12: {"JiemiOperatorNeeded": 1}})


async def test_that_miwen_may_not_read_the_secrets_of_a_namespace_is_the_operators_to_mend(
    world: World, scraped: Scraped, autojump_clock: MockClock
) -> None:
    world.kubernetes.deny("get", "secrets")
    world.add(provider={"age": {"privateKey": {"secretName": "key", "key": "age"}}})
    async with running(world, scraped):
        await scraped.go_on(14)
        assert world.reason() == "SecretForbidden"
    scraped.require({9: {}, 12: {"JiemiOperatorNeeded": 1}})


async def test_a_miwen_that_has_ended_is_missed(world: World, scraped: Scraped, autojump_clock: MockClock) -> None:
    world.add()
    async with running(world, scraped):
        await scraped.go_on(5)
    for _ in range(20):
        scraped.recording.scrape({"miwen": None, "krapao": page(scraped.krapao)})
    scraped.require({5: {}, 9: {}, 11: {"JiemiMiwenDown": 1}})
