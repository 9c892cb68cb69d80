"""What the tests of clones look for."""

from __future__ import annotations

from pathlib import Path

import pytest

from jiemi.core.errors import JiemiError
from jiemi.krapao.git.port import Ref
from jiemi.rpc.source import GitCredentials

NOBODY = GitCredentials()


HEAD = Ref()


def files_under(path: Path) -> list[Path]:
    return [each for each in path.rglob("*") if each.is_file()]


async def fails(reason: str, awaitable: object) -> str:
    with pytest.raises(JiemiError) as caught:
        await awaitable  # type: ignore[misc]
    assert caught.value.failure.reason == reason, str(caught.value)
    return caught.value.failure.text
