"""What a revision must be signed by, and who signed it."""

from __future__ import annotations

from jiemi.core.errors import Failure, JiemiError
from jiemi.rpc.codec.failures import read_failure, unknown_result, write_failure
from jiemi.rpc.codec.fields import (
    Builder,
    Reader,
    get_optional,
    get_text,
    get_texts,
    member_of,
    put_text,
    put_texts,
)
from jiemi.rpc.contract import is_revision
from jiemi.rpc.verification import (
    MAX_HISTORY_COMMITS,
    MAX_VERIFICATION_BYTES,
    MAX_VERIFICATION_KEYS,
    PublicKeys,
    SignatureKind,
    Signer,
    Verification,
    Verified,
    VerifyMode,
)

_FIELD = "spec.source.repository.verify"


def write_verification(builder: Builder, verification: Verification) -> None:
    put_text(builder, "mode", verification.mode.value)
    put_text(builder, "kind", verification.kind.value)
    keys = builder.init("keys", len(verification.keys))
    for entry, each in zip(keys, verification.keys, strict=True):
        put_text(entry, "name", each.name)
        entry.data = each.data
    put_texts(builder, "signers", verification.signers)
    put_texts(builder, "authors", verification.authors)
    put_texts(builder, "committers", verification.committers)
    builder.minimumSigners = verification.minimum_signers
    builder.historyCommits = verification.history_commits


def read_verification(reader: Reader) -> Verification:
    """What must be signed. What is not known here is refused: it may restrict more than what is known.

    Raises:
        JiemiError: InvalidSpec, ProviderNotSupportedYet, LimitExceeded, VerificationKeysInvalid.
    """
    mode, kind = get_text(reader, "mode"), get_text(reader, "kind")
    try:
        wanted, by = VerifyMode(mode), SignatureKind(kind)
    except ValueError:
        raise JiemiError(
            "ProviderNotSupportedYet", f"Krapao is of an older release than Miwen and does not know what {_FIELD} wants"
        ) from None
    entries = reader.keys
    if len(entries) > MAX_VERIFICATION_KEYS:
        raise JiemiError("LimitExceeded", f"{_FIELD}: more than {MAX_VERIFICATION_KEYS} entries with public keys")
    keys = tuple(PublicKeys(get_text(each, "name"), bytes(each.data)) for each in entries)
    if not keys:
        raise JiemiError("VerificationKeysInvalid", f"{_FIELD} came without any public key")
    if sum(len(each.data) for each in keys) > MAX_VERIFICATION_BYTES:
        raise JiemiError("LimitExceeded", f"{_FIELD}: more than {MAX_VERIFICATION_BYTES} bytes of public keys")
    minimum, history = int(reader.minimumSigners), int(reader.historyCommits)
    if minimum < 1 or history > MAX_HISTORY_COMMITS:
        raise JiemiError("InvalidSpec", f"{_FIELD}: a number is out of its range")
    return Verification(
        wanted,
        by,
        keys,
        get_texts(reader, "signers"),
        get_texts(reader, "authors"),
        get_texts(reader, "committers"),
        minimum,
        history,
    )


def write_verify_result(builder: Builder, result: Verified | Failure) -> None:
    if isinstance(result, Failure):
        write_failure(builder.init("failure"), result)
        return
    verified = builder.init("verified")
    put_text(verified, "revision", result.revision)
    put_text(verified, "ref", result.ref)
    for field, signer in (("commit", result.commit), ("tag", result.tag)):
        if signer is not None:
            written = verified.init(field)
            put_text(written, "name", signer.name)
            put_text(written, "key", signer.key)
    verified.validUntil = result.valid_until or 0


def read_verify_result(reader: Reader) -> Verified:
    """Raises the JiemiError that the result holds."""
    match member_of(reader):
        case "verified":
            found = reader.verified
            revision = get_text(found, "revision")
            if not is_revision(revision):
                raise JiemiError("InternalError", "Krapao answered with a revision that is no full commit hash")
            return Verified(
                revision,
                _signer(found, "commit"),
                _signer(found, "tag"),
                get_optional(found, "ref"),
                int(found.validUntil) or None,
            )
        case "failure":
            raise JiemiError.of(read_failure(reader.failure))
    raise unknown_result()


def _signer(reader: Reader, field: str) -> Signer | None:
    if not reader._has(field):
        return None
    signer = getattr(reader, field)
    return Signer(get_text(signer, "name"), get_text(signer, "key"))
