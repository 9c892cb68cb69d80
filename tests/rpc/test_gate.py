"""What a connection's calls count against, and who is cut off: the gate alone, on streams in memory."""

from __future__ import annotations

import pytest
import trio
from rpc import hostile_peer as peer
from trio.testing import memory_stream_pair

from jiemi.rpc.contract import MEBIBYTE
from jiemi.rpc.gate import Gate, GateError
from jiemi.rpc.limits import CALL_BYTES, Account, Limits


async def _cut_off(limits: Limits, account: Account, says: bytes) -> str:
    """Why a peer that has a session and says this is cut off."""
    theirs, outer = memory_stream_pair()
    inner, _kj = memory_stream_pair()
    gate = Gate(outer, inner, limits, account, max_answer_bytes=MEBIBYTE)
    gate.open()
    await theirs.send_all(says)
    with trio.fail_after(5), pytest.raises(GateError) as caught:
        await gate.run()
    return str(caught.value)


def _heads(count: int) -> bytes:
    return b"".join(peer.head(2 + number, on=1) for number in range(count))


@pytest.mark.parametrize("whose", ["host", "process"])
async def test_a_call_for_which_the_host_or_the_process_has_no_room_ends_the_connection(whose: str) -> None:
    process = Account(10 * CALL_BYTES if whose == "process" else 1_000 * CALL_BYTES)
    host = Account(10 * CALL_BYTES if whose == "host" else 1_000 * CALL_BYTES, process)
    # Another connection of the same host has some of it.
    other = Account(1_000 * CALL_BYTES, host)
    assert other.charge(6 * CALL_BYTES)
    account = Account(1_000 * CALL_BYTES, host)
    assert "the peer's host, or all peers together" in await _cut_off(Limits(), account, _heads(20))
    assert (account.used, host.used, process.used) == (0, 6 * CALL_BYTES, 6 * CALL_BYTES), "what it had is given back"


async def test_one_connection_has_a_bound_for_the_number_of_its_calls_and_one_for_their_bytes() -> None:
    account = Account(1_000 * MEBIBYTE)
    assert "5 calls are not answered" in await _cut_off(Limits(calls=5), account, _heads(6))
    large = peer.open_repository(2, token="t" * 1_000) + peer.open_repository(3, token="t" * 1_000)
    assert "hold more than 2000 bytes" in await _cut_off(Limits(call_bytes=2_000), account, large)
    assert account.used == 0


async def test_a_question_counts_until_it_is_answered_and_finished_both() -> None:
    account = Account(1_000 * MEBIBYTE)
    said = _heads(5) + b"".join(peer.finish(2 + number) for number in range(5)) + peer.head(9, on=1)
    assert "5 calls are not answered" in await _cut_off(Limits(calls=5), account, said)
