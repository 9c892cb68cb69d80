"""`jiemi probe krapao`: whether Krapao answers, for Kubernetes probes."""

from __future__ import annotations

import trio

from jiemi.cli.command_flags import ProbeKrapaoFlags
from jiemi.cli.errors import CommandError
from jiemi.cli.session_secrets import secret_of_file
from jiemi.cli.tls_identities import identity_of_folder
from jiemi.core.errors import JiemiError
from jiemi.rpc.address import parse_address
from jiemi.rpc.bridge import open_bridge
from jiemi.rpc.channel import ClientTls
from jiemi.rpc.client import ClientSettings, connect
from jiemi.rpc.source import GitCredentials, Source


def run(flags: ProbeKrapaoFlags) -> None:
    """Ask Krapao something that it answers without asking any host: the head of a URL that no host can have.

    Raises:
        CommandError: nothing answers there, or not as Krapao does.
    """
    address, timeout_seconds = flags.address, flags.timeout_seconds
    secret = secret_of_file(flags.session_secret_file) if flags.session_secret_file is not None else None
    tls = ClientTls(identity_of_folder(flags.tls_dir)) if flags.tls_dir is not None else None

    async def ask() -> None:
        settings = ClientSettings(connect_timeout_seconds=timeout_seconds, wait_for_connection_seconds=timeout_seconds)
        with trio.fail_after(timeout_seconds):
            async with (
                open_bridge() as bridge,
                connect(parse_address(address), bridge=bridge, settings=settings, secret=secret, tls=tls) as krapao,
                krapao.open(Source("probe:"), GitCredentials()) as repository,
            ):
                await repository.head(max_age_seconds=0)

    try:
        trio.run(ask)
    except JiemiError as error:
        if error.failure.reason in ("InvalidUrl", "SchemeNotAllowed"):
            return
        raise CommandError(f"Krapao at {address} is not healthy: {error}") from error
    except trio.TooSlowError as error:
        raise CommandError(f"Krapao at {address} did not answer within {timeout_seconds:g} s") from error
