"""`jiemi` and `kubectl jiemi`: the commands, each in a module of its own that is imported when it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jiemi import __version__
from jiemi.cli.durations import parse_duration
from jiemi.cli.errors import NOT_READY, told_to_user
from jiemi.cli.logs import LogFormat, configure_logs
from jiemi.cli.outputs import Output

app = typer.Typer(
    name="jiemi",
    help="Keeps SOPS-encrypted files in git applied, decrypted, to a Kubernetes cluster.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its tables cut the names of flags and variables at 80 columns
    context_settings={"help_option_names": ["-h", "--help"]},
)

_LogFormat = Annotated[LogFormat, typer.Option(help="How log lines look.", envvar="JIEMI_LOG_FORMAT")]
_Sops = Annotated[
    Path | None,
    typer.Option(help="The sops program.", envvar="JIEMI_SOPS", show_default="on the PATH, or from `jiemi tools`"),
]
_Gpg = Annotated[Path | None, typer.Option(help="The gpg program.", envvar="JIEMI_GPG", show_default="on the PATH")]
_Kubeconfig = Annotated[
    Path | None, typer.Option(help="Kubeconfig file.", envvar="KUBECONFIG", show_default="the Pod's ServiceAccount")
]
_UsersKubeconfig = Annotated[
    Path | None,
    typer.Option(
        help="Kubeconfig file.", envvar="KUBECONFIG", show_default="~/.kube/config, or the Pod's ServiceAccount"
    ),
]
_Context = Annotated[str | None, typer.Option(help="Context of the kubeconfig.")]
_Etcd = Annotated[
    Path | None,
    typer.Option(help="The etcd program.", envvar="JIEMI_ETCD", show_default="on the PATH, or from `jiemi tools`"),
]
_KubeApiserver = Annotated[
    Path | None,
    typer.Option(
        help="The kube-apiserver program.",
        envvar="JIEMI_KUBE_APISERVER",
        show_default="on the PATH, or from `jiemi tools`",
    ),
]


def _version(value: bool) -> None:
    if value:
        typer.echo(f"jiemi {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    _: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)] = False,
) -> None:
    """Keeps SOPS-encrypted files in git applied, decrypted, to a Kubernetes cluster."""


@app.command()
def crd() -> None:
    """Print the CustomResourceDefinition of Decryptors."""
    from jiemi.core.api.crd import crd_yaml

    typer.echo(crd_yaml(), nl=False)


@app.command(short_help="Run Krapao, which clones, decrypts and serves.")
def krapao(
    state_dir: Annotated[Path, typer.Option(help="Where clones are kept (ciphertext only).", envvar="JIEMI_STATE_DIR")],
    listen: Annotated[
        str, typer.Option(help="unix:/path or tcp:host:port to serve on.", envvar="JIEMI_LISTEN")
    ] = "tcp:127.0.0.1:50208",
    session_secret_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the secret that Miwen has to show, one a line; needed on TCP. It is read at each session.",
            envvar="JIEMI_SESSION_SECRET_FILE",
        ),
    ] = None,
    insecure_no_session_secret: Annotated[
        bool,
        typer.Option("--insecure-no-session-secret", help="Serve everyone who reaches the TCP port."),
    ] = False,
    runtime_dir: Annotated[
        Path, typer.Option(help="Directory in memory (tmpfs) for GnuPG homes.", envvar="JIEMI_RUNTIME_DIR")
    ] = Path("/dev/shm"),  # noqa: S108 - a tmpfs is wanted
    sops: _Sops = None,
    gpg: _Gpg = None,
    allow_file_urls: Annotated[bool, typer.Option("--allow-file-urls", help="Allow file:// repositories.")] = False,
    ssh_known_hosts: Annotated[
        Path | None, typer.Option(help="known_hosts file that vouches for ssh hosts, for everyone.")
    ] = None,
    ca_bundle: Annotated[
        Path | None,
        typer.Option(help="PEM file of certificate authorities that vouch for https git hosts, beside the system's."),
    ] = None,
    http_proxy: Annotated[
        str | None, typer.Option(help="Proxy for http and https git hosts, without credentials.", metavar="URL")
    ] = None,
    http_proxy_file: Annotated[
        Path | None, typer.Option(help="File with the same URL, in which it may hold a user name and password.")
    ] = None,
    no_proxy: Annotated[
        str,
        typer.Option(
            help="Hosts that need no proxy, separated by commas: names with all below them, addresses, networks.",
            metavar="HOSTS",
        ),
    ] = "",
    allow_address: Annotated[
        list[str] | None,
        typer.Option(
            help="An address or network (CIDR) that Krapao may connect to though it refuses it otherwise, such as "
            "loopback; may be repeated.",
            metavar="CIDR",
        ),
    ] = None,
    deny_address: Annotated[
        list[str] | None,
        typer.Option(
            help="An address or network (CIDR) that Krapao must not connect to; may be repeated. The narrowest of all "
            "networks decides.",
            metavar="CIDR",
        ),
    ] = None,
    allow_ambient_identity: Annotated[
        str,
        typer.Option(
            help="Providers whose Decryptors may use the Pod's own identity where they name no credential: "
            "any of aws,gcp,azure,vault.",
            metavar="PROVIDERS",
            envvar="JIEMI_ALLOW_AMBIENT_IDENTITY",
        ),
    ] = "",
    ambient_key: Annotated[
        list[str] | None,
        typer.Option(
            help="Keys that Decryptors may use the Pod's own identity for, for example aws=arn:aws:kms:*:*:key/*; may "
            "be repeated. Each provider of --allow-ambient-identity needs one.",
            metavar="PROVIDER=PATTERN",
        ),
    ] = None,
    ambient_repository: Annotated[
        list[str] | None,
        typer.Option(
            help="URLs of the repositories whose files may be opened with the Pod's own identity; may be repeated. "
            "--allow-ambient-identity needs one.",
            metavar="PATTERN",
        ),
    ] = None,
    allow_vault_address: Annotated[
        list[str] | None,
        typer.Option(
            help="A Vault server that every Decryptor's token may be sent to; may be repeated.", metavar="URL"
        ),
    ] = None,
    require_vault_address: Annotated[
        bool,
        typer.Option(
            "--require-vault-address",
            help="Refuse a Vault server that no one names, in place of trusting the first one.",
        ),
    ] = False,
    age_plugins: Annotated[
        str, typer.Option(help="Folders with age plugins, separated by colons; without it none is run.", metavar="PATH")
    ] = "",
    max_store: Annotated[
        int, typer.Option(min=1, help="MiB that all clones may take; those that nobody has open go first.")
    ] = 8192,
    max_tenant_store: Annotated[
        int, typer.Option(min=1, help="MiB of these that the clones of one namespace's Decryptors may take.")
    ] = 4096,
    max_holders: Annotated[
        int, typer.Option(min=1, help="How many processes may hold credentials at once, of about 40 MiB each.")
    ] = 16,
    metrics_listen: Annotated[
        str | None, typer.Option(help="host:port to serve /metrics for Prometheus on; not served without it.")
    ] = None,
    log_format: _LogFormat = LogFormat.JSON,
) -> None:
    """Run Krapao, the repository service: clones, syncs, decrypts, serves."""
    from jiemi.cli.krapao import run

    configure_logs(log_format)
    with told_to_user():
        run(
            listen=listen,
            session_secret_file=session_secret_file,
            insecure_no_session_secret=insecure_no_session_secret,
            state_dir=state_dir,
            runtime_dir=runtime_dir,
            sops=sops,
            gpg=gpg,
            allow_file_urls=allow_file_urls,
            ssh_known_hosts=ssh_known_hosts,
            ca_bundle=ca_bundle,
            http_proxy=http_proxy,
            http_proxy_file=http_proxy_file,
            no_proxy=no_proxy,
            allow_addresses=allow_address or [],
            deny_addresses=deny_address or [],
            allow_ambient_identity=allow_ambient_identity,
            ambient_keys=ambient_key or [],
            ambient_repositories=ambient_repository or [],
            vault_addresses=allow_vault_address or [],
            require_vault_address=require_vault_address,
            age_plugins=age_plugins,
            max_store_mebibytes=max_store,
            max_tenant_store_mebibytes=max_tenant_store,
            max_holders=max_holders,
            metrics_listen=metrics_listen,
        )


@app.command(short_help="Run Miwen, which follows Decryptors and applies.")
def miwen(
    krapao: Annotated[
        str, typer.Option(help="Where Krapao serves: unix:/path or tcp:host:port.", envvar="JIEMI_KRAPAO")
    ],
    session_secret: Annotated[
        str | None,
        typer.Option(
            help="Secret whose key `token` is shown to Krapao, of Miwen's own namespace; made where it is missing.",
            metavar="[NAMESPACE/]NAME",
        ),
    ] = None,
    session_secret_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the secret that is shown to Krapao, in place of --session-secret.",
            envvar="JIEMI_SESSION_SECRET_FILE",
        ),
    ] = None,
    kubeconfig: _Kubeconfig = None,
    context: _Context = None,
    namespace: Annotated[str | None, typer.Option(help="Only look at this namespace.")] = None,
    interval: Annotated[
        float,
        typer.Option(
            parser=parse_duration, help="How often each Decryptor asks for the newest revision.", metavar="DURATION"
        ),
    ] = "3m",  # type: ignore[assignment] # the parser reads the default too
    alive_file: Annotated[Path | None, typer.Option(help="Touched while Miwen lives, for `jiemi probe miwen`.")] = None,
    policy: Annotated[
        Path | None,
        typer.Option(help="File of rules: which repositories, files and recipients are for which namespaces."),
    ] = None,
    default_service_account: Annotated[
        str | None,
        typer.Option(
            help="ServiceAccount of a Decryptor's namespace that its objects are applied as where its spec names none."
        ),
    ] = None,
    no_cross_namespace: Annotated[
        bool,
        typer.Option(
            "--no-cross-namespace", help="Refuse objects and dependencies outside a Decryptor's own namespace."
        ),
    ] = False,
    own_namespace: Annotated[
        str | None,
        typer.Option(
            help="Namespace that Jiemi runs in, where no Decryptor acts and nothing is applied.",
            metavar="NAME",
            show_default="the Pod's, or jiemi",
        ),
    ] = None,
    allow_protected: Annotated[
        list[str] | None,
        typer.Option(
            help="A kind (KIND.GROUP) or system namespace (namespace/NAME) that Miwen may write with its own rights "
            "although it is protected by default; may be repeated.",
            metavar="NAME",
        ),
    ] = None,
    decryptor_memory: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="MIB",
            help="Memory that all Decryptors together may hold (specs, statuses, credentials), a third of it for one "
            "namespace. 192 fits a limit of 512 MiB; for each MiB more here, raise the limit by 1.5 MiB.",
        ),
    ] = 192,
    require_full_mac: Annotated[
        bool,
        typer.Option(
            "--require-full-mac",
            help="Refuse files whose MAC covers their encrypted values only (mac_only_encrypted).",
        ),
    ] = False,
    take_over_from: Annotated[
        str | None,
        typer.Option(
            help="Field managers, separated by commas, from which Jiemi takes over the fields that it applies itself. "
            "Default: those of kubectl, helm, Flux and Argo CD; '' for none.",
            metavar="NAMES",
        ),
    ] = None,
    metrics_listen: Annotated[
        str | None, typer.Option(help="host:port to serve /metrics for Prometheus on; not served without it.")
    ] = None,
    log_format: _LogFormat = LogFormat.JSON,
) -> None:
    """Run Miwen, the controller: watches Decryptors and keeps their objects applied."""
    from jiemi.cli.miwen import run

    configure_logs(log_format)
    with told_to_user():
        run(
            krapao=krapao,
            session_secret=session_secret,
            session_secret_file=session_secret_file,
            kubeconfig=kubeconfig,
            context=context,
            namespace=namespace,
            interval_seconds=interval,
            alive_file=alive_file,
            policy=policy,
            default_service_account=default_service_account,
            no_cross_namespace=no_cross_namespace,
            own_namespace=own_namespace,
            allow_protected=allow_protected or [],
            decryptor_memory_bytes=decryptor_memory * 1024 * 1024,
            require_full_mac=require_full_mac,
            take_over_from=take_over_from,
            metrics_listen=metrics_listen,
        )


@app.command(short_help="Find, download or build the programs that Jiemi runs.")
def tools(
    names: Annotated[
        list[str] | None, typer.Argument(help="sops, etcd, kube-apiserver; all without an argument.")
    ] = None,
    sops: _Sops = None,
    etcd: _Etcd = None,
    kube_apiserver: _KubeApiserver = None,
) -> None:
    """Find, download or build the programs that Jiemi runs, and say which way each came."""
    from jiemi.cli.tools import run

    with told_to_user():
        run(names or [], sops=sops, etcd=etcd, kube_apiserver=kube_apiserver)


@app.command("control-plane", short_help="Run a Kubernetes API of your own on loopback.")
def control_plane(
    state_dir: Annotated[Path, typer.Option(help="Where its data, certificates and kubeconfig are kept.")],
    etcd: _Etcd = None,
    kube_apiserver: _KubeApiserver = None,
) -> None:
    """Run a Kubernetes API of your own (real etcd and kube-apiserver) on loopback, in the foreground."""
    from jiemi.cli.control_plane import run

    with told_to_user():
        run(state_dir=state_dir, etcd=etcd, kube_apiserver=kube_apiserver)


@app.command("run-all", short_help="Run everything on this machine, with a demo to follow.")
def run_all(
    cluster: Annotated[
        str, typer.Option(help="auto, kind, current (the current context) or embedded.", metavar="CLUSTER")
    ] = "auto",
    exit_after_sync: Annotated[
        bool,
        typer.Option("--exit-after-sync", help="End once the demo Secret holds the right value; status 0 if it does."),
    ] = False,
    interval: Annotated[
        float, typer.Option(parser=parse_duration, help="Miwen's interval.", metavar="DURATION")
    ] = "5s",  # type: ignore[assignment] # the parser reads the default too
    timeout: Annotated[
        float, typer.Option(parser=parse_duration, help="Longest wait for the demo Secret.", metavar="DURATION")
    ] = "2m",  # type: ignore[assignment] # the parser reads the default too
    sops: _Sops = None,
    etcd: _Etcd = None,
    kube_apiserver: _KubeApiserver = None,
) -> None:
    """Run everything on this machine: a cluster, a demo repository, Krapao, Miwen; and follow a commit into a
    Secret."""
    from jiemi.cli.run_all import run

    with told_to_user():
        run(
            cluster=cluster,
            exit_after_sync=exit_after_sync,
            interval_seconds=interval,
            timeout_seconds=timeout,
            sops=sops,
            etcd=etcd,
            kube_apiserver=kube_apiserver,
        )


@app.command(short_help="Show the Decryptors, and what to do about each.")
def status(
    names: Annotated[list[str] | None, typer.Argument(help="Decryptors to show; all without an argument.")] = None,
    namespace: Annotated[
        str | None,
        typer.Option("--namespace", "-n", help="Theirs.", show_default="the context's, as for kubectl"),
    ] = None,
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Those of all namespaces.")] = False,
    output: Annotated[
        Output, typer.Option("--output", "-o", help="json and yaml tell all that the status holds.")
    ] = Output.TABLE,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Then show each change, until Ctrl-C.")] = False,
    kubeconfig: _UsersKubeconfig = None,
    context: _Context = None,
) -> None:
    """Show what the Decryptors say of themselves, and what to do where one is not in sync.

    Ends with status 3 where one of them is not Ready, and 1 where they can't be had.
    """
    from jiemi.cli.status import Wanted, run

    wanted = Wanted(frozenset(names or ()), namespace, all_namespaces, output, watch)
    with told_to_user():
        if not run(wanted, kubeconfig=kubeconfig, context=context):
            raise typer.Exit(NOT_READY)


@app.command(short_help="Say what Krapao finds here, and what is missing.")
def doctor(
    runtime_dir: Annotated[
        Path, typer.Option(help="Krapao's directory in memory (tmpfs).", envvar="JIEMI_RUNTIME_DIR")
    ] = Path("/dev/shm"),  # noqa: S108 - a tmpfs is wanted
    sops: _Sops = None,
    gpg: _Gpg = None,
    session_secret_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the session secret, the same as Krapao's.",
            envvar="JIEMI_SESSION_SECRET_FILE",
            show_default="that of Krapao's Pod",
        ),
    ] = None,
) -> None:
    """Say what Krapao finds here: its programs, the session secret, and what confines the processes that decrypt."""
    from jiemi.cli.doctor import run

    with told_to_user():
        run(runtime_dir=runtime_dir, sops=sops, gpg=gpg, session_secret_file=session_secret_file)


probe_app = typer.Typer(help="Health checks, for Kubernetes probes.", no_args_is_help=True)
app.add_typer(probe_app, name="probe")


@probe_app.command("krapao")
def probe_krapao(
    address: Annotated[str, typer.Option(help="Where Krapao serves: unix:/path or tcp:host:port.")],
    session_secret_file: Annotated[
        Path | None,
        typer.Option(help="File with the session secret, the same as Krapao's.", envvar="JIEMI_SESSION_SECRET_FILE"),
    ] = None,
    timeout: Annotated[
        float, typer.Option(parser=parse_duration, help="Longest wait for an answer.", metavar="DURATION")
    ] = "5s",  # type: ignore[assignment] # the parser reads the default too
) -> None:
    """End with 0 if Krapao answers."""
    from jiemi.cli.probe import probe_krapao

    with told_to_user():
        probe_krapao(address, timeout_seconds=timeout, session_secret_file=session_secret_file)


@probe_app.command("miwen")
def probe_miwen(
    alive_file: Annotated[Path, typer.Option(help="The file that `jiemi miwen --alive-file` touches.")],
    max_age: Annotated[
        float, typer.Option(parser=parse_duration, help="Older than this means dead.", metavar="DURATION")
    ] = "1m",  # type: ignore[assignment] # the parser reads the default too
) -> None:
    """End with 0 if Miwen's event loop runs."""
    from jiemi.cli.probe import probe_miwen

    with told_to_user():
        probe_miwen(alive_file, max_age_seconds=max_age)
