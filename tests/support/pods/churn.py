"""Repositories that are committed to all the time, followed by Pods that are killed meanwhile.

After each fault the cluster must be as git is: every commit deployed, every Secret there with its value, all Ready.
"""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
from support.kubernetes.api_server import ApiServer
from support.kubernetes.kubectl import Kubectl
from support.pods.demo import until
from support.pods.running import active_pod, pods_of

from jiemi.demo.content import KEY_NAME, KEY_SECRET, AgeKeyPair
from jiemi.demo.git_server import GitServer, git_environment

REPOSITORIES = 6
SECRETS = 4
"""In the file of each repository."""

VARIANTS = 3
"""In how many forms a file comes."""

_RIGHT_SECONDS = 90.0
_TABLE = "jiemi_partition"


@attrs.define
class Churn:
    """See the module.

    Attributes:
        kubectl: in the namespace of the Decryptors.
        api: the API server, for what is looked at many times a second.
        jiemi: kubectl in Jiemi's own namespace.
        clones: of each repository, by name.
        contents: for each repository its variants: the encrypted file, and the values that it gives.
        current: for each repository, the variant that it has now.
        variants: of each commit.
    """

    kubectl: Kubectl
    api: ApiServer
    jiemi: Kubectl
    clones: Mapping[str, Path]
    contents: Mapping[str, list[tuple[bytes, Mapping[str, str]]]]
    git: str
    home: Path
    random: random.Random
    current: dict[str, int] = attrs.field(factory=dict)
    variants: dict[str, int] = attrs.field(factory=dict)

    def commit(self, name: str) -> None:
        """Commit another variant of a repository's file, and push it."""
        variant = self.random.choice([each for each in range(VARIANTS) if each != self.current[name]])
        self._push(name, variant)

    def commit_some(self) -> None:
        """Commit to some repositories."""
        for name in self.random.sample(sorted(self.clones), self.random.randint(1, 3)):
            self.commit(name)

    def _push(self, name: str, variant: int) -> None:
        clone, environment = self.clones[name], git_environment(self.git, self.home)
        (clone / "secrets.enc.yaml").write_bytes(self.contents[name][variant][0])
        for command in (
            ("add", "."),
            ("commit", "--quiet", "--allow-empty", "--message", f"variant {variant}"),
            ("push", "--quiet", "origin", "HEAD:main"),
        ):
            subprocess.run([self.git, *command], cwd=clone, env=environment, check=True, timeout=60)
        done = subprocess.run(
            [self.git, "rev-parse", "HEAD"], cwd=clone, env=environment, check=True, capture_output=True, text=True
        )
        self.current[name] = self.variants[done.stdout.strip()] = variant

    def start(self) -> None:
        """Make the Decryptors, each of one repository."""
        for name, clone in self.clones.items():
            self._push(name, 0)
            url = subprocess.run(
                [self.git, "remote", "get-url", "origin"], cwd=clone, check=True, capture_output=True, text=True
            ).stdout.strip()
            self.kubectl("apply", "-f", "-", given=_decryptor(name, url))

    # --- what there must be

    def wanted(self) -> dict[str, str]:
        return {key: value for name in self.clones for key, value in self.contents[name][self.current[name]][1].items()}

    def live(self) -> dict[str, str]:
        items = self.api.call("GET", f"/api/v1/namespaces/{self.kubectl.namespace}/secrets").ok()["items"]
        return {
            item["metadata"]["name"]: base64.b64decode(item.get("data", {}).get("value", "")).decode()
            for item in items
            if item["metadata"]["name"].startswith("r")
        }

    def wrong(self) -> list[str]:
        """What is not as git is."""
        path = f"/apis/jiemi.cr/v1alpha1/namespaces/{self.kubectl.namespace}/decryptors"
        found = []
        for item in self.api.call("GET", path).ok()["items"]:
            name, status = item["metadata"]["name"], item.get("status") or {}
            conditions: list[Any] = status.get("conditions") or []
            ready: Any = next((each for each in conditions if each["type"] == "Ready"), {})
            revision = (status.get("current") or {}).get("revision", "")
            # A commit that brings back what is deployed leaves the deployed revision as it is.
            if self.variants.get(revision) != self.current[name] or ready.get("status") != "True":
                found.append(
                    f"{name} is at {revision}: {self.variants.get(revision)}, not {self.current[name]}; {ready}"
                )
        live, wanted = self.live(), self.wanted()
        found += [f"Secret {name} is missing" for name in wanted.keys() - live.keys()]
        found += [f"Secret {name} should not be there" for name in live.keys() - wanted.keys()]
        found += [f"Secret {name} has another value" for name in wanted if live.get(name, wanted[name]) != wanted[name]]
        return found

    def settle(self) -> float:
        """Wait until the cluster is as git is; returns after how many seconds it was."""
        wrong: list[str] = []

        def is_right() -> bool:
            wrong[:] = self.wrong()
            return not wrong

        try:
            return until("the cluster is as git is", is_right, seconds=_RIGHT_SECONDS)
        except TimeoutError as error:
            logs = self.jiemi("logs", "--selector=app.kubernetes.io/part-of=jiemi", "--tail=40", "--prefix")
            raise AssertionError("\n".join([*wrong, logs[-12_000:]])) from error

    # --- faults

    def active(self) -> str:
        """The Pod of Miwen that holds the Lease."""
        return active_pod(self.api)

    def pods(self, component: str) -> list[Any]:
        """Its Pods that are not about to end."""
        return pods_of(self.api, component)

    def standby(self) -> str:
        """A Pod of Miwen that waits for its turn."""
        active = self.active()
        return next(str(pod["metadata"]["name"]) for pod in self.pods("miwen") if pod["metadata"]["name"] != active)

    def until_all_are_ready(self) -> None:
        wanted = {"miwen": 2, "repository": 3}

        def are_ready() -> bool:
            return all(
                sum(_is_ready(pod) for pod in self.pods(component)) == count for component, count in wanted.items()
            ) and bool(self.active())

        until("all Pods are ready", are_ready)

    def kill(self, pod: str) -> float:
        """End its process at once, and delete it as `kubectl delete pod --force` does; that alone would let it go on
        for two seconds. Returns when, in seconds since 1970."""
        uid = next(each["metadata"]["uid"] for each in self._all_pods() if each["metadata"]["name"] == pod)
        killed = time.time()
        for pid in processes_of(uid):
            with suppress(ProcessLookupError):  # it went with another one
                os.kill(pid, signal.SIGKILL)
        self.jiemi("delete", "pod", "--force", "--grace-period=0", "--wait=false", pod)
        return killed

    def end(self, pod: str) -> float:
        """Delete it, so that it gets SIGTERM; returns when, in seconds since 1970."""
        ended = time.time()
        self.jiemi("delete", "pod", "--wait=false", pod)
        return ended

    @contextmanager
    def partition(self, pod: str) -> Iterator[None]:
        """Drop what goes between a Pod and the API server, both ways, while the context lasts."""
        address = next(each["status"]["podIP"] for each in self._all_pods() if each["metadata"]["name"] == pod)
        rules = (
            f"add table inet {_TABLE}",
            f"add chain inet {_TABLE} in {{ type filter hook input priority -300; }}",
            f"add chain inet {_TABLE} out {{ type filter hook output priority -300; }}",
            f"add rule inet {_TABLE} in ip saddr {address} drop",
            f"add rule inet {_TABLE} out ip daddr {address} drop",
        )
        subprocess.run(["nft", "-f", "-"], input="\n".join(rules), text=True, check=True, timeout=30)
        try:
            yield
        finally:
            subprocess.run(["nft", "delete", "table", "inet", _TABLE], check=True, timeout=30)

    def _all_pods(self) -> list[Any]:
        items: list[Any] = self.api.call("GET", "/api/v1/namespaces/jiemi/pods").ok()["items"]
        return items


def make_churn(
    kubectl: Kubectl, api: ApiServer, jiemi: Kubectl, server: GitServer, folder: Path, key: AgeKeyPair, sops: Path
) -> Churn:
    """Make the repositories, and all that will be committed to them."""
    clones: dict[str, Path] = {}
    contents: dict[str, list[tuple[bytes, Mapping[str, str]]]] = {}
    for number in range(REPOSITORIES):
        name = f"r{number}"
        url = server.create(f"{name}.git")
        clone = folder / name
        environment = git_environment(server.git, folder)
        subprocess.run([server.git, "clone", "--quiet", url, str(clone)], env=environment, check=True, timeout=60)
        for setting, value in (("user.name", "churn"), ("user.email", "churn@jiemi.invalid")):
            subprocess.run([server.git, "config", setting, value], cwd=clone, env=environment, check=True, timeout=60)
        clones[name] = clone
        contents[name] = [_variant(name, variant, key, sops, folder) for variant in range(VARIANTS)]
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": KEY_SECRET},
        "stringData": {KEY_NAME: key.identity.reveal()},
    }
    kubectl("apply", "-f", "-", given=secret)
    return Churn(kubectl, api, jiemi, clones, contents, server.git, folder, random.Random(1))


def _variant(name: str, variant: int, key: AgeKeyPair, sops: Path, folder: Path) -> tuple[bytes, Mapping[str, str]]:
    # Each has one Secret less, so that some are pruned though their file stays.
    values = {f"{name}-{number}": f"value {variant}" for number in range(SECRETS - variant)}
    documents = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": each}, "stringData": {"value": value}}
        for each, value in values.items()
    ]
    done = subprocess.run(
        [
            *(str(sops), "encrypt", "--age", key.recipient, "--encrypted-regex", "^stringData$"),
            *("--filename-override", "secrets.enc.yaml"),
        ],
        input="\n---\n".join(json.dumps(document) for document in documents).encode(),
        env={"SOPS_DISABLE_VERSION_CHECK": "1", "HOME": str(folder)},
        capture_output=True,
        check=True,
        timeout=60,
    )
    return done.stdout, values


def _decryptor(name: str, url: str) -> dict[str, Any]:
    return {
        "apiVersion": "jiemi.cr/v1alpha1",
        "kind": "Decryptor",
        "metadata": {"name": name},
        "spec": {
            "source": {"repository": {"url": url}, "files": ["secrets.enc.yaml"]},
            "provider": {"age": {"privateKey": {"secretName": KEY_SECRET, "key": KEY_NAME}}},
            "prune": True,
            "interval": "5s",
            "retryInterval": "5s",
        },
    }


def _is_ready(pod: Any) -> bool:
    conditions = pod["status"].get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def processes_of(uid: str) -> list[int]:
    """The processes of a Pod's containers, but not the one that holds its namespaces."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            if uid in (folder / "cgroup").read_text() and b"jiemi" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue  # it has ended meanwhile
    return found
