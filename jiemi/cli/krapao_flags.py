"""The flags of `jiemi krapao`. `jiemi.cli.krapao` uses them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import attrs
import typer

from jiemi.cli.flags import Gpg, LogFormatFlag, MetricsListen, Sops
from jiemi.cli.outputs import LogFormat


@attrs.frozen(kw_only=True)
class KrapaoFlags:
    """In the order of `--help`."""

    state_dir: Annotated[Path, typer.Option(help="Where clones are kept (ciphertext only).", envvar="JIEMI_STATE_DIR")]
    listen: Annotated[str, typer.Option(help="unix:/path or tcp:host:port to serve on.", envvar="JIEMI_LISTEN")] = (
        "tcp:127.0.0.1:50208"
    )
    session_secret_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the secret that Miwen has to show, one a line; needed on TCP. It is read at each session.",
            envvar="JIEMI_SESSION_SECRET_FILE",
        ),
    ] = None
    insecure_no_session_secret: Annotated[
        bool,
        typer.Option("--insecure-no-session-secret", help="Serve everyone who reaches the TCP port."),
    ] = False
    runtime_dir: Annotated[
        Path, typer.Option(help="Directory in memory (tmpfs) for GnuPG homes.", envvar="JIEMI_RUNTIME_DIR")
    ] = Path("/dev/shm")  # noqa: S108 - a tmpfs is wanted
    sops: Sops = None
    gpg: Gpg = None
    allow_file_urls: Annotated[bool, typer.Option("--allow-file-urls", help="Allow file:// repositories.")] = False
    ssh_known_hosts: Annotated[
        Path | None, typer.Option(help="known_hosts file that vouches for ssh hosts, for everyone.")
    ] = None
    ca_bundle: Annotated[
        Path | None,
        typer.Option(help="PEM file of certificate authorities that vouch for https git hosts, beside the system's."),
    ] = None
    http_proxy: Annotated[
        str | None, typer.Option(help="Proxy for http and https git hosts, without credentials.", metavar="URL")
    ] = None
    http_proxy_file: Annotated[
        Path | None, typer.Option(help="File with the same URL, in which it may hold a user name and password.")
    ] = None
    no_proxy: Annotated[
        str,
        typer.Option(
            help="Hosts that need no proxy, separated by commas: names with all below them, addresses, networks.",
            metavar="HOSTS",
        ),
    ] = ""
    allow_addresses: Annotated[
        list[str],
        typer.Option(
            "--allow-address",
            help="An address or network (CIDR) that Krapao may connect to though it refuses it otherwise, such as "
            "loopback; may be repeated.",
            metavar="CIDR",
        ),
    ] = attrs.field(factory=list)
    deny_addresses: Annotated[
        list[str],
        typer.Option(
            "--deny-address",
            help="An address or network (CIDR) that Krapao must not connect to; may be repeated. The narrowest of all "
            "networks decides.",
            metavar="CIDR",
        ),
    ] = attrs.field(factory=list)
    allow_ambient_identity: Annotated[
        str,
        typer.Option(
            help="Providers whose Decryptors may use the Pod's own identity where they name no credential: "
            "any of aws,gcp,azure,vault.",
            metavar="PROVIDERS",
            envvar="JIEMI_ALLOW_AMBIENT_IDENTITY",
        ),
    ] = ""
    ambient_keys: Annotated[
        list[str],
        typer.Option(
            "--ambient-key",
            help="Keys that Decryptors may use the Pod's own identity for, for example aws=arn:aws:kms:*:*:key/*; may "
            "be repeated. Each provider of --allow-ambient-identity needs one.",
            metavar="PROVIDER=PATTERN",
        ),
    ] = attrs.field(factory=list)
    ambient_repositories: Annotated[
        list[str],
        typer.Option(
            "--ambient-repository",
            help="URLs of the repositories whose files may be opened with the Pod's own identity; may be repeated. "
            "--allow-ambient-identity needs one.",
            metavar="PATTERN",
        ),
    ] = attrs.field(factory=list)
    allow_vault_addresses: Annotated[
        list[str],
        typer.Option(
            "--allow-vault-address",
            help="A Vault server that every Decryptor's token may be sent to; may be repeated.",
            metavar="URL",
        ),
    ] = attrs.field(factory=list)
    require_vault_address: Annotated[
        bool,
        typer.Option(
            "--require-vault-address",
            help="Refuse a Vault server that no one names, in place of trusting the first one.",
        ),
    ] = False
    age_plugins: Annotated[
        str, typer.Option(help="Folders with age plugins, separated by colons; without it none is run.", metavar="PATH")
    ] = ""
    max_store_mebibytes: Annotated[
        int,
        typer.Option("--max-store", min=1, help="MiB that all clones may take; those that nobody has open go first."),
    ] = 8192
    max_tenant_store_mebibytes: Annotated[
        int,
        typer.Option(
            "--max-tenant-store", min=1, help="MiB of these that the clones of one namespace's Decryptors may take."
        ),
    ] = 4096
    max_holders: Annotated[
        int, typer.Option(min=1, help="How many processes may hold credentials at once, of about 40 MiB each.")
    ] = 16
    metrics_listen: MetricsListen = None
    log_format: LogFormatFlag = LogFormat.JSON
