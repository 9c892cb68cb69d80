"""The Secrets in which the certificates are, in Miwen's own namespace.

    jiemi-authorities   tls.crt, tls.key: the newest authority; previous.crt, previous.key: the one before; ca.crt: all
    krapao-tls          tls.crt, tls.key, ca.crt, as Krapao's Pod mounts them
    miwen-tls           the same for Miwen, who reads it

They carry a label that says whose they are. One of the ends' that does not carry it was made by somebody else, for
example cert-manager: then nothing is ever written, and that one is used as it is. So is one that cert-manager has taken
over: it takes those that it finds as they are until they are old, leaves the label, and adds one of its own.

Any number of Miwens may do this at once: each write is of what was read, or fails, and then all is read again.
"""

from __future__ import annotations

import base64
import binascii
import datetime
from collections.abc import Callable, Mapping

import structlog
import trio
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from jiemi.certificates import CLIENT_AUTH, Issued
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.miwen.certificates.renewal import End, Held, Lifetimes, next_change, renewed
from jiemi.miwen.kubernetes.port import JsonObject, Kubernetes
from jiemi.rpc.tls import TlsError, TlsIdentity, read_identity
from jiemi.rpc.tls_names import AUTHORITIES, CERTIFICATE, KEY, KRAPAO_NAME, MIWEN_NAME

AUTHORITIES_SECRET = "jiemi-authorities"  # noqa: S105 - a name
KRAPAO_SECRET = "krapao-tls"  # noqa: S105 - a name
MANAGED_BY = {"app.kubernetes.io/managed-by": "jiemi"}
CERT_MANAGERS = "controller.cert-manager.io/fao"
"""The label on each Secret that cert-manager fills, or has taken over."""

_TYPE = "kubernetes.io/tls"
_PREVIOUS = ("previous.crt", "previous.key")
_ATTEMPTS = 5
LOOK_SECONDS = 60.0
"""How long at most until the Secrets are looked at again: somebody may have deleted one, and no Krapao starts without
its own."""
_FIRST_RETRY_SECONDS, _MOST_RETRY_SECONDS = 2.0, 60.0

_log = structlog.get_logger("jiemi.miwen.certificates")

Data = Mapping[str, SensitiveText]


class CertificateSecrets:
    """Makes and renews the certificates.

    Args:
        kubernetes: the cluster that the Secrets are in.
        namespace: theirs.
        miwen_secret: the name of Miwen's own.
        lifetimes: of what is made; None makes nothing, and Miwen's own is only read.
        now: the time, with its zone.
        look_seconds: how often the Secrets are looked at.
    """

    def __init__(
        self,
        kubernetes: Kubernetes,
        namespace: str,
        miwen_secret: str,
        *,
        lifetimes: Lifetimes | None,
        now: Callable[[], datetime.datetime],
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._look_seconds = look_seconds
        self._kubernetes = kubernetes
        self._namespace = namespace
        self._ends = {KRAPAO_NAME: KRAPAO_SECRET, MIWEN_NAME: miwen_secret}
        self._lifetimes = lifetimes
        self._now = now
        self._warned = False

    async def identity(self) -> TlsIdentity:
        """Miwen's own identity; made again, where it is missing or can't be used and this makes them.

        Raises:
            JiemiError: KrapaoNotTrusted where the Secret holds none that can be used; SecretNotFound; SecretForbidden;
                what keeps one from being made.
        """
        try:
            return await self._read_identity()
        except JiemiError as error:
            if self._lifetimes is None or error.failure.reason not in ("SecretNotFound", "KrapaoNotTrusted"):
                raise
        await self.renew()
        return await self._read_identity()

    async def _read_identity(self) -> TlsIdentity:
        name = self._ends[MIWEN_NAME]
        secret = await self._read(name)
        where = f"Secret {self._namespace}/{name}"
        if secret is None:
            remedy = (
                "Start Miwen with --make-certificates, or look at what should make it (with cert-manager, "
                f"`kubectl --namespace {self._namespace} describe certificate`)."
            )
            raise JiemiError("SecretNotFound", f"there is no {where} with Miwen's certificate", remedy)
        parts = {key: value.reveal().encode() for key, value in _data_of(secret).items()}
        try:
            return read_identity(parts, lambda part: f"{part} of {where}", self._now(), CLIENT_AUTH)
        except TlsError as error:
            remedy = error.remedy or f"Correct {where}, or have what made it make it again."
            raise JiemiError("KrapaoNotTrusted", str(error), remedy) from None

    async def keep(self) -> None:
        """Make and renew the certificates, for as long as this runs.

        This has no deadline: it is what Krapao waits for when it starts, so it tries until they are there.
        """
        retry_seconds = _FIRST_RETRY_SECONDS
        while True:
            try:
                due = await self.renew()
            except JiemiError as error:
                _log.warning("certificates_not_made", reason=error.failure.reason, message=error.failure.text)
                await trio.sleep(retry_seconds)
                retry_seconds = min(retry_seconds * 2, _MOST_RETRY_SECONDS)
            else:
                retry_seconds = _FIRST_RETRY_SECONDS
                left = min(max((due - self._now()).total_seconds(), 1), self._look_seconds)
                _log.debug("certificates_looked_at", due=due.isoformat(), next_seconds=round(left))
                await trio.sleep(left)

    async def renew(self) -> datetime.datetime:
        """Make what is missing and renew what is old; returns when there will be something to do.

        Raises:
            JiemiError: a Secret can't be read or written.
        """
        assert self._lifetimes is not None  # noqa: S101 - of those that make
        for _ in range(_ATTEMPTS):
            found = {name: await self._read(name) for name in (AUTHORITIES_SECRET, *self._ends.values())}
            now = self._now()
            if others := [name for name in self._ends.values() if not _is_ours(found[name])]:
                self._warn_of(others)
                return now + datetime.timedelta(seconds=self._look_seconds)
            held = renewed(self._held(found), now, self._lifetimes)
            if await self._write(found, held):
                return next_change(held, now, self._lifetimes)
        raise JiemiError("ApplyConflict", f"the Secrets with certificates in {self._namespace} change all the time")

    async def _write(self, found: Mapping[str, JsonObject | None], held: Held) -> bool:
        """Write what differs, the authorities first; whether nobody else has written meanwhile."""
        wanted = {AUTHORITIES_SECRET: _authorities_data(held)}
        wanted |= {self._ends[name]: _end_data(end) for name, end in held.ends.items()}
        for name, data in wanted.items():
            secret = found[name]
            if secret is None:
                written = await self._kubernetes.create_secret(
                    self._namespace, name, data, of_type=_TYPE, labels=MANAGED_BY
                )
            elif _data_of(secret) != data:
                written = await self._kubernetes.replace_secret(secret, data)
            else:
                continue
            if not written:
                return False
            _log.info("certificates_written", namespace=self._namespace, secret=name)
        return True

    def _held(self, found: Mapping[str, JsonObject | None]) -> Held:
        authorities = _data_of(found[AUTHORITIES_SECRET])
        pairs = ((CERTIFICATE, KEY), _PREVIOUS)
        signers = tuple(each for pair in pairs if (each := _issued(authorities, *pair)) is not None)
        ends = {}
        for name, secret in self._ends.items():
            data = _data_of(found[secret])
            ends[name] = End(_issued(data, CERTIFICATE, KEY), _certificates(data, AUTHORITIES))
        return Held(signers, _certificates(authorities, AUTHORITIES), ends)

    async def _read(self, name: str) -> JsonObject | None:
        try:
            return await self._kubernetes.get_secret(self._namespace, name)
        except JiemiError as error:
            if error.failure.reason == "SecretNotFound":
                return None
            raise

    def _warn_of(self, names: list[str]) -> None:
        if not self._warned:
            self._warned = True
            _log.warning(
                "certificates_of_others",
                secrets=[f"{self._namespace}/{name}" for name in names],
                why="they were not made by Miwen, so it changes none; start it without --make-certificates",
            )


def _is_ours(secret: JsonObject | None) -> bool:
    """Whether it may be written: it is missing, or carries the label and is not cert-manager's."""
    if secret is None:
        return True
    labels = secret["metadata"].get("labels") or {}
    return MANAGED_BY.items() <= labels.items() and CERT_MANAGERS not in labels


def _authorities_data(held: Held) -> dict[str, SensitiveText]:
    data = {AUTHORITIES: _bundle(held.accepted)}
    for names, signer in zip(((CERTIFICATE, KEY), _PREVIOUS), held.signers, strict=False):
        data |= zip(names, _texts(signer), strict=True)
    return data


def _end_data(end: End) -> dict[str, SensitiveText]:
    assert end.issued is not None  # noqa: S101 - `renewed` gives each one
    return {**dict(zip((CERTIFICATE, KEY), _texts(end.issued), strict=True)), AUTHORITIES: _bundle(end.accepts)}


def _texts(issued: Issued) -> tuple[SensitiveText, SensitiveText]:
    return SensitiveText(issued.certificate_pem().decode()), SensitiveText(issued.key_pem().decode())


def _bundle(certificates: tuple[x509.Certificate, ...]) -> SensitiveText:
    return SensitiveText("".join(each.public_bytes(serialization.Encoding.PEM).decode() for each in certificates))


def _data_of(secret: JsonObject | None) -> dict[str, SensitiveText]:
    """The texts in a Secret; what is no base64 or no text is left out."""
    found = {}
    for key, value in ((secret or {}).get("data") or {}).items():
        try:
            found[key] = SensitiveText(base64.b64decode(value, validate=True).decode())
        except (binascii.Error, UnicodeDecodeError):
            continue
    return found


def _issued(data: Data, certificate: str, key: str) -> Issued | None:
    """A certificate with its key; None where one of them can't be read."""
    found = _certificates(data, certificate)
    if not found or key not in data:
        return None
    try:
        private = serialization.load_pem_private_key(data[key].reveal().encode(), password=None)
    except Exception:  # noqa: BLE001 - whatever is wrong with it, another is made
        return None
    return Issued(found[0], private) if isinstance(private, ec.EllipticCurvePrivateKey) else None


def _certificates(data: Data, key: str) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificates(data[key].reveal().encode()))
    except (KeyError, ValueError):
        return ()
