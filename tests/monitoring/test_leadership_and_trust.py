"""The alerts about who is active, who is lost, and about certificates, each fired by its cause."""

from __future__ import annotations

import contextlib
import datetime
from functools import partial
from pathlib import Path

import pytest
import trio
from fakes.krapao import FakeKrapao
from fakes.kubernetes import FakeKubernetes
from support.monitoring.examples import page
from support.monitoring.promtool import Promtool
from support.monitoring.recording import Recording
from support.network.tls_folders import TestAuthority, now, tls_pair
from trio.testing import MockClock

from jiemi.cli.tls_identities import identity_of_folder
from jiemi.core.errors import JiemiError
from jiemi.krapao.metrics import KrapaoMetrics
from jiemi.miwen.kubernetes.fence import Fence, Moment
from jiemi.miwen.leadership.elector import Elector
from jiemi.miwen.report.metrics import MiwenMetrics
from jiemi.rpc.address import TcpAddress, UnixAddress
from jiemi.rpc.admission import Admission
from jiemi.rpc.bridge import Bridge, open_bridge
from jiemi.rpc.channel import ClientTls
from jiemi.rpc.client import ClientSettings, connect
from jiemi.rpc.krapaos import Peer, connect_all
from jiemi.rpc.server import serve
from jiemi.rpc.source import GitCredentials, Source
from jiemi.rpc.tls import ServerTls, TlsFolder
from jiemi.rpc.tls_names import KRAPAO_NAME, MIWEN_NAME

SOURCE = Source("https://git.example/app.git")

ONLY = {
    "jiemi_leading",
    "jiemi_krapao_lost",
    "jiemi_build_info",
    "jiemi_certificate_not_after_timestamp_seconds",
    "jiemi_peers_refused_total",
}


@pytest.mark.e2e
async def test_that_no_miwen_can_have_the_lease_is_reported(
    tmp_path: Path, promtool: Promtool, autojump_clock: MockClock
) -> None:
    kubernetes = FakeKubernetes()
    kubernetes.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "jiemi"}})
    fence = Fence(lambda: Moment(trio.current_time(), trio.current_time()))
    elector = Elector(kubernetes.leases, ("jiemi", "jiemi-miwen"), "a", fence, now)
    metrics, krapao = MiwenMetrics(), KrapaoMetrics()
    metrics.leading = lambda: elector.leading
    recording = Recording(tmp_path, 0, only=ONLY)

    async def go_on(minutes: float) -> None:
        for _ in range(round(minutes * 60 / recording.every_seconds)):
            await trio.sleep(recording.every_seconds)
            recording.scrape({"miwen": page(metrics), "krapao": page(krapao)})

    async with trio.open_nursery() as nursery:
        nursery.start_soon(elector.lead, trio.sleep_forever)
        await go_on(5)
        kubernetes.leases.away = True
        await go_on(5)
        kubernetes.leases.away = False
        await go_on(5)
        nursery.cancel_scope.cancel()
    recording.require_alerts(promtool, {4: {}, 6: {}, 8: {"JiemiNobodyLeads": 1}, 9: {"JiemiNobodyLeads": 1}, 12: {}})


@pytest.mark.e2e
async def test_that_a_krapao_is_lost_is_reported_until_it_is_no_more_among_them(
    tmp_path: Path, promtool: Promtool, autojump_clock: MockClock
) -> None:
    metrics, krapao = MiwenMetrics(), KrapaoMetrics()
    recording = Recording(tmp_path, 0, only=ONLY)

    async def go_on(minutes: float) -> None:
        for _ in range(round(minutes * 60 / recording.every_seconds)):
            await trio.sleep(recording.every_seconds)
            recording.scrape({"miwen": page(metrics), "krapao": page(krapao)})

    nobody = Peer("repository-1", UnixAddress(str(tmp_path / "nobody.sock")))
    async with open_bridge() as bridge, connect_all([nobody], bridge=bridge) as krapaos:
        metrics.krapaos = krapaos.shares
        await go_on(5)
        async with krapaos.open(SOURCE, GitCredentials()) as repository:
            with pytest.raises(JiemiError, match="KrapaoUnavailable"):
                await repository.head(max_age_seconds=0)
        await go_on(15)
        krapaos.set_peers([])
        await go_on(5)
    recording.require_alerts(promtool, {4: {}, 13: {}, 17: {"JiemiKrapaoLost": 1}, 19: {"JiemiKrapaoLost": 1}, 22: {}})


@pytest.mark.e2e
def test_that_a_certificate_is_not_renewed_is_reported(tmp_path: Path, promtool: Promtool) -> None:
    began = now()
    authority = TestAuthority()
    folder = authority.write(tmp_path / "tls", KRAPAO_NAME, lifetime=datetime.timedelta(hours=20))
    tls = ServerTls(TlsFolder(folder))
    krapao, miwen = KrapaoMetrics(), MiwenMetrics()

    def ends() -> float | None:
        tls.refresh()
        return tls.not_after.timestamp() if tls.not_after is not None else None

    krapao.certificate_ends = ends
    # The timeline begins three days and ten minutes before its end.
    epoch = began.timestamp() + 20 * 3_600 - 3 * 86_400 - 600
    recording = Recording(tmp_path, epoch, only=ONLY)

    def go_on(minutes: float) -> None:
        for _ in range(round(minutes * 60 / recording.every_seconds)):
            recording.scrape({"krapao": page(krapao), "miwen": page(miwen)})

    go_on(50)
    # Renewed: what is shown is another one.
    TestAuthority(authority.issued).write(folder, KRAPAO_NAME, lifetime=datetime.timedelta(hours=23))
    go_on(10)
    recording.require_alerts(
        promtool,
        {5: {}, 35: {}, 42: {"JiemiCertificateExpires": 1}, 49: {"JiemiCertificateExpires": 1}, 55: {}},
    )


@pytest.mark.e2e
async def test_that_strangers_come_to_krapaos_port_again_and_again_is_reported(
    tmp_path: Path, promtool: Promtool
) -> None:
    metrics, miwen = KrapaoMetrics(), MiwenMetrics()
    recording = Recording(tmp_path / "recorded", 0, only=ONLY, every_seconds=60)
    recording.folder.mkdir()
    pair = tls_pair(tmp_path)
    stranger = TestAuthority().write(tmp_path / "stranger", MIWEN_NAME, accepts=[pair.authority])
    admission = Admission(tls=ServerTls(TlsFolder(pair.krapao)), refused=metrics.peer_refused)
    fake = FakeKrapao()
    fake.add_origin(SOURCE.url).commit({"f.yaml": []})

    async def go_on(minutes: int, bridge: Bridge, address: TcpAddress, identity: Path | None = None) -> None:
        for minute in range(minutes):
            if identity is not None and minute % 5 == 0:
                await _once(bridge, address, identity)
            recording.scrape({"krapao": page(metrics), "miwen": page(miwen)})

    async with open_bridge() as bridge, trio.open_nursery() as nursery:
        port = partial(serve, fake, TcpAddress("127.0.0.1", 0), bridge=bridge, admission=admission)
        address = await nursery.start(port)
        await go_on(40, bridge, address, pair.miwen)
        await go_on(1, bridge, address, stranger)
        await go_on(39, bridge, address)
        await go_on(60, bridge, address, stranger)
        await go_on(30, bridge, address, pair.miwen)
        nursery.cancel_scope.cancel()
    recording.require_alerts(
        promtool,
        {39: {}, 70: {}, 95: {}, 105: {"JiemiStrangersAtKrapao": 1}, 139: {"JiemiStrangersAtKrapao": 1}, 160: {}},
    )


async def _once(bridge: Bridge, address: TcpAddress, identity: Path) -> None:
    """A client that asks one thing, if it is let in."""
    # Who is let in waits for the answer alone.
    wait_seconds = 0.5 if identity.name == "stranger" else 20
    settings = ClientSettings(wait_for_connection_seconds=wait_seconds, backoff_first_seconds=60)
    tls = ClientTls(identity_of_folder(identity))
    async with (
        connect(address, bridge=bridge, settings=settings, tls=tls) as client,
        client.open(SOURCE, GitCredentials()) as repository,
    ):
        with contextlib.suppress(JiemiError):
            await repository.head(max_age_seconds=0)
