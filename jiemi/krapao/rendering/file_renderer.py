"""What a file of a revision comes to: decrypted by sops, or plain, with the values in it that are SOPS files.

    file -> parts, where it is several (`streams`) -> each: plain (`reading`) or opened (`file_opener`) -> its values
         -> one answer

All of it shares the bounds of one rendering. A part that fails fails the file: what is deployed of it stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from jiemi.concurrency.fair_limiter import FairLimiter
from jiemi.core.content.ciphertext import format_of_content
from jiemi.core.content.formats import Format, format_of
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveBytes
from jiemi.krapao.decryption.metadata import joined
from jiemi.krapao.decryption.port import Decrypter
from jiemi.krapao.fair_threads import FairThreads
from jiemi.krapao.reading.reader import Reading
from jiemi.krapao.rendering.file_opener import FileOpener, with_warning
from jiemi.krapao.rendering.streams import Part, Stream, split_stream
from jiemi.krapao.settings import KrapaoSettings
from jiemi.rpc.contract import Rendered, RenderRequest

_NEITHER = "it is neither encrypted nor plain: it has no SOPS metadata that sops can find, or is no UTF-8 text"
_BETWEEN = b"---\n"
NOT_ABOUT_THE_FILE = frozenset(
    {"SopsMissing", "GpgMissing", "KeyInvalid", "StorageFailed", "AmbientIdentityNotAllowed", "KeyHolderFailed"}
)
"""Reasons of which no file, and no document of one, is to be named as what is wrong."""

_MAY_BE_ONE = frozenset({"MacMismatch", "NotEncrypted"})
"""Reasons for parts of a stream that sops opens as one: it covers documents without a block by the first one's."""


@attrs.frozen
class RenderingTools:
    """What files are rendered with. All repositories share them.

    Attributes:
        reading: for what may take long.
        parsers: for work that takes a while, on threads of this process.
    """

    decrypter: Decrypter
    reading: Reading
    parsers: FairLimiter


@attrs.frozen
class FileRenderer:
    """For one request.

    Attributes:
        request: what is asked for.
        opener: decrypts for it.
        reading: for what may take long.
        threads: for work that takes a while.
        settings: for the limits.
    """

    request: RenderRequest
    opener: FileOpener
    reading: Reading
    threads: FairThreads
    settings: KrapaoSettings

    async def render(self, data: bytes) -> Rendered:
        """What the request's file comes to.

        Raises:
            JiemiError: as `FileOpener.open` and `Reading.plain`, naming the document where there are several;
                LimitExceeded.
        """
        format = self.request.format or format_of(self.request.path)
        stream = await self.threads.run(split_stream, data) if format is Format.YAML else None
        if stream is None:
            rendered = await self._file(data, format)
        else:
            rendered = await self._stream(stream, data)
        self._require_within_limits(rendered)
        return attrs.evolve(rendered, format=self.request.format)

    async def _stream(self, stream: Stream, data: bytes) -> Rendered:
        try:
            return _joined([(part, await self._part(part)) for part in stream.parts])
        except JiemiError as error:
            if not stream.may_be_one or error.failure.reason not in _MAY_BE_ONE:
                raise
            of_a_part = error
        try:
            return await self._file(data, Format.YAML)
        except JiemiError:
            raise of_a_part from None

    async def _part(self, part: Part) -> Rendered:
        try:
            return await self._file(part.data, Format.YAML)
        except JiemiError as error:
            reason = error.failure.reason
            if reason in NOT_ABOUT_THE_FILE:
                raise
            if reason == "NotEncrypted" and not part.is_encrypted and not self.request.allow_plain:
                raise JiemiError(
                    reason,
                    f"{part.place}: it is not encrypted, though other documents of the file are, and the file of "
                    "spec.source.fileToDecrypt must be encrypted as a whole",
                    "Encrypt it, or name the file in spec.source.files, where plain documents are applied too.",
                ) from error
            raise JiemiError.of(error.failure.at(part.place)) from error

    async def _file(self, data: bytes, format: Format) -> Rendered:
        """What a file comes to, plain or decrypted, and what those come to that are values in it."""
        request = self.request
        whole = request.whole_file or format is Format.BINARY
        plain = await self._plain(data, format, whole) if request.allow_plain else None
        if plain is not None:
            return await self.opener.open_nested(plain)
        try:
            decrypted, encryption = await self.opener.open(data, format, whole=request.whole_file)
        except JiemiError as error:
            if error.failure.reason != "NotEncrypted":
                raise
            if request.allow_plain:
                raise JiemiError("NotEncrypted", _NEITHER) from error
            return await self._only_nested(data, format, error)
        documents: tuple[SensitiveBytes, ...] = ()
        if not whole:
            documents = await self.reading.decrypted(decrypted.plain, format, threads=self.threads)
        content = decrypted.plain if whole else None
        rendered = Rendered(request.revision, documents, content, encryption, decrypted.vault_address)
        return await self.opener.open_nested(await with_warning(rendered, format, self.threads))

    async def _plain(self, data: bytes, format: Format, whole: bool) -> Rendered | None:
        """A plain file; None where sops is to be asked. Raises JiemiError: as `read_plain`."""
        kept = tuple(dict.fromkeys(each.unless for each in self.request.nested if each.unless))
        documents = await self.reading.plain(data, format, whole=whole, threads=self.threads, kept=kept)
        if documents is None:
            return None
        content = SensitiveBytes(data) if whole else None
        rendered = Rendered(self.request.revision, documents, content, encrypted=False)
        return await with_warning(rendered, format, self.threads)

    async def _only_nested(self, data: bytes, format: Format, error: JiemiError) -> Rendered:
        """A file that must be encrypted, and of which only values are."""
        if not self.request.nested or await self.threads.run(format_of_content, data) is not None:
            raise error
        plain = await self._plain(data, format, self.request.whole_file or format is Format.BINARY)
        rendered = await self.opener.open_nested(plain) if plain is not None else None
        if rendered is None or rendered.opened == 0:
            raise error
        return rendered

    def _require_within_limits(self, rendered: Rendered) -> None:
        """What is left of the file's limits after each of its values and parts was within them.

        Raises:
            JiemiError: LimitExceeded.
        """
        limit = self.settings.max_rendered_bytes
        content = len(rendered.content) if rendered.content is not None else 0
        if sum(map(len, rendered.documents)) > limit or content > limit:
            raise JiemiError(
                "LimitExceeded",
                f"the documents are larger than Krapao's limit of {limit} bytes",
                "Split the file into several.",
            )
        if len(rendered.documents) > self.settings.max_documents:
            raise JiemiError("LimitExceeded", f"the file has more than {self.settings.max_documents} documents")


def _joined(parts: Sequence[tuple[Part, Rendered]]) -> Rendered:
    """The parts of a stream as one file."""
    found = [each for _, each in parts]
    documents = tuple(document for each in found for document in each.documents)
    plain: list[int] = []
    begin = 0
    for each in found:
        if not each.encrypted:
            plain += range(begin, begin + len(each.documents))
        begin += len(each.documents)
    contents = [each.content for each in found if each.content is not None]
    encrypted = any(each.encrypted for each in found)
    encryptions = [each.encryption for each in found if each.encrypted or each.opened]
    return Rendered(
        found[0].revision,
        documents,
        SensitiveBytes(_BETWEEN.join(_ended(each.reveal()) for each in contents)) if contents else None,
        joined(*encryptions) if encryptions else found[0].encryption,
        next((each.vault_address for each in found if each.vault_address is not None), None),
        encrypted,
        sum(each.opened for each in found),
        tuple(name for each in found for name in each.carriage_returns),
        plain_documents=tuple(plain) if encrypted else (),
    )


def _ended(text: bytes) -> bytes:
    return text if text.endswith(b"\n") or not text else text + b"\n"
