"""The session secret that Miwen shows to Krapao, from a file or from a Secret of its own namespace."""

from __future__ import annotations

from pathlib import Path

import trio

from jiemi.cli.errors import CommandError
from jiemi.core.errors import JiemiError
from jiemi.core.names import is_object_name
from jiemi.core.sensitive import SensitiveText
from jiemi.miwen.kubernetes.access import SERVICE_ACCOUNT_DIRECTORY
from jiemi.rpc.client import SecretSource
from jiemi.rpc.session_secret import SessionSecretError, read_secret_file


def secret_of_file(path: Path) -> SecretSource:
    """The first secret of a file, read at each use.

    The source raises JiemiError: KrapaoAccessDenied where there is none.
    """

    async def read() -> SensitiveText:
        try:
            return (await trio.to_thread.run_sync(read_secret_file, path))[0]
        except SessionSecretError as error:
            raise JiemiError("KrapaoAccessDenied", f"--session-secret-file: {error}") from error

    return read


def secret_name(flag: str, text: str, kind: str = "Secret") -> tuple[str, str]:
    """The namespace and name of a flag `[NAMESPACE/]NAME`.

    Args:
        kind: what it names.

    Raises:
        CommandError: no namespace is named, and this is no Pod; or nothing can have that name.
    """
    namespace, slash, name = text.rpartition("/")
    if not slash:
        try:
            namespace = (SERVICE_ACCOUNT_DIRECTORY / "namespace").read_text().strip()
        except (OSError, UnicodeDecodeError):
            raise CommandError(
                f"{flag} {text}: outside of a Pod Miwen has no namespace of its own; write NAMESPACE/{text}"
            ) from None
    for of_kind, part in (("Namespace", namespace), (kind, name)):
        if not is_object_name(part, group="", kind=of_kind):
            raise CommandError(f"{flag} {text}: nothing can have that name")
    return namespace, name
