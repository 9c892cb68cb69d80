"""The flags of `jiemi krapao`. `jiemi.cli.krapao` uses them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import attrs

from jiemi.cli.flags import (
    Flag,
    Gpg,
    InsecurePlainTcp,
    InsecurePlainTraces,
    LogFormatFlag,
    LogLevel,
    LogLevelFile,
    MetricsListen,
    Sops,
    TracesCaBundle,
    TracesEndpoint,
    TracesRatio,
)
from jiemi.cli.outputs import LogFormat
from jiemi.rpc.tls_names import MIWEN_NAME


@attrs.frozen(kw_only=True)
class KrapaoFlags:
    """The flags, in the order of `--help`."""

    state_dir: Annotated[Path, Flag(help="Folder for the clones (ciphertext only).", envvar="JIEMI_STATE_DIR")]
    listen: Annotated[str, Flag(help="Address to serve on: unix:/path or tcp:host:port.", envvar="JIEMI_LISTEN")] = (
        "tcp:127.0.0.1:50208"
    )
    tls_dir: Annotated[
        Path | None,
        Flag(
            help="Folder with tls.crt, tls.key and ca.crt, for TLS on TCP. It is read at each connection.",
            envvar="JIEMI_TLS_DIR",
        ),
    ] = None
    tls_client_name: Annotated[str, Flag(help="DNS name that a client's certificate must have.", metavar="NAME")] = (
        MIWEN_NAME
    )
    session_secret_file: Annotated[
        Path | None,
        Flag(
            help="File with the secrets that Miwen may show, one per line. It is read at each session.",
            envvar="JIEMI_SESSION_SECRET_FILE",
        ),
    ] = None
    insecure_plain_tcp: InsecurePlainTcp = False
    insecure_no_session_secret: Annotated[
        bool,
        Flag(
            "--insecure-no-session-secret", help="With --insecure-plain-tcp: serve everyone who reaches the TCP port."
        ),
    ] = False
    runtime_dir: Annotated[
        Path, Flag(help="Directory in memory (tmpfs) for GnuPG homes.", envvar="JIEMI_RUNTIME_DIR")
    ] = Path("/dev/shm")  # noqa: S108 - a tmpfs is wanted
    sops: Sops = None
    gpg: Gpg = None
    allow_file_urls: Annotated[bool, Flag("--allow-file-urls", help="Allow file:// repositories.")] = False
    ssh_known_hosts: Annotated[
        Path | None, Flag(help="known_hosts file with the keys of ssh hosts, used for every repository.")
    ] = None
    ca_bundle: Annotated[
        Path | None,
        Flag(help="PEM file of certificate authorities for https git hosts, in addition to the system's."),
    ] = None
    http_proxy: Annotated[
        str | None, Flag(help="Proxy for http and https git hosts alone, without credentials.", metavar="URL")
    ] = None
    http_proxy_file: Annotated[
        Path | None, Flag(help="File with that URL; in a file it may hold a user name and password.")
    ] = None
    git_proxy: Annotated[
        str | None,
        Flag(
            help="Proxy for all git hosts, over http, https, ssh and git://, without credentials: an http:// or "
            "socks5:// URL.",
            metavar="URL",
        ),
    ] = None
    git_proxy_file: Annotated[
        Path | None, Flag(help="File with that URL; in a file it may hold a user name and password.")
    ] = None
    no_proxy: Annotated[
        str,
        Flag(
            help="Hosts that are reached without the proxy, separated by commas: names (with their "
            "subdomains), addresses, networks.",
            metavar="HOSTS",
        ),
    ] = ""
    allow_addresses: Annotated[
        list[str],
        Flag(
            "--allow-address",
            help="An address or network (CIDR) that Krapao may connect to although it refuses it by default, such as "
            "loopback; may be repeated.",
            metavar="CIDR",
        ),
    ] = attrs.field(factory=list)
    deny_addresses: Annotated[
        list[str],
        Flag(
            "--deny-address",
            help="An address or network (CIDR) that Krapao must not connect to; may be repeated. The narrowest "
            "network that matches decides.",
            metavar="CIDR",
        ),
    ] = attrs.field(factory=list)
    allow_ambient_identity: Annotated[
        str,
        Flag(
            help="Providers for which a Decryptor that names no credential may use the Pod's own identity: "
            "any of aws,gcp,azure,vault.",
            metavar="PROVIDERS",
            envvar="JIEMI_ALLOW_AMBIENT_IDENTITY",
        ),
    ] = ""
    ambient_keys: Annotated[
        list[str],
        Flag(
            "--ambient-key",
            help="Keys that may be used with the Pod's own identity, for example aws=arn:aws:kms:*:*:key/*; may "
            "be repeated. Each provider of --allow-ambient-identity needs one.",
            metavar="PROVIDER=PATTERN",
        ),
    ] = attrs.field(factory=list)
    ambient_repositories: Annotated[
        list[str],
        Flag(
            "--ambient-repository",
            help="URLs of the repositories whose files may be opened with the Pod's own identity; may be repeated. "
            "--allow-ambient-identity needs one.",
            metavar="PATTERN",
        ),
    ] = attrs.field(factory=list)
    allow_vault_addresses: Annotated[
        list[str],
        Flag(
            "--allow-vault-address",
            help="A Vault server that every Decryptor's token may be sent to; may be repeated.",
            metavar="URL",
        ),
    ] = attrs.field(factory=list)
    require_vault_address: Annotated[
        bool,
        Flag(
            "--require-vault-address",
            help="Refuse a Vault server that nobody has named, instead of trusting the first one.",
        ),
    ] = False
    age_plugins: Annotated[
        str,
        Flag(help="Folders with age plugins, separated by colons; without this flag none is run.", metavar="PATH"),
    ] = ""
    max_store_mebibytes: Annotated[
        int,
        Flag(
            "--max-store",
            min=1,
            help="Most MiB that all clones may take; those that nobody has open are removed first.",
        ),
    ] = 8192
    max_tenant_store_mebibytes: Annotated[
        int,
        Flag("--max-tenant-store", min=1, help="Most MiB that the clones of one namespace's Decryptors may take."),
    ] = 4096
    max_holders: Annotated[
        int, Flag(min=1, help="How many processes may hold credentials at once; each takes about 40 MiB.")
    ] = 16
    metrics_listen: MetricsListen = None
    log_format: LogFormatFlag = LogFormat.JSON
    log_level: LogLevel = "info"
    log_level_file: LogLevelFile = None
    traces_endpoint: TracesEndpoint = None
    traces_ratio: TracesRatio = 1.0
    traces_ca_bundle: TracesCaBundle = None
    insecure_plain_traces: InsecurePlainTraces = False
