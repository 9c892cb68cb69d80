"""The newest of a repository's tags whose versions are in a range, and what to say where none is.

Which tags there are is the repository's affair, and the expression that they must match is a tenant's: it is RE2's,
which takes time in proportion to the text, whatever the expression (https://github.com/google/re2/wiki/Syntax; Flux
takes the same ones, because Go's are RE2's).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

import attrs
import re2

from jiemi.core.errors import JiemiError
from jiemi.core.near import some_of
from jiemi.core.semver import RangeError, Version, VersionRange, read_range, version_of_tag
from jiemi.rpc.source import TagRange

_FIELD = "spec.source.repository.ref"
_MAX_EXPRESSION = 512
_EXPRESSION_BYTES = 1 << 20
"""Memory for one compiled expression."""


@attrs.frozen
class _Tag:
    name: str
    version: Version

    def compare(self, other: _Tag) -> int:
        """By version; where these are equal by what is no part of them (metadata), so that the choice is always one."""
        found = self.version.compare(other.version)
        if found == 0 and self.name != other.name:
            mine, others = (_natural(self.name), self.name), (_natural(other.name), other.name)
            return -1 if mine < others else 1
        return found


def newest_tag(wanted: TagRange, names: Iterable[str], url: str) -> str:
    """The tag with the newest version that is in the range.

    Args:
        names: short names of all tags.
        url: of the repository, for messages.

    Raises:
        JiemiError: RefNotFound, no tag is wanted; InvalidSpec, what is wanted can't be read.
    """
    versions, expression = _range(wanted.versions), _expression(wanted.matching)
    all_names = list(names)
    matching = [name for name in all_names if expression is None or expression.search(name) is not None]
    tags = [_Tag(name, version) for name in matching if (version := version_of_tag(name)) is not None]
    found = [tag for tag in tags if versions.holds(tag.version)]
    if not found:
        raise _no_such_tag(wanted, url, all_names, matching, tags)
    return max(found, key=functools.cmp_to_key(_Tag.compare)).name


@functools.lru_cache(256)
def _range(text: str) -> VersionRange:
    try:
        return read_range(text)
    except RangeError as error:
        raise JiemiError(
            "InvalidSpec", f"{_FIELD}.semver {error}", "Write a range such as >=1.0.0 <2.0.0, ~1.4 or *."
        ) from None


@functools.lru_cache(256)
def _expression(text: str | None) -> re2._Regexp | None:
    if text is None:
        return None
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _EXPRESSION_BYTES
    try:
        if len(text) > _MAX_EXPRESSION:
            raise re2.error(f"it is longer than {_MAX_EXPRESSION} characters")
        return re2.compile(text, options)
    except (re2.error, UnicodeEncodeError) as error:
        said = error.args[0] if isinstance(error, re2.error) else "it is not valid Unicode"
        why = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
        raise JiemiError(
            "InvalidSpec",
            f"{_FIELD}.semverFilter is no regular expression: {why}",
            "Correct it; its syntax is RE2's, which Flux takes too.",
        ) from None


def _no_such_tag(
    wanted: TagRange, url: str, names: Sequence[str], matching: Sequence[str], tags: Sequence[_Tag]
) -> JiemiError:
    asked = f"{_FIELD}.semver: {url} has no tag whose version is in {wanted.versions}"
    if not names:
        return JiemiError("RefNotFound", f"{asked}: it has no tags", "Push a tag such as v1.0.0, or follow a branch.")
    if not matching:
        return JiemiError(
            "RefNotFound",
            f"{asked}: semverFilter leaves out all {len(names)} of its tags, which are {some_of('', names)}",
            f"Correct {_FIELD}.semverFilter, or leave it away.",
        )
    if not tags:
        return JiemiError(
            "RefNotFound",
            f"{asked}: none of its tags is a version; they are {some_of('v', matching)}",
            "Push tags such as v1.2.3, with all three numbers; or name the tag itself in ref.tag.",
        )
    newest = max(tags, key=functools.cmp_to_key(_Tag.compare))
    if all(tag.version.pre for tag in tags):
        return JiemiError(
            "RefNotFound",
            f"{asked}: it has pre-releases only, the newest of which is {newest.name}",
            "Add -0 to the version in the range, as in >=1.0.0-0, and it takes pre-releases too.",
        )
    return JiemiError(
        "RefNotFound",
        f"{asked}: the newest version is {newest.name}",
        f"Correct {_FIELD}.semver, or push a tag that is in it.",
    )


def _natural(text: str) -> list[tuple[int, str]]:
    """A key by which a2 comes before a10."""
    parts: list[tuple[int, str]] = []
    number = ""
    for char in f"{text}\0":
        if char.isascii() and char.isdigit():
            number += char
            continue
        if number:
            parts.append((len(number.lstrip("0")), number.lstrip("0")))
            number = ""
        parts.append((0, char))
    return parts
