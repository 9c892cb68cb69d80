"""The commands of a page of docs/, run as a reader types them, and what the page says is to be seen.

A fenced block `sh` is a script. If the next fenced block is `text`, it is all that the script prints (blanks between
columns apart). Where a line of the script ends with `# prints nothing`, the script prints nothing.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import attrs
from support.e2e.lab import until

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NOTHING = re.compile(r"# prints nothing$", re.MULTILINE)
RUN_SECONDS = 400


@attrs.frozen
class Script:
    """One block of commands.

    Attributes:
        text: for bash.
        seen: all that it prints; None where the page does not say.
    """

    text: str
    seen: str | None


def scripts(page: Path) -> dict[str, list[Script]]:
    """The scripts of a page, by the heading (`##`) that they are under."""
    found: dict[str, list[Script]] = {}
    for section in re.split(r"^## ", page.read_text(), flags=re.MULTILINE)[1:]:
        blocks = _FENCE.findall(section)
        nexts = [*blocks[1:], ("", "")][: len(blocks)]
        found[section.partition("\n")[0]] = [
            Script(text, following if kind == "text" else "" if _NOTHING.search(text) else None)
            for (language, text), (kind, following) in zip(blocks, nexts, strict=True)
            if language == "sh"
        ]
    return found


@attrs.frozen
class Reader:
    """Who types the commands.

    Attributes:
        folder: where they are typed.
        programs: a folder with kubectl, before the search path.
        environment: beside the search path.
        typed: what is typed where a script asks for something.
    """

    folder: Path
    programs: Path
    environment: Mapping[str, str]
    typed: str = ""

    def run(self, script: Script) -> None:
        """Run a script; it must succeed, and print what the page says, at once or soon: a reader looks again."""
        if script.seen is None:
            self._typed(script)
            return
        printed: list[str] = []

        def is_seen() -> bool:
            printed[:] = [self._typed(script)]
            return _rows(printed[0]) == _rows(script.seen or "")

        until(f"the page's commands print what it says:\n{script.text}", is_seen, on_failure=lambda: printed)

    def _typed(self, script: Script) -> str:
        path = f"{self.programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script.text],
            cwd=self.folder,
            env={"PATH": path, "HOME": str(self.folder), **self.environment},
            input=self.typed,
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_SECONDS,
        )
        assert done.returncode == 0, (script.text, done.stdout, done.stderr)
        return done.stdout


def _rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]
