"""Values that are SOPS files themselves -> the same documents with what those decrypt to.

    documents -> places (`NestedPlaces`) -> a value that is a SOPS file, by its content -> decrypted -> put in its place

A Secret that kustomize or a person made of an encrypted file holds such values, and fluxcd/kustomize-controller
decrypts them (internal/decryptor). Which fields of which objects are looked at is the caller's to say: nothing here
knows what a Secret is. What a value decrypts to may be such a file once more, up to `MAX_LAYERS` times.

All of it shares the bounds of the outer file: its time, its requests for data keys and its size (`Budget`). Each
value goes through an opener, a guard and the same keys, one after the other, and a Vault server that the outer file
was opened with is the only one for those in it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from jiemi.core.content.ciphertext import decoded, format_of_content, format_under, leads_to, shown
from jiemi.core.content.formats import Format
from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveBytes
from jiemi.krapao.decryption.port import Decrypted
from jiemi.krapao.fair_threads import FairThreads
from jiemi.krapao.rendering.line_ends import with_carriage_returns
from jiemi.rpc.contract import NestedPlaces

MAX_VALUES = 100
"""The most values of one file that are decrypted. Each takes an opener about 40 ms, and its metadata about 1 KiB."""

MAX_LAYERS = 3
"""How often a value may be decrypted, where what it decrypts to is a SOPS file again."""

_MAX_LISTS = 10
"""The deepest nesting of lists of objects."""

_NO_FILE_OF_SOPS = frozenset({"UnknownFormat", "NotEncrypted", "DecryptionFailed"})
"""What sops says of a text that has a file in it, but is none: documentation, say."""

Open = Callable[[bytes, Format, Format], Awaitable[Decrypted]]
"""Decrypts a file of a format to another format."""


@attrs.frozen
class Value:
    """A value that is a SOPS file.

    Attributes:
        document: index of its document.
        path: names and indexes that lead to it.
        encoded: whether it is base64.
        data: the file.
        format: of the file.
        unless: as `NestedPlaces.unless`.
    """

    document: int
    path: tuple[str | int, ...]
    encoded: bool
    data: bytes = attrs.field(repr=False)
    format: Format
    unless: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return str(self.path[-1])

    @property
    def place(self) -> str:
        """For messages: "document 2, data.app.yaml"."""
        names = tuple(f"[{name}]" if isinstance(name, int) else name for name in self.path)
        return f"document {self.document + 1}, {shown(names)}"

    @property
    def way_out(self) -> str:
        """What to do where the value is no such file; "" where nothing else can be done than with any file."""
        if not self.unless:
            return ""
        keep = f"{shown(self.unless[:-1])}: {self.unless[-1]}"
        return f"Put the whole SOPS file there again; if the text only describes such a file, set {keep}."


@attrs.frozen
class Opened:
    """What became of documents.

    Attributes:
        documents: with what was decrypted in its place.
        count: how many values were decrypted.
        files: the encrypted files, as they were in the values.
        carriage_returns: names as `Rendered.carriage_returns`.
        key_expires_at: as `Decrypted.key_expires_at`, of them all.
    """

    documents: tuple[SensitiveBytes, ...]
    count: int = 0
    files: tuple[tuple[bytes, Format], ...] = attrs.field(default=(), repr=False)
    carriage_returns: tuple[str, ...] = ()
    key_expires_at: int | None = None


async def open_values(
    documents: tuple[SensitiveBytes, ...], places: Sequence[NestedPlaces], open: Open, threads: FairThreads
) -> Opened:
    """Decrypt the values in documents that are SOPS files.

    Args:
        threads: for work that takes a while.

    Raises:
        JiemiError: as `Decrypter.decrypt`, naming the place; LimitExceeded; UnknownFormat.
    """
    if not any(_concern(places, document) for document in documents):
        return Opened(documents)
    values = await threads.run(_find, documents, tuple(places))
    if not values:
        return Opened(documents)
    files: list[tuple[bytes, Format]] = []
    returns: list[str] = []
    expire: list[int] = []
    replaced: list[tuple[Value, bytes]] = []
    for value in values:
        data, found = value.data, value.format
        for _ in range(MAX_LAYERS):
            if len(files) == MAX_VALUES:
                raise JiemiError(
                    "LimitExceeded", f"more than {MAX_VALUES} values of the file are SOPS files themselves"
                )
            files.append((data, found))
            wanted = format_under(value.key, found)
            decrypted = await _named(value.place, open(data, found, wanted), value.way_out)
            if decrypted.key_expires_at is not None:
                expire.append(decrypted.key_expires_at)
            data = decrypted.plain.reveal()
            again = await threads.run(format_of_content, data)
            if again is None:
                break
            found = again
        else:
            raise JiemiError("LimitExceeded", f"{value.place}: encrypted more than {MAX_LAYERS} times over")
        held = await threads.run(with_carriage_returns, (), data, wanted)
        returns += [f"{shown(tuple(map(str, value.path)))} {each}" for each in held]
        replaced.append((value, data))
    put = await threads.run(_replace, documents, replaced)
    return Opened(put, len(files), tuple(files), tuple(returns), min(expire, default=None))


async def open_content(
    content: SensitiveBytes, path: str, stated: Format | None, open: Open, threads: FairThreads
) -> Opened | None:
    """Decrypt a file's content that is a SOPS file once more; `Opened.documents` is the content. None where it is none.

    Args:
        path, stated: of the file, and its format where the spec states it.

    Raises:
        JiemiError: as `open_values`.
    """
    files: list[tuple[bytes, Format]] = []
    expire: list[int] = []
    data = content.reveal()
    while (found := await threads.run(format_of_content, data)) is not None:
        if len(files) == MAX_LAYERS:
            raise JiemiError("LimitExceeded", f"encrypted more than {MAX_LAYERS} times over")
        files.append((data, found))
        decrypted = await _named("the decrypted file", open(data, found, format_under(path, found, stated)))
        if decrypted.key_expires_at is not None:
            expire.append(decrypted.key_expires_at)
        data = decrypted.plain.reveal()
    if not files:
        return None
    return Opened((SensitiveBytes(data),), len(files), tuple(files), (), min(expire, default=None))


async def _named(place: str, opened: Awaitable[Decrypted], way_out: str = "") -> Decrypted:
    try:
        return await opened
    except JiemiError as error:
        failure = error.failure.at(place)
        if error.failure.reason in _NO_FILE_OF_SOPS and way_out:
            failure = attrs.evolve(failure, own_remedy=way_out)
        raise JiemiError.of(failure) from error


def _concern(places: Sequence[NestedPlaces], document: SensitiveBytes) -> bool:
    """Whether a document can hold an object that is meant; it is canonical JSON."""
    data = document.reveal()
    return any(
        all(f"{_json(name)}:{_json(text)}".encode() in data for name, text in each.having)
        for each in places
        if each.texts or each.encoded or each.own
    )


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _find(documents: Sequence[SensitiveBytes], places: Sequence[NestedPlaces]) -> list[Value]:
    return [
        value
        for number, document in enumerate(documents)
        for value in _values(json.loads(document.reveal()), places, number, (), _MAX_LISTS)
    ]


def _values(
    found: Any, places: Sequence[NestedPlaces], document: int, path: tuple[str | int, ...], lists: int
) -> Iterator[Value]:
    if not isinstance(found, dict):
        return
    taken: set[tuple[str | int, ...]] = set()
    for each in places:
        if _is_meant(found, each):
            for value in _values_of(found, each, document, path):
                if value.path not in taken:
                    taken.add(value.path)
                    yield value
    for name in dict.fromkeys(name for each in places for name in each.lists) if lists else ():
        items = found.get(name)
        for index, item in enumerate(items if isinstance(items, list) else ()):
            yield from _values(item, places, document, (*path, name, index), lists - 1)


def _is_meant(found: Mapping[str, Any], places: NestedPlaces) -> bool:
    if any(found.get(name) != text for name, text in places.having) or any(name in found for name in places.lacking):
        return False
    return not leads_to(found, places.unless)


def _values_of(
    found: Mapping[str, Any], places: NestedPlaces, document: int, path: tuple[str | int, ...]
) -> Iterator[Value]:
    if places.own:
        yield from _of_mapping(found, document, path, places.unless, encoded=False)
    for names, encoded in ((places.texts, False), (places.encoded, True)):
        for name in names:
            yield from _of_mapping(found.get(name), document, (*path, name), places.unless, encoded=encoded)


def _of_mapping(
    found: Any, document: int, path: tuple[str | int, ...], unless: tuple[str, ...], *, encoded: bool
) -> Iterator[Value]:
    for key, text in found.items() if isinstance(found, dict) else ():
        data = _data(text, encoded=encoded)
        format = format_of_content(data) if data is not None else None
        if data is not None and format is not None:
            yield Value(document, (*path, key), encoded, data, format, unless)


def _data(text: Any, *, encoded: bool) -> bytes | None:
    if not isinstance(text, str):
        return None
    return decoded(text) if encoded else text.encode()


def _replace(
    documents: Sequence[SensitiveBytes], replaced: Sequence[tuple[Value, bytes]]
) -> tuple[SensitiveBytes, ...]:
    trees = {value.document: json.loads(documents[value.document].reveal()) for value, _ in replaced}
    for value, data in replaced:
        at = trees[value.document]
        for name in value.path[:-1]:
            at = at[name]
        at[value.path[-1]] = base64.b64encode(data).decode() if value.encoded else _as_text(data, value)
    made = {number: SensitiveBytes(_canonical(tree)) for number, tree in trees.items()}
    return tuple(made.get(number, document) for number, document in enumerate(documents))


def _canonical(tree: Any) -> bytes:
    """As `parse_documents` has it."""
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _as_text(data: bytes, value: Value) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        pass  # its error would carry the data along
    raise JiemiError(
        "UnknownFormat",
        f"{value.place}: it decrypts to what is no UTF-8 text",
        "Put the SOPS file as base64 under `data`, not under `stringData`.",
    )
