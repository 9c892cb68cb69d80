"""OpenPGP keys in binary form -> the same in ASCII armor (RFC 9580, chapters 4.2 and 6).

`gpg --export-secret-keys` without `--armor` writes such, and `kubectl create secret --from-file` takes it as it is. All
that follows works on text, and gpg reads both alike.
"""

from __future__ import annotations

import base64
import binascii
import re
import textwrap

_SECRET_TAGS = frozenset({5, 7})
_KEY_TAGS = frozenset({5, 6})
_CRC_INIT, _CRC_POLYNOMIAL = 0xB704CE, 0x1864CFB
_LINE_CHARACTERS = 64


def armored(data: bytes) -> str | None:
    """The armored text of binary keys; None where the bytes are none.

    Args:
        data: one or more keys, private or public.
    """
    if not holds_keys(data):
        return None
    tags = _tags(data)
    kind = "PRIVATE" if _SECRET_TAGS & set(tags) else "PUBLIC"
    body = "\n".join(textwrap.wrap(base64.b64encode(data).decode(), _LINE_CHARACTERS))
    checksum = base64.b64encode(_crc24(data).to_bytes(3)).decode()
    return f"-----BEGIN PGP {kind} KEY BLOCK-----\n\n{body}\n={checksum}\n-----END PGP {kind} KEY BLOCK-----\n"


_LABEL = re.compile(rb"^-----BEGIN (PGP [A-Z ,0-9/]{1,40})-----[ \t]*\r?\n", re.MULTILINE)


def dearmored(data: bytes) -> tuple[tuple[str, bytes], ...]:
    """The blocks of ASCII armor in a text: what each says it is ("PGP SIGNATURE"), and the packets in it.

    A block that can't be read, or does not end, has no packets. The checksum is not looked at, as RFC 9580 (6.1) wants
    it.
    """
    blocks: list[tuple[str, bytes]] = []
    place = 0
    while (found := _LABEL.search(data, place)) is not None:
        end = b"-----END " + found[1] + b"-----"
        next_label = data.find(b"-----", found.end())
        whole = next_label >= 0 and data.startswith(end, next_label)
        blocks.append((found[1].decode("ascii"), _body(data[found.end() : next_label]) if whole else b""))
        place = next_label + len(end) if whole else found.end()
    return tuple(blocks)


def _body(text: bytes) -> bytes:
    lines = [line.strip() for line in text.split(b"\n")]
    if b"" in lines:  # what stands before an empty line is headers
        lines = lines[lines.index(b"") + 1 :]
    try:
        return base64.b64decode(b"".join(line for line in lines if not line.startswith(b"=")), validate=True)
    except binascii.Error:
        return b""


def packet_tags(data: bytes) -> tuple[int, ...]:
    """The types of the packets (RFC 9580, chapter 5); none where the bytes are not packets from first to last."""
    return tuple(_tags(data))


def holds_keys(data: bytes) -> bool:
    """Whether bytes are keys in binary form, private or public."""
    return _tags(data)[:1] in ([tag] for tag in _KEY_TAGS)


def _tags(data: bytes) -> list[int]:
    """The types of the packets; none where the bytes are not packets from the first to the last."""
    tags: list[int] = []
    place = 0
    while place < len(data):
        header = _header(data, place)
        if header is None:
            return []
        tag, begin, size = header
        place = begin + size
        if place > len(data):
            return []
        tags.append(tag)
    return tags


def _header(data: bytes, place: int) -> tuple[int, int, int] | None:
    """A packet's type, where its content begins and how long that is; None where there is none that a key has."""
    first = data[place]
    if not first & 0x80:
        return None
    if first & 0x40:
        length = _new_length(data[place + 1 : place + 6])
        return (first & 0x3F, place + 1 + length[0], length[1]) if length is not None else None
    if first & 3 == 3:
        return None  # without a stated length, which no key is
    begin = place + 1 + (1 << (first & 3))
    return first >> 2 & 0xF, begin, int.from_bytes(data[place + 1 : begin])


def _new_length(octets: bytes) -> tuple[int, int] | None:
    """How many of these octets encode a length in the new format, and which; None where it is given in parts."""
    if len(octets) >= 1 and octets[0] < 192:
        return 1, octets[0]
    if len(octets) >= 2 and octets[0] < 224:
        return 2, (octets[0] - 192 << 8) + octets[1] + 192
    if len(octets) == 5 and octets[0] == 255:
        return 5, int.from_bytes(octets[1:])
    return None


def _crc24(data: bytes) -> int:
    """RFC 9580, 6.1.1."""
    crc = _CRC_INIT
    for byte in data:
        crc ^= byte << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= _CRC_POLYNOMIAL
    return crc
