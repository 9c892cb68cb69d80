"""The secret by which a client of Krapao's port shows that it is Miwen.

It is text that both ends have: Miwen sends it when it opens a session, Krapao compares. There is no TLS yet, so it
keeps out strangers who reach the port, and not those who can listen on the network between the two.

Its file has one secret a line, and is read each time that one is needed, so that a change is taken up without a
restart. Krapao takes any of the lines, and Miwen sends the first: to change it, write the new one above the old, wait
until both ends have the file, and take the old one out. Within half a minute Krapao then ends the sessions that were
opened with the old one (an honest client connects again with the new); so a secret that leaked is of no further use.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from pathlib import Path

from jiemi.core.sensitive import SensitiveText

MIN_CHARACTERS = 16
MAX_CHARACTERS = 1_024
MAX_SECRETS = 4
_MAX_FILE_BYTES = 8 * 1024
_SECRET_BYTES = 32

MAKE_ONE = "`(umask 077; openssl rand -hex 32 > FILE)` makes one"
"""How a user makes the file, for messages. The umask keeps it from the machine's other users."""

TOKEN_KEY = "token"  # noqa: S105 - the name of a Secret's key
"""Under which key of a Kubernetes Secret the text of the file is."""


class SessionSecretError(Exception):
    """There is no secret to be had. The text says why and what to do, and holds nothing of it."""


def make_secret() -> SensitiveText:
    """A new one: 256 random bits in hexadecimal."""
    return SensitiveText(secrets.token_hex(_SECRET_BYTES))


def read_secret_file(path: Path) -> tuple[SensitiveText, ...]:
    """The secrets in a file, one a line; never none.

    Raises:
        SessionSecretError: it can't be read, or holds none that can be used.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SessionSecretError(f"{path} can't be read: {error.strerror}") from error
    return parse_secrets(data, str(path))


def parse_secrets(data: bytes, name: str) -> tuple[SensitiveText, ...]:
    """The secrets in the content of a file or of a Secret's key; never none.

    Args:
        name: what the content is of, for the error.

    Raises:
        SessionSecretError: it holds none that can be used.
    """
    try:
        lines = [line.strip() for line in data.decode().splitlines()] if len(data) <= _MAX_FILE_BYTES else []
    except UnicodeDecodeError:
        raise SessionSecretError(f"{name} is not UTF-8 text") from None
    found = [line for line in lines if line]
    good = all(MIN_CHARACTERS <= len(line) <= MAX_CHARACTERS and line.isprintable() for line in found)
    if not found or not good or len(found) > MAX_SECRETS:
        raise SessionSecretError(
            f"{name} must hold 1 to {MAX_SECRETS} lines of {MIN_CHARACTERS} to {MAX_CHARACTERS} printable characters, "
            f"each a session secret; {MAKE_ONE}"
        )
    return tuple(SensitiveText(line) for line in found)


def is_one_of(given: bytes, accepted: Sequence[SensitiveText]) -> bool:
    """Whether a text, by its `digest`, is one of the secrets. Takes as long for every text."""
    matches = [hmac.compare_digest(given, digest(each.reveal())) for each in accepted]
    return any(matches)


def digest(text: str) -> bytes:
    """What stands for a secret where it is compared, and where it is remembered."""
    # Of equal length for all, as compare_digest gives the length away.
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()
