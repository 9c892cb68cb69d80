"""Folders with the identities of Krapao, Miwen and strangers, as `--tls-dir` takes them."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from jiemi.certificates import CLIENT_AUTH, SERVER_AUTH, Issued, Subject, issue, make_authority
from jiemi.rpc.tls_names import AUTHORITIES, CERTIFICATE, KEY, KRAPAO_NAME, MIWEN_NAME

HOUR = datetime.timedelta(hours=1)
USAGES = {KRAPAO_NAME: SERVER_AUTH, MIWEN_NAME: CLIENT_AUTH}


def now() -> datetime.datetime:
    """The time, with its zone."""
    return datetime.datetime.now(datetime.UTC)


@attrs.frozen
class TestAuthority:
    """An authority of a test."""

    __test__ = False

    issued: Issued = attrs.field(factory=lambda: make_authority("test", now(), 24 * HOUR))

    def renewed(self) -> TestAuthority:
        """It with another certificate, of the same key."""
        old, key = self.issued.certificate, self.issued.key
        builder = x509.CertificateBuilder(
            issuer_name=old.issuer,
            subject_name=old.subject,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=old.not_valid_before_utc,
            not_valid_after=old.not_valid_after_utc + 24 * HOUR,
            extensions=list(old.extensions),
        )
        return TestAuthority(Issued(builder.sign(key, hashes.SHA256()), key))

    def write(
        self,
        folder: Path,
        name: str,
        *,
        lifetime: datetime.timedelta = HOUR,
        made_at: datetime.datetime | None = None,
        accepts: Sequence[TestAuthority] = (),
        hosts: tuple[str, ...] | None = None,
    ) -> Path:
        """Write an identity, as the kubelet does: a reader sees the old one or the new. Returns the folder.

        Args:
            name: `krapao` or `miwen`; also that of the certificate, unless `hosts` says otherwise.
            accepts: whose certificates it accepts; this authority's, where none is given.
        """
        subject = Subject(name, (USAGES[name],), (name,) if hosts is None else hosts)
        made = issue(self.issued, subject, made_at or now(), lifetime)
        parts = {
            CERTIFICATE: made.certificate_pem(),
            KEY: made.key_pem(),
            AUTHORITIES: b"".join(each.issued.certificate_pem() for each in (accepts or (self,))),
        }
        write_parts(folder, parts)
        return folder


def write_parts(folder: Path, parts: dict[str, bytes]) -> None:
    """Write files into a folder so that all of them change at once: it is a symbolic link to another."""
    content = folder.with_name(f".{folder.name}-{os.urandom(6).hex()}")
    content.mkdir(parents=True)
    for name, data in parts.items():
        (content / name).write_bytes(data)
    link = folder.with_name(f".{folder.name}-link-{os.urandom(6).hex()}")
    link.symlink_to(content.name)
    link.rename(folder)


@attrs.frozen
class TlsPair:
    """An identity for each end, of one authority.

    Attributes:
        krapao, miwen: their folders.
    """

    authority: TestAuthority
    krapao: Path
    miwen: Path


def tls_pair(folder: Path) -> TlsPair:
    """Both, below a folder."""
    authority = TestAuthority()
    return TlsPair(
        authority,
        authority.write(folder / "krapao-tls", KRAPAO_NAME),
        authority.write(folder / "miwen-tls", MIWEN_NAME),
    )
