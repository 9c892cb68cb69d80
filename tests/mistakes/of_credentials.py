"""Mistakes in keys, Secrets and what the repository's host asks for."""

from __future__ import annotations

import base64
import functools
from collections.abc import Callable

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

_CIPHERTEXT = (
    "ENC[AES256_GCM,data:AAAA,iv:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,tag:AAAAAAAAAAAAAAAAAAAAAA==,type:str]"
)
_SEALED = f"a: {_CIPHERTEXT}\n"
_REST = f"""\
    lastmodified: "2024-01-01T00:00:00Z"
    mac: {_CIPHERTEXT}
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


def _age_key_in_base64(bench: Bench) -> None:
    bench.good()
    bench.lab.secret(
        bench.namespace, bench.name, privateKey=base64.b64encode(str(bench.lab.identity).encode()).decode()
    )
    bench.key("age", secretName=bench.name, key="privateKey")


def _age_key_in_quotation_marks(bench: Bench) -> None:
    bench.good()
    bench.key("age", literal=f'"{bench.lab.identity}"')


def _pgp_key_in_one_line(bench: Bench) -> None:
    _of_pgp(bench)
    bench.key("pgp", literal=(DATA / "pgp-test-key.asc").read_text().replace("\n", " "))


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


def _github_app(url: str) -> Callable[[Bench], None]:
    def make(bench: Bench) -> None:
        app = {"appId": {"literal": "1"}, "privateKey": {"literal": "canary"}}
        bench.repo(url=url, credentials={"githubApp": app})

    return make


def _proxy(url: str) -> Callable[[Bench], None]:
    def make(bench: Bench) -> None:
        bench.repo(url=bench.urls["private"], proxy={"url": url})

    return make


def _bearer_with_its_word(bench: Bench) -> None:
    bench.repo(url=bench.urls["private"], credentials={"bearer": {"literal": "Bearer canary"}})


def _ca_bundle_in_one_line(bench: Bench) -> None:
    line = "-----BEGIN CERTIFICATE-----canary-----END CERTIFICATE-----"
    bench.repo(url="https://127.0.0.1:9/acme/app.git", credentials={"caBundle": {"literal": line}})


def _client_certificate_that_is_none(bench: Bench) -> None:
    given = {name: {"literal": "canary"} for name in ("clientCertificate", "clientKey")}
    bench.repo(url="https://127.0.0.1:9/acme/app.git", credentials=given)


def _client_certificate_for_plain_http(bench: Bench) -> None:
    given = {name: {"literal": "canary"} for name in ("clientCertificate", "clientKey")}
    bench.repo(credentials=given)


def _ssh_without_a_key(bench: Bench) -> None:
    bench.repo(url="git@127.0.0.1:acme/app.git")


def _public_ssh_key(bench: Bench) -> None:
    bench.repo(url="git@127.0.0.1:acme/app.git", credentials={"ssh": {"literal": _ssh_key()[1]}})


def _deploy_key_under_a_passphrase(bench: Bench) -> None:
    bench.repo(url="git@127.0.0.1:acme/app.git", credentials={"ssh": {"literal": _ssh_key(b"canary")[0]}})


def _wrong_passphrase_of_the_deploy_key(bench: Bench) -> None:
    given = {"ssh": {"literal": _ssh_key(b"canary")[0]}, "passphrase": {"literal": "another"}}
    bench.repo(url="git@127.0.0.1:acme/app.git", credentials=given)


def _deploy_key_of_putty(bench: Bench) -> None:
    given = {"ssh": {"literal": "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n"}}
    bench.repo(url="git@127.0.0.1:acme/app.git", credentials=given)


def _half_of_a_whole_secret(bench: Bench) -> None:
    bench.lab.secret(bench.namespace, bench.name, username="me", token="canary")
    bench.repo(credentials={"secretName": bench.name})


def _whole_secret_for_another_scheme(bench: Bench) -> None:
    bench.lab.secret(bench.namespace, bench.name, identity="canary", known_hosts="canary")
    bench.repo(credentials={"secretName": bench.name})


def _two_logins_in_a_whole_secret(bench: Bench) -> None:
    bench.lab.secret(bench.namespace, bench.name, username="me", password="canary", bearerToken="canary")
    bench.repo(credentials={"secretName": bench.name})


def _port_in_the_short_form(bench: Bench) -> None:
    bench.repo(url="git@127.0.0.1:2222/acme/app.git", credentials={"ssh": {"literal": _ssh_key()[0]}})


KEYS = (
    Mistake(
        "no-such-secret",
        "The Secret with the key is not there.",
        "SecretNotFound",
        "there is no Secret {namespace}/age-key, which spec.provider.age.privateKey.secretName names. Create it "
        "in namespace {namespace} (Secrets of other namespaces are not read), or correct `secretName`.",
        _secret_that_is_not_there,
    ),
    Mistake(
        "no-such-key",
        "`key` is misspelt.",
        "SecretKeyNotFound",
        "Secret {namespace}/{app} has no key 'age.key.txt', which spec.provider.age.privateKey.key names; it has "
        "the keys age-key.txt, README. Correct spec.provider.age.privateKey.key, or add the key to the Secret.",
        _key_that_the_secret_has_not,
    ),
    Mistake(
        "empty-value",
        "The Secret's value is empty.",
        "SecretValueEmpty",
        "nothing is in key 'privateKey' of Secret {namespace}/{app}, which spec.provider.age.privateKey names. Store "
        "the credential in the Secret.",
        _empty_value,
    ),
    Mistake(
        "too-large",
        "A whole backup is in the Secret.",
        "CredentialTooLarge",
        "132096 bytes, of 131072 at most, are in key 'privateKey' of Secret {namespace}/{app}, which "
        "spec.provider.age.privateKey names. Put the credential alone under that key.",
        _too_large,
    ),
    Mistake(
        "age-recipient",
        "The age recipient stands where the key belongs.",
        "KeyInvalid",
        "spec.provider.age.privateKey, line 1: an age recipient, which is the public half of a key and opens "
        "nothing. Put the private half there: the line AGE-SECRET-KEY-1… of the same key file.",
        _age_recipient,
    ),
    Mistake(
        "age-in-base64",
        "The key was encoded before it was put under `stringData`.",
        "KeyInvalid",
        "spec.provider.age.privateKey is a key in base64. Put the key itself there: in a Secret as it is under "
        "stringData, or encoded once under data.",
        _age_key_in_base64,
    ),
    Mistake(
        "age-in-quotes",
        "The key is in quotation marks.",
        "KeyInvalid",
        "spec.provider.age.privateKey is a key in quotation marks. Take the quotation marks away.",
        _age_key_in_quotation_marks,
    ),
    Mistake(
        "pgp-in-one-line",
        "A shell or YAML took the pgp key's line breaks away.",
        "KeyInvalid",
        "spec.provider.pgp.privateKey is a key in one line. Put it there with its line breaks: in YAML with |, and in "
        "a shell in quotes.",
        _pgp_key_in_one_line,
    ),
    Mistake(
        "age-cut-short",
        "The age key was copied without its end.",
        "KeyInvalid",
        "spec.provider.age.privateKey, line 1: an age identity that is damaged or not whole (its checksum is "
        "wrong). Put the whole line AGE-SECRET-KEY-1… there, as age-keygen printed it.",
        _age_key_cut_short,
    ),
    Mistake(
        "not-an-age-key",
        "Something else stands where the age key belongs.",
        "KeyInvalid",
        "spec.provider.age.privateKey, line 1: no age identity (AGE-SECRET-KEY-1…) and no comment. Put the whole "
        "line AGE-SECRET-KEY-1… there, as age-keygen printed it.",
        _not_an_age_key,
    ),
    Mistake(
        "key-of-another",
        "The key is none of the file's.",
        "KeyMissing",
        "{app}/secret.enc.yaml: no key given opens the file. The file is for: age {age} (not opened by the key given). "
        "Given: age {stranger}. Give a key for one of the file's recipients, or add your recipient with `sops "
        "updatekeys`.",
        _key_of_another,
    ),
    Mistake(
        "age-ssh-passphrase",
        "The ssh key for age has a passphrase.",
        "KeyInvalid",
        "spec.provider.age.privateKey, line 1: an ssh key that is protected by a passphrase, which nobody can be "
        "asked for here. Take the passphrase off a copy of the key (`ssh-keygen -p -f COPY`), and put that there.",
        _ssh_key_under_a_passphrase,
    ),
    Mistake(
        "pgp-public-key",
        "The pgp key is the public one.",
        "KeyInvalid",
        "spec.provider.pgp.privateKey is a public key, which opens nothing. Export the private key with `gpg "
        "--export-secret-keys --armor KEY`, and put all of its output there.",
        _public_pgp_key,
    ),
    Mistake(
        "pgp-cut-short",
        "The pgp key was copied without its end.",
        "KeyInvalid",
        "spec.provider.pgp.privateKey is no private key that gpg can read. Put the whole output of `gpg "
        "--export-secret-keys --armor KEY` there, with its line breaks.",
        _pgp_key_cut_short,
    ),
    Mistake(
        "pgp-no-passphrase",
        "The pgp key has a passphrase.",
        "KeyInvalid",
        "spec.provider.pgp.privateKey is protected by a passphrase, and spec.provider.pgp.passphrase gives none. "
        "Put the key's passphrase into spec.provider.pgp.passphrase, or give a key without one.",
        _pgp_key_without_its_passphrase,
    ),
    Mistake(
        "pgp-wrong-passphrase",
        "The passphrase is wrong.",
        "KeyInvalid",
        "spec.provider.pgp.passphrase is not the passphrase of spec.provider.pgp.privateKey. Correct the "
        "passphrase in spec.provider.pgp.passphrase; the key itself can be read.",
        _wrong_passphrase,
    ),
    Mistake(
        "gcp-no-json",
        "A path stands where the key file belongs.",
        "KeyInvalid",
        "spec.provider.gcp.serviceAccount is no JSON object. Put the JSON key file of a service account there, "
        "as Google Cloud gave it.",
        _gcp_account_that_is_no_json,
    ),
    Mistake(
        "aws-no-region",
        "The AWS region is no region.",
        "KeyInvalid",
        "spec.provider.aws.region is no name of a region. Put the name of the key's region there, such as "
        "eu-central-1.",
        _aws_region_that_is_none,
    ),
    Mistake(
        "vault-no-token",
        "`vault: {}`, and Krapao has no token of its own.",
        "AmbientIdentityNotAllowed",
        "spec.provider.vault names no credential, and this Krapao lends none of its own. Give credentials in "
        "spec.provider.vault, or ask the operator for --allow-ambient-identity vault.",
        _vault_without_a_token,
    ),
    Mistake(
        "vault-another",
        "The file was encrypted with another Vault.",
        "DestinationNotAllowed",
        "{app}/secret.enc.yaml: the file names the Vault http://127.0.0.1:9, but spec.provider.vault.address names "
        "another. The file is for: Vault http://127.0.0.1:9/v1/transit/keys/app (not allowed). Given: a key for vault. "
        "If this is intended, add what the message names to the spec. Otherwise find out who changed the file.",
        _another_vault,
    ),
    Mistake(
        "vault-down",
        "The Vault is down.",
        "KeyServiceUnreachable",
        "{app}/secret.enc.yaml: a key service could not be reached or could not answer now. The file is for: Vault "
        "http://127.0.0.1:9/v1/transit/keys/app (the key service could not be reached). Given: a Vault token. Check "
        "network policies, proxies and the service's address. Jiemi tries again.",
        _vault_that_is_down,
    ),
)

HOSTS = (
    Mistake(
        "private-repository",
        "The repository is private, and no credentials are given.",
        "RepositoryAccessDenied",
        "{private_host} answered 401: it wants credentials, and spec.source.repository.credentials gives none. "
        "Put a token that may read the repository into spec.source.repository.credentials.token (and a user name "
        "into username, where the host asks for one).",
        _private_repository,
    ),
    Mistake(
        "wrong-token",
        "The token has expired.",
        "RepositoryAccessDenied",
        "{private_host} answered 401: spec.source.repository.credentials refused. Correct "
        "spec.source.repository.credentials.username and token: it may have expired, or not be let read this "
        "repository.",
        _wrong_token,
    ),
    Mistake(
        "bearer-word",
        "The word Bearer stands before the token.",
        "RepositoryAccessDenied",
        "spec.source.repository.credentials.bearer is no bearer token: it is empty, or holds a space or another "
        "character that no token has. Put the token alone there, without the word Bearer.",
        _bearer_with_its_word,
    ),
    Mistake(
        "ca-bundle-in-one-line",
        "The authority's certificate lost its line breaks.",
        "TlsVerificationFailed",
        "spec.source.repository.credentials.caBundle holds no certificate (PEM) that can be read. Put the certificate "
        "of the authority that signed the host's there: the lines from BEGIN CERTIFICATE to END CERTIFICATE, with "
        "their line breaks.",
        _ca_bundle_in_one_line,
    ),
    Mistake(
        "client-certificate-none",
        "Something else stands where the client certificate belongs.",
        "RepositoryAccessDenied",
        "spec.source.repository.credentials.clientCertificate is no certificate (PEM) that can be read. Put the lines "
        "from BEGIN CERTIFICATE to END CERTIFICATE there, with their line breaks.",
        _client_certificate_that_is_none,
    ),
    Mistake(
        "client-certificate-http",
        "A client certificate for an http:// URL.",
        "InvalidUrl",
        "spec.source.repository.url is no https:// URL, and spec.source.repository.credentials.clientCertificate is "
        "for these alone. Use the repository's https:// URL, or take clientCertificate away.",
        _client_certificate_for_plain_http,
    ),
    Mistake(
        "ssh-without-key",
        "An ssh URL without a key.",
        "RepositoryAccessDenied",
        "spec.source.repository.url is an ssh URL, and spec.source.repository.credentials.ssh gives no private "
        "key. Put a private key that the host knows into spec.source.repository.credentials.ssh, or use the "
        "repository's https:// URL.",
        _ssh_without_a_key,
    ),
    Mistake(
        "ssh-public-key",
        "The .pub file stands where the ssh key belongs.",
        "RepositoryAccessDenied",
        "spec.source.repository.credentials.ssh is no private key of Ed25519, ECDSA or RSA in OpenSSH or PEM "
        "form. Put the whole file of the private key there (not the .pub beside it), with its line breaks.",
        _public_ssh_key,
    ),
    Mistake(
        "ssh-passphrase",
        "The deploy key has a passphrase.",
        "RepositoryAccessDenied",
        "spec.source.repository.credentials.ssh is protected by a passphrase, and "
        "spec.source.repository.credentials.passphrase gives none. Put the key's passphrase into "
        "spec.source.repository.credentials.passphrase, or give a key without one.",
        _deploy_key_under_a_passphrase,
    ),
    Mistake(
        "ssh-wrong-passphrase",
        "The passphrase is not the deploy key's.",
        "RepositoryAccessDenied",
        "spec.source.repository.credentials.passphrase is not the passphrase of "
        "spec.source.repository.credentials.ssh, or the key is damaged. Correct the passphrase in "
        "spec.source.repository.credentials.passphrase. `ssh-keygen -y -f KEY` shows whether it is right.",
        _wrong_passphrase_of_the_deploy_key,
    ),
    Mistake(
        "ssh-putty",
        "The deploy key is in PuTTY's form.",
        "RepositoryAccessDenied",
        "spec.source.repository.credentials.ssh is a key of PuTTY's own form. Put what `puttygen KEY -O "
        "private-openssh -o NEW` writes there.",
        _deploy_key_of_putty,
    ),
    Mistake(
        "whole-secret-half",
        "A whole Secret with a key that Flux's form does not have.",
        "SecretKeyNotFound",
        "Secret {namespace}/{app}, which spec.source.repository.credentials.secretName names, has the key 'username' "
        "without 'password'; it has the keys token, username. Add the key 'password' to the Secret.",
        _half_of_a_whole_secret,
    ),
    Mistake(
        "whole-secret-scheme",
        "A whole Secret with a deploy key, for a URL without ssh.",
        "SecretKeyNotFound",
        "Secret {namespace}/{app}, which spec.source.repository.credentials.secretName names, has none of the keys for "
        "a http:// URL (username, password, bearerToken); it has the keys identity, known_hosts. Add the keys that the "
        "host asks for, or name single values in place of secretName.",
        _whole_secret_for_another_scheme,
    ),
    Mistake(
        "whole-secret-two-logins",
        "A whole Secret with a password and a bearer token.",
        "InvalidSpec",
        "Secret {namespace}/{app}, which spec.source.repository.credentials.secretName names, has the keys "
        "'bearerToken' and 'username', which contradict each other. Remove one of them.",
        _two_logins_in_a_whole_secret,
    ),
    Mistake(
        "proxy-password-in-url",
        "A proxy's password in its address.",
        "InvalidSpec",
        "spec.source.repository.proxy names no proxy: it holds a user name or password. Write its address as "
        "http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT, and put a user name and password beside it.",
        _proxy("http://me:canary@proxy.example:3128"),
    ),
    Mistake(
        "github-app-http",
        "A GitHub App for a URL without TLS.",
        "InvalidUrl",
        "spec.source.repository.url is no https:// URL, and spec.source.repository.credentials.githubApp is for these "
        "alone. Use the repository's https:// URL, or take githubApp away.",
        _github_app("http://git.example.com/acme/deploy.git"),
    ),
    Mistake(
        "github-app-enterprise",
        "A GitHub App of a GitHub Enterprise Server, without the address of its API.",
        "InvalidSpec",
        "spec.source.repository.credentials.githubApp.baseUrl is missing: git.example.com is not github.com. Put the "
        "URL of its API there, https://git.example.com/api/v3 for a GitHub Enterprise Server.",
        _github_app("https://git.example.com/acme/deploy.git"),
    ),
    Mistake(
        "scp-like-port",
        "A port in user@host:path.",
        "HostUnreachable",
        "spec.source.repository.url: no git server answers at 127.0.0.1:22: its name is unknown, it is down or "
        "too slow, its port is closed or filtered, or what answers is no git server; Krapao's log says which. If "
        "2222 is a port, write ssh://git@127.0.0.1:2222/acme/app.git: in user@host:path all that follows the "
        "colon is the path.",
        _port_in_the_short_form,
    ),
)
