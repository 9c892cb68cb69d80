"""The entry points: a service's packages are not installed, or Ctrl-C comes."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from jiemi.cli.errors import INTERRUPTED
from jiemi.cli.main import app

_WITHOUT = """
import importlib.abc, sys

missing = sys.argv.pop(1)

class Without(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None

sys.meta_path.insert(0, Without())
from jiemi.cli import entry
entry.main()
"""


def _run(missing: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _WITHOUT, missing, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [("status", "kubernetes", "miwen"), ("krapao --state-dir /nonexistent", "dulwich", "krapao")],
)
def test_a_command_whose_packages_are_not_installed_names_the_extra(command: str, package: str, extra: str) -> None:
    done = _run(package, *command.split())
    assert done.returncode == 1
    assert done.stderr == f"error: this command is not installed here: pip install 'jiemi[{extra}]' ({package})\n"


def test_the_other_commands_work_without_them() -> None:
    done = _run("kubernetes", "krapao", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--state-dir" in done.stdout


def test_another_missing_module_is_a_fault_and_stays_a_traceback() -> None:
    done = _run("ruamel", "crd")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "pip install" not in done.stderr


def test_ctrl_c_is_what_a_shell_says_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("jiemi.core.api.crd.crd_yaml", interrupted)
    found = CliRunner().invoke(app, ["crd"])
    assert (found.exit_code, found.output) == (INTERRUPTED, "")
