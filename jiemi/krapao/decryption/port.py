"""The port to decryption: file bytes and keys in, decrypted bytes or a typed error out.

Its form is `jiemi.krapao.decryption.sops`.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

import attrs

from jiemi.concurrency.askers import Askers
from jiemi.core.content.formats import Format
from jiemi.core.content.sops_config import Indents
from jiemi.core.sensitive import SensitiveBytes
from jiemi.rpc.keys import DecryptionKey


@attrs.frozen
class Decrypted:
    """A file that was opened.

    Attributes:
        plain: the decrypted file, as `parse_documents` reads it with the file's format; or the file itself.
        vault_address: the Vault server that got a token because nothing names one; None otherwise.
        key_expires_at: when the first of the keys expires that opened it (seconds since the epoch), or None.
    """

    plain: SensitiveBytes
    vault_address: str | None = None
    key_expires_at: int | None = None


@attrs.define
class Budget:
    """What the files of one rendering may take together: the file, and those that are values in it. Each run of sops
    takes its part away.

    Attributes:
        seconds: of time.
        key_requests: for data keys.
        output_bytes: that they decrypt to.
    """

    seconds: float
    key_requests: int
    output_bytes: int

    def spend(self, seconds: float, key_requests: int, output_bytes: int = 0) -> None:
        """Take away what one run came to."""
        self.seconds -= seconds
        self.key_requests -= key_requests
        self.output_bytes -= output_bytes


@attrs.frozen(kw_only=True)
class WantedForm:
    """The form in which a decrypted file is wanted.

    Attributes:
        whole: whether the file itself is wanted, in its own format.
        output: the format in which the file itself is wanted then, where it is another.
        indents: how the file itself is indented, where it is wanted.
    """

    whole: bool = False
    output: Format | None = None
    indents: Indents = Indents()


@attrs.frozen(kw_only=True)
class RenderingShare:
    """What a decryption shares with the others of its rendering.

    Attributes:
        askers: the tenants that wait for it, in whose queues it waits for its turn; None for one that is its own.
        repository: the URL of the repository that the file is of. An identity of Krapao's own is lent by it.
        budget: what is left of the bounds that this file shares with others; None for bounds of its own.
    """

    askers: Askers | None = None
    repository: str = ""
    budget: Budget | None = None


class Decrypter(Protocol):
    """Opens files. May be called from several tasks at once."""

    def budget(self) -> Budget:
        """The bounds of one rendering."""
        ...

    async def decrypt(
        self,
        data: bytes,
        format: Format,
        keys: tuple[DecryptionKey, ...],
        *,
        allowed_recipients: tuple[str, ...] = (),
        form: WantedForm = WantedForm(),
        rendering: RenderingShare = RenderingShare(),
    ) -> Decrypted:
        """Open a file.

        Args:
            data: the encrypted file, which may be hostile.
            keys: what may open it, and nothing else may.
            allowed_recipients: patterns of the recipients that may be asked for the data key; empty for all.
            form: the one in which it is wanted; what is in it, in any form that is read here, unless it says otherwise.
            rendering: the one that it is a part of.

        Raises:
            JiemiError: NotEncrypted, UnknownFormat, KeyMissing, KeyInvalid, KeyServiceDenied, KeyServiceUnreachable,
                KeyHolderFailed, DestinationNotAllowed, AmbientIdentityNotAllowed, MacMismatch, DecryptionFailed,
                LimitExceeded, SopsMissing, GpgMissing, StorageFailed, Timeout, InternalError.
        """
        ...

    def own(self, owner: Hashable, keys: tuple[DecryptionKey, ...]) -> None:
        """Note which keys an owner uses from now on, so that those that nobody uses any longer are not held.

        Args:
            keys: all that it uses; none where it no longer uses any.
        """
        ...
