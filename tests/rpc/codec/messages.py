"""Values of the contract to try messages with, and the way of a value through a message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, get_args

import attrs
from hypothesis import strategies as st

from jiemi.core.content.formats import Format
from jiemi.core.errors import Failure
from jiemi.core.reasons import REASONS
from jiemi.core.sensitive import SensitiveBytes, SensitiveText
from jiemi.rpc import bridge
from jiemi.rpc.contract import (
    Changes,
    Encryption,
    FileEntry,
    Files,
    FilesRequest,
    NestedPlaces,
    Rendered,
    RenderRequest,
)
from jiemi.rpc.keys import DecryptionKey, KeyOrigin
from jiemi.rpc.source import GitCredentials, Source

SCHEMA = bridge._load_schema()


T = TypeVar("T")


TEXT = st.text(st.characters(exclude_categories=["Cs"]))


MAYBE_TEXT = st.none() | TEXT


SECRETS = st.builds(SensitiveText, TEXT)


REVISIONS = st.from_regex(r"\A([0-9a-f]{40}|[0-9a-f]{64})\Z")


SOURCES = st.one_of(
    st.builds(Source, TEXT),
    st.builds(Source, TEXT, branch=TEXT),
    st.builds(Source, TEXT, tag=TEXT),
    st.builds(Source, TEXT, commit=TEXT),
)


CREDENTIALS = st.builds(GitCredentials, *[st.none() | SECRETS] * len(attrs.fields(GitCredentials)))


TEXTS = st.lists(TEXT, max_size=3).map(tuple)


def keys_of(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Keys of one kind, with every field that it has."""
    values: dict[str, st.SearchStrategy[Any]] = {}
    for attribute in attrs.fields(kind):
        if attribute.name == "origins":
            values[attribute.name] = st.lists(st.builds(KeyOrigin, TEXT, st.integers(0, 2**32 - 1)), max_size=3).map(
                tuple
            )
        elif attribute.default == ():
            values[attribute.name] = TEXTS
        elif attribute.default is attrs.NOTHING:
            values[attribute.name] = SECRETS
        else:
            values[attribute.name] = MAYBE_TEXT if attribute.name == "pinned_address" else st.none() | SECRETS
    return st.builds(kind, **values)


KEYS = st.lists(st.one_of(*map(keys_of, get_args(DecryptionKey))), max_size=4).map(tuple)


ENCRYPTIONS = st.builds(Encryption, TEXTS, MAYBE_TEXT, MAYBE_TEXT, TEXTS, MAYBE_TEXT, st.none() | st.booleans())


PLACES = st.builds(
    NestedPlaces,
    st.lists(st.tuples(TEXT, TEXT), max_size=2).map(tuple),
    TEXTS,
    TEXTS,
    TEXTS,
    st.booleans(),
    TEXTS,
    TEXTS,
    st.booleans(),
)


FORMATS = st.none() | st.sampled_from(Format)


REQUESTS = st.builds(
    RenderRequest,
    TEXT,
    TEXT,
    MAYBE_TEXT,
    KEYS,
    st.booleans(),
    TEXTS,
    st.booleans(),
    st.lists(PLACES, max_size=2).map(tuple),
    st.booleans(),
    FORMATS,
)


FILES_REQUESTS = st.builds(FilesRequest, TEXT, TEXTS, TEXTS)


FILES = st.builds(
    Files,
    TEXT,
    st.lists(st.builds(FileEntry, TEXT, REVISIONS, st.none() | REVISIONS), max_size=4).map(tuple),
    st.booleans(),
)


CHANGES = st.builds(
    Changes, TEXTS, st.lists(st.one_of(st.just(""), TEXT.map(lambda text: text + "/")), max_size=3).map(tuple)
)


DATA = st.builds(SensitiveBytes, st.binary())


RENDERED = st.builds(
    Rendered,
    REVISIONS,
    st.lists(DATA, max_size=4).map(tuple),
    st.none() | DATA,
    ENCRYPTIONS,
    MAYBE_TEXT,
    st.booleans(),
    st.integers(0, 2**32 - 1),
    TEXTS,
    FORMATS,
).flatmap(
    lambda rendered: (
        st.lists(st.sampled_from(range(len(rendered.documents))), unique=True).map(
            lambda found: attrs.evolve(rendered, plain_documents=tuple(found))
        )
        if rendered.documents
        else st.just(rendered)
    )
)


FAILURES = st.builds(Failure, st.sampled_from(sorted(REASONS)), TEXT, TEXT, TEXT)


def through(struct: str, write: Callable[[Any], None], read: Callable[[Any], T]) -> T:
    """What is read of the bytes that are written."""
    message = getattr(SCHEMA, struct).new_message()
    write(message)
    with getattr(SCHEMA, struct).from_bytes(message.to_bytes()) as reader:
        return read(reader)
