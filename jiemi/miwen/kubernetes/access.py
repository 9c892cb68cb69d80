"""How Miwen gets to the API server: a kubeconfig's context, or the ServiceAccount of the pod that it runs in.

Both come down to the same two things: the *entry*, a kubeconfig of one cluster and one user for the kubernetes client
to load (TLS, proxy), and the *tokens*, which change while Miwen runs and so are kept here.

The client's own loader is not given the whole file, for four reasons (release 37): it writes private keys to files in
the temporary directory, its errors quote whole user entries, it reads a token file only once, and it runs credential
plugins without a deadline. Here key material goes to memory files (memfd_create(2)), which no disk sees and which end
with the process.

The formats: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/ and
https://kubernetes.io/docs/reference/config-api/client-authentication.v1/
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import datetime
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import trio
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText

SERVICE_ACCOUNT_DIRECTORY = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its token and the cluster's authority."""

TOKEN_FILE_SECONDS = 60.0
"""How long a token that was read from a file is used before the file is read again; client-go's value. A kubelet
replaces a token when a fifth of its life (10 minutes at least) is left."""

PLUGIN_SECONDS = 60.0
"""How long a credential plugin may take."""

PLUGIN_AGAIN_SECONDS = 10.0
"""The shortest time between two runs of a plugin whose tokens are refused."""

_EXEC_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


@attrs.frozen
class Token:
    """A bearer token, and for how many seconds from now it is good; None: until it is refused."""

    text: SensitiveText
    seconds: float | None = None


class Tokens:
    """The bearer token to use now. One task at a time fetches a new one while the others wait for it.

    Args:
        fetch: gets one; None where requests carry none (client certificates). Raises JiemiError.
        again_seconds: a token that is refused is fetched again at the earliest so long after it was fetched.
    """

    def __init__(self, fetch: Callable[[], Awaitable[Token]] | None, *, again_seconds: float = 0.0) -> None:
        self._fetch = fetch
        self._again_seconds = again_seconds
        self._lock = trio.Lock()
        self._text: SensitiveText | None = None
        self._fetched_at = float("-inf")
        self._old_at = float("-inf")

    async def get(self, *, refused: SensitiveText | None = None) -> SensitiveText | None:
        """The token.

        Args:
            refused: one that the API server did not accept: another is fetched if this is still the newest.

        Raises:
            JiemiError: ClusterUnavailable, where it can't be had.
        """
        if self._fetch is None:
            return None
        async with self._lock:
            now = trio.current_time()
            again = refused is not None and refused == self._text and now >= self._fetched_at + self._again_seconds
            if again or now >= self._old_at:
                token = await self._fetch()
                self._text = _usable(token.text)
                self._fetched_at = trio.current_time()
                self._old_at = self._fetched_at + (float("inf") if token.seconds is None else token.seconds)
            return self._text


@attrs.frozen
class Access:
    """A way to an API server.

    Attributes:
        entry: a kubeconfig with one cluster, one user (client certificate at most) and one context; paths absolute.
        tokens: what requests carry.
        server: its URL.
        origin: where the credentials come from, for messages.
    """

    entry: Mapping[str, Any] = attrs.field(repr=False)
    tokens: Tokens
    server: str
    origin: str


def in_cluster(
    environment: Mapping[str, str], *, directory: Path = SERVICE_ACCOUNT_DIRECTORY, why: str = "no kubeconfig is given"
) -> Access:
    """The access that a pod has: https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/

    Raises:
        JiemiError: KubeconfigInvalid, this is no pod.
    """
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise JiemiError(
            "KubeconfigInvalid",
            f"{why}, and this is no pod: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set. "
            "Give --kubeconfig",
        )
    authority = directory / "ca.crt"
    for needed in (authority, directory / "token"):
        if not needed.is_file():
            raise JiemiError(
                "KubeconfigInvalid",
                f"{why}, and this pod has no {needed}: set automountServiceAccountToken, or give --kubeconfig",
            )
    server = f"https://{f'[{host}]' if ':' in host else host}:{port}"
    entry = _entry({"server": server, "certificate-authority": str(authority)}, {})
    return Access(entry, Tokens(_token_file(directory / "token")), server, "the pod's ServiceAccount")


def pods_namespace(directory: Path = SERVICE_ACCOUNT_DIRECTORY) -> str | None:
    """The namespace of the pod that this runs in; None where nothing tells (this is no pod)."""
    try:
        return (directory / "namespace").read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def usual_namespace(kubeconfig: Path | None, context: str | None) -> str:
    """The namespace that a person's command is about where none is named, as kubectl has it: the context's, that of the
    pod where there is no kubeconfig, or `default`.

    Raises:
        JiemiError: KubeconfigInvalid.
    """
    if kubeconfig is None:
        return pods_namespace() or "default"
    config = _read(kubeconfig)
    chosen = _named(kubeconfig, config, "contexts", "context", context or config.get("current-context"))
    found = chosen.get("namespace")
    return found if isinstance(found, str) and found else "default"


def from_kubeconfig(
    path: Path, context: str | None, *, environment: Mapping[str, str], memory: contextlib.ExitStack
) -> Access:
    """The access that a kubeconfig's context gives.

    It may name a command that gets tokens (`exec`), so the file must be the operator's own.

    Args:
        path: of the file.
        context: its name, or None for the current one.
        environment: what the command gets, beside what the file adds.
        memory: keeps the files in memory that hold certificates and keys.

    Raises:
        JiemiError: KubeconfigInvalid; its message names the field and no value of it.
    """
    config = _read(path)
    name = context or config.get("current-context")
    if not isinstance(name, str) or not name:
        raise _invalid(path, "it has no current-context: set one, or give --context")
    chosen = _named(path, config, "contexts", "context", name)
    cluster = dict(_named(path, config, "clusters", "cluster", chosen.get("cluster")))
    user = dict(_named(path, config, "users", "user", chosen.get("user"))) if chosen.get("user") else {}
    server = cluster.get("server")
    if not isinstance(server, str) or not server.startswith(("https://", "http://")):
        raise _invalid(path, "the cluster's `server` is no http or https URL")
    for field in ("auth-provider", "username", "as", "as-uid", "as-groups", "as-user-extra"):
        if user.get(field):
            # Left out in silence, `as` would give Miwen more rights than the file means to.
            raise _invalid(
                path, f"the user has `{field}`, which Miwen can't use: give it a token, `exec` or a certificate"
            )
    known = {key: value for key, value in cluster.items() if isinstance(value, (str, bool)) and value != ""}
    made = {
        **_in_memory(path, known, ("certificate-authority",), memory),
        **_in_memory(path, user, ("client-certificate", "client-key"), memory),
    }
    keep = ("insecure-skip-tls-verify", "tls-server-name", "proxy-url")
    entry = _entry(
        {"server": server, **{key: known[key] for key in keep if key in known}}
        | {key: value for key, value in made.items() if key == "certificate-authority"},
        {key: value for key, value in made.items() if key != "certificate-authority"},
    )
    tokens = _tokens(path, user, cluster, environment)
    return Access(entry, tokens, server.rstrip("/"), f"context {name} of {path}")


def _entry(cluster: Mapping[str, Any], user: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "miwen",
        "contexts": [{"name": "miwen", "context": {"cluster": "miwen", "user": "miwen"}}],
        "clusters": [{"name": "miwen", "cluster": dict(cluster)}],
        "users": [{"name": "miwen", "user": dict(user)}],
    }


def _invalid(path: Path, what: str) -> JiemiError:
    return JiemiError("KubeconfigInvalid", f"kubeconfig {path}: {what}")


def _read(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "no UTF-8"
        raise _invalid(path, f"it can't be read: {why}") from error
    try:
        config = YAML(typ="safe", pure=True).load(text)
    except YAMLError:
        # The parser's error quotes the line, which may be a token's.
        raise _invalid(path, "it is no YAML") from None
    if not isinstance(config, dict):
        raise _invalid(path, "it is no mapping")
    return config


def _named(path: Path, config: Mapping[str, Any], section: str, field: str, name: object) -> Mapping[str, Any]:
    entries = config.get(section)
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and entry.get("name") == name:
            if not isinstance(entry.get(field), dict):
                break
            found: Mapping[str, Any] = entry[field]
            return found
    raise _invalid(path, f"`{section}` has no {field} named {str(name)[:100]!r}")


def _in_memory(
    path: Path, fields: Mapping[str, Any], names: tuple[str, ...], memory: contextlib.ExitStack
) -> dict[str, str]:
    """The named fields as paths; what is given as data is put into a file in memory."""
    made: dict[str, str] = {}
    for name in names:
        data, file = fields.get(f"{name}-data"), fields.get(name)
        if isinstance(data, str) and data:
            try:
                content = base64.b64decode("".join(data.split()), validate=True)
            except (binascii.Error, ValueError):
                raise _invalid(path, f"`{name}-data` is no base64") from None
            made[name] = _memory_file(name, content, memory)
        elif isinstance(file, str) and file:
            made[name] = str(path.absolute().parent / file)
            if not Path(made[name]).is_file():
                raise _invalid(path, f"`{name}` names {made[name]}, which is no file")
    return made


def _memory_file(name: str, content: bytes, memory: contextlib.ExitStack) -> str:
    handle = os.memfd_create(f"jiemi-{name}")
    memory.callback(os.close, handle)
    with open(handle, "wb", closefd=False) as file:
        file.write(content)
    return f"/proc/self/fd/{handle}"


def _tokens(path: Path, user: Mapping[str, Any], cluster: Mapping[str, Any], environment: Mapping[str, str]) -> Tokens:
    if isinstance(user.get("tokenFile"), str) and user["tokenFile"]:
        return Tokens(_token_file(path.absolute().parent / user["tokenFile"]))
    if user.get("token"):
        token = Token(SensitiveText(str(user["token"])))

        async def given() -> Token:
            return token

        return Tokens(given)
    plugin = user.get("exec")
    if plugin is None:
        return Tokens(None)
    if not isinstance(plugin, dict) or not isinstance(plugin.get("command"), str) or not plugin["command"]:
        raise _invalid(path, "the user's `exec` has no `command`")
    if plugin.get("apiVersion") not in _EXEC_VERSIONS:
        raise _invalid(path, f"the user's `exec.apiVersion` is none of {', '.join(_EXEC_VERSIONS)}")
    if plugin.get("interactiveMode") == "Always":
        raise _invalid(path, "the user's `exec` wants a terminal (interactiveMode: Always), and Miwen has none")
    return Tokens(_plugin(path, plugin, cluster, environment), again_seconds=PLUGIN_AGAIN_SECONDS)


_RUN_IT = "Run it by hand to see why: what it says is in no log of Miwen's."


def _token_file(path: Path) -> Callable[[], Awaitable[Token]]:
    async def read() -> Token:
        try:
            text = await trio.Path(path).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise JiemiError(
                "ClusterAccessDenied",
                f"the token file {path} can't be read",
                "Let Miwen read that file; a Pod's is its ServiceAccount's projected token.",
            ) from error
        return Token(SensitiveText(text), TOKEN_FILE_SECONDS)

    return read


def _plugin(
    path: Path, plugin: Mapping[str, Any], cluster: Mapping[str, Any], environment: Mapping[str, str]
) -> Callable[[], Awaitable[Token]]:
    directory = path.absolute().parent
    command = plugin["command"]
    added = {
        str(item["name"]): str(item.get("value", ""))
        for item in plugin.get("env") or ()
        if isinstance(item, dict) and "name" in item
    }
    info: dict[str, Any] = {
        "apiVersion": plugin["apiVersion"],
        "kind": "ExecCredential",
        "spec": {"interactive": False},
    }
    if plugin.get("provideClusterInfo"):
        info["spec"]["cluster"] = {key: value for key, value in cluster.items() if key != "extensions"}
    env = {**environment, **added, "KUBERNETES_EXEC_INFO": json.dumps(info)}
    arguments = [str(argument) for argument in plugin.get("args") or ()]
    failed = f"the credential plugin {command} of {path}"

    async def run() -> Token:
        program = str(directory / command) if "/" in command else shutil.which(command, path=env.get("PATH", ""))
        if program is None:
            raise JiemiError(
                "ClusterAccessDenied",
                f"{failed} is not on the PATH",
                "Install it, or correct the user's `exec.command`.",
            )
        try:
            with trio.fail_after(PLUGIN_SECONDS):
                done = await trio.run_process(
                    [program, *arguments],
                    capture_stdout=True,
                    # What it says is between it and the operator; it may hold what no log of ours should.
                    stderr=subprocess.DEVNULL,
                    check=False,
                    env=env,
                    cwd=directory,
                    start_new_session=True,
                    deliver_cancel=_kill_group,
                )
        except (OSError, trio.TooSlowError) as error:
            why = f"did not end in {PLUGIN_SECONDS:g} s" if isinstance(error, trio.TooSlowError) else "can't be started"
            raise JiemiError("ClusterAccessDenied", f"{failed} {why}", _RUN_IT) from error
        if done.returncode != 0:
            raise JiemiError("ClusterAccessDenied", f"{failed} ended with {done.returncode}", _RUN_IT)
        token = read_exec_credential(done.stdout, datetime.datetime.now(datetime.UTC))
        if token is None:
            raise JiemiError("ClusterAccessDenied", f"{failed} gave no ExecCredential with a status.token", _RUN_IT)
        return token

    return run


async def _kill_group(process: trio.Process) -> None:
    """End a plugin with what it started; it holds nothing that needs an orderly end."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def read_exec_credential(output: bytes, now: datetime.datetime) -> Token | None:
    """The token that a credential plugin printed, or None where it printed none."""
    try:
        status = json.loads(output)["status"]
        text = status["token"]
        expires = status.get("expirationTimestamp")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if not isinstance(text, str) or not text:
        return None
    if expires is None:
        return Token(SensitiveText(text))
    try:
        moment = datetime.datetime.fromisoformat(expires)
        seconds = (moment - now).total_seconds()
    except (ValueError, TypeError, OverflowError):
        # No time, or one without a zone: a token that is fetched again for each request would be worse.
        return Token(SensitiveText(text))
    return Token(SensitiveText(text), max(seconds, 0.0))


def _usable(token: SensitiveText) -> SensitiveText:
    """The token without the newline that files end with.

    Raises:
        JiemiError: it can't be sent in a header; the HTTP library's own error would quote it.
    """
    text = token.reveal().strip()
    if not text or not text.isascii() or not text.isprintable():
        raise JiemiError("ClusterAccessDenied", "the token for the API server is empty or is no printable ASCII text")
    return SensitiveText(text)
