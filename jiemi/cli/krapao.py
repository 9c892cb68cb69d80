"""`jiemi krapao`: build the settings, open the service, serve."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import structlog
import trio

from jiemi.cli.errors import CommandError
from jiemi.cli.running import forbid_core_dumps, run_until_signalled
from jiemi.krapao.service import open_service
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.address import parse_address
from jiemi.rpc.bridge import open_bridge
from jiemi.rpc.server import serve
from jiemi.rpc.sockets import ListenError


def run(
    *,
    listen: str,
    state_dir: Path,
    runtime_dir: Path,
    sops: Path | None,
    gpg: Path | None,
    allow_file_urls: bool,
    ssh_known_hosts: Path | None,
) -> None:
    """Run Krapao until it is signalled.

    Raises:
        CommandError: a flag can't be used.
    """
    try:
        address = parse_address(listen)
    except ValueError as error:
        raise CommandError(f"--listen: {error}") from error
    try:
        known_hosts = ssh_known_hosts.read_text() if ssh_known_hosts is not None else ""
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"--ssh-known-hosts {ssh_known_hosts} can't be read: {error}") from error
    settings = KrapaoSettings(
        state_dir=state_dir,
        runtime_dir=runtime_dir,
        sops=sops,
        gpg=gpg,
        programs_path=os.environ.get("PATH", os.defpath),
        allow_file_urls=allow_file_urls,
        ssh_known_hosts=known_hosts,
    )

    async def main() -> None:
        async with open_bridge() as bridge, open_service(settings) as krapao, trio.open_nursery() as nursery:
            bound = await nursery.start(partial(serve, krapao, address, bridge=bridge))
            structlog.get_logger("jiemi.krapao").info("serving", address=str(bound))

    forbid_core_dumps()
    try:
        run_until_signalled(main)
    except* ListenError as group:
        raise CommandError(f"--listen: {_leaf(group)}") from None


def _leaf(error: BaseException) -> BaseException:
    return _leaf(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
