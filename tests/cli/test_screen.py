"""What `jiemi run-all` shows at 80 columns, and in a file."""

from __future__ import annotations

import io
import json

from rich.console import Console

from jiemi.cli.run_all.screen import Screen

LOG = json.dumps(
    {
        "timestamp": "2026-11-28T19:15:01Z",
        "level": "error",
        "event": "not_in_sync",
        "namespace": "default",
        "name": "demo",
        "message": "no key given opens the file. The file is for: age age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8z. "
        * 2,
    }
)


def at_80_columns(*, terminal: bool = True) -> tuple[Screen, io.StringIO]:
    output = io.StringIO()
    return Screen(Console(file=output, width=80, force_terminal=terminal, color_system=None, highlight=False)), output


def test_a_log_line_is_folded_at_words_beside_its_bar() -> None:
    screen, output = at_80_columns()
    screen.log("miwen", LOG)
    lines = output.getvalue().splitlines()
    assert len(lines) > 2
    assert lines[0].startswith("  miwen │ ")
    assert all(line.startswith("        │ ") for line in lines[1:])
    assert max(map(len, lines)) <= 80
    shown = " ".join(line[len("  miwen │ ") :] for line in lines)
    assert shown.endswith("age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8z.")
    assert "no key given opens the file. The file is for:" in shown


def test_a_word_that_is_longer_than_a_line_is_not_lost() -> None:
    screen, output = at_80_columns()
    screen.log("krapao", "x" * 200)
    assert output.getvalue().count("x") == 200
    assert max(map(len, output.getvalue().splitlines())) <= 80


def test_in_a_file_no_line_is_folded() -> None:
    screen, output = at_80_columns(terminal=False)
    screen.log("miwen", LOG)
    with screen.step("Krapao") as done:
        done("serves on a unix socket")
    lines = output.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("✓ Krapao: serves on a unix socket (")


def test_a_step_is_one_line_once_it_is_done_and_none_where_it_fails() -> None:
    screen, output = at_80_columns()
    with screen.step("tools", spinner=False) as done:
        done("sops 3.13.3")
    try:
        with screen.step("cluster", spinner=False):
            raise RuntimeError
    except RuntimeError:
        pass
    [line] = output.getvalue().splitlines()
    assert line.startswith("✓ tools: sops 3.13.3 (0.")
