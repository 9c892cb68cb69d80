"""Deploy keys of every type that ssh-keygen makes."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
from krapao.git.following import listing_fails
from krapao.sshd.conftest import Host, Keys, Opener
from support.krapao.work_tree import Work
from support.network.openssh import HOME, KeyFile

from jiemi.core.sensitive import SensitiveText
from jiemi.core.urls import parse_url
from jiemi.krapao.git.clones import Clones
from jiemi.krapao.git.port import Ref
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.source import GitCredentials


async def lists(settings: KrapaoSettings, host: Host, credentials: GitCredentials) -> str:
    """The revision that the host says."""
    async with Clones(settings).open(parse_url(host.url), credentials) as store:
        return (await store.advertised(Ref())).revision


@pytest.mark.parametrize("passphrase", ["", "pä ss"])
@pytest.mark.parametrize("form", ["", "PEM", "PKCS8"])
@pytest.mark.parametrize(
    ("kind", "bits"),
    [("ed25519", 0), ("ecdsa", 256), ("ecdsa", 384), ("ecdsa", 521), ("rsa", 2048), ("rsa", 4096)],
)
async def test_keys_of_each_type_form_and_size_are_let_in(
    open_host: Opener,
    work: Work,
    settings: KrapaoSettings,
    tmp_path: Path,
    kind: str,
    bits: int,
    form: str,
    passphrase: str,
) -> None:
    key = KeyFile.make(tmp_path / "id", kind, bits=bits, form=form, passphrase=passphrase)
    with open_host(authorized=[key.public]) as host:
        revision = work.commit({"x": "one"})
        work.push(host.bare)
        credentials = attrs.evolve(
            host.credentials,
            ssh=SensitiveText(key.private),
            passphrase=SensitiveText(passphrase) if passphrase else None,
        )
        assert await lists(settings, host, credentials) == revision
        assert "Accepted publickey for git from 127.0.0.1 port" in host.server.log()
        assert key.fingerprint in host.server.log()


async def test_an_rsa_key_is_let_in_where_its_longer_hash_alone_is_taken(
    open_host: Opener, work: Work, settings: KrapaoSettings, tmp_path: Path
) -> None:
    key = KeyFile.make(tmp_path / "id", "rsa")
    with open_host({"PubkeyAcceptedAlgorithms": "rsa-sha2-512"}, authorized=[key.public]) as host:
        revision = work.commit({"x": "one"})
        work.push(host.bare)
        assert await lists(settings, host, attrs.evolve(host.credentials, ssh=SensitiveText(key.private))) == revision


async def test_a_key_that_the_host_does_not_let_in_is_refused_with_words(
    open_host: Opener, settings: KrapaoSettings, tmp_path: Path, keys: Keys
) -> None:
    other = KeyFile.make(tmp_path / "other", "ed25519")
    rsa = KeyFile.make(tmp_path / "rsa", "rsa", bits=2048)
    with open_host(
        {"MaxAuthTries": "1", "RequiredRSASize": "3072"}, authorized=[keys.client.public, rsa.public]
    ) as host:
        for key in (other, rsa):
            given = attrs.evolve(host.credentials, ssh=SensitiveText(key.private))
            said = await listing_fails("RepositoryAccessDenied", settings, host.url, given)
            assert f"{host.server.host} refused the key in spec.source.repository.credentials.ssh for user git" in said
        stranger = f"ssh://somebody@{host.server.host}{HOME}/r.git"
        said = await listing_fails("RepositoryAccessDenied", settings, stranger, host.credentials)
        assert "for user somebody" in said
        assert "correct the user in the URL" in said


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"PubkeyAuthentication": "no", "PasswordAuthentication": "yes"}, "takes no key for user git"),
        ({"AuthenticationMethods": "publickey,password", "PasswordAuthentication": "yes"}, "wants more than the key"),
        ({"PubkeyAcceptedAlgorithms": "ssh-rsa"}, "refused the key"),
        ({"AllowUsers": "somebody"}, "refused the key"),
    ],
)
async def test_a_host_that_a_key_alone_does_not_open_is_refused_with_words(
    open_host: Opener, settings: KrapaoSettings, options: dict[str, str], says: str
) -> None:
    with open_host(options) as host:
        assert says in await listing_fails("RepositoryAccessDenied", settings, host.url, host.credentials)


async def test_keys_that_the_host_ties_to_a_command_or_a_place_are_taken_or_refused(
    open_host: Opener, work: Work, settings: KrapaoSettings, keys: Keys
) -> None:
    forced = f'restrict,command="git-shell -c \\"$SSH_ORIGINAL_COMMAND\\"" {keys.client.public}'
    with open_host(authorized=[forced], login_shell="sh") as host:
        revision = work.commit({"x": "one"})
        work.push(host.bare)
        assert await lists(settings, host, host.credentials) == revision
        (host.server.home / ".ssh" / "authorized_keys").write_text(f'from="192.0.2.1" {keys.client.public}\n')
        said = await listing_fails("RepositoryAccessDenied", settings, host.url, host.credentials)
        assert "refused the key" in said


async def test_a_key_that_is_let_in_where_there_is_no_such_repository_or_no_git_is_told_apart(
    open_host: Opener, settings: KrapaoSettings
) -> None:
    with open_host() as host:
        for path in (f"{HOME}/gone.git", "/~/gone.git", "/r.git"):
            url = f"ssh://git@{host.server.host}{path}"
            said = await listing_fails("RepositoryNotFound", settings, url, host.credentials)
            assert path in said
    with open_host(login_shell="false") as host:
        said = await listing_fails("GitProtocolError", settings, host.url, host.credentials)
        assert "ended the connection in the middle of git's talk" in said


async def test_an_account_that_runs_no_git_or_prints_something_before_it_is_refused_with_words(
    open_host: Opener, settings: KrapaoSettings, keys: Keys
) -> None:
    talkative = f'command="echo Welcome; git-shell -c \\"$SSH_ORIGINAL_COMMAND\\"" {keys.client.public}'
    for login_shell, line in (("nologin", keys.client.public), ("sh", talkative)):
        with open_host(login_shell=login_shell) as host:
            (host.server.home / ".ssh" / "authorized_keys").write_text(f"{line}\n")
            said = await listing_fails("GitProtocolError", settings, host.url, host.credentials)
            assert "what runs there then does not answer as git does" in said
            assert "start-up files" in said
            assert "Welcome" not in said
