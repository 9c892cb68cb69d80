"""Commits and tags of git -> the bytes that were signed, the signature, and what the signed bytes say.

Byte by byte as git does it (`parse_buffer_signed_by_header` in its commit.c, `parse_signature` in its gpg-interface.c;
gitformat-signature(5)): a commit's signature is a header, and what is signed is the commit without it; a tag's is at
its end. In a SHA-256 repository a commit's header has another name. A header of the other kind is no part of what is
signed either.

Everything that is believed of an object is read from the signed bytes, never from what was left out of them. Two things
are stricter than in git: an object has one signature, and one author and committer that can be read.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Container, Iterable, Iterator

import attrs

from jiemi.core.errors import JiemiError

MAX_OBJECT_BYTES = 1024 * 1024
"""The largest commit or tag whose signature is looked at."""

MAX_SIGNATURE_BYTES = 64 * 1024

_COMMIT_HEADER = {40: b"gpgsig", 64: b"gpgsig-sha256"}
_BEGINNINGS = (
    b"-----BEGIN PGP SIGNATURE-----",
    b"-----BEGIN PGP MESSAGE-----",
    b"-----BEGIN SIGNED MESSAGE-----",
    b"-----BEGIN SSH SIGNATURE-----",
)
"""With which a signature at the end of a tag begins, as git knows them."""

_PERSON = re.compile(rb"([^<>\n]*)<([^<>\n]*)> (\d{1,18}) [+-]\d{4}")
_HASH = re.compile(rb"[0-9a-f]{40}|[0-9a-f]{64}")


@attrs.frozen
class Person:
    """An author, committer or tagger, as the object names them.

    Attributes:
        email: the address, which nobody has verified.
        time: in seconds since the epoch, likewise.
    """

    email: str
    time: int


@attrs.frozen
class Commit:
    """A commit.

    Attributes:
        payload: the bytes that were signed.
        signature: as it stands there; None where there is none.
    """

    tree: str
    parents: tuple[str, ...]
    author: Person
    committer: Person
    payload: bytes = attrs.field(repr=False)
    signature: bytes | None = attrs.field(repr=False)


@attrs.frozen
class Tag:
    """An annotated tag. Attributes as of `Commit`.

    Attributes:
        object: what it names.
        type: that one's kind: commit, tag, tree or blob.
        name: its name, as it says itself.
        tagger: None in tags of git before 0.99.
    """

    object: str
    type: str
    name: str
    tagger: Person | None
    payload: bytes = attrs.field(repr=False)
    signature: bytes | None = attrs.field(repr=False)


def read_commit(data: bytes, revision: str) -> Commit:
    """A commit as it is in the repository.

    Args:
        data: without git's own header.
        revision: its hash.

    Raises:
        JiemiError: SignatureInvalid where it has several signatures or a form that can be read in two ways.
    """
    headers, rest = _split(data)
    wanted = _COMMIT_HEADER[len(revision)]
    signed = [each for each in headers if not each.name.startswith(b"gpgsig")]
    signatures = [each.value for each in headers if each.name == wanted]
    if len(signatures) > 1:
        raise _invalid(f"it has {len(signatures)} signatures", "Sign the commit once, with `git commit -S`.")
    payload = b"".join(each.raw for each in signed) + rest
    names = [each.name for each in signed]
    parents = tuple(each.value for each in signed if each.name == b"parent")
    expected = [b"tree", *[b"parent"] * len(parents), b"author", b"committer"]
    hashes = (*(each.value for each in signed[:1]), *parents)
    if names[: len(expected)] != expected or any(names.count(each) > 1 for each in (b"tree", b"author", b"committer")):
        raise _odd()
    _require_one_line(signed, expected)
    return Commit(
        *_hashes(hashes),
        author=_person(_only(signed, b"author"), "author"),
        committer=_person(_only(signed, b"committer"), "committer"),
        payload=payload,
        signature=_bounded(signatures[0]) if signatures else None,
    )


def read_tag(data: bytes) -> Tag:
    """An annotated tag as it is in the repository.

    Raises:
        JiemiError: as `read_commit`.
    """
    at = _last_signature(data)
    headers, rest = _split(data[:at])
    signed = [each for each in headers if not each.name.startswith(b"gpgsig")]
    names = [each.name for each in signed]
    if names[:3] != [b"object", b"type", b"tag"] or any(names.count(each) > 1 for each in (*names[:3], b"tagger")):
        raise _odd()
    _require_one_line(signed, (*names[:3], b"tagger"))
    named, _ = _hashes((_only(signed, b"object"),))
    tagger = _only(signed, b"tagger") if b"tagger" in names else None
    try:
        own_name = _only(signed, b"tag").decode()
        kind = _only(signed, b"type").decode("ascii")
    except UnicodeDecodeError:
        raise _odd() from None
    return Tag(
        named,
        kind,
        own_name,
        _person(tagger, "tagger") if tagger is not None else None,
        payload=b"".join(each.raw for each in signed) + rest,
        signature=_bounded(data[at:]) if at < len(data) else None,
    )


@attrs.frozen
class _Header:
    """A header with the lines that continue it.

    Attributes:
        raw: as it stands there.
        value: without the spaces that its further lines begin with.
    """

    name: bytes
    value: bytes
    raw: bytes


def _split(data: bytes) -> tuple[list[_Header], bytes]:
    """The headers, and the rest from the empty line on."""
    end = 0 if data.startswith(b"\n") else data.find(b"\n\n") + 1
    if end == 0 and not data.startswith(b"\n"):
        end = len(data)
    return list(_headers(_lines(data[:end]))), data[end:]


def _lines(data: bytes) -> list[bytes]:
    """The lines with their ends. Only a line feed ends one."""
    return [line for line in re.split(rb"(?<=\n)", data) if line]


def _headers(lines: Iterable[bytes]) -> Iterator[_Header]:
    raw: list[bytes] = []
    for line in lines:
        if raw and not line.startswith(b" "):
            yield _header(raw)
            raw = []
        raw.append(line)
    if raw:
        yield _header(raw)


def _header(raw: list[bytes]) -> _Header:
    name, _, first = raw[0].partition(b" ")
    more = [line[1:] for line in raw[1:]]
    return _Header(name.rstrip(b"\n"), b"".join((first, *more)).removesuffix(b"\n"), b"".join(raw))


def _require_one_line(headers: Iterable[_Header], names: Container[bytes]) -> None:
    """Require that headers have a space and no further lines, as git does of these."""
    for each in headers:
        if each.name in names and each.raw.removesuffix(b"\n") != each.name + b" " + each.value:
            raise _odd()


def _last_signature(data: bytes) -> int:
    """Where the last line begins that begins a signature; the end where there is none."""
    found = -1
    for beginning in _BEGINNINGS:
        place = data.rfind(b"\n" + beginning)
        found = max(found, place + 1 if place >= 0 else -1)
    return found if found >= 0 else len(data)


def _only(headers: list[_Header], name: bytes) -> bytes:
    return next(each.value for each in headers if each.name == name)


def _hashes(values: tuple[bytes, ...]) -> tuple[str, tuple[str, ...]]:
    if any(_HASH.fullmatch(each) is None for each in values):
        raise _odd()
    first, *others = (each.decode() for each in values)
    return first, tuple(others)


def _person(value: bytes, what: str) -> Person:
    found = _PERSON.fullmatch(value)
    with contextlib.suppress(UnicodeDecodeError):
        if found is not None:
            return Person(found[2].decode().strip(), int(found[3]))
    raise _invalid(
        f"its {what} can't be read", f"Write the {what} as NAME <ADDRESS>, with one < and one >, and commit again."
    )


def _bounded(signature: bytes) -> bytes:
    if len(signature) > MAX_SIGNATURE_BYTES:
        raise _invalid(
            f"its signature has {len(signature)} bytes, of {MAX_SIGNATURE_BYTES} at most",
            "Sign it again, with one key and without notations.",
        )
    return signature


def _odd() -> JiemiError:
    return _invalid("it has headers that git does not write", "Make it again with git, and sign it.")


def _invalid(what: str, remedy: str) -> JiemiError:
    return JiemiError("SignatureInvalid", what, remedy)
