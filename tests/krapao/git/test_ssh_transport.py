"""Clones over ssh."""

from __future__ import annotations

import base64
import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import attrs
import paramiko
import pytest
import trio
from cryptography.hazmat.primitives import serialization
from krapao.git.following import follow, listing_fails, pin
from support.krapao.ssh_keys import key_pair
from support.krapao.work_tree import Work
from support.network.ssh_server import SshServer, ssh_server

from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.core.urls import parse_url
from jiemi.krapao.git.clones import Clones
from jiemi.krapao.git.host_keys import HostTransport
from jiemi.krapao.git.known_hosts import fingerprint
from jiemi.krapao.git.port import Ref
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.source import GitCredentials

GIT = shutil.which("git") or "git"


OPENSSH = serialization.PrivateFormat.OpenSSH
TRADITIONAL = serialization.PrivateFormat.TraditionalOpenSSL
PKCS8 = serialization.PrivateFormat.PKCS8
CLIENT_KEY = key_pair("ed25519", OPENSSH)[0]
HOST_KEY = paramiko.ECDSAKey.generate()


@pytest.fixture
def ssh(tmp_path: Path, work: Work) -> Iterator[tuple[str, SshServer]]:
    root = tmp_path / "ssh"
    root.mkdir()
    work.git("init", "--quiet", "--bare", "--initial-branch=main", str(root / "r.git"))
    key = paramiko.Ed25519Key.from_private_key(io.StringIO(CLIENT_KEY))
    with ssh_server(root, [key.asbytes()], [HOST_KEY]) as (port, server):
        yield f"127.0.0.1:{port}", server


def known(where: str, key: paramiko.PKey = HOST_KEY) -> SensitiveText:
    host, _, port = where.partition(":")
    return SensitiveText(f"[{host}]:{port} {key.get_name()} {base64.b64encode(key.asbytes()).decode()}\n")


async def test_a_repository_is_followed_over_ssh(
    ssh: tuple[str, SshServer], work: Work, settings: KrapaoSettings, threads_before: None
) -> None:
    where, server = ssh
    credentials = GitCredentials(ssh=SensitiveText("\n" + CLIENT_KEY.strip()), known_hosts=known(where))
    await follow(settings, f"ssh://{where}/r.git", credentials, work, server.root / "r.git")
    assert set(server.users) == {"git"}
    assert set(server.commands) == {b"git-upload-pack '/r.git'"}


async def test_a_commit_is_pinned_over_ssh(
    ssh: tuple[str, SshServer], work: Work, settings: KrapaoSettings, threads_before: None
) -> None:
    where, server = ssh
    credentials = GitCredentials(ssh=SensitiveText(CLIENT_KEY), known_hosts=known(where))
    await pin(settings, f"ssh://{where}/r.git", credentials, work, server.root / "r.git")


async def test_a_host_of_the_old_protocol_gives_tips_of_branches_and_says_so_of_other_commits(
    ssh: tuple[str, SshServer], work: Work, settings: KrapaoSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, server = ssh
    monkeypatch.setattr(SshServer, "check_channel_env_request", lambda *_: False)
    first = work.commit({"x": "one"})
    second = work.commit({"x": "two"})
    work.push(server.root / "r.git")
    credentials = GitCredentials(ssh=SensitiveText(CLIENT_KEY), known_hosts=known(where))
    async with Clones(settings).open(parse_url(f"ssh://{where}/r.git"), credentials) as store:
        await store.fetch(await store.advertised(Ref(commit=second)))
        with pytest.raises(JiemiError, match=r"RevisionNotFound: .* no longer gives out the revision"):
            await store.fetch(await store.advertised(Ref(commit=first)))
        assert await store.read(second, "x", max_bytes=10) == b"two"
    assert server.env == {}


@pytest.mark.parametrize("passphrase", [None, " pa ss-ü"])
@pytest.mark.parametrize("form", [OPENSSH, TRADITIONAL, PKCS8])
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
async def test_keys_of_each_kind_and_the_operators_known_hosts_are_taken(
    ssh: tuple[str, SshServer],
    work: Work,
    settings: KrapaoSettings,
    kind: str,
    form: serialization.PrivateFormat,
    passphrase: str | None,
) -> None:
    if kind == "ed25519" and form is TRADITIONAL:
        form = PKCS8  # OpenSSL's older form has no such keys
    where, server = ssh
    text, public = key_pair(kind, form, passphrase)
    server.accepted.append(public)
    work.commit({"x": "one"})
    work.push(server.root / "r.git")
    operator = attrs.evolve(settings, ssh_known_hosts=known(where).reveal())
    credentials = GitCredentials(
        username=SensitiveText("deploy"),
        ssh=SensitiveText(text),
        passphrase=None if passphrase is None else SensitiveText(passphrase),
    )
    async with Clones(operator).open(parse_url(f"ssh://{where}/r.git"), credentials) as store:
        await store.fetch(await store.advertised(Ref()))
    assert set(server.users) == {"deploy"}


async def test_an_unknown_another_or_a_revoked_host_key_is_refused_with_its_fingerprint(
    ssh: tuple[str, SshServer], settings: KrapaoSettings
) -> None:
    where, server = ssh
    key = SensitiveText(CLIENT_KEY)
    revoked = SensitiveText("@revoked " + known(where).reveal() + known(where).reveal())
    for lines in (None, SensitiveText(""), known(where, paramiko.ECDSAKey.generate()), revoked):
        message = await listing_fails(
            "HostKeyUnknown", settings, f"ssh://{where}/r.git", GitCredentials(ssh=key, known_hosts=lines)
        )
        assert where in message
        assert "ecdsa-sha2-nistp256 SHA256:" in message
    of_another_type = known(where, paramiko.RSAKey.generate(2048))
    message = await listing_fails(
        "HostKeyUnknown", settings, f"ssh://{where}/r.git", GitCredentials(ssh=key, known_hosts=of_another_type)
    )
    shown = fingerprint(HOST_KEY.asbytes())
    assert f"shows no key of a known type (ssh-rsa), but ecdsa-sha2-nistp256 {shown}" in message
    assert server.users == []


async def test_a_refusal_of_the_host_or_of_the_key_has_a_typed_reason(
    ssh: tuple[str, SshServer], settings: KrapaoSettings
) -> None:
    where, _ = ssh
    url = f"ssh://{where}/r.git"
    assert "credentials.ssh gives no private key" in await listing_fails("RepositoryAccessDenied", settings, url)
    for text, says in (
        (key_pair("ed25519", OPENSSH)[0], "refused the key"),
        ("SECRET garbage", "is no private key"),
        (CLIENT_KEY.replace("\n", " "), "is no private key"),
        (key_pair("ed25519", OPENSSH, "p")[0], "credentials.passphrase gives none"),
    ):
        credentials = GitCredentials(ssh=SensitiveText(text), known_hosts=known(where))
        message = await listing_fails("RepositoryAccessDenied", settings, url, credentials)
        assert says in message
        assert "SECRET" not in message
    right = GitCredentials(ssh=SensitiveText(CLIENT_KEY), known_hosts=known(where))
    await listing_fails("RepositoryNotFound", settings, f"ssh://{where}/gone.git", right)


async def test_a_host_that_lets_in_by_passwords_alone_or_prints_something_before_git_is_refused_with_words(
    ssh: tuple[str, SshServer], settings: KrapaoSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, server = ssh
    right = GitCredentials(ssh=SensitiveText(CLIENT_KEY), known_hosts=known(where))
    url = f"ssh://{where}/r.git"
    server.advertise = lambda data: b"Welcome\n" + data
    message = await listing_fails("GitProtocolError", settings, url, right)
    assert "what runs there then does not answer as git does" in message
    assert "Welcome" not in message
    monkeypatch.setattr(SshServer, "get_allowed_auths", lambda *_: "password")
    server.accepted.clear()
    message = await listing_fails("RepositoryAccessDenied", settings, url, right)
    assert "takes no key for user git, as spec.source.repository.url names none" in message


async def test_a_host_that_takes_no_algorithm_of_krapaos_is_refused_by_what_is_missing(
    ssh: tuple[str, SshServer], settings: KrapaoSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, _ = ssh
    right = GitCredentials(ssh=SensitiveText(CLIENT_KEY), known_hosts=known(where))
    monkeypatch.setattr(HostTransport, "_preferred_kex", ("curve25519-sha256",))  # paramiko's server has none of it
    message = await listing_fails("GitProtocolError", settings, f"ssh://{where}/r.git", right)
    assert message.startswith(f"{where} takes no key exchange that Krapao has. Krapao has curve25519-sha256.")


async def test_a_line_of_an_authority_lets_no_host_in_and_the_message_says_so(
    ssh: tuple[str, SshServer], settings: KrapaoSettings
) -> None:
    where, _ = ssh
    by_authority = SensitiveText("@cert-authority " + known(where).reveal())
    credentials = GitCredentials(ssh=SensitiveText(CLIENT_KEY), known_hosts=by_authority)
    message = await listing_fails("HostKeyUnknown", settings, f"ssh://{where}/r.git", credentials)
    assert "the line @cert-authority lets none in" in message


async def test_cancelling_over_ssh_ends_the_connection_and_its_threads(
    ssh: tuple[str, SshServer], settings: KrapaoSettings
) -> None:
    where, server = ssh
    server.silent = True
    credentials = GitCredentials(ssh=SensitiveText(CLIENT_KEY), known_hosts=known(where))
    async with Clones(settings).open(parse_url(f"ssh://{where}/r.git"), credentials) as store:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.advertised, Ref())
            with trio.fail_after(10):
                while not server.commands:  # noqa: ASYNC110 - the server reports no command
                    await trio.sleep(0.01)
            began = trio.current_time()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - began < 2
