"""Runs the command that a kubeconfig names for getting a token (`exec`), with a deadline.

What the command writes to its standard error is between it and the operator, and is in no message and no log.
https://kubernetes.io/docs/reference/config-api/client-authentication.v1/
"""

from __future__ import annotations

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

import trio

from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.miwen.kubernetes.tokens import Token

PLUGIN_SECONDS = 60.0
"""How long a credential plugin may take."""

PLUGIN_AGAIN_SECONDS = 10.0
"""The shortest time between two runs of a plugin whose tokens are refused."""

_RUN_IT = "Run it by hand to see why: what it says is in no log of Miwen's."


def credential_plugin(
    path: Path, plugin: Mapping[str, Any], cluster: Mapping[str, Any], environment: Mapping[str, str]
) -> Callable[[], Awaitable[Token]]:
    """Gets tokens by running a command; the function that is returned raises JiemiError: ClusterAccessDenied.

    Args:
        path: the path of the kubeconfig, beside which the command is looked for.
        plugin: the user's `exec`, with its `command` and `apiVersion`.
        cluster: the kubeconfig's, given to a command that asks for it.
        environment: what the command gets, beside what `exec` adds.
    """
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
