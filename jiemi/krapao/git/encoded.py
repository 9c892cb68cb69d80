"""Bodies of HTTP answers that come compressed, though they were asked for as they are.

Some proxies compress whatever passes by (RFC 9110, 8.4: a server may ignore Accept-Encoding). What comes out counts
against the same limit as what came in: a few bytes of gzip can be a gigabyte of zeros.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

from jiemi.core.errors import JiemiError

_PIECE_BYTES = 64 * 1024
_EITHER_FORM = 32 + zlib.MAX_WBITS
"""gzip (RFC 1952) or zlib (RFC 1950), whichever it is."""

_READ = frozenset({"gzip", "x-gzip", "deflate"})
_NAMES = frozenset({"br", "zstd", "compress", "x-compress"})
"""Other encodings that have a name: https://www.iana.org/assignments/http-parameters."""


def decoded(
    encoding: str | None, read: Callable[[int], bytes], host: str, came_out: Callable[[int], None]
) -> Callable[[int], bytes]:
    """A way to read a body: as many bytes as are asked for, or all with -1; fewer only at its end.

    Args:
        encoding: the answer's Content-Encoding.
        read: reads the body as it came, in the same way.
        host: who answers, for messages.
        came_out: called with how many bytes came out of it; raises where they are too many.

    Raises:
        JiemiError: GitProtocolError, it is encoded in a way that is not read. From the reads: it is damaged.
    """
    name = (encoding or "identity").strip().lower()
    if name == "identity":
        return read
    if name not in _READ:
        shown = name if name in _NAMES else "that Krapao does not know"
        raise JiemiError("GitProtocolError", f"{host} answers in a content encoding {shown}, though none was asked for")
    return _Inflating(read, host, came_out).read


class _Inflating:
    def __init__(self, read: Callable[[int], bytes], host: str, came_out: Callable[[int], None]) -> None:
        self._read = read
        self._host = host
        self._came_out = came_out
        self._decompress = zlib.decompressobj(_EITHER_FORM)
        self._input = b""
        self._output = bytearray()
        self._began = False

    def read(self, size: int) -> bytes:
        while size < 0 or len(self._output) < size:
            if not self._more():
                break
        end = len(self._output) if size < 0 else size
        data = bytes(self._output[:end])
        del self._output[:end]
        return data

    def _more(self) -> bool:
        """Decompress a piece. Returns whether there may be another."""
        data = self._input or self._read(_PIECE_BYTES)
        if not data:
            if self._began:
                raise JiemiError("GitProtocolError", f"{self._host} ended its answer in the middle (gzip)")
            return False
        self._began = True
        try:
            piece = self._decompress.decompress(data, _PIECE_BYTES)
        except zlib.error as error:
            raise JiemiError("GitProtocolError", f"{self._host} sent a damaged answer (gzip)") from error
        self._input = self._decompress.unconsumed_tail
        if self._decompress.eof:
            # What follows is another member (RFC 1952, 2.2).
            self._input = self._decompress.unused_data
            self._decompress = zlib.decompressobj(_EITHER_FORM)
            self._began = False
        self._came_out(len(piece))
        self._output += piece
        return True
