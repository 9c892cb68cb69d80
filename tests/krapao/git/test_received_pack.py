"""Packs that arrive: what says or holds too much is found out first, and what is good gets the index that git makes."""

from __future__ import annotations

import contextlib
import hashlib
import random
import subprocess
import zlib
from pathlib import Path

import pytest
from dulwich.object_format import SHA1, SHA256
from dulwich.pack import load_pack_index
from hypothesis import given
from hypothesis import strategies as st
from support.krapao.packs import appending, blob, ended, head, number, on_name, on_offset, pack
from support.krapao.work_tree import Work

from jiemi.core.errors import JiemiError
from jiemi.krapao.git import received_pack
from jiemi.krapao.git.pack_store import open_packs
from jiemi.krapao.git.packs import BLOB, COMMIT, OFS_DELTA, REF_DELTA, PackDamaged
from jiemi.krapao.git.received_pack import PackLimits, ReceivedPack


def nothing_here(name: bytes) -> tuple[int, bytes]:
    raise KeyError(name)


def look(data: bytes, max_object_bytes: int = 1_000_000, max_unpacked_bytes: int = 2_000_000) -> ReceivedPack:
    received = ReceivedPack(data)
    received.look_through(PackLimits(max_object_bytes, max_unpacked_bytes))
    received.resolve(nothing_here)
    return received


def name_of(content: bytes) -> bytes:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).digest()


# --- beside git


def _work(path: Path, format: str) -> Work:
    """Files that grow, so that git makes long lines of deltas of them, in folders that change with each."""
    work = Work(path, format)
    made = random.Random(5)
    lines = [made.randbytes(40).hex() for _ in range(60)]
    for step in range(30):
        lines[made.randrange(60)] = made.randbytes(40).hex()
        lines.append(made.randbytes(40).hex())
        work.commit(
            {
                "grows.txt": "\n".join(lines),
                f"d/{step}": "\n".join(lines[:40]),
                f"d/e/{step}": made.randbytes(step * 200).hex(),
                "large": "x" * 80_000 + str(step),
            }
        )
    return work


@pytest.mark.parametrize("format", ["sha1", "sha256"])
@pytest.mark.parametrize("offsets", [True, False], ids=["offsets", "names"])
@pytest.mark.parametrize("kept", [None, 20_000, 0], ids=["all kept", "some kept", "none kept"])
def test_the_index_is_that_of_git(
    tmp_path: Path, format: str, offsets: bool, kept: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kept is not None:
        monkeypatch.setattr(received_pack, "_KEPT_BYTES", kept)
    work = _work(tmp_path / "work", format)
    options = ["--delta-base-offset"] if offsets else []
    run = ["git", "pack-objects", "--quiet", "--all", "--depth=40", "--window=60", *options, str(tmp_path / "p")]
    subprocess.run(run, cwd=work.path, check=True, input=b"")
    [path] = tmp_path.glob("p-*.pack")
    received = ReceivedPack(path.read_bytes(), hash_bytes=20 if format == "sha1" else 32)
    received.look_through(PackLimits(1_000_000, 100_000_000))
    assert received.resolve(nothing_here) == set()
    with contextlib.closing(load_pack_index(path.with_suffix(".idx"), SHA1 if format == "sha1" else SHA256)) as index:
        assert sorted(received.entries) == list(index.iterentries())
    assert received.count == len(received.entries) > 100


@pytest.mark.parametrize("format", [SHA1, SHA256], ids=["sha1", "sha256"])
def test_what_a_thin_pack_builds_upon_is_found_and_joins_it(tmp_path: Path, format: object) -> None:
    work = _work(tmp_path / "work", "sha1" if format is SHA1 else "sha256")
    base, tip = work.git("rev-parse", "HEAD~3").strip(), work.git("rev-parse", "HEAD").strip()
    run = ["git", "pack-objects", "--stdout", "--revs", "--quiet"]

    def made(given: str, *options: str) -> bytes:
        return subprocess.run(
            [*run, *options], cwd=work.path, check=True, capture_output=True, input=given.encode()
        ).stdout

    objects = tmp_path / "objects"
    (objects / "pack").mkdir(parents=True)
    (objects / "info").mkdir()
    hash_bytes = 20 if format is SHA1 else 32
    built_upon = []
    with open_packs(objects, object_format=format) as store:  # type: ignore[arg-type]
        for data in (made(f"{base}\n"), made(f"{tip}\n^{base}\n", "--thin", "--delta-base-offset")):
            with store.new_pack() as new:
                new.file.write(data)
                new.file.flush()
                with new.mapped() as mapped:
                    received = ReceivedPack(mapped, hash_bytes=hash_bytes)
                    received.look_through(PackLimits(1_000_000, 100_000_000))
                    built_upon.append(received.resolve(store.read_by_name))
                store.keep(new, received.entries, built_upon[-1])
        for sha in work.git("rev-list", "--objects", "--no-object-names", tip).split():
            assert store.has(sha)
            store.vouch(sha)
    assert [bool(each) for each in built_upon] == [False, True]
    for path in (objects / "pack").glob("*.idx"):
        subprocess.run(["git", "verify-pack", path], cwd=work.path, check=True)
    assert sorted(path.suffix for path in (objects / "pack").iterdir()) == [".idx", ".idx", ".pack", ".pack"]


# --- written by hand


@pytest.mark.parametrize(
    "data",
    [
        pack(blob(b"x" * 1_000_001)),
        pack(*[blob(b"\0" * 900_000)] * 3),
        pack(head(BLOB, 10**12)),
        pack(on_name(b"b" * 20, (number(1) + number(10**10)).ljust(20, b"\0"))),
        pack(head(OFS_DELTA, 20) + b"\x01" + zlib.compress((number(1) + number(10**10)).ljust(20, b"\0"))),
        pack(head(COMMIT, 9_000_000), count=1),
        pack(count=2**32 - 1),
    ],
)
def test_what_would_unpack_to_too_much_is_refused(data: bytes) -> None:
    with pytest.raises(JiemiError) as caught:
        look(data, 10_000_000 if data[12] & 0x70 == COMMIT << 4 else 1_000_000)
    assert caught.value.failure.reason == "LimitExceeded"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is no pack"),
        (b"PACK", "is no pack"),
        (b"JUNK" * 20, "is no pack"),
        (pack(count=1), "pack holds|in the middle"),
        (pack(blob(b"x", says=2)), "smaller than it says"),
        (pack(blob(b"xx", says=1)), "larger than it says"),
        (pack(head(0, 1) + zlib.compress(b"x")), "no known kind"),
        (pack(head(5, 1) + zlib.compress(b"x")), "no known kind"),
        (pack(head(BLOB, 1) + b"no zlib"), "can't be unpacked"),
        (pack(head(REF_DELTA, 1) + b"b" * 20 + zlib.compress(b"\xff")), "a delta that can't be read"),
        (pack(b"\xff" * 30), "beyond all measure"),
        (pack(blob(b"x"))[:-5], "in the middle|is not as it was sent"),
        (pack(blob(b"x")) + b"more", "goes on after its last object"),
        (pack(blob(b"x"), blob(b"y"), count=1), "goes on after its last object"),
        (pack(blob(b"x"))[:-1] + b"\0", "is not as it was sent"),
        (pack(on_name(b"b" * 20, appending(1, b"x"))), "builds on what is not in it"),
        (pack(blob(b"x"), on_offset(1, appending(1, b"x"))), "builds on what is not in it"),
        (pack(on_offset(12, appending(1, b"x"))), "builds on what is not in it"),
        (pack(blob(b"abc"), on_name(name_of(b"abc"), appending(2, b"x"))), "does not fit"),
        (pack(blob(b"abc"), on_name(name_of(b"abc"), number(3) + number(9) + b"\x01x")), "does not fit"),
        (pack(blob(b"abc"), on_name(name_of(b"abc"), number(3) + number(1) + b"\0")), "does not fit"),
        (pack(head(COMMIT, 1) + zlib.compress(b"c"), on_offset(10, number(1) + number(0))), "an empty commit"),
    ],
)
def test_what_is_no_pack_is_reported(data: bytes, message: str) -> None:
    with pytest.raises(PackDamaged, match=message):
        look(data)


def _chain(length: int, size: int) -> tuple[bytes, list[bytes]]:
    """A blob, and deltas that each build upon the one before; and what they all make."""
    contents = [b"a" * size]
    objects = [blob(contents[0])]
    for step in range(length):
        objects.append(on_offset(len(objects[-1]), appending(len(contents[-1]), b"%05d" % step)))
        contents.append(contents[-1] + b"%05d" % step)
    return pack(*objects), contents


@pytest.mark.parametrize("kept", [None, 5_000, 0])
def test_a_long_line_of_deltas_is_followed_without_recursion(kept: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if kept is not None:
        monkeypatch.setattr(received_pack, "_KEPT_BYTES", kept)
    data, contents = _chain(3_000, 100)
    received = look(data, max_unpacked_bytes=100_000_000)
    assert sorted(name for name, _, _ in received.entries) == sorted(map(name_of, contents))


def test_what_is_kept_of_a_line_of_deltas_with_branches_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    # Each object has two that build upon it: one that ends there, made last, and one that goes on.
    monkeypatch.setattr(received_pack, "_KEPT_BYTES", 200_000)
    contents, ends = [b"a" * 10_000], []
    objects, starts = [blob(contents[0])], [12]

    def add(content: bytes, more: bytes, back: int) -> None:
        starts.append(starts[-1] + len(objects[-1]))
        objects.append(on_offset(starts[-1] - back, appending(len(content), more)))

    back = starts[0]
    for step in range(200):
        add(contents[-1], b"end %d" % step, back)
        ends.append(contents[-1] + b"end %d" % step)
        add(contents[-1], b"on %d" % step, back)
        contents.append(contents[-1] + b"on %d" % step)
        back = starts[-1]
    most = 0
    inner = received_pack._Line._let_go

    def let_go(self: received_pack._Line, last: int, allowed: int) -> None:
        nonlocal most
        inner(self, last, allowed)
        kept = sum(len(base.content or b"") for base in self.bases)
        assert kept == self._kept
        most = max(most, kept)

    monkeypatch.setattr(received_pack._Line, "_let_go", let_go)
    applied = 0
    apply = ReceivedPack._apply

    def counted(self: ReceivedPack, base: bytes, offset: int) -> bytes:
        nonlocal applied
        applied += 1
        return apply(self, base, offset)

    monkeypatch.setattr(ReceivedPack, "_apply", counted)
    received = look(pack(*objects), max_unpacked_bytes=100_000_000)
    assert sorted(name for name, _, _ in received.entries) == sorted(map(name_of, [*contents, *ends]))
    assert most <= 200_000 + 20_000
    assert applied < 400 * 12, "what was let go of is not made from the beginning for each"


def test_deltas_by_name_are_found_wherever_they_are() -> None:
    first, second, third = b"one", b"one two", b"one two three"
    chain = [
        on_name(name_of(second), appending(len(second), b" three")),
        on_name(name_of(first), appending(len(first), b" two")),
    ]
    assert {name for name, _, _ in look(pack(*chain, blob(first))).entries} == set(map(name_of, (first, second, third)))
    received = ReceivedPack(pack(*chain))
    received.look_through(PackLimits(1_000, 1_000))
    here = {name_of(first): (BLOB, first)}
    assert received.resolve(here.__getitem__) == {name_of(first)}
    assert {name for name, _, _ in received.entries} == {name_of(second), name_of(third)}


def test_looking_through_a_pack_can_be_cancelled_in_each_of_its_parts() -> None:
    data, _ = _chain(20, 10)
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1

    def run(check: object) -> None:
        received = ReceivedPack(data, check=check)  # type: ignore[arg-type]
        received.look_through(PackLimits(1_000, 100_000))
        received.resolve(nothing_here)

    run(count)
    for stop in range(calls):
        left = stop

        def cancelled() -> None:
            nonlocal left
            if not left:
                raise InterruptedError
            left -= 1

        with pytest.raises(InterruptedError):
            run(cancelled)


_PIECES = st.one_of(
    st.binary(max_size=40),
    st.binary(max_size=40).map(blob),
    st.builds(on_offset, st.integers(0, 80), st.binary(max_size=20)),
    st.builds(
        on_offset, st.integers(0, 80), st.builds(appending, st.integers(0, 40), st.binary(min_size=1, max_size=9))
    ),
    st.builds(on_name, st.sampled_from([name_of(b""), name_of(b"x"), b"b" * 20]), st.binary(max_size=20)),
)


@given(st.lists(_PIECES, max_size=6), st.integers(0, 7), st.binary(max_size=60))
def test_any_bytes_are_a_pack_or_are_refused(pieces: list[bytes], count: int, rest: bytes) -> None:
    for data in (
        rest,
        pack(*pieces),
        pack(*pieces, count=count),
        ended(b"PACK" + (2).to_bytes(4) + count.to_bytes(4) + rest),
    ):
        with contextlib.suppress(PackDamaged, JiemiError):
            received = look(data)
            assert len(received.entries) == received.count
