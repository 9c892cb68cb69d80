"""Decryption against a Vault or OpenBao of your own: `just test-vault`. The suite itself has a double of it.

    JIEMI_TEST_VAULT_ADDR   its URL, for example http://127.0.0.1:8200 of `bao server -dev`
    JIEMI_TEST_VAULT_TOKEN  a token that may enable secrets engines and write policies (a dev server's root token)
    JIEMI_TEST_VAULT_CACERT optional: path of the authorities (PEM) that sign its certificate

It enables a transit engine of its own, with a key and a token that may use only that, and disables all of it again.
"""

from __future__ import annotations

import json
import os
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from support.krapao.age_files import Encrypter

from jiemi.core.content.formats import Format
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.krapao.decryption.sops import SopsDecrypter
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.keys import VaultKey

ADDRESS = os.environ.get("JIEMI_TEST_VAULT_ADDR", "")
TOKEN = os.environ.get("JIEMI_TEST_VAULT_TOKEN", "")
CACERT = os.environ.get("JIEMI_TEST_VAULT_CACERT")
PLAIN = b"a: canary\n"


def call(method: str, path: str, body: Any = None) -> Any:
    request = urllib.request.Request(
        f"{ADDRESS}/v1/{path}",
        method=method,
        headers={"X-Vault-Token": TOKEN, "Content-Type": "application/json"},
        data=json.dumps(body).encode() if body is not None else None,
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        data = answer.read()
    return json.loads(data) if data else None


@attrs.frozen
class Engine:
    """A transit engine with the key `k`; the token may decrypt with that and nothing else."""

    mount: str
    token: str
    role_id: str
    secret_id: str


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    assert ADDRESS, "set JIEMI_TEST_VAULT_ADDR and JIEMI_TEST_VAULT_TOKEN"
    mount = f"jiemi-test-{secrets.token_hex(4)}"
    approle = f"{mount}-approle"
    call("POST", f"sys/mounts/{mount}", {"type": "transit"})
    call("POST", f"sys/auth/{approle}", {"type": "approle"})
    try:
        call("POST", f"{mount}/keys/k")
        call("POST", f"{mount}/keys/other")
        rule = "".join(
            f'path "{mount}/{operation}/k" {{ capabilities = ["update"] }}\n' for operation in ("encrypt", "decrypt")
        )
        call("PUT", f"sys/policies/acl/{mount}", {"policy": rule})
        token = call("POST", "auth/token/create", {"policies": [mount], "ttl": "10m", "no_parent": True})
        call("POST", f"auth/{approle}/role/r", {"token_policies": [mount], "token_ttl": "10m"})
        role_id = call("GET", f"auth/{approle}/role/r/role-id")["data"]["role_id"]
        secret_id = call("POST", f"auth/{approle}/role/r/secret-id")["data"]["secret_id"]
        yield Engine(mount, token["auth"]["client_token"], role_id, secret_id)
    finally:
        call("DELETE", f"sys/auth/{approle}")
        call("DELETE", f"sys/mounts/{mount}")
        call("DELETE", f"sys/policies/acl/{mount}")


@pytest.fixture
def decrypter(settings: KrapaoSettings, sops_path: Path, nursery: trio.Nursery) -> SopsDecrypter:
    return SopsDecrypter(nursery, attrs.evolve(settings, sops=sops_path))


def encrypted(encrypt: Encrypter, engine: Engine, key: str) -> bytes:
    environment = {"VAULT_TOKEN": TOKEN, **({"VAULT_CACERT": CACERT} if CACERT else {})}
    return encrypt(PLAIN.decode(), "--hc-vault-transit", f"{ADDRESS}/v1/{engine.mount}/keys/{key}", env=environment)


def key_of(**fields: str) -> VaultKey:
    bundle = {"ca_bundle": Path(CACERT).read_text()} if CACERT else {}
    given = {"address": ADDRESS, **fields, **bundle}
    hidden: dict[str, Any] = {name: SensitiveText(value) for name, value in given.items()}
    return VaultKey(**hidden)


async def test_a_token_opens_the_file(decrypter: SopsDecrypter, encrypt: Encrypter, engine: Engine) -> None:
    data = encrypted(encrypt, engine, "k")
    found = await decrypter.decrypt(data, Format.YAML, (key_of(token=engine.token),))
    assert b"canary" in found.plain.reveal()


async def test_an_app_role_opens_the_file(decrypter: SopsDecrypter, encrypt: Encrypter, engine: Engine) -> None:
    data = encrypted(encrypt, engine, "k")
    key = key_of(role_id=engine.role_id, secret_id=engine.secret_id, app_role_mount=f"{engine.mount}-approle")
    assert b"canary" in (await decrypter.decrypt(data, Format.YAML, (key,))).plain.reveal()


@pytest.mark.parametrize("name", ["other", "k"])
async def test_another_key_or_token_is_denied(
    decrypter: SopsDecrypter, encrypt: Encrypter, engine: Engine, name: str
) -> None:
    data = encrypted(encrypt, engine, name)
    token = engine.token if name == "other" else "hvs.nobody-issued-this"
    with pytest.raises(JiemiError) as caught:
        await decrypter.decrypt(data, Format.YAML, (key_of(token=token),))
    assert caught.value.failure.reason == "KeyServiceDenied"


async def test_a_wrong_secret_of_an_app_role_is_denied(
    decrypter: SopsDecrypter, encrypt: Encrypter, engine: Engine
) -> None:
    data = encrypted(encrypt, engine, "k")
    key = key_of(role_id=engine.role_id, secret_id="wrong", app_role_mount=f"{engine.mount}-approle")
    with pytest.raises(JiemiError, match=r"KeyServiceDenied: .*login to Vault"):
        await decrypter.decrypt(data, Format.YAML, (key,))
