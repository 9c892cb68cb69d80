"""How `sops decrypt` ended -> a typed error.

Its exit status counts first (cmd/sops/codes/codes.go of v3.13), what the guard knows second, and phrases of its
messages third. Its messages quote keys' names and pieces of the file, so they are looked at and dropped; none of their
text goes on.
"""

from __future__ import annotations

import re

from jiemi.core.content.formats import Format
from jiemi.core.errors import JiemiError
from jiemi.krapao.confinement.processes import Finished
from jiemi.krapao.decryption.guard import Guard
from jiemi.krapao.decryption.metadata import read_encryption
from jiemi.krapao.decryption.verdicts import explain
from jiemi.krapao.decryption.wrong_format import no_mac, not_the_format, other_format, state_or_name
from jiemi.krapao.reading.foreign_files import foreign_file

_NOT_EXECUTED = (126, 127)
"""Of unshare(1), and of the shell that execvp(3) runs what is no program with. sops has no such status."""

_EXIT_OF_GO = 2
"""Of Go's runtime, where it gets no memory, no thread, or has no stack left, after whatever sops logged before; and of
a panic. sops itself has it for an input that it can't read."""

_EXIT_ANY, _EXIT_DUMP, _EXIT_DECRYPT_MAC, _EXIT_DECRYPT_TREE = 1, 4, 24, 25
_EXIT_MAC_MISMATCH, _EXIT_MAC_NOT_FOUND, _EXIT_NO_KEY = 51, 52, 128

_EXITS_OF_THE_MAC = frozenset({_EXIT_DECRYPT_MAC, _EXIT_DECRYPT_TREE, _EXIT_MAC_MISMATCH, _EXIT_MAC_NOT_FOUND})

_NOT_OF_A_LIMIT = re.compile(rb"^(panic: |Error reading (from stdin|file): )", re.MULTILINE)
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
        return JiemiError(
            "SopsMissing",
            "Krapao's sops is there, but is no program that can be run",
            "Give Krapao a sops for its machine's processor (the image has it); `jiemi tools sops` gets one.",
        )
    if status < 0 or (status == _EXIT_OF_GO and _NOT_OF_A_LIMIT.search(finished.stderr) is None):
        return JiemiError("LimitExceeded", "decrypting the file took more processor time or memory than Krapao's limit")
    if status == _EXIT_NO_KEY:
        return no_key(data, guard)
    if status in _EXITS_OF_THE_MAC:
        return _of_the_mac(status, data)
    if (foreign := foreign_file(data)) is not None:
        return JiemiError("NotEncrypted", f"the file is {foreign[0]}, and none that sops has encrypted", foreign[1])
    other = other_format(data, format)
    if status == _EXIT_DUMP:
        what = "JSON has no form for, like NaN" if output is Format.JSON else f"{output.value} has no form for"
        if other is not None:
            return not_the_format(data, format)
        return JiemiError("UnknownFormat", f"the file holds what {what}", "Take that value out, or write it as text.")
    if _NOT_ENCRYPTED.search(words) and "parsing time" not in words:  # which quotes what is no time
        if other is not None:
            return JiemiError(
                "NotEncrypted",
                f"the file has no sops block of the format {format.value}: sops has encrypted it as {other.value}",
                state_or_name(other),
            )
        return JiemiError("NotEncrypted", "the file has no sops block: it is not encrypted with sops")
    if _NOT_THE_FORMAT.search(words) or (status == _EXIT_ANY and other is not None):
        return not_the_format(data, format)
    if _BLOCK_DAMAGED.search(words):
        return _block_damaged(data, format)
    return JiemiError("DecryptionFailed", f"sops ended with status {status}")


def _of_the_mac(status: int, data: bytes) -> JiemiError:
    """The error for a file that is not as it was encrypted, or does not show that it is."""
    lacking = no_mac(data) if status in (_EXIT_MAC_MISMATCH, _EXIT_DECRYPT_MAC, _EXIT_MAC_NOT_FOUND) else None
    if lacking is not None or status == _EXIT_MAC_NOT_FOUND:
        return JiemiError(
            "MacMismatch",
            f"the file's sops block {lacking or 'has no MAC'}, so nothing shows that the file is as it was encrypted",
            "Restore the line `mac` of the sops block from the last good commit.",
        )
    if status == _EXIT_DECRYPT_TREE:
        return JiemiError("MacMismatch", "a value of the file does not decrypt: it was changed without sops")
    return JiemiError("MacMismatch", "the file's MAC does not match its content: it was changed without sops")


def _block_damaged(data: bytes, format: Format) -> JiemiError:
    if format is Format.DOTENV and b"\r\n" in data:
        return JiemiError(
            "DecryptionFailed",
            "the file's sops block is damaged: its lines end in Windows' way (CR LF), and sops takes the carriage "
            "return for a part of each value",
            "Give the file line ends of Unix (`dos2unix FILE`), and keep them by `*.env text eol=lf` in "
            ".gitattributes.",
        )
    return JiemiError(
        "DecryptionFailed", "the file's sops block is damaged", "Restore the sops block from the last good commit."
    )
