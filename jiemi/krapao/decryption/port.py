"""The port to decryption: file bytes and keys in, decrypted bytes or a typed error out.

Its form is `jiemi.krapao.decryption.sops`.
"""

from __future__ import annotations

from typing import Protocol

from jiemi.core.documents import Format
from jiemi.core.sensitive import SensitiveBytes
from jiemi.rpc.keys import DecryptionKey


class Decrypter(Protocol):
    """Opens files. May be called from several tasks at once."""

    async def decrypt(self, data: bytes, format: Format, keys: tuple[DecryptionKey, ...]) -> SensitiveBytes:
        """The decrypted file, as `parse_documents` reads it with that format.

        Args:
            data: the encrypted file, which may be hostile.
            keys: what may open it, and nothing else may.

        Raises:
            JiemiError: NotEncrypted, UnknownFormat, KeyMissing, KeyInvalid, MacMismatch, DecryptionFailed,
                LimitExceeded, SopsMissing, GpgMissing, StorageFailed, Timeout, InternalError.
        """
        ...
