"""Redirects that would take a credential to another host: one row for each kind of credential. Nobody even connects."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
from doubles.github import API, GitHub, Installation, serve_github
from krapao.git.following import listing_fails
from support.network.https import authority, client_of, server_of
from support.network.listening import listening

from jiemi.core.sensitive import SensitiveText
from jiemi.demo.git_server import Asked, Fault
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.source import GitCredentials

KINDS = ("basic", "token", "bearer", "clientCertificate", "githubApp")


@attrs.frozen
class Asker:
    """A host, and credentials of one kind that it takes."""

    github: GitHub
    url: str
    credentials: GitCredentials


@asynccontextmanager
async def asker(kind: str, tmp_path: Path) -> AsyncIterator[Asker]:
    signer = authority()
    tls: ssl.SSLContext = server_of(signer, tmp_path, clients_of=signer if kind == "clientCertificate" else None)
    (tmp_path / "github").mkdir()
    async with serve_github(tmp_path / "github", tls) as github:
        github.installations[12] = Installation("acme", ("deploy",))
        certificate, key = client_of(signer)
        values = {
            "basic": {"username": "canary", "token": "canary"},
            "token": {"token": "canary"},
            "bearer": {"bearer": "canary"},
            "clientCertificate": {"client_certificate": certificate, "client_key": key},
            "githubApp": {
                "github_app_id": github.app_id,
                "github_app_private_key": github.pem(),
                "github_app_base_url": github.base_url,
            },
        }[kind]
        values["ca_bundle"] = signer.certificate_pem().decode()
        given = GitCredentials(**{name: SensitiveText(value) for name, value in values.items()})
        if kind != "githubApp":
            github.server.intercept = None
        yield Asker(github, github.create("acme", "deploy"), given)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", ["https", "http"])
@pytest.mark.parametrize("asked", [Asked.REFS, Asked.LS_REFS])
async def test_no_redirect_takes_a_credential_to_another_host(
    tmp_path: Path, settings: KrapaoSettings, kind: str, scheme: str, asked: Asked
) -> None:
    async with asker(kind, tmp_path) as made:
        with listening() as (port, came):
            for host in ("127.0.0.1", "localhost", "127.0.0.2"):
                for status in (301, 302, 303, 307, 308):
                    to = f"{scheme}://{host}:{port}/acme/deploy.git/info/refs?service=git-upload-pack"
                    made.github.server.fault = Fault(status=status, location=to, asked=frozenset({asked}))
                    reason = "InvalidUrl" if asked is Asked.REFS else "GitProtocolError"
                    message = await listing_fails(reason, settings, made.url, made.credentials)
                    assert "canary" not in message
            assert came == []
        if kind == "githubApp":
            assert made.github.tokens, "it was logged in to"


@pytest.mark.parametrize("asked", ["/repos/acme/deploy/installation", "/app/installations/12/access_tokens"])
async def test_no_redirect_of_the_api_takes_an_apps_signature_anywhere(
    tmp_path: Path, settings: KrapaoSettings, asked: str
) -> None:
    async with asker("githubApp", tmp_path) as made:
        with listening() as (port, came):
            for to in (f"https://127.0.0.1:{port}{API}{asked}", f"{API}{asked}"):
                for status in (301, 302, 303, 307, 308):
                    github = made.github

                    def redirect(
                        method: str,
                        path: str,
                        headers: dict[str, str],
                        body: bytes,
                        to: str = to,
                        status: int = status,
                        github: GitHub = github,
                    ) -> tuple[int, dict[str, str], bytes] | None:
                        if path == API + asked:
                            github.asked.append("redirected")
                            return status, {"Location": to}, b""
                        return github.intercept(method, path, headers, body)

                    github.server.intercept = redirect
                    github.asked.clear()
                    message = await listing_fails("HostUnreachable", settings, made.url, made.credentials)
                    assert "no GitHub API answers" in message
                    assert github.asked.count("redirected") == 1
            assert came == []
