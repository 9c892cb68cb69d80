"""How long a credential may be: one table for the CustomResourceDefinition, Miwen's reader and Krapao's.

A Decryptor of 500 bytes can name a Secret of 1 MiB several times, and Miwen and Krapao hold the values in memory. So
each value has a bound, far above the size of such a credential, and so do all values of one request together. The
largest realistic ones: certificates of all public authorities are about 220 KiB, and OpenPGP keys with a photo or many
signatures, and known_hosts files of large sites, reach about 100 KiB.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import attrs

from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText

KIBIBYTE = 1024

DEFAULT_BYTES = 64 * KIBIBYTE
"""The most bytes (UTF-8) of a credential value that is not in `LIMITS_BYTES`."""

LIMITS_BYTES: Mapping[str, int] = {
    "spec.source.repository.credentials.knownHosts": 512 * KIBIBYTE,
    "spec.source.repository.credentials.caBundle": 512 * KIBIBYTE,
    "spec.provider.age.privateKey": 128 * KIBIBYTE,
    "spec.provider.age.privateKeys": 128 * KIBIBYTE,
    "spec.provider.pgp.privateKey": 512 * KIBIBYTE,
    "spec.provider.pgp.privateKeys": 512 * KIBIBYTE,
    "spec.provider.vault.caBundle": 512 * KIBIBYTE,
}
"""The most bytes of the values that may be longer, by their path in a Decryptor."""

MAX_PRIVATE_KEYS = 50
"""The most values that the private keys of one provider may come to. Each pgp key is imported by a run of gpg."""

_NUMBER = re.compile(r"\[\d+\]$")

MAX_TOGETHER_BYTES = 1024 * KIBIBYTE
"""The most bytes of all credentials of the repository together, and of all of the provider together."""


def limit_bytes(path: str) -> int:
    """How many bytes the credential value with a path may have.

    All private keys of a provider together have the same bound as one.

    Args:
        path: "spec.provider.age.privateKey", or with its index in a list: "spec.provider.age.privateKeys[1]".
    """
    return LIMITS_BYTES.get(_NUMBER.sub("", path), DEFAULT_BYTES)


def size_bytes(value: SensitiveText | str) -> int:
    """How many bytes a value takes as UTF-8."""
    text = value if isinstance(value, str) else value.reveal()
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def total_bytes(values: Iterable[SensitiveText]) -> int:
    """How many bytes values take together."""
    return sum(map(size_bytes, values))


def require_total(values: Iterable[SensitiveText], what: str) -> None:
    """Refuse credentials that are too large together.

    Args:
        what: the path of the field that they are below.

    Raises:
        JiemiError: CredentialTooLarge.
    """
    size = total_bytes(values)
    if size > MAX_TOGETHER_BYTES:
        raise JiemiError(
            "CredentialTooLarge",
            f"the values of {what} have {size} bytes together, of {MAX_TOGETHER_BYTES} at most",
        )


def values_of(credentials: object) -> list[SensitiveText]:
    """The values of an attrs class that has them as its fields."""
    found = attrs.astuple(credentials, recurse=False)  # type: ignore[arg-type] # it is an attrs class
    return [each for each in found if isinstance(each, SensitiveText)]
