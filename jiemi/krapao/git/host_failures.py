"""What git hosts do wrong, as errors that a tenant may see.

`translating` turns whatever a client raises into a JiemiError. A host can make dulwich raise nearly anything, so what
is not known is a GitProtocolError; the host's own words are read to find the reason, and repeated as far as
`host_words` lets them through.

Who may write a Decryptor may name any host and port, and Krapao may reach more of them than that person. So until a
host has shown itself as a git server, there is one message for all that it can be instead (`no_git_server`): a closed
port, a filtered one, a name that does not exist, another protocol. Krapao's own log has the details. What a user must
know to mend a Decryptor is shown all the same: a certificate or host key that is not trusted, an ssh host that has no
algorithm in common with Krapao, a redirect, and the answers 203, 401, 403, 404, 410 and 429. And how long it takes
can't be hidden.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from collections.abc import Iterator

import attrs
import structlog
import urllib3
from dulwich.errors import GitProtocolError, HangupException, NotGitRepository

from jiemi.concurrency import calls
from jiemi.core.errors import JiemiError
from jiemi.core.urls import CREDENTIALS_FIELD, FIELD, PROXY_FIELD, Location, Scheme
from jiemi.krapao.git.host_words import safe_words
from jiemi.krapao.git.meter import Meter
from jiemi.rpc.source import GitCredentials

log = structlog.get_logger("jiemi.krapao.git")

_TUNNEL_REFUSED = re.compile(r"Tunnel connection failed: ([0-9]{3})\b")
"""http.client's own words (`HTTPConnection._tunnel`)."""

_PORT_LIKE = re.compile(r"([0-9]{1,5})/(.+)")

_NOT_FOUND = ("not found", "not exported", "does not appear to be a git repository", "does not exist", "no such")
_DENIED = ("permission denied", "access denied", "authentication", "could not read from remote", "forbidden")
_NO_REVISION = ("not our ref", "unadvertised object", "no such object", "upload-pack: not", " not valid")
"""Of git, and of JGit ("want … not valid")."""


_ABOUT_THE_HOST = frozenset({"HostUnreachable", "GitProtocolError", "Timeout", "LimitExceeded"})
"""Reasons that show what a host does or is."""


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
        f"Put the certificate of the authority that signed the host's into {CREDENTIALS_FIELD}.caBundle, or ask the "
        "operator to give it to Krapao (`jiemi krapao --ca-bundle`)."
    )


_ALERTS = frozenset(
    {
        "TLSV13_ALERT_CERTIFICATE_REQUIRED",
        "SSLV3_ALERT_BAD_CERTIFICATE",
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        "SSLV3_ALERT_CERTIFICATE_REVOKED",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        "TLSV1_ALERT_UNKNOWN_CA",
        "TLSV1_ALERT_ACCESS_DENIED",
        "TLSV1_ALERT_DECRYPT_ERROR",
    }
)
"""Alerts of a host (RFC 8446, section 6.2) about the certificate that it was or was not shown, by OpenSSL's names."""


def certificate_refused(host: str, *, is_given: bool, is_missing: bool) -> JiemiError:
    """For a host that wants a client certificate.

    Args:
        is_given: whether the credentials have one.
        is_missing: whether the host says that it got none.
    """
    if not is_given:
        return JiemiError(
            "RepositoryAccessDenied",
            f"{host} wants a client certificate, and {CREDENTIALS_FIELD} gives none",
            f"Put one that the host accepts into {CREDENTIALS_FIELD}.clientCertificate, and its key into clientKey.",
        )
    what = "wants a client certificate of another authority than" if is_missing else "refused"
    return JiemiError(
        "RepositoryAccessDenied",
        f"{host} {what} {CREDENTIALS_FIELD}.clientCertificate",
        "Correct it: it may have expired, or be signed by an authority that the host does not know.",
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
        shown = _shown(error, location, meter)
        if shown is error:
            raise
        raise shown from error
    except NotGitRepository as error:
        raise JiemiError("RepositoryNotFound", f"{FIELD}: {host} has no git repository at {location.path}") from error
    except Exception as error:
        # A host can drive dulwich into any exception (AssertionError, IndexError, zlib.error, struct.error …).
        found = (
            JiemiError.of(meter.failure)
            if meter.failure is not None
            else _classify(error, host, location, timeout_seconds, _Said(meter.error_line, credentials))
        )
        raise _shown(found, location, meter) from error


class ShownError(JiemiError):
    """The tenant sees it even where the host has not shown itself as a git server."""


class HostBusyError(ShownError):
    """A host asks for a pause.

    Attributes:
        wait_seconds: how long it wants; 0 where it does not say.
    """

    wait_seconds: float = 0.0


def _shown(error: JiemiError, location: Location, meter: Meter) -> JiemiError:
    """The error that the tenant sees in place of one: `no_git_server`, or the same."""
    failure = error.failure
    is_about_the_host = failure.reason in _ABOUT_THE_HOST and (
        failure.reason != "LimitExceeded" or failure == meter.failure
    )
    if meter.is_git or not is_about_the_host or isinstance(error, ShownError):
        return error
    return no_git_server(location, failure.message)


@attrs.frozen
class _Said:
    """The last that a host said when it refused; b"" for nothing. And what it was asked with."""

    line: bytes
    credentials: GitCredentials

    def shown(self) -> str:
        given = (self.credentials.username, self.credentials.token, self.credentials.bearer)
        words = safe_words(self.line, [each.reveal() for each in given if each is not None])
        return f'; it says: "{words}"' if words else ""


def _classify(error: Exception, host: str, location: Location, timeout_seconds: float, said: _Said) -> JiemiError:
    """The error for an exception: the most certain of what its chain of causes says."""
    chain = list(_chain(error))
    certain = certain_of(error, host, said.credentials) or _unreachable(chain, host, timeout_seconds)
    if certain is not None:
        return certain
    if any(isinstance(each, ssl.SSLError) for each in chain):
        return JiemiError("GitProtocolError", f"{host} does not speak TLS as it should")
    if any(isinstance(each, GitProtocolError) for each in chain):
        return _classify_words(chain, host, location, said)
    if any(isinstance(each, (OSError, urllib3.exceptions.NewConnectionError)) for each in chain):
        return JiemiError("HostUnreachable", f"{host}: the connection failed or ended early")
    return JiemiError("GitProtocolError", f"{host} answered, but not as a git server does ({type(error).__name__})")


def proxy_refused(*, is_own: bool) -> JiemiError:
    """For a proxy that wants a login, or another one (407).

    Args:
        is_own: whether it is the Decryptor's; else the operator's.
    """
    if is_own:
        return JiemiError(
            "ProxyRefused",
            f"{PROXY_FIELD}: the proxy wants a user name and password, or refuses those that are given",
            f"Correct the username and password of {PROXY_FIELD}.",
        )
    return JiemiError(
        "ProxyRefused",
        "the proxy that Krapao's operator set wants a login, or refuses the one that it gets",
        "Ask the operator to correct it in the file of `jiemi krapao --git-proxy-file` or `--http-proxy-file`.",
    )


def certain_of(error: BaseException, host: str, credentials: GitCredentials) -> JiemiError | None:
    """The error for an exception that says by itself what went wrong, whatever the host is; None for any other."""
    return next(filter(None, (_of_one(each, host, credentials) for each in _chain(error))), None)


def _of_one(cause: BaseException, host: str, credentials: GitCredentials) -> JiemiError | None:
    """The error for a cause that says by itself what went wrong: one of Krapao's own, a bad certificate, a refusal by
    the proxy."""
    if isinstance(cause, JiemiError):
        return cause
    if isinstance(cause, ssl.SSLCertVerificationError):
        why = cause.verify_message
        return JiemiError(
            "TlsVerificationFailed", f"{host}: its certificate does not verify: {why}", _certificate_remedy(why)
        )
    if isinstance(cause, ssl.SSLError) and cause.reason in _ALERTS:
        is_missing = cause.reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED"
        return certificate_refused(host, is_given=credentials.client_certificate is not None, is_missing=is_missing)
    tunnel = _TUNNEL_REFUSED.match(str(cause)) if isinstance(cause, OSError) else None
    if tunnel is not None and tunnel[1] == "407":
        return proxy_refused(is_own=credentials.proxy_url is not None)
    return None


def _unreachable(chain: list[BaseException], host: str, timeout_seconds: float) -> JiemiError | None:
    """The error for a host that no connection reached, or that did not answer in time; None for any other cause."""
    for each in chain:
        if isinstance(each, (socket.gaierror, urllib3.exceptions.NameResolutionError)):
            return JiemiError("HostUnreachable", f"{host}: the name is not known")
        if isinstance(each, ConnectionRefusedError):
            return JiemiError("HostUnreachable", f"{host}: the connection was refused")
    if any(isinstance(each, (TimeoutError, urllib3.exceptions.TimeoutError)) for each in chain):
        return JiemiError("HostUnreachable", f"{host} did not answer within {timeout_seconds:g} s")
    refused = next(filter(None, (_TUNNEL_REFUSED.match(str(each)) for each in chain)), None)
    if refused is None:
        return None
    return JiemiError(
        "HostUnreachable",
        f"{host}: the proxy answered {refused[1]} to CONNECT",
        "Have the proxy's operator let Krapao reach the host.",
    )


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
            f"{FIELD}: {host} has no repository at {location.path}, or hides it from {CREDENTIALS_FIELD}{shown}",
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
