"""Kubeconfigs and pods' accounts: what is read from them, and what is wrong with them, without showing a secret."""

from __future__ import annotations

import base64
import contextlib
import datetime
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.miwen.kubernetes.access import (
    PLUGIN_AGAIN_SECONDS,
    TOKEN_FILE_SECONDS,
    Access,
    Token,
    Tokens,
    from_kubeconfig,
    in_cluster,
    read_exec_credential,
)

CANARY = "canary-5f1e9c"
NOW = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)
SERVER = "https://cluster.example:6443"


@pytest.fixture
def memory() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def config(user: dict[str, Any] | None = None, **cluster: Any) -> dict[str, Any]:
    return {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": SERVER, **cluster}}],
        "users": [{"name": "u", "user": {"token": CANARY} if user is None else user}],
    }


Load = Callable[..., Access]


@pytest.fixture
def load(tmp_path: Path, memory: contextlib.ExitStack) -> Load:
    def load(content: object, context: str | None = None, **environment: str) -> Access:
        path = tmp_path / "kubeconfig"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return from_kubeconfig(path, context, environment=environment, memory=memory)

    return load


async def revealed(access: Access) -> str | None:
    token = await access.tokens.get()
    return None if token is None else token.reveal()


async def test_the_current_context_is_used_unless_another_is_named(load: Load) -> None:
    both = config()
    both["contexts"].append({"name": "there", "context": {"cluster": "c2", "user": "u2"}})
    both["clusters"].append({"name": "c2", "cluster": {"server": "http://there.example/"}})
    both["users"].append({"name": "u2", "user": {"token": "other"}})
    here, there = load(both), load(both, "there")
    assert (here.server, await revealed(here)) == (SERVER, CANARY)
    assert (there.server, await revealed(there)) == ("http://there.example", "other")
    assert CANARY not in repr(here)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("", "no mapping"),
        ("[]", "no mapping"),
        (f"token: [{CANARY}", "no YAML"),
        (f"token: {CANARY}\n  x: {{", "no YAML"),
        (config() | {"current-context": None}, "no current-context"),
        (config() | {"current-context": "away"}, "`contexts` has no context named 'away'"),
        (config() | {"contexts": None}, "`contexts` has no context"),
        (config() | {"clusters": [{"name": "c"}]}, "`clusters` has no cluster named 'c'"),
        (config() | {"users": [{"name": "u", "token": CANARY}]}, "`users` has no user named 'u'"),
        (config(server=""), "no http or https URL"),
        (config(server=7), "no http or https URL"),
        (config({"auth-provider": {"name": "oidc", "config": {"id-token": CANARY}}}), "`auth-provider`"),
        (config({"username": "a", "password": CANARY}), "`username`"),
        (config({"token": CANARY, "as": "someone"}), "`as`"),
        (config({"client-key-data": f"{CANARY}="}), "`client-key-data` is no base64"),
        (config({"client-certificate": "away.pem"}), "which is no file"),
        (config({"exec": {"args": [CANARY]}}), "no `command`"),
        (config({"exec": {"command": "c", "args": [CANARY]}}), "`exec.apiVersion`"),
        (
            config(
                {"exec": {"command": "c", "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Always"}}
            ),
            "a terminal",
        ),
    ],
)
def test_a_kubeconfig_that_can_not_be_used_says_what_is_wrong(load: Load, content: object, part: str) -> None:
    with pytest.raises(JiemiError) as caught:
        load(content)
    assert caught.value.failure.reason == "KubeconfigInvalid"
    assert part in caught.value.failure.text
    assert CANARY not in str(caught.getrepr(chain=True))


def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path, memory: contextlib.ExitStack) -> None:
    with pytest.raises(JiemiError, match="away: it can't be read: No such file"):
        from_kubeconfig(tmp_path / "away", None, environment={}, memory=memory)


def test_files_are_found_beside_the_kubeconfig_and_data_stays_in_memory(load: Load, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("authority")
    key = base64.b64encode(CANARY.encode()).decode()
    access = load(
        config({"client-certificate": "ca.pem", "client-key-data": key}, **{"certificate-authority": "ca.pem"})
    )
    [user] = access.entry["users"]
    [cluster] = access.entry["clusters"]
    assert cluster["cluster"]["certificate-authority"] == str(tmp_path / "ca.pem")
    assert user["user"]["client-certificate"] == str(tmp_path / "ca.pem")
    assert Path(user["user"]["client-key"]).read_text() == CANARY
    assert str(user["user"]["client-key"]).startswith("/proc/self/fd/")


async def test_a_user_without_a_token_sends_none(load: Load) -> None:
    assert await revealed(load(config({}))) is None
    content = config()
    del content["contexts"][0]["context"]["user"]
    assert await revealed(load(content)) is None


@pytest.mark.parametrize("token", ["", " \n", "two\nlines", "é", "tab\there"])
async def test_a_token_that_no_header_can_hold_is_not_quoted(load: Load, tmp_path: Path, token: str) -> None:
    (tmp_path / "token").write_text(CANARY + token if token.strip() else token)
    with pytest.raises(JiemiError) as caught:
        await load(config({"tokenFile": "token"})).tokens.get()
    assert caught.value.failure.reason == "ClusterAccessDenied"
    assert CANARY not in str(caught.value)


async def test_a_token_file_is_read_again_each_minute(
    load: Load, tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    access = load(config({"tokenFile": "token"}))
    assert await revealed(access) == "one"
    file.write_text("two\n")
    mock_clock.jump(TOKEN_FILE_SECONDS - 1)
    assert await revealed(access) == "one"
    mock_clock.jump(1)
    assert await revealed(access) == "two"
    file.unlink()
    mock_clock.jump(TOKEN_FILE_SECONDS)
    with pytest.raises(JiemiError, match="can't be read"):
        await access.tokens.get()


async def test_a_refused_token_is_fetched_again_by_one_and_not_too_often(
    autojump_clock: trio.testing.MockClock,
) -> None:
    fetched = 0

    async def fetch() -> Token:
        nonlocal fetched
        fetched += 1
        await trio.sleep(1)
        return Token(SensitiveText(f"token{fetched}"))

    tokens = Tokens(fetch, again_seconds=PLUGIN_AGAIN_SECONDS)
    first = await tokens.get()
    assert await tokens.get(refused=first) == first
    await trio.sleep(PLUGIN_AGAIN_SECONDS)
    got: list[SensitiveText | None] = []

    async def get() -> None:
        got.append(await tokens.get(refused=first))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(get)
    assert got == [SensitiveText("token2")] * 20
    assert fetched == 2


# --- credential plugins


def plugin(tmp_path: Path, script: str, **fields: Any) -> dict[str, Any]:
    path = tmp_path / "plugin"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return config(
        {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "./plugin", "args": [CANARY]} | fields},
        **{"certificate-authority-data": base64.b64encode(b"authority").decode()},
    )


async def test_a_plugin_is_told_of_the_cluster_where_it_asks_for_it(load: Load, tmp_path: Path) -> None:
    script = """printf '%s' "$KUBERNETES_EXEC_INFO" > info; echo '{"status": {"token": "t"}}'"""
    assert await revealed(load(plugin(tmp_path, script, provideClusterInfo=True), PATH=os.environ["PATH"])) == "t"
    info = json.loads((tmp_path / "info").read_text())
    assert info["spec"]["cluster"]["server"] == SERVER
    assert info["spec"]["interactive"] is False


@pytest.mark.parametrize(
    ("script", "part"),
    [
        (f"echo {CANARY} >&2; exit 3", "ended with 3. Run it by hand to see why"),
        (f"echo {CANARY}", "no ExecCredential"),
        (f"""echo '{{"status": {{"clientKeyData": "{CANARY}"}}}}'""", "no ExecCredential"),
    ],
)
async def test_what_a_failing_plugin_says_is_not_repeated(
    load: Load, tmp_path: Path, capfd: pytest.CaptureFixture[str], script: str, part: str
) -> None:
    with pytest.raises(JiemiError) as caught:
        await load(plugin(tmp_path, script)).tokens.get()
    assert caught.value.failure.reason == "ClusterAccessDenied"
    assert part in caught.value.failure.text
    assert CANARY not in str(caught.value)
    assert CANARY not in "".join(capfd.readouterr())


@pytest.mark.parametrize("command", ["./away", "jiemi-no-such-plugin"])
async def test_a_plugin_that_is_not_there_is_named(load: Load, tmp_path: Path, command: str) -> None:
    with pytest.raises(JiemiError, match=command):
        await load(plugin(tmp_path, "", command=command), PATH="/nonexistent").tokens.get()


async def test_a_plugin_that_hangs_is_ended_with_what_it_started(load: Load, tmp_path: Path) -> None:
    script = "sleep 1000 &\necho $! > child; mv child pid; wait"
    access = load(plugin(tmp_path, script), PATH=os.environ["PATH"])
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(access.tokens.get)
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


# --- in a pod


def test_outside_of_a_pod_the_message_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(JiemiError, match=r"KUBERNETES_SERVICE_HOST .* Give --kubeconfig"):
        in_cluster({}, directory=tmp_path)
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    with pytest.raises(JiemiError, match=r"no .*/ca\.crt: set automountServiceAccountToken"):
        in_cluster(pod, directory=tmp_path)


async def test_in_a_pod_the_mounted_token_is_used(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("authority")
    (tmp_path / "token").write_text(CANARY)
    access = in_cluster({"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}, directory=tmp_path)
    assert access.server == "https://[fd00::1]:443"
    assert await revealed(access) == CANARY
