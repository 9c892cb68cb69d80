"""One laboratory for the whole suite, and for each test a runtime folder that must be empty in the end."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio
from hostile.lab import Lab, open_lab
from support.network.addresses import LOOPBACK

from jiemi.core.sensitive import SensitiveText
from jiemi.demo.git_server import GitServer, serve_git
from jiemi.krapao.confinement.processes import adopt_orphans
from jiemi.krapao.confinement.spawn import Measures
from jiemi.krapao.decryption import keyservice
from jiemi.krapao.decryption.sops import open_decrypter
from jiemi.krapao.settings import KrapaoSettings


@pytest.fixture(scope="session")
def lab(tools: dict[str, Path]) -> Iterator[Lab]:
    with open_lab(tools["sops"]) as lab:
        yield lab
        assert not [canary for canary in lab.canaries if lab.stranger.saw(canary)]


@pytest.fixture(scope="session")
def measures(tmp_path_factory: pytest.TempPathFactory, lab: Lab) -> Measures:
    """What confines the processes here: found out once."""
    settings = KrapaoSettings(state_dir=tmp_path_factory.mktemp("state"), sops=lab.sops)

    async def ask() -> Measures:
        async with open_decrypter(settings) as decrypter:
            return await decrypter.measures()

    return trio.run(ask)


@pytest.fixture
def runtime() -> Iterator[Path]:
    path = Path("/dev/shm") / f"jiemi-hostile-{os.getpid()}"
    path.mkdir()
    adopt_orphans()
    yield path
    left = list(path.iterdir())
    shutil.rmtree(path)
    assert left == []


@pytest.fixture
def settings(lab: Lab, tmp_path: Path, runtime: Path) -> KrapaoSettings:
    state = tmp_path / "state"
    state.mkdir()
    return KrapaoSettings(
        state_dir=state,
        runtime_dir=runtime,
        sops=lab.sops,
        operator=lab.operator,
        addresses=LOOPBACK,
        git_timeout_seconds=20,
        # The rows are about what is counted, processor time too, which a loaded machine gives late. The times are in
        # tests/krapao/git/test_clones.py and tests/krapao/decryption/test_sops.py.
        search_timeout_seconds=60,
        decrypt_timeout_seconds=120,
        connect_timeout_seconds=5,
        key_service_timeout_seconds=10,
    )


@pytest.fixture
async def server(tmp_path: Path, lab: Lab) -> AsyncIterator[GitServer]:
    """A host that lets nobody in but the tenant, whose token is a canary."""
    root = tmp_path / "repositories"
    root.mkdir()
    async with serve_git(root, username="ann", token=SensitiveText(lab.credentials["vault"])) as server:
        yield server


@pytest.fixture(autouse=True)
def around(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Krapao's own environment: with credentials in it, and with folders that are looked through afterwards."""
    for name, value in lab.ambient.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("VAULT_ADDR", lab.stranger.address)
    monkeypatch.setenv("SOPS_AGE_KEY", lab.credentials["other-age"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", lab.stranger.address)
    for name in ("HOME", "TMPDIR", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What guards pass on to openers."""
    found: list[bytes] = []
    write = keyservice.write_decrypt_response

    def keep(plaintext: bytes) -> bytes:
        found.append(plaintext)
        return write(plaintext)

    monkeypatch.setattr(keyservice, "write_decrypt_response", keep)
    return found
