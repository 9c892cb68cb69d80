"""Whether bytes that should be public hold a private key, because somebody took the wrong file."""

from __future__ import annotations

import re

from jiemi.core.content.pgp_armor import dearmored, packet_tags

_SECRET_PACKETS = frozenset({5, 7})
_MARKS = re.compile(
    rb"PRIVATE KEY|AGE-SECRET-KEY-|PuTTY-User-Key-File|openssh-key-v1\x00|b3BlbnNzaC1rZXktdj", re.IGNORECASE
)
"""PEM, OpenSSH's and PGP's armor; age; PuTTY; OpenSSH's form without its armor, as it is and in base64."""


def holds_private_key(data: bytes) -> bool:
    """Whether there is a private key in it, of any of the usual forms."""
    if _MARKS.search(data) is not None:
        return True
    blocks = [packets for _, packets in dearmored(data)]
    return any(_SECRET_PACKETS & set(packet_tags(each)) for each in (data, *blocks))
