"""What a repository's writer may have Miwen write: no right, and nobody's credentials.

Miwen runs as its ServiceAccount with the rights that deploy/ gives. A writer can push, and knows the names of things in
the cluster; he has no right there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from api_server import ApiServer
from e2e_lab import Lab, Repository, until
from e2e_listener import Listener, listener
from e2e_scene import Scene, condition, listed, secret

pytestmark = pytest.mark.e2e

CANARY = "canary-token-of-somebody-else-5f1c"


@attrs.frozen
class Attack:
    """A writer of a followed repository, and what he is after.

    Attributes:
        mine: the namespace whose Decryptor follows the writer's repository.
        theirs: another tenant's namespace.
        stranger: the writer's own server.
        repository: which he may push to.
    """

    mine: Scene
    theirs: Scene
    stranger: Listener
    repository: Repository

    def decryptor(self, scene: Scene, name: str, **provider: Any) -> dict[str, Any]:
        """A Decryptor that sends the Secret `other` to the writer's server."""
        value = {"secretName": "other", "key": "token"}
        return scene.lab.decryptor(
            scene.namespace,
            name,
            f"{self.stranger.url}/x.git",
            provider=provider or None,
            repository={"credentials": {"username": {"literal": "x"}, "token": value}},
        )

    def unchanged(self, scene: Scene, name: str) -> bool:
        """Whether a Decryptor still follows what it is meant to."""
        spec = scene.get(name)["spec"]
        return self.stranger.url not in json.dumps(spec) and scene.get(name)["metadata"]["generation"] == 1


@pytest.fixture(scope="module")
def attack(lab: Lab, installed: ApiServer) -> Iterator[Attack]:
    mine, theirs = Scene(lab, lab.namespace("e2e-rights-mine")), Scene(lab, lab.namespace("e2e-rights-theirs"))
    for scene in (mine, theirs):
        lab.secret(scene.namespace, "other", token=CANARY)
    with listener() as stranger:
        _, address = lab.start_krapao(name="rights")
        kubeconfig = lab.service_account_kubeconfig("jiemi", "miwen")
        lab.start("miwen", "--krapao", address, "--kubeconfig", kubeconfig, "--interval", "1s")
        yield Attack(mine, theirs, stranger, lab.repository())
        lab.end_services()
        assert CANARY not in lab.logs()


def _follow(attack: Attack, name: str) -> Repository:
    """A Decryptor of a repository of its own with one file, and a glob for what comes beside it."""
    repository = attack.mine.lab.repository()
    attack.mine.commit(repository, secret(name, a="one"))
    source = {"files": ["plain/**/*.yaml"]}
    attack.mine.put(name, repository.url, source=source)
    until("it is applied", lambda: attack.mine.data(name) == {"a": "one"}, on_failure=lambda: attack.mine.status(name))
    return repository


@pytest.mark.parametrize("way", ["encrypted", "plain", "a List"])
def test_a_decryptor_out_of_a_repository_is_not_applied(attack: Attack, way: str) -> None:
    name = f"own-{way.rpartition(' ')[2].lower()}"
    attack.theirs.follow(f"their-{name}", secret(f"their-{name}", a="theirs"))
    repository = _follow(attack, name)
    evil = [attack.decryptor(attack.mine, name), attack.decryptor(attack.theirs, f"their-{name}")]
    plain = {
        "encrypted": {"secret.enc.yaml": attack.mine.lab.encrypt(listed(secret(name, a="two"), *evil))},
        "plain": {"plain/a.yaml": json.dumps(evil[0]).encode(), "plain/b.yaml": json.dumps(evil[1]).encode()},
        "a List": {"plain/a.yaml": listed(*evil).encode()},
    }[way]
    if way != "encrypted":
        plain["secret.enc.yaml"] = attack.mine.lab.encrypt(listed(secret(name, a="two")))
    revision = repository.commit(plain)
    status = until(
        "both are refused",
        lambda: (
            (found := attack.mine.status(name)).get("lastAttemptedRevision") == revision
            and len(found.get("failedObjects", ())) == 2
            and found
        ),
        on_failure=lambda: attack.mine.lab._why(attack.mine.namespace, name),
    )
    assert {each["reason"] for each in status["failedObjects"]} == {"ObjectProtected"}
    assert {each["kind"] for each in status["failedObjects"]} == {"Decryptor"}
    assert condition(status, "Ready")["reason"] == "ObjectProtected"
    assert "serviceAccountName" in condition(status, "Ready")["message"]
    assert attack.mine.data(name) == {"a": "two"}, "the others are applied"
    assert attack.unchanged(attack.mine, name)
    assert attack.unchanged(attack.theirs, f"their-{name}")
    assert attack.stranger.heard(CANARY) == []
    assert attack.stranger.requests == []
