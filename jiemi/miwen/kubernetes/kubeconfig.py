"""The way to the API server that a kubeconfig's context gives.

The client's own loader is not given the whole file, for four reasons (release 37): it writes private keys to files in
the temporary directory, its errors quote whole user entries, it reads a token file only once, and it runs credential
plugins without a deadline. Here key material goes to memory files (memfd_create(2)), which no disk sees and which end
with the process.

https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.miwen.kubernetes.access import Access, client_entry, pods_namespace
from jiemi.miwen.kubernetes.credential_plugin import PLUGIN_AGAIN_SECONDS, credential_plugin
from jiemi.miwen.kubernetes.tokens import Token, Tokens, token_file

_EXEC_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


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
        path: the file's path.
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
    entry = client_entry(
        {"server": server, **{key: known[key] for key in keep if key in known}}
        | {key: value for key, value in made.items() if key == "certificate-authority"},
        {key: value for key, value in made.items() if key != "certificate-authority"},
    )
    tokens = _tokens(path, user, cluster, environment)
    return Access(entry, tokens, server.rstrip("/"), f"context {name} of {path}")


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
        return Tokens(token_file(path.absolute().parent / user["tokenFile"]))
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
    return Tokens(credential_plugin(path, plugin, cluster, environment), again_seconds=PLUGIN_AGAIN_SECONDS)
