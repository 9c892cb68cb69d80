"""git over http and https: git's smart protocol, and nothing else that dulwich's client can.

A redirect is followed to the same host only, because the credentials are for that host. The answers that mean
credentials, a pause or a wrong path get errors that name the field to mend; they are shown even where the host has not
yet shown itself as a git server.
"""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urljoin

import urllib3
from dulwich.client import GitClient, Urllib3HttpGitClient, default_user_agent_string

from jiemi.core.errors import JiemiError
from jiemi.core.urls import CREDENTIALS_FIELD, FIELD, Location
from jiemi.krapao.git.encoded import decoded
from jiemi.krapao.git.host_failures import HostBusyError, certificate_refused, proxy_refused
from jiemi.krapao.git.host_words import MAX_BODY_BYTES, asks_to_wait, hint, leads_to_login, wait_seconds
from jiemi.krapao.git.http_pool import guarded_pool
from jiemi.krapao.git.meter import Meter
from jiemi.krapao.git.routes import route_to
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.source import GitCredentials

_MAX_REDIRECTS = 3
_BUSY = frozenset({429, 502, 503, 504})

_CERTIFICATE_WANTED = frozenset({400, 495, 496})
"""What nginx answers where it gets no client certificate, or another (ngx_http_ssl_module, "Error Processing")."""

_BEARER = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""RFC 6750, section 2.1: b64token."""


@contextlib.contextmanager
def http_client(
    location: Location, credentials: GitCredentials, settings: KrapaoSettings, meter: Meter
) -> Iterator[GitClient]:
    """A dulwich client over http or https; its connections end with the context.

    Raises:
        JiemiError: RepositoryAccessDenied where the credentials can't be sent, TlsVerificationFailed where authorities
            can't be read, InvalidSpec where the Decryptor's proxy is none.
    """
    route = route_to(location.host, location.scheme, credentials, settings)
    with guarded_pool(route, credentials, settings, meter) as pool:
        client = _HttpClient(location, credentials, pool, meter)
        try:
            yield client
        finally:
            client.end()


def _authorization(credentials: GitCredentials) -> str | None:
    """The Authorization header's value (RFC 6750, RFC 7617), or None."""
    if credentials.bearer is not None:
        token = credentials.bearer.reveal().strip()
        if not _BEARER.fullmatch(token):
            raise JiemiError(
                "RepositoryAccessDenied",
                f"{CREDENTIALS_FIELD}.bearer is no bearer token: it is empty, or holds a space or another character "
                "that no token has",
                "Put the token alone there, without the word Bearer.",
            )
        return f"Bearer {token}"
    if credentials.token is None and credentials.username is None:
        return None
    username = credentials.username.reveal().strip() if credentials.username is not None else "git"
    token = credentials.token.reveal().strip() if credentials.token is not None else ""
    if ":" in username:
        raise JiemiError(
            "RepositoryAccessDenied",
            f"{CREDENTIALS_FIELD}.username holds a colon, as basic auth can't",
            f"Put the user name alone there, and what follows the colon into {CREDENTIALS_FIELD}.token.",
        )
    return "Basic " + base64.b64encode(f"{username}:{token}".encode()).decode()


def _given(credentials: GitCredentials) -> str:
    """The names of the fields that show the host who asks; "" for none."""
    if credentials.github_app_id is not None:
        return "githubApp"  # the user name and token are made of it
    fields = {
        "username": credentials.username,
        "token": credentials.token,
        "bearer": credentials.bearer,
        "clientCertificate": credentials.client_certificate,
    }
    return " and ".join(name for name, value in fields.items() if value is not None)


class _HttpClient(Urllib3HttpGitClient):
    """Git's smart HTTP protocol, and nothing else that dulwich's client can."""

    def __init__(
        self, location: Location, credentials: GitCredentials, pool: urllib3.PoolManager, meter: Meter
    ) -> None:
        super().__init__(location.url, pool_manager=pool, dumb=False, thin_packs=True, quiet=True)
        self._location = location
        self._authorization = _authorization(credentials)
        self._given = _given(credentials)
        self._has_own_proxy = credentials.proxy_url is not None
        self._pool = pool
        self._meter = meter
        self._last: urllib3.BaseHTTPResponse | None = None

    def end(self) -> None:
        """Let go of the last answer. Where dulwich refuses one, nobody has: its connection is not back in the pool."""
        if self._last is not None:
            self._last.close()

    def _http_request(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        data: Any = None,
        raise_for_status: bool = True,
    ) -> tuple[Any, Callable[[int], bytes]]:
        sent = {
            "User-Agent": default_user_agent_string(),
            "Accept-Encoding": "identity",
            "Cache-Control": "no-cache",
            **(headers or {}),
        }
        if self._authorization is not None:
            sent["Authorization"] = self._authorization
        asked = url
        for _ in range(_MAX_REDIRECTS + 1):
            self._check_origin(url)
            if self._last is not None:
                # dulwich stops reading at git's own end, before HTTP's; the connection is not to be used again then.
                self._last.close()
                self._last.release_conn()
            method = "GET" if data is None else "POST"
            response = self._pool.request(method, url, headers=sent, body=data, preload_content=False, redirect=False)
            self._last = response
            location = response.headers.get("Location")
            if response.status not in (301, 302, 303, 307, 308) or location is None:
                break
            response.close()
            if leads_to_login(location):
                raise self._denied("redirects to a page to log in")
            if data is not None:
                raise JiemiError("GitProtocolError", f"{self._location.authority} redirects amid git's talk")
            url = urljoin(url, location)
        else:
            raise JiemiError("GitProtocolError", f"{self._location.authority} redirects without end")

        def read_as_it_came(size: int) -> bytes:
            return response.read(size if size >= 0 else None, decode_content=False)

        try:
            self._check_answer(response, first=data is None)
            encoding = response.headers.get("Content-Encoding")
            read_decoded = decoded(encoding, read_as_it_came, self._location.authority, self._meter.came_out)
        except JiemiError:
            response.close()
            raise
        answer: Any = response
        answer.content_type = response.headers.get("Content-Type")
        answer.redirect_location = url if url != asked else ""

        def read(size: int = -1) -> bytes:
            return self._meter.look(read_decoded(size))

        return answer, read

    def _check_origin(self, url: str) -> None:
        """Credentials, and all other trust, are for the host in the spec."""
        to = urllib3.util.parse_url(url)  # the parser that also connects: another may read another host
        host = (to.host or "").strip("[]")
        port = to.port or {"https": 443, "http": 80}.get(to.scheme or "", 0)
        if "\\" in url or (to.scheme, host, port) != (
            self._location.scheme.value,
            self._location.host,
            self._location.port,
        ):
            raise JiemiError(
                "InvalidUrl",
                f"{FIELD}: {self._location.authority} redirects to another scheme, host or port, which is not followed",
                "Put the repository's own address there, to which the host redirects.",
            )

    def _check_answer(self, response: urllib3.BaseHTTPResponse, *, first: bool) -> None:
        host, status = self._location.authority, response.status
        headers = response.headers
        if asks_to_wait(status, headers.get("Retry-After"), headers.get("X-RateLimit-Remaining")):
            busy = HostBusyError(
                "GitProtocolError", f"{host} answered {status}: it takes no more requests for the moment"
            )
            busy.wait_seconds = wait_seconds(headers.get("Retry-After"))
            raise busy
        if status in _CERTIFICATE_WANTED and b"ssl certificate" in (said := self._begin_of(response).lower()):
            raise certificate_refused(host, is_given="clientCertificate" in self._given, is_missing=b"no " in said)
        if status in (401, 403):
            raise self._denied(f"answered {status}", hint(self._begin_of(response), self._location.host))
        if status == 203:
            # RFC 9110, 15.3.4: what somebody on the way made of the answer; Azure DevOps, for its page to sign in.
            raise self._denied("answered 203, a page to log in")
        if status == 407:
            raise proxy_refused(is_own=self._has_own_proxy)
        if status in (404, 410):
            path = self._location.path
            if not self._given:
                raise JiemiError(
                    "RepositoryNotFound",
                    f"{FIELD}: {host} answered {status}: no repository at {path}, or none without credentials",
                    f"Correct the path; for a private repository put a token into {CREDENTIALS_FIELD}.token.",
                )
            raise JiemiError(
                "RepositoryNotFound",
                f"{FIELD}: {host} answered {status}: no repository at {path} for {CREDENTIALS_FIELD}",
                "Correct the path, or let the token read this repository.",
            )
        if status in _BUSY:
            raise JiemiError(
                "HostUnreachable",
                f"{host} answered {status}: it is busy or down",
                "Nothing, if it passes: Jiemi tries again. If it lasts, look at the git host.",
            )
        if status != 200:
            raise JiemiError("GitProtocolError", f"{host} answered {status} where git's protocol has no such answer")
        kind = response.headers.get("Content-Type") or ""
        if first and kind.split(";")[0].strip() != "application/x-git-upload-pack-advertisement":
            raise JiemiError(
                "GitProtocolError",
                f"{FIELD}: {host} does not speak git's smart http at {self._location.path}",
                "Put the address there that `git clone` takes, not that of a web page.",
            )
        self._meter.is_git = True

    def _denied(self, did: str, mend: str | None = None) -> JiemiError:
        """For a host that wants credentials, or other ones."""
        if not self._given:
            return JiemiError(
                "RepositoryAccessDenied",
                f"{self._location.authority} {did}: it wants credentials, and {CREDENTIALS_FIELD} gives none",
                mend
                or f"Put a token that may read the repository into {CREDENTIALS_FIELD}.token (and a user name into "
                "username, where the host asks for one).",
            )
        return JiemiError(
            "RepositoryAccessDenied",
            f"{self._location.authority} {did}: {CREDENTIALS_FIELD} refused",
            mend
            or f"Correct {CREDENTIALS_FIELD}.{self._given}: it may have expired, or not be let read this repository.",
        )

    def _begin_of(self, response: urllib3.BaseHTTPResponse) -> bytes:
        """The begin of a refusal's body, where it says that it has one; as far as it can be had."""
        length = response.headers.get("Content-Length") or ""
        if not (length.isdigit() and int(length)) and "chunked" not in response.headers.get("Transfer-Encoding", ""):
            return b""
        try:
            return decoded(
                response.headers.get("Content-Encoding"),
                lambda size: response.read(min(size, MAX_BODY_BYTES), decode_content=False),
                self._location.authority,
                self._meter.came_out,
            )(MAX_BODY_BYTES)
        except (JiemiError, OSError, urllib3.exceptions.HTTPError):
            return b""
