"""A real forge: Gitea (tests/data/gitea, built from pinned Go modules) on loopback, with its own ssh server."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pwd
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import trio
from support.kubernetes.control_plane import tool_settings
from support.kubernetes.go_programs import go_program
from support.paths import DATA

from jiemi.controlplane.build import find_go
from jiemi.controlplane.cache import ToolCache

USER, PASSWORD = "me", "a-password-of-the-tests"
_MODULE = "code.gitea.io/gitea"
_START_SECONDS = 120

_CONFIGURATION = """\
RUN_MODE = prod
RUN_USER = {user}
WORK_PATH = {folder}
[server]
HTTP_ADDR = 127.0.0.1
HTTP_PORT = {port}
ROOT_URL = http://127.0.0.1:{port}/
STATIC_ROOT_PATH = {static}
OFFLINE_MODE = true
START_SSH_SERVER = true
SSH_LISTEN_HOST = 127.0.0.1
SSH_LISTEN_PORT = {ssh_port}
SSH_PORT = {ssh_port}
SSH_DOMAIN = 127.0.0.1
BUILTIN_SSH_SERVER_USER = git
LFS_START_SERVER = false
[database]
DB_TYPE = sqlite3
PATH = {folder}/gitea.db
[security]
INSTALL_LOCK = true
SECRET_KEY = of-the-tests-of-the-tests-of-the-tests
[ssh.minimum_key_sizes]
RSA = 2048
[webhook]
ALLOWED_HOST_LIST = loopback
[picture]
DISABLE_GRAVATAR = true
[indexer]
ISSUE_INDEXER_TYPE = db
[cron]
ENABLED = false
[cron.update_checker]
ENABLED = false
[actions]
ENABLED = false
[log]
LEVEL = Warn
[repository]
ROOT = {folder}/repositories
"""
"""Nothing but loopback is asked: no avatars, no check for updates, no content networks."""


@attrs.define
class Forge:
    """A forge that runs.

    Attributes:
        url: without a slash at its end.
        ssh_port: of its ssh server on loopback.
    """

    url: str
    ssh_port: int

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Ask its API, as its user."""
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        request = urllib.request.Request(  # noqa: S310 - of loopback
            f"{self.url}/api/v1{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Basic {login}", "Content-Type": "application/json"},
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def create(self, name: str) -> str:
        """A private, empty repository; gives its URL over http."""
        self.call("POST", "/user/repos", {"name": name, "private": True, "default_branch": "main"})
        return f"{self.url}/{USER}/{name}.git"

    def ssh_url(self, name: str) -> str:
        return f"ssh://git@127.0.0.1:{self.ssh_port}/{USER}/{name}.git"

    def token(self, name: str) -> str:
        """A token that may read repositories."""
        body = {"name": name, "scopes": ["read:repository"]}
        return str(self.call("POST", f"/users/{USER}/tokens", body)["sha1"])

    def add_deploy_key(self, name: str, public: str) -> None:
        """A key that may read the repository."""
        self.call("POST", f"/repos/{USER}/{name}/keys", {"title": public[-40:], "key": public, "read_only": True})

    def add_webhook(self, name: str, url: str, secret: str) -> None:
        """A webhook of pushes."""
        config = {"url": url, "content_type": "json", "secret": secret}
        body = {"type": "gitea", "config": config, "events": ["push", "create", "delete"], "active": True}
        self.call("POST", f"/repos/{USER}/{name}/hooks", body)

    def url_to_push(self, name: str) -> str:
        """With its user's password."""
        return f"{self.url.replace('://', f'://{USER}:{PASSWORD}@')}/{USER}/{name}.git"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


async def _static_files() -> Path:
    """Gitea's templates and options, in the module as Go keeps it."""
    settings = tool_settings()
    environment = {**settings.environment, "GOFLAGS": "-mod=mod", "GOWORK": "off"}
    async with ToolCache(settings.cache_dir).making(lambda: None) as making:
        go, _ = await find_go(settings, making, lambda _: None)
        folder = making.directory / "gitea-files"
        folder.mkdir()
        for name in ("go.mod", "go.sum"):
            shutil.copy(DATA / "gitea" / name, folder / name)
        for arguments in (("mod", "download", _MODULE), ("list", "-m", "-f", "{{.Dir}}", _MODULE)):
            done = await trio.run_process(
                [str(go), *arguments], cwd=folder, env=environment, capture_stdout=True, capture_stderr=True
            )
        return Path(done.stdout.decode().strip())


@contextlib.contextmanager
def forge(folder: Path) -> Iterator[Forge]:
    """Gitea with one user, as a process that ends with the context.

    Args:
        folder: in which it keeps everything; it is made.
    """
    program, static = trio.run(go_program, "gitea"), trio.run(_static_files)
    folder.mkdir()
    port, ssh_port = _free_port(), _free_port()
    user = pwd.getpwuid(os.getuid()).pw_name
    configuration = folder / "app.ini"
    configuration.write_text(
        _CONFIGURATION.format(user=user, folder=folder, port=port, ssh_port=ssh_port, static=static)
    )
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "USER": user,
        "GITEA_I_AM_BEING_UNSAFE_RUNNING_AS_ROOT": "true",
    }
    base = [str(program), "--config", str(configuration)]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen([*base, "web"], env=environment, stdout=output, stderr=output, cwd=folder)
    try:
        made = Forge(f"http://127.0.0.1:{port}", ssh_port)
        _wait_for(made, process, log)
        create = ["admin", "user", "create", "--username", USER, "--password", PASSWORD, "--email", "me@forge.example"]
        subprocess.run(
            [*base, *create, "--admin", "--must-change-password=false"],
            env=environment,
            cwd=folder,
            check=True,
            capture_output=True,
        )
        yield made
    finally:
        process.terminate()
        process.wait()


def _wait_for(made: Forge, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            with socket.create_connection(("127.0.0.1", int(made.url.rpartition(":")[2])), timeout=5):
                break
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
