"""What stands where a key belongs and is none, as far as its text shows: for a message.

The mistakes are those that people make with keys and Secrets: base64 twice (`base64 key.txt` under `stringData`),
quotation marks or a shell's NAME= taken along, line breaks lost on the way, an editor's byte order mark, the key of
another program. Nothing of the text goes into what is said.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable

from jiemi.core.content.pgp_armor import holds_keys

_ASSIGNED = re.compile(r"(?:export\s+)?[A-Za-z_][A-Za-z0-9_]*\s*[=:]\s*['\"]?(?=AGE-|-----BEGIN )")
_AGE, _PGP = "AGE-SECRET-KEY-", "-----BEGIN PGP PRIVATE KEY BLOCK-----"
_MARKS = (_AGE, "AGE-PLUGIN-", _PGP, "-----BEGIN OPENSSH PRIVATE KEY-----")

_SMALLEST_KEY_BYTES = 100
"""Of OpenPGP: fewer bytes may look like one by chance."""

Instead = tuple[str, str]
"""What it is, to stand behind "is" or a colon, and what to do."""


def instead_of_key(text: str, *, provider: str) -> Instead | None:
    """What a text is that no key could be read from, or None where that can't be seen.

    Args:
        text: as it stands in the literal or Secret.
        provider: whose key it should be, "age" or "pgp".
    """
    bare = text.strip()
    return next((instead for of, is_it, instead in _SEEN if provider in of and is_it(bare)), None)


def _is_quoted(text: str) -> bool:
    return text[:1] in {'"', "'"} and text[-1:] == text[:1] and _has_key(text)


def _is_all_comment(text: str) -> bool:
    return _AGE in text.upper() and all(line.lstrip().startswith("#") for line in text.splitlines() if line.strip())


def _has_two_in_a_line(text: str) -> bool:
    return any(line.upper().count(_AGE) > 1 for line in text.splitlines())


def _has_key(text: str) -> bool:
    return any(mark in text.upper() for mark in _MARKS)


def _is_base64_of_key(text: str) -> bool:
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return False
    return _has_key(data.decode("utf-8", "replace")) or (len(data) >= _SMALLEST_KEY_BYTES and holds_keys(data))


_BOTH = ("age", "pgp")
_SEEN: tuple[tuple[tuple[str, ...], Callable[[str], bool], Instead], ...] = (
    (
        _BOTH,
        lambda text: text.startswith("\ufeff"),
        ("text that begins with a byte order mark", "Save it as UTF-8 without one (BOM)."),
    ),
    (_BOTH, _is_quoted, ("a key in quotation marks", "Take the quotation marks away.")),
    (
        _BOTH,
        lambda text: _ASSIGNED.match(text) is not None,
        ("a key behind a name", "Put the key alone there, without the name before it."),
    ),
    (
        _BOTH,
        lambda text: "-----BEGIN AGE ENCRYPTED FILE-----" in text,
        (
            "an age key that is protected by a passphrase, which nobody can be asked for here",
            "Decrypt it with `age --decrypt FILE`, and put there what comes out.",
        ),
    ),
    (
        _BOTH,
        _is_base64_of_key,
        (
            "a key in base64",
            "Put the key itself there: in a Secret as it is under stringData, or encoded once under data.",
        ),
    ),
    (("age",), lambda text: _PGP in text, ("a pgp key", "Put it into spec.provider.pgp.privateKey.")),
    (("pgp",), lambda text: _AGE in text.upper(), ("an age key", "Put it into spec.provider.age.privateKey.")),
    (
        ("age",),
        _is_all_comment,
        (
            "an age identity in a comment, which is a line that begins with #",
            "Put the identity on a line of its own: in YAML with | (not >), and in a shell in quotes.",
        ),
    ),
    (
        ("age",),
        _has_two_in_a_line,
        ("several age identities in one line", "Put each of them on a line of its own."),
    ),
    (
        ("pgp",),
        lambda text: _PGP in text and "\\n" in text,
        ("a key with \\n where its line breaks were", "Put it there with its line breaks."),
    ),
    (
        ("pgp",),
        lambda text: _PGP in text and "\n" not in text,
        ("a key in one line", "Put it there with its line breaks: in YAML with |, and in a shell in quotes."),
    ),
)
"""Of which provider, how it shows, and what it is; the first holds."""
