"""The bearer token of requests to the API server. It changes while Miwen runs, so it is fetched again in time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs
import trio

from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText

TOKEN_FILE_SECONDS = 60.0
"""How long a token that was read from a file is used before the file is read again; client-go's value. A kubelet
replaces a token when a fifth of its life (10 minutes at least) is left."""


@attrs.frozen
class Token:
    """A bearer token, and for how many seconds from now it is good; None: until it is refused."""

    text: SensitiveText
    seconds: float | None = None


class Tokens:
    """The bearer token to use now. One task at a time fetches a new one while the others wait for it.

    Args:
        fetch: gets one; None where requests carry none (client certificates). Raises JiemiError.
        again_seconds: a token that is refused is fetched again at the earliest so long after it was fetched.
    """

    def __init__(self, fetch: Callable[[], Awaitable[Token]] | None, *, again_seconds: float = 0.0) -> None:
        self._fetch = fetch
        self._again_seconds = again_seconds
        self._lock = trio.Lock()
        self._text: SensitiveText | None = None
        self._fetched_at = float("-inf")
        self._old_at = float("-inf")

    async def get(self, *, refused: SensitiveText | None = None) -> SensitiveText | None:
        """The token.

        Args:
            refused: one that the API server did not accept: another is fetched if this is still the newest.

        Raises:
            JiemiError: ClusterUnavailable, where it can't be had.
        """
        if self._fetch is None:
            return None
        async with self._lock:
            now = trio.current_time()
            again = refused is not None and refused == self._text and now >= self._fetched_at + self._again_seconds
            if again or now >= self._old_at:
                token = await self._fetch()
                self._text = _usable(token.text)
                self._fetched_at = trio.current_time()
                self._old_at = self._fetched_at + (float("inf") if token.seconds is None else token.seconds)
            return self._text


def token_file(path: Path) -> Callable[[], Awaitable[Token]]:
    """Reads the token from a file. Raises JiemiError: ClusterAccessDenied, where that can't be read."""

    async def read() -> Token:
        try:
            text = await trio.Path(path).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise JiemiError(
                "ClusterAccessDenied",
                f"the token file {path} can't be read",
                "Let Miwen read that file; a Pod's is its ServiceAccount's projected token.",
            ) from error
        return Token(SensitiveText(text), TOKEN_FILE_SECONDS)

    return read


def _usable(token: SensitiveText) -> SensitiveText:
    """The token without the newline that files end with.

    Raises:
        JiemiError: it can't be sent in a header; the HTTP library's own error would quote it.
    """
    text = token.reveal().strip()
    if not text or not text.isascii() or not text.isprintable():
        raise JiemiError("ClusterAccessDenied", "the token for the API server is empty or is no printable ASCII text")
    return SensitiveText(text)
