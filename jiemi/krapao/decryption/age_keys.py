"""Who a file is encrypted for and who the keys given are for, as public names, so that an error can put them side
by side.

Nothing here decides anything. What a file names is searched by pattern, not parsed: a hostile file can make it show
a wrong recipient, never a secret. What an age identity is for is computed as age does: the X25519 public key of the
secret one, both in Bech32 (https://age-encryption.org/v1, BIP 173).
"""

from __future__ import annotations

import re

import attrs
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from jiemi.core.errors import JiemiError
from jiemi.rpc.keys import AgeKey

_MAX_SHOWN = 5
_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_MAX_TEXT_CHARACTERS = 100_000
"""Of all identities together, which are one variable: Linux takes 128 KiB (MAX_ARG_STRLEN), enough for 1,300."""

_POST_QUANTUM = re.compile(r"AGE-SECRET-KEY-PQ-1[A-Z0-9]{50,150}")
_SECRET_PREFIX = "age-secret-key-"  # noqa: S105 - a name, public

_IN_FILE = (
    (re.compile(rb"\"?recipient\"?:\s*\"?(age1[0-9a-z]{20,100}|ssh-[a-z0-9]+ [A-Za-z0-9+/=]{20,80})"), "age "),
    (re.compile(rb"\"?fp\"?:\s*[\"']?([0-9A-Fa-f]{16,64})"), "pgp "),
    (re.compile(rb"\"?arn\"?:\s*\"?(arn:aws[a-z-]*:kms:[A-Za-z0-9:/_-]{1,150})"), "AWS KMS "),
    (re.compile(rb"\"?resource_id\"?:\s*\"?(projects/[A-Za-z0-9/_.-]{1,200})"), "GCP KMS "),
    (re.compile(rb"\"?(?:vaultUrl|vault_url)\"?:\s*\"?(https?://[A-Za-z0-9.:/_-]{1,150})"), "Azure Key Vault "),
    (re.compile(rb"\"?vault_address\"?:\s*\"?(https?://[A-Za-z0-9.:/_-]{1,150})"), "Vault "),
)


def of_file(data: bytes) -> str:
    """The recipients that a file names, for a message."""
    # sops writes its block at the end of a file.
    found = [name + match.decode() for pattern, name in _IN_FILE for match in pattern.findall(data[-256 * 1024 :])]
    shown = list(dict.fromkeys(found))
    if not shown:
        return "none that is known"
    more = f" and {len(shown) - _MAX_SHOWN} more" if len(shown) > _MAX_SHOWN else ""
    return ", ".join(shown[:_MAX_SHOWN]) + more


@attrs.frozen
class AgeIdentities:
    """The identities of age keys.

    Attributes:
        text: one a line, for sops.
        recipients: who they are for, as far as that can be told.
    """

    text: str = attrs.field(repr=False)
    recipients: tuple[str, ...]


def read_age_keys(keys: tuple[AgeKey, ...]) -> AgeIdentities:
    """Read age keys, and refuse what is none.

    Raises:
        JiemiError: KeyInvalid; LimitExceeded.
    """
    lines: list[str] = []
    recipients = []
    for key in keys:
        before = len(lines)
        for number, raw in enumerate(key.private_key.reveal().splitlines(), start=1):
            line = raw.strip()
            if not line or line.startswith("#"):
                continue
            recipients.append(_recipient(line, number))
            lines.append(line)
        if len(lines) == before:
            raise JiemiError("KeyInvalid", "provider.age.privateKey holds no line with AGE-SECRET-KEY-1…")
    text = "\n".join(lines)
    if len(text) > _MAX_TEXT_CHARACTERS:
        raise JiemiError(
            "LimitExceeded", f"provider.age.privateKey has more than {_MAX_TEXT_CHARACTERS} characters of identities"
        )
    return AgeIdentities(text, tuple(recipients))


def _recipient(line: str, number: int) -> str:
    where = f"provider.age.privateKey, line {number}:"
    upper = line.upper()
    if upper.startswith("AGE-PLUGIN-"):
        raise JiemiError("KeyInvalid", f"{where} an age plugin's identity, which this release does not run")
    if _POST_QUANTUM.fullmatch(line):
        return "age (post-quantum)"
    if not upper.startswith("AGE-SECRET-KEY-1"):
        raise JiemiError("KeyInvalid", f"{where} no age identity (AGE-SECRET-KEY-1…) and no comment")
    secret = _decode(line) if line in (upper, line.lower()) else None
    if secret is None or len(secret) != 32:
        raise JiemiError("KeyInvalid", f"{where} an age identity that is damaged or not whole (its checksum is wrong)")
    public = X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
    return "age " + _encode("age", public)


def _checksum(values: list[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATOR):
            check ^= generator if (top >> bit) & 1 else 0
    return check


def _expand(prefix: str) -> list[int]:
    return [ord(char) >> 5 for char in prefix] + [0] + [ord(char) & 31 for char in prefix]


def _regroup(values: list[int], from_bits: int, to_bits: int, *, pad: bool) -> bytes | None:
    accumulated = bits = 0
    out = []
    for value in values:
        accumulated = (accumulated << from_bits | value) & 0xFFFFFF
        bits += from_bits
        while bits >= to_bits:
            bits -= to_bits
            out.append(accumulated >> bits & ((1 << to_bits) - 1))
    rest = accumulated & ((1 << bits) - 1)
    if pad and bits:
        out.append(rest << (to_bits - bits))
    elif not pad and (bits >= from_bits or rest):
        return None
    return bytes(out)


def _decode(text: str) -> bytes | None:
    """The bytes of a Bech32 text with age's prefix for secrets, or None."""
    text = text.lower()
    data = text[len(_SECRET_PREFIX) + 1 :]
    if len(data) < 7 or any(char not in _ALPHABET for char in data):
        return None
    values = [_ALPHABET.index(char) for char in data]
    if _checksum(_expand(_SECRET_PREFIX) + values) != 1:
        return None
    return _regroup(values[:-6], 5, 8, pad=False)


def _encode(prefix: str, data: bytes) -> str:
    values = list(_regroup(list(data), 8, 5, pad=True) or b"")
    check = _checksum([*_expand(prefix), *values, 0, 0, 0, 0, 0, 0]) ^ 1
    values += [check >> 5 * (5 - place) & 31 for place in range(6)]
    return prefix + "1" + "".join(_ALPHABET[value] for value in values)
