"""What git hosts say beside git's protocol: which of it means credentials, and how their words may be shown.

A host knows what it was asked with, and may repeat it. So what it says is shown as one short line of printable
characters, without what was given as credentials and without whatever looks like one.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from urllib.parse import quote, unquote, urlsplit

from jiemi.core.errors import one_line

MAX_WORDS_CHARACTERS = 200
MAX_BODY_BYTES = 4096
"""How much of a refusal's body is looked at."""

_LOGIN = re.compile(
    r"(?:^|[/_.?&=-])(?:log[-_]?in|log[-_]?on|sign[-_]?in|_signin|sso|saml2?|oauth2?|openid(?:-connect)?|adfs|authorize|"
    r"session/new)(?:$|[/_.?&=-])",
    re.IGNORECASE,
)
_OF_GIT = re.compile(r"/info/refs$")

_CREDENTIAL = re.compile(
    r"(?i)\b(token|password|passwd|secret|key|bearer|basic|authorization|credentials?)(\s*[:=]\s*|\s+)"
    r"(?!(?:is|was|are|has|of|for|or|and|to|not|in|with|expired|invalid|authentication|auth|required|access|denied)\b)\S+"
)
_USERINFO = re.compile(r"(?<=://)[^\s/@]*@")
_LONG = re.compile(r"[A-Za-z0-9_+/=-]{20,}")
_CUT = "…"

_HINTS = (
    ("saml sso", "Authorize the token for the organization's single sign-on."),
    ("single sign-on", "Authorize the token for the organization's single sign-on."),
    ("ip allow list", "Have the address that Krapao comes from put on the organization's IP allow list."),
    ("password authentication", "Give an access token in place of the password."),
    ("account password", "Give an access token in place of the password."),
    ("read_repository", "Give an access token with the scope read_repository."),
    ("app password", "Give an API token in place of the app password."),
    ("tf400813", "Let the token's user use this organization, or give another's token."),
)
"""Words of GitHub, GitLab, Bitbucket and Azure DevOps when they refuse, and what mends it."""


def leads_to_login(location: str) -> bool:
    """Whether a redirect goes to a page where a person logs in. One that git follows ends with git's own path."""
    try:
        to = urlsplit(location)
    except ValueError:
        return False
    if _OF_GIT.search(to.path):
        return False
    first_label = (to.hostname or "").partition(".")[0]
    return any(_LOGIN.search(unquote(part)) for part in (to.path, first_label))


def asks_to_wait(status: int, retry_after: str | None, remaining: str | None) -> bool:
    """Whether a refusal is of the rate of requests and passes: GitHub says so with 403, too.

    https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
    """
    return status == 429 or (status == 403 and (retry_after is not None or (remaining or "").strip() == "0"))


def wait_seconds(retry_after: str | None) -> float:
    """How long a host wants to be left alone, by its header Retry-After (RFC 9110, section 10.2.3); 0 where it does not
    say it in seconds."""
    text = (retry_after or "").strip()
    return float(text) if re.fullmatch(r"[0-9]{1,9}", text) else 0.0


def hint(body: bytes, host: str) -> str | None:
    """What mends a refusal of credentials, by the host's own words; None where they are not known.

    Args:
        body: the begin of its answer.
        host: its name.
    """
    said = body.decode("utf-8", "replace").lower()
    found = next((mend for phrase, mend in _HINTS if phrase in said), None)
    if found is None and host.startswith("git-codecommit."):
        return "Give the HTTPS git credentials of an IAM user, user name and password, which CodeCommit wants."
    return found


def safe_words(said: bytes, secrets: Sequence[str] = ()) -> str:
    """What a host says, so that it can be shown.

    Args:
        secrets: what it was asked with.
    """
    text = said.decode("utf-8", "replace").removeprefix("ERR ").removeprefix("\x03")
    for secret in sorted(_forms(secrets), key=len, reverse=True):
        text = text.replace(secret, _CUT)
    text = _USERINFO.sub(f"{_CUT}@", one_line(text))
    text = _CREDENTIAL.sub(rf"\1\2{_CUT}", text)
    text = _LONG.sub(_without_long, text).replace('"', "'").replace("�", _CUT)
    return text if len(text) <= MAX_WORDS_CHARACTERS else text[: MAX_WORDS_CHARACTERS - 1] + _CUT


def _without_long(found: re.Match[str]) -> str:
    """A hash or a token is cut; a long word, or a path of words, is not."""
    word = found[0]
    is_random = any(each.isdigit() for each in word) and any(each.isalpha() for each in word)
    return _CUT if is_random else word


def _forms(secrets: Sequence[str]) -> set[str]:
    """The credentials as they are, and as a host may have seen them."""
    forms: set[str] = set()
    for secret in filter(None, secrets):
        forms |= {secret, secret.strip(), quote(secret, safe=""), base64.b64encode(secret.encode()).decode()}
    if len(secrets) > 1:
        forms.add(base64.b64encode(":".join(secrets).encode()).decode())
    return {form for form in forms if form}
