"""A class of flags becomes the parameters of a command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import attrs
import click
import pytest
from click.testing import CliRunner

from jiemi.cli.durations import parse_duration
from jiemi.cli.flags import Argument, Flag, from_flags
from jiemi.cli.krapao import krapao_settings
from jiemi.cli.krapao_flags import KrapaoFlags
from jiemi.cli.main import app
from jiemi.cli.miwen import miwen_settings
from jiemi.cli.miwen_flags import MiwenFlags
from jiemi.cli.outputs import Output
from jiemi.krapao.operator_environment import AmbientBounds
from jiemi.krapao.settings import KrapaoSettings
from jiemi.miwen.service import MiwenSettings


@attrs.frozen(kw_only=True)
class Flags:
    state_dir: Annotated[Path, Flag(help="A folder.", envvar="JIEMI_TEST_STATE_DIR")]
    addresses: Annotated[list[str], Flag("--address", help="May be repeated.")] = attrs.field(factory=list)
    wait_seconds: Annotated[float, Flag("--wait", parser=parse_duration, help="A time.")] = "3m"  # type: ignore[assignment]  # parsed
    is_open: Annotated[bool, Flag("--open", help="A switch.")] = False
    max_holders: Annotated[int, Flag(min=1, help="A number.")] = 16
    output: Annotated[Output, Flag(short="-o", help="One of several.")] = Output.TABLE
    file: Annotated[Path | None, Flag(help="A file.")] = None
    names: Annotated[list[str], Argument(help="What is meant.")] = attrs.field(factory=list)


def given(*arguments: str, **environment: str) -> Flags:
    """What a command gets. Raises AssertionError with the output where it does not run."""
    seen: list[Flags] = []

    def command(flags: Flags) -> None:
        """Do something."""
        seen.append(flags)

    found = CliRunner().invoke(click.command(from_flags(command)), arguments, env=environment)
    assert found.exit_code == 0, found.output
    return seen[0]


def test_a_flag_that_is_not_given_has_the_fields_default() -> None:
    assert given("--state-dir", "/a") == Flags(state_dir=Path("/a"), wait_seconds=180.0)


def test_a_flag_is_called_as_its_field_or_as_it_says() -> None:
    flags = given("--state-dir=/a", "--address=b", "--address=c", "--wait=5s", "--open", "--max-holders=3", "--file=d")
    expected = Flags(
        state_dir=Path("/a"), addresses=["b", "c"], wait_seconds=5.0, is_open=True, max_holders=3, file=Path("d")
    )
    assert flags == expected


def test_what_is_no_flag_is_an_argument() -> None:
    flags = given("one", "--state-dir=/a", "two")
    assert flags == Flags(state_dir=Path("/a"), wait_seconds=180.0, names=["one", "two"])


@pytest.mark.parametrize("flag", ["--output=json", "-ojson"])
def test_a_member_of_an_enumeration_is_given_by_its_value_and_a_flag_may_have_a_short_name(flag: str) -> None:
    assert given("--state-dir=/a", flag).output is Output.JSON


def test_a_variable_stands_in_for_a_flag() -> None:
    assert given(JIEMI_TEST_STATE_DIR="/b").state_dir == Path("/b")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "--state-dir"),
        (["--state-dir=/a", "--max-holders=0"], "--max-holders"),
        (["--state-dir=/a", "--max-holders=many"], "--max-holders"),
        (["--state-dir=/a", "--wait=soon"], "--wait"),
        (["--state-dir=/a", "--output=JSON"], "--output"),
        (["--state-dir=/a", "--open=yes"], "--open"),
        (["--state-dir=/a", "--adress=b"], "--adress"),
    ],
)
def test_a_flag_that_can_not_be_read_is_named(arguments: list[str], named: str) -> None:
    with pytest.raises(AssertionError, match=named):
        given(*arguments)


def test_a_list_in_a_variable_is_separated_by_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[MiwenFlags] = []
    monkeypatch.setattr("jiemi.cli.miwen.run", seen.append)
    assert CliRunner().invoke(app, ["miwen"], env={"JIEMI_KRAPAO": "unix:/a unix:/b"}).exit_code == 0
    assert seen[0].krapao == ["unix:/a", "unix:/b"]


def test_without_flags_krapao_works_as_its_settings_do_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VAULT_ADDR", raising=False)
    found = krapao_settings(KrapaoFlags(state_dir=Path("/a")), AmbientBounds())
    usual = KrapaoSettings(state_dir=Path("/a"))
    # The search path and what holders get are the environment's, and a sops may be in the cache of tools.
    assert attrs.evolve(found, sops=None, programs_path=usual.programs_path, operator=usual.operator) == usual


def test_without_flags_miwen_works_as_its_settings_do_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[MiwenFlags] = []
    monkeypatch.setattr("jiemi.cli.miwen.run", seen.append)
    assert CliRunner().invoke(app, ["miwen", "--krapao", "unix:/a"], env={"KUBECONFIG": "/b"}).exit_code == 0
    found, usual = miwen_settings(seen[0]), MiwenSettings()
    assert attrs.evolve(found, instance=usual.instance) == usual


@pytest.mark.parametrize("module", ["main", "probe_miwen"])
def test_what_is_heavy_is_not_imported_for_the_help_or_the_probe_of_miwen(module: str) -> None:
    script = f"import sys, jiemi.cli.{module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    heavy = {
        "asyncio",
        "capnp",
        "cryptography",
        "dulwich",
        "kubernetes",
        "paramiko",
        "rich",
        "ruamel",
        "structlog",
        "trio",
    }
    assert heavy & set(done.stdout.split()) == set()
