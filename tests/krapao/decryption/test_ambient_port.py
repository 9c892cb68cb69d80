"""Whoever reaches the port of a Krapao that lends its identity, without its session secret, gets no plaintext."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio
from doubles.vault import Vault, open_vault
from rpc.rpc_helpers import DEADLINE_SECONDS
from support.krapao.key_services import KeyService

from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.rpc.address import parse_address
from jiemi.rpc.bridge import open_bridge
from jiemi.rpc.client import ClientSettings, SecretSource, connect
from jiemi.rpc.contract import Rendered, RenderRequest
from jiemi.rpc.keys import AwsKey, VaultKey
from jiemi.rpc.source import GitCredentials, Source

SECRET = "the-session-secret-of-this-test"
PLAIN = "canary-plaintext"


@attrs.frozen
class Lending:
    """A Krapao that lends its Vault token, on TCP.

    Attributes:
        url, other_url: repositories with the same file, the first within the operator's bounds.
    """

    address: str
    vault: Vault
    url: str
    other_url: str
    revision: str
    log: Path


@pytest.fixture
def lending(tmp_path: Path, runtime: Path, sops_path: Path) -> Iterator[Lending]:
    with open_vault() as vault:
        unused = AwsKey()
        service = KeyService(
            "vault", ("--hc-vault-transit", vault.create_key("k")), vault.environment(), unused, unused
        )
        encrypted = service.encrypt(sops_path, f"a: {PLAIN}\n".encode(), "yaml")
        urls, revisions = zip(*(_repository(tmp_path / name, encrypted) for name in ("ours", "other")), strict=True)
        assert revisions[0] == revisions[1]
        token = vault.create_token(keys={"transit/keys/k"})
        vault.requests.clear()
        (tmp_path / "secret").write_text(SECRET)
        log = tmp_path / "log"
        command = [
            *(
                sys.executable,
                "-m",
                "jiemi",
                "krapao",
                "--listen",
                "tcp:127.0.0.1:0",
                "--insecure-plain-tcp",
                "--allow-file-urls",
            ),
            *("--session-secret-file", tmp_path / "secret", "--state-dir", tmp_path / "state"),
            *("--runtime-dir", runtime, "--sops", sops_path, "--allow-ambient-identity", "vault"),
            *("--ambient-key", f"vault={vault.address}/v1/transit/keys/*", "--ambient-repository", urls[0]),
        ]
        environment = {**os.environ, "VAULT_ADDR": vault.address, "VAULT_TOKEN": token}
        with log.open("wb") as output:
            krapao = subprocess.Popen([*map(str, command)], stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            deadline = time.monotonic() + DEADLINE_SECONDS
            while (found := re.search(r'"(tcp:127\.0\.0\.1:\d+)"', log.read_text())) is None:
                assert krapao.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            yield Lending(found[1], vault, urls[0], urls[1], revisions[0], log)
        finally:
            krapao.terminate()
            krapao.wait(DEADLINE_SECONDS)


def _repository(folder: Path, content: bytes) -> tuple[str, str]:
    folder.mkdir()
    (folder / "f.yaml").write_bytes(content)
    when = "2026-01-01T00:00:00Z"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GIT_AUTHOR_DATE": when,
        "GIT_COMMITTER_DATE": when,
        **{f"GIT_{who}_{what}": "t@jiemi.invalid" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    for arguments in (("init", "--quiet", "-b", "main"), ("add", "f.yaml"), ("commit", "--quiet", "-m", "x")):
        subprocess.run(["git", *arguments], cwd=folder, env=environment, check=True)
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, env=environment, check=True, capture_output=True)
    return f"file://{folder}", done.stdout.decode().strip()


def shows(secret: str) -> SecretSource:
    async def give() -> SensitiveText:
        return SensitiveText(secret)

    return give


async def _render(lending: Lending, url: str, secret: SecretSource | None) -> Rendered:
    settings = ClientSettings(wait_for_connection_seconds=10)
    with trio.fail_after(2 * DEADLINE_SECONDS):
        async with (
            open_bridge() as bridge,
            connect(parse_address(lending.address), bridge=bridge, settings=settings, secret=secret) as krapao,
            krapao.open(Source(url), GitCredentials()) as repository,
        ):
            head = await repository.head(max_age_seconds=0)
            return await repository.render(RenderRequest(head.revision, "f.yaml", keys=(VaultKey(),)))


async def test_only_a_client_with_the_session_secret_has_a_file_opened_with_krapaos_own_identity(
    lending: Lending,
) -> None:
    for secret in (None, shows(""), shows("another-secret-that-is-long-enough")):
        with pytest.raises(JiemiError) as caught:
            await _render(lending, lending.url, secret)
        assert caught.value.failure.reason == "KrapaoAccessDenied"
    assert lending.vault.requests == [], "nothing of a stranger's reaches the key service"
    rendered = await _render(lending, lending.url, shows(SECRET))
    assert [PLAIN.encode() in each.reveal() for each in rendered.documents] == [True]
    # And with the secret, only what the operator's bounds take.
    lending.vault.requests.clear()
    with pytest.raises(JiemiError, match=r"AmbientIdentityNotAllowed: .*--ambient-repository"):
        await _render(lending, lending.other_url, shows(SECRET))
    assert lending.vault.requests == []
    log = lending.log.read_text()
    assert "session_refused" in log
    assert PLAIN not in log
    assert SECRET not in log
