"""Messages are cut and read as Cap'n Proto does it, and no bytes make the reader fail otherwise."""

from __future__ import annotations

import struct
from typing import Any

import capnp
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rpc import hostile_peer

from jiemi.rpc.framing import FrameReader, FramingError, Kind, MessageHead, read_head

MAX_BYTES = 1_000_000


def message(kind: str, **values: Any) -> Any:
    made = hostile_peer.rpc().Message.new_message()
    made.init(kind).from_dict(values)
    return made


def read(data: bytes) -> list[MessageHead]:
    return [read_head(frame) for frame in FrameReader(MAX_BYTES).feed(data)]


def test_the_kinds_are_those_of_the_schema() -> None:
    schema = hostile_peer.rpc().Message.schema
    numbers = {each.name: each.discriminantValue for each in schema.node.struct.fields}
    camel = {"".join(part.title() for part in kind.name.split("_")): kind.value for kind in Kind}
    assert {name[0].upper() + name[1:]: number for name, number in numbers.items()} == camel


@pytest.mark.parametrize("question", [0, 1, 7, 2**32 - 1])
@pytest.mark.parametrize("kind", ["bootstrap", "finish"])
def test_a_question_is_read_from_the_messages_that_have_one(kind: str, question: int) -> None:
    data = bytes(message(kind, questionId=question).to_bytes())
    assert read(data) == [MessageHead(Kind[kind.upper()], question)]


@pytest.mark.parametrize("count", [0, 1, 5, 3_000])
@pytest.mark.parametrize("large", [False, True])
def test_the_capabilities_of_a_call_are_counted_in_one_segment_and_in_several(count: int, large: bool) -> None:
    url = "x" * (20_000 if large else 10)
    source, credentials = {"url": url}, {"token": url}
    data = hostile_peer.call(
        9, "Session", "openRepository", on=1, capabilities=count, source=source, credentials=credentials
    )
    assert read(data) == [MessageHead(Kind.CALL, 9, count)]


@pytest.mark.parametrize("kind", ["senderPromise", "receiverHosted", "receiverAnswer"])
def test_a_capability_that_is_not_the_senders_own_is_reported(kind: str) -> None:
    data = hostile_peer.call(9, "Repository", "watch", on=1, capabilities=2, capability=kind)
    assert read(data) == [MessageHead(Kind.CALL, 9, 2, plain=False)]


@pytest.mark.parametrize("where", ["yourself", "thirdParty"])
def test_a_call_whose_results_go_elsewhere_is_reported(where: str) -> None:
    made = message("call", questionId=3)
    if where == "yourself":
        made.call.sendResultsTo.yourself = None
    else:
        made.call.sendResultsTo.thirdParty = hostile_peer.krapao_struct(
            hostile_peer.krapao().Head.schema, {"revision": "x"}
        )
    assert read(bytes(made.to_bytes())) == [MessageHead(Kind.CALL, 3, plain=False)]


def test_what_a_return_is_is_read_and_whether_a_finish_follows() -> None:
    made = message("return", answerId=4, results={"capTable": [{"senderHosted": 1}]})
    assert read(bytes(made.to_bytes())) == [MessageHead(Kind.RETURN, 4, 1)]
    made = message("return", answerId=4, canceled=None, noFinishNeeded=True)
    assert read(bytes(made.to_bytes())) == [MessageHead(Kind.RETURN, 4, no_finish=True)]
    made = message("return", answerId=4, exception={"reason": "x"})
    assert read(bytes(made.to_bytes())) == [MessageHead(Kind.RETURN, 4)]
    for which in ({"resultsSentElsewhere": None}, {"takeFromOtherQuestion": 1}):
        assert read(bytes(message("return", answerId=4, **which).to_bytes())) == [
            MessageHead(Kind.RETURN, 4, plain=False)
        ]


@given(st.lists(st.integers(1, 200), min_size=1, max_size=20))
def test_messages_are_cut_the_same_however_they_arrive(sizes: list[int]) -> None:
    sent = [hostile_peer.open_repository(n, "u" * n, token="t" * 50) for n in range(1, 6)]
    stream, reader, at, turn = b"".join(sent), FrameReader(MAX_BYTES), 0, 0
    found: list[bytes] = []
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        found += reader.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    assert found == sent
    assert reader.held_bytes == 0


def test_a_message_over_the_bound_is_refused_by_its_first_bytes() -> None:
    for announced in (struct.pack("<II", 0, 2**31), struct.pack("<IIII", 1, 2**32 - 1, 2**32 - 1, 0)):
        with pytest.raises(FramingError, match="of 1000000 at most"):
            list(FrameReader(MAX_BYTES).feed(announced))
    with pytest.raises(FramingError, match="segments"):
        list(FrameReader(MAX_BYTES).feed(struct.pack("<I", 512)))


HEADS = [
    hostile_peer.bootstrap(),
    hostile_peer.finish(3),
    hostile_peer.call(9, "Repository", "watch", on=1, capabilities=2),
    hostile_peer.open_repository(2, "x" * 9_000, token="t" * 9_000),
    hostile_peer.call(9, "Session", "openRepository", on=1, capabilities=3, source={"url": "x" * 20_000}),
]


@given(
    st.sampled_from(HEADS),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=12),
    st.integers(0, 64),
)
@example(HEADS[0], [(16, 2)], 0)
def test_damaged_messages_are_read_or_refused(data: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    damaged = bytearray(data)
    for at, value in changes:
        damaged[at % len(damaged)] = value
    try:
        found = read(bytes(damaged[: len(damaged) - cut]))
    except FramingError:
        return
    assert all(each.capabilities <= len(damaged) // 8 for each in found)


@given(st.binary(max_size=400))
def test_random_bytes_are_read_or_refused(data: bytes) -> None:
    words = (len(data) + 7) // 8
    framed = struct.pack("<II", 0, words) + data.ljust(words * 8, b"\0")
    try:
        (found,) = read(framed)
    except FramingError:
        return
    # What this reader takes for a call, Cap'n Proto takes for the same one.
    if found.kind is Kind.CALL:
        root = hostile_peer.rpc().Message.from_bytes(framed)
        try:
            asked = (root.which() == "call", root.call.questionId)
        except capnp.KjException:
            return
        assert asked == (True, found.question)
