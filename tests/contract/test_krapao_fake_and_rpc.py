"""The fake Krapao keeps the contract, by itself and behind Cap'n Proto over each kind of socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from contract.krapao_contract import Contents, KrapaoContract
from fakes.krapao import RIGHT_KEY, SOPS_PATH, FakeKrapao, Plain

from jiemi.core.sensitive import SensitiveText
from jiemi.rpc.address import Address, TcpAddress, UnixAddress
from jiemi.rpc.bridge import open_bridge
from jiemi.rpc.client import connect
from jiemi.rpc.contract import Krapao
from jiemi.rpc.keys import AgeKey, DecryptionKey
from jiemi.rpc.krapaos import Peer, connect_all
from jiemi.rpc.server import serve
from jiemi.rpc.source import GitCredentials


class _FakeWorld:
    url = "https://git.example/app.git"
    missing_url = "https://git.example/missing.git"
    credentials = GitCredentials(username=SensitiveText("someone"), token=SensitiveText("secret"))
    keys: tuple[DecryptionKey, ...] = (RIGHT_KEY,)
    wrong_keys: tuple[DecryptionKey, ...] = (AgeKey(SensitiveText("AGE-SECRET-KEY-FAKE-WRONG")),)
    sops_path = SOPS_PATH

    def __init__(self, fake: FakeKrapao, krapao: Krapao) -> None:
        self.krapao = krapao
        self._origin = fake.add_origin(self.url)

    async def commit(self, files: Contents, *, branch: str | None = None, plain: Contents | None = None) -> str:
        not_encrypted = {path: Plain(documents) for path, documents in (plain or {}).items()}
        return self._origin.commit({**files, **not_encrypted}, branch=branch)

    async def tag(self, name: str, revision: str) -> None:
        self._origin.tag(name, revision)

    async def sealed(self, text: str) -> str:
        sealed = f"a SOPS file of {text}"
        self._origin.values[sealed] = text
        return sealed


class TestFakeKrapao(KrapaoContract):
    @pytest.fixture
    def world(self) -> _FakeWorld:
        fake = FakeKrapao()
        return _FakeWorld(fake, fake)


class _OverRpc(KrapaoContract):
    def address(self, directory: Path) -> Address:
        raise NotImplementedError

    @pytest.fixture
    async def world(self, tmp_path: Path) -> AsyncIterator[_FakeWorld]:
        fake = FakeKrapao()
        async with open_bridge() as bridge, trio.open_nursery() as nursery:
            address = await nursery.start(lambda **kw: serve(fake, self.address(tmp_path), bridge=bridge, **kw))
            async with connect(address, bridge=bridge) as client:
                yield _FakeWorld(fake, client)
            nursery.cancel_scope.cancel()
        assert (fake.opened, fake.running, fake.watching) == (0, 0, 0)


class TestKrapaoOverUnixSocket(_OverRpc):
    def address(self, directory: Path) -> Address:
        return UnixAddress(str(directory / "krapao.sock"))


class TestKrapaoOverTcp(_OverRpc):
    def address(self, directory: Path) -> Address:
        return TcpAddress("127.0.0.1", 0)


class TestOneOfSeveralKrapaos(KrapaoContract):
    @pytest.fixture
    async def world(self, tmp_path: Path) -> AsyncIterator[_FakeWorld]:
        first = FakeKrapao()
        fakes = [first, FakeKrapao(first.origins), FakeKrapao(first.origins)]
        async with open_bridge() as bridge, trio.open_nursery() as nursery:
            peers = []
            for number, fake in enumerate(fakes):
                where = UnixAddress(str(tmp_path / f"{number}.sock"))
                peers.append(Peer(f"repository-{number}", where))
                await nursery.start(lambda fake=fake, where=where, **kw: serve(fake, where, bridge=bridge, **kw))
            async with connect_all(peers, bridge=bridge) as krapaos:
                yield _FakeWorld(first, krapaos)
            nursery.cancel_scope.cancel()
        assert all((fake.opened, fake.running, fake.watching) == (0, 0, 0) for fake in fakes)
