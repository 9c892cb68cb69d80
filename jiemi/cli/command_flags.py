"""The flags of the commands other than the two services. Each class is used by its command's module."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import attrs

from jiemi.cli.durations import parse_duration
from jiemi.cli.flags import Argument, Context, Etcd, Flag, Gpg, KubeApiserver, Sops
from jiemi.cli.outputs import Output


@attrs.frozen(kw_only=True)
class ToolsFlags:
    """The flags of `jiemi tools`."""

    names: Annotated[
        list[str], Argument(help="Programs to get (sops, etcd, kube-apiserver); all if none is named.")
    ] = attrs.field(factory=list)
    sops: Sops = None
    etcd: Etcd = None
    kube_apiserver: KubeApiserver = None


@attrs.frozen(kw_only=True)
class KnownHostsFlags:
    """The flags of `jiemi known-hosts`."""

    host: Annotated[
        str,
        Argument(help="The ssh host, with its port if that is not 22, or the repository's URL.", metavar="HOST[:PORT]"),
    ]
    timeout_seconds: Annotated[
        float, Flag("--timeout", parser=parse_duration, help="Longest wait for the host.", metavar="DURATION")
    ] = "10s"  # type: ignore[assignment] # the parser reads the default too


@attrs.frozen(kw_only=True)
class ControlPlaneFlags:
    """The flags of `jiemi control-plane`."""

    state_dir: Annotated[Path, Flag(help="Folder for its data, certificates and kubeconfig.")]
    etcd: Etcd = None
    kube_apiserver: KubeApiserver = None


@attrs.frozen(kw_only=True)
class RunAllFlags:
    """The flags of `jiemi run-all`."""

    cluster: Annotated[
        str,
        Flag(
            help="Cluster to use: auto, kind, current (the current context), embedded, or node (Jiemi as Pods on a "
            "kubelet of this machine; as root, on Debian or Ubuntu).",
            metavar="CLUSTER",
        ),
    ] = "auto"
    exit_after_sync: Annotated[
        bool,
        Flag(
            "--exit-after-sync",
            help="Exit once the demo Secret holds the right value; the exit status is 0 if it does.",
        ),
    ] = False
    interval_seconds: Annotated[
        float, Flag("--interval", parser=parse_duration, help="Miwen's interval.", metavar="DURATION")
    ] = "5s"  # type: ignore[assignment] # the parser reads the default too
    timeout_seconds: Annotated[
        float,
        Flag("--timeout", parser=parse_duration, help="Longest wait for the demo Secret.", metavar="DURATION"),
    ] = "2m"  # type: ignore[assignment] # the parser reads the default too
    images: Annotated[
        Path | None,
        Flag(
            help="For --cluster node: folder with krapao.tar and miwen.tar, as `docker save` writes them.",
            show_default="built from this clone, by buildah",
        ),
    ] = None
    python_image: Annotated[
        str, Flag(help="For --cluster node: the base of the images that are built.", metavar="IMAGE")
    ] = "docker.io/library/python:3.13-slim"
    sops: Sops = None
    etcd: Etcd = None
    kube_apiserver: KubeApiserver = None


@attrs.frozen(kw_only=True)
class StatusFlags:
    """The flags of `jiemi status`."""

    names: Annotated[list[str], Argument(help="Decryptors to show; all if none is named.")] = attrs.field(factory=list)
    namespace: Annotated[
        str | None,
        Flag(
            "--namespace", short="-n", help="Namespace of the Decryptors.", show_default="the context's, as for kubectl"
        ),
    ] = None
    all_namespaces: Annotated[
        bool, Flag("--all-namespaces", short="-A", help="Show the Decryptors of all namespaces.")
    ] = False
    output: Annotated[
        Output, Flag("--output", short="-o", help="Form of the output; json and yaml show the whole status.")
    ] = Output.TABLE
    watch: Annotated[bool, Flag("--watch", short="-w", help="Keep running and show each change, until Ctrl-C.")] = False
    kubeconfig: Annotated[
        Path | None,
        Flag(help="Kubeconfig file.", envvar="KUBECONFIG", show_default="~/.kube/config, or the Pod's ServiceAccount"),
    ] = None
    context: Context = None


@attrs.frozen(kw_only=True)
class DoctorFlags:
    """The flags of `jiemi doctor`."""

    runtime_dir: Annotated[
        Path,
        Flag(help="Krapao's directory in memory (tmpfs).", envvar="JIEMI_RUNTIME_DIR"),
    ] = Path("/dev/shm")  # noqa: S108 - a tmpfs is wanted
    sops: Sops = None
    gpg: Gpg = None
    tls_dir: Annotated[
        Path | None,
        Flag(
            help="Folder with Krapao's tls.crt, tls.key and ca.crt.",
            envvar="JIEMI_TLS_DIR",
            show_default="that of Krapao's Pod",
        ),
    ] = None
    session_secret_file: Annotated[
        Path | None,
        Flag(help="File with the session secret, the same as Krapao's.", envvar="JIEMI_SESSION_SECRET_FILE"),
    ] = None


@attrs.frozen(kw_only=True)
class ProbeKrapaoFlags:
    """The flags of `jiemi probe krapao`."""

    address: Annotated[str, Flag(help="Address of Krapao: unix:/path or tcp:host:port.")]
    tls_dir: Annotated[
        Path | None,
        Flag(help="Folder with a client's tls.crt, tls.key and ca.crt, for TCP.", envvar="JIEMI_TLS_DIR"),
    ] = None
    session_secret_file: Annotated[
        Path | None,
        Flag(help="File with the session secret, the same as Krapao's.", envvar="JIEMI_SESSION_SECRET_FILE"),
    ] = None
    timeout_seconds: Annotated[
        float, Flag("--timeout", parser=parse_duration, help="Longest wait for an answer.", metavar="DURATION")
    ] = "5s"  # type: ignore[assignment] # the parser reads the default too


@attrs.frozen(kw_only=True)
class ProbeMiwenFlags:
    """The flags of `jiemi probe miwen`."""

    alive_file: Annotated[Path, Flag(help="The file that `jiemi miwen --alive-file` touches.")]
    max_age_seconds: Annotated[
        float,
        Flag("--max-age", parser=parse_duration, help="Age at which Miwen counts as dead.", metavar="DURATION"),
    ] = "1m"  # type: ignore[assignment] # the parser reads the default too
