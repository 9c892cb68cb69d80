"""What users' own files and keys look like: stated formats, documents joined by hand, keys in several Secrets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pyrage
import pytest
from support.e2e.lab import Lab, until
from support.e2e.scene import Scene, config_map, secret

pytestmark = pytest.mark.e2e

NAMESPACE = "e2e-inputs"


@pytest.fixture(scope="module")
def scene(lab: Lab) -> Iterator[Scene]:
    lab.namespace(NAMESPACE)
    _, address = lab.start_krapao(name="inputs")
    lab.start_miwen(address, NAMESPACE, interval="1s")
    yield Scene(lab, NAMESPACE)
    lab.end_services()


def refused(scene: Scene, **spec: Any) -> str:
    """What the API server says of a Decryptor with that in its spec."""
    answer = scene.lab.admin.apply(scene.decryptor("refused", "https://git.example/app.git", **spec))
    assert answer.status == 422
    return str(answer.body["message"])


def follow_all(scene: Scene, name: str, url: str, **spec: Any) -> None:
    """A Decryptor of all YAML files on the top of a repository."""
    manifest = scene.decryptor(name, url, source={"files": ["*.yaml"]}, **spec)
    del manifest["spec"]["source"]["fileToDecrypt"]
    scene.lab.admin.apply(manifest).ok()


def inventory(scene: Scene, name: str) -> list[str]:
    return sorted(each["name"] for each in scene.status(name)["inventory"])


def test_a_dotenv_file_of_any_name_is_applied_once_its_format_is_stated(scene: Scene) -> None:
    repository = scene.lab.repository()
    data = scene.lab.encrypt("PASSWORD=one\nUSER=two\n", path="settings.env")
    revision = repository.commit({".env.production": data})
    target = {"name": "settings"}
    scene.put("dotenv", repository.url, source={"fileToDecrypt": ".env.production"}, target=target)
    ready = scene.until_condition("dotenv", "Ready", "False", "UnknownFormat")
    assert "State dotenv in spec.source.format" in ready["message"]
    scene.put("dotenv", repository.url, source={"fileToDecrypt": ".env.production", "format": "dotenv"}, target=target)
    scene.until_settled("dotenv", revision)
    assert scene.data("settings") == {"PASSWORD": "one", "USER": "two"}


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"format": "env"}, 'spec.source.format: Unsupported value: "env": supported values: "yaml", "json", "dotenv"'),
        ({"formats": [{"files": "*.enc"}]}, "spec.source.formats[0].format: Required value"),
        ({"formats": [{"files": "", "format": "yaml"}]}, "spec.source.formats[0].files: Invalid value"),
        (
            {"formats": [{"files": "*", "format": "yaml"}] * 51},
            "spec.source.formats: Too many: 51: must have at most 50",
        ),
    ],
)
def test_the_api_server_refuses_a_format_that_is_none(scene: Scene, source: dict[str, Any], says: str) -> None:
    assert says in refused(scene, source={"fileToDecrypt": "a", **source})


def test_documents_joined_by_hand_are_applied_and_pruned_one_by_one(scene: Scene) -> None:
    one, two = (scene.lab.encrypt(json.dumps(secret(f"joined-{n}", k=n))).decode() for n in ("one", "two"))
    plain = json.dumps(config_map("joined-plain", k="v"))
    repository = scene.lab.repository()
    revision = repository.commit({"all.yaml": "---\n".join((one, f"{plain}\n", two)).encode()})
    follow_all(scene, "joined", repository.url, prune=True)
    scene.until_settled("joined", revision)
    assert inventory(scene, "joined") == ["joined-one", "joined-plain", "joined-two"]
    assert (scene.data("joined-one"), scene.data("joined-two")) == ({"k": "one"}, {"k": "two"})

    # A document that can't be opened keeps all of its file as it is.
    damaged = two.replace("mac: ENC[AES256_GCM,data:", "mac: ENC[AES256_GCM,data:AAAA", 1)
    assert damaged != two
    repository.commit({"all.yaml": "---\n".join((damaged, f"{plain}\n")).encode()})
    ready = scene.until_condition("joined", "Ready", "False", "MacMismatch")
    assert "all.yaml: document 1: " in ready["message"]
    assert inventory(scene, "joined") == ["joined-one", "joined-plain", "joined-two"]
    assert scene.data("joined-one") == {"k": "one"}

    revision = repository.commit({"all.yaml": "---\n".join((f"{plain}\n", two)).encode()})
    scene.until_settled("joined", revision)
    assert inventory(scene, "joined") == ["joined-plain", "joined-two"]
    assert scene.object(scene.secret_path("joined-one")) is None
    revision = repository.commit({"all.yaml": two.encode()})
    scene.until_settled("joined", revision)
    assert scene.object(scene.config_path("joined-plain")) is None
    assert scene.data("joined-two") == {"k": "two"}


def test_keys_of_several_secrets_open_files_for_either_and_a_rotation_is_taken_up_at_once(scene: Scene) -> None:
    first, second, third = (pyrage.x25519.Identity.generate() for _ in range(3))

    def sealed(name: str, identity: Any) -> bytes:
        return scene.lab.encrypt(json.dumps(secret(name, k="v")), recipient=str(identity.to_public()))

    repository = scene.lab.repository()
    revision = repository.commit({"a.yaml": sealed("keys-a", first), "b.yaml": sealed("keys-b", second)})
    scene.lab.secret(NAMESPACE, "keys-one", **{"a.agekey": str(first)})
    keys = [
        {"secretName": "keys-one", "key": "*.agekey"},
        {"secretName": "keys-two", "key": "key"},
    ]
    provider = {"age": {"privateKeys": keys}}
    follow_all(scene, "keys", repository.url, provider=provider)
    ready = scene.until_condition("keys", "Ready", "False", "SecretNotFound")
    assert (
        f"no Secret {NAMESPACE}/keys-two, which spec.provider.age.privateKeys[1].secretName names" in ready["message"]
    )
    assert scene.object(scene.secret_path("keys-a")) is None

    scene.lab.secret(NAMESPACE, "keys-two", key="not a key")
    ready = scene.until_condition("keys", "Ready", "False", "KeyInvalid")
    assert f"privateKeys[1] (key 'key' of Secret {NAMESPACE}/keys-two), line 1: " in ready["message"]
    scene.lab.secret(NAMESPACE, "keys-two", key=str(second))
    scene.until_settled("keys", revision)
    assert scene.data("keys-a") == scene.data("keys-b") == {"k": "v"}

    # Both secrets change: the first by one more entry that the pattern takes.
    scene.lab.secret(NAMESPACE, "keys-one", **{"a.agekey": str(first), "c.agekey": str(third)})
    revision = repository.commit({"c.yaml": sealed("keys-c", third)})
    scene.until_settled("keys", revision)
    assert scene.data("keys-c") == {"k": "v"}
    scene.lab.secret(NAMESPACE, "keys-two", key="not a key any more")
    until(
        "the change of the second Secret is taken up",
        lambda: scene.condition("keys", "Ready").get("reason") == "KeyInvalid",
    )


@pytest.mark.parametrize("provider", [{"age": {}}, {"pgp": {"privateKeys": []}}, {"age": {"privateKey": None}}])
def test_the_api_server_refuses_a_provider_without_a_key(scene: Scene, provider: dict[str, Any]) -> None:
    assert "give privateKey or privateKeys" in refused(scene, provider=provider)
