"""Writing to hosts that may have closed."""

from __future__ import annotations

import pytest

from jiemi.krapao.git.wire import write_though_closed


def test_a_host_that_takes_too_long_to_be_written_to_is_not_taken_for_one_that_closed() -> None:
    def send(data: bytes) -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        write_though_closed(send)(b"x")
