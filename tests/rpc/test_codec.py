"""Every value of the contract comes out of a message as it went in; what else a peer may send is a typed failure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, get_args

import attrs
import capnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.core.content.documents import Format
from jiemi.core.credential_limits import limit_bytes
from jiemi.core.errors import REASONS, Failure, JiemiError, Kind
from jiemi.core.sensitive import SensitiveBytes, SensitiveText
from jiemi.rpc import bridge, codec
from jiemi.rpc.contract import (
    Encryption,
    FileEntry,
    Files,
    FilesRequest,
    GitCredentials,
    Head,
    NestedPlaces,
    Rendered,
    RenderRequest,
    Source,
)
from jiemi.rpc.keys import AgeKey, DecryptionKey, GcpKey, KeyOrigin, PgpKey, VaultKey

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
CREDENTIALS = st.builds(GitCredentials, *[st.none() | SECRETS] * 4)
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
    Files, TEXT, st.lists(st.builds(FileEntry, TEXT, REVISIONS, st.none() | REVISIONS), max_size=4).map(tuple)
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
FAILURES = st.builds(Failure, st.sampled_from(sorted(REASONS)), TEXT, TEXT)


def through(struct: str, write: Callable[[Any], None], read: Callable[[Any], T]) -> T:
    """What is read of the bytes that are written."""
    message = getattr(SCHEMA, struct).new_message()
    write(message)
    with getattr(SCHEMA, struct).from_bytes(message.to_bytes()) as reader:
        return read(reader)


@given(SOURCES)
def test_a_source_comes_back(source: Source) -> None:
    assert through("Source", lambda b: codec.write_source(b, source), codec.read_source) == source


@given(CREDENTIALS)
def test_credentials_come_back_and_none_is_not_empty_text(credentials: GitCredentials) -> None:
    back = through("GitCredentials", lambda b: codec.write_credentials(b, credentials), codec.read_credentials)
    assert back == credentials


@given(REQUESTS)
def test_a_request_comes_back(request: RenderRequest) -> None:
    back = through("RenderRequest", lambda b: codec.write_render_request(b, request), codec.read_render_request)
    assert back == request


@pytest.mark.parametrize("indexes", [[1], [0, 0], [2**32 - 1]])
def test_documents_that_are_not_there_are_none_that_a_peer_may_tell_of(indexes: list[int]) -> None:
    message = SCHEMA.RenderResult.new_message()
    codec.write_render_result(message, Rendered("a" * 40, (SensitiveBytes(b"1"),)))
    message.rendered.plainDocuments = indexes
    with (
        SCHEMA.RenderResult.from_bytes(message.to_bytes()) as reader,
        pytest.raises(JiemiError, match="InternalError"),
    ):
        codec.read_render_result(reader)


def test_a_format_that_only_a_newer_peer_knows_is_told_as_such() -> None:
    message = SCHEMA.RenderRequest.new_message(format="toml")
    with (
        SCHEMA.RenderRequest.from_bytes(message.to_bytes()) as reader,
        pytest.raises(JiemiError, match="ProviderNotSupportedYet"),
    ):
        codec.read_render_request(reader)


@given(FILES_REQUESTS)
def test_a_request_for_files_comes_back(request: FilesRequest) -> None:
    back = through("FilesRequest", lambda b: codec.write_files_request(b, request), codec.read_files_request)
    assert back == request
    assert codec.files_request_bytes(request) >= sum(map(len, request.patterns + request.exclude))


@given(FILES)
def test_files_come_back_and_take_no_more_room_than_is_counted(files: Files) -> None:
    back = through("FilesResult", lambda b: codec.write_files_result(b, files), codec.read_files_result)
    assert back == files
    empty = SCHEMA.FilesResult.new_message()
    codec.write_files_result(empty, attrs.evolve(files, entries=()))
    full = SCHEMA.FilesResult.new_message()
    codec.write_files_result(full, files)
    assert (full.total_size.word_count - empty.total_size.word_count) * 8 <= codec.files_bytes(files) + 8


@given(RENDERED)
def test_rendered_documents_come_back(rendered: Rendered) -> None:
    back = through("RenderResult", lambda b: codec.write_render_result(b, rendered), codec.read_render_result)
    assert back == rendered
    assert codec.rendered_bytes(rendered) >= sum(len(document) for document in rendered.documents)


@given(REVISIONS)
def test_a_head_comes_back(revision: str) -> None:
    back = through("HeadResult", lambda b: codec.write_head_result(b, Head(revision)), codec.read_head_result)
    assert back == Head(revision)


@given(FAILURES)
def test_a_failure_comes_back_as_an_error(failure: Failure) -> None:
    with pytest.raises(JiemiError) as caught:
        through("HeadResult", lambda b: codec.write_head_result(b, failure), codec.read_head_result)
    assert caught.value.failure == failure
    with pytest.raises(JiemiError) as caught:
        through("RenderResult", lambda b: codec.write_render_result(b, failure), codec.read_render_result)
    assert caught.value.failure == failure
    with pytest.raises(JiemiError) as caught:
        through("FilesResult", lambda b: codec.write_files_result(b, failure), codec.read_files_result)
    assert caught.value.failure == failure


@given(st.floats(min_value=0, allow_nan=False))
def test_an_age_comes_back(seconds: float) -> None:
    params = SimpleNamespace()
    codec.write_max_age(params, seconds)
    assert codec.read_max_age(params) == seconds


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("-inf")])
def test_an_age_below_zero_is_refused(seconds: float) -> None:
    with pytest.raises(JiemiError, match="InvalidSpec: maxAgeSeconds"):
        codec.read_max_age(SimpleNamespace(maxAgeSeconds=seconds))


def test_text_that_is_not_unicode_is_refused_without_being_quoted() -> None:
    credentials = GitCredentials(token=SensitiveText("canary\ud800"))
    with pytest.raises(JiemiError, match="InvalidSpec: token holds") as caught:
        codec.write_credentials(SCHEMA.GitCredentials.new_message(), credentials)
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    assert "canary" not in repr(caught.value)


def test_a_failure_whose_message_is_not_unicode_is_told_all_the_same() -> None:
    failure = SimpleNamespace(
        reason="FileNotFound", message="no \udcff.yaml", own_remedy="mend \udcff", kind=Kind.STALLED
    )
    with pytest.raises(JiemiError, match=r"FileNotFound: no \?\.yaml"):
        through(
            "HeadResult",
            lambda b: codec.write_failure(b.init("failure"), failure),  # type: ignore[arg-type]
            codec.read_head_result,
        )


# A newer or a damaged peer


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The schema of a later release, with one more member in each union."""
    text = (Path(__file__).parents[2] / "schema" / "krapao.capnp").read_text()
    for old, new in (
        ("@0xc3f1a5d2b7e94608", "@0xc3f1a5d2b7e94609"),
        ("    pgp @1 :Text;", "    pgp @1 :Text;\n    later @9 :Text;"),
        ("    commit @4 :Text;", "    commit @4 :Text;\n    later @5 :Text;"),
        ("    files @0 :Files;\n", "    files @0 :Files;\n    later @2 :Text;\n"),
        ("    head @0 :Head;\n    failure @1", "    head @0 :Head;\n    later @2 :Text;\n    failure @1"),
        ("    rendered @0 :Rendered;\n", "    rendered @0 :Rendered;\n    later @2 :Text;\n"),
        ("  stalled @2;", "  stalled @2;\n  later @3;"),
    ):
        assert old in text
        text = text.replace(old, new)
    path = tmp_path_factory.mktemp("newer") / "newer.capnp"
    path.write_text(text)
    return capnp.load(str(path))


@pytest.mark.parametrize(
    ("struct", "fill", "read", "reason"),
    [
        ("HeadResult", lambda b: setattr(b, "later", "x"), codec.read_head_result, "InternalError"),
        ("RenderResult", lambda b: setattr(b, "later", "x"), codec.read_render_result, "InternalError"),
        ("FilesResult", lambda b: setattr(b, "later", "x"), codec.read_files_result, "InternalError"),
        ("Source", lambda b: setattr(b.ref, "later", "x"), codec.read_source, "InvalidSpec"),
        (
            "RenderRequest",
            lambda b: setattr(b.init("keys", 1)[0], "later", "x"),
            codec.read_render_request,
            "ProviderNotSupportedYet",
        ),
    ],
)
def test_a_member_that_only_a_newer_peer_knows_is_a_typed_failure(
    newer: Any, struct: str, fill: Callable[[Any], None], read: Callable[[Any], object], reason: str
) -> None:
    message = getattr(newer, struct).new_message()
    fill(message)
    with (
        getattr(SCHEMA, struct).from_bytes(message.to_bytes()) as reader,
        pytest.raises(JiemiError, match=f"^{reason}: .*upgrade"),
    ):
        read(reader)


@given(TEXT, TEXT)
def test_a_reason_that_only_a_newer_peer_knows_becomes_an_internal_error(newer: Any, reason: str, message: str) -> None:
    result = newer.HeadResult.new_message()
    failure = result.init("failure")
    failure.reason, failure.message, failure.retry = reason, message, "later"
    with SCHEMA.HeadResult.from_bytes(result.to_bytes()) as reader, pytest.raises(JiemiError) as caught:
        codec.read_head_result(reader)
    assert caught.value.failure.reason == (reason if reason in REASONS else "InternalError")


def test_a_list_of_more_keys_or_documents_than_anyone_has_is_refused() -> None:
    # A million empty documents are 8 MB of null pointers, and would be a million objects here.
    with pytest.raises(JiemiError, match="LimitExceeded: a request has 1001 keys"):
        through("RenderRequest", lambda b: b.init("keys", 1_001), codec.read_render_request)
    with pytest.raises(JiemiError, match="LimitExceeded: Krapao gave more than 1000 documents"):
        through("RenderResult", lambda b: b.init("rendered").init("documents", 1_001), codec.read_render_result)
    with pytest.raises(JiemiError, match="LimitExceeded: Krapao gave more than 1000 files"):
        through("FilesResult", lambda b: b.init("files").init("entries", 1_001), codec.read_files_result)


def test_a_list_of_more_patterns_than_anyone_has_is_refused() -> None:
    def fill(builder: Any) -> None:
        builder.init("keys", 1)[0].init("aws").init("allowedKeys", 1_001)

    with pytest.raises(JiemiError, match="LimitExceeded: allowedKeys has 1001 elements"):
        through("RenderRequest", fill, codec.read_render_request)
    for field in ("patterns", "exclude"):

        def fill_field(builder: Any, field: str = field) -> None:
            builder.init(field, 1_001)

        with pytest.raises(JiemiError, match=f"LimitExceeded: {field} has 1001 elements"):
            through("FilesRequest", fill_field, codec.read_files_request)


@pytest.mark.parametrize(("blob", "config"), [("", None), ("a" * 40, ""), ("A" * 40, None), ("a" * 41, None)])
def test_a_hash_of_a_file_that_is_none_is_refused(blob: str, config: str | None) -> None:
    files = Files("a" * 40, (FileEntry("x", blob, config),))
    with pytest.raises(JiemiError, match="InternalError: Krapao told a file's hash that is none"):
        through("FilesResult", lambda b: codec.write_files_result(b, files), codec.read_files_result)


def test_what_an_older_peer_leaves_out_means_what_it_means_there() -> None:
    # A default in the schema must be what a peer does that does not know the field.
    rendered = through("RenderResult", lambda b: b.init("rendered"), codec.read_render_result)
    assert rendered.encrypted
    request = through("RenderRequest", lambda _: None, codec.read_render_request)
    assert not request.allow_plain


def test_the_name_of_an_unknown_reason_is_kept() -> None:
    told = "Krapao told of DiskOnFire, which this Miwen does not know: hot"
    for remedy, shown in (("", "Bring Miwen to the release of Krapao."), ("Put it out.", "Put it out.")):
        failure = codec.read_failure(SimpleNamespace(reason="DiskOnFire", message="hot", remedy=remedy))
        assert failure == Failure("InternalError", told, shown)


@given(st.binary(max_size=400))
def test_any_bytes_read_as_a_result_are_a_value_or_a_typed_failure(garbage: bytes) -> None:
    # What pycapnp itself can't read ends the connection; here it is what lies behind that.
    try:
        with SCHEMA.RenderResult.from_bytes(garbage + bytes(-len(garbage) % 8)) as reader:
            codec.read_render_result(reader)
    except (JiemiError, capnp.KjException):
        pass
    try:
        with SCHEMA.FilesResult.from_bytes(garbage + bytes(-len(garbage) % 8)) as reader:
            codec.read_files_result(reader)
    except (JiemiError, capnp.KjException):
        pass


def test_an_empty_result_is_a_typed_failure() -> None:
    # An answer that was never filled: a null head.
    with pytest.raises(JiemiError, match="InternalError: Krapao told a revision that is no full commit hash"):
        through("HeadResult", lambda _: None, codec.read_head_result)


def test_the_protocol_version_and_the_retry_kinds_are_those_of_the_schema() -> None:
    assert SCHEMA.protocolVersion == codec.PROTOCOL_VERSION
    assert set(SCHEMA.RetryKind.schema.enumerants) == {kind.value for kind in Kind}


@pytest.mark.parametrize("field", ["username", "token", "ssh", "known_hosts"])
def test_a_credential_of_a_stranger_is_bound_as_one_of_a_decryptor_is(field: str) -> None:
    path = f"spec.source.repository.credentials.{'knownHosts' if field == 'known_hosts' else field}"
    for size, is_refused in ((limit_bytes(path), False), (limit_bytes(path) + 1, True)):
        credentials = GitCredentials(**{field: SensitiveText("x" * size)})
        try:
            back = through("GitCredentials", lambda b: codec.write_credentials(b, credentials), codec.read_credentials)  # noqa: B023
        except JiemiError as error:
            assert is_refused
            assert error.failure.reason == "CredentialTooLarge"
            assert path in error.failure.text
            assert "xxx" not in error.failure.text
        else:
            assert not is_refused
            assert back == credentials


@pytest.mark.parametrize(
    "key",
    [
        AgeKey(SensitiveText("x" * 200_000)),
        PgpKey(SensitiveText("x" * 600_000)),
        PgpKey(SensitiveText("x"), SensitiveText("y" * 70_000)),
        GcpKey(service_account=SensitiveText("x" * 70_000)),
        VaultKey(ca_bundle=SensitiveText("x" * 600_000)),
        VaultKey(token=SensitiveText("\U0001f511" * 20_000)),
    ],
    ids=lambda key: key.provider,
)
def test_so_is_a_key(key: DecryptionKey) -> None:
    request = RenderRequest(revision="a" * 40, path="f", sops_path=None, keys=(key,))
    with pytest.raises(JiemiError, match="CredentialTooLarge"):
        through("RenderRequest", lambda b: codec.write_render_request(b, request), codec.read_render_request)


def test_keys_that_are_too_large_together_are_refused() -> None:
    keys = tuple(AgeKey(SensitiveText("x" * 100_000)) for _ in range(11))
    request = RenderRequest(revision="a" * 40, path="f", sops_path=None, keys=keys)
    with pytest.raises(JiemiError, match="CredentialTooLarge"):
        through("RenderRequest", lambda b: codec.write_render_request(b, request), codec.read_render_request)


def test_equal_credentials_of_two_clients_are_held_once() -> None:
    def read() -> GitCredentials:
        credentials = GitCredentials(ssh=SensitiveText("key" * 10))
        return through("GitCredentials", lambda b: codec.write_credentials(b, credentials), codec.read_credentials)

    assert read().ssh is not None
    first, second = read(), read()
    assert first.ssh is second.ssh


def test_what_the_mac_covers_that_only_a_newer_peer_knows_is_not_taken_for_everything() -> None:
    """As an older Miwen reads it: the number is beyond the enum of this schema."""
    message = SCHEMA.RenderResult.new_message()
    codec.write_render_result(message, Rendered("a" * 40, ()))
    assert codec.read_render_result(message.as_reader()).encryption.mac_only_encrypted is None
    message.rendered.encryption.mac = 7
    assert codec.read_render_result(message.as_reader()).encryption.mac_only_encrypted is True


def test_more_places_for_values_than_there_can_be_are_refused() -> None:
    many = RenderRequest("a" * 40, "x", nested=(NestedPlaces(),) * (codec.MAX_NESTED_PLACES + 1))
    with pytest.raises(JiemiError, match="LimitExceeded"):
        through("RenderRequest", lambda builder: codec.write_render_request(builder, many), codec.read_render_request)
