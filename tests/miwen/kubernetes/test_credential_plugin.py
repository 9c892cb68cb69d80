"""A credential plugin's token is used; whatever else it says is repeated nowhere, and it ends when its time is up."""

from __future__ import annotations

import datetime
import json
import os
import signal
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.miwen.kubernetes.credential_plugin import credential_plugin, read_exec_credential
from jiemi.miwen.kubernetes.tokens import Token, Tokens

CANARY = "canary-5f1e9c"
NOW = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)


def plugin(folder: Path, script: str, command: str = "./plugin", **environment: str) -> Tokens:
    """The tokens that a script gets, as the plugin of a kubeconfig in that folder."""
    path = folder / "plugin"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    user = {"apiVersion": "client.authentication.k8s.io/v1", "command": command, "args": [CANARY]}
    return Tokens(credential_plugin(folder / "kubeconfig", user, {}, environment))


@pytest.mark.parametrize(
    ("script", "part"),
    [
        (f"echo {CANARY} >&2; exit 3", "ended with 3. Run it by hand to see why"),
        (f"echo {CANARY}", "no ExecCredential"),
        (f"""echo '{{"status": {{"clientKeyData": "{CANARY}"}}}}'""", "no ExecCredential"),
    ],
)
async def test_what_a_failing_plugin_says_is_not_repeated(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], script: str, part: str
) -> None:
    with pytest.raises(JiemiError) as caught:
        await plugin(tmp_path, script).get()
    assert caught.value.failure.reason == "ClusterAccessDenied"
    assert part in caught.value.failure.text
    assert CANARY not in str(caught.value)
    assert CANARY not in "".join(capfd.readouterr())


@pytest.mark.parametrize("command", ["./away", "jiemi-no-such-plugin"])
async def test_a_plugin_that_is_not_there_is_named(tmp_path: Path, command: str) -> None:
    with pytest.raises(JiemiError, match=command):
        await plugin(tmp_path, "", command, PATH="/nonexistent").get()


async def test_a_plugin_that_hangs_is_ended_with_what_it_started(tmp_path: Path) -> None:
    script = "sleep 1000 &\necho $! > child; mv child pid; wait"
    tokens = plugin(tmp_path, script, PATH=os.environ["PATH"])
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tokens.get)
            while not (tmp_path / "pid").exists():  # noqa: ASYNC110
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        child = int((tmp_path / "pid").read_text())
        while _runs(child):  # noqa: ASYNC110
            await trio.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIG_DFL)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.mark.parametrize(
    ("status", "token"),
    [
        ({"token": "t"}, Token(SensitiveText("t"))),
        ({"token": "t", "expirationTimestamp": "2026-11-24T01:00:00Z"}, Token(SensitiveText("t"), 3600.0)),
        ({"token": "t", "expirationTimestamp": "2026-11-23T00:00:00Z"}, Token(SensitiveText("t"), 0.0)),
        ({"token": "t", "expirationTimestamp": "2026-11-24T01:00:00"}, Token(SensitiveText("t"))),
        ({"token": "t", "expirationTimestamp": "soon"}, Token(SensitiveText("t"))),
        ({"token": "t", "expirationTimestamp": 7}, Token(SensitiveText("t"))),
        ({"token": ""}, None),
        ({"token": 7}, None),
        ({}, None),
        (None, None),
    ],
)
def test_an_exec_credential_is_read(status: object, token: Token | None) -> None:
    assert read_exec_credential(json.dumps({"status": status}).encode(), NOW) == token


@given(
    st.binary()
    | st.recursive(
        st.none() | st.text() | st.floats(), lambda inner: st.dictionaries(st.sampled_from(["status", "token"]), inner)
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_output_of_a_plugin_is_a_token_or_none(output: bytes) -> None:
    token = read_exec_credential(output, NOW)
    assert token is None or token.text.reveal()
