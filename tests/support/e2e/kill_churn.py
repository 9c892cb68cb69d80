"""Miwen killed (SIGKILL) at random moments while commits come: does the cluster end as git describes, each time?

`tests/e2e/test_killed.py` does it a few times, `just soak-kill [KILLS] [SEED]` as often as one likes.
"""

from __future__ import annotations

import base64
import itertools
import json
import random
import signal
import time
from collections.abc import Mapping
from typing import Any

import attrs
from support.e2e.lab import Lab, Repository, until

FILES = 6
"""How many files there are at most."""

SECRETS = 10
"""How many Secrets a file has at most. Enough that applying them takes a while."""

VARIANTS = 3
"""In how many forms a file comes. Few, so that a commit often brings back what was there before."""

_SECONDS = 60.0


@attrs.define
class Churn:
    """A Decryptor of all files of a folder, with prune, and a Miwen that is killed again and again.

    Attributes:
        kills: how often it was.
        in_deployment: how many of them came in the middle of a deployment, by the status that was left.
    """

    lab: Lab
    namespace: str
    repository: Repository
    address: str
    random: random.Random
    contents: Mapping[tuple[int, int], tuple[bytes, Mapping[str, str]]]
    wanted: dict[str, str] = attrs.field(factory=dict)
    kills: int = 0
    in_deployment: int = 0

    def run(self, kills: int) -> None:
        """Kill so often; each time, start again and wait until the cluster is as git is. Fails a test that isn't."""
        for number in range(kills):
            miwen = self.lab.start_miwen(self.address, self.namespace, interval="300ms")
            for _ in range(self.random.randint(1, 3)):
                self._commit()
                time.sleep(self.random.uniform(0, 0.5))
            if number % 2:
                # At any moment: some are killed before they look.
                time.sleep(self.random.uniform(0, 1.6))
            else:
                # In the middle of a deployment, or just after.
                self._commit()
                self._until_deploying()
                time.sleep(self.random.uniform(0, 0.15))
            miwen.end(signal.SIGKILL)
            self.kills += 1
            self.in_deployment += self._is_deploying()
            self._commit()
            last = self.lab.start_miwen(self.address, self.namespace, interval="300ms")
            until(
                f"the cluster is as git is after kill {number + 1}",
                self._is_right,
                seconds=_SECONDS,
                on_failure=self._why,
            )
            self._check_status()
            last.end()

    def _is_deploying(self) -> bool:
        conditions = self.lab.status(self.namespace, "churn").get("conditions", ())
        return any(each["reason"] == "Deploying" for each in conditions)

    def _until_deploying(self) -> None:
        """At most some seconds: a commit may have changed nothing."""
        deadline = time.monotonic() + 3
        while not self._is_deploying() and time.monotonic() < deadline:
            time.sleep(0.002)

    def _commit(self) -> None:
        """Add, change or remove some files."""
        changes: dict[str, bytes | None] = {}
        chosen = self.random.sample(range(FILES), self.random.randint(1, 3))
        for file in chosen:
            path = f"apps/{file}.yaml"
            variant = self.random.randint(0, VARIANTS)
            if variant < VARIANTS:
                content, wanted = self.contents[file, variant]
            elif file == 0:
                continue  # one always stays, so that there is something to apply
            else:
                content, wanted = None, {}
            changes[path] = content
            for name in [name for name in self.wanted if name.startswith(f"f{file}-")]:
                del self.wanted[name]
            self.wanted |= wanted
        there = {path.name for path in (self.repository.clone / "apps").iterdir()}
        self.repository.commit(
            {path: content for path, content in changes.items() if content is not None or path[5:] in there}
        )

    def _live(self) -> dict[str, str]:
        """The Secrets that are there, by name, with their value."""
        items = self.lab.admin.call("GET", f"/api/v1/namespaces/{self.namespace}/secrets").ok()["items"]
        return {
            item["metadata"]["name"]: base64.b64decode(item.get("data", {}).get("value", "")).decode()
            for item in items
            if item["metadata"]["name"].startswith("f")
        }

    def _is_right(self) -> bool:
        status = self.lab.status(self.namespace, "churn")
        ready = next((each["status"] for each in status.get("conditions", ()) if each["type"] == "Ready"), None)
        inventory = {entry["name"] for entry in status.get("inventory", ())}
        return self._live() == self.wanted and inventory == set(self.wanted) and ready == "True"

    def _why(self) -> str:
        live = self._live()
        return (
            f"missing: {sorted(set(self.wanted) - set(live))}, orphans: {sorted(set(live) - set(self.wanted))}, "
            f"other values: {sorted(name for name in live if live[name] != self.wanted.get(name, live[name]))}; "
            f"status: {json.dumps(self.lab.status(self.namespace, 'churn'))[:3000]}\n{self.lab.logs()[-3000:]}"
        )

    def _check_status(self) -> None:
        status = self.lab.status(self.namespace, "churn")
        records = [*(status.get("history") or ()), status["current"]]
        ids = [record["id"] for record in records]
        assert ids == list(range(ids[0], ids[0] + len(ids))), ids
        revisions = [record["revision"] for record in records]
        assert all(one != other for one, other in itertools.pairwise(revisions)), revisions


def start(lab: Lab, namespace: str, seed: int) -> Churn:
    """Make the repository, Krapao and the Decryptor."""
    lab.namespace(namespace)
    contents: dict[tuple[int, int], tuple[bytes, Mapping[str, str]]] = {}
    for file in range(FILES):
        for variant in range(VARIANTS):
            # Not all Secrets are in each form, so that some are pruned though their file stays.
            wanted = {f"f{file}-{number}": f"v{variant}" for number in range(SECRETS - 3 * variant)}
            text = "\n---\n".join(json.dumps(_secret(name, value)) for name, value in wanted.items())
            contents[file, variant] = lab.encrypt(text, path=f"apps/{file}.yaml"), wanted
    content, first = contents[0, 0]
    repository = lab.repository({"apps/0.yaml": content})
    _, address = lab.start_krapao(name=namespace)
    decryptor: dict[str, Any] = lab.decryptor(namespace, "churn", repository.url)
    del decryptor["spec"]["source"]["fileToDecrypt"]
    decryptor["spec"]["source"]["files"] = ["apps/*.yaml"]
    decryptor["spec"]["prune"] = True
    lab.admin.apply(decryptor).ok()
    return Churn(lab, namespace, repository, address, random.Random(seed), contents, dict(first))


def _secret(name: str, value: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"value": value}}
