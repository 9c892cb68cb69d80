"""What a hostile peer does at Krapao's port, row by row, and what it gets. docs/operations.md shows the table.

Each row says bytes on a connection of its own. The peers here have a session (of the same user, on a unix socket): so
they are the worst that get that far. What strangers without the secret get is in tests/rpc/test_session_secret.py.
"""

from __future__ import annotations

import enum
import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

import attrs
from rpc import hostile_peer as peer
from rpc.hostile_peer import SESSION

MEBIBYTE = 1024 * 1024
NOWHERE = "https://127.0.0.1:9/x.git"
_STEP = 500


class End(enum.Enum):
    """What becomes of the connection."""

    CLOSED = "is closed"
    """Before the peer has said all that it wants to say, or soon after."""
    REFUSED = "stays; what goes over the bound is refused"


@attrs.define
class Scene:
    """What a row has beside its own connection.

    Attributes:
        silent: URL of a repository on a host that takes connections and never says anything.
        until_answered: wait until so many questions were answered.
    """

    silent: str
    until_answered: Callable[[int], None]


@attrs.frozen
class Attack:
    """A row.

    Attributes:
        name: a test's.
        tries: for the docs: what the peer does.
        end: what becomes of its connection.
        says: gives what it says, piece by piece, after opening a session.
        reads: whether it takes what it is sent.
    """

    name: str
    tries: str
    end: End
    says: Callable[[Scene], Iterator[bytes]]
    reads: bool = True


def _many(count: int, make: Callable[[int], bytes], *first: bytes, step: int = _STEP) -> Iterator[bytes]:
    yield b"".join(first)
    for at in range(0, count, step):
        yield b"".join(make(number) for number in range(at, min(at + step, count)))


def _on_a_repository(count: int, make: Callable[[int], bytes], url: str, *, step: int = _STEP) -> Iterator[bytes]:
    return _many(count, lambda n: make(3 + n), peer.open_repository(2, url), step=step)


def _held(
    scene: Scene, count: int, make: Callable[[int], bytes], first: int, answered: int, *, step: int = _STEP
) -> Iterator[bytes]:
    """Ask for many things and keep each, as a client does: finish a question when it is answered."""
    for at in range(0, count, step):
        numbers = range(first + at, first + min(at + step, count))
        yield b"".join(map(make, numbers))
        scene.until_answered(answered + at + len(numbers))
        yield b"".join(map(peer.finish_keeping, numbers))


def _repositories(scene: Scene, count: int, token_bytes: int, *, step: int = _STEP) -> Iterator[bytes]:
    token = "t" * token_bytes
    return _held(scene, count, lambda n: peer.open_repository(n, f"{NOWHERE}/{n}", token=token), 2, 2, step=step)


def _held_watches(scene: Scene, count: int) -> Iterator[bytes]:
    yield peer.open_repository(2, NOWHERE)
    yield from _held(scene, count, _watch, 3, 3)


def _watch(question: int, **more: Any) -> bytes:
    return peer.call(question, "Repository", "watch", on=2, **{"capabilities": 1, **more})


def _render(question: int, key_bytes: int, on: int = 2) -> bytes:
    request = {"revision": "a" * 40, "path": f"f{question}.yaml", "keys": [{"age": "k" * key_bytes}]}
    return peer.call(question, "Repository", "render", on=on, request=request)


def _files(question: int, patterns: int) -> bytes:
    request = {"revision": "a" * 40, "patterns": [f"{question}/{n}/**/*.yaml" for n in range(patterns)]}
    return peer.call(question, "Repository", "files", on=2, request=request)


def _verify(question: int, patterns: int) -> bytes:
    request = {"revision": "a" * 40, "patterns": [f"{question}/{n}/**/*.yaml" for n in range(patterns)]}
    return peer.call(question, "Repository", "verify", on=2, request=request)


def _changes(question: int, before: object = "a" * 40, after: object = "b" * 40) -> bytes:
    return peer.call(question, "Repository", "changes", on=2, request={"before": before, "after": after})


def _signed_repository(question: int, keys: int, key_bytes: int, **more: Any) -> bytes:
    """One whose commits must be signed by one of so many public keys."""
    found = [{"name": f"{question}-{number}.asc", "data": b"k" * key_bytes} for number in range(keys)]
    verification = {"mode": "Commit", "kind": "pgp", "keys": found} | more
    source = {"url": f"{NOWHERE}/{question}"}
    return peer.call(
        question,
        "Session",
        "openRepositoryRequiring",
        on=SESSION,
        source=source,
        credentials={},
        required=["verify"],
        verification=verification,
    )


def _odd_questions(_: Scene) -> Iterator[bytes]:
    """Each is answered with a failure."""
    yield peer.open_repository(2, NOWHERE)
    odd = ("", "main", "A" * 40, b"\xff\xfe", "x" * MEBIBYTE, "--output=x", "a" * 39 + "\0")
    yield b"".join(_changes(3 + number, before=each) for number, each in enumerate(odd))
    request = {"revision": b"\xff", "patterns": [b"\xff\xfe", "**"]}
    yield peer.call(20, "Repository", "verify", on=2, request=request)
    yield peer.call(21, "Repository", "verify", on=2)
    yield _signed_repository(22, 1, 1, mode="Never") + peer.call(23, "Repository", "verify", on=22)
    yield _signed_repository(24, 1, 1, kind=b"\xff") + peer.call(25, "Repository", "verify", on=24)
    yield _signed_repository(26, 0, 1) + peer.call(27, "Repository", "verify", on=26)
    yield _signed_repository(28, 1, 1, minimumSigners=0) + peer.call(29, "Repository", "verify", on=28)


def _behind_a_question(scene: Scene, count: int, make: Callable[[int], bytes], *, step: int = _STEP) -> Iterator[bytes]:
    """Calls on the answer to a question that is not answered."""
    return _many(count, lambda n: make(4 + n), peer.open_repository(2, scene.silent), peer.head(3, on=2), step=step)


def _unknown(number: int) -> bytes:
    target = {"promisedAnswer": {"questionId": 1}}
    return peer.raw("call", questionId=2 + number, interfaceId=number, methodId=number % 60_000, target=target)


def _promise(_: Scene) -> Iterator[bytes]:
    yield peer.open_repository(2, NOWHERE)
    yield _watch(3, capability="senderPromise") + peer.raw("resolve", promiseId=0, cap={"receiverHosted": 0})


ATTACKS: tuple[Attack, ...] = (
    Attack(
        "big_credentials",
        "repositories with 400 KiB of credentials each, without end",
        End.CLOSED,
        lambda scene: _repositories(scene, 20_000, 400 * 1024, step=50),
    ),
    Attack(
        "many_repositories",
        "100,000 repositories with small credentials",
        End.CLOSED,
        lambda scene: _repositories(scene, 100_000, 40),
    ),
    Attack("many_watches", "100,000 watches", End.CLOSED, lambda scene: _held_watches(scene, 100_000)),
    Attack(
        "same_watcher",
        "the same watcher 100,000 times, without finishing a question",
        End.CLOSED,
        lambda _: _on_a_repository(100_000, _watch, NOWHERE),
    ),
    Attack(
        "sessions",
        "200,000 sessions on one connection",
        End.CLOSED,
        lambda _: _many(200_000, lambda n: peer.open_session(2 + n)),
    ),
    Attack(
        "heads",
        "60,000 questions for the newest revision of a host that says nothing",
        End.CLOSED,
        lambda scene: _on_a_repository(60_000, lambda n: peer.head(n, on=2), scene.silent),
    ),
    Attack(
        "answers_not_finished",
        "60,000 repositories, none of whose answers it finishes",
        End.CLOSED,
        lambda _: _many(60_000, lambda n: peer.open_repository(2 + n)),
    ),
    Attack(
        "answers_not_taken",
        "60,000 questions, finished at once, whose answers it never reads",
        End.CLOSED,
        lambda _: _on_a_repository(60_000, lambda n: peer.head(n, on=2) + peer.finish(n), "probe:"),
        reads=False,
    ),
    Attack(
        "pipelined",
        "60,000 calls on the answer to a question that is never answered",
        End.CLOSED,
        lambda scene: _behind_a_question(scene, 60_000, lambda n: peer.head(n, on=3)),
    ),
    Attack(
        "big_keys",
        "decryptions with 2 MiB of keys each, on the answer to a question that is never answered",
        End.CLOSED,
        lambda scene: _behind_a_question(scene, 200, lambda n: _render(n, 2 * MEBIBYTE, on=3), step=1),
    ),
    Attack(
        "queued_renders",
        "500 decryptions with 400 KiB of keys each, of a host that says nothing",
        End.REFUSED,
        lambda scene: _on_a_repository(500, lambda n: _render(n, 400 * 1024), scene.silent, step=5),
    ),
    Attack(
        "patterns",
        "2,000 searches for 1,000 patterns each, of a host that says nothing",
        End.REFUSED,
        lambda scene: _on_a_repository(2_000, lambda n: _files(n, 1_000), scene.silent, step=20),
    ),
    Attack(
        "verifications",
        "2,000 revisions to verify for 1,000 patterns each, of a host that says nothing",
        End.REFUSED,
        lambda scene: _on_a_repository(2_000, lambda n: _verify(n, 1_000), scene.silent, step=20),
    ),
    Attack(
        "comparisons",
        "60,000 pairs of revisions to compare, of a host that says nothing",
        End.CLOSED,
        lambda scene: _on_a_repository(60_000, _changes, scene.silent),
    ),
    Attack(
        "comparisons_not_taken",
        "60,000 pairs to compare, finished at once, whose answers it never reads",
        End.CLOSED,
        lambda _: _on_a_repository(60_000, lambda n: _changes(n) + peer.finish(n), "probe:"),
        reads=False,
    ),
    Attack(
        "public_keys",
        "repositories with 400 KiB of public keys each, without end",
        End.CLOSED,
        lambda scene: _held(scene, 20_000, lambda n: _signed_repository(n, 4, 100 * 1024), 2, 2, step=50),
    ),
    Attack(
        "many_public_keys",
        "300 repositories with 5,000 empty public keys each",
        End.REFUSED,
        lambda scene: _held(scene, 300, lambda n: _signed_repository(n, 5_000, 0), 2, 2, step=20),
    ),
    Attack(
        "odd_questions",
        "revisions, patterns and policies that are none, or no text",
        End.REFUSED,
        _odd_questions,
    ),
    Attack(
        "capabilities",
        "a message that carries 100,000 capabilities",
        End.CLOSED,
        lambda _: _on_a_repository(1, lambda n: _watch(n, capabilities=100_000), NOWHERE),
    ),
    Attack("promises", "a capability that is a promise, and its resolution to itself", End.CLOSED, _promise),
    Attack(
        "resolve",
        "resolutions of promises that it never made",
        End.CLOSED,
        lambda _: _many(9_000, lambda n: peer.raw("resolve", promiseId=n, cap={"senderHosted": n})),
    ),
    Attack(
        "bootstraps",
        "the bootstrap capability 1,000,000 times",
        End.CLOSED,
        lambda _: _many(1_000_000, lambda n: peer.bootstrap(2 + n)),
    ),
    Attack(
        "disembargoes",
        "disembargoes, which are answered each",
        End.CLOSED,
        lambda _: _many(9_000, lambda n: peer.raw("disembargo", context={"senderLoopback": n})),
    ),
    Attack(
        "level_3",
        "messages of level 3 and 4 (provide, accept, join)",
        End.CLOSED,
        lambda _: iter(
            [peer.raw(kind, questionId=number) for number, kind in enumerate(("provide", "accept", "join"), 2)]
        ),
    ),
    Attack(
        "unknown_methods",
        "100,000 calls of methods and interfaces that there are not",
        End.CLOSED,
        lambda _: _many(100_000, _unknown),
    ),
    Attack(
        "half_a_message",
        "half a message, and then nothing",
        End.CLOSED,
        lambda _: iter([struct.pack("<II", 0, MEBIBYTE // 8) + bytes(64)]),
    ),
    Attack(
        "too_large",
        "a message of 16 MiB",
        End.CLOSED,
        lambda _: iter([struct.pack("<II", 0, 2 * MEBIBYTE) + bytes(MEBIBYTE)]),
    ),
    Attack(
        "segments",
        "a message of 100,000 segments",
        End.CLOSED,
        lambda _: iter([struct.pack("<I", 99_999) + bytes(400_000)]),
    ),
    Attack("garbage", "random bytes", End.CLOSED, lambda _: iter([random.Random(1).randbytes(MEBIBYTE)])),
)


def table() -> str:
    """The rows, in Markdown."""
    rows = [f"| {each.tries[:1].upper()}{each.tries[1:]} | the connection {each.end.value} |" for each in ATTACKS]
    return "\n".join(["| what a peer does | what it gets |", "| --- | --- |", *rows]) + "\n"
