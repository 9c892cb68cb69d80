"""The known_hosts format of sshd(8), section SSH_KNOWN_HOSTS FILE FORMAT: which keys a host may show.

Patterns with `*`, `?` and `!`, hashed names and `@revoked` hold; `@cert-authority` lines let no host in (a host's
certificate is not looked at). Lines that can't be read are passed over too, as ssh does.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterator

import attrs


@attrs.frozen
class HostKeys:
    """What the lines say of one host.

    Attributes:
        accepted: (type, key) pairs, the key as on the wire (RFC 4253, section 6.6).
        revoked: keys that are refused even if they are accepted too.
        has_authority: whether a line names an authority that signs the host's keys, which counts for nothing here.
    """

    accepted: frozenset[tuple[str, bytes]]
    revoked: frozenset[bytes]
    has_authority: bool = False

    @property
    def types(self) -> frozenset[str]:
        return frozenset(kind for kind, _ in self.accepted)


MAX_CHARACTERS = 64 * 1024
"""Of known_hosts lines from a Decryptor: some 500 hosts. Comparing them takes time that nothing can end."""

_MAX_PATTERN_CHARACTERS = 300
_MAX_STARS = 8
"""A pattern beyond these names no host: a host's name has 253 characters at most."""


def lookup(text: str, host: str, port: int) -> HostKeys:
    """The keys of a host among lines of a known_hosts file.

    Args:
        host: in lower case.
        port: TCP port; other than 22 the lines name the host as `[host]:port`.
    """
    name = name_of(host, port)
    accepted, revoked, has_authority = set(), set(), False
    for marker, patterns, kind, key in _lines(text):
        if marker == "@revoked" and _matches(patterns, name):
            revoked.add(key)
        elif marker == "@cert-authority" and _matches(patterns, name):
            has_authority = True
        elif not marker and _matches(patterns, name):
            accepted.add((kind, key))
    return HostKeys(frozenset(accepted), frozenset(revoked), has_authority)


def name_of(host: str, port: int) -> str:
    """What lines call a host."""
    return host if port == 22 else f"[{host}]:{port}"


def may_be_known_hosts(text: str) -> bool:
    """Whether a text has a line that can be read, or only lines that say nothing: comments and empty ones."""
    said = any(fields and not fields[0].startswith("#") for fields in map(str.split, text.splitlines()))
    return not said or any(True for _ in _lines(text))


def fingerprint(key: bytes) -> str:
    """As `ssh-keygen -l` prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def _lines(text: str) -> Iterator[tuple[str, str, str, bytes]]:
    for line in text.splitlines():
        fields = line.split()
        marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
        if len(fields) < 3 or fields[0].startswith("#"):
            continue
        try:
            key = base64.b64decode(fields[2], validate=True)
        except (binascii.Error, ValueError):
            continue
        yield marker, fields[0], fields[1], key


def _matches(patterns: str, name: str) -> bool:
    if patterns.startswith("|"):
        return _matches_hash(patterns, name)
    matched = False
    for pattern in patterns.lower().split(","):
        if len(pattern) > _MAX_PATTERN_CHARACTERS or pattern.count("*") > _MAX_STARS:
            continue
        negated = pattern.startswith("!")
        if _fits(pattern.removeprefix("!"), name):
            if negated:
                return False
            matched = True
    return matched


def _fits(pattern: str, name: str) -> bool:
    """Whether `*` and `?` of the pattern can stand for what the name has there.

    Goes back to the last star only, so hostile patterns cost no more than pattern times name; `re` would try every way
    to share the name among the stars.
    """
    at, star, resume = 0, -1, 0
    place = 0
    while place < len(name):
        if at < len(pattern) and pattern[at] == "*":
            star, resume = at, place
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", name[place]):
            at, place = at + 1, place + 1
        elif star >= 0:
            resume += 1
            at, place = star + 1, resume
        else:
            return False
    return not pattern[at:].strip("*")


def _matches_hash(text: str, name: str) -> bool:
    fields = text.split("|")
    if len(fields) != 4 or fields[1] != "1":
        return False
    try:
        salt, wanted = base64.b64decode(fields[2], validate=True), base64.b64decode(fields[3], validate=True)
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(hmac.digest(salt, name.encode(), "sha1"), wanted)
