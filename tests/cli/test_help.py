"""What `--help` shows in a terminal of 80 columns."""

from __future__ import annotations

import re
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from jiemi.cli.main import app

PROGRAM: Any = typer.main.get_command(app)
COMMANDS = [(name,) for name in PROGRAM.commands] + [("probe", "krapao"), ("probe", "miwen")]


def shown(*command: str) -> str:
    found = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"})
    assert found.exit_code == 0
    return found.output


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_flag_and_variable_is_shown_in_full(command: tuple[str, ...]) -> None:
    text = shown(*command)
    assert max(map(len, text.splitlines())) <= 80
    found = PROGRAM
    for name in command:
        found = found.commands[name]
    for parameter in found.params:
        if parameter.param_type_name != "option":
            continue
        for flag in parameter.opts:
            assert re.search(rf"(^|[ ,]){flag}\b", text, re.MULTILINE), flag
        if parameter.envvar is not None:
            assert str(parameter.envvar) in text


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_switch_has_a_second_name_and_each_default_says_something(command: tuple[str, ...]) -> None:
    found = typer.main.get_command(app)
    for name in command:
        found = found.commands[name]  # type: ignore[attr-defined]
    assert [flag for parameter in found.params for flag in parameter.secondary_opts] == []
    text = shown(*command)
    assert re.findall(r"default:\s+(?:None|False|dynamic|PosixPath.*)", text) == []


def test_what_a_command_does_is_not_cut() -> None:
    text = shown()
    assert "run-all" in text
    assert "..." not in text.replace("[ARGS]...", "")
    assert "…" not in text
