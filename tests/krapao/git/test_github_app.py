"""Clones with a GitHub App's tokens, from a stand-in that takes these alone; and each way in which none is given."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from doubles.github import GitHub, Installation, answering, serve_github
from doubles.jwt import Token
from hypothesis import given
from hypothesis import strategies as st
from krapao.git.clone_checks import HEAD, files_under
from krapao.git.following import follow, listing_fails
from support.canaries.forms import forms_of, found_in
from support.krapao.work_tree import Work
from support.network.https import authority, server_of

from jiemi.core.address_rules import AddressRules
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.core.urls import parse_url
from jiemi.krapao.git import git_host
from jiemi.krapao.git.clones import Clones
from jiemi.krapao.git.github_api import Answer, Grant, grant_of, installation_of, refusal, wait_seconds
from jiemi.krapao.git.github_app import AppLogin
from jiemi.krapao.git.github_identity import App, read_app, signed_token
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.source import GitCredentials

APP = "spec.source.repository.credentials.githubApp"
DENIED = "RepositoryAccessDenied"
KEY = rsa.generate_private_key(65537, 2048)
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@attrs.frozen
class Lab:
    github: GitHub
    url: str
    credentials: GitCredentials


@asynccontextmanager
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    """A repository of acme, where the App is installed as 12."""
    signer = authority()
    (tmp_path / "github").mkdir()
    async with serve_github(tmp_path / "github", server_of(signer, tmp_path)) as github:
        url = github.create("acme", "deploy")
        github.installations[12] = Installation("acme", ("deploy",))
        yield Lab(github, url, credentials(github, ca_bundle=signer.certificate_pem().decode()))


def credentials(github: GitHub, **more: str) -> GitCredentials:
    values = {
        "github_app_id": github.app_id,
        "github_app_private_key": github.pem(),
        "github_app_base_url": github.base_url,
        **more,
    }
    return GitCredentials(**{name: SensitiveText(value) for name, value in values.items()})


def changed(made: Lab, **fields: str | None) -> GitCredentials:
    values = {name: None if value is None else SensitiveText(value) for name, value in fields.items()}
    return attrs.evolve(made.credentials, **values)


async def test_a_repository_is_followed_with_a_token_that_may_read_it_alone(
    tmp_path: Path, work: Work, settings: KrapaoSettings
) -> None:
    async with lab(tmp_path) as made:
        await follow(settings, made.url, made.credentials, work, made.github.server.root / "acme/deploy.git")
        assert made.github.asked == ["/repos/acme/deploy/installation", "/app/installations/12/access_tokens"]
        assert made.github.bodies == [{"repositories": ["deploy"], "permissions": {"contents": "read"}}]


@pytest.mark.parametrize(
    ("fields", "is_organization", "asked"),
    [
        ({"github_app_installation_id": "12"}, True, []),
        ({"github_app_installation_owner": "acme"}, True, ["/orgs/acme/installation"]),
        ({"github_app_installation_owner": "acme"}, False, ["/orgs/acme/installation", "/users/acme/installation"]),
    ],
)
async def test_the_installation_is_named_by_its_number_or_its_owner(
    tmp_path: Path,
    settings: KrapaoSettings,
    fields: dict[str, str],
    is_organization: bool,
    asked: list[str],
) -> None:
    async with lab(tmp_path) as made:
        made.github.installations[12].is_organization = is_organization
        await listing_fails("RefNotFound", settings, made.url, changed(made, **fields))
        assert made.github.asked == [*asked, "/app/installations/12/access_tokens"]


async def test_a_token_is_kept_and_one_that_is_refused_is_replaced_at_once(
    tmp_path: Path, work: Work, settings: KrapaoSettings
) -> None:
    async with lab(tmp_path) as made:
        work.commit({"x": "one"})
        work.push(made.github.server.root / "acme/deploy.git", "HEAD:refs/heads/main")
        async with Clones(settings).open(parse_url(made.url), made.credentials) as store:
            for _ in range(3):
                await store.advertised(HEAD)
            assert len(made.github.tokens) == 1
            made.github.tokens.clear()  # the host takes it no longer
            await store.advertised(HEAD)
            assert len(made.github.tokens) == 1
            made.github.tokens.clear()
            made.github.installations[12].is_suspended = True
            with pytest.raises(JiemiError, match="is suspended") as caught:
                await store.advertised(HEAD)
            assert caught.value.failure.reason == DENIED


async def test_a_token_that_is_near_its_end_is_asked_for_again_before(
    tmp_path: Path, work: Work, settings: KrapaoSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lab(tmp_path) as made:
        work.commit({"x": "one"})
        work.push(made.github.server.root / "acme/deploy.git", "HEAD:refs/heads/main")
        made.github.clock_ahead_seconds = -7200  # its own clock counts
        passed = [0.0]

        def login(*given: Any) -> AppLogin:
            return AppLogin(*given, clock=made.github.now, monotonic=lambda: passed[0])

        monkeypatch.setattr(git_host, "AppLogin", login)
        async with Clones(settings).open(parse_url(made.url), made.credentials) as store:
            for seconds, tokens in ((0.0, 1), (3_290.0, 1), (3_310.0, 2), (3_320.0, 2)):
                passed[0] = seconds
                await store.advertised(HEAD)
                assert len(made.github.tokens) == tokens


def _another_key() -> str:
    return (
        rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    )


@pytest.mark.parametrize(
    ("fields", "reason", "says"),
    [
        ({"github_app_private_key": _another_key()}, DENIED, f"refused {APP}.privateKey"),
        ({"github_app_id": "1"}, DENIED, "or correct spec.source.repository.credentials.githubApp.appId"),
        ({"github_app_installation_id": "99"}, DENIED, "no installation of the number"),
        ({"github_app_installation_owner": "other"}, DENIED, "is not installed for the owner"),
        ({"github_app_id": "canary canary"}, "InvalidSpec", "appId is no id of an App"),
        ({"github_app_installation_id": "canary"}, "InvalidSpec", "installationId is no number"),
        ({"github_app_installation_owner": "can/ary"}, "InvalidSpec", "installationOwner is no name"),
        ({"github_app_base_url": "http://127.0.0.1/api/v3"}, "InvalidSpec", "baseUrl is no https:// URL"),
        ({"github_app_base_url": "https://u:canary@127.0.0.1/"}, "InvalidSpec", "baseUrl is no https:// URL"),
        ({"github_app_base_url": "https://api.github.com"}, "InvalidSpec", "names another host"),
        ({"github_app_base_url": None}, "InvalidSpec", "baseUrl is missing: 127.0.0.1 is not github.com"),
    ],
)
async def test_what_is_wrong_with_the_app_is_named_by_its_field(
    tmp_path: Path, settings: KrapaoSettings, fields: dict[str, str | None], reason: str, says: str
) -> None:
    async with lab(tmp_path) as made:
        message = await listing_fails(reason, settings, made.url, changed(made, **fields))
        assert says in message
        assert "canary" not in message


async def test_what_is_wrong_with_the_installation_is_named(tmp_path: Path, settings: KrapaoSettings) -> None:
    async with lab(tmp_path) as made:
        installation = made.github.installations[12]
        by_number = changed(made, github_app_installation_id="12")
        installation.permissions = ("metadata",)
        assert "does not have the permission" in await listing_fails(DENIED, settings, made.url, by_number)
        installation.permissions = ("contents",)
        installation.repositories = ("other",)
        assert "may not read acme/deploy" in await listing_fails(DENIED, settings, made.url, by_number)
        assert "not installed for acme/deploy" in await listing_fails(DENIED, settings, made.url, made.credentials)
        installation.is_suspended = True
        assert "is suspended" in await listing_fails(DENIED, settings, made.url, by_number)


@pytest.mark.parametrize(("ahead", "says"), [(700, "s behind the host's"), (-700, "s ahead of the host's")])
async def test_a_clock_that_is_wrong_is_named(
    tmp_path: Path, settings: KrapaoSettings, ahead: float, says: str
) -> None:
    async with lab(tmp_path) as made:
        made.github.clock_ahead_seconds = ahead
        message = await listing_fails(DENIED, settings, made.url, made.credentials)
        assert says in message
        assert "NTP" in message


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (429, {"Retry-After": "30"}, b"{}"),
        (403, {"Retry-After": "30"}, b'{"message":"You have exceeded a secondary rate limit"}'),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "99999999999"}, b"{}"),
    ],
)
async def test_a_host_that_asks_for_a_pause_is_not_asked_again_before_it_is_over(
    tmp_path: Path, settings: KrapaoSettings, status: int, headers: dict[str, str], body: bytes
) -> None:
    async with lab(tmp_path) as made:
        async with Clones(settings).open(parse_url(made.url), made.credentials) as store:
            for _ in range(3):
                with answering(made.github, (status, headers, body)), pytest.raises(JiemiError) as caught:
                    await store.advertised(HEAD)
                assert caught.value.failure.reason == "GitProtocolError"
                assert "of rest" in caught.value.failure.message
        assert len(made.github.asked) == 1


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (200, {}, b"<html>Sign in</html>"),
        (302, {"Location": "https://127.0.0.1:1/canary"}, b""),
        (500, {}, b"canary"),
        (200, {}, b'{"id": true}'),
        (200, {}, b'{"id": "12"}'),
        (200, {}, b"[" * 100_000),
        (201, {}, b'{"token": "canary"}'),
    ],
)
async def test_what_is_no_github_is_shown_in_one_way(
    tmp_path: Path, settings: KrapaoSettings, status: int, headers: dict[str, str], body: bytes
) -> None:
    async with lab(tmp_path) as made:
        with answering(made.github, (status, headers, body)):
            message = await listing_fails("HostUnreachable", settings, made.url, made.credentials)
            assert "no GitHub API answers at 127.0.0.1" in message
            assert "canary" not in message
        assert not made.github.tokens
    # Nothing listens there any more: the same words.
    assert await listing_fails("HostUnreachable", settings, made.url, made.credentials) == message


async def test_the_api_is_reached_within_the_same_bounds_as_git(tmp_path: Path, settings: KrapaoSettings) -> None:
    async with lab(tmp_path) as made:
        strict = attrs.evolve(settings, addresses=AddressRules())
        await listing_fails("AddressNotAllowed", strict, made.url, made.credentials)
        other = changed(made, ca_bundle=authority().certificate_pem().decode())
        await listing_fails("TlsVerificationFailed", settings, made.url, other)
        for url in ("http://127.0.0.1:9/acme/deploy.git", "ssh://127.0.0.1:9/acme/deploy.git"):
            no_bundle = changed(made, ca_bundle=None)
            assert "is for these alone" in await listing_fails("InvalidUrl", settings, url, no_bundle)
        assert "https://HOST/OWNER/REPOSITORY" in await listing_fails(
            "InvalidUrl", settings, made.github.server.url_of("a/b/c.git"), made.credentials
        )
        assert made.github.asked == []


async def test_neither_the_key_nor_a_token_is_in_a_file_or_a_log(
    tmp_path: Path, work: Work, settings: KrapaoSettings
) -> None:
    async with lab(tmp_path) as made:
        with structlog.testing.capture_logs() as logged:
            await follow(settings, made.url, made.credentials, work, made.github.server.root / "acme/deploy.git")
            with answering(made.github, (401, {}, made.github.pem().encode())):
                await listing_fails(DENIED, settings, made.url, made.credentials)
        [token] = made.github.tokens
        signed = {each.split(".")[2] for each in made.github.seen if each.startswith("Bearer ")}
    assert signed
    canaries = forms_of(token, made.github.pem().splitlines()[3], *signed)
    assert any(each["event"] == "github_app_token" for each in logged)
    assert found_in({"log": json.dumps(logged, default=str).encode()}, canaries) == []
    for path in (*files_under(tmp_path), *files_under(settings.runtime_dir)):
        if path.is_file():
            assert found_in({str(path): path.read_bytes()}, canaries) == []


def test_the_key_is_shown_by_no_repr() -> None:
    made = read_app(parse_url("https://github.com/acme/deploy"), _of_key(PEM))
    assert "RSA" not in repr(made)
    assert "ghs_" not in repr(Grant(SensitiveText("ghs_canary"), 1))


def _of_key(pem: str, **more: str) -> GitCredentials:
    values = {"github_app_id": "Iv23abc", "github_app_private_key": pem, **more}
    return GitCredentials(**{name: SensitiveText(value) for name, value in values.items()})


@pytest.mark.parametrize(
    ("url", "api"),
    [
        ("https://github.com/acme/deploy.git", "https://api.github.com"),
        ("https://www.github.com/acme/deploy", "https://api.github.com"),
        ("https://octo.ghe.com/acme/deploy.git", "https://api.octo.ghe.com"),
    ],
)
def test_the_api_of_a_public_github_is_known(url: str, api: str) -> None:
    made = read_app(parse_url(url), _of_key(PEM))
    assert (made.api, made.host, made.owner, made.repository) == (api, api.removeprefix("https://"), "acme", "deploy")


@pytest.mark.parametrize(
    "pem",
    [
        "canary",
        "",
        PEM[:300],
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        .decode(),
        rsa.generate_private_key(65537, 1024)  # noqa: S505 - too short, as it is to be refused
        .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        .decode(),
        "-----BEGIN PRIVATE KEY-----\n" + "A" * 100_000,
        "-----BEGIN \ud800",
    ],
)
def test_a_key_that_is_none_is_refused_by_its_field(pem: str) -> None:
    with pytest.raises(JiemiError, match=r"githubApp\.privateKey is no RSA private key") as caught:
        read_app(parse_url("https://github.com/acme/deploy"), _of_key(pem))
    assert caught.value.failure.reason == DENIED


def _app() -> App:
    return read_app(parse_url("https://github.com/acme/deploy"), _of_key(PEM))


def test_a_signed_token_lasts_ten_minutes_from_a_minute_ago() -> None:

    token = Token.parse(signed_token(_app(), 1_000_000.7).reveal())
    token.verify(KEY.public_key())
    assert token.header == {"alg": "RS256", "typ": "JWT"}
    assert token.claims == {"iat": 999_940, "exp": 1_000_540, "iss": "Iv23abc"}


_HEADERS = st.dictionaries(
    st.sampled_from(["date", "retry-after", "x-ratelimit-remaining", "x-ratelimit-reset"]),
    st.text(max_size=40) | st.sampled_from(["0", "30", "Thu, 01 Jan 1970 00:00:00 GMT", "99999999999999999999"]),
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.dictionaries(st.sampled_from(["id", "token", "expires_at"]) | st.text(max_size=5), inner),
    max_leaves=5,
)


@given(
    st.integers(100, 599),
    _HEADERS,
    st.binary(max_size=200) | _JSON.map(lambda value: json.dumps(value).encode()),
    st.booleans(),
)
def test_any_answer_is_read_as_something(status: int, headers: dict[str, str], body: bytes, of_token: bool) -> None:
    answer, app = Answer(status, headers, body, 1_000_000.0), _app()
    wait = wait_seconds(answer)
    assert wait is None or 1 <= wait <= 3600
    assert isinstance(refusal(answer, app, of_token=of_token), JiemiError)
    for read in (grant_of, installation_of):
        try:
            found = read(answer, app)
        except JiemiError as error:
            assert error.failure.reason == "HostUnreachable"
        else:
            assert isinstance(found, str) or 60 <= found.lasts_seconds <= 3600
