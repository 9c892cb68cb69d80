"""What other tests see of processes, their command lines and environments, belongs together."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support.canaries.environments import look_at

_LOOKS = 30_000
_PROGRAM = """
export IT_IS=$(($1 + 1))
exec sh "$0" "$IT_IS"
"""
"""It becomes the same program with the next number, for ever."""


def test_an_environment_is_that_of_the_program_it_is_seen_with(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text(_PROGRAM)
    with subprocess.Popen(["sh", program, "0"], env={"PATH": "/usr/bin:/bin", "IT_IS": "0"}) as process:
        try:
            looks = [look_at(Path(f"/proc/{process.pid}")) for _ in range(_LOOKS)]
        finally:
            process.kill()
    seen = [each for each in looks if each is not None and each.environment]
    assert len(seen) > _LOOKS / 10
    for each in seen:
        number = each.command.split(b"\0")[2]
        assert b"IT_IS=" + number + b"\0" in each.environment
