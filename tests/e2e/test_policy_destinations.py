"""Where credentials go under an operator's policy: a Decryptor's author names others' Secrets and a server of his.

The author here may write Decryptors of one namespace and push to a repository, and may write their status besides.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from ruamel.yaml import YAML
from support.e2e.lab import Lab, until
from support.e2e.listener import Listener, listener
from support.e2e.scene import MERGE, Scene, condition, secret
from support.kubernetes.api_server import ApiServer

pytestmark = pytest.mark.e2e

CANARY = "canary-vault-token-of-somebody-else-91ab"
TOKEN = {"secretName": "other", "key": "token"}
ADDRESS = {"secretName": "mine", "key": "address"}


@attrs.frozen
class Policed:
    """One Miwen with a policy, one without, and an author of Decryptors who has a server.

    Attributes:
        bounded: a namespace whose rule lists no key service.
        listed: one whose rule lists the author's server.
        free: one that no policy is for.
        stranger: the author's server.
    """

    bounded: Scene
    listed: Scene
    free: Scene
    stranger: Listener

    def ask_vault(self, scene: Scene, name: str, *, spec_address: bool, status_address: bool = False) -> None:
        """A file that asks the author's server for its data key, and a Decryptor with somebody's token."""
        repository = scene.lab.repository({"secret.enc.yaml": self._file(scene.lab)})
        vault = {"token": TOKEN} | ({"address": ADDRESS} if spec_address else {})
        if status_address:
            scene.lab.secret(scene.namespace, "late", token=CANARY)
            vault["token"] = {"secretName": "late-for-now", "key": "token"}
        scene.put(name, repository.url, provider={"vault": vault})
        if status_address:
            scene.lab.until_reason(scene.namespace, name, "SecretNotFound")
            forged = {"status": {"vaultAddress": self.stranger.url}}
            scene.lab.admin.call("PATCH", f"{scene.path(name)}/status", forged, MERGE).ok()
            scene.lab.secret(scene.namespace, "late-for-now", token=CANARY)

    def _file(self, lab: Lab) -> bytes:
        document = YAML(typ="safe").load(lab.encrypt(json.dumps(secret("x", a="one"))))
        entry = {"vault_address": self.stranger.url, "engine_path": "sops", "key_name": "k", "enc": "vault:v1:eA=="}
        document["sops"] |= {"age": [], "hc_vault": [{**entry, "created_at": "2026-01-01T00:00:00Z"}]}
        return json.dumps(document).encode()


@pytest.fixture(scope="module")
def policed(lab: Lab, installed: ApiServer) -> Iterator[Policed]:
    bounded, listed, free = (Scene(lab, lab.namespace(f"e2e-policy-{name}")) for name in ("bounded", "listed", "free"))
    _, address = lab.start_krapao(name="policy")
    kubeconfig = lab.service_account_kubeconfig("jiemi", "miwen")
    with listener() as stranger:
        for scene in (bounded, listed, free):
            lab.secret(scene.namespace, "other", token=CANARY)
            lab.secret(scene.namespace, "mine", address=stranger.url)
        rules: list[dict[str, Any]] = [
            {"namespaces": [bounded.namespace]},
            {"namespaces": [listed.namespace], "keyServices": [stranger.url]},
        ]
        policy = lab.folder / "policy.yaml"
        policy.write_text(json.dumps({"rules": rules}))
        for scene in (bounded, listed):
            lab.start_miwen(address, scene.namespace, "--policy", policy, kubeconfig=kubeconfig)
        lab.start_miwen(address, free.namespace, kubeconfig=kubeconfig)
        yield Policed(bounded, listed, free, stranger)
        lab.end_services()
        assert CANARY not in lab.logs()


@pytest.fixture(autouse=True)
def _silence(policed: Policed) -> None:
    policed.stranger.requests.clear()


@pytest.mark.parametrize("way", ["named", "unnamed", "forged"])
def test_by_a_rule_without_key_services_no_vault_of_the_authors_hears_a_token(policed: Policed, way: str) -> None:
    scene = policed.bounded
    policed.ask_vault(scene, way, spec_address=way == "named", status_address=way == "forged")
    status = scene.lab.until_reason(scene.namespace, way, "DestinationNotAllowed")
    assert "keyServices" in condition(status, "Ready")["message"]
    assert policed.stranger.requests == []
    scene.delete_decryptor(way)


def test_a_server_that_the_rule_lists_is_asked(policed: Policed) -> None:
    policed.ask_vault(policed.listed, "listed", spec_address=True)
    until("it hears the token", lambda: policed.stranger.heard(CANARY))
    policed.listed.delete_decryptor("listed")


def test_without_a_policy_it_is_as_ever(policed: Policed) -> None:
    policed.ask_vault(policed.free, "free", spec_address=False)
    until("it hears the token", lambda: policed.stranger.heard(CANARY))
    policed.free.delete_decryptor("free")


def test_an_endpoint_out_of_a_secret_is_bounded_too(policed: Policed) -> None:
    scene = policed.bounded
    repository = scene.lab.repository({"secret.enc.yaml": scene.lab.encrypt(json.dumps(secret("x", a="one")))})
    literal = {"literal": "x"}
    aws = {"keyId": literal, "accessKey": literal, "sessionToken": TOKEN, "region": literal, "endpoint": ADDRESS}
    scene.put("aws", repository.url, provider={"aws": aws})
    status = scene.lab.until_reason(scene.namespace, "aws", "PolicyDenied")
    message = condition(status, "Ready")["message"]
    assert "spec.provider.aws.endpoint" in message
    assert policed.stranger.url not in json.dumps(status), "the value of a Secret"
    assert policed.stranger.requests == []
    scene.delete_decryptor("aws")
