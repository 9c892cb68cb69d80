"""Kubeconfigs: what is read from them, and what is wrong with them, without showing a secret."""

from __future__ import annotations

import base64
import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jiemi.core.errors import JiemiError
from jiemi.miwen.kubernetes.access import Access
from jiemi.miwen.kubernetes.kubeconfig import from_kubeconfig

CANARY = "canary-5f1e9c"
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


async def test_a_token_file_is_found_beside_the_kubeconfig(load: Load, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("one\n")
    assert await revealed(load(config({"tokenFile": "token"}))) == "one"


async def test_a_plugin_gets_the_cluster_where_it_asks_for_it(load: Load, tmp_path: Path) -> None:
    path = tmp_path / "plugin"
    path.write_text("""#!/bin/sh\nprintf '%s' "$KUBERNETES_EXEC_INFO" > info; echo '{"status": {"token": "t"}}'""")
    path.chmod(0o700)
    user = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "./plugin",
            "args": [CANARY],
            "provideClusterInfo": True,
        }
    }
    authority = {"certificate-authority-data": base64.b64encode(b"authority").decode()}
    assert await revealed(load(config(user, **authority), PATH=os.environ["PATH"])) == "t"
    info = json.loads((tmp_path / "info").read_text())
    assert info["spec"]["cluster"]["server"] == SERVER
    assert info["spec"]["interactive"] is False
