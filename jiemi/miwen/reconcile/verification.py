"""What a Decryptor's revisions must be signed by: its spec, and the public keys in the Secret that it names."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping

from jiemi.core.api.decryptor import Decryptor
from jiemi.core.api.spec import DecryptorSpec
from jiemi.core.content.pgp_armor import holds_keys
from jiemi.core.content.private_keys import holds_private_key
from jiemi.core.errors import JiemiError
from jiemi.miwen.kubernetes.port import Kubernetes
from jiemi.miwen.reconcile.credentials import read_secret
from jiemi.miwen.state.loop_state import SecretVersions
from jiemi.rpc.verification import (
    MAX_VERIFICATION_BYTES,
    MAX_VERIFICATION_KEYS,
    PublicKeys,
    SignatureKind,
    Verification,
    VerifyMode,
)

FIELD = "spec.source.repository.verify"
_HISTORY_COMMITS = 100
_PGP_KEYS = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"
_SSH_KEY = re.compile(rb"(?:^|[ \t])(?:ssh-|ecdsa-sha2-|sk-)[A-Za-z0-9.@-]{1,60} AAAA", re.MULTILINE)


async def verification_of(
    decryptor: Decryptor, spec: DecryptorSpec, kubernetes: Kubernetes, versions: SecretVersions
) -> Verification | None:
    """What revisions must be signed by; None for nothing.

    Args:
        versions: as of `CredentialReader`.

    Raises:
        JiemiError: SecretNotFound, SecretForbidden, CredentialTooLarge, VerificationKeysInvalid, ClusterUnavailable.
    """
    verify = spec.source.repository.verify
    if verify is None:
        return None
    name, namespace = verify.secret_name, decryptor.meta.namespace
    data = await read_secret(kubernetes, namespace, name, FIELD, versions)
    where = f"Secret {namespace}/{name}, which {FIELD}.secretName names,"
    keys = public_keys_of(data, where)
    _require_kind(keys, SignatureKind(verify.provider), where)
    return Verification(
        VerifyMode(verify.mode),
        SignatureKind(verify.provider),
        keys,
        verify.signers or (),
        verify.authors or (),
        verify.committers or (),
        verify.minimum_signers,
        verify.history_commits or _HISTORY_COMMITS,
    )


def _require_kind(keys: tuple[PublicKeys, ...], wanted: SignatureKind, where: str) -> None:
    """Refuse keys of the other provider. Whether they can be read is Krapao's to say."""
    for each in keys:
        is_pgp = _PGP_KEYS in each.data or holds_keys(each.data)
        is_ssh = not is_pgp and _SSH_KEY.search(each.data) is not None
        if wanted is SignatureKind.PGP and is_ssh:
            raise JiemiError(
                "VerificationKeysInvalid",
                f"{where} has an ssh key under {each.name!r}, and {FIELD}.provider is pgp",
                "Set the provider to ssh, or put what `gpg --export --armor KEY` prints there.",
            )
        if wanted is SignatureKind.SSH and is_pgp:
            raise JiemiError(
                "VerificationKeysInvalid",
                f"{where} has a pgp key under {each.name!r}, and {FIELD}.provider is ssh",
                "Set the provider to pgp, or put public keys of ssh there: NAME.pub, or allowed_signers.",
            )


def public_keys_of(data: Mapping[str, object], where: str) -> tuple[PublicKeys, ...]:
    """The entries of a Secret with public keys, in the order of their names.

    Args:
        data: of the Secret, base64 by key.
        where: names the Secret, for messages.

    Raises:
        JiemiError: VerificationKeysInvalid; CredentialTooLarge.
    """
    entries = sorted((str(key), str(value or "")) for key, value in data.items())
    if len(entries) > MAX_VERIFICATION_KEYS:
        raise JiemiError("CredentialTooLarge", f"{where} has {len(entries)} keys, of {MAX_VERIFICATION_KEYS} at most")
    if (size := sum(len(value) for _, value in entries) // 4 * 3) > MAX_VERIFICATION_BYTES:
        raise JiemiError("CredentialTooLarge", f"{where} has {size} bytes, of {MAX_VERIFICATION_BYTES} at most")
    found = []
    for key, value in entries:
        try:
            content = base64.b64decode(value, validate=True)
        except binascii.Error:
            content = b""
        if holds_private_key(content):
            raise JiemiError(
                "VerificationKeysInvalid",
                f"{where} has a private key under {key!r}",
                "Remove it there, and treat the key as known to everyone who may read that Secret. Only public keys "
                "are needed (`gpg --export`, NAME.pub).",
            )
        if content.strip():
            found.append(PublicKeys(key, content))
    if not found:
        raise JiemiError(
            "VerificationKeysInvalid",
            f"{where} has no public key",
            "Put the signers' public keys into it (`kubectl create secret generic NAME --from-file=…`).",
        )
    return tuple(found)
