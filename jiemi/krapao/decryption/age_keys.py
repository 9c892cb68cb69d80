"""age identities: what a key holds, who it is for, and how sops is given it.

What an X25519 identity is for is computed as age does: the public key of the secret one, both in Bech32
(https://age-encryption.org/v1, BIP 173). That lets an error put the keys given beside a file's recipients, and spares
the holder questions that it can't answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import attrs
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from jiemi.core.errors import JiemiError
from jiemi.krapao.confinement.private_folders import require_memory, write_file
from jiemi.krapao.decryption.mistaken_keys import instead_of_key
from jiemi.rpc.keys import AgeKey, named_parts

_FIELD = "spec.provider.age.privateKey"
_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_MAX_TEXT_CHARACTERS = 100_000
"""Of all identities together, which are one variable: Linux takes 128 KiB (MAX_ARG_STRLEN), enough for 1,300."""

_POST_QUANTUM = re.compile(r"AGE-SECRET-KEY-PQ-1[A-Z0-9]{50,150}")
_PLUGIN = re.compile(r"AGE-PLUGIN-[A-Z0-9+._-]{1,64}-1[A-Z0-9]{6,4000}")
_SECRET_PREFIX = "age-secret-key-"  # noqa: S105 - a name, public
_PEM_BEGIN = re.compile(r"-----BEGIN ([A-Z ]+)-----")
_SSH_FILES = ("ssh-key", ".ssh/id_ed25519", ".ssh/id_rsa")
"""Where sops looks for ssh keys: where a variable says, and twice in the home. Their type may be any."""


_WHOLE_LINE = "Put the whole line AGE-SECRET-KEY-1… there, as age-keygen printed it."
_WHOLE_FILE = "Put the whole file of the private key there, with its line breaks."


@attrs.frozen
class AgeIdentities:
    """The identities of an age key.

    Attributes:
        text: those that age itself knows, one a line.
        ssh_keys: private keys in PEM.
        recipients: who they are for, as far as that can be told.
        all_known: whether `recipients` names all of them.
    """

    text: str = attrs.field(repr=False)
    ssh_keys: tuple[str, ...] = attrs.field(default=(), repr=False)
    recipients: tuple[str, ...] = ()
    all_known: bool = True

    def environment(self, home: Path) -> Mapping[str, str]:
        """The variables with which sops finds them. Writes ssh keys into the folder, which must be in memory.

        Raises:
            JiemiError: StorageFailed.
        """
        found = {"SOPS_AGE_KEY": self.text} if self.text else {}
        if self.ssh_keys:
            require_memory(home)
            (home / ".ssh").mkdir(mode=0o700)
            for name, text in zip(_SSH_FILES, self.ssh_keys, strict=False):
                write_file(home / name, text)
            found["SOPS_AGE_SSH_PRIVATE_KEY_FILE"] = str(home / _SSH_FILES[0])
        return found

    def may_open(self, recipient: str) -> bool:
        """Whether a file for that recipient might be opened."""
        return not self.all_known or f"age {' '.join(recipient.split()[:2])}" in self.recipients


def read_age_key(key: AgeKey, *, plugins: bool = False) -> AgeIdentities:
    """Read an age key, and refuse what is none.

    Args:
        plugins: whether identities of plugins are taken.

    Raises:
        JiemiError: KeyInvalid; LimitExceeded.
    """
    lines: list[str] = []
    ssh_keys: list[str] = []
    recipients: list[str | None] = []
    for name, part in named_parts(key, _FIELD):
        found = _read_part(name, part, plugins=plugins)
        lines += found.lines
        ssh_keys += found.ssh_keys
        recipients += found.recipients
    text = "\n".join(lines)
    if len(text) > _MAX_TEXT_CHARACTERS:
        raise JiemiError("LimitExceeded", f"{_FIELD} has more than {_MAX_TEXT_CHARACTERS} characters of identities")
    if len(ssh_keys) > len(_SSH_FILES):
        raise JiemiError("LimitExceeded", f"{_FIELD} has more than {len(_SSH_FILES)} ssh keys, which sops can't take")
    known = [each for each in recipients if each is not None]
    shown = (*known, *(["age identities of other kinds"] if len(known) < len(recipients) else []))
    return AgeIdentities(text, tuple(ssh_keys), shown, len(known) == len(recipients))


@attrs.define
class _Part:
    """What one text holds."""

    lines: list[str] = attrs.field(factory=list)
    ssh_keys: list[str] = attrs.field(factory=list)
    recipients: list[str | None] = attrs.field(factory=list)


def _read_part(name: str, text: str, *, plugins: bool) -> _Part:
    try:
        return _read_lines(name, text, plugins=plugins)
    except JiemiError as error:
        instead = instead_of_key(text, provider="age")
        if instead is None or error.failure.remedy not in (_WHOLE_LINE, _WHOLE_FILE):
            raise
        raise JiemiError("KeyInvalid", f"{name} is {instead[0]}", instead[1]) from None


def _read_lines(name: str, text: str, *, plugins: bool) -> _Part:
    found = _Part()
    pem: list[str] = []
    for number, raw in enumerate(text.splitlines(), start=1):
        where = f"{name}, line {number - len(pem)}:"
        line = raw.strip()
        if pem or _PEM_BEGIN.fullmatch(line):
            pem.append(line)
            if line.startswith("-----END "):
                key = "\n".join(pem) + "\n"
                found.recipients.append(_ssh_recipient(key, where))
                found.ssh_keys.append(key)
                pem.clear()
        elif line and not line.startswith("#"):
            found.recipients.append(_recipient(line, where, plugins=plugins))
            # Bech32 may be all lower case (BIP 173), but sops and age know their prefixes in capitals only.
            found.lines.append(line.upper())
    if pem:
        raise JiemiError(
            "KeyInvalid",
            f"{name}: a private key in PEM that does not end",
            "Put the whole file of the private key there, its line -----END …----- included.",
        )
    if not found.recipients:
        raise JiemiError("KeyInvalid", f"{name} holds no line with AGE-SECRET-KEY-1…", _WHOLE_LINE)
    return found


def _ssh_recipient(text: str, where: str) -> str:
    data = text.encode("utf-8", "replace")
    load = load_ssh_private_key if "OPENSSH" in text.split("\n", 1)[0] else load_pem_private_key
    try:
        found = load(data, password=None)
    except TypeError:
        raise JiemiError(
            "KeyInvalid",
            f"{where} an ssh key that is protected by a passphrase, which nobody can be asked for here",
            "Take the passphrase off a copy of the key (`ssh-keygen -p -f COPY`), and put that there.",
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise JiemiError(
            "KeyInvalid",
            f"{where} a private key in PEM that can't be read",
            _WHOLE_FILE,
        ) from None
    if not isinstance(found, Ed25519PrivateKey | RSAPrivateKey):
        raise JiemiError(
            "KeyInvalid",
            f"{where} an ssh key of a type that age does not use",
            "Give an ed25519 or RSA key, or an age identity, that the file is encrypted for.",
        )
    return "age " + found.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def _recipient(line: str, where: str, *, plugins: bool) -> str | None:
    """Who a line's identity is for, or None where that can't be told."""
    upper = line.upper()
    if upper.startswith("AGE-") and line not in (upper, line.lower()):
        raise JiemiError(
            "KeyInvalid", f"{where} an age identity in capitals and small letters both: it is damaged", _WHOLE_LINE
        )
    if upper.startswith("AGE-PLUGIN-"):
        if not plugins:
            raise JiemiError(
                "KeyInvalid",
                f"{where} an age plugin's identity, and this Krapao has no plugins",
                "Give an identity that needs no plugin, or ask the operator for the plugin "
                "(`jiemi krapao --age-plugins DIR`).",
            )
        if _PLUGIN.fullmatch(upper) is None:
            raise JiemiError(
                "KeyInvalid",
                f"{where} an age plugin's identity that is damaged or not whole",
                "Put the whole line AGE-PLUGIN-… there, as the plugin printed it.",
            )
        return None
    if _POST_QUANTUM.fullmatch(upper):
        return None
    if not upper.startswith("AGE-SECRET-KEY-1"):
        if upper.startswith("AGE1"):
            raise JiemiError(
                "KeyInvalid",
                f"{where} an age recipient, which is the public half of a key and opens nothing",
                "Put the private half there: the line AGE-SECRET-KEY-1… of the same key file.",
            )
        raise JiemiError("KeyInvalid", f"{where} no age identity (AGE-SECRET-KEY-1…) and no comment", _WHOLE_LINE)
    secret = _decode(line)
    if secret is None or len(secret) != 32:
        raise JiemiError(
            "KeyInvalid", f"{where} an age identity that is damaged or not whole (its checksum is wrong)", _WHOLE_LINE
        )
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
