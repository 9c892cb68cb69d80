"""Everything real: the embedded control plane, Krapao and Miwen as processes, sops, gpg, and a git server over http."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs
import pytest
import trio
from pyrage import x25519
from ruamel.yaml import YAML
from support.kubernetes.api_server import ApiServer, Manifest
from support.network.addresses import LOOPBACK_FLAGS
from support.network.tls_folders import TlsPair
from support.processes.memory_limits import MemoryGroup

from jiemi.core.api.crd import crd
from jiemi.core.sensitive import SensitiveText
from jiemi.demo.git_server import GitServer, Intercept, git_environment, serve_git

WAIT_SECONDS = 40.0
"""The longest that anything here may take on a busy machine."""

_POLL_SECONDS = 0.1
_SETTLED_LOOKS = 10


def until(what: str, check: Callable[[], Any], *, seconds: float = WAIT_SECONDS, on_failure: Any = None) -> Any:
    """The first true value of `check`, asked again and again up to a deadline."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:g} s: {what}. {on_failure() if on_failure else ''}")
        time.sleep(_POLL_SECONDS)
    return found


_T = TypeVar("_T")


def settled(what: str, read: Callable[[], _T]) -> _T:
    """What `read` gives once it has given the same for a second: the cluster's controllers have no more to write."""
    seen: list[_T] = []

    def is_settled() -> bool:
        seen.append(read())
        return len(seen) > _SETTLED_LOOKS and all(each == seen[-1] for each in seen[-_SETTLED_LOOKS:])

    until(f"{what}: nothing changes any more", is_settled)
    return seen[-1]


@attrs.define
class Service:
    """A process of `jiemi …`, its output in a file."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        try:
            return self.process.wait(15)
        finally:
            self.process.kill()  # does nothing to one that has ended
            self.process.wait()

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")


def start_jiemi(
    folder: Path,
    *arguments: object,
    environment: Mapping[str, str] | None = None,
    group: MemoryGroup | None = None,
) -> Service:
    """Start `jiemi ARGUMENTS`, within a limit of memory where a group is given."""
    popen = subprocess.Popen if group is None else group.popen
    name = str(arguments[0])
    log = folder / f"{name}-{time.monotonic_ns()}.log"
    with log.open("wb") as output:
        process = popen(
            [sys.executable, "-m", "jiemi", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(os.environ) if environment is None else dict(environment),
        )
    return Service(name, process, log)


@attrs.frozen
class Repository:
    """A repository on the git server and a clone of it."""

    url: str
    name: str
    clone: Path
    git: str

    def run(self, *arguments: str) -> str:
        environment = git_environment(self.git, self.clone.parent)
        done = subprocess.run(
            [self.git, *arguments], cwd=self.clone, env=environment, capture_output=True, check=True, text=True
        )
        return done.stdout.strip()

    def commit(self, files: Mapping[str, bytes | None], *, push: bool = True) -> str:
        """Commit files (None removes one) and push; returns the revision."""
        for name, content in files.items():
            path = self.clone / name
            if content is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        self.run("add", "--all")
        self.run("commit", "--quiet", "--allow-empty", "--message", "change")
        if push:
            self.run("push", "--quiet", "--force", "origin", "HEAD:main")
        return self.run("rev-parse", "HEAD")


class Lab:
    """What the tests of this folder work with."""

    def __init__(self, admin: ApiServer, kubeconfig: Path, tools: Mapping[str, Path], git: GitServer, folder: Path):
        self.admin = admin
        self.kubeconfig = kubeconfig
        self.tools = tools
        self.git = git
        self.folder = folder
        self.identity = x25519.Identity.generate()
        self._numbers = itertools.count(1)
        self._services: list[Service] = []

    # Repositories and files

    def repository(self, files: Mapping[str, bytes] | None = None) -> Repository:
        name = f"r{next(self._numbers)}.git"
        url = self.git.create(name)
        clone = self.folder / name.removesuffix(".git")
        repository = Repository(url, name, clone, self.git.git)
        clone.mkdir()
        repository.run("clone", "--quiet", url, ".")
        repository.run("config", "user.name", "Test")
        repository.run("config", "user.email", "test@jiemi.invalid")
        if files is not None:
            repository.commit(files)
        return repository

    def encrypt(
        self, plain: str, *, path: str = "secret.enc.yaml", more: Sequence[str] = (), recipient: str | None = None
    ) -> bytes:
        """A file encrypted for the lab's age key, or for another."""
        form = {".json": "json", ".env": "dotenv", ".ini": "ini"}.get(Path(path).suffix, "yaml")
        done = subprocess.run(
            [
                *(self.tools["sops"], "encrypt", "--age", recipient or str(self.identity.to_public())),
                *("--input-type", form, "--output-type", form, "--filename-override", path, *more),
            ],
            input=plain.encode(),
            env={"SOPS_DISABLE_VERSION_CHECK": "1", "HOME": str(self.folder)},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def encrypt_mac_only(self, plain: str) -> bytes:
        """A YAML file of which only `stringData` is encrypted, and only what is encrypted has a MAC.

        That is a setting of sops's configuration: there is no flag for it.
        """
        recipient = str(self.identity.to_public())
        rule = {"mac_only_encrypted": True, "encrypted_regex": "^stringData$", "age": recipient}
        rules = self.folder / "mac-only.yaml"
        rules.write_text(json.dumps({"creation_rules": [rule]}))
        return subprocess.run(
            [
                *(self.tools["sops"], "--config", rules, "encrypt", "--filename-override", "x.yaml"),
                *("--input-type", "yaml", "--output-type", "yaml"),
            ],
            input=plain.encode(),
            env={"SOPS_DISABLE_VERSION_CHECK": "1", "HOME": str(self.folder)},
            capture_output=True,
            check=True,
        ).stdout

    # The cluster

    def namespace(self, name: str) -> str:
        self.admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}).ok()
        return name

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """A kubeconfig that knows its user by a token of that ServiceAccount, as a Pod does."""
        account = self.admin.service_account(namespace, name)
        config = YAML(typ="safe").load(self.kubeconfig.read_text())
        config["users"] = [{"name": "pod", "user": {"token": account.token}}]
        config["contexts"] = [{"name": "pod", "context": {"cluster": config["clusters"][0]["name"], "user": "pod"}}]
        config["current-context"] = "pod"
        path = self.folder / f"{namespace}-{name}.kubeconfig"
        path.write_text(json.dumps(config))
        return path

    def secret(self, namespace: str, name: str, **values: str) -> None:
        manifest = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace},
            "stringData": values,
        }
        self.admin.apply(manifest).ok()

    def decryptor(
        self,
        namespace: str,
        name: str,
        url: str,
        *,
        file: str = "secret.enc.yaml",
        provider: Mapping[str, Any] | None = None,
        source: Mapping[str, Any] | None = None,
        repository: Mapping[str, Any] | None = None,
    ) -> Manifest:
        """A Decryptor for the lab's age key, where nothing else is said; it is not applied here."""
        return {
            "apiVersion": "jiemi.cr/v1alpha1",
            "kind": "Decryptor",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "provider": provider or {"age": {"privateKey": {"literal": str(self.identity)}}},
                "source": {"repository": {"url": url, **(repository or {})}, "fileToDecrypt": file, **(source or {})},
            },
        }

    def delete_decryptor(self, namespace: str, name: str) -> None:
        self.admin.call("DELETE", f"/apis/jiemi.cr/v1alpha1/namespaces/{namespace}/decryptors/{name}").ok()

    def status(self, namespace: str, name: str) -> dict[str, Any]:
        path = f"/apis/jiemi.cr/v1alpha1/namespaces/{namespace}/decryptors/{name}"
        found = self.admin.call("GET", path)
        status: dict[str, Any] = found.body.get("status") or {} if found.status == 200 else {}
        return status

    def data(self, namespace: str, name: str) -> dict[str, str]:
        """The values of a Secret, decoded; empty where there is none."""
        found = self.admin.call("GET", f"/api/v1/namespaces/{namespace}/secrets/{name}")
        if found.status != 200:
            return {}
        return {key: base64.b64decode(value).decode() for key, value in found.body.get("data", {}).items()}

    def until_synced(
        self, namespace: str, name: str, revision: str, *, seconds: float = WAIT_SECONDS
    ) -> dict[str, Any]:
        def check() -> dict[str, Any] | None:
            status = self.status(namespace, name)
            current = status.get("current") or {}
            return status if (current.get("status"), current.get("revision")) == ("Sync", revision) else None

        found: dict[str, Any] = until(
            f"{name} in sync", check, seconds=seconds, on_failure=lambda: self._why(namespace, name)
        )
        return found

    def until_reason(self, namespace: str, name: str, reason: str) -> dict[str, Any]:
        def check() -> dict[str, Any] | None:
            status = self.status(namespace, name)
            found = {condition["reason"] for condition in status.get("conditions", ())}
            return status if reason in found else None

        found: dict[str, Any] = until(f"{name} says {reason}", check, on_failure=lambda: self._why(namespace, name))
        return found

    def _why(self, namespace: str, name: str) -> str:
        logs = "\n".join(service.log_text()[-3000:] for service in self._services)
        return f"status: {self.status(namespace, name)}\n{logs}"

    # Services

    def start(
        self, *arguments: object, environment: Mapping[str, str] | None = None, group: MemoryGroup | None = None
    ) -> Service:
        service = start_jiemi(self.folder, *arguments, environment=environment, group=group)
        self._services.append(service)
        return service

    def start_krapao(
        self,
        *more: object,
        name: str = "krapao",
        environment: Mapping[str, str] | None = None,
        sops: bool = True,
        group: MemoryGroup | None = None,
    ) -> tuple[Service, str]:
        """Start Krapao; returns it with its address, once it can be reached."""
        socket = self.folder / f"{name}.sock"
        given = ("--sops", self.tools["sops"]) if sops else ()
        arguments = ("--listen", f"unix:{socket}", "--state-dir", self.folder / f"{name}-state", *LOOPBACK_FLAGS)
        given = ("--runtime-dir", self.folder, *given)
        service = self.start("krapao", *arguments, *given, *more, environment=environment, group=group)
        until(
            "Krapao serves",
            lambda: socket.exists() or service.process.poll() is not None,
            on_failure=service.log_text,
        )
        assert service.process.poll() is None, service.log_text()
        return service, f"unix:{socket}"

    def start_krapao_on_tcp(
        self, tls: TlsPair, *more: object, name: str, group: MemoryGroup | None = None
    ) -> tuple[Service, str]:
        """Start Krapao on a port of loopback, with TLS; returns it with its address, once it can be reached."""
        service = self.start(
            *("krapao", "--listen", "tcp:127.0.0.1:0", "--tls-dir", tls.krapao, "--log-format", "json"),
            *("--runtime-dir", self.folder, "--sops", self.tools["sops"], *LOOPBACK_FLAGS),
            *(more if "--state-dir" in more else ("--state-dir", self.folder / f"{name}-state", *more)),
            group=group,
        )
        serving = re.compile(r'"address": "(tcp:127\.0\.0\.1:\d+)", "event": "serving"')
        found = until("Krapao serves", lambda: serving.search(service.log_text()), on_failure=service.log_text)
        return service, found[1]

    def start_miwen(
        self, address: str, namespace: str, *more: object, interval: str = "1s", kubeconfig: Path | None = None
    ) -> Service:
        config = kubeconfig or self.kubeconfig
        arguments = ("--krapao", address, "--kubeconfig", config, "--namespace", namespace, "--interval", interval)
        return self.start("miwen", *arguments, *more)

    def end_services(self) -> None:
        with contextlib.ExitStack() as ending:  # one that does not end keeps no other from it
            for service in self._services:
                if service.process.poll() is None:
                    ending.callback(service.end)
            self._services.clear()

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace") for path in self.folder.glob("*.log"))


@pytest.fixture(scope="module")
def lab(admin: ApiServer, control_plane: Path, tools: dict[str, Path]) -> Iterator[Lab]:
    """A lab for the tests of one module. Its services are ended with it."""
    parent = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="jiemi-lab-", dir=parent) as name, git_server(Path(name)) as git:
        made = admin.apply(crd())
        assert made.status < 300, made.body
        # Served first, and its storage is there a moment later (429 until then).
        until("the CRD is served", lambda: admin.call("GET", "/apis/jiemi.cr/v1alpha1/decryptors").status == 200)
        lab = Lab(admin, control_plane, tools, git, Path(name))
        try:
            yield lab
        finally:
            lab.end_services()


@contextlib.contextmanager
def git_server(
    folder: Path,
    *,
    username: str | None = None,
    token: SensitiveText | None = None,
    bearer: SensitiveText | None = None,
    tls: ssl.SSLContext | None = None,
    intercept: Intercept | None = None,
) -> Iterator[GitServer]:
    """A git server, in a thread with a trio of its own: a module outlives a test's."""
    root = folder / "git"
    root.mkdir(parents=True)
    servers: list[GitServer] = []
    started, scopes = threading.Event(), []

    async def serve() -> None:
        with trio.CancelScope() as scope:
            async with serve_git(root, username=username, token=token, bearer=bearer, tls=tls) as server:
                server.intercept = intercept
                servers.append(server)
                scopes.append((scope, trio.lowlevel.current_trio_token()))
                started.set()
                await trio.sleep_forever()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    try:
        assert started.wait(10)
        yield servers[0]
    finally:
        for scope, trio_token in scopes:
            trio_token.run_sync_soon(scope.cancel)
        thread.join()


@pytest.fixture(scope="session")
def pgp_key() -> Iterator[str]:
    """A fresh OpenPGP private key, armored, without passphrase; made in a home of its own."""
    parent = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="gpg-", dir=parent) as home:
        gpg = shutil.which("gpg")
        assert gpg is not None, "the tests need gpg"
        base = [gpg, "--homedir", home, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
        subprocess.run(
            [*base, "--quick-gen-key", "Jiemi test <test@jiemi.invalid>", "rsa2048", "default", "never"],
            check=True,
            capture_output=True,
        )
        armored = subprocess.run([*base, "--armor", "--export-secret-keys"], check=True, capture_output=True).stdout
        subprocess.run([shutil.which("gpgconf") or "gpgconf", "--homedir", home, "--kill", "all"], check=True)
        yield armored.decode()
