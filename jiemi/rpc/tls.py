"""Mutual TLS 1.3 (RFC 8446) between Miwen and Krapao, on TCP.

Each end has an identity: a certificate that names it, the private key, and the authorities whose certificates it
accepts. They come as three texts in PEM (RFC 7468), named as in a Secret of type kubernetes.io/tls that cert-manager
fills: `tls.crt`, `tls.key`, `ca.crt`.

Who is at the other end is decided by a DNS name in its certificate (subjectAltName, RFC 5280, 4.2.1.6), `krapao` or
`miwen`, and not by the address that was dialled: a Service's name and a Pod's may change. OpenSSL also checks that the
certificate may be used for that end (extended key usage).

An identity is read for each connection, so a renewed one is taken up without a restart. Python's interface of OpenSSL
takes a key from a path only, so it gets that of a file in memory (memfd_create(2)); the key is on no disk.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import os
import ssl
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from pathlib import Path

import attrs
import trio
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from jiemi.certificates import CLIENT_AUTH, SERVER_AUTH, alternative_names
from jiemi.core.sensitive import SensitiveBytes
from jiemi.rpc.tls_names import AUTHORITIES, CERTIFICATE, KEY, KRAPAO_NAME, MIWEN_NAME, PARTS

_MAX_PART_BYTES = 256 * 1024


class TlsError(Exception):
    """An identity can't be used. The text says which part and why, and holds nothing of a key.

    Attributes:
        remedy: what to do about this very case, a sentence; "" where the text says it.
    """

    def __init__(self, text: str, remedy: str = "") -> None:
        super().__init__(text)
        self.remedy = remedy


@attrs.frozen
class TlsIdentity:
    """Who an end is, and whom it accepts. Made by `read_identity`.

    Attributes:
        certificates: its certificate, and those between that and an authority.
        key: its private key, not encrypted.
        authorities: the certificates of authorities.
        not_after: when its certificate ends, with its zone.
        trusted: the authorities, by a digest (SHA-256) of name and key, each with the time at which it ends. One that
            was renewed with the key that it had is the same one: it vouches for the same certificates.
        certificate_at: where its certificate is, in words.
        authorities_at: where the authorities are.
    """

    certificates: bytes
    key: SensitiveBytes
    authorities: bytes
    not_after: datetime.datetime
    trusted: Mapping[bytes, datetime.datetime]
    certificate_at: str
    authorities_at: str


IdentitySource = Callable[[], Awaitable[TlsIdentity]]
"""Gives an end's identity, for each connection. May raise JiemiError; then there is no connection."""


def read_identity(
    parts: Mapping[str, bytes],
    where: Callable[[str], str],
    now: datetime.datetime,
    usage: x509.ObjectIdentifier | None = None,
) -> TlsIdentity:
    """An identity from its three texts.

    Args:
        parts: `PARTS`, those that are there.
        where: what a part is called in an error, for example "tls.crt of Secret jiemi/miwen-tls".
        now: the time, with its zone.
        usage: what the certificate is to be used for (a key of `USAGES`), where that is known.

    Raises:
        TlsError: a part is missing or can't be used, they do not belong together, the certificate has expired, or may
            not be used for this.
    """
    for name in PARTS:
        if not parts.get(name, b"").strip():
            raise TlsError(f"{where(name)} is missing or empty", _NO_AUTHORITIES if name == AUTHORITIES else "")
        if len(parts[name]) > _MAX_PART_BYTES:
            raise TlsError(f"{where(name)} is larger than {_MAX_PART_BYTES} bytes")
    own, *_ = _certificates(parts[CERTIFICATE], where(CERTIFICATE))
    authorities = _certificates(parts[AUTHORITIES], where(AUTHORITIES))
    try:
        key = serialization.load_pem_private_key(parts[KEY], password=None)
    except TypeError:
        raise TlsError(f"{where(KEY)} is encrypted with a passphrase; it must be without one") from None
    except Exception:  # noqa: BLE001 - whatever the library says of it may hold a part of the key
        raise TlsError(f"{where(KEY)} is no private key in PEM") from None
    if key.public_key() != own.public_key():
        raise TlsError(f"{where(KEY)} is not the key of the certificate in {where(CERTIFICATE)}")
    if own.not_valid_after_utc <= now:
        raise TlsError(
            f"the certificate in {where(CERTIFICATE)} has expired ({own.not_valid_after_utc:%Y-%m-%d %H:%M}Z)"
        )
    if usage is not None and not _may_be_used(own, usage):
        raise TlsError(
            f"the certificate in {where(CERTIFICATE)} lacks the usage {USAGES[usage]}",
            f"Have it issued for {USAGES[usage]} (of a Certificate of cert-manager, `usages`).",
        )
    return TlsIdentity(
        parts[CERTIFICATE],
        SensitiveBytes(parts[KEY]),
        parts[AUTHORITIES],
        own.not_valid_after_utc,
        _trusted(authorities),
        certificate_at=where(CERTIFICATE),
        authorities_at=where(AUTHORITIES),
    )


def _may_be_used(certificate: x509.Certificate, usage: x509.ObjectIdentifier) -> bool:
    """Whether OpenSSL at the other end takes it for that: it names no usages, or this one (RFC 5280, 4.2.1.12)."""
    try:
        return usage in certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return True  # of what can't be read OpenSSL is the judge


def _trusted(authorities: Iterable[x509.Certificate]) -> dict[bytes, datetime.datetime]:
    found: dict[bytes, datetime.datetime] = {}
    for each in authorities:
        name = _digest(each)
        found[name] = max(found.get(name, each.not_valid_after_utc), each.not_valid_after_utc)
    return found


def _digest(authority: x509.Certificate) -> bytes:
    """Of name and key; of all of it, where its key is of a kind that can't be read."""
    try:
        key = authority.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (UnsupportedAlgorithm, ValueError):
        return authority.fingerprint(hashes.SHA256())
    digest = hashes.Hash(hashes.SHA256())
    digest.update(authority.subject.public_bytes() + key)
    return digest.finalize()


def _certificates(pem: bytes, where: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise TlsError(f"{where} is no certificate in PEM") from None


class TlsFolder:
    """The identity in a folder. It is read each time, and parsed again where the files have changed.

    Args:
        usage: what the certificate is used for, as of `read_identity`.
    """

    def __init__(self, folder: Path, usage: x509.ObjectIdentifier | None = None) -> None:
        self._folder = folder
        self._usage = usage
        self._parts: dict[str, bytes] = {}
        self._identity: TlsIdentity | None = None

    def read(self) -> TlsIdentity:
        """The identity.

        Raises:
            TlsError: as `read_identity` does, or a file can't be read.
        """
        parts = {name: self._read_part(name) for name in PARTS}
        now = datetime.datetime.now(datetime.UTC)
        if self._identity is None or parts != self._parts or self._identity.not_after <= now:
            self._identity = None
            self._identity = read_identity(parts, lambda name: str(self._folder / name), now, self._usage)
            self._parts = parts
        return self._identity

    def _read_part(self, name: str) -> bytes:
        path = self._folder / name
        try:
            with path.open("rb") as file:
                return file.read(_MAX_PART_BYTES + 1)
        except OSError as error:
            # Of a Secret without the key, the folder is there and the file is not.
            if isinstance(error, FileNotFoundError) and self._folder.is_dir():
                return b""
            raise TlsError(f"{path} can't be read: {error.strerror}") from None


class ServerTls:
    """What a server needs for its connections: a context that follows the folder, and who may come in.

    Args:
        folder: of the server's identity.
        client_name: the name that a client's certificate must have.

    Attributes:
        unreadable: why the folder can't be used; "" where it can.
    """

    def __init__(self, folder: TlsFolder, client_name: str = MIWEN_NAME) -> None:
        self.client_name = client_name
        self.unreadable = ""
        self._folder = folder
        self._identity: TlsIdentity | None = None
        self._context: ssl.SSLContext | None = None

    def refresh(self) -> Mapping[bytes, datetime.datetime]:
        """Read the folder once more. Where it can't be used, what was read last stays, and `unreadable` says why.

        Returns:
            The authorities whose clients come in now, as of `TlsIdentity`.
        """
        self.unreadable = ""
        try:
            identity = self._folder.read()
            if identity is not self._identity:
                self._context = _context(ssl.PROTOCOL_TLS_SERVER, identity)
                self._identity = identity
        except TlsError as error:
            self.unreadable = str(error)
        return self._identity.trusted if self._identity is not None else {}

    @property
    def not_after(self) -> datetime.datetime | None:
        """When the certificate ends that is shown to clients."""
        return self._identity.not_after if self._identity is not None else None

    async def accept(self, stream: trio.SocketStream) -> TlsPeer:
        """Do the handshake. Deadlines are the caller's.

        Raises:
            TlsError: no authority vouches for the client, or it speaks no TLS 1.3.
        """
        trusted = self.refresh()
        if self._context is None or self._identity is None:
            raise TlsError(self.unreadable)
        secured: trio.SSLStream[trio.SocketStream] = trio.SSLStream(stream, self._context, server_side=True)
        try:
            await secured.do_handshake()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise TlsError(_in_words(error, self._identity)) from None
        certificate = x509.load_der_x509_certificate(secured.getpeercert(binary_form=True))
        names = frozenset(each.value for each in alternative_names(certificate) if isinstance(each, x509.DNSName))
        return TlsPeer(secured, names, certificate.not_valid_after_utc, trusted)


@attrs.frozen
class TlsPeer:
    """A client that an authority vouches for.

    Attributes:
        names: the DNS names that its certificate has.
        not_after: when its certificate ends.
        trusted: the authorities that it was checked against, as of `TlsIdentity`.
    """

    stream: trio.abc.Stream
    names: frozenset[str]
    not_after: datetime.datetime
    trusted: Mapping[bytes, datetime.datetime]

    def reason_to_go(self, trusted: Mapping[bytes, datetime.datetime], now: datetime.datetime) -> str | None:
        """Why it may not stay, where it may not: its certificate has expired, or an authority is no longer trusted.

        Args:
            trusted: the authorities that are trusted now.
        """
        if self.not_after <= now:
            return "its certificate has expired"
        # Which of them vouched for it is not known; an honest client comes back at once.
        if any(ends > now and each not in trusted for each, ends in self.trusted.items()):
            return "an authority is no longer trusted"
        return None


async def connect_tls(
    stream: trio.SocketStream, identity: TlsIdentity, server_name: str = KRAPAO_NAME
) -> trio.SSLStream[trio.SocketStream]:
    """Do the client's handshake. Deadlines are the caller's. The stream is closed where it fails.

    In TLS 1.3 a server that refuses the client says so only after this: by ending the connection.

    Raises:
        TlsError: the server is not the one of that name, or no TLS is spoken there.
        OSError: it ended the connection: it is about to end, or has no place for one more.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT, identity)
    secured: trio.SSLStream[trio.SocketStream] = trio.SSLStream(stream, context, server_hostname=server_name)
    try:
        await secured.do_handshake()
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        await trio.aclose_forcefully(stream)
        if _is_end(error.__cause__):
            raise ConnectionResetError(errno.ECONNRESET, _ENDED) from None
        raise TlsError(_in_words(error, identity)) from None
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return secured


def peer_not_after(stream: trio.SSLStream[trio.SocketStream]) -> datetime.datetime:
    """When the certificate at the other end of a stream ends."""
    return x509.load_der_x509_certificate(stream.getpeercert(binary_form=True)).not_valid_after_utc


def _context(protocol: int, identity: TlsIdentity) -> ssl.SSLContext:
    """Raises TlsError: OpenSSL does not take a part."""
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    # An authority that cert-manager gives may be one that another signed.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # each connection shows its certificate
    try:
        context.load_verify_locations(cadata=identity.authorities.decode("ascii", "replace"))
        with _memory_file(identity.certificates + b"\n" + identity.key.reveal()) as path:
            context.load_cert_chain(path)
    except ssl.SSLError as error:
        raise TlsError(f"OpenSSL does not take the certificates: {error.reason}") from None
    return context


@contextlib.contextmanager
def _memory_file(content: bytes) -> Iterator[str]:
    """The path of a file in memory, for this process only."""
    descriptor = os.memfd_create("jiemi-tls", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


USAGES = {SERVER_AUTH: "server auth", CLIENT_AUTH: "client auth"}
"""What a certificate may be used for, as a Certificate of cert-manager calls it."""

_NO_AUTHORITIES = (
    "Put the authority of the other end's certificate there. Of cert-manager's issuers, those of kind CA do so, and "
    "those of kind ACME do not."
)

_NOT_VOUCHED_FOR = frozenset({2, 7, 18, 19, 20, 21})
"""OpenSSL's numbers (X509_V_ERR_...) for a certificate that none of the authorities signed."""

_ENDED = "it ended the connection during the TLS handshake, as one does that speaks no TLS, or is about to end"

_WORDS = {
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
    "PACKET_LENGTH_TOO_LONG": "it does not speak TLS",
    "RECORD_LAYER_FAILURE": "it does not speak TLS",
    "HTTP_REQUEST": "it does not speak TLS, but http",
    "UNSUPPORTED_PROTOCOL": "it does not speak TLS 1.3",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it does not speak TLS 1.3",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it shows no certificate",
}
"""What OpenSSL's words for a failed handshake mean."""


def _is_end(cause: BaseException | None) -> bool:
    """Whether a handshake failed because the connection ended, whatever the other end is."""
    if isinstance(cause, ssl.SSLError):
        return isinstance(cause, ssl.SSLEOFError) or cause.reason == "UNEXPECTED_EOF_WHILE_READING"
    return True


def _in_words(error: BaseException, identity: TlsIdentity) -> str:
    """Why a handshake failed. The texts are OpenSSL's and ours; none is the peer's.

    Args:
        identity: of this end.
    """
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        text = f"its certificate is not accepted: {cause.verify_message}"
        if cause.verify_code not in _NOT_VOUCHED_FOR:
            return text
        return f"{text} (accepted are the authorities in {identity.authorities_at})"
    if isinstance(cause, ssl.SSLError) and cause.reason is not None:
        return _WORDS.get(cause.reason, f"the TLS handshake failed: {cause.reason.replace('_', ' ').lower()}")
    return "the connection ended during the TLS handshake"
