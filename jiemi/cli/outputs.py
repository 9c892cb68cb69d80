"""The forms of a command's output and of a service's log."""

from __future__ import annotations

import enum


class Output(enum.StrEnum):
    """The form of a command's output: a table for people, JSON and YAML for programs."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


class LogFormat(enum.StrEnum):
    """The format of log lines."""

    JSON = "json"
    CONSOLE = "console"
