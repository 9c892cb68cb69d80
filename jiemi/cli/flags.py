"""How a command's flags are declared: a frozen class whose fields are the flags, in the order of `--help`.

    @attrs.frozen(kw_only=True)
    class ProbeFlags:
        max_age_seconds: Annotated[
            float, typer.Option("--max-age", parser=parse_duration, help="Age at which Miwen counts as dead.")
        ] = "1m"

The annotation holds everything that typer needs (help, variable, bounds, parser), and the field's default is the
flag's. A flag is called as its field is, unless the option names it: a field's name has a unit, and that of a list is a
plural. `from_flags` makes the typer command. Every start of `jiemi` imports these classes, so their modules must not
import anything that is heavy.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import attrs
import typer

from jiemi.cli.outputs import LogFormat

F = TypeVar("F")

LogFormatFlag = Annotated[LogFormat, typer.Option(help="Format of the log lines.", envvar="JIEMI_LOG_FORMAT")]
LogLevel = Annotated[
    str,
    typer.Option(
        help="How much is logged: LEVEL, and AREA=LEVEL for areas of the code, separated by commas, such as "
        "info,jiemi.rpc=debug. LEVEL is debug, info, warning or error.",
        metavar="LEVELS",
        envvar="JIEMI_LOG_LEVEL",
    ),
]
LogLevelFile = Annotated[
    Path | None,
    typer.Option(
        help="File with the same, which holds instead of --log-level while it is there. It is read again when it "
        "changes.",
        envvar="JIEMI_LOG_LEVEL_FILE",
    ),
]
TracesEndpoint = Annotated[
    str | None,
    typer.Option(
        help="URL of a collector that takes OpenTelemetry traces (OTLP over HTTP): https, or http on this host. "
        "Without this flag no traces are collected.",
        metavar="URL",
        envvar="JIEMI_TRACES_ENDPOINT",
    ),
]
TracesRatio = Annotated[float, typer.Option(help="Part of all traces that is collected.", min=0.0, max=1.0)]
TracesCaBundle = Annotated[
    Path | None,
    typer.Option(help="PEM file of certificate authorities for --traces-endpoint, in place of the system's."),
]
InsecurePlainTraces = Annotated[
    bool,
    typer.Option(
        "--insecure-plain-traces",
        help="Allow http for --traces-endpoint on other hosts: whoever can listen on the network reads the traces.",
    ),
]
Sops = Annotated[
    Path | None,
    typer.Option(help="The sops program.", envvar="JIEMI_SOPS", show_default="on the PATH, or from `jiemi tools`"),
]
Gpg = Annotated[Path | None, typer.Option(help="The gpg program.", envvar="JIEMI_GPG", show_default="on the PATH")]
Etcd = Annotated[
    Path | None,
    typer.Option(help="The etcd program.", envvar="JIEMI_ETCD", show_default="on the PATH, or from `jiemi tools`"),
]
KubeApiserver = Annotated[
    Path | None,
    typer.Option(
        help="The kube-apiserver program.",
        envvar="JIEMI_KUBE_APISERVER",
        show_default="on the PATH, or from `jiemi tools`",
    ),
]
Context = Annotated[str | None, typer.Option(help="Context of the kubeconfig.")]
InsecurePlainTcp = Annotated[
    bool,
    typer.Option(
        "--insecure-plain-tcp",
        help="Use TCP without TLS: whoever can listen on the network reads all credentials and secrets.",
    ),
]

MetricsListen = Annotated[
    str | None,
    typer.Option(
        help="host:port to serve /metrics for Prometheus and the probes /healthz and /readyz on; without this flag "
        "they are not served."
    ),
]


def from_flags(command: Callable[[F], None]) -> Callable[..., None]:
    """Make a typer command from a function that takes one object of flags.

    Args:
        command: its only parameter is annotated with a class of flags.

    Returns:
        The same with one parameter for each field of that class: what `app.command()` takes.
    """
    [flags] = (hint for name, hint in get_type_hints(command).items() if name != "return")
    hints = get_type_hints(flags, include_extras=True)

    @functools.wraps(command)
    def with_flags(**values: Any) -> None:
        command(flags(**values))

    parameters = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, annotation=hints[field.name], default=_default(field)
        )
        for field in attrs.fields(flags)
    ]
    with_flags.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # typer reads it (PEP 362)
    return with_flags


def _default(field: attrs.Attribute[Any]) -> Any:
    default: Any = field.default
    if default is attrs.NOTHING:
        return inspect.Parameter.empty
    is_made = isinstance(default, attrs.Factory)  # type: ignore[arg-type] # attrs declares this class as a function
    return default.factory() if is_made else default
