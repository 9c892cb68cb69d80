"""Logging in as a GitHub App: the token of its installation, asked for ahead of its end and kept in memory only.

One `AppLogin` belongs to one repository with one tenant's credentials, and ends with them. It asks over the connections
that git's own requests take (`jiemi.krapao.git.http_pool`), on the thread of the conversation that needs the token, so
within that conversation's deadline. A host that asks for a pause gets one: until it is over nothing is asked, and
everyone who wants a token is shown that.

Who may write a Decryptor names the API's host, so until it has shown itself as an API there is one message for all that
it can be instead, as for a git host (`jiemi.krapao.git.host_failures`).
"""

from __future__ import annotations

import time
from collections.abc import Callable

import attrs
import structlog
import urllib3

from jiemi.concurrency.calls import Interrupted
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.core.urls import Location, Scheme
from jiemi.krapao.git.github_api import (
    Answer,
    grant_of,
    installation_of,
    lookups,
    no_api,
    refusal,
    wait_seconds,
    wanted_rights,
)
from jiemi.krapao.git.github_identity import APP_FIELD, BASE_URL_FIELD, App, read_app, require_https, signed_token
from jiemi.krapao.git.host_failures import ShownError, certain_of
from jiemi.krapao.git.http_pool import guarded_pool
from jiemi.krapao.git.meter import Meter
from jiemi.krapao.git.routes import route_to
from jiemi.krapao.network.connecting import require_name
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.source import GitCredentials

log = structlog.get_logger("jiemi.krapao.git")

USERNAME = "x-access-token"
"""The user name of an installation's token for git over https."""

_AHEAD_SECONDS = 300
"""How long before its end a token is replaced: a conversation with the host takes at most a minute or so."""

_MAX_ANSWER_BYTES = 256 * 1024
"""A token for one repository comes with that repository's description: some 10 KiB."""


_SHOWN = frozenset({"TlsVerificationFailed", "RepositoryAccessDenied", "AddressNotAllowed", "ProxyRefused"})
"""What a user must know of a failed connection, whatever the host is."""


@attrs.frozen
class _Held:
    token: SensitiveText
    renew_at: float


class AppLogin:
    """The tokens for one repository. Its methods are for the threads of conversations.

    Args:
        clock: seconds since the epoch, as GitHub counts them.
        monotonic: seconds that never go back.
    """

    def __init__(
        self,
        location: Location,
        credentials: GitCredentials,
        settings: KrapaoSettings,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._location = location
        self._credentials = credentials
        self._settings = settings
        self._clock = clock
        self._monotonic = monotonic
        self._app: App | None = None
        self._held: _Held | None = None
        self._installation: str | None = None
        self._wait_until = 0.0

    def forget(self) -> bool:
        """Forget the token, because the host refused it; whether there was one."""
        held, self._held, self._installation = self._held, None, None
        return held is not None

    def has_token(self) -> bool:
        """Whether the next conversation uses a token that an earlier one got."""
        return self._held is not None and self._monotonic() < self._held.renew_at

    def credentials(self, meter: Meter) -> GitCredentials:
        """What git's own requests are sent with.

        Raises:
            JiemiError: InvalidUrl, InvalidSpec, RepositoryAccessDenied, TlsVerificationFailed, AddressNotAllowed,
                HostUnreachable, GitProtocolError while the host wants a pause.
        """
        held = self._held
        if held is None or self._monotonic() >= held.renew_at:
            held = self._held = self._ask(meter)
        return attrs.evolve(self._credentials, username=SensitiveText(USERNAME), token=held.token)

    def _ask(self, meter: Meter) -> _Held:
        require_https(self._location)
        left = self._wait_until - self._monotonic()
        if left > 0:
            raise _pause(left)
        if self._app is None:
            self._app = read_app(self._location, self._credentials)
        app = self._app
        require_name(app.host, self._settings.addresses, BASE_URL_FIELD)
        route = route_to(app.host, Scheme.HTTPS, self._credentials, self._settings, BASE_URL_FIELD)
        try:
            with guarded_pool(route, self._credentials, self._settings, meter) as pool:
                return self._converse(app, pool)
        except (Interrupted, JiemiError):
            raise
        except Exception as error:
            if meter.interrupter.interrupted:
                raise Interrupted("the call was cancelled") from error
            certain = certain_of(error, app.host, self._credentials)
            if certain is not None and certain.failure.reason in _SHOWN:
                raise ShownError.of(certain.failure) from error
            log.warning("no_github_api", host=app.host, detail=type(error).__name__)
            raise ShownError.of(no_api(app).failure) from error

    def _converse(self, app: App, pool: urllib3.PoolManager) -> _Held:
        installation = app.installation or self._installation or self._look_up(app, pool)
        answer = self._request(app, pool, "POST", f"/app/installations/{installation}/access_tokens")
        if answer.status != 201:
            self._installation = None
            raise self._refused(answer, app, of_token=True)
        try:
            grant = grant_of(answer, app)
        except JiemiError as error:
            raise self._no_api(answer, app) from error
        self._installation = installation
        ahead = min(_AHEAD_SECONDS, grant.lasts_seconds / 2)
        log.info("github_app_token", host=app.host, repository=self._location.url, lasts_seconds=grant.lasts_seconds)
        return _Held(grant.token, self._monotonic() + grant.lasts_seconds - ahead)

    def _look_up(self, app: App, pool: urllib3.PoolManager) -> str:
        answer = None
        for path in lookups(app):
            answer = self._request(app, pool, "GET", path)
            if answer.status == 200:
                try:
                    return installation_of(answer, app)
                except JiemiError as error:
                    raise self._no_api(answer, app) from error
            if answer.status != 404:
                break
        assert answer is not None  # noqa: S101 - there is at least one path
        raise self._refused(answer, app, of_token=False)

    def _request(self, app: App, pool: urllib3.PoolManager, method: str, path: str) -> Answer:
        headers = {
            "Accept": "application/vnd.github+json",
            "Accept-Encoding": "identity",
            "Authorization": f"Bearer {signed_token(app, self._clock()).reveal()}",
            "User-Agent": "jiemi",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        body = None
        if method == "POST":
            headers["Content-Type"] = "application/json"
            body = wanted_rights(app)
        response = pool.request(
            method, app.api + path, headers=headers, body=body, preload_content=False, redirect=False
        )
        try:
            data = response.read(_MAX_ANSWER_BYTES, decode_content=False)
            return Answer(
                response.status,
                {name.lower(): value for name, value in response.headers.items()},
                data,
                self._clock(),
            )
        finally:
            response.close()
            response.release_conn()

    def _refused(self, answer: Answer, app: App, *, of_token: bool) -> JiemiError:
        wait = wait_seconds(answer)
        if wait is not None:
            self._wait_until = self._monotonic() + wait
            return _pause(wait)
        error = refusal(answer, app, of_token=of_token)
        if error.failure.reason == "HostUnreachable":
            return self._no_api(answer, app)
        log.warning("github_app_refused", host=app.host, status=answer.status)
        return ShownError.of(error.failure)

    @staticmethod
    def _no_api(answer: Answer, app: App) -> JiemiError:
        log.warning("no_github_api", host=app.host, detail=f"it answered {answer.status}")
        return ShownError.of(no_api(app).failure)


def _pause(seconds: float) -> JiemiError:
    failure = JiemiError(
        "GitProtocolError",
        f"{APP_FIELD}: GitHub gives out no more tokens for the moment, and wants {seconds:.0f} s of rest",
        "Nothing, if it passes: Jiemi tries again. If it lasts, use another App for some of the repositories.",
    ).failure
    return ShownError.of(failure)
