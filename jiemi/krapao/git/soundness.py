"""Whether what is on the volume is what was written there.

Most of what a clone says is proven by git's hashes as it is read (`jiemi.krapao.git.revision`). Two things are not, and
each would be reported as somebody else's fault: that an object is larger than a limit, which is said by a few bytes
before it, and that a pack of the host does not fit, which may be because what it builds upon is damaged. So before
either is reported, the bytes are compared with the checksums that were written with them (gitformat-pack(5)): the
CRC32 of one object in the index of its pack, and the hash at the end of each file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from jiemi.krapao.git.packs import Buffer, PackDamaged, crc_of, read_object_start, unpack_in_pieces

_CHUNK_BYTES = 1024 * 1024


def check_object(data: Buffer, offset: int, crc: int, *, hash_bytes: int) -> None:
    """Compare one object of a pack with its CRC32. Nothing of it is kept in memory.

    Args:
        data: the pack.
        offset: where the object begins, in bytes.
        crc: of its bytes as they are in the pack.
        hash_bytes: 20 for SHA-1, 32 for SHA-256.

    Raises:
        LookupError: they are not those that were written.
    """
    try:
        _, size, _, at = read_object_start(data, offset, hash_bytes)
        end = unpack_in_pieces(data, at, size, lambda _: None)
    except PackDamaged as error:
        raise LookupError("an object of a pack is damaged") from error
    if crc_of(data, offset, end) != crc:
        raise LookupError("an object of a pack is not the one that was written")


def is_sound(generation: Path, *, hash_bytes: int, check: Callable[[], None]) -> bool:
    """Whether all packs and indexes of a generation are as they were written.

    Args:
        hash_bytes: 20 for SHA-1, 32 for SHA-256.
        check: raises where the call was cancelled; called often.

    Raises:
        OSError: one can't be read.
    """
    files = [path for path in (generation / "objects" / "pack").iterdir() if path.suffix in (".pack", ".idx")]
    return all(_ends_with_its_hash(path, hash_bytes, check) for path in files)


def _ends_with_its_hash(path: Path, hash_bytes: int, check: Callable[[], None]) -> bool:
    hash = hashlib.sha256() if hash_bytes == 32 else hashlib.sha1(usedforsecurity=False)
    left = path.stat().st_size - hash_bytes
    with path.open("rb") as file:
        while left > 0:
            check()
            chunk = file.read(min(left, _CHUNK_BYTES))
            if not chunk:
                return False
            hash.update(chunk)
            left -= len(chunk)
        return left == 0 and file.read() == hash.digest()
