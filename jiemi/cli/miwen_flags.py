"""The flags of `jiemi miwen`. `jiemi.cli.miwen` uses them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import attrs

from jiemi.cli.durations import parse_duration
from jiemi.cli.flags import (
    Context,
    Flag,
    InsecurePlainTcp,
    InsecurePlainTraces,
    LogFormatFlag,
    LogLevel,
    LogLevelFile,
    MetricsListen,
    TracesCaBundle,
    TracesEndpoint,
    TracesRatio,
)
from jiemi.cli.outputs import LogFormat
from jiemi.rpc.tls_names import KRAPAO_NAME


@attrs.frozen(kw_only=True)
class MiwenFlags:
    """The flags, in the order of `--help`."""

    krapao: Annotated[
        list[str],
        Flag(
            help="Address of Krapao, unix:/path or tcp:host:port; repeated where there are several, among which "
            "repositories are spread. Or service:[NAMESPACE/]NAME, the Service whose Pods they are.",
            envvar="JIEMI_KRAPAO",
            metavar="ADDRESS",
        ),
    ]
    lease: Annotated[
        str | None,
        Flag(
            help="Lease by which one of several Miwens is the active one; by default in its own namespace.",
            metavar="[NAMESPACE/]NAME",
        ),
    ] = None
    tls_secret: Annotated[
        str | None,
        Flag(
            help="Secret with tls.crt, tls.key and ca.crt, for TLS on TCP; by default in Miwen's own namespace.",
            metavar="[NAMESPACE/]NAME",
        ),
    ] = None
    make_certificates: Annotated[
        bool,
        Flag(
            "--make-certificates",
            help="Make and renew that Secret, and krapao-tls for Krapao beside it. Not where cert-manager does.",
        ),
    ] = False
    certificate_lifetime_seconds: Annotated[
        float,
        Flag(
            "--certificate-lifetime",
            parser=parse_duration,
            help="How long these certificates are valid; they are renewed after two thirds of it.",
            metavar="DURATION",
        ),
    ] = "720h"  # type: ignore[assignment] # the parser reads the default too
    tls_dir: Annotated[
        Path | None,
        Flag(help="Folder with tls.crt, tls.key and ca.crt, instead of --tls-secret.", envvar="JIEMI_TLS_DIR"),
    ] = None
    krapao_name: Annotated[str, Flag(help="DNS name that Krapao's certificate must have.", metavar="NAME")] = (
        KRAPAO_NAME
    )
    insecure_plain_tcp: InsecurePlainTcp = False
    session_secret: Annotated[
        str | None,
        Flag(
            help="Secret whose key `token` Miwen shows to Krapao, by default in its own namespace; created if missing.",
            metavar="[NAMESPACE/]NAME",
        ),
    ] = None
    session_secret_file: Annotated[
        Path | None,
        Flag(
            help="File with the secret that Miwen shows to Krapao, instead of --session-secret.",
            envvar="JIEMI_SESSION_SECRET_FILE",
        ),
    ] = None
    kubeconfig: Annotated[
        Path | None, Flag(help="Kubeconfig file.", envvar="KUBECONFIG", show_default="the Pod's ServiceAccount")
    ] = None
    context: Context = None
    namespaces: Annotated[
        list[str],
        Flag("--namespace", help="Follow the Decryptors of this namespace only; may be repeated.", metavar="NAME"),
    ] = attrs.field(factory=list)
    interval_seconds: Annotated[
        float,
        Flag(
            "--interval",
            parser=parse_duration,
            help="How often Miwen looks for a new revision for each Decryptor.",
            metavar="DURATION",
        ),
    ] = "3m"  # type: ignore[assignment] # the parser reads the default too
    alive_file: Annotated[Path | None, Flag(help="File that Miwen touches while it runs, for `jiemi probe miwen`.")] = (
        None
    )
    policy: Annotated[
        Path | None,
        Flag(help="File of rules: which namespaces may use which repositories, files and recipients."),
    ] = None
    default_service_account: Annotated[
        str | None,
        Flag(help="ServiceAccount in a Decryptor's namespace whose rights are used to apply if its spec names none."),
    ] = None
    no_cross_namespace: Annotated[
        bool,
        Flag("--no-cross-namespace", help="Refuse objects and dependencies outside a Decryptor's own namespace."),
    ] = False
    own_namespace: Annotated[
        str | None,
        Flag(
            help="Namespace that Jiemi runs in; Decryptors there do nothing, and nothing is applied there.",
            metavar="NAME",
            show_default="the Pod's, or jiemi",
        ),
    ] = None
    allow_protected: Annotated[
        list[str],
        Flag(
            help="A kind (KIND.GROUP) or system namespace (namespace/NAME) that Miwen may write with its own rights "
            "although it is protected by default; may be repeated.",
            metavar="NAME",
        ),
    ] = attrs.field(factory=list)
    decryptor_memory_mebibytes: Annotated[
        int,
        Flag(
            "--decryptor-memory",
            min=1,
            metavar="MIB",
            help="Memory that all Decryptors together may take (specs, statuses, credentials); one namespace may "
            "take a third of it. 192 fits a limit of 512 MiB; for each MiB more here, raise the limit by 1.5 MiB.",
        ),
    ] = 192
    require_full_mac: Annotated[
        bool,
        Flag(
            "--require-full-mac",
            help="Refuse files whose MAC covers their encrypted values only (mac_only_encrypted).",
        ),
    ] = False
    require_verify: Annotated[
        bool,
        Flag(
            "--require-verify",
            help="Refuse Decryptors that do not require signed commits or tags (spec.source.repository.verify).",
        ),
    ] = False
    take_over_from: Annotated[
        str | None,
        Flag(
            help="Field managers, separated by commas, from which Jiemi takes over the fields that it applies itself. "
            "Default: those of kubectl, helm, Flux and Argo CD; '' for none.",
            metavar="NAMES",
        ),
    ] = None
    webhooks_listen: Annotated[
        str | None,
        Flag(
            help="host:port to receive webhooks of git hosts on, so that a push is looked at when it happens; without "
            "this flag none are received. Secrets labelled jiemi.cr/webhook say which.",
            metavar="HOST:PORT",
        ),
    ] = None
    webhooks_proxies: Annotated[
        int,
        Flag(
            min=0,
            max=8,
            metavar="NUMBER",
            help="How many proxies (an Ingress) stand before that port, each of which adds to X-Forwarded-For; by it "
            "Miwen knows the sources that it limits.",
        ),
    ] = 0
    webhooks_address: Annotated[
        str | None,
        Flag(
            metavar="IP",
            help="Address at which other Miwens reach that port; those that wait for the Lease send webhooks on to it.",
        ),
    ] = None
    webhooks_allow_addresses: Annotated[
        list[str],
        Flag(
            "--webhooks-allow-address",
            help="An address or network (CIDR) where Miwen may look up keys of webhooks' OpenID issuers although it "
            "refuses it by default, such as loopback; may be repeated.",
            metavar="CIDR",
        ),
    ] = attrs.field(factory=list)
    webhooks_deny_addresses: Annotated[
        list[str],
        Flag(
            "--webhooks-deny-address",
            help="An address or network (CIDR) where Miwen does not look them up; may be repeated.",
            metavar="CIDR",
        ),
    ] = attrs.field(factory=list)
    webhooks_ca_bundle: Annotated[
        Path | None,
        Flag(help="PEM file of certificate authorities for these issuers, in addition to the system's."),
    ] = None
    metrics_listen: MetricsListen = None
    log_format: LogFormatFlag = LogFormat.JSON
    log_level: LogLevel = "info"
    log_level_file: LogLevelFile = None
    traces_endpoint: TracesEndpoint = None
    traces_ratio: TracesRatio = 1.0
    traces_ca_bundle: TracesCaBundle = None
    insecure_plain_traces: InsecurePlainTraces = False
