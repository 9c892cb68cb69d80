"""What `jiemi run-all` suggests to type once everything runs, and how it shows that a push was followed."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

import trio
from rich.console import Console
from rich.text import Text

from jiemi.cli.programs import own_command
from jiemi.cli.run_all.screen import Screen
from jiemi.core.api.decryptor import Decryptor, read_decryptor
from jiemi.core.decisions.status import SHORT_REVISION
from jiemi.core.errors import JiemiError
from jiemi.demo.content import FILE, NAME, NAMESPACE, DemoRepository
from jiemi.miwen.kubernetes.port import Kubernetes

_LOOK_SECONDS = 0.2
_GREETING = '["stringData"]["greeting"]'


def make_commands(
    folder: Path, *, kubeconfig: Path, age_key: Path, clone: Path, sops: Path, enter: Sequence[str] = ()
) -> tuple[tuple[str, str], ...]:
    """The commands to type, each with its purpose. The first line sets up a shell for the others, wherever that is.

    Args:
        folder: gets a file that a shell reads, and a folder of programs for its PATH. Neither holds a secret.
        enter: the command by which another command runs where the cluster is reached; empty: it is reached from here.
    """
    programs = folder / "bin"
    programs.mkdir()
    (programs / "sops").symlink_to(sops.absolute())
    wrapped = {"jiemi": own_command()}
    if enter:
        wrapped |= {name: [found] for name in ("git", "kubectl") if (found := shutil.which(name)) is not None}
    for name, command in wrapped.items():
        (programs / name).write_text(f'#!/bin/sh\nexec {shlex.join([*enter, *command])} "$@"\n')
        (programs / name).chmod(0o755)
    shell = folder / "shell"
    shell.write_text(
        f"export KUBECONFIG={shlex.quote(str(kubeconfig))}\n"
        f"export SOPS_AGE_KEY_FILE={shlex.quote(str(age_key))}\n"
        f"export PATH={shlex.quote(str(programs))}:$PATH\n"
        f"cd {shlex.quote(str(clone))}\n"
    )
    kubectl = shutil.which("kubectl") is not None
    return (
        (f"In another terminal{', as root' if enter else ''} (sh, bash or zsh):", ""),
        ("", f". {shlex.quote(str(shell))}"),
        ("Look at it:", ""),
        ("", "jiemi status"),
        ("", f"kubectl get secret {NAME} -o jsonpath='{{.data.greeting}}' | base64 -d; echo")
        if kubectl
        else ("(kubectl, which is not on the PATH here, would show the Secret.)", ""),
        ("Push a change, and see it follow:", ""),
        ("", f"""sops set {FILE} '{_GREETING}' '"Hello again"'"""),
        ("", "git commit -qam 'Greet again' && git push -q"),
    )


def print_what_next(console: Console, commands: tuple[tuple[str, str], ...], end: str) -> None:
    """Print the commands, none of them folded: they are there to be copied."""
    console.print()
    for heading, command in commands:
        console.print(Text(heading, "bold") if heading else Text(f"  {command}", "cyan"), soft_wrap=True)
    console.print(Text(end, "bold"))
    console.print()


async def show_pushes(kubernetes: Kubernetes, repository: DemoRepository, screen: Screen) -> None:
    """Show for each push whether it was followed, until cancelled."""
    followed = repository.head()
    while True:
        await trio.sleep(_LOOK_SECONDS)
        head = repository.head()
        if head not in ("", followed):
            await _show_push(kubernetes, repository, screen, followed, head)
            followed = head


async def _show_push(
    kubernetes: Kubernetes, repository: DemoRepository, screen: Screen, before: str, head: str
) -> None:
    """Wait until the demo's Decryptor says what became of a commit, or there is another. Has no deadline: Miwen has."""
    began = trio.current_time()
    shown = head[:SHORT_REVISION]
    if not await repository.changes(before, head):
        screen.say(f"{shown} changes nothing in {FILE}, so there is nothing to follow")
        return
    while repository.head() == head:
        decryptor = await _demo(kubernetes)
        status = decryptor.status if decryptor is not None else None
        ready = decryptor.ready if decryptor is not None else None
        if (
            status is not None
            and ready is not None
            and head in (status.current.revision, status.last_attempted_revision)
        ):
            if ready.status == "True" and status.current.revision == head:
                screen.good(f"follows {shown} after {trio.current_time() - began:.1f} s")
                return
            if ready.status == "False":
                screen.failed(f"{shown} is not followed: {ready.message}")
                return
        await trio.sleep(_LOOK_SECONDS)


async def _demo(kubernetes: Kubernetes) -> Decryptor | None:
    """The demo's Decryptor; None where the cluster does not say now."""
    try:
        found = await kubernetes.get_decryptor(NAMESPACE, NAME)
    except JiemiError:
        return None
    return read_decryptor(found) if found is not None else None
