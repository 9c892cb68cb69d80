"""Makes hostile inputs out of good ones: plain, seeded mutation, without knowing what it mutates.

Each step is small; a few are stacked on one another. Tokens are words of the format at hand, so that what comes out is
often still nearly of that format.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

_BYTES = (0, 1, 7, 9, 10, 13, 32, 34, 39, 58, 92, 127, 128, 194, 255)
_LONGEST_REPEAT = 2_000

Step = Callable[[random.Random, bytearray, Sequence[bytes], Sequence[bytes]], None]


def _place(generator: random.Random, data: bytearray) -> int:
    return generator.randrange(len(data) + 1)


def _part(generator: random.Random, data: bytes | bytearray) -> bytes:
    first, last = sorted((generator.randrange(len(data) + 1), generator.randrange(len(data) + 1)))
    return bytes(data[first:last])


def _flip(generator: random.Random, data: bytearray, _: Sequence[bytes], __: Sequence[bytes]) -> None:
    if data:
        data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)


def _set(generator: random.Random, data: bytearray, _: Sequence[bytes], __: Sequence[bytes]) -> None:
    if data:
        data[generator.randrange(len(data))] = generator.choice(_BYTES)


def _remove(generator: random.Random, data: bytearray, _: Sequence[bytes], __: Sequence[bytes]) -> None:
    place = _place(generator, data)
    del data[place : place + generator.choice((1, 2, 8, 64))]


def _insert_token(generator: random.Random, data: bytearray, tokens: Sequence[bytes], _: Sequence[bytes]) -> None:
    place = _place(generator, data)
    data[place:place] = generator.choice(tokens)


def _replace_by_token(generator: random.Random, data: bytearray, tokens: Sequence[bytes], _: Sequence[bytes]) -> None:
    place, token = _place(generator, data), generator.choice(tokens)
    data[place : place + len(token)] = token


def _copy(generator: random.Random, data: bytearray, _: Sequence[bytes], __: Sequence[bytes]) -> None:
    place = _place(generator, data)
    data[place:place] = _part(generator, data)


def _repeat(generator: random.Random, data: bytearray, tokens: Sequence[bytes], _: Sequence[bytes]) -> None:
    place = _place(generator, data)
    unit = generator.choice((generator.choice(tokens), bytes(data[place : place + generator.randrange(1, 9)])))
    data[place:place] = unit * generator.choice((2, 16, 130, _LONGEST_REPEAT))


def _splice(generator: random.Random, data: bytearray, _: Sequence[bytes], others: Sequence[bytes]) -> None:
    other = generator.choice(others)
    data[_place(generator, data) :] = other[generator.randrange(len(other) + 1) :]


_STEPS: tuple[Step, ...] = (_flip, _set, _remove, _insert_token, _insert_token, _replace_by_token, _copy, _splice)


def mutate(
    generator: random.Random, data: bytes, *, tokens: Sequence[bytes], others: Sequence[bytes], max_bytes: int
) -> bytes:
    """Another input, at most `max_bytes` long.

    Args:
        tokens: words of the format.
        others: inputs to take parts from.
    """
    made = bytearray(data)
    for _ in range(generator.choice((1, 1, 2, 3, 6))):
        step = _repeat if generator.random() < 0.03 else generator.choice(_STEPS)
        step(generator, made, tokens, others)
        del made[max_bytes:]
    return bytes(made)
