"""`jiemi` and `kubectl jiemi`: the commands. A command's module is imported when the command is used."""

from __future__ import annotations

import click

from jiemi import __version__
from jiemi.cli.command_flags import (
    ControlPlaneFlags,
    DoctorFlags,
    KnownHostsFlags,
    ProbeKrapaoFlags,
    ProbeMiwenFlags,
    RunAllFlags,
    StatusFlags,
    ToolsFlags,
)
from jiemi.cli.errors import INTERRUPTED, NOT_READY, shown_to_user
from jiemi.cli.flags import from_flags
from jiemi.cli.krapao_flags import KrapaoFlags
from jiemi.cli.miwen_flags import MiwenFlags


class _Commands(click.Group):
    """Commands in the order in which they are declared. Ctrl-C ends each as a shell expects."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None


def _show_completion(context: click.Context, _: click.Parameter, shell: str | None) -> None:
    if shell is None or context.resilient_parsing:
        return
    from click.shell_completion import BashComplete, FishComplete, ZshComplete

    name = context.find_root().info_name or "jiemi"
    # The variable that click looks at when it is asked for completions.
    variable = f"_{name}_COMPLETE".replace("-", "_").replace(".", "_").upper()
    made = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}[shell]
    click.echo(made(context.command, {}, name, variable).source())
    context.exit()


@click.group("jiemi", cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="jiemi %(version)s", help="Print the version.")
@click.option(
    "--show-completion",
    type=click.Choice(["bash", "zsh", "fish"]),
    callback=_show_completion,
    is_eager=True,
    expose_value=False,
    help="Print a script that makes this shell complete commands and flags.",
)
def app() -> None:
    """Keeps SOPS-encrypted files in git applied, decrypted, to a Kubernetes cluster."""


@app.command()
def crd() -> None:
    """Print the CustomResourceDefinition of Decryptors."""
    from jiemi.core.api.crd import crd_yaml

    click.echo(crd_yaml(), nl=False)


@app.command(short_help="Run Krapao, which clones, decrypts and serves.")
@from_flags
def krapao(flags: KrapaoFlags) -> None:
    """Run Krapao, the repository service: it clones, fetches, decrypts and serves."""
    from jiemi.cli.krapao import run

    with shown_to_user():
        run(flags)


@app.command(short_help="Run Miwen, which follows Decryptors and applies.")
@from_flags
def miwen(flags: MiwenFlags) -> None:
    """Run Miwen, the controller: it watches Decryptors and keeps their objects applied."""
    from jiemi.cli.miwen import run

    with shown_to_user():
        run(flags)


@app.command(short_help="Find, download or build the programs that Jiemi runs.")
@from_flags
def tools(flags: ToolsFlags) -> None:
    """Find, download or build the programs that Jiemi runs, and say where each came from."""
    from jiemi.cli.tools import run

    with shown_to_user():
        run(flags)


@app.command("control-plane", short_help="Run a Kubernetes API of your own on loopback.")
@from_flags
def control_plane(flags: ControlPlaneFlags) -> None:
    """Run a Kubernetes API of your own (real etcd and kube-apiserver) on loopback, in the foreground."""
    from jiemi.cli.control_plane import run

    with shown_to_user():
        run(flags)


@app.command("run-all", short_help="Run everything on this machine, with a demo to follow.")
@from_flags
def run_all(flags: RunAllFlags) -> None:
    """Run everything on this machine: a cluster, a demo repository, Krapao, Miwen; and follow a commit into a
    Secret."""
    from jiemi.cli.run_all.command import run

    with shown_to_user():
        run(flags)


@app.command(short_help="Show the Decryptors, and what to do about each.")
@from_flags
def status(flags: StatusFlags) -> None:
    """Show the status of the Decryptors, and what to do about each that is not in sync.

    The exit status is 3 if a Decryptor is not Ready, and 1 if the Decryptors can't be read.
    """
    from jiemi.cli.status import run

    with shown_to_user():
        if not run(flags):
            raise click.exceptions.Exit(NOT_READY)


@app.command("known-hosts", short_help="Print the keys that an ssh host shows, as lines to trust.")
@from_flags
def known_hosts(flags: KnownHostsFlags) -> None:
    """Print the keys that an ssh host shows, and their fingerprints, as lines of a known_hosts file."""
    from jiemi.cli.known_hosts import run

    with shown_to_user():
        run(flags)


@app.command(short_help="Check what Krapao needs here, and say what is missing.")
@from_flags
def doctor(flags: DoctorFlags) -> None:
    """Check what Krapao needs here: its programs, the session secret, and what confines the processes that decrypt."""
    from jiemi.cli.doctor import run

    with shown_to_user():
        run(flags)


@app.group(cls=_Commands)
def probe() -> None:
    """Health checks, for Kubernetes probes."""


@probe.command("krapao")
@from_flags
def probe_krapao(flags: ProbeKrapaoFlags) -> None:
    """Exit with status 0 if Krapao answers."""
    from jiemi.cli.probe_krapao import run

    with shown_to_user():
        run(flags)


@probe.command("miwen")
@from_flags
def probe_miwen(flags: ProbeMiwenFlags) -> None:
    """Exit with status 0 if Miwen's event loop runs."""
    from jiemi.cli.probe_miwen import run

    with shown_to_user():
        run(flags)
