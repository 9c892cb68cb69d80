"""How `sops decrypt` ended -> a typed error.

Its exit status tells first (cmd/sops/codes/codes.go of v3.13), what the guard knows second, and phrases of its messages
third. Its messages quote keys' names and pieces of the file, so they are looked at and dropped; none of their text goes
on.
"""

from __future__ import annotations

import re

from jiemi.core.ciphertext import format_of_content
from jiemi.core.documents import Format
from jiemi.core.errors import JiemiError
from jiemi.krapao.decryption.guard import Guard
from jiemi.krapao.decryption.metadata import read_encryption
from jiemi.krapao.decryption.processes import Finished
from jiemi.krapao.decryption.verdicts import explain

_NOT_EXECUTED = (126, 127)
"""Of unshare(1), and of the shell that execvp(3) runs what is no program with. sops has no such status."""

_EXIT_ANY, _EXIT_DUMP, _EXIT_DECRYPT_MAC, _EXIT_DECRYPT_TREE = 1, 4, 24, 25
_EXIT_MAC_MISMATCH, _EXIT_MAC_NOT_FOUND, _EXIT_NO_KEY = 51, 52, 128

_FATAL = ("fatal error: ", "runtime: ")
_NOT_ENCRYPTED = re.compile(r"sops metadata not found|no sops metadata")
_NOT_THE_FORMAT = re.compile(
    r"^(yaml: |could not unmarshal input data|invalid character '|error unmarshal|unexpected end of json)"
)
_BLOCK_DAMAGED = re.compile(
    r"parsing time|version string empty|invalid character\(s\)|no major\.minor\.patch|sops entry|sops metadata|base64"
)


def no_key(data: bytes, guard: Guard) -> JiemiError:
    """Why no data key was had."""
    return explain(guard.outcomes, recipients=read_encryption(data).recipients, given=guard.given)


def explain_exit(  # noqa: PLR0911 - a table
    finished: Finished, data: bytes, format: Format, output: Format, guard: Guard
) -> JiemiError:
    """The reason for which sops ended with an error. No text of its own is in it.

    Args:
        data, format, output: the file, its format, and the one that was wanted.
        guard: of the run.
    """
    status = finished.returncode
    words = " ".join(re.sub(r"[|\s]+", " ", finished.stderr.decode("utf-8", "replace")).split()).lower()
    if status in _NOT_EXECUTED:
        return JiemiError("SopsMissing", "Krapao's sops is there, but is no program that can be run")
    # What Go's runtime says where it gets no memory, no thread, or has no stack left. sops's own words begin otherwise.
    if status < 0 or words.startswith(_FATAL):
        return JiemiError("LimitExceeded", "decrypting the file took more processor time or memory than Krapao's limit")
    if status == _EXIT_NO_KEY:
        return no_key(data, guard)
    if status in (_EXIT_MAC_MISMATCH, _EXIT_MAC_NOT_FOUND, _EXIT_DECRYPT_MAC):
        return JiemiError("MacMismatch", "the file's MAC does not match its content: it was changed without sops")
    if status == _EXIT_DECRYPT_TREE:
        return JiemiError("MacMismatch", "a value of the file does not decrypt: it was changed without sops")
    if status == _EXIT_DUMP:
        what = "JSON has no form for, like NaN" if output is Format.JSON else f"{output.value} has no form for"
        return JiemiError("UnknownFormat", f"the file holds what {what}{_other_format(data, format)}")
    if _NOT_ENCRYPTED.search(words) and "parsing time" not in words:  # which quotes what is no time
        other = _other_format(data, format)
        what = f"the file has no sops block of the format {format.value}" if other else "the file has no sops block"
        return JiemiError("NotEncrypted", f"{what}{other or ': it is not encrypted with sops'}")
    if _NOT_THE_FORMAT.search(words) or (status == _EXIT_ANY and _other_format(data, format)):
        return JiemiError(
            "UnknownFormat",
            f"the encrypted file is not {format.value}, as its name, spec.source.format or content says"
            f"{_other_format(data, format)}",
        )
    if _BLOCK_DAMAGED.search(words):
        windows = ": its lines end in Windows' way, and sops takes the carriage return for a part of each value"
        hint = windows if format is Format.DOTENV and b"\r\n" in data else ""
        return JiemiError("DecryptionFailed", f"the file's sops block is damaged{hint}")
    return JiemiError("DecryptionFailed", f"sops ended with status {status}")


def _other_format(data: bytes, format: Format) -> str:
    """For messages: what sops has encrypted a file as, where it was read as another format."""
    found = format_of_content(data)
    if found in (None, format):
        return ""
    return (
        f": sops has encrypted it as {found.value}: state {found.value} in spec.source.format, or give the file the "
        "ending that tells it"
    )
