"""Tenants whose key services never answer, or who use ever other keys, beside one that wants little."""

from __future__ import annotations

import contextlib
from pathlib import Path

import attrs
import pyrage
import pytest
import trio
from support.krapao.age_files import AgePair, Encrypter
from support.krapao.hostile_tenants import DEADLINE_SECONDS, NOBODY, Hostile, until
from support.krapao.key_services import open_vault_transit
from support.krapao.work_tree import Work

from jiemi.core.sensitive import SensitiveText
from jiemi.demo.git_server import GitServer
from jiemi.krapao.service import open_service
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.contract import RenderRequest
from jiemi.rpc.keys import AgeKey, VaultKey
from jiemi.rpc.source import Source


@pytest.fixture
def real(settings: KrapaoSettings, sops_path: Path, runtime: Path, git_server: GitServer) -> KrapaoSettings:
    git_server.create("r.git")
    return attrs.evolve(settings, sops=sops_path, runtime_dir=runtime)


def sops_of(settings: KrapaoSettings) -> Path:
    assert settings.sops is not None
    return settings.sops


@pytest.mark.parametrize("tenants", [1, 2, 3, 7])
async def test_a_vault_that_hangs_does_not_hold_up_another_tenants_decryption(
    git_server: GitServer, work: Work, real: KrapaoSettings, encrypt: Encrypter, age_pair: AgePair, tenants: int
) -> None:
    patient = attrs.evolve(real, key_service_timeout_seconds=60, decrypt_timeout_seconds=60)
    with open_vault_transit() as vault:
        double = vault.double
        assert double is not None
        assert isinstance(vault.right, VaultKey)
        of_vault = vault.encrypt(sops_of(real), b"a: 1\n", "yaml")
        files = {f"s{number}.yaml": of_vault for number in range(12)}
        files["honest.yaml"] = encrypt("a: 1\n", "--age", age_pair.public)
        revision = work.commit(files)
        work.push(git_server.root / "r.git")
        url = git_server.url_of("r.git")
        double.silent = True
        async with open_service(patient) as krapao, trio.open_nursery() as nursery:
            hostile = Hostile(nursery)
            for tenant in range(tenants):
                key = attrs.evolve(vault.right, namespace=SensitiveText(f"n{tenant}"))
                hostile.render(krapao, url, (key,), f"hostile-{tenant}", 12)
            await until(lambda: len(double.requests) >= 6)
            async with krapao.open(Source(url), NOBODY, "honest") as repository:
                honest = AgeKey(SensitiveText(age_pair.private))
                with trio.fail_after(DEADLINE_SECONDS):
                    await repository.head(max_age_seconds=0)
                    await repository.render(RenderRequest(revision, "honest.yaml", None, (honest,)))
            assert hostile.ended.total() == 0
            nursery.cancel_scope.cancel()


async def test_a_tenant_with_ever_other_credentials_ends_its_own_holders_and_nobody_elses(
    git_server: GitServer, work: Work, real: KrapaoSettings, encrypt: Encrypter, age_pair: AgePair
) -> None:
    few = attrs.evolve(real, max_holders=4, holder_idle_seconds=600)
    identities = [pyrage.x25519.Identity.generate() for _ in range(8)]
    files = {
        f"s{number}.yaml": encrypt("a: 1\n", "--age", str(each.to_public())) for number, each in enumerate(identities)
    }
    files["honest.yaml"] = encrypt("a: 1\n", "--age", age_pair.public)
    revision = work.commit(files)
    work.push(git_server.root / "r.git")
    source = Source(git_server.url_of("r.git"))
    async with open_service(few) as krapao, contextlib.AsyncExitStack() as stack:
        honest = await stack.enter_async_context(krapao.open(source, NOBODY, "honest"))
        await honest.head(max_age_seconds=0)
        await honest.render(RenderRequest(revision, "honest.yaml", None, (AgeKey(SensitiveText(age_pair.private)),)))
        pool = krapao._decrypter._holders  # type: ignore[attr-defined]
        [of_honest] = pool._all
        for number, each in enumerate(identities):
            hostile = await stack.enter_async_context(krapao.open(source, NOBODY, "hostile"))
            key = AgeKey(SensitiveText(str(each)))
            await hostile.render(RenderRequest(revision, f"s{number}.yaml", None, (key,)))
            assert of_honest in pool._all
            assert not of_honest.ended.is_set()
            assert pool.count <= 4
