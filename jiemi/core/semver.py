"""Semantic versions, and ranges of them, as the Go library that Flux uses reads them: github.com/Masterminds/semver v3.

    range = group {"||" group}      one group must hold
    group = constraint {("," | " ") constraint}      all of its constraints must hold
    constraint = [operator] version      = != > < >= => <= =< ~ ~> ^
    version = ["v"] number ["." number ["." number]] ["-" pre] ["+" metadata]      a number may be x, X or *

`1.2 - 1.4` is `>= 1.2, <= 1.4`. A pre-release is in a range only if its group names one. What that library accepts is
accepted, oddities included, because users move their ranges here as they are; a test compares the two.

Sources: https://semver.org/spec/v2.0.0.html, https://pkg.go.dev/github.com/Masterminds/semver/v3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

import attrs

MAX_RANGE_BYTES = 512
MAX_GROUPS = 32
MAX_VERSION_BYTES = 256

_MAX_NUMBER = 2**64 - 1
_DIGITS = re.compile(r"[0-9]+")
_IDENTIFIER = re.compile(r"[0-9A-Za-z-]+")
_SPACE = "[\t\n\f\r ]"

# A bar in a number is an oddity of the library: it is refused later, unless what is before it is an x.
_NUMBER = r"[0-9|xX*]+"
_TAIL = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_VERSION = (
    rf"v?(?P<major>{_NUMBER})(?:\.(?P<minor>{_NUMBER}))?(?:\.(?P<patch>{_NUMBER}))?"
    rf"(?:-(?P<pre>{_TAIL}))?(?:\+(?P<metadata>{_TAIL}))?"
)
_UNNAMED = re.sub(r"\?P<\w+>", "?:", _VERSION)
_HYPHEN = re.compile(rf"{_SPACE}*({_UNNAMED}){_SPACE}+-{_SPACE}+({_UNNAMED}){_SPACE}*")
_CONSTRAINT = re.compile(rf"(?P<operator>=>|=<|=|!=|>=|<=|>|<|~>|~|\^|){_SPACE}*{_VERSION}")
_SPACES = re.compile(rf"{_SPACE}*")


class RangeError(ValueError):
    """A text is no range; the message says why, in words for its author."""


@attrs.frozen
class Version:
    """A version. Metadata is no part of it: versions that differ only in that are equal.

    Attributes:
        major, minor, patch: its numbers, below 2**64.
        pre: the identifiers of its pre-release, without the dots; empty for a release.
    """

    major: int
    minor: int
    patch: int
    pre: tuple[str, ...] = ()

    def compare(self, other: Version) -> int:
        """-1, 0 or 1: whether this one is older than, equal to or newer than the other."""
        mine, others = (self.major, self.minor, self.patch), (other.major, other.minor, other.patch)
        if mine != others:
            return -1 if mine < others else 1
        if not self.pre or not other.pre:
            return bool(other.pre) - bool(self.pre)
        return compare_pre(self.pre, other.pre)


def compare_pre(mine: tuple[str, ...], others: tuple[str, ...]) -> int:
    """Compare pre-releases, as `Version.compare`."""
    for position in range(max(len(mine), len(others))):
        one = mine[position] if position < len(mine) else ""
        other = others[position] if position < len(others) else ""
        if one != other:
            return -1 if _identifier_key(one) < _identifier_key(other) else 1
    return 0


def _identifier_key(identifier: str) -> tuple[int, int, str]:
    """Nothing comes before numbers, and these before all else. A number of more than 64 bits counts as a text."""
    if not identifier:
        return 0, 0, ""
    number = _number(identifier)
    return (1, number, "") if number is not None else (2, 0, identifier)


def version_of_tag(tag: str) -> Version | None:
    """The version that a tag is, with or without a `v` before it; None where it is none.

    The tag must be a whole version (v1.2.3, not v1.2). Flux reads tags so.
    """
    text = tag.removeprefix("v")
    if len(tag) > MAX_VERSION_BYTES:
        return None
    rest, plus, metadata = text.partition("+")
    numbers, minus, pre = rest.partition("-")
    # A plus or minus before the second dot belongs to a number, which it spoils.
    parts = [_number(part) if part == "0" or not part.startswith("0") else None for part in numbers.split(".")]
    if len(parts) != 3 or None in parts:
        return None
    if (plus and not _are_identifiers(metadata)) or (minus and not _is_pre(pre)):
        return None
    major, minor, patch = (part or 0 for part in parts)
    return Version(major, minor, patch, tuple(pre.split(".")) if minus else ())


def _number(text: str) -> int | None:
    """The number that a text is, if it fits 64 bits."""
    if _DIGITS.fullmatch(text) is None or len(text.lstrip("0")) > 20:
        return None
    number = int(text)
    return number if number <= _MAX_NUMBER else None


def _are_identifiers(text: str) -> bool:
    return all(_IDENTIFIER.fullmatch(each) for each in text.split("."))


def _is_pre(text: str) -> bool:
    """Whether each identifier of a pre-release is valid: a number has no zero before it."""
    return _are_identifiers(text) and not any(
        len(each) > 1 and each.startswith("0") and _DIGITS.fullmatch(each) for each in text.split(".")
    )


@attrs.frozen
class _Constraint:
    """One constraint.

    Attributes:
        operator: in its first spelling.
        version: an x and what is left out are 0.
        open: whether any number is an x or left out.
        open_minor: whether the minor number is the first such.
        open_patch: whether the patch number is.
    """

    operator: str
    version: Version
    open: bool
    open_minor: bool
    open_patch: bool


@attrs.frozen
class VersionRange:
    """A range that was read.

    Attributes:
        text: as it was written.
    """

    text: str
    _groups: tuple[tuple[_Constraint, ...], ...]

    def holds(self, version: Version) -> bool:
        """Whether the version is in the range."""
        return any(_group_holds(group, version) for group in self._groups)


def _group_holds(group: tuple[_Constraint, ...], version: Version) -> bool:
    if version.pre and not any(constraint.version.pre for constraint in group):
        return False
    return all(_HOLDS[constraint.operator](version, constraint) for constraint in group)


def read_range(text: str) -> VersionRange:
    """Read a range.

    Raises:
        RangeError: it is none.
    """
    if len(text.encode()) > MAX_RANGE_BYTES:
        raise RangeError(f"is longer than {MAX_RANGE_BYTES} bytes")
    groups = _without_hyphens(text).split("||")
    if len(groups) > MAX_GROUPS:
        raise RangeError(f"has more than {MAX_GROUPS} parts with || between them")
    return VersionRange(text, tuple(tuple(_constraints(group)) for group in groups))


def _without_hyphens(text: str) -> str:
    rewritten = text
    for found in _HYPHEN.finditer(text):
        # As the library does it: the first place with that text, which is usually this one.
        rewritten = rewritten.replace(found[0], f">= {found[1]}, <= {found[2]} ", 1)
    return rewritten


def _constraints(group: str) -> Iterable[_Constraint]:
    """The constraints of a group. It is read once from its begin to its end, whatever is in it."""
    position = _after_spaces(group, 0)
    while True:
        found = _CONSTRAINT.match(group, position)
        if found is None:
            raise RangeError(_improper(group, position))
        yield _constraint(found)
        position = _after_spaces(group, found.end())
        if position == len(group):
            return
        if group[position] == ",":
            position = _after_spaces(group, position + 1)
        elif position == found.end():
            raise RangeError(_improper(group, position))


def _after_spaces(text: str, position: int) -> int:
    found = _SPACES.match(text, position)
    return found.end() if found is not None else position


def _improper(group: str, position: int) -> str:
    rest = group[position:].strip()
    if not group.strip():
        return "has a part without any version: write * for all"
    if not rest:
        return "ends where a version is expected"
    return f"can't be read from {rest[:40]!r} on"


_OPERATORS = {"=": "", "=>": ">=", "=<": "<=", "~>": "~"}


def _constraint(found: re.Match[str]) -> _Constraint:
    major, minor, patch, pre = found["major"], found["minor"], found["patch"], found["pre"]
    open_minor = open_patch = False
    numbers = [major, minor, patch]
    if _is_open(major):
        numbers = ["0", "0", "0"]
    elif _is_open(minor):
        open_minor, numbers = True, [major, "0", "0"]
    elif _is_open(patch):
        open_patch, numbers = True, [major, minor, "0"]
    is_open = open_minor or open_patch or _is_open(major)
    read = [_number(each) for each in numbers]
    metadata = None if is_open else found["metadata"]
    # Of an open version the library reads numbers and pre-release only, so only these count against its bound.
    length = sum(map(len, numbers)) + 2 + (len(pre) + 1 if pre else 0) + (len(metadata) + 1 if metadata else 0)
    length += not is_open and found[0].lstrip("=!<>~^\t\n\f\r ").startswith("v")
    if None in read or (pre is not None and not _is_pre(pre)) or length > MAX_VERSION_BYTES:
        raise RangeError(f"names {found[0].strip()[:40]!r}, which is no version")
    version = Version(read[0] or 0, read[1] or 0, read[2] or 0, tuple(pre.split(".")) if pre else ())
    return _Constraint(_OPERATORS.get(found["operator"], found["operator"]), version, is_open, open_minor, open_patch)


def _is_open(number: str | None) -> bool:
    return number in (None, "x", "X", "*")


def _equal(version: Version, constraint: _Constraint) -> bool:
    return _tilde(version, constraint) if constraint.open else version.compare(constraint.version) == 0


def _not_equal(version: Version, constraint: _Constraint) -> bool:
    wanted = constraint.version
    if not constraint.open:
        return version.compare(wanted) != 0
    if version.major != wanted.major:
        return True
    if constraint.open_minor:
        return False
    if version.minor != wanted.minor:
        return True
    if constraint.open_patch:
        return compare_pre(version.pre, wanted.pre) != 0
    # Of `!= *`, `!= x.1.2` and the like, where nothing is left but 0.0.0.
    return version.compare(wanted) != 0


def _greater(version: Version, constraint: _Constraint) -> bool:
    wanted = constraint.version
    if not constraint.open:
        return version.compare(wanted) > 0
    if version.major != wanted.major:
        return version.major > wanted.major
    if constraint.open_minor:
        return False
    if constraint.open_patch:
        return version.minor > wanted.minor
    return version.compare(wanted) > 0


def _less(version: Version, constraint: _Constraint) -> bool:
    return version.compare(constraint.version) < 0


def _greater_or_equal(version: Version, constraint: _Constraint) -> bool:
    return version.compare(constraint.version) >= 0


def _less_or_equal(version: Version, constraint: _Constraint) -> bool:
    wanted = constraint.version
    if not constraint.open:
        return version.compare(wanted) <= 0
    if version.major != wanted.major:
        return version.major < wanted.major
    return constraint.open_minor or version.minor <= wanted.minor


def _tilde(version: Version, constraint: _Constraint) -> bool:
    wanted = constraint.version
    if version.compare(wanted) < 0:
        return False
    if (wanted.major, wanted.minor, wanted.patch) == (0, 0, 0) and not (constraint.open_minor or constraint.open_patch):
        return True
    return version.major == wanted.major and (constraint.open_minor or version.minor == wanted.minor)


def _caret(version: Version, constraint: _Constraint) -> bool:
    wanted = constraint.version
    if version.compare(wanted) < 0:
        return False
    if wanted.major > 0 or constraint.open_minor:
        return version.major == wanted.major
    if version.major > 0:
        return False
    if wanted.minor > 0 or constraint.open_patch:
        return version.minor == wanted.minor
    return version.minor == 0 and version.patch == wanted.patch


_HOLDS: Mapping[str, Callable[[Version, _Constraint], bool]] = {
    "": _equal,
    "!=": _not_equal,
    ">": _greater,
    "<": _less,
    ">=": _greater_or_equal,
    "<=": _less_or_equal,
    "~": _tilde,
    "^": _caret,
}
