"""The forms in which a command prints what it found."""

from __future__ import annotations

import enum


class Output(enum.StrEnum):
    """For people, or for programs."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
