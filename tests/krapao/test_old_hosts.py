"""Hosts of git's older protocol, each with what it lacks, over http and ssh: they are followed all the same.

Azure DevOps speaks no version 2, and of the ways to agree on what is there already only `multi_ack`:
https://learn.microsoft.com/azure/devops/repos/git/ and https://github.com/go-git/go-git/issues/64.
"""

from __future__ import annotations

import contextlib
import gc
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import paramiko
import pytest
from cryptography.hazmat.primitives.serialization import PrivateFormat
from krapao.git.clone_checks import HEAD
from krapao.git.following import follow
from support.krapao.ssh_keys import made, public_key, written
from support.krapao.work_tree import Work
from support.network.changed_answers import Answer, between
from support.network.ssh_server import SshServer, ssh_server

from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.core.urls import parse_url
from jiemi.demo.git_server import GitServer
from jiemi.krapao.git.clones import Clones
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.source import GitCredentials

_SHALLOW = ("shallow", "deepen-since", "deepen-not", "deepen-relative")
LACKS = {
    "shallow": _SHALLOW,
    "azure": (*_SHALLOW, "multi_ack_detailed", "no-done", "allow-tip-sha1-in-want", "allow-reachable-sha1-in-want"),
    "side bands": ("side-band", "side-band-64k", "no-progress"),
    "multi_ack": ("multi_ack", "multi_ack_detailed", "no-done", "thin-pack", "ofs-delta", *_SHALLOW),
}
"""What a host's first line leaves out of what git's own has."""


def without(names: tuple[str, ...]) -> Callable[[bytes], bytes]:
    """Takes capabilities out of the first line of refs (gitprotocol-pack(5))."""

    def change(data: bytes) -> bytes:
        found = re.search(rb"([0-9a-f]{4})([0-9a-f]{40} [^\0\n]*\0)([^\n]*)\n", data)
        if found is None:
            return data
        left = b" ".join(each for each in found[3].split() if each.decode() not in names)
        line = found[2] + left + b"\n"
        return data[: found.start()] + b"%04x" % (len(line) + 4) + line + data[found.end() :]

    return change


@attrs.frozen
class Host:
    url: str
    bare: Path
    credentials: GitCredentials


@contextlib.contextmanager
def host(scheme: str, lacks: str, git_server: GitServer) -> Iterator[Host]:
    git_server.create("r.git")
    bare, change = git_server.root / "r.git", without(LACKS[lacks])
    if scheme == "http":

        def answer(path: str, true: Answer) -> Answer:
            return attrs.evolve(true, body=change(true.body)) if "/info/refs" in path else true

        with between(git_server, answer, forgets=frozenset({"git-protocol"})) as url:
            yield Host(f"{url}/r.git", bare, GitCredentials())
        return
    key, host_key = made("ed25519"), paramiko.ECDSAKey.generate()
    with ssh_server(git_server.root, [public_key(key)], [host_key]) as (port, server):
        server.advertise = change
        known = f"[127.0.0.1]:{port} {host_key.get_name()} {host_key.get_base64()}"
        given = GitCredentials(ssh=SensitiveText(written(key, PrivateFormat.OpenSSH)), known_hosts=SensitiveText(known))
        yield Host(f"ssh://git@127.0.0.1:{port}/r.git", bare, given)


@pytest.fixture(autouse=True)
def old_ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ssh server takes no variable, so it speaks version 0."""
    monkeypatch.setattr(SshServer, "check_channel_env_request", lambda *_: False)


@pytest.mark.parametrize("scheme", ["http", "ssh"])
@pytest.mark.parametrize("lacks", LACKS)
async def test_a_host_of_the_old_protocol_is_followed_whatever_it_lacks(
    scheme: str, lacks: str, git_server: GitServer, work: Work, settings: KrapaoSettings
) -> None:
    with host(scheme, lacks, git_server) as old:
        for number in range(3):  # a history, which may have to come along
            work.commit({"x": str(number), "y": "z" * 100})
        await follow(settings, old.url, old.credentials, work, old.bare)


@pytest.mark.parametrize("scheme", ["http", "ssh"])
async def test_a_history_that_has_to_come_along_is_bounded_as_any_fetch(
    scheme: str, git_server: GitServer, work: Work, settings: KrapaoSettings
) -> None:
    with host(scheme, "azure", git_server) as old:
        work.commit({"big": "".join(chr(33 + (n * 7919) % 90) for n in range(400_000))})
        work.commit({"big": "small"})
        work.push(old.bare)
        tight = attrs.evolve(settings, max_unpacked_bytes=200_000)
        async with Clones(tight).open(parse_url(old.url), old.credentials) as store:
            with pytest.raises(JiemiError) as caught:
                await store.fetch(await store.advertised(HEAD))
        assert caught.value.failure.reason == "LimitExceeded"


def _connections_to(port: int) -> list[str]:
    """This machine's established connections to a port of loopback (proc(5), /proc/net/tcp), seen from the client."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row[1] for row in rows if row[2] == f"0100007F:{port:04X}" and row[3] == "01"]


@pytest.mark.parametrize("body", [b"<!DOCTYPE html><title>Sign in</title>", b""])
@pytest.mark.parametrize("path", ["/info/refs", "/git-upload-pack"])
async def test_a_page_in_place_of_an_answer_is_a_typed_failure_that_repeats_nothing_of_it(
    path: str, body: bytes, git_server: GitServer, work: Work, settings: KrapaoSettings
) -> None:
    git_server.create("r.git")
    work.commit({"x": "one"})
    work.push(git_server.root / "r.git")

    def answer(asked: str, true: Answer) -> Answer:
        return Answer(200, {"Content-Type": "text/html; charset=utf-8"}, body) if path in asked else true

    with between(git_server, answer) as url:
        async with Clones(settings).open(parse_url(f"{url}/r.git"), GitCredentials()) as store:
            gc.disable()  # the collector would close what nobody has closed
            try:
                with pytest.raises(JiemiError) as caught:
                    await store.advertised(HEAD)
                left = _connections_to(parse_url(f"{url}/r.git").port)
            finally:
                gc.enable()
    assert left == []
    assert caught.value.failure.reason in ("GitProtocolError", "HostUnreachable")
    assert "Sign in" not in caught.value.failure.text
