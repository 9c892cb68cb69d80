"""Tokens are fetched in time, by one task for all, and never quoted."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.miwen.kubernetes.tokens import TOKEN_FILE_SECONDS, Token, Tokens, token_file

CANARY = "canary-5f1e9c"
AGAIN_SECONDS = 10.0


async def revealed(tokens: Tokens) -> str | None:
    token = await tokens.get()
    return token.reveal() if token is not None else None


@pytest.mark.parametrize("token", ["", " \n", "two\nlines", "é", "tab\there"])
async def test_a_token_that_no_header_can_hold_is_not_quoted(tmp_path: Path, token: str) -> None:
    (tmp_path / "token").write_text(CANARY + token if token.strip() else token)
    with pytest.raises(JiemiError) as caught:
        await Tokens(token_file(tmp_path / "token")).get()
    assert caught.value.failure.reason == "ClusterAccessDenied"
    assert CANARY not in str(caught.value)


async def test_a_token_file_is_read_again_each_minute(tmp_path: Path, mock_clock: trio.testing.MockClock) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    tokens = Tokens(token_file(file))
    assert await revealed(tokens) == "one"
    file.write_text("two\n")
    mock_clock.jump(TOKEN_FILE_SECONDS - 1)
    assert await revealed(tokens) == "one"
    mock_clock.jump(1)
    assert await revealed(tokens) == "two"
    file.unlink()
    mock_clock.jump(TOKEN_FILE_SECONDS)
    with pytest.raises(JiemiError, match="can't be read"):
        await tokens.get()


async def test_a_refused_token_is_fetched_again_by_one_and_not_too_often(
    autojump_clock: trio.testing.MockClock,
) -> None:
    fetched = 0

    async def fetch() -> Token:
        nonlocal fetched
        fetched += 1
        await trio.sleep(1)
        return Token(SensitiveText(f"token{fetched}"))

    tokens = Tokens(fetch, again_seconds=AGAIN_SECONDS)
    first = await tokens.get()
    assert await tokens.get(refused=first) == first
    await trio.sleep(AGAIN_SECONDS)
    got: list[SensitiveText | None] = []

    async def get() -> None:
        got.append(await tokens.get(refused=first))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(get)
    assert got == [SensitiveText("token2")] * 20
    assert fetched == 2


async def test_where_requests_carry_no_token_none_is_fetched() -> None:
    assert await Tokens(None).get() is None
