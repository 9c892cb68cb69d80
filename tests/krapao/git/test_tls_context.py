"""Clones over https with authorities of a Decryptor's own, and from hosts that want a client certificate."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from krapao.git.clone_checks import NOBODY, files_under
from krapao.git.following import follow, listing_fails
from support.krapao.work_tree import Work
from support.network.https import authority, client_of, server_of
from support.network.tls_folders import HOUR, now

from jiemi.certificates import Issued
from jiemi.core.sensitive import SensitiveText
from jiemi.demo.git_server import Fault, serve_git
from jiemi.krapao.git.tls_context import proxy_context, tls_context
from jiemi.krapao.network.proxy import Proxy
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.source import GitCredentials

TEXT = "# Autorità di prova — ⚙\n"
"""What bundles have between their certificates."""


def trusting(signer: Issued, certificate: str | None = None, key: str | None = None) -> GitCredentials:
    """Credentials with an authority's certificate, in a bundle with text and another one."""
    bundle = TEXT + authority().certificate_pem().decode() + TEXT + signer.certificate_pem().decode()
    values = {"ca_bundle": bundle, "client_certificate": certificate, "client_key": key}
    return GitCredentials(**{name: SensitiveText(value) for name, value in values.items() if value is not None})


@contextmanager
def no_new_descriptors() -> Iterator[None]:
    """No file is left open."""
    before = os.listdir("/proc/self/fd")  # noqa: PTH208 - of numbers
    yield
    assert len(os.listdir("/proc/self/fd")) <= len(before)  # noqa: PTH208


async def test_a_host_of_a_private_authority_is_trusted_by_the_decryptor_that_names_it_alone(
    tmp_path: Path, work: Work, settings: KrapaoSettings
) -> None:
    signer = authority()
    (tmp_path / "git").mkdir()
    async with serve_git(tmp_path / "git", tls=server_of(signer, tmp_path)) as server:
        url = server.create("r.git")
        await follow(settings, url, trusting(signer), work, server.root / "r.git")
        for given in (NOBODY, trusting(authority())):
            message = await listing_fails("TlsVerificationFailed", settings, url, given)
            assert "Put the certificate of the authority that signed the host's into" in message
        # The operator's bundle counts beside it.
        (tmp_path / "ca.pem").write_bytes(signer.certificate_pem())
        operators = attrs.evolve(settings, ca_bundle=tmp_path / "ca.pem")
        await listing_fails("RefNotFound", operators, server.create("empty.git"), trusting(authority()))


@pytest.mark.parametrize(
    "bundle",
    [
        "canary",
        "",
        "-----BEGIN CERTIFICATE-----\ncanary\n-----END CERTIFICATE-----\n",
        authority().certificate_pem().decode().replace("\n", " "),
        authority().key_pem().decode(),
    ],
)
async def test_a_bundle_that_holds_no_certificate_is_refused_by_its_field(
    settings: KrapaoSettings, bundle: str
) -> None:
    given = GitCredentials(ca_bundle=SensitiveText(bundle))
    message = await listing_fails("TlsVerificationFailed", settings, "https://127.0.0.1:9/r.git", given)
    assert "credentials.caBundle holds no certificate (PEM) that can be read" in message
    assert "canary" not in message


async def test_a_client_certificate_opens_the_repository_and_its_key_is_in_no_file(
    tmp_path: Path, work: Work, settings: KrapaoSettings
) -> None:
    signer, of_clients = authority(), authority()
    certificate, key = client_of(of_clients)
    (tmp_path / "git").mkdir()
    async with serve_git(tmp_path / "git", tls=server_of(signer, tmp_path, clients_of=of_clients)) as server:
        url = server.create("r.git")
        given = trusting(signer, certificate, key)
        await follow(settings, url, given, work, server.root / "r.git")
        message = await listing_fails("RepositoryAccessDenied", settings, url, trusting(signer))
        assert "wants a client certificate, and spec.source.repository.credentials gives none" in message
        for other in (client_of(authority()), client_of(of_clients, at=now() - 3 * HOUR)):
            message = await listing_fails("RepositoryAccessDenied", settings, url, trusting(signer, *other))
            assert "refused spec.source.repository.credentials.clientCertificate" in message
    line = key.splitlines()[1].encode()
    assert not [path for path in files_under(tmp_path) if line in path.read_bytes()]
    assert not [path for path in files_under(settings.runtime_dir) if path.is_file() and line in path.read_bytes()]


async def test_a_host_that_answers_in_words_that_it_wants_a_client_certificate_is_understood(
    tmp_path: Path, settings: KrapaoSettings
) -> None:
    signer = authority()
    (tmp_path / "git").mkdir()
    async with serve_git(tmp_path / "git", tls=server_of(signer, tmp_path)) as server:
        url = server.create("r.git")
        for body, given, says in (
            (b"No required SSL certificate was sent", trusting(signer), "wants a client certificate, and"),
            (b"The SSL certificate error", trusting(signer, *client_of(signer)), "refused spec.source"),
        ):
            server.fault = Fault(status=400, body=b"<title>400 " + body + b"</title>")
            assert says in await listing_fails("RepositoryAccessDenied", settings, url, given)


def _with_passphrase(key: str) -> str:
    loaded = load_pem_private_key(key.encode(), None)
    return loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"canary")).decode()


def _traditional_with_passphrase() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(b"canary")
    ).decode()


def _another() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


CERTIFICATE, KEY = client_of(authority())


@pytest.mark.parametrize(
    ("certificate", "key", "says"),
    [
        (CERTIFICATE, _with_passphrase(KEY), "clientKey is protected by a passphrase"),
        (CERTIFICATE, _traditional_with_passphrase(), "clientKey is protected by a passphrase"),
        (CERTIFICATE, _another(), "clientKey is not the key of"),
        (CERTIFICATE, "canary", "clientKey is no private key"),
        (CERTIFICATE, CERTIFICATE, "clientKey is no private key"),
        (CERTIFICATE, KEY[:60], "clientKey is no private key"),
        (CERTIFICATE, "\ud800", "clientKey is no private key"),
        ("canary", KEY, "clientCertificate is no certificate"),
        (KEY, KEY, "clientCertificate is no certificate"),
        (CERTIFICATE.replace("\n", " "), KEY, "clientCertificate is no certificate"),
    ],
)
async def test_a_client_certificate_that_can_not_be_used_is_refused_by_its_field(
    settings: KrapaoSettings, certificate: str, key: str, says: str
) -> None:
    given = GitCredentials(client_certificate=SensitiveText(certificate), client_key=SensitiveText(key))
    with no_new_descriptors():
        message = await listing_fails("RepositoryAccessDenied", settings, "https://127.0.0.1:9/r.git", given)
    assert f"credentials.{says}" in message
    assert "canary" not in message


@pytest.mark.parametrize(
    ("url", "field"),
    [
        ("http://127.0.0.1:9/r.git", "ca_bundle"),
        ("http://127.0.0.1:9/r.git", "client_certificate"),
        ("ssh://127.0.0.1:9/r.git", "ca_bundle"),
        ("ssh://127.0.0.1:9/r.git", "bearer"),
        ("git://127.0.0.1:9/r.git", "bearer"),
        ("git://127.0.0.1:9/r.git", "client_certificate"),
    ],
)
async def test_credentials_that_the_urls_scheme_would_not_use_are_refused(
    settings: KrapaoSettings, url: str, field: str
) -> None:
    message = await listing_fails("InvalidUrl", settings, url, GitCredentials(**{field: SensitiveText("canary")}))
    assert "is for these alone" in message
    assert "canary" not in message


def test_a_proxy_is_shown_no_client_certificate_and_the_operators_trusts_no_tenants_authority(tmp_path: Path) -> None:
    signer = authority()
    own = tls_context(trusting(signer, *client_of(signer)), None)
    assert own is not None
    assert signer.certificate_pem() in {ssl.DER_cert_to_PEM_cert(each).encode() for each in own.get_ca_certs(True)}
    of_operator, of_tenant = Proxy("https", "proxy", 1), Proxy("https", "proxy", 1, is_operators=False)
    given = trusting(signer, *client_of(signer))
    assert proxy_context(of_operator, given, None) is None
    of_own = proxy_context(of_tenant, given, None)
    assert of_own is not None
    assert signer.certificate_pem() in {ssl.DER_cert_to_PEM_cert(each).encode() for each in of_own.get_ca_certs(True)}
    (tmp_path / "ca.pem").write_bytes(authority().certificate_pem())
    of_proxy = proxy_context(of_operator, given, tmp_path / "ca.pem")
    assert of_proxy is not None
    assert signer.certificate_pem() not in {
        ssl.DER_cert_to_PEM_cert(each).encode() for each in of_proxy.get_ca_certs(True)
    }
