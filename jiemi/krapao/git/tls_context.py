"""TLS to the host of a repository: whose certificates are trusted, and which client certificate is shown.

Trusted are the authorities of the system, those of the operator (`--ca-bundle`) and those of the Decryptor, which are
for its repository alone: each operation has a context of its own.

OpenSSL reads a client's certificate and key from files only. They are files in memory that have no name
(memfd_create(2)), closed as soon as the key is loaded, so the key is on no disk and in no folder.
"""

from __future__ import annotations

import contextlib
import os
import re
import ssl
from collections.abc import Iterator
from pathlib import Path

from urllib3.util.ssl_ import create_urllib3_context

from jiemi.core.errors import JiemiError
from jiemi.core.urls import CREDENTIALS_FIELD
from jiemi.krapao.network.proxy import Proxy
from jiemi.rpc.source import GitCredentials

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----[\sA-Za-z0-9+/=]+-----END CERTIFICATE-----")
"""A certificate in PEM (RFC 7468). Bundles have comments between them, in any alphabet, which ssl does not take."""


def tls_context(credentials: GitCredentials, operators_bundle: Path | None) -> ssl.SSLContext | None:
    """How TLS is spoken for one operation; None for the way of urllib3, with the system's authorities alone.

    Raises:
        JiemiError: TlsVerificationFailed where authorities can't be read, RepositoryAccessDenied where the client
            certificate can't be used.
    """
    if operators_bundle is None and credentials.ca_bundle is None and credentials.client_certificate is None:
        return None
    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
    context.load_default_certs()
    # An authority that another one signed is trusted too, as in Go's library, and so in Flux's.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if operators_bundle is not None:
        _trust_operators(context, operators_bundle)
    if credentials.ca_bundle is not None:
        _trust_own(context, credentials.ca_bundle.reveal())
    if credentials.client_certificate is not None or credentials.client_key is not None:
        _show_certificate(context, credentials)
    return context


def proxy_context(proxy: Proxy, credentials: GitCredentials, operators_bundle: Path | None) -> ssl.SSLContext | None:
    """How TLS is spoken to a proxy. No Decryptor has a say in that to the operator's; its own may have a certificate of
    its own authorities. Neither is shown a client certificate.

    Raises:
        JiemiError: TlsVerificationFailed where authorities can't be read.
    """
    bundle = None if proxy.is_operators else credentials.ca_bundle
    return tls_context(GitCredentials(ca_bundle=bundle), operators_bundle)


def _trust_operators(context: ssl.SSLContext, bundle: Path) -> None:
    try:
        context.load_verify_locations(bundle)
    except (OSError, ssl.SSLError) as error:
        raise JiemiError(
            "TlsVerificationFailed",
            "Krapao can't read the file of its --ca-bundle",
            "Ask the operator to look at that file; it must hold certificates (PEM).",
        ) from error


def _trust_own(context: ssl.SSLContext, bundle: str) -> None:
    if not _trust(context, bundle):
        raise JiemiError(
            "TlsVerificationFailed",
            f"{CREDENTIALS_FIELD}.caBundle holds no certificate (PEM) that can be read",
            "Put the certificate of the authority that signed the host's there: the lines from BEGIN CERTIFICATE to "
            "END CERTIFICATE, with their line breaks.",
        )


def _trust(context: ssl.SSLContext, bundle: str) -> bool:
    """Whether there are certificates in a text, and all of them can be read."""
    found = _CERTIFICATE.findall(bundle)
    try:
        context.load_verify_locations(cadata="\n".join(found))
    except (ssl.SSLError, ValueError):
        return False
    return True


def _show_certificate(context: ssl.SSLContext, credentials: GitCredentials) -> None:
    certificate = credentials.client_certificate.reveal() if credentials.client_certificate is not None else ""
    key = credentials.client_key.reveal() if credentials.client_key is not None else ""
    asked = False

    def passphrase() -> str:
        nonlocal asked
        asked = True  # without a function OpenSSL would ask at the terminal
        return ""

    try:
        with _in_memory(certificate) as certificate_file, _in_memory(key) as key_file:
            context.load_cert_chain(certificate_file, key_file, passphrase)
    except ssl.SSLError as error:
        # Not chained: nothing of OpenSSL's is worth more than what is said here.
        raise _unusable(certificate, is_protected=asked, is_mismatch=error.reason == "KEY_VALUES_MISMATCH") from None


def _unusable(certificate: str, *, is_protected: bool, is_mismatch: bool) -> JiemiError:
    if not _trust(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificate):
        return JiemiError(
            "RepositoryAccessDenied",
            f"{CREDENTIALS_FIELD}.clientCertificate is no certificate (PEM) that can be read",
            "Put the lines from BEGIN CERTIFICATE to END CERTIFICATE there, with their line breaks.",
        )
    if is_protected:
        return JiemiError(
            "RepositoryAccessDenied",
            f"{CREDENTIALS_FIELD}.clientKey is protected by a passphrase",
            "Take the passphrase off a copy of the key (`openssl pkey -in KEY -out COPY`), and put that there.",
        )
    if is_mismatch:
        return JiemiError(
            "RepositoryAccessDenied",
            f"{CREDENTIALS_FIELD}.clientKey is not the key of {CREDENTIALS_FIELD}.clientCertificate",
            "Give the certificate and the private key that were made together; in a chain, the client's own "
            "certificate comes first.",
        )
    return JiemiError(
        "RepositoryAccessDenied",
        f"{CREDENTIALS_FIELD}.clientKey is no private key (PEM) that can be read",
        "Put the lines from BEGIN PRIVATE KEY to END PRIVATE KEY there, with their line breaks.",
    )


@contextlib.contextmanager
def _in_memory(text: str) -> Iterator[str]:
    """The path of a file that is in memory only, and in no folder; it is gone when the context ends."""
    descriptor = os.memfd_create("jiemi", os.MFD_CLOEXEC)
    try:
        content = memoryview(text.encode("utf-8", "surrogatepass"))
        while content:
            content = content[os.write(descriptor, content) :]
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
