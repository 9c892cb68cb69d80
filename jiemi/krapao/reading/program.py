"""The program that `jiemi.krapao.reading.reader` starts for one file: standard input in, the answer on standard output.

    python -c BOOT ROOTS plain|decrypted FORMAT WHOLE MAX_DOCUMENTS MAX_BYTES KEPT
    python -c BOOT ROOTS lost LENGTH        # of the encrypted file; the decrypted one is behind it

The answer is one line of JSON, and then the documents one behind the other.
"""

from __future__ import annotations

import gc
import json
import sys

from jiemi.core.content.documents import parse_documents
from jiemi.core.content.formats import Format
from jiemi.core.errors import JiemiError
from jiemi.krapao.reading.lost_values import lost_values
from jiemi.krapao.reading.mac import is_mac_only_encrypted
from jiemi.krapao.reading.plain import PlainLimits, read_plain
from jiemi.krapao.reading.words import ASK_SOPS, DOCUMENTS, FAILED, LOST, MAC_ONLY, OUT_OF_MEMORY


def main() -> None:
    """Answer, and end."""
    gc.disable()  # it makes no cycles, and looking for them takes a third of its time
    found: tuple[bytes, ...] | None = ()
    answer: list[object]
    try:
        if sys.argv[1] == "lost":
            data, length = sys.stdin.buffer.read(), int(sys.argv[2])
            answer = [LOST, lost_values(data[:length], data[length:])]
        elif sys.argv[1] == "mac":
            answer = [MAC_ONLY, is_mac_only_encrypted(sys.stdin.buffer.read(), Format(sys.argv[2]))]
        else:
            found = _read(*sys.argv[1:])
            answer = [ASK_SOPS] if found is None else [DOCUMENTS, *map(len, found)]
    except JiemiError as error:
        answer = [FAILED, error.failure.reason, error.failure.message, error.failure.own_remedy]
    except MemoryError:
        sys.exit(OUT_OF_MEMORY)
    output = sys.stdout.buffer
    output.write(json.dumps(answer).encode() + b"\n")
    output.writelines(found or ())
    output.flush()


def _read(
    what: str, format_name: str, whole: str, max_documents: str, max_bytes: str, kept: str
) -> tuple[bytes, ...] | None:
    data, format = sys.stdin.buffer.read(), Format(format_name)
    documents, size = int(max_documents), int(max_bytes)
    if what == "plain":
        places = tuple(map(tuple, json.loads(kept)))
        limits = PlainLimits(documents=documents, bytes=size)
        return read_plain(data, format, whole=whole == "1", limits=limits, kept=places)
    return parse_documents(data, format, max_documents=documents, max_bytes=size)
