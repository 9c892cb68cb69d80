"""`jiemi known-hosts` prints the keys that an ssh host shows, as lines to trust."""

from __future__ import annotations

import click

from jiemi.cli.command_flags import KnownHostsFlags
from jiemi.cli.errors import CommandError
from jiemi.core.errors import JiemiError
from jiemi.core.urls import Location, Scheme, parse_url
from jiemi.krapao.git.host_keys import known_hosts_lines


def run(flags: KnownHostsFlags) -> None:
    """Print a line for each key, with its fingerprint as a comment.

    Raises:
        CommandError: there is no such host, or what answers there has no key.
    """
    location = _location(flags.host)
    try:
        lines = known_hosts_lines(location, flags.timeout_seconds)
    except JiemiError as error:
        raise CommandError(error.failure.text) from error
    if not lines:
        raise CommandError(f"{location.authority} shows no key of a type that Krapao knows")
    for line in lines:
        click.echo(f"# {line.kind} {line.fingerprint}")
        click.echo(line.text)
    click.echo(
        "Anybody between here and the host could have shown these keys. Compare the fingerprints with those that the "
        "host publishes; then put the lines into credentials.knownHosts, or into Krapao's --ssh-known-hosts file.",
        err=True,
    )


def _location(text: str) -> Location:
    """Raises CommandError for what is no host, host with a port, or URL of ssh."""
    try:
        location = parse_url(text if "://" in text or "@" in text else f"ssh://{text}/repository")
    except JiemiError as error:
        raise CommandError("give HOST, HOST:PORT, or the repository's ssh URL") from error
    if location.scheme is not Scheme.SSH:
        raise CommandError(f"a {location.scheme.value}:// URL has no host keys; give HOST, HOST:PORT, or an ssh URL")
    return location
