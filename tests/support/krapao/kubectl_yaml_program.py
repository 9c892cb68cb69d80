"""Questions to kubectl's own reader of manifests (tests/data/kubectl-yaml)."""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.kubernetes.go_programs import go_program

ANSWER_SECONDS = 120


async def kubectl_yaml_program() -> Path:
    """The program; its build takes some 20 s, and the download of four small modules."""
    return await go_program("kubectl-yaml")


def ask_kubectl(program: Path, inputs: Sequence[bytes]) -> list[dict[str, Any]]:
    """What kubectl makes of each: `documents` or `error`."""
    data = b"".join(struct.pack(">I", len(each)) + each for each in inputs)
    finished = subprocess.run([program], input=data, capture_output=True, check=True, timeout=ANSWER_SECONDS)
    answers = [json.loads(line) for line in finished.stdout.splitlines()]
    assert len(answers) == len(inputs)
    return answers
