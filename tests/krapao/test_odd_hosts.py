"""How hosts, and what is between them and Krapao, really answer: over connections, in front of a real git server."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from support.krapao.work_tree import Work
from support.network.changed_answers import Answer, Change, between

from jiemi.core.errors import JiemiError
from jiemi.core.reasons import REASONS, Kind
from jiemi.core.sensitive import SensitiveText
from jiemi.core.urls import parse_url
from jiemi.demo.git_server import GitServer
from jiemi.krapao.git import git_host
from jiemi.krapao.git.clones import Clones
from jiemi.krapao.git.host_words import leads_to_login, safe_words, wait_seconds
from jiemi.krapao.git.port import Ref
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.source import GitCredentials

NOBODY = GitCredentials()
TOKEN = "glpat-5f1e9c"
SOMEBODY = GitCredentials(username=SensitiveText("robot"), token=SensitiveText(TOKEN))


@pytest.fixture
def repository(git_server: GitServer) -> Path:
    git_server.create("r.git")
    return git_server.root / "r.git"


async def refused(
    git_server: GitServer, settings: KrapaoSettings, change: Change, credentials: GitCredentials = NOBODY
) -> JiemiError:
    with between(git_server, change) as address:
        async with Clones(settings).open(parse_url(f"{address}/r.git"), credentials) as store:
            with pytest.raises(JiemiError) as caught:
                await store.fetch(await store.advertised(Ref()))
    return caught.value


# --- compressed though nobody asked


def _split(data: bytes) -> bytes:
    """Two members of gzip, as a proxy makes that compresses each piece."""
    return gzip.compress(data[: len(data) // 2]) + gzip.compress(data[len(data) // 2 :])


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("GZIP", _split),
        ("deflate", zlib.compress),
        ("identity", bytes),
    ],
)
async def test_refs_and_packs_that_come_compressed_are_read(
    git_server: GitServer,
    repository: Path,
    work: Work,
    settings: KrapaoSettings,
    encoding: str,
    encode: Callable[[bytes], bytes],
) -> None:
    content = os.urandom(200_000)
    seen: set[str] = set()

    def change(path: str, answer: Answer) -> Answer:
        seen.add(path.partition("?")[0])
        return Answer(answer.status, {**answer.headers, "Content-Encoding": encoding}, encode(answer.body))

    with between(git_server, change) as address:
        async with Clones(settings).open(parse_url(f"{address}/r.git"), NOBODY) as store:
            for data in (content, content[::-1]):
                revision = work.commit({"x": data})
                work.push(repository)
                found = await store.advertised(Ref())
                await store.fetch(found)
                assert await store.read(revision, "x", max_bytes=300_000) == data
    assert seen == {"/r.git/info/refs", "/r.git/git-upload-pack"}


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("br", "in a content encoding br, though none was asked for"),
        ("zstd", "in a content encoding zstd"),
        (f"x{TOKEN}", "in a content encoding that Krapao does not know"),
    ],
)
async def test_an_encoding_that_nobody_asked_for_is_named_where_it_is_known(
    git_server: GitServer, repository: Path, work: Work, settings: KrapaoSettings, encoding: str, words: str
) -> None:
    work.commit({"x": "one"})
    work.push(repository)

    def change(path: str, answer: Answer) -> Answer:
        return Answer(answer.status, {**answer.headers, "Content-Encoding": encoding}, answer.body)

    error = await refused(git_server, settings, change)
    assert (error.failure.reason, words in error.failure.message) == ("GitProtocolError", True), str(error)
    assert TOKEN not in str(error)


# --- what a host says


def _packet(payload: bytes) -> bytes:
    return b"%04x" % (len(payload) + 4) + payload


def _says(payload: bytes, where: str = "git-upload-pack", before: bytes = b"") -> Change:
    def change(path: str, answer: Answer) -> Answer:
        return Answer(200, answer.headers, before + _packet(payload) + b"0000") if where in path else answer

    return change


OVERLOAD = b"GitLab is currently unable to handle this request due to load."


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_says(b"ERR " + OVERLOAD), OVERLOAD.decode()),
        (
            _says(b"ERR " + OVERLOAD + b"\n", "info/refs", _packet(b"# service=git-upload-pack\n") + b"0000"),
            "due to load",
        ),
        (_says(b"ERR upload-pack: disabled for maintenance\r\n\x1b[31m"), "upload-pack: disabled for maintenance [31m"),
        (_says(f"ERR no more than 5 sessions for robot:{TOKEN}".encode()), "no more than 5 sessions for …:…"),
        (_says(b"ERR slow down, Basic cm9ib3Q6Z2xwYXQtNWYxZTljCg=="), "slow down, Basic …"),
        (_says(b"ERR see https://robot:pw@git.example/help"), "see https://…@git.example/help"),
    ],
)
async def test_an_error_packet_is_tried_again_and_reported_in_the_hosts_words_made_safe(
    git_server: GitServer,
    repository: Path,
    work: Work,
    settings: KrapaoSettings,
    change: Change,
    said: str,
) -> None:
    work.commit({"x": "one"})
    work.push(repository)
    error = await refused(git_server, settings, change, SOMEBODY)
    assert error.failure.reason == "GitProtocolError"
    assert REASONS["GitProtocolError"].kind is Kind.TRANSIENT
    assert f'refuses for the moment; it says: "{said}' in error.failure.message or said in error.failure.message
    assert TOKEN not in str(error)
    assert "cm9ib3Q6" not in str(error)
    assert ":pw@" not in str(error)


async def test_an_error_in_the_midst_of_a_pack_is_reported_in_the_hosts_words(
    git_server: GitServer,
    repository: Path,
    work: Work,
    settings: KrapaoSettings,
) -> None:
    work.commit({"x": "one"})
    work.push(repository)

    def change(path: str, answer: Answer) -> Answer:
        if b"packfile" not in answer.body:
            return answer
        return Answer(
            200, answer.headers, _packet(b"packfile\n") + _packet(b"\3pack-objects died of signal 9") + b"0000"
        )

    error = await refused(git_server, settings, change)
    assert error.failure.reason == "GitProtocolError"
    assert 'it says: "pack-objects died of signal 9"' in error.failure.message


async def test_an_error_packet_of_a_repository_that_is_not_there_says_so_with_the_hosts_words(
    git_server: GitServer,
    repository: Path,
    work: Work,
    settings: KrapaoSettings,
) -> None:
    work.commit({"x": "one"})
    work.push(repository)
    error = await refused(git_server, settings, _says(b"ERR Repository not found. Has it moved?"))
    assert error.failure.reason == "RepositoryNotFound"
    assert error.failure.message.endswith('it says: "Repository not found. Has it moved?"')


@given(st.binary(max_size=600), st.text(min_size=4, max_size=40))
def test_no_words_of_a_host_hold_what_it_was_asked_with_or_break_a_line(said: bytes, token: str) -> None:
    for line in (said, said + token.encode("utf-8", "surrogatepass"), token.encode("utf-8", "surrogatepass") + said):
        shown = safe_words(b"ERR " + line, [token])
        assert shown.isprintable()
        assert len(shown) <= 200
        if token.strip() and "…" not in token:
            assert token not in shown


# --- login pages


@pytest.mark.parametrize(
    "location",
    [
        "/user/login?redirect_to=%2fr.git",  # Gitea with REQUIRE_SIGNIN_VIEW
        "/users/sign_in",  # GitLab
        "/login?return_to=%2Fr.git",  # GitHub Enterprise in private mode
        "https://spsprodcus1.vssps.visualstudio.com/_signin?realm=dev.azure.com&reply_to=x",  # Azure DevOps
        "https://login.microsoftonline.com/common/oauth2/authorize?client_id=x",
        "https://team.cloudflareaccess.com/cdn-cgi/access/login/git.example",
        "https://sso.example/realms/main/protocol/openid-connect/auth",
        "/oauth2/start?rd=%2Fr.git",  # oauth2-proxy
        "/plugins/servlet/saml2/auth",  # Bitbucket Data Center
    ],
)
@pytest.mark.parametrize("credentials", [NOBODY, SOMEBODY])
async def test_a_redirect_to_a_login_page_is_reported_as_a_matter_of_credentials(
    git_server: GitServer, repository: Path, settings: KrapaoSettings, location: str, credentials: GitCredentials
) -> None:
    error = await refused(
        git_server, settings, lambda path, answer: Answer(302, {"Location": location}, b""), credentials
    )
    assert error.failure.reason == "RepositoryAccessDenied"
    wanted = "gives none" if credentials is NOBODY else "credentials refused"
    assert "redirects to a page to log in: " in error.failure.message
    assert wanted in error.failure.message
    assert "example" not in error.failure.message  # where it leads to is the host's own affair


async def test_a_session_that_ends_amid_the_talk_is_a_matter_of_credentials(
    git_server: GitServer,
    repository: Path,
    work: Work,
    settings: KrapaoSettings,
) -> None:
    work.commit({"x": "one"})
    work.push(repository)

    def change(path: str, answer: Answer) -> Answer:
        return answer if "info/refs" in path else Answer(302, {"Location": "/users/sign_in"}, b"")

    error = await refused(git_server, settings, change, SOMEBODY)
    assert error.failure.reason == "RepositoryAccessDenied"


@pytest.mark.parametrize(
    "location",
    [
        "https://git.example/team/login/info/refs?service=git-upload-pack",
        "/team/login-service.git/info/refs",
        "/team/sso.git/info/refs?service=git-upload-pack",
        "/team/blog/index.html",
        "/catalogin/x",
        "https://[bad",
    ],
)
def test_a_repository_whose_name_is_login_is_no_login_page(location: str) -> None:
    assert not leads_to_login(location)


# --- what the big hosts say


@pytest.mark.parametrize(
    ("status", "headers", "body", "reason", "words"),
    [
        # Azure DevOps shows its page to sign in where a token is not one of its own.
        (
            203,
            {"Content-Type": "text/html"},
            b"<html>Sign In",
            "RepositoryAccessDenied",
            "answered 203, a page to log in",
        ),
        # GitHub's limits come as 403 and as 429.
        (403, {"Retry-After": "60"}, b"", "GitProtocolError", "answered 403: it takes no more requests for the moment"),
        (403, {"X-RateLimit-Remaining": "0"}, b"", "GitProtocolError", "takes no more requests"),
        (429, {}, b"", "GitProtocolError", "answered 429: it takes no more requests for the moment"),
        (
            403,
            {},
            b"remote: The 'team' organization has enabled or enforced SAML SSO.",
            "RepositoryAccessDenied",
            "Authorize the token for the organization's single sign-on.",
        ),
        (
            401,
            {},
            b"Support for password authentication was removed on August 13, 2021.",
            "RepositoryAccessDenied",
            "Give an access token in place of the password.",
        ),
        (
            401,
            {"Content-Encoding": "gzip"},
            gzip.compress(
                b"HTTP Basic: Access denied. Use a token with 'read_repository' or 'write_repository' scope", mtime=0
            ),
            "RepositoryAccessDenied",
            "Give an access token with the scope read_repository.",
        ),
        (403, {}, b"the organization has an IP allow list enabled", "RepositoryAccessDenied", "IP allow list"),
        (404, {}, b"Repository not found.", "RepositoryNotFound", "no repository at "),
        (403, {}, TOKEN.encode() * 1000, "RepositoryAccessDenied", "credentials refused"),
        (401, {}, b"App passwords: your account password is none", "RepositoryAccessDenied", "in place of the "),
        (403, {}, b"TF400813: The user '' is not authorized", "RepositoryAccessDenied", "use this organization"),
    ],
)
async def test_what_the_big_hosts_answer_is_reported_with_its_mend(
    git_server: GitServer,
    repository: Path,
    settings: KrapaoSettings,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    reason: str,
    words: str,
) -> None:
    error = await refused(git_server, settings, lambda path, answer: Answer(status, headers, body), SOMEBODY)
    assert error.failure.reason == reason, str(error)
    assert words in error.failure.text
    assert TOKEN not in str(error)


async def test_a_refusal_whose_body_never_comes_is_reported_all_the_same(
    git_server: GitServer, repository: Path, settings: KrapaoSettings
) -> None:
    quick = attrs.evolve(settings, connect_timeout_seconds=0.3)
    error = await refused(
        git_server, quick, lambda path, answer: Answer(403, {"Content-Length": "100000"}, b"saml"), SOMEBODY
    )
    assert error.failure.reason == "RepositoryAccessDenied"


@pytest.mark.parametrize(("status", "retry_after"), [(429, "120"), (403, "120"), (429, "99999999")])
async def test_a_host_that_asks_for_a_pause_is_not_asked_again_before_it_is_over(
    git_server: GitServer,
    repository: Path,
    work: Work,
    settings: KrapaoSettings,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    retry_after: str,
) -> None:
    work.commit({"x": "one"})
    work.push(repository)
    is_busy, asked, passed = True, 0, 0.0

    def change(path: str, answer: Answer) -> Answer:
        nonlocal asked
        asked += 1
        return Answer(status, {"Retry-After": retry_after}, b"") if is_busy else answer

    with between(git_server, change) as url:
        async with Clones(settings).open(parse_url(f"{url}/r.git"), NOBODY) as store:
            for _ in range(3):
                with pytest.raises(JiemiError) as caught:
                    await store.advertised(Ref())
                assert caught.value.failure.reason == "GitProtocolError"
                assert "takes no more requests for the moment" in caught.value.failure.message
            assert asked == 1
            is_busy, passed = False, min(float(retry_after), 600) + 1
            monkeypatch.setattr(git_host, "_now", lambda: trio.current_time() + passed)
            assert await store.advertised(Ref())


@given(st.text(max_size=20) | st.integers().map(str))
def test_any_header_asks_for_some_pause_or_none(text: str) -> None:
    assert 0 <= wait_seconds(text) < 1e9
