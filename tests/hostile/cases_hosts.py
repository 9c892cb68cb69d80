"""Hosts that answer badly: without end, a byte now and then, or otherwise than git does."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from hostile import packs
from hostile.case import Refusal
from hostile.lab import Lab
from support.krapao.packs import blob, head, on_name, on_offset, pack
from support.network.changed_answers import Answer, Change

from jiemi.krapao.git.packs import BLOB, COMMIT, TREE

OVER_HTTP, OVER_GIT, OVER_SSH = "http", "git", "ssh"


@attrs.frozen(kw_only=True)
class EndlessCase(Refusal):
    """A host that never ends.

    Attributes:
        scheme: by which it is asked.
        first: what each connection gets.
        again: what it gets then, for ever.
        pause_seconds: between two of them.
    """

    scheme: str = OVER_HTTP
    first: bytes = b""
    again: bytes
    pause_seconds: float = 0


@attrs.frozen(kw_only=True)
class ChangedCase(Refusal):
    """A host that was followed, and answers otherwise from now on.

    Attributes:
        change: gives what makes its answer of a true one, and of the path with its query.
        settings: what differs in Krapao's settings.
    """

    change: Callable[[Lab], Change]
    settings: Mapping[str, Any] = attrs.field(factory=dict)


PKT = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n"
SERVICE = b"001e# service=git-upload-pack\n0000"
CHUNKED = PKT + b"Transfer-Encoding: chunked\r\n\r\n"
SSH_IGNORE = (12).to_bytes(4) + b"\x04\x02" + b"\0" * 10
"""A packet before keys are exchanged (RFC 4253, sections 6 and 11.2): SSH_MSG_IGNORE."""
DRIP_SECONDS = 0.05


def _flood(name: str, tries: str, first: bytes, again: bytes, gets: str, **more: Any) -> EndlessCase:
    return EndlessCase(name=f"flood-{name}", tries=f"{tries} without end", first=first, again=again, gets=gets, **more)


def _drip(name: str, tries: str, first: bytes, again: bytes, gets: str, **more: Any) -> EndlessCase:
    return EndlessCase(
        name=f"drip-{name}", tries=tries, first=first, again=again, gets=gets, pause_seconds=DRIP_SECONDS, **more
    )


_CONTINUE = b"HTTP/1.1 100 Continue\r\n"
_OVER_GIT: Mapping[str, Any] = {"scheme": OVER_GIT}
_OVER_SSH: Mapping[str, Any] = {"scheme": OVER_SSH}
ENDLESS: Sequence[EndlessCase] = (
    _flood("continue", "`100 Continue`", b"", (_CONTINUE + b"\r\n") * 100, "HostUnreachable"),
    _flood("continue-headers", "the same with headers", b"", (_CONTINUE + b"x: y\r\n\r\n") * 100, "HostUnreachable"),
    _flood("status-line", "a status line", b"HTTP/1.1 200 ", b"x" * 1_000, "HostUnreachable"),
    _flood("headers", "headers", b"HTTP/1.1 200 OK\r\n", b"x: y\r\n" * 1_000, "HostUnreachable"),
    _flood("header", "one header", b"HTTP/1.1 200 OK\r\nx: ", b"y" * 1_000, "HostUnreachable"),
    _flood("chunks", "chunks of one byte", CHUNKED, b"1\r\n0\r\n" * 1_000, "GitProtocolError"),
    _flood("extensions", "extensions of chunks", CHUNKED, b"1;" + b"x" * 10_000 + b"\r\n0\r\n", "GitProtocolError"),
    _flood("extension", "one chunk's extension", CHUNKED + b"1;", b"x" * 1_000, "GitProtocolError"),
    _flood("body", "a body that is no git's", PKT + b"\r\n", b"0" * 1_000, "GitProtocolError"),
    _flood(
        "packets", "an advertisement of small packets", PKT + b"\r\n" + SERVICE, b"0005x" * 1_000, "GitProtocolError"
    ),
    _flood(
        "refs",
        "an advertisement of refs",
        PKT + b"\r\n" + SERVICE,
        packs.packet(b"1" * 40 + b" refs/heads/x\n") * 100,
        "LimitExceeded",
    ),
    _flood("git", "packets over git://", b"", b"0005x" * 1_000, "GitProtocolError", **_OVER_GIT),
    _flood(
        "git-words", "packets of other words over git://", b"", b"0008abcd" * 1_000, "GitProtocolError", **_OVER_GIT
    ),
    _flood("git-large", "the largest packets over git://", b"", b"ffff" * 20_000, "GitProtocolError", **_OVER_GIT),
    _flood(
        "ssh", "packets to be ignored over ssh", b"SSH-2.0-x\r\n", SSH_IGNORE * 1_000, "HostUnreachable", **_OVER_SSH
    ),
    _flood(
        "ssh-lines", "lines before ssh's banner", b"", b"before the banner\r\n" * 1_000, "HostUnreachable", **_OVER_SSH
    ),
    _flood("ssh-line", "one such line", b"", b"x" * 10_000, "HostUnreachable", **_OVER_SSH),
    _drip("continue", "`100 Continue`, one after the other", b"", _CONTINUE + b"\r\n", "HostUnreachable"),
    _drip("status-line", "a status line, byte by byte", b"HTTP/1.1 200 ", b"x", "HostUnreachable"),
    _drip("header", "a header, byte by byte", b"HTTP/1.1 200 OK\r\nx: ", b"y", "HostUnreachable"),
    _drip("headers", "headers, one after the other", b"HTTP/1.1 200 OK\r\n", b"x: y\r\n", "HostUnreachable"),
    _drip("body", "a body, byte by byte", PKT + b"\r\n", b"0", "GitProtocolError"),
    _drip("chunks", "a chunk now and then", CHUNKED, b"1\r\n0\r\n", "GitProtocolError"),
    _drip("extension", "a chunk's extension, byte by byte", CHUNKED + b"1;", b"x", "Timeout"),
    _drip("packets", "an advertisement, a packet now and then", PKT + b"\r\n" + SERVICE, b"0005x", "GitProtocolError"),
    _drip("git", "a packet over git://, byte by byte", b"", b"f", "Timeout", **_OVER_GIT),
    _drip("git-packets", "a packet over git:// now and then", b"000eversion 2\n", b"0005x", "Timeout", **_OVER_GIT),
    _drip("ssh-lines", "a line before ssh's banner now and then", b"", b"x\r\n", "HostUnreachable", **_OVER_SSH),
    _drip("ssh-banner", "ssh's banner, byte by byte", b"SSH-2.0-", b"x", "HostUnreachable", **_OVER_SSH),
    _drip("ssh", "a packet to be ignored now and then", b"SSH-2.0-x\r\n", SSH_IGNORE, "HostUnreachable", **_OVER_SSH),
)


# Answers of a host that was followed before


def _to_all(status: int, headers: Mapping[str, str], body: bytes = b"") -> Change:
    return lambda _path, _answer: Answer(status, headers, body)


def _refs(body: bytes) -> Change:
    """The first answer, which says what the host can do, or in the old protocol which refs there are."""
    return lambda path, answer: attrs.evolve(answer, body=body) if "info/refs" in path else answer


def _listing(*packets: bytes) -> Change:
    """The list of refs."""

    def change(path: str, answer: Answer) -> Answer:
        if "info/refs" in path or b"packfile" in answer.body:
            return answer
        return attrs.evolve(answer, body=b"".join(map(packs.packet, packets)) + b"0000")

    return change


def _encoded(name: str, encode: Callable[[bytes], bytes]) -> Change:
    def change(_: str, answer: Answer) -> Answer:
        if b"packfile" not in answer.body:
            return answer
        return attrs.evolve(answer, headers={**answer.headers, "Content-Encoding": name}, body=encode(answer.body))

    return change


def _bomb(body: bytes) -> bytes:
    """A pack of 50 MB of zeros, in packets of the side band as git reads them."""
    return gzip.compress(body.removesuffix(b"0000") + (b"ffff\1" + b"\0" * 0xFFFA) * 800 + b"0000")


def _pack(body: bytes, endless: bytes = b"", pause_seconds: float = 0) -> Change:
    """What comes in place of the pack, in packets."""

    def change(_: str, answer: Answer) -> Answer:
        if b"packfile" not in answer.body:
            return answer
        return attrs.evolve(
            answer, body=packs.packet(b"packfile\n") + body, endless=endless, pause_seconds=pause_seconds
        )

    return change


def _of(data: bytes) -> Change:
    return _pack(packs.in_packets(data) + b"0000")


def _lacking(kind: int) -> Change:
    """The true pack without its objects of a kind."""

    def change(path: str, answer: Answer) -> Answer:
        if b"packfile" not in answer.body:
            return answer
        return _of(packs.without(packs.out_of_packets(answer.body), kind))(path, answer)

    return change


_OLD_HEAD = b" HEAD\0multi_ack side-band-64k\n"
_SMALL: Mapping[str, Any] = {
    "max_refs_bytes": 1_000_000,
    "max_pack_bytes": 1_000_000,
    "max_object_bytes": 2_000_000,
    "max_unpacked_bytes": 4_000_000,
    "fetch_grace_seconds": 5,
}


def _changed(name: str, tries: str, change: Change, gets: str, says: str = "") -> ChangedCase:
    return ChangedCase(name=f"host-{name}", tries=tries, change=lambda _: change, gets=gets, says=says, settings=_SMALL)


CHANGED: Sequence[ChangedCase] = (
    _changed(
        "gzip-bomb",
        "a pack compressed to a thousandth (gzip), though nobody asked",
        _encoded("gzip", _bomb),
        "LimitExceeded",
    ),
    _changed(
        "deflate-bomb",
        "the same by deflate",
        _encoded("deflate", lambda body: zlib.compress(gzip.decompress(_bomb(body)))),
        "LimitExceeded",
    ),
    _changed(
        "gzip-twice",
        "gzip within gzip",
        _encoded("gzip, gzip", lambda body: gzip.compress(gzip.compress(body))),
        "GitProtocolError",
    ),
    _changed("gzip-none", "gzip that is none", _encoded("gzip", bytes), "GitProtocolError", "damaged answer (gzip)"),
    _changed(
        "gzip-cut",
        "gzip that ends in the middle",
        _encoded("gzip", lambda body: gzip.compress(body)[:-20]),
        "GitProtocolError",
    ),
    _changed("brotli", "an encoding that nobody asked for", _encoded("br", bytes), "GitProtocolError", "encoding br"),
    _changed(
        "pack-zeros",
        "an object of megabytes, compressed to a thousandth",
        _of(pack(blob(b"\0" * 3_000_000))),
        "LimitExceeded",
    ),
    _changed(
        "pack-many-zeros",
        "many objects that are large together",
        _of(pack(*[blob(b"\0" * 900_000)] * 6)),
        "LimitExceeded",
    ),
    _changed(
        "pack-claims",
        "an object that says it has a terabyte",
        _of(pack(head(BLOB, 10**12))),
        "LimitExceeded",
    ),
    _changed("pack-count", "a pack that says it has four billion objects", _of(pack(count=2**32 - 1)), "LimitExceeded"),
    _changed(
        "delta-bomb",
        "a delta of 20 bytes that says it makes 10 GB",
        _of(pack(on_name(b"b" * 20, packs.delta(1, 10**10)))),
        "LimitExceeded",
    ),
    _changed(
        "delta-bomb-offset",
        "the same by an offset",
        _of(pack(blob(b"x"), on_offset(1, packs.delta(1, 10**10)))),
        "LimitExceeded",
    ),
    _changed(
        "delta-copies", "a delta that copies 60 KB again and again, to 3 MB", _of(packs.copied_again()), "LimitExceeded"
    ),
    _changed("delta-chain", "30,000 deltas, each of the one before", _of(packs.chain(30_000)), "GitProtocolError"),
    _changed(
        "delta-beyond", "a delta that copies from beyond its base", _of(packs.copied_from_beyond()), "GitProtocolError"
    ),
    _changed("delta-itself", "a delta of itself", _of(pack(on_offset(0, packs.delta(1, 1)))), "GitProtocolError"),
    _changed(
        "delta-base",
        "a delta of an object that is nowhere",
        _of(pack(on_name(b"b" * 20, packs.delta(1, 1) + b"\1x"))),
        "GitProtocolError",
    ),
    _changed("pack-other", "a good pack without the commit", _of(pack(blob(b"x"))), "GitProtocolError"),
    _changed("pack-no-commit", "the true pack without the commit", _lacking(COMMIT), "GitProtocolError"),
    _changed("pack-no-tree", "the true pack without the commit's tree", _lacking(TREE), "GitProtocolError"),
    _changed("pack-no-file", "the true pack without the file", _lacking(BLOB), "GitProtocolError"),
    _changed("pack-none", "a pack without an object", _of(pack()), "GitProtocolError"),
    _changed(
        "pack-checksum",
        "a pack with another checksum",
        _of(pack(blob(b"x"))[:-1] + b"x"),
        "GitProtocolError",
    ),
    _changed(
        "pack-cut",
        "a pack that ends in the middle",
        _of(pack(blob(b"x" * 1_000))[:-25]),
        "GitProtocolError",
    ),
    _changed(
        "pack-version",
        "a pack of a version that does not exist",
        _of(pack(blob(b"x"), version=9)),
        "GitProtocolError",
    ),
    _changed(
        "pack-kind",
        "an object of a kind that does not exist",
        _of(pack(head(5, 1) + zlib.compress(b"x"))),
        "GitProtocolError",
    ),
    _changed(
        "pack-progress",
        "progress without end in place of a pack",
        _pack(b"", packs.packet(b"\2" + b"x" * 60_000)),
        "LimitExceeded",
    ),
    _changed(
        "pack-drip",
        "a pack, a byte now and then",
        _pack(b"", packs.packet(b"\1P"), DRIP_SECONDS),
        "Timeout",
        "too slowly",
    ),
    _changed(
        "band", "a band that the protocol does not have", _pack(packs.packet(b"\7xxxx") + b"0000"), "GitProtocolError"
    ),
    _changed(
        "fatal",
        "an error in the middle of a pack that holds an escape sequence",
        _pack(packs.packet(b"\3\x1b]0;x\x07died") + b"0000"),
        "GitProtocolError",
        '"]0;x died"',
    ),
    _changed("page", "a page of HTML", _to_all(200, {"Content-Type": "text/html"}, b"<html>"), "HostUnreachable"),
    _changed("packet-length", "a packet whose length is no number", _refs(b"zzzz# service"), "GitProtocolError"),
    _changed("packet-short", "a packet of three bytes in all", _refs(b"0003"), "GitProtocolError"),
    _changed(
        "service",
        "the answer of another service (`git-receive-pack`)",
        _refs(packs.packet(b"# service=git-receive-pack\n") + b"0000"),
        "GitProtocolError",
    ),
    _changed(
        "version",
        "a version of the protocol that does not exist",
        _refs(SERVICE + packs.packet(b"version 3\n") + b"0000"),
        "RefNotFound",
    ),
    _changed("hash", "a ref whose hash is none", _listing(b"x" * 40 + b" refs/heads/main\n"), "GitProtocolError"),
    _changed("hash-short", "a ref whose hash is short", _listing(b"1" * 7 + b" refs/heads/main\n"), "GitProtocolError"),
    _changed(
        "hash-nowhere",
        "a ref whose commit the host does not have",
        _listing(b"1" * 40 + b" refs/heads/main\n"),
        "GitProtocolError",
    ),
    _changed(
        "ref-name",
        "a ref whose name leads up and out",
        _listing(b"1" * 40 + b" refs/heads/../../../../etc/x\n"),
        "RefNotFound",
    ),
    _changed("ref-line", "a ref without a name", _listing(b"1" * 40), "GitProtocolError"),
    _changed("refs-none", "no refs at all", _listing(), "RefNotFound"),
    _changed(
        "refs-symbolic",
        "a HEAD that names a ref which is not there",
        _listing(b"1" * 40 + b" HEAD symref-target:refs/heads/../x\n"),
        "RefNotFound",
    ),
    _changed(
        "refs-old",
        "the old protocol, with a name that leads up and out",
        _refs(
            SERVICE + packs.packet(b"1" * 40 + _OLD_HEAD) + packs.packet(b"1" * 40 + b" refs/heads/../../x\n") + b"0000"
        ),
        "RefNotFound",
    ),
    ChangedCase(
        name="host-repeats-token",
        tries="an error that repeats the credentials",
        change=lambda lab: _refs(packs.packet(b"ERR no more for " + lab.credentials["vault"].encode())),
        gets="GitProtocolError",
        says='"no more for …"',
    ),
    _changed(
        "challenge",
        "a `WWW-Authenticate` of 60 KB",
        _to_all(401, {"WWW-Authenticate": "Basic realm=" + "x" * 60_000}),
        "RepositoryAccessDenied",
    ),
    _changed(
        "retry",
        "a `Retry-After` of three years",
        _to_all(429, {"Retry-After": "99999999"}),
        "GitProtocolError",
        "no more requests",
    ),
    _changed("retry-none", "a `Retry-After` that is no time", _to_all(503, {"Retry-After": "nan"}), "HostUnreachable"),
    _changed(
        "no-body",
        "a length of an exabyte and no body",
        _to_all(403, {"Content-Length": str(10**18)}),
        "RepositoryAccessDenied",
    ),
    _changed("length-negative", "a negative length", _to_all(200, {"Content-Length": "-5"}), "HostUnreachable"),
    _changed(
        "lengths", "a length that is no number", _to_all(200, {"Content-Length": "5, 6"}, b"x" * 9), "HostUnreachable"
    ),
)
