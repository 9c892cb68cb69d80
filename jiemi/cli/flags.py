"""How a command's flags are declared: a frozen class whose fields are the flags, in the order of `--help`.

    @attrs.frozen(kw_only=True)
    class ProbeFlags:
        max_age_seconds: Annotated[
            float, Flag("--max-age", parser=parse_duration, help="Age at which Miwen counts as dead.")
        ] = "1m"

The annotation holds everything else that click needs (help, variable, bounds, parser), and the field's default is the
flag's. A flag is called as its field is, unless it has a name of its own: a field's name has a unit, and that of a list
is a plural. `from_flags` makes click's parameters of them. Every start of `jiemi` imports these classes, so their
modules must not import anything that is heavy.
"""

from __future__ import annotations

import enum
import functools
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import attrs
import click

from jiemi.cli.outputs import LogFormat

F = TypeVar("F")
E = TypeVar("E", bound=enum.StrEnum)


@attrs.frozen
class Flag:
    """A field that is a flag on the command line. A field of the type bool is a switch; a list may be repeated.

    Attributes:
        name: the flag, with its hyphens; None for the field's name.
        short: a second name of one letter, with its hyphen.
        help: the text in `--help`.
        envvar: the environment variable that stands in for the flag.
        metavar: the word for the value in `--help`; None for one that is made of its type.
        parser: what reads the value, and a default that is a text. It raises `click.BadParameter`.
        min: the lowest number that is taken.
        max: the highest number that is taken.
        show_default: the default in words, where that of the field says nothing.
    """

    name: str | None = None
    short: str | None = attrs.field(default=None, kw_only=True)
    help: str = attrs.field(kw_only=True)
    envvar: str | None = attrs.field(default=None, kw_only=True)
    metavar: str | None = attrs.field(default=None, kw_only=True)
    parser: Callable[[str], Any] | None = attrs.field(default=None, kw_only=True)
    min: float | None = attrs.field(default=None, kw_only=True)
    max: float | None = attrs.field(default=None, kw_only=True)
    show_default: str | None = attrs.field(default=None, kw_only=True)


@attrs.frozen
class Argument:
    """A field that holds the words of the command line which are not flags: all of them where its type is a list, and
    otherwise one, which must be there.

    Attributes:
        help: the text in `--help`.
        metavar: the word for it in `--help`; None for the field's name.
    """

    help: str
    metavar: str | None = None


LogFormatFlag = Annotated[LogFormat, Flag(help="Format of the log lines.", envvar="JIEMI_LOG_FORMAT")]
LogLevel = Annotated[
    str,
    Flag(
        help="How much is logged: LEVEL, and AREA=LEVEL for areas of the code, separated by commas, such as "
        "info,jiemi.rpc=debug. LEVEL is debug, info, warning or error.",
        metavar="LEVELS",
        envvar="JIEMI_LOG_LEVEL",
    ),
]
LogLevelFile = Annotated[
    Path | None,
    Flag(
        help="File with the same, which holds instead of --log-level while it is there. It is read again when it "
        "changes.",
        envvar="JIEMI_LOG_LEVEL_FILE",
    ),
]
TracesEndpoint = Annotated[
    str | None,
    Flag(
        help="URL of a collector that takes OpenTelemetry traces (OTLP over HTTP): https, or http on this host. "
        "Without this flag no traces are collected.",
        metavar="URL",
        envvar="JIEMI_TRACES_ENDPOINT",
    ),
]
TracesRatio = Annotated[float, Flag(help="Part of all traces that is collected.", min=0.0, max=1.0)]
TracesCaBundle = Annotated[
    Path | None,
    Flag(help="PEM file of certificate authorities for --traces-endpoint, in place of the system's."),
]
InsecurePlainTraces = Annotated[
    bool,
    Flag(
        "--insecure-plain-traces",
        help="Allow http for --traces-endpoint on other hosts: whoever can listen on the network reads the traces.",
    ),
]
Sops = Annotated[
    Path | None,
    Flag(help="The sops program.", envvar="JIEMI_SOPS", show_default="on the PATH, or from `jiemi tools`"),
]
Gpg = Annotated[Path | None, Flag(help="The gpg program.", envvar="JIEMI_GPG", show_default="on the PATH")]
Etcd = Annotated[
    Path | None,
    Flag(help="The etcd program.", envvar="JIEMI_ETCD", show_default="on the PATH, or from `jiemi tools`"),
]
KubeApiserver = Annotated[
    Path | None,
    Flag(
        help="The kube-apiserver program.",
        envvar="JIEMI_KUBE_APISERVER",
        show_default="on the PATH, or from `jiemi tools`",
    ),
]
Context = Annotated[str | None, Flag(help="Context of the kubeconfig.")]
InsecurePlainTcp = Annotated[
    bool,
    Flag(
        "--insecure-plain-tcp",
        help="Use TCP without TLS: whoever can listen on the network reads all credentials and secrets.",
    ),
]

MetricsListen = Annotated[
    str | None,
    Flag(
        help="host:port to serve /metrics for Prometheus and the probes /healthz and /readyz on; without this flag "
        "they are not served."
    ),
]


def from_flags(command: Callable[[F], None]) -> Callable[..., None]:
    """Make what click takes for a command of a function that takes one object of flags.

    Args:
        command: its only parameter is annotated with a class of flags.

    Returns:
        The same with one parameter for each field of that class: what `click.Group.command()` takes.
    """
    [flags] = (hint for name, hint in get_type_hints(command).items() if name != "return")
    hints = get_type_hints(flags, include_extras=True)

    @functools.wraps(command)
    def with_flags(**values: Any) -> None:
        # click gives a tuple for what may be repeated.
        command(flags(**{name: list(each) if isinstance(each, tuple) else each for name, each in values.items()}))

    # A decorator puts its parameter before those that are there.
    for field in reversed(attrs.fields(flags)):
        _parameter(field, *get_args(hints[field.name]))(with_flags)
    return with_flags


def _parameter(field: attrs.Attribute[Any], kind: Any, declared: Flag | Argument) -> Callable[..., Any]:
    """The decorator of click for a field."""
    is_list = get_origin(kind) is list
    if is_list:
        [kind] = get_args(kind)
    elif isinstance(kind, types.UnionType):
        [kind] = (each for each in get_args(kind) if each is not types.NoneType)
    if isinstance(declared, Argument):
        nargs = -1 if is_list else 1
        return click.argument(field.name, nargs=nargs, type=kind, help=declared.help, metavar=declared.metavar)
    flag = declared.name or f"--{field.name.replace('_', '-')}"
    options: dict[str, Any] = {
        **({"is_flag": True} if kind is bool else {"type": _value_type(kind, declared), "metavar": declared.metavar}),
        **({} if is_list or field.default in (None, attrs.NOTHING) else {"default": _default(field.default)}),
        "multiple": is_list,
        "required": field.default is attrs.NOTHING,
        "show_default": declared.show_default or field.default != "",
    }
    names = [field.name, *([declared.short] if declared.short else []), flag]
    return click.option(*names, help=declared.help, envvar=declared.envvar, show_envvar=True, **options)


def _default(value: Any) -> Any:
    # `--help` shows a member's name, which nobody may type.
    return str(value) if isinstance(value, enum.StrEnum) else value


def _value_type(kind: Any, declared: Flag) -> Any:
    if declared.parser is not None:
        return declared.parser
    if issubclass(kind, Path):
        return click.Path(path_type=Path)
    if issubclass(kind, enum.StrEnum):
        return _Member(kind)
    if declared.min is not None or declared.max is not None:
        bounded: Any = click.IntRange if kind is int else click.FloatRange
        return bounded(declared.min, declared.max)
    return kind


class _Member(click.Choice[E]):
    """A member of an enumeration, by its value; click itself takes its name."""

    def normalize_choice(self, choice: object, ctx: click.Context | None) -> str:
        return str(choice)
