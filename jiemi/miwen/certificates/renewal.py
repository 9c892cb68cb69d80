"""Which certificates there must be now, given those that there are: a pure decision.

There are authorities, and a certificate of one of them for each end, `krapao` and `miwen`. Everybody accepts all
authorities that have not expired. All of it is renewed at two thirds of its life, so that nobody is ever without:

    a new authority        is first made known: everybody accepts it after a while (`Lifetimes.spread`, because a
                           mounted Secret changes a minute or two after it was written). Only then does it sign.
    a certificate          is signed again when it is old, or when a newer authority may sign. The other end accepts it
                           at once.
    a lost or broken key   of an authority: a new authority is made known, and what was signed by the lost one stays
                           good meanwhile.
    a missing certificate  is signed at once, by what there is.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence

import attrs
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from jiemi.certificates import (
    CLIENT_AUTH,
    CLOCK_SKEW,
    SERVER_AUTH,
    Issued,
    Subject,
    alternative_name,
    alternative_names,
    issue,
    make_authority,
)
from jiemi.rpc.tls_names import KRAPAO_NAME, MIWEN_NAME

SUBJECTS = (Subject(KRAPAO_NAME, (SERVER_AUTH,), (KRAPAO_NAME,)), Subject(MIWEN_NAME, (CLIENT_AUTH,), (MIWEN_NAME,)))

_AUTHORITY_NAME = "Jiemi"
_SIGNERS = 2
"""Of how many authorities the keys are kept: the one that signs, and a newer one that does not yet."""


@attrs.frozen
class Lifetimes:
    """How long things are good for.

    Attributes:
        certificate: of an end.
        authority: of an authority.
        spread: how long it takes, amply, until both ends have taken up what was written.
    """

    certificate: datetime.timedelta = datetime.timedelta(days=30)
    authority: datetime.timedelta = datetime.timedelta(days=3 * 365)
    spread: datetime.timedelta = datetime.timedelta(days=1)


@attrs.frozen
class End:
    """What one end has.

    Attributes:
        issued: its certificate and key; None where there is none that can be read.
        accepts: the authorities that it accepts.
    """

    issued: Issued | None = None
    accepts: tuple[x509.Certificate, ...] = ()


@attrs.frozen
class Held:
    """All certificates that there are.

    Attributes:
        signers: the authorities whose keys there are, the newest first.
        accepted: all authorities, the newest first.
        ends: by the name of a subject.
    """

    signers: tuple[Issued, ...] = ()
    accepted: tuple[x509.Certificate, ...] = ()
    ends: Mapping[str, End] = attrs.field(factory=dict)


def renewed(held: Held, now: datetime.datetime, lifetimes: Lifetimes) -> Held:
    """What there must be now. Where nothing is to be done, it is equal.

    Args:
        now: the time, with its zone.
    """
    # An end may accept one whose Secret was lost since.
    known = (*held.accepted, *(each for end in held.ends.values() for each in end.accepts))
    accepted = tuple(each for each in dict.fromkeys(known) if now < each.not_valid_after_utc)
    signers = tuple(each for each in held.signers if now < each.certificate.not_valid_after_utc)
    if not signers or now >= _renewal(signers[0].certificate):
        made = make_authority(_AUTHORITY_NAME, now, lifetimes.authority)
        signers = (made, *signers)[:_SIGNERS]
        accepted = (made.certificate, *accepted)
    ready = next((each for each in signers if now >= _made_at(each.certificate) + lifetimes.spread), None)
    ends = {}
    for subject in SUBJECTS:
        issued = held.ends.get(subject.name, End()).issued
        if issued is None or not _is_good(issued, subject, accepted, now):
            issued = issue(ready or signers[0], subject, now, lifetimes.certificate)
        elif ready is not None and (now >= _renewal(issued.certificate) or not _signed(issued.certificate, ready)):
            issued = issue(ready, subject, now, lifetimes.certificate)
        ends[subject.name] = End(issued, accepted)
    return Held(signers, accepted, ends)


def next_change(held: Held, now: datetime.datetime, lifetimes: Lifetimes) -> datetime.datetime:
    """When there will be something to do, after `renewed`."""
    return min(each for each in _changes(held, lifetimes) if each > now)


def _changes(held: Held, lifetimes: Lifetimes) -> Iterator[datetime.datetime]:
    for signer in held.signers:
        yield _made_at(signer.certificate) + lifetimes.spread
        yield _renewal(signer.certificate)
    for end in held.ends.values():
        if end.issued is not None:
            yield _renewal(end.issued.certificate)
            yield end.issued.certificate.not_valid_after_utc
    for certificate in held.accepted:
        yield certificate.not_valid_after_utc


def _is_good(issued: Issued, subject: Subject, accepted: Sequence[x509.Certificate], now: datetime.datetime) -> bool:
    certificate = issued.certificate
    return (
        certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc
        and issued.key.public_key() == certificate.public_key()
        and alternative_names(certificate) == {alternative_name(host) for host in subject.hosts}
        and any(_is_signed_by(certificate, authority) for authority in accepted)
    )


def _signed(certificate: x509.Certificate, signer: Issued) -> bool:
    return _is_signed_by(certificate, signer.certificate)


def _is_signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _made_at(certificate: x509.Certificate) -> datetime.datetime:
    return certificate.not_valid_before_utc + CLOCK_SKEW


def _renewal(certificate: x509.Certificate) -> datetime.datetime:
    """When it is old: after two thirds of its life."""
    made_at = _made_at(certificate)
    return made_at + (certificate.not_valid_after_utc - made_at) * 2 / 3
