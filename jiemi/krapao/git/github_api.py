"""What is said to GitHub's API to log in as an App, and what its answers mean. No I/O.

An App (`jiemi.krapao.git.github_identity`) gets a token of one of its installations, which lasts an hour and is asked
for with no more rights than are needed:
https://docs.github.com/en/rest/apps/apps#create-an-installation-access-token-for-an-app

Nothing that the API says is repeated; its words are only looked at.
"""

from __future__ import annotations

import datetime
import email.utils
import json
import re
from collections.abc import Mapping
from typing import Any

import attrs

from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.krapao.git.github_identity import APP_FIELD, BASE_URL_FIELD, INSTALLATION, KEY_FIELD, App

_TOKEN = re.compile(r"[!-~]{1,4096}")
"""Of printable characters, of any length: https://github.blog/changelog says that the form may change."""

_SKEW_SECONDS = 45
"""A clock that differs by more is named where the signature is refused."""

_MIN_WAIT_SECONDS, _USUAL_WAIT_SECONDS, _MAX_WAIT_SECONDS = 1.0, 60.0, 3_600.0
_LEAST_LIFETIME_SECONDS, _MOST_LIFETIME_SECONDS = 60.0, 3_600.0


@attrs.frozen
class Grant:
    """A token of an installation.

    Attributes:
        lasts_seconds: from its answer on.
    """

    token: SensitiveText
    lasts_seconds: float


@attrs.frozen
class Answer:
    """An answer of the API.

    Attributes:
        headers: by their names in lower case.
        body: the begin of it.
        now: seconds since the epoch by this machine's clock, as it came.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    now: float

    @property
    def server_time(self) -> float | None:
        """By the host's clock (the header Date); None where it does not say."""
        try:
            return email.utils.parsedate_to_datetime(self.headers.get("date", "")).timestamp()
        except (ValueError, TypeError, OverflowError):
            return None

    def says(self, *phrases: str) -> bool:
        """Whether one of some phrases in lower case is in its body."""
        text = self.body.decode("utf-8", "replace").lower()
        return any(phrase in text for phrase in phrases)

    def json(self) -> dict[str, Any] | None:
        """The object that it is, or None."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None


def lookups(app: App) -> tuple[str, ...]:
    """The paths that are asked, one after the other, for the installation's number, until one is found."""
    if app.installation_owner is not None:
        return f"/orgs/{app.installation_owner}/installation", f"/users/{app.installation_owner}/installation"
    return (f"/repos/{app.owner}/{app.repository}/installation",)


def wanted_rights(app: App) -> bytes:
    """The body of the request for a token: for this repository alone, and to read its contents."""
    return json.dumps({"repositories": [app.repository], "permissions": {"contents": "read"}}).encode()


def installation_of(answer: Answer, app: App) -> str:
    """The installation's number, of the answer with status 200 to one of `lookups`.

    Raises:
        JiemiError: HostUnreachable where it is no answer of GitHub's API.
    """
    found = (answer.json() or {}).get("id")
    if isinstance(found, bool) or not isinstance(found, int) or INSTALLATION.fullmatch(str(found)) is None:
        raise no_api(app)
    return str(found)


def grant_of(answer: Answer, app: App) -> Grant:
    """The token in the answer with status 201.

    Raises:
        JiemiError: HostUnreachable where it is no answer of GitHub's API.
    """
    found = answer.json() or {}
    token, until = found.get("token"), found.get("expires_at")
    if not isinstance(token, str) or _TOKEN.fullmatch(token) is None or not isinstance(until, str):
        raise no_api(app)
    try:
        expires = datetime.datetime.fromisoformat(until)
    except ValueError:
        raise no_api(app) from None
    if expires.tzinfo is None:
        raise no_api(app)
    # By the host's own clock, so that it does not matter what this machine's says.
    began = answer.server_time if answer.server_time is not None else answer.now
    lasts = min(max(expires.timestamp() - began, _LEAST_LIFETIME_SECONDS), _MOST_LIFETIME_SECONDS)
    return Grant(SensitiveText(token), lasts)


def wait_seconds(answer: Answer) -> float | None:
    """How long a host that limits the rate of requests is to be left alone; None where the answer is none of these.

    https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit
    """
    retry_after = answer.headers.get("retry-after", "").strip()
    is_spent = answer.headers.get("x-ratelimit-remaining", "").strip() == "0"
    is_limited = answer.status == 429 or (
        answer.status == 403 and (retry_after != "" or is_spent or answer.says("rate limit"))
    )
    if not is_limited:
        return None
    reset = answer.headers.get("x-ratelimit-reset", "").strip()
    seconds = _USUAL_WAIT_SECONDS
    if re.fullmatch(r"[0-9]{1,9}", retry_after):
        seconds = float(retry_after)
    elif is_spent and re.fullmatch(r"[0-9]{1,12}", reset):
        seconds = float(reset) - (answer.server_time if answer.server_time is not None else answer.now)
    return min(max(seconds, _MIN_WAIT_SECONDS), _MAX_WAIT_SECONDS)


def refusal(answer: Answer, app: App, *, of_token: bool) -> JiemiError:
    """The error for an answer that is neither what was asked for nor about the rate of requests.

    Args:
        of_token: whether a token was asked for; else, which installation it is.
    """
    if answer.status == 401:
        return _not_known(answer, app)
    if answer.status == 403:
        return _forbidden(answer, app)
    if answer.status == 404:
        return _not_installed(app, of_token=of_token)
    if answer.status == 422:
        if answer.says("permission"):
            return _denied(
                "the App's installation does not have the permission to read contents",
                "Give the App the repository permission Contents: Read-only, and accept it for the installation.",
            )
        return _denied(
            f"the App's installation may not read {app.owner}/{app.repository}",
            "Add the repository to those that the installation may access, or name another installation.",
        )
    return no_api(app)


def _not_known(answer: Answer, app: App) -> JiemiError:
    server = answer.server_time
    if server is not None and abs(answer.now - server) > _SKEW_SECONDS:
        which = "ahead of" if answer.now > server else "behind"
        return _denied(
            f"{app.host} refused the signature for the App: Krapao's clock is {abs(answer.now - server):.0f} s "
            f"{which} the host's",
            "Have the clock of Krapao's node set right (NTP).",
        )
    return _denied(
        f"{app.host} refused {KEY_FIELD} for the App",
        f"Generate a private key on the App's settings page and put it there, or correct {APP_FIELD}.appId.",
    )


def _forbidden(answer: Answer, app: App) -> JiemiError:
    if answer.says("suspended"):
        return _denied(
            "the App's installation is suspended",
            "Have the owner of the installation unsuspend it, on the page of the installed App.",
        )
    if answer.says("ip allow list"):
        return _denied(
            f"{app.host} does not let the App in from Krapao's address",
            "Have the address that Krapao comes from put on the organization's IP allow list.",
        )
    return _denied(
        f"{app.host} does not let the App in", "Look at the App's settings and at those of its installation."
    )


def _not_installed(app: App, *, of_token: bool) -> JiemiError:
    if of_token and app.installation is not None:
        return _denied(
            f"the App has no installation of the number in {APP_FIELD}.installationId",
            "Correct the number, or leave it out: then the installation that may read the repository is used.",
        )
    if app.installation_owner is not None:
        return _denied(
            f"the App is not installed for the owner in {APP_FIELD}.installationOwner",
            "Install the App there, or correct the name.",
        )
    return _denied(
        f"the App is not installed for {app.owner}/{app.repository}",
        "Install the App there and let it access this repository, or correct the URL.",
    )


def _denied(message: str, remedy: str) -> JiemiError:
    return JiemiError("RepositoryAccessDenied", f"{APP_FIELD}: {message}", remedy)


def no_api(app: App) -> JiemiError:
    """The one error for a host that has not shown itself as GitHub's API, whatever it is instead."""
    return JiemiError(
        "HostUnreachable",
        f"{APP_FIELD}: no GitHub API answers at {app.host}: its name is unknown, it is down or too slow, its port is "
        "closed or filtered, or what answers is no such API; Krapao's log says which",
        f"Correct {BASE_URL_FIELD} (https://HOST/api/v3 for a GitHub Enterprise Server). Jiemi tries again.",
    )
