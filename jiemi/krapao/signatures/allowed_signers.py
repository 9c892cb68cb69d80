"""Which ssh keys may sign: lines of an allowed_signers file (ssh-keygen(1), ALLOWED SIGNERS), and plain public keys.

What a line may have: principals, and the options `namespaces`, `valid-after` and `valid-before`. Lines with
`cert-authority` and keys of other types are left out, because certificates are not verified here; so what only they
allow is refused. A line that can't be read is an error, because one that is passed over may be the one that ends trust.

Times without a Z are UTC here (in ssh-keygen they are local). Both times bound the moment of the check as well as the
time that the commit or tag gives itself: whoever has a key that is no longer valid can write any time.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import fnmatch
import re
from collections.abc import Iterable, Iterator

import attrs

from jiemi.core.errors import JiemiError
from jiemi.krapao.signatures.ssh_keys import CERTIFICATE, KEY_TYPES, SshFormatError, require_usable, type_of
from jiemi.krapao.signatures.sshsig import NAMESPACE
from jiemi.rpc.verification import PublicKeys

_MAX_LINES = 10_000
_OPTION = re.compile(r'([a-zA-Z-]+)(?:="((?:[^"\\]|\\.)*)")?(?:,|$)')
_TYPE = re.compile(r"(?:ssh-|ecdsa-|sk-)[A-Za-z0-9.@-]+")
_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)(?:(\d\d)(\d\d)(\d\d)?)?(?:Z|UTC)?", re.IGNORECASE)
_PUBLIC_KEY = ".pub"
_KEY_BEGINS = "AAAA"
"""In base64: the length of a type's name is less than 65,536."""


@attrs.frozen
class AllowedSigner:
    """A key that may sign.

    Attributes:
        name: the principals as the line has them; of a plain public key its name without .pub.
        key: the public key.
        namespaces: patterns of what it may sign; empty for anything.
        valid_after, valid_before: in seconds since the epoch.
        where: it stands, for messages.
    """

    name: str
    key: bytes
    namespaces: tuple[str, ...] = ()
    valid_after: int | None = None
    valid_before: int | None = None
    where: str = ""

    def refusal(self, times: Iterable[int]) -> JiemiError | None:
        """Why it does not count for git at one of these times; None where it does."""
        if self.namespaces and not _in_list(NAMESPACE.decode(), self.namespaces):
            return JiemiError(
                "SignerUnknown",
                f"its key is not for git by the option namespaces in {self.where}",
                'Write namespaces="git" there, or sign with another key.',
            )
        if any(self.valid_after is not None and each < self.valid_after for each in times):
            return JiemiError(
                "SignerExpired",
                f"its key is not valid yet by valid-after in {self.where}",
                "Correct valid-after, or sign with another key.",
            )
        if any(self.valid_before is not None and each > self.valid_before for each in times):
            return JiemiError(
                "SignerExpired",
                f"its key is no longer valid by valid-before in {self.where}",
                "Sign with a key that is valid, or set valid-before to a later time.",
            )
        return None


@attrs.frozen
class AllowedSigners:
    """All keys that may sign.

    Attributes:
        signers: in the order of the lines.
        left_out: how many lines are for certificates, or have keys of types that are not taken here.
    """

    signers: tuple[AllowedSigner, ...]
    left_out: int = 0


def read_allowed_signers(entries: Iterable[PublicKeys]) -> AllowedSigners:
    """The keys in a Secret: of entries that end with .pub public keys, of all others the lines of allowed_signers.

    Raises:
        JiemiError: VerificationKeysInvalid, with the entry and the line.
    """
    signers: list[AllowedSigner] = []
    left_out = 0
    for entry in entries:
        for where, line in _lines_of(entry):
            if entry.name.endswith(_PUBLIC_KEY):
                found = _plain(line, entry.name.removesuffix(_PUBLIC_KEY), where)
            else:
                found = _line(line, where)
            if found is None:
                left_out += 1
            else:
                signers.append(found)
    return AllowedSigners(tuple(signers), left_out)


def _lines_of(entry: PublicKeys) -> Iterator[tuple[str, str]]:
    try:
        text = entry.data.decode()
    except UnicodeDecodeError:
        raise _wrong(f"key {entry.name!r}", "it is no text") from None
    lines = text.split("\n")
    if len(lines) > _MAX_LINES:
        raise _wrong(f"key {entry.name!r}", f"it has {len(lines)} lines, of {_MAX_LINES} at most")
    for number, line in enumerate(lines, 1):
        stripped = line.strip(" \t\r")
        if stripped and not stripped.startswith("#"):
            yield f"line {number} of key {entry.name!r}", stripped


def _plain(line: str, name: str, where: str) -> AllowedSigner | None:
    kind, _, rest = line.partition(" ")
    if _TYPE.fullmatch(kind) is None:
        raise _wrong(where, "it does not begin with the type of a public key, such as ssh-ed25519")
    key = _key(kind, rest, where)
    return AllowedSigner(name, key, where=where) if key is not None else None


def _line(line: str, where: str) -> AllowedSigner | None:
    principals, rest = _first_word(line, where)
    word = rest.partition(" ")[0]
    if _TYPE.fullmatch(principals) is not None and rest.startswith(_KEY_BEGINS):
        raise JiemiError(
            "VerificationKeysInvalid",
            f"{where}: it has a public key alone, and an allowed_signers file has the signer's name before it",
            "Call the entry NAME.pub, or write the signer's email address before the key.",
        )
    options: dict[str, str] = {}
    if _TYPE.fullmatch(word) is None:
        options, rest = _options(rest, where)
    kind, _, after = rest.partition(" ")
    key = _key(kind, after.strip(" \t"), where)
    if key is None or "cert-authority" in options:
        return None
    namespaces = options.get("namespaces")
    return AllowedSigner(
        principals,
        key,
        tuple(each.strip() for each in namespaces.split(",")) if namespaces is not None else (),
        _time(options.get("valid-after"), where),
        _time(options.get("valid-before"), where),
        where,
    )


def _first_word(line: str, where: str) -> tuple[str, str]:
    """The principals, which may be in quotes, and the rest."""
    if line.startswith('"'):
        word, quote, rest = line[1:].partition('"')
        if not quote:
            raise _wrong(where, "a quote is not closed")
    else:
        word, *more = re.split(r"[ \t]+", line, maxsplit=1)
        rest = more[0] if more else ""
    if not word or not all(word.split(",")):
        raise _wrong(where, "it has no principals, or an empty one")
    return word, rest.strip(" \t")


def _options(rest: str, where: str) -> tuple[dict[str, str], str]:
    """The options, and what follows them."""
    match = re.match(r'(?:[^"\s]|"(?:[^"\\]|\\.)*")+', rest)
    text = match[0] if match is not None else ""
    options: dict[str, str] = {}
    place = 0
    while place < len(text):
        found = _OPTION.match(text, place)
        if found is None:
            raise _wrong(where, "its options can't be read")
        name, value = found[1].lower(), found[2]
        if name not in ("cert-authority", "namespaces", "valid-after", "valid-before") or name in options:
            raise _wrong(where, f"the option {name[:32]} is unknown or there twice")
        if (value is None) != (name == "cert-authority") or value == "":
            raise _wrong(where, f"the option {name} has no value, or one that it can't have")
        options[name] = value or ""
        place = found.end()
    if not options:
        raise _wrong(where, "it has no public key")
    return options, rest[len(text) :].strip(" \t")


def _key(kind: str, rest: str, where: str) -> bytes | None:
    """The public key; None for a type that is not taken here."""
    if _TYPE.fullmatch(kind) is None:
        raise _wrong(where, "it has no public key")
    encoded = re.split(r"[ \t]", rest.strip(" \t"), maxsplit=1)[0]
    try:
        blob = base64.b64decode(encoded, validate=True)
        named = type_of(blob)
    except (binascii.Error, SshFormatError):
        raise _wrong(where, "its public key can't be read") from None
    if named != kind.encode():
        raise _wrong(where, "its public key is of another type than it says")
    if named not in KEY_TYPES:
        if named.endswith(CERTIFICATE) or named == b"ssh-dss":
            return None
        raise _wrong(where, f"keys of type {kind[:64]} are unknown")
    try:
        require_usable(blob)
    except SshFormatError as error:
        raise _wrong(where, str(error)) from None
    return blob


def _time(text: str | None, where: str) -> int | None:
    if text is None:
        return None
    found = _TIME.fullmatch(text)
    if found is not None:
        year, month, day, hour, minute, second = (int(each or 0) for each in found.groups())
        try:
            return int(datetime.datetime(year, month, day, hour, minute, second, tzinfo=datetime.UTC).timestamp())
        except ValueError:
            pass
    raise _wrong(where, "a time is not written as YYYYMMDD or YYYYMMDDHHMM[SS], with a Z for UTC")


def _in_list(name: str, patterns: Iterable[str]) -> bool:
    """Whether a list of patterns takes a name: a pattern with ! refuses it (ssh_config(5), PATTERNS)."""
    taken = False
    for pattern in patterns:
        bare = pattern.removeprefix("!")
        if fnmatch.fnmatchcase(name, bare.replace("[", "[[]")):
            if pattern != bare:
                return False
            taken = True
    return taken


def _wrong(where: str, why: str) -> JiemiError:
    return JiemiError(
        "VerificationKeysInvalid",
        f"{where}: {why}",
        "Correct it there: an entry whose name ends with .pub has public keys as `ssh-keygen` writes them, any other "
        "one the lines of an allowed_signers file.",
    )
