"""The identity that a client of Krapao's shows in TLS, from a folder."""

from __future__ import annotations

from pathlib import Path

import trio

from jiemi.certificates import CLIENT_AUTH
from jiemi.core.errors import JiemiError
from jiemi.rpc.tls import IdentitySource, TlsError, TlsFolder, TlsIdentity


def identity_of_folder(path: Path) -> IdentitySource:
    """The identity in a folder, read at each use.

    The source raises JiemiError: KrapaoNotTrusted where there is none.
    """
    folder = TlsFolder(path, CLIENT_AUTH)

    async def read() -> TlsIdentity:
        try:
            return await trio.to_thread.run_sync(folder.read)
        except TlsError as error:
            remedy = error.remedy or "Correct the files in that folder."
            raise JiemiError("KrapaoNotTrusted", f"--tls-dir: {error}", remedy) from error

    return read
