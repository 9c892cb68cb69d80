"""Peers of another release: today's schema keeps what frozen ones promised, and today's client talks to their servers.

tests/e2e/test_skew.py has the other direction, with a real Krapao.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio
from rpc.rpc_helpers import QUICK, SOURCE, credential_path, until
from support.paths import ROOT
from support.upgrade.frozen_krapao import DOCUMENT, FILE, REVISION
from support.upgrade.schema_evolution import CURRENT, broken, frozen, promises

from jiemi.core.content.formats import Format
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.rpc.address import UnixAddress
from jiemi.rpc.bridge import open_bridge
from jiemi.rpc.client import connect
from jiemi.rpc.contract import FilesRequest, Head, RenderRequest
from jiemi.rpc.keys import AgeKey
from jiemi.rpc.source import GitCredentials
from jiemi.rpc.verification import PublicKeys, SignatureKind, Verification, VerifyMode

OLDEST, *SINCE_FILES = frozen()
"""The first one knows no `files`: no Miwen that asks for files works with it, and it is no release."""


@pytest.mark.parametrize("path", frozen(), ids=lambda path: path.stem)
def test_todays_schema_keeps_all_that_an_earlier_one_promised(path: Path) -> None:
    earlier = promises(path)
    assert len(earlier) > 30
    assert broken(earlier, promises(CURRENT)) == []


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ("  url @0 :Text;", "  url @0 :Data;", "Source @0"),
        ("  token @1 :Text;           # password", "  token @2 :Text;  #", "GitCredentials @1"),
        ("  path @1 :Text;            # path of", "  file @1 :Text;  # path of", "RenderRequest @1"),
        ("  wholeFile @4 :Bool;", "  wholeFile @4 :Bool = true;", "RenderRequest @4"),
        ("  patterns @1 :List(Text);", "  patterns @1 :List(Data);", "FilesRequest @1"),
        (
            "  render @1 (request :RenderRequest,",
            "  render @1 (request :FilesRequest,",
            "parameters of Repository @1 @0",
        ),
        ("  head @0 (maxAgeSeconds", "  newest @0 (maxAgeSeconds", "Repository @0"),
        ("waiting @1;  ", "late @1;  ", "RetryKind @1"),
        ("    branch @2 :Text;        # short", "    branch @2 :Data;  # short", "Source.ref @2"),
        ("secret :Text)", "secret :Data)", "parameters of Krapao @0 @1"),
        ("protocolVersion :UInt16 = 1", "protocolVersion :UInt16 = 2", "constant protocolVersion"),
    ],
)
def test_a_change_that_an_older_peer_would_misread_is_found(
    tmp_path: Path, before: str, after: str, found: str
) -> None:
    text = CURRENT.read_text()
    if "GitCredentials" in found:  # a number twice is no schema: two fields change places
        text = text.replace("  ssh @2 :Text;  ", "  ssh @1 :Text;  ")
    assert text.count(before) == 1
    changed = tmp_path / "changed.capnp"
    changed.write_text(text.replace(before, after))
    assert any(each.startswith(f"{found} was ") for each in broken(promises(CURRENT), promises(changed)))


def test_what_is_added_with_the_next_number_breaks_nothing(tmp_path: Path) -> None:
    text = CURRENT.read_text()
    number = text.partition("\nstruct RenderRequest {")[2].partition("\n}")[0].count("@")
    added = text.replace("  wholeFile @4 :Bool;", f"  wholeFile @4 :Bool;\n  more @{number} :Text;")
    added = added.replace("  moved @0 (head :Head) -> ();", "  moved @0 (head :Head, why :Text) -> (ok :Bool);")
    path = tmp_path / "added.capnp"
    path.write_text(added)
    assert promises(path).keys() > promises(CURRENT).keys()
    assert broken(promises(CURRENT), promises(path)) == []


@pytest.fixture(params=SINCE_FILES, ids=lambda path: path.stem)
def old_krapao(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[UnixAddress]:
    """A server of a frozen schema, in a process of its own."""
    yield from _served(request.param, tmp_path)


@pytest.fixture
def oldest_krapao(tmp_path: Path) -> Iterator[UnixAddress]:
    yield from _served(OLDEST, tmp_path)


def _served(schema: Path, folder: Path) -> Iterator[UnixAddress]:
    socket = folder / "old.sock"
    process = subprocess.Popen(
        [sys.executable, "-m", "support.upgrade.frozen_krapao", str(schema), str(socket)],
        cwd=ROOT / "tests",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"serving\n"
        yield UnixAddress(str(socket))
    finally:
        process.kill()
        process.communicate()


async def test_todays_client_follows_a_repository_of_an_older_krapao(old_krapao: UnixAddress) -> None:
    heads: list[Head] = []
    async with (
        open_bridge() as bridge,
        connect(old_krapao, bridge=bridge, settings=QUICK) as client,
        # What that server knows nothing of travels along.
        client.open(SOURCE, GitCredentials(), tenant="0123456789abcdef") as repository,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(repository.watch, heads.append)
        assert await repository.head(max_age_seconds=0) == Head(REVISION)
        files = await repository.files(FilesRequest(REVISION, ("*.yaml",)))
        assert [(entry.path, entry.blob, entry.config) for entry in files.entries] == [(FILE, "b" * 40, None)]
        key = AgeKey(SensitiveText("AGE-SECRET-KEY-1"))
        asked = RenderRequest(REVISION, FILE, None, (key,), whole_file=True, require_full_mac=True, format=Format.YAML)
        rendered = await repository.render(asked)
        assert [document.reveal() for document in rendered.documents] == [DOCUMENT]
        assert rendered.encrypted
        # What it was asked for and does not say that it did: Miwen refuses the file (jiemi/miwen/reconcile/render.py).
        assert rendered.format is None
        assert rendered.encryption.mac_only_encrypted is None
        with pytest.raises(JiemiError) as caught:
            await repository.render(RenderRequest(REVISION, "missing.yaml", None, (key,)))
        assert caught.value.failure.reason == "FileNotFound"
        await until(lambda: heads == [Head("c" * 40)], "the news of the older Krapao")
        nursery.cancel_scope.cancel()


async def test_a_method_that_an_older_krapao_does_not_have_is_a_reason_to_upgrade_it(
    oldest_krapao: UnixAddress,
) -> None:
    async with (
        open_bridge() as bridge,
        connect(oldest_krapao, bridge=bridge, settings=QUICK) as client,
        client.open(SOURCE, GitCredentials(), tenant="") as repository,
    ):
        assert await repository.head(max_age_seconds=0) == Head(REVISION)
        with pytest.raises(JiemiError) as caught:
            await repository.files(FilesRequest(REVISION, ("*.yaml",)))
        assert "Krapao is of an older release" in str(caught.value)


@pytest.mark.parametrize("name", [each.name for each in attrs.fields(GitCredentials)])
async def test_a_credential_that_an_older_krapao_would_ignore_is_refused_by_its_name(
    old_krapao: UnixAddress, name: str
) -> None:
    async with (
        open_bridge() as bridge,
        connect(old_krapao, bridge=bridge, settings=QUICK) as client,
        client.open(SOURCE, GitCredentials(**{name: SensitiveText("canary")}), tenant="") as repository,
    ):
        if name in ("username", "token", "ssh", "known_hosts"):
            assert await repository.head(max_age_seconds=0) == Head(REVISION)
            return
        for call in (repository.head(max_age_seconds=0), repository.watch(lambda _: None)):
            with pytest.raises(JiemiError) as caught:
                await call
            assert caught.value.failure.reason == "ProviderNotSupportedYet"
            assert f"does not know {credential_path(name)}" in str(caught.value)
            assert "canary" not in str(caught.value)


@pytest.mark.parametrize("mode", VerifyMode)
async def test_an_older_krapao_is_not_asked_for_anything_where_revisions_must_be_signed(
    old_krapao: UnixAddress, mode: VerifyMode
) -> None:
    verification = Verification(mode, SignatureKind.SSH, (PublicKeys("ann.pub", b"ssh-ed25519 AAAA"),))
    source = attrs.evolve(SOURCE, verification=verification)
    request = RenderRequest(REVISION, FILE, None, (AgeKey(SensitiveText("AGE-SECRET-KEY-1")),))
    async with (
        open_bridge() as bridge,
        connect(old_krapao, bridge=bridge, settings=QUICK) as client,
        client.open(source, GitCredentials(), tenant="") as repository,
    ):
        for call in (
            lambda: repository.head(max_age_seconds=0),
            lambda: repository.verify(FilesRequest(REVISION, (FILE,))),
            lambda: repository.files(FilesRequest(REVISION, (FILE,))),
            lambda: repository.render(request),
        ):
            with pytest.raises(JiemiError) as caught:
                await call()
            assert caught.value.failure.reason == "ProviderNotSupportedYet"
            assert "does not know spec.source.repository.verify." in str(caught.value)
