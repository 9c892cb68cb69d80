"""A service's log line (JSON) for a person at a terminal: the time of day, the level, what happened, and the fields.

    19:15:01 in_sync default/demo, id 2, revision a888f02e1111, file secret.enc.yaml
    19:16:44 error not_in_sync default/demo, reason KeyMissing, message no key given opens the file. …

Only what is of no use at that moment is left out: the date, the level of usual lines, the trace, and the later part of
a revision. Another kind of line, such as a traceback, is shown as it is.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator
from typing import Any

from rich.text import Text

from jiemi.cli.console import printable
from jiemi.core.decisions.status import SHORT_REVISION

_LEFT_OUT = frozenset({"logger", "trace_id"})
_LEVEL_STYLES = {"warning": "yellow", "error": "red", "critical": "bold red"}
_REVISION = re.compile(r"\b[0-9a-f]{40}(?:[0-9a-f]{24})?\b")


def for_terminal(line: str) -> Text:
    """The line as it is shown, without a line feed."""
    try:
        fields = json.loads(line)
    except ValueError:
        fields = None
    if not isinstance(fields, dict) or not isinstance(fields.get("event"), str):
        return Text(printable(line))
    fields = {name: value for name, value in fields.items() if name not in _LEFT_OUT}
    level = str(fields.pop("level", "info"))
    style = _LEVEL_STYLES.get(level, "")
    event = printable(fields.pop("event"))
    text = Text.assemble((f"{_time_of_day(fields.pop('timestamp', ''))} ", "dim"))
    if style:
        text.append(f"{level} ", style)
    text.append(event, style or "bold")
    details = printable(", ".join(_details(fields)))
    return text.append(f" {_REVISION.sub(lambda found: found[0][:SHORT_REVISION], details)}" if details else "")


def _time_of_day(timestamp: Any) -> str:
    try:
        return datetime.datetime.fromisoformat(timestamp).astimezone().strftime("%H:%M:%S")
    except (ValueError, TypeError):
        return "--:--:--"


def _details(fields: dict[str, Any]) -> Iterator[str]:
    if {"namespace", "name"} <= fields.keys():
        yield f"{fields.pop('namespace')}/{fields.pop('name')}"
    for name, value in fields.items():
        yield f"{name.replace('_', ' ')} {value if isinstance(value, str) else json.dumps(value)}"
