"""Mistakes in keys, Secrets and what the repository's host asks for."""

from __future__ import annotations

import functools

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from mistakes.mistake import DATA, Bench, Mistake

_SEALED = "a: ENC[AES256_GCM,data:AAAA,iv:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,tag:AAAAAAAAAAAAAAAAAAAAAA==,type:str]\n"
_REST = f"""\
    lastmodified: "2024-01-01T00:00:00Z"
    mac: {_SEALED[3:].strip()}
    version: 3.13.3
"""
_OF_VAULT = f"""\
{_SEALED}sops:
    hc_vault:
        - vault_address: http://127.0.0.1:9
          engine_path: transit
          key_name: app
          created_at: "2024-01-01T00:00:00Z"
          enc: vault:v1:AAAA
{_REST}"""
_OF_GCP = f"""\
{_SEALED}sops:
    gcp_kms:
        - resource_id: projects/acme/locations/global/keyRings/ring/cryptoKeys/app
          created_at: "2024-01-01T00:00:00Z"
          enc: AAAA
{_REST}"""
_OF_AWS = f"""\
{_SEALED}sops:
    kms:
        - arn: arn:aws:kms:eu-central-1:111122223333:key/0a1b2c3d-1111-2222-3333-444455556666
          created_at: "2024-01-01T00:00:00Z"
          enc: AAAA
{_REST}"""


@functools.cache
def _ssh_key(passphrase: bytes = b"") -> tuple[str, str]:
    """A fresh private key for ssh, and its public half."""
    key = Ed25519PrivateKey.generate()
    hidden: KeySerializationEncryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, hidden).decode()
    return private, key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def _secret_that_is_not_there(bench: Bench) -> None:
    bench.good()
    bench.key("age", secretName="age-key", key="privateKey")


def _key_that_the_secret_has_not(bench: Bench) -> None:
    bench.good()
    bench.lab.secret(bench.namespace, bench.name, **{"age-key.txt": str(bench.lab.identity), "README": "x"})
    bench.key("age", secretName=bench.name, key="age.key.txt")


def _empty_value(bench: Bench) -> None:
    bench.good()
    bench.lab.secret(bench.namespace, bench.name, privateKey="")
    bench.key("age", secretName=bench.name, key="privateKey")


def _too_large(bench: Bench) -> None:
    bench.good()
    bench.lab.secret(bench.namespace, bench.name, privateKey="#" * (129 * 1024))
    bench.key("age", secretName=bench.name, key="privateKey")


def _age_recipient(bench: Bench) -> None:
    bench.good()
    bench.key("age", literal=bench.words["age"])


def _age_key_cut_short(bench: Bench) -> None:
    bench.good()
    bench.key("age", literal=str(bench.lab.identity)[:-3])


def _not_an_age_key(bench: Bench) -> None:
    bench.good()
    bench.key("age", literal="hunter2-canary")


def _key_of_another(bench: Bench) -> None:
    bench.good()
    bench.key("age", literal=bench.words["stranger key"])


def _ssh_key_under_a_passphrase(bench: Bench) -> None:
    bench.good()
    bench.key("age", literal=_ssh_key(b"canary")[0])


def _of_pgp(bench: Bench) -> None:
    bench.put("secret.enc.yaml", (DATA / "sops-3.9.4" / "all.yaml").read_bytes())


def _public_pgp_key(bench: Bench) -> None:
    _of_pgp(bench)
    text = (DATA / "pgp-test-key.asc").read_text()
    bench.key("pgp", literal=text.replace("PRIVATE KEY BLOCK", "PUBLIC KEY BLOCK"))


def _pgp_key_cut_short(bench: Bench) -> None:
    _of_pgp(bench)
    bench.key("pgp", literal="\n".join((DATA / "pgp-test-key.asc").read_text().splitlines()[:6]))


def _pgp_key_without_its_passphrase(bench: Bench) -> None:
    _of_pgp(bench)
    bench.key("pgp", literal=(DATA / "pgp-passphrase-key.asc").read_text())


def _wrong_passphrase(bench: Bench) -> None:
    _pgp_key_without_its_passphrase(bench)
    bench.spec["provider"]["pgp"]["passphrase"] = {"literal": "canary"}


def _gcp_account_that_is_no_json(bench: Bench) -> None:
    bench.put("secret.enc.yaml", _OF_GCP)
    bench.key("gcp", "serviceAccount", literal="/etc/canary.json")


def _aws_region_that_is_none(bench: Bench) -> None:
    bench.put("secret.enc.yaml", _OF_AWS)
    values = {"keyId": "AKIA0", "accessKey": "canary", "region": "Frankfurt (eu)"}
    bench.spec["provider"] = {"aws": {name: {"literal": value} for name, value in values.items()}}


def _vault_without_a_token(bench: Bench) -> None:
    bench.put("secret.enc.yaml", _OF_VAULT)
    bench.spec["provider"] = {"vault": {}}


def _another_vault(bench: Bench) -> None:
    bench.put("secret.enc.yaml", _OF_VAULT)
    values = {"token": "canary", "address": "https://vault.example:8200"}
    bench.spec["provider"] = {"vault": {name: {"literal": value} for name, value in values.items()}}


def _vault_that_is_down(bench: Bench) -> None:
    bench.put("secret.enc.yaml", _OF_VAULT)
    bench.key("vault", "token", literal="canary")


def _private_repository(bench: Bench) -> None:
    bench.repo(url=bench.urls["private"])


def _wrong_token(bench: Bench) -> None:
    token = {"username": {"literal": "me"}, "token": {"literal": "canary"}}
    bench.repo(url=bench.urls["private"], credentials=token)


def _ssh_without_a_key(bench: Bench) -> None:
    bench.repo(url="git@127.0.0.1:acme/app.git")


def _public_ssh_key(bench: Bench) -> None:
    bench.repo(url="git@127.0.0.1:acme/app.git", credentials={"ssh": {"literal": _ssh_key()[1]}})


def _deploy_key_under_a_passphrase(bench: Bench) -> None:
    bench.repo(url="git@127.0.0.1:acme/app.git", credentials={"ssh": {"literal": _ssh_key(b"canary")[0]}})


def _port_in_the_short_form(bench: Bench) -> None:
    bench.repo(url="git@127.0.0.1:2222/acme/app.git", credentials={"ssh": {"literal": _ssh_key()[0]}})


KEYS = (
    Mistake("no-such-secret", "The Secret with the key is not there.", "SecretNotFound", "", _secret_that_is_not_there),
    Mistake(
        "no-such-key",
        "`key` is misspelt.",
        "SecretKeyNotFound",
        "",
        _key_that_the_secret_has_not,
    ),
    Mistake("empty-value", "The Secret's value is empty.", "SecretValueEmpty", "", _empty_value),
    Mistake("too-large", "A whole backup is in the Secret.", "CredentialTooLarge", "", _too_large),
    Mistake("age-recipient", "The age recipient stands where the key belongs.", "KeyInvalid", "", _age_recipient),
    Mistake("age-cut-short", "The age key was copied without its end.", "KeyInvalid", "", _age_key_cut_short),
    Mistake("not-an-age-key", "Something else stands where the age key belongs.", "KeyInvalid", "", _not_an_age_key),
    Mistake("key-of-another", "The key is none of the file's.", "KeyMissing", "", _key_of_another),
    Mistake(
        "age-ssh-passphrase", "The ssh key for age has a passphrase.", "KeyInvalid", "", _ssh_key_under_a_passphrase
    ),
    Mistake("pgp-public-key", "The pgp key is the public one.", "KeyInvalid", "", _public_pgp_key),
    Mistake("pgp-cut-short", "The pgp key was copied without its end.", "KeyInvalid", "", _pgp_key_cut_short),
    Mistake("pgp-no-passphrase", "The pgp key has a passphrase.", "KeyInvalid", "", _pgp_key_without_its_passphrase),
    Mistake("pgp-wrong-passphrase", "The passphrase is wrong.", "KeyInvalid", "", _wrong_passphrase),
    Mistake("gcp-no-json", "A path stands where the key file belongs.", "KeyInvalid", "", _gcp_account_that_is_no_json),
    Mistake("aws-no-region", "The AWS region is no region.", "KeyInvalid", "", _aws_region_that_is_none),
    Mistake(
        "vault-no-token",
        "`vault: {}`, and Krapao has no token of its own.",
        "AmbientIdentityNotAllowed",
        "",
        _vault_without_a_token,
    ),
    Mistake("vault-another", "The file was encrypted with another Vault.", "DestinationNotAllowed", "", _another_vault),
    Mistake("vault-down", "The Vault is down.", "KeyServiceUnreachable", "", _vault_that_is_down),
)

HOSTS = (
    Mistake(
        "private-repository",
        "The repository is private, and no credentials are given.",
        "RepositoryAccessDenied",
        "",
        _private_repository,
    ),
    Mistake("wrong-token", "The token has expired.", "RepositoryAccessDenied", "", _wrong_token),
    Mistake("ssh-without-key", "An ssh URL without a key.", "RepositoryAccessDenied", "", _ssh_without_a_key),
    Mistake(
        "ssh-public-key",
        "The .pub file stands where the ssh key belongs.",
        "RepositoryAccessDenied",
        "",
        _public_ssh_key,
    ),
    Mistake(
        "ssh-passphrase",
        "The deploy key has a passphrase.",
        "RepositoryAccessDenied",
        "",
        _deploy_key_under_a_passphrase,
    ),
    Mistake("scp-like-port", "A port in user@host:path.", "HostUnreachable", "", _port_in_the_short_form),
)
