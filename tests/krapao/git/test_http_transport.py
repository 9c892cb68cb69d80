"""Clones over http: a pinned commit, credentials, redirects and certificates."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from krapao.git.clone_checks import HEAD, NOBODY, fails, files_under
from krapao.git.following import follow, listing_fails, pin
from support.krapao.work_tree import Work

from jiemi.core.sensitive import SensitiveText
from jiemi.core.urls import parse_url
from jiemi.demo.git_server import Asked, Fault, GitServer, serve_git
from jiemi.krapao.git.clones import Clones
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.source import GitCredentials


async def test_a_commit_is_pinned_over_http(git_server: GitServer, work: Work, settings: KrapaoSettings) -> None:
    url = git_server.create("r.git")
    await pin(settings, url, NOBODY, work, git_server.root / "r.git")


def serve_once(answer: Callable[[socket.socket], None]) -> tuple[socket.socket, threading.Thread]:
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as connection:
            answer(connection)

    thread = threading.Thread(target=run)
    thread.start()
    return listener, thread


async def test_a_certificate_that_nobody_signed_is_refused(settings: KrapaoSettings, tmp_path: Path) -> None:
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    certificate = builder.sign(key, hashes.SHA256())
    pem = tmp_path / "pem"
    pem.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    for answer, reason in (
        (lambda sock: context.wrap_socket(sock, server_side=True).close(), "TlsVerificationFailed"),
        (lambda sock: sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n"), "HostUnreachable"),
    ):
        listener, thread = serve_once(answer)
        with listener:
            await listing_fails(reason, settings, f"https://127.0.0.1:{listener.getsockname()[1]}/r.git")
            thread.join()


async def test_credentials_open_the_repository_and_wrong_or_no_ones_do_not(
    tmp_path: Path, work: Work, settings: KrapaoSettings
) -> None:
    revision = work.commit({"x": "one"})
    root = tmp_path / "private"
    root.mkdir()
    async with serve_git(root, username="ann", token=SensitiveText("t0ken-ü")) as server:
        location = parse_url(server.create("r.git"))
        work.push(root / "r.git")
        clones = Clones(settings)
        right = GitCredentials(username=SensitiveText("ann"), token=SensitiveText("t0ken-ü\n"))
        async with clones.open(location, right) as store:
            found = await store.advertised(HEAD)
            await store.fetch(found)
            assert found.revision == revision
        wrong = GitCredentials(username=SensitiveText("ann"), token=SensitiveText("WRONG"))
        for credentials in (wrong, NOBODY):
            async with clones.open(location, credentials) as store:
                message = await fails("RepositoryAccessDenied", store.advertised(HEAD))
                assert "WRONG" not in message
        for each in files_under(settings.state_dir):
            assert b"t0ken" not in each.read_bytes()


async def test_a_bearer_token_opens_the_repository_and_another_or_a_malformed_one_does_not(
    tmp_path: Path, work: Work, settings: KrapaoSettings
) -> None:
    root = tmp_path / "private"
    root.mkdir()
    async with serve_git(root, bearer=SensitiveText("t0ken.A-z_~+/==")) as server:
        url = server.create("r.git")
        await follow(settings, url, GitCredentials(bearer=SensitiveText(" t0ken.A-z_~+/==\n")), work, root / "r.git")
        server.forget_hits()
        for given, says in (
            (GitCredentials(bearer=SensitiveText("canary")), "Correct spec.source.repository.credentials.bearer:"),
            (GitCredentials(token=SensitiveText("canary")), "Correct spec.source.repository.credentials.token:"),
            (NOBODY, "credentials gives none"),
        ):
            message = await listing_fails("RepositoryAccessDenied", settings, url, given)
            assert says in message
            assert "canary" not in message
        asked = len(server.hits)
        for text in ("", "Bearer canary", "canary\r\nX: y", "canär", "canary\x00"):
            message = await listing_fails(
                "RepositoryAccessDenied", settings, url, GitCredentials(bearer=SensitiveText(text))
            )
            assert "credentials.bearer is no bearer token" in message
            assert "canary" not in message
        assert len(server.hits) == asked
    for each in files_under(settings.state_dir):
        assert b"t0ken" not in each.read_bytes()


async def test_a_redirect_on_the_same_host_is_followed_and_no_other(
    git_server: GitServer, repository: Path, work: Work, settings: KrapaoSettings
) -> None:
    revision = work.commit({"x": "one"})
    work.push(repository)
    async with Clones(settings).open(parse_url(git_server.url_of("old.git")), NOBODY) as store:
        git_server.fault = Fault(status=301, location="/r.git/info/refs?service=git-upload-pack")

        requests = 0

        def heal(asked: Asked) -> None:  # the answer to the second request is git's own
            nonlocal requests
            requests += 1
            if requests == 2:
                git_server.fault = None

        git_server.on_asked = heal
        assert (await store.advertised(HEAD)).revision == revision


@pytest.mark.parametrize("field", ["token", "bearer"])
@pytest.mark.parametrize("asked", [Asked.REFS, Asked.LS_REFS])
async def test_no_redirect_takes_credentials_to_another_host_or_port_or_to_plain_http(
    git_server: GitServer, repository: Path, tmp_path: Path, settings: KrapaoSettings, asked: Asked, field: str
) -> None:
    (tmp_path / "stranger").mkdir()
    async with serve_git(tmp_path / "stranger") as stranger:
        path = "/r.git/info/refs?service=git-upload-pack"
        for to in (f"{stranger.url}{path}", f"//{stranger.url.removeprefix('http://')}{path}"):
            for status in (301, 302, 303, 307, 308):
                git_server.fault = Fault(status=status, location=to, asked=frozenset({asked}))
                credentials = GitCredentials(**{field: SensitiveText("canary")})
                async with Clones(settings).open(parse_url(git_server.url_of("r.git")), credentials) as store:
                    reason = "InvalidUrl" if asked is Asked.REFS else "GitProtocolError"
                    assert "canary" not in await fails(reason, store.advertised(HEAD))
        assert stranger.hits == []


async def test_a_redirect_that_two_parsers_read_differently_takes_no_credentials_along(
    git_server: GitServer, repository: Path, tmp_path: Path, settings: KrapaoSettings
) -> None:
    (tmp_path / "stranger").mkdir()
    async with serve_git(tmp_path / "stranger") as stranger:
        there, here = (server.url.removeprefix("http://") for server in (stranger, git_server))
        location = f"http://{there}\\@{here}/r.git/info/refs?service=git-upload-pack"
        git_server.fault = Fault(status=302, location=location)
        credentials = GitCredentials(token=SensitiveText("canary"))
        async with Clones(settings).open(parse_url(git_server.url_of("r.git")), credentials) as store:
            await fails("InvalidUrl", store.advertised(HEAD))
        assert stranger.hits == []
