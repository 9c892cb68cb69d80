"""The demo itself: a repository with an encrypted Secret, a Decryptor that follows it, and what may be tried then."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import attrs

from jiemi.cli.run_all.objects import apply, demo_decryptor, key_secret, until_synced
from jiemi.cli.run_all.screen import Screen
from jiemi.cli.run_all.what_next import make_commands, print_what_next, show_pushes
from jiemi.controlplane.arguments import LOOPBACK
from jiemi.demo.content import NAME, NAMESPACE, AgeKeyPair, DemoRepository, make_age_key, make_repository
from jiemi.demo.git_server import serve_git
from jiemi.miwen.kubernetes.port import Kubernetes


@attrs.frozen
class Demo:
    """What is followed.

    Attributes:
        repository: with the encrypted file.
        key: that opens it.
        folder: in memory, with the clone to work in.
        sops: the program.
    """

    repository: DemoRepository
    key: AgeKeyPair
    folder: Path
    sops: Path


async def make_demo(stack: AsyncExitStack, screen: Screen, folder: Path, *, sops: Path, host: str = LOOPBACK) -> Demo:
    """Make the repository, and serve it until the stack ends.

    Args:
        host: address that it is served on.

    Raises:
        DemoError: it can't be made.
    """
    with screen.step("demo repository") as done:
        key = make_age_key(folder / "age-key.txt")
        root = folder / "repositories"
        root.mkdir()
        server = await stack.enter_async_context(serve_git(root, host=host))
        repository = await make_repository(server, folder, key, sops=sops)
        done(f"{repository.url}, for {key.recipient[:12]}…")
    return Demo(repository, key, folder, sops)


async def follow(
    screen: Screen, kubernetes: Kubernetes, demo: Demo, *, timeout_seconds: float, interval_seconds: float | None = None
) -> None:
    """Apply the Decryptor, and wait for its Secret.

    Args:
        timeout_seconds: the longest wait.
        interval_seconds: the Decryptor's own interval; None: Miwen's.

    Raises:
        CommandError: the Secret does not come in time.
    """
    with screen.step("Decryptor") as done:
        await apply(kubernetes, key_secret(demo.key))
        await apply(kubernetes, demo_decryptor(demo.repository, interval_seconds=interval_seconds))
        done(f"{NAMESPACE}/{NAME}")
    with screen.step("Secret") as done:
        await until_synced(kubernetes, timeout_seconds, screen)
        done(f"{NAMESPACE}/{NAME} holds what the repository says")


async def stay(
    screen: Screen, kubernetes: Kubernetes, demo: Demo, *, kubeconfig: Path, end: str, enter: Sequence[str] = ()
) -> None:
    """Say what to type, and show for each push whether it was followed, until cancelled.

    Args:
        kubeconfig: for the user's commands.
        end: a sentence about what Ctrl-C does.
        enter: the command by which another command runs where the cluster is reached; empty: it is reached from here.
    """
    commands = make_commands(
        demo.folder,
        kubeconfig=kubeconfig,
        age_key=demo.key.file,
        clone=demo.repository.clone,
        sops=demo.sops,
        enter=enter,
    )
    print_what_next(screen.console, commands, end)
    await show_pushes(kubernetes, demo.repository, screen)
