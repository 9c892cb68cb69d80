"""What `--help` shows in a terminal of 80 columns."""

from __future__ import annotations

import re

import click
import pytest
from click.testing import CliRunner

from jiemi.cli.main import app

COMMANDS = [(name,) for name in app.commands] + [("probe", "krapao"), ("probe", "miwen")]


def command_of(names: tuple[str, ...]) -> click.Command:
    found: click.Command = app
    for name in names:
        assert isinstance(found, click.Group)
        found = found.commands[name]
    return found


def shown(*command: str) -> str:
    found = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"})
    assert found.exit_code == 0
    return found.output


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_flag_and_variable_is_shown_in_full(command: tuple[str, ...]) -> None:
    text = shown(*command)
    assert max(map(len, text.splitlines())) <= 80
    options = [each for each in command_of(command).params if isinstance(each, click.Option)]
    assert options or command in (("crd",), ("probe",))
    for parameter in options:
        for flag in parameter.opts:
            assert re.search(rf"(^|[ ,]){flag}\b", text, re.MULTILINE), flag
        if parameter.envvar is not None:
            assert str(parameter.envvar) in text


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_switch_has_a_second_name_and_each_default_says_something(command: tuple[str, ...]) -> None:
    assert [flag for parameter in command_of(command).params for flag in parameter.secondary_opts] == []
    text = shown(*command)
    assert re.findall(r"default:\s+(?:None|False|dynamic|PosixPath.*|\"\"|[A-Z]+\]).*", text) == []


def test_commands_are_in_the_order_in_which_one_needs_them() -> None:
    listed = re.findall(r"^  ([a-z][a-z-]*) ", shown().partition("Commands:")[2], re.MULTILINE)
    assert listed == [
        *("crd", "krapao", "miwen", "tools", "control-plane", "run-all", "status", "known-hosts", "doctor", "probe"),
    ]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete_commands_and_flags(shell: str) -> None:
    script = CliRunner().invoke(app, ["--show-completion", shell])
    assert script.exit_code == 0
    variable = f"_JIEMI_COMPLETE={shell}_complete"
    assert variable in script.stdout
    words = {"COMP_WORDS": "jiemi krapao --tls", "COMP_CWORD": "--tls" if shell == "fish" else "2"}
    found = CliRunner().invoke(app, env={**words, "_JIEMI_COMPLETE": f"{shell}_complete"}, prog_name="jiemi")
    assert "--tls-dir" in found.stdout
    assert "--listen" not in found.stdout


def test_what_a_command_does_is_not_cut() -> None:
    text = shown()
    assert "run-all" in text
    assert "..." not in text.replace("[ARGS]...", "")
    assert "…" not in text
