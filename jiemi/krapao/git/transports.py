"""How git's bytes travel: dulwich's clients over connections that end when their call is cancelled.

`open_client` gives a dulwich client for a location. Each client belongs to one operation on one worker thread:
nothing is kept between operations, so no connection, and no credential in one, outlives the question that it was
opened for.

What dulwich would do by itself and must not: read ~/.gitconfig, ask credential helpers, follow a redirect to
another host, fall back to the dumb protocol (which downloads file by file what a listing names), use the
environment's proxies, wait for ever, and read for ever. So each client here overrides the one method that makes the
connection.

`translating` turns what any of it raises into a JiemiError. A host can make dulwich raise nearly anything, so what
is not known is a GitProtocolError; the host's own words are read to find the reason, and repeated as far as
`host_words` lets them through.

Who may write a Decryptor may name any host and port, and Krapao may reach more of them than that person. So until a
host has shown itself as a git server, there is one message for all that it can be instead (`no_git_server`): a closed
port, a filtered one, a name that does not exist, another protocol. Krapao's own log has the details. What a user must
know to mend a Decryptor is told all the same: a certificate or host key that is not trusted, a redirect, and the
answers 203, 401, 403, 404, 410 and 429. And how long it takes can't be hidden.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import urljoin

import attrs
import structlog
import urllib3
from dulwich.client import (
    FetchPackResult,
    GitClient,
    LocalGitClient,
    LsRemoteResult,
    TCPGitClient,
    Urllib3HttpGitClient,
    default_user_agent_string,
)
from dulwich.errors import GitProtocolError, HangupException, NotGitRepository
from dulwich.objects import ObjectID
from dulwich.protocol import PEELED_TAG_SUFFIX, Protocol
from dulwich.refs import Ref
from urllib3.util.ssl_ import create_urllib3_context

from jiemi.concurrency import calls
from jiemi.concurrency.http import Watch, close_pool, make_interruptible
from jiemi.core.errors import JiemiError
from jiemi.krapao.git.encoded import decoded
from jiemi.krapao.git.host_words import MAX_BODY_BYTES, asks_to_wait, hint, leads_to_login, safe_words
from jiemi.krapao.git.meter import Meter
from jiemi.krapao.git.urls import FIELD, Location, Scheme, file_url_refused
from jiemi.krapao.git.wire import write_though_closed
from jiemi.krapao.network.connecting import permit_by, require_name
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.contract import GitCredentials

_CREDENTIALS = "spec.source.repository.credentials"
_MAX_REDIRECTS = 3
_BUSY = frozenset({429, 502, 503, 504})


log = structlog.get_logger("jiemi.krapao.git")

logging.getLogger("dulwich").setLevel(logging.CRITICAL)  # it repeats what the host says, as often as that says it


@contextlib.contextmanager
def open_client(
    location: Location, credentials: GitCredentials, settings: KrapaoSettings, meter: Meter
) -> Iterator[tuple[GitClient, bytes]]:
    """A dulwich client and the path to give to its methods.

    Raises:
        JiemiError: SchemeNotAllowed, AddressNotAllowed, or what the credentials' form makes impossible.
    """
    with contextlib.ExitStack() as stack:
        path = location.path.encode("utf-8", "surrogateescape")
        if location.scheme is not Scheme.FILE:
            require_name(location.host, settings.addresses, FIELD)
        match location.scheme:
            case Scheme.HTTP | Scheme.HTTPS:
                yield stack.enter_context(_http_client(location, credentials, settings, meter)), b""
            case Scheme.GIT:
                yield stack.enter_context(_TcpClient.opened(location, settings, meter)), path
            case Scheme.SSH:
                from jiemi.krapao.git.ssh import ssh_client  # noqa: PLC0415 - paramiko is slow to import, and often not needed

                yield stack.enter_context(ssh_client(location, credentials, settings, meter)), path
            case Scheme.FILE:
                if not settings.allow_file_urls:
                    raise file_url_refused()
                meter.is_git = True  # nobody's host
                yield _LocalClient(), path


# http and https


@contextlib.contextmanager
def _http_client(
    location: Location, credentials: GitCredentials, settings: KrapaoSettings, meter: Meter
) -> Iterator[GitClient]:
    options: dict[str, Any] = {
        "retries": False,
        "timeout": urllib3.Timeout(connect=settings.connect_timeout_seconds, read=settings.connect_timeout_seconds),
        "maxsize": 1,
        "block": False,
        "cert_reqs": "CERT_REQUIRED",
    }
    if settings.ca_bundle is not None:
        options["ssl_context"] = _context_with(settings.ca_bundle)
    permit, proxy = None, settings.http_proxy
    if proxy is None or not proxy.is_for(location.host):
        pool, permit = urllib3.PoolManager(**options), permit_by(settings.addresses, FIELD)
    else:
        # The proxy is the operator's own choice. It will look the host's name up, so only the name could be judged.
        headers = {"Proxy-Authorization": proxy.authorization.reveal()} if proxy.authorization is not None else None
        pool = urllib3.ProxyManager(
            proxy.url, proxy_headers=headers, proxy_ssl_context=options.get("ssl_context"), **options
        )
    watched = make_interruptible(pool, Watch(permit, meter.arrived))
    try:
        yield _HttpClient(location, _basic_auth(credentials), watched, meter)
    finally:
        close_pool(pool)


def _context_with(authorities: Path) -> ssl.SSLContext:
    """TLS as urllib3 would have it, with authorities beside the system's."""
    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
    context.load_default_certs()
    try:
        context.load_verify_locations(authorities)
    except (OSError, ssl.SSLError) as error:
        raise JiemiError(
            "TlsVerificationFailed",
            "Krapao can't read the file of its --ca-bundle",
            "Ask the operator to look at that file; it must hold certificates (PEM).",
        ) from error
    return context


def _basic_auth(credentials: GitCredentials) -> str | None:
    """The Authorization header's value (RFC 7617), or None."""
    if credentials.token is None and credentials.username is None:
        return None
    username = credentials.username.reveal().strip() if credentials.username is not None else "git"
    token = credentials.token.reveal().strip() if credentials.token is not None else ""
    if ":" in username:
        raise JiemiError(
            "RepositoryAccessDenied",
            f"{_CREDENTIALS}.username holds a colon, as basic auth can't",
            f"Put the user name alone there, and what follows the colon into {_CREDENTIALS}.token.",
        )
    return "Basic " + base64.b64encode(f"{username}:{token}".encode()).decode()


class _HttpClient(Urllib3HttpGitClient):
    """Git's smart HTTP protocol, and nothing else that dulwich's client can."""

    def __init__(self, location: Location, authorization: str | None, pool: urllib3.PoolManager, meter: Meter) -> None:
        super().__init__(location.url, pool_manager=pool, dumb=False, thin_packs=True, quiet=True)
        self._location = location
        self._authorization = authorization
        self._pool = pool
        self._meter = meter
        self._last: urllib3.BaseHTTPResponse | None = None

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
            raise _Told("GitProtocolError", f"{host} answered {status}: it takes no more requests for the moment")
        if status in (401, 403):
            raise self._denied(f"answered {status}", hint(self._begin_of(response), self._location.host))
        if status == 203:
            # RFC 9110, 15.3.4: what somebody on the way made of the answer; Azure DevOps, for its page to sign in.
            raise self._denied("answered 203, a page to log in")
        if status == 407:
            raise JiemiError(
                "HostUnreachable",
                "the http proxy that Krapao uses wants credentials",
                "Ask the operator to give them in `jiemi krapao --http-proxy-file`.",
            )
        if status in (404, 410):
            path = self._location.path
            if self._authorization is None:
                raise JiemiError(
                    "RepositoryNotFound",
                    f"{FIELD}: {host} answered {status}: no repository at {path}, or none without credentials",
                    f"Correct the path; for a private repository put a token into {_CREDENTIALS}.token.",
                )
            raise JiemiError(
                "RepositoryNotFound",
                f"{FIELD}: {host} answered {status}: no repository at {path} for {_CREDENTIALS}",
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
        if self._authorization is None:
            return JiemiError(
                "RepositoryAccessDenied",
                f"{self._location.authority} {did}: it wants credentials, and {_CREDENTIALS} gives none",
                mend
                or f"Put a token that may read the repository into {_CREDENTIALS}.token (and a user name into "
                "username, where the host asks for one).",
            )
        return JiemiError(
            "RepositoryAccessDenied",
            f"{self._location.authority} {did}: {_CREDENTIALS} refused",
            mend
            or f"Correct {_CREDENTIALS}.username and token: the token may have expired, or not be let read this "
            "repository.",
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


# git://


class _TcpClient(TCPGitClient):
    """git:// over a connection that can be interrupted."""

    @classmethod
    @contextlib.contextmanager
    def opened(cls, location: Location, settings: KrapaoSettings, meter: Meter) -> Iterator[GitClient]:
        client = cls(location.host, port=location.port, thin_packs=True, quiet=True)
        client._location = location
        client._meter = meter
        client._settings = settings
        client._stack = contextlib.ExitStack()
        with client._stack:
            yield client

    _location: Location
    _meter: Meter
    _settings: KrapaoSettings
    _stack: contextlib.ExitStack

    def _connect(
        self, cmd: bytes, path: str | bytes, protocol_version: int | None = None
    ) -> tuple[Protocol, Callable[[], bool], IO[bytes] | None]:
        interrupter = self._meter.interrupter
        sock = self._stack.enter_context(
            calls.connect_tcp(
                interrupter,
                self._location.host,
                self._location.port,
                timeout_seconds=self._settings.connect_timeout_seconds,
                permit=permit_by(self._settings.addresses, FIELD),
            )
        )
        self._stack.enter_context(calls.interruptible_socket(interrupter, sock))
        meter = self._meter
        stream = self._stack.enter_context(calls.counted(sock.makefile("rb"), meter.arrived))
        proto = Protocol(lambda size: meter.look_at_packets(stream.read(size)), write_though_closed(sock.sendall))
        raw = path if isinstance(path, bytes) else path.encode()
        self.protocol_version = 2
        proto.send_cmd(b"git-" + cmd, raw, b"host=" + self._location.authority.encode() + b"\0\0version=2\0")
        return proto, lambda: False, None


# file://


class _LocalClient(LocalGitClient):
    """dulwich's client for a repository on this machine, which says what a server says: what annotated tags name, and
    that an object is not there."""

    def fetch_pack(
        self,
        path: str | bytes,
        determine_wants: Callable[..., list[ObjectID]],
        *rest: Any,
        **options: Any,
    ) -> FetchPackResult:
        def wants_that_are_there(refs: Mapping[Ref, ObjectID], depth: int | None = None) -> list[ObjectID]:
            wants = determine_wants(refs, depth)
            with self._open_repo(path) as repo:
                hex_length = repo.object_format.hex_length
                if not all(len(want) == hex_length and want in repo.object_store for want in wants):
                    raise GitProtocolError("not our ref")
            return wants

        return super().fetch_pack(path, wants_that_are_there, *rest, **options)

    def get_refs(
        self, path: str | bytes, protocol_version: int | None = None, ref_prefix: Sequence[bytes] | None = None
    ) -> LsRemoteResult:
        listed = super().get_refs(path, protocol_version, ref_prefix)
        with self._open_repo(path) as repo:
            for ref in list(listed.refs):
                if ref.startswith(tuple(ref_prefix or ())):
                    listed.refs[Ref(ref + PEELED_TAG_SUFFIX)] = repo.get_peeled(ref)
        return listed


# What goes wrong


_TUNNEL_REFUSED = re.compile(r"Tunnel connection failed: ([0-9]{3})\b")
"""http.client's own words (`HTTPConnection._tunnel`)."""

_PORT_LIKE = re.compile(r"([0-9]{1,5})/(.+)")

_NOT_FOUND = ("not found", "not exported", "does not appear to be a git repository", "does not exist", "no such")
_DENIED = ("permission denied", "access denied", "authentication", "could not read from remote", "forbidden")
_NO_REVISION = ("not our ref", "unadvertised object", "no such object", "upload-pack: not", " not valid")
"""Of git, and of JGit ("want … not valid")."""


_ABOUT_THE_HOST = frozenset({"HostUnreachable", "GitProtocolError", "Timeout", "LimitExceeded"})
"""Reasons that tell what a host does or is."""


def no_git_server(location: Location, detail: str) -> JiemiError:
    """The one error for a host that has not shown itself as a git server.

    Args:
        detail: what it did; for the operator's log only.
    """
    host = f"[{location.host}]" if ":" in location.host else location.host
    log.warning("no_git_server", host=host, port=location.port, detail=detail)
    return JiemiError(
        "HostUnreachable",
        f"{FIELD}: no git server answers at {host}:{location.port}: its name is unknown, it is down or too slow, its "
        "port is closed or filtered, or what answers is no git server; Krapao's log says which",
        port_remedy(location),
    )


def port_remedy(location: Location) -> str:
    """What to do about user@host:2222/path, whose author may have meant a port; "" for any other location."""
    found = _PORT_LIKE.match(location.path)
    if location.scheme is not Scheme.SSH or found is None or not 0 < int(found[1]) < 65536:
        return ""
    user = f"{location.user}@" if location.user is not None else ""
    return (
        f"If {found[1]} is a port, write ssh://{user}{location.host}:{found[1]}/{found[2]}: in user@host:path all that "
        "follows the colon is the path."
    )


def _certificate_remedy(why: str) -> str:
    if "expired" in why or "not yet valid" in why:
        return "Renew the host's certificate."
    if "mismatch" in why or "doesn't match" in why or "not valid for" in why:
        return f"Write the host's name in {FIELD} as its certificate has it."
    return (
        "Ask the operator to give Krapao the certificate of the authority that signed the host's "
        "(`jiemi krapao --ca-bundle`)."
    )


@contextlib.contextmanager
def translating(
    location: Location, timeout_seconds: float, meter: Meter, credentials: GitCredentials
) -> Iterator[None]:
    """Turn what a client raises into a JiemiError. Interrupted is passed on: nobody sees it."""
    host = location.authority or "the file URL"
    try:
        yield
    except calls.Interrupted:
        raise
    except JiemiError as error:
        told = _told(error, location, meter)
        if told is error:
            raise
        raise told from error
    except NotGitRepository as error:
        raise JiemiError("RepositoryNotFound", f"{FIELD}: {host} has no git repository at {location.path}") from error
    except Exception as error:
        # A host can drive dulwich into any exception (AssertionError, IndexError, zlib.error, struct.error …).
        found = (
            JiemiError.of(meter.failure)
            if meter.failure is not None
            else _classify(error, host, location, timeout_seconds, _Said(meter.error_line, credentials))
        )
        raise _told(found, location, meter) from error


class _Told(JiemiError):
    """What is told also of a host that has not shown itself as a git server."""


def _told(error: JiemiError, location: Location, meter: Meter) -> JiemiError:
    """What the tenant is told of it."""
    failure = error.failure
    is_about_the_host = failure.reason in _ABOUT_THE_HOST and (
        failure.reason != "LimitExceeded" or failure == meter.failure
    )
    if meter.is_git or not is_about_the_host or isinstance(error, _Told):
        return error
    return no_git_server(location, failure.message)


@attrs.frozen
class _Said:
    """The last that a host said when it refused; b"" for nothing. And what it was asked with."""

    line: bytes
    credentials: GitCredentials

    def shown(self) -> str:
        given = (self.credentials.username, self.credentials.token)
        words = safe_words(self.line, [each.reveal() for each in given if each is not None])
        return f'; it says: "{words}"' if words else ""


def _classify(  # noqa: C901, PLR0911 - a table in the order of certainty
    error: Exception, host: str, location: Location, timeout_seconds: float, said: _Said
) -> JiemiError:
    chain = list(_chain(error))
    for each in chain:
        if isinstance(each, JiemiError):
            return each
        if isinstance(each, ssl.SSLCertVerificationError):
            why = each.verify_message
            return JiemiError(
                "TlsVerificationFailed", f"{host}: its certificate does not verify: {why}", _certificate_remedy(why)
            )
    for each in chain:
        if isinstance(each, (socket.gaierror, urllib3.exceptions.NameResolutionError)):
            return JiemiError("HostUnreachable", f"{host}: the name is not known")
        if isinstance(each, ConnectionRefusedError):
            return JiemiError("HostUnreachable", f"{host}: the connection was refused")
    for each in chain:
        if isinstance(each, (TimeoutError, urllib3.exceptions.TimeoutError)):
            return JiemiError("HostUnreachable", f"{host} did not answer within {timeout_seconds:g} s")
    refused = next(filter(None, (_TUNNEL_REFUSED.match(str(each)) for each in chain)), None)
    if refused is not None:
        return JiemiError(
            "HostUnreachable",
            f"{host}: the http proxy that Krapao uses answered {refused[1]} to CONNECT",
            "Ask the operator of that proxy to let Krapao reach the host, or to leave it out (`--no-proxy`).",
        )
    if any(isinstance(each, ssl.SSLError) for each in chain):
        return JiemiError("GitProtocolError", f"{host} does not speak TLS as it should")
    if any(isinstance(each, GitProtocolError) for each in chain):
        return _classify_words(chain, host, location, said)
    if any(isinstance(each, (OSError, urllib3.exceptions.NewConnectionError)) for each in chain):
        return JiemiError("HostUnreachable", f"{host}: the connection failed or ended early")
    return JiemiError("GitProtocolError", f"{host} answered, but not as a git server does ({type(error).__name__})")


def _classify_words(chain: list[BaseException], host: str, location: Location, said: _Said) -> JiemiError:
    """From a git server's own words. Those of an exception are not repeated: they may be dulwich's."""
    words = " ".join(str(each) for each in chain if isinstance(each, GitProtocolError))[:4_000].lower()
    words += said.line.decode("utf-8", "replace").lower()
    shown = said.shown()
    if any(phrase in words for phrase in _NO_REVISION):
        return JiemiError("RevisionNotFound", f"{host} no longer gives out the revision")
    if any(phrase in words for phrase in _NOT_FOUND):
        return JiemiError(
            "RepositoryNotFound",
            f"{FIELD}: {host} has no repository at {location.path}, or hides it from {_CREDENTIALS}{shown}",
            port_remedy(location),
        )
    if any(phrase in words for phrase in _DENIED):
        return JiemiError(
            "RepositoryAccessDenied", f"{host} refused access to {location.path}{shown}", port_remedy(location)
        )
    if shown:
        return JiemiError("GitProtocolError", f"{host} refuses for the moment{shown}")
    if any(isinstance(each, HangupException) for each in chain):
        return JiemiError("GitProtocolError", f"{host} ended the connection in the middle of git's talk")
    return JiemiError("GitProtocolError", f"{host} answered, but not as a git server does")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(10):
        if error is None:
            return
        yield error
        reason = getattr(error, "reason", None)
        if isinstance(reason, BaseException):
            yield from _chain(reason)
        error = error.__cause__ or error.__context__
