"""OpenSSH's server when it is slow, full, talkative, or ends in the middle of a fetch."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio
import trio.lowlevel
from contract.tcp_proxy import TcpProxy, open_tcp_proxy
from krapao.git.following import listing_fails
from krapao.sshd.conftest import Host, Keys, Opener
from krapao.sshd.sshd_keys import lists
from support.canaries.forms import forms_of, found_in
from support.krapao.work_tree import Work
from support.network.openssh import HOME, KeyFile

from jiemi.core.errors import JiemiError
from jiemi.core.reason_kinds import Kind
from jiemi.core.sensitive import SensitiveText
from jiemi.core.urls import parse_url
from jiemi.krapao.git.clones import Clones
from jiemi.krapao.git.port import Ref
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.source import GitCredentials


def url_at(port: int) -> str:
    return f"ssh://git@127.0.0.1:{port}{HOME}/r.git"


def believed_at(host: Host, keys: Keys, port: int) -> GitCredentials:
    return host.known(host.server.known(keys.host, port=port))


@asynccontextmanager
async def after(first: bytes, port: int) -> AsyncIterator[int]:
    """Where a server says something before its version (RFC 4253, section 4.2)."""

    async def serve(client: trio.SocketStream) -> None:
        try:
            await client.send_all(first)
        except trio.BrokenResourceError:
            return
        await TcpProxy().serve(port, client)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def unheard(port: int) -> AsyncIterator[int]:
    """Where a server is heard, and hears nothing."""

    async def serve(client: trio.SocketStream) -> None:
        async with client, await trio.open_tcp_stream("127.0.0.1", port) as server:
            async for chunk in server:
                await client.send_all(chunk)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def test_lines_before_the_version_and_a_banner_before_the_login_are_passed_over(
    open_host: Opener, work: Work, settings: KrapaoSettings, keys: Keys, tmp_path: Path
) -> None:
    banner = tmp_path / "banner"
    banner.write_text("Authorized use only.\n" * 200)
    with open_host({"Banner": str(banner), "VersionAddendum": "of the team"}) as host:
        revision = work.commit({"x": "one"})
        work.push(host.bare)
        for lines in (b"", b"Welcome\r\n", b"Authorized use only\n" * 40):
            async with after(lines, host.server.port) as port:
                credentials = believed_at(host, keys, port)
                async with Clones(settings).open(parse_url(url_at(port)), credentials) as store:
                    assert (await store.advertised(Ref())).revision == revision


async def test_endless_lines_before_the_version_end_the_call(
    open_host: Opener, settings: KrapaoSettings, keys: Keys, threads_before: None
) -> None:
    with open_host() as host:
        async with after(b"Welcome to the machine\r\n" * 100_000, host.server.port) as port:
            began = trio.current_time()
            said = await listing_fails("HostUnreachable", settings, url_at(port), believed_at(host, keys, port))
            assert f"no git server answers at 127.0.0.1:{port}" in said
            assert "Welcome" not in said
            assert trio.current_time() - began < 8


@pytest.mark.parametrize("takes_it", [True, False])
async def test_a_fetch_is_of_the_last_commit_alone_whether_the_host_takes_the_protocols_version_or_not(
    open_host: Opener, work: Work, settings: KrapaoSettings, takes_it: bool
) -> None:
    with open_host({} if takes_it else {"AcceptEnv": "LANG"}) as host:
        first = work.commit({"x": "one", "old": "gone since"})
        (work.path / "old").unlink()
        last = work.commit({"x": "two"})
        work.push(host.bare)
        async with Clones(settings).open(parse_url(host.url), host.credentials) as store:
            await store.fetch(await store.advertised(Ref()))
            assert await store.read(last, "x", max_bytes=10) == b"two"
            with pytest.raises(JiemiError):
                await store.read(first, "old", max_bytes=10)
            packs = [work.git("verify-pack", "-v", str(each)) for each in settings.state_dir.rglob("*.idx")]
        objects = [line.split() for pack in packs for line in pack.splitlines()]
        assert [fields[0] for fields in objects if fields[1:2] == ["commit"]] == [last]


async def test_keys_are_changed_in_the_middle_of_a_fetch(
    open_host: Opener, work: Work, settings: KrapaoSettings
) -> None:
    with open_host({"RekeyLimit": "64K"}) as host:
        content = random.Random(1).randbytes(3_000_000)
        revision = work.commit({"x": content})
        work.push(host.bare)
        async with Clones(settings).open(parse_url(host.url), host.credentials) as store:
            await store.fetch(await store.advertised(Ref()))
            assert await store.read(revision, "x", max_bytes=len(content)) == content


async def test_a_server_that_is_killed_in_the_middle_of_a_fetch_leaves_a_clone_that_the_next_fetch_completes(
    open_host: Opener, work: Work, settings: KrapaoSettings, keys: Keys, threads_before: None
) -> None:
    content = random.Random(1).randbytes(8_000_000)
    with open_host() as host:
        work.commit({"x": "small"})
        work.push(host.bare)
        async with open_tcp_proxy(host.server.port) as proxy:
            credentials = believed_at(host, keys, proxy.port)
            async with Clones(settings).open(parse_url(url_at(proxy.port)), credentials) as store:
                await store.fetch(await store.advertised(Ref()))
                revision = work.commit({"x": content})
                work.push(host.bare)
                wanted = await store.advertised(Ref())
                before = proxy.from_server

                async def kill() -> None:
                    while proxy.from_server < before + 2_000_000:
                        await trio.lowlevel.checkpoint()
                    host.server.kill()

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(kill)
                    with pytest.raises(JiemiError) as caught:
                        await store.fetch(wanted)
                assert caught.value.failure.reason in {"HostUnreachable", "GitProtocolError"}
                assert caught.value.failure.kind is Kind.TRANSIENT
    with open_host() as host:
        async with Clones(settings).open(parse_url(host.url), host.credentials) as store:
            await store.fetch(await store.advertised(Ref()))
            assert await store.read(revision, "x", max_bytes=len(content)) == content


async def test_a_login_that_the_host_finds_too_slow_fails_before_the_deadline(
    open_host: Opener, work: Work, settings: KrapaoSettings, keys: Keys, threads_before: None
) -> None:
    patient = attrs.evolve(settings, connect_timeout_seconds=15)
    with open_host({"LoginGraceTime": "1"}) as host:
        async with unheard(host.server.port) as port:
            began = trio.current_time()
            said = await listing_fails("HostUnreachable", patient, url_at(port), believed_at(host, keys, port))
            assert trio.current_time() - began < 10
            assert "no git server answers" in said
        revision = work.commit({"x": "one"})
        work.push(host.bare)
        assert await lists(settings, host, host.credentials) == revision


async def test_a_host_that_has_no_place_for_another_login_is_tried_again(
    open_host: Opener, settings: KrapaoSettings
) -> None:
    with open_host({"MaxStartups": "1:100:1"}) as host:
        async with await trio.open_tcp_stream("127.0.0.1", host.server.port):
            await trio.to_thread.run_sync(host.server.wait_for, "Connection from")
            async with Clones(settings).open(parse_url(host.url), host.credentials) as store:
                with pytest.raises(JiemiError) as caught:
                    await store.advertised(Ref())
            assert caught.value.failure.reason == "HostUnreachable"
            assert caught.value.failure.kind is Kind.TRANSIENT


async def test_no_key_and_no_passphrase_is_in_a_log_an_error_or_a_clone(
    open_host: Opener, work: Work, settings: KrapaoSettings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    passphrase = "canary-5d0e91-passphrase"
    key = KeyFile.make(tmp_path / "id", "ed25519", passphrase=passphrase)
    forms = forms_of(passphrase, *key.private.splitlines()[1:3])
    with open_host(authorized=[key.public]) as host:
        given = attrs.evolve(host.credentials, ssh=SensitiveText(key.private), passphrase=SensitiveText(passphrase))
        work.commit({"x": "one"})
        work.push(host.bare)
        async with Clones(settings).open(parse_url(host.url), given) as store:
            await store.fetch(await store.advertised(Ref()))
        said = [
            await listing_fails("RepositoryNotFound", settings, f"{host.url}.gone", given),
            await listing_fails("RepositoryAccessDenied", settings, host.url.replace("git@", "nobody-here@"), given),
            await listing_fails("HostKeyUnknown", settings, host.url, attrs.evolve(given, known_hosts=None)),
        ]
        kept = {str(each): each.read_bytes() for each in settings.state_dir.rglob("*") if each.is_file()}
        assert kept
        printed = capfd.readouterr()
        assert "address_permitted" in printed.out
        texts = {"log of the host": host.server.log(), "errors": "\n".join(said), "output": printed.out + printed.err}
    assert found_in(kept | {name: text.encode() for name, text in texts.items()}, forms) == []
