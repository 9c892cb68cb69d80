"""kubectl's own reader of manifests as a program, built once (tests/data/kubectl-yaml), and questions to it."""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from controlplane_fixtures import tool_settings

from jiemi.controlplane.build import build_module
from jiemi.controlplane.cache import ToolCache
from jiemi.controlplane.pins import GO_VERSION

SOURCE = Path(__file__).parent / "data" / "kubectl-yaml"
NAME = "kubectl-yaml"
ANSWER_SECONDS = 120


async def kubectl_yaml_program() -> Path:
    """The program, from the cache of tools or built into it: some 20 s, and the download of four small modules."""
    settings = tool_settings()
    files = {path.name: path.read_bytes() for path in sorted(SOURCE.iterdir())}
    digest = hashlib.sha256(repr((files, GO_VERSION)).encode()).hexdigest()[:16]
    cache = ToolCache(settings.cache_dir)
    if (found := cache.find(NAME, digest)) is not None:
        return found
    async with cache.making(lambda: None) as making:
        if (found := cache.find(NAME, digest)) is not None:
            return found
        program = await build_module(
            files, ".", settings, making, _tell, name=NAME, ldflags="-s -w", what=f"building {NAME}"
        )
        return await making.keep(program, NAME, digest)


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def ask_kubectl(program: Path, inputs: Sequence[bytes]) -> list[dict[str, Any]]:
    """What kubectl makes of each: `documents` or `error`."""
    data = b"".join(struct.pack(">I", len(each)) + each for each in inputs)
    finished = subprocess.run([program], input=data, capture_output=True, check=True, timeout=ANSWER_SECONDS)
    answers = [json.loads(line) for line in finished.stdout.splitlines()]
    assert len(answers) == len(inputs)
    return answers
