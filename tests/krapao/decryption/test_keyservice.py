"""The key service's messages: every kind comes back as it went, the bytes are sops's own, and any other are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from support.krapao.age_files import AgePair, Encrypter

from jiemi.krapao.decryption.environments import EMPTY_ENVIRONMENT, NO_NETWORK_ENVIRONMENT
from jiemi.krapao.decryption.grpc import UNKNOWN, GrpcStatusError, serve_calls
from jiemi.krapao.decryption.keyservice import (
    DECRYPT,
    AgeMasterKey,
    AwsMasterKey,
    AzureMasterKey,
    DecryptRequest,
    GcpMasterKey,
    HuaweiMasterKey,
    MasterKey,
    PgpMasterKey,
    UnreadableError,
    VaultMasterKey,
    read_decrypt_request,
    read_decrypt_response,
    write_decrypt_request,
    write_decrypt_response,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
CONTEXT = st.dictionaries(TEXT, TEXT, max_size=5).map(lambda found: tuple(sorted(found.items())))
KEYS: st.SearchStrategy[MasterKey] = st.one_of(
    st.builds(AgeMasterKey, TEXT),
    st.builds(PgpMasterKey, TEXT),
    st.builds(AwsMasterKey, TEXT, TEXT, CONTEXT, TEXT),
    st.builds(GcpMasterKey, TEXT),
    st.builds(AzureMasterKey, TEXT, TEXT, TEXT),
    st.builds(VaultMasterKey, TEXT, TEXT, TEXT),
    st.builds(HuaweiMasterKey, TEXT),
)
DEADLINE_SECONDS = 60


@given(KEYS, st.binary())
def test_every_kind_of_request_comes_back_as_it_went(key: MasterKey, ciphertext: bytes) -> None:
    request = DecryptRequest(key, ciphertext)
    found = read_decrypt_request(write_decrypt_request(request))
    assert found == request
    assert type(found.key) is type(key)


@given(KEYS, st.binary())
def test_a_request_is_written_in_one_way_only(key: MasterKey, ciphertext: bytes) -> None:
    data = write_decrypt_request(DecryptRequest(key, ciphertext))
    assert write_decrypt_request(read_decrypt_request(data)) == data


@given(st.binary())
def test_a_data_key_comes_back_as_it_went(plaintext: bytes) -> None:
    assert read_decrypt_response(write_decrypt_response(plaintext)) == plaintext


# A field is its number shifted by three bits, with 2 for what has a length: 0a is field 1, 12 field 2, 1a field 3, and
# so on. https://protobuf.dev/programming-guides/encoding/
WIRE: list[tuple[MasterKey, str]] = [
    (AwsMasterKey("A"), "0a 05 | 0a 03 | 0a 01 41"),
    (AwsMasterKey("A", "R", (), "P"), "0a 0b | 0a 09 | 0a 01 41 | 12 01 52 | 22 01 50"),
    (AwsMasterKey("A", "", (("k", "v"),)), "0a 0d | 0a 0b | 0a 01 41 | 1a 06 0a 01 6b 12 01 76"),
    (PgpMasterKey("F"), "0a 05 | 12 03 | 0a 01 46"),
    (GcpMasterKey("G"), "0a 05 | 1a 03 | 0a 01 47"),
    (AzureMasterKey("U", "N", "V"), "0a 0b | 22 09 | 0a 01 55 | 12 01 4e | 1a 01 56"),
    (VaultMasterKey("A", "E", "K"), "0a 0b | 2a 09 | 0a 01 41 | 12 01 45 | 1a 01 4b"),
    (AgeMasterKey("a"), "0a 05 | 32 03 | 0a 01 61"),
    (HuaweiMasterKey("H"), "0a 05 | 3a 03 | 0a 01 48"),
    (AgeMasterKey(""), "0a 02 | 32 00"),
]


@pytest.mark.parametrize(("key", "wire"), WIRE)
def test_the_bytes_of_a_request_are_those_of_keyservice_proto(key: MasterKey, wire: str) -> None:
    data = bytes.fromhex(wire.replace("|", "")) + bytes.fromhex("12 02 c3 28")  # the ciphertext, which is no UTF-8
    assert write_decrypt_request(DecryptRequest(key, b"\xc3\x28")) == data
    assert read_decrypt_request(data) == DecryptRequest(key, b"\xc3\x28")


def test_the_bytes_of_an_answer_are_those_of_keyservice_proto() -> None:
    assert write_decrypt_response(b"\x00\xff") == bytes.fromhex("0a 02 00 ff")
    assert write_decrypt_response(b"") == b""
    assert read_decrypt_response(bytes.fromhex("0a 01 61 0a 01 62")) == b"b"  # the last of several holds


@pytest.mark.parametrize(
    "wire",
    [
        "",  # nothing at all
        "12 01 78",  # no key
        "0a 00",  # a key of no kind
        "0a 05 7a 03 0a 01 78",  # field 15, which nobody has yet
        "0a 03 c8 3e 05",  # field 1001, a number
    ],
)
def test_a_kind_that_is_not_known_is_none(wire: str) -> None:
    assert read_decrypt_request(bytes.fromhex(wire)).key is None


def test_of_several_kinds_in_one_request_the_last_holds_as_it_does_to_sops() -> None:
    data = bytes.fromhex("0a 0a | 32 03 0a 01 61 | 12 03 0a 01 46".replace("|", ""))
    assert read_decrypt_request(data).key == PgpMasterKey("F")
    twice = write_decrypt_request(DecryptRequest(AgeMasterKey("a"), b"1")) + write_decrypt_request(
        DecryptRequest(GcpMasterKey("G"), b"2")
    )
    assert read_decrypt_request(twice) == DecryptRequest(GcpMasterKey("G"), b"2")


def test_what_is_written_again_holds_nothing_that_is_not_known() -> None:
    data = bytes.fromhex("0a 0a 32 08 0a 01 61 7a 03 78 79 7a | 12 01 63 | 7a 06 73 65 63 72 65 74".replace("|", ""))
    request = read_decrypt_request(data)
    assert request == DecryptRequest(AgeMasterKey("a"), b"c")
    assert write_decrypt_request(request) == bytes.fromhex("0a 05 32 03 0a 01 61 12 01 63")


@pytest.mark.parametrize(
    "wire",
    [
        "0a 05 32 03",  # shorter than it says
        "0a ff ff ff ff ff ff ff ff ff ff 01",  # a length of more than ten bytes
        "ff",
        "0a 05 32 03 0a 01 ff",  # a recipient that is no UTF-8
        "0b 0b 0b",  # groups that do not end
        "00 00",  # field 0
    ],
)
def test_bytes_that_are_no_request_are_reported_without_being_quoted(wire: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        read_decrypt_request(bytes.fromhex(wire))
    assert str(caught.value) == ""
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@given(
    st.binary() | st.builds(lambda key, cut: write_decrypt_request(DecryptRequest(key, b""))[cut:], KEYS, TEXT.map(len))
)
def test_any_bytes_are_a_request_or_unreadable(data: bytes) -> None:
    try:
        found = read_decrypt_request(data)
    except UnreadableError:
        return
    assert isinstance(found.ciphertext, bytes)
    if found.key is not None:
        assert read_decrypt_request(write_decrypt_request(found)) == found


@given(st.binary())
def test_any_bytes_are_an_answer_or_unreadable(data: bytes) -> None:
    try:
        found = read_decrypt_response(data)
    except UnreadableError:
        return
    assert read_decrypt_response(write_decrypt_response(found)) == found


@given(KEYS)
def test_a_request_prints_without_its_ciphertext(key: MasterKey) -> None:
    one, other = DecryptRequest(key, b"canary-5b1e"), DecryptRequest(key, b"")
    # Of a key, which may itself have such a text, all is shown.
    assert (repr(one), str(one), f"{one!r:>9}") == (repr(other), str(other), f"{other!r:>9}")


def test_a_request_without_a_key_is_not_written() -> None:
    with pytest.raises(TypeError):
        write_decrypt_request(DecryptRequest(None, b""))


ASKED: tuple[MasterKey, ...] = (
    PgpMasterKey("23306C6391D0E22B5F4B45FFFB9A04CF402264B8"),
    AwsMasterKey(
        "arn:aws:kms:eu-west-1:111122223333:key/a",
        "arn:aws:iam::111122223333:role/r",
        (("a", "b"), ("c", "d")),
        "profile",
    ),
    GcpMasterKey("projects/p/locations/global/keyRings/r/cryptoKeys/k"),
    AzureMasterKey("https://v.vault.azure.net", "name", "0123456789abcdef"),
    VaultMasterKey("https://vault.example:8200", "engine/path", "key"),
    HuaweiMasterKey("tr-west-1:00000000-0000-0000-0000-000000000000"),
)
"""What the file below asks for; each value is another, so that none can be taken for one beside it."""


def _file_for_all(encrypted: bytes) -> bytes:
    """A file of sops's (JSON) with an entry for each kind of key more."""
    file: dict[str, Any] = json.loads(encrypted)
    when = {"created_at": "2026-11-25T01:02:03Z", "enc": "d3JhcHBlZA=="}
    pgp, aws, gcp, azure, vault, huawei = (attrs.asdict(each) for each in ASKED)
    file["sops"] |= {
        "pgp": [{"fp": pgp["fingerprint"], **when}],
        "kms": [
            {
                "arn": aws["arn"],
                "role": aws["role"],
                "context": dict(aws["context"]),
                "aws_profile": aws["profile"],
                **when,
            }
        ],
        "gcp_kms": [{**gcp, **when}],
        "azure_kv": [{"vault_url": azure["vault_url"], "name": azure["name"], "version": azure["version"], **when}],
        "hc_vault": [{"vault_address": vault["address"], **{k: vault[k] for k in ("engine_path", "key_name")}, **when}],
        "hckms": [{**huawei, **when}],
    }
    return json.dumps(file).encode()


async def test_the_real_sops_asks_for_every_kind_of_key_in_the_form_that_is_read(
    tools: dict[str, Path], fast_directory: Path, encrypt: Encrypter, age_pair: AgePair
) -> None:
    file = _file_for_all(encrypt('{"a": "b"}', "--age", age_pair.public, kind="json"))
    requests: list[DecryptRequest] = []

    async def note(path: str, message: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        assert path == DECRYPT
        requests.append(read_decrypt_request(message))
        assert write_decrypt_request(requests[-1]) == message or isinstance(requests[-1].key, AwsMasterKey)
        raise GrpcStatusError(UNKNOWN)

    socket = fast_directory / "g"
    listener = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    run = [str(tools["sops"]), "decrypt", "--enable-local-keyservice=false", "--keyservice", f"unix://{socket}"]
    environment = {**EMPTY_ENVIRONMENT, **NO_NETWORK_ENVIRONMENT, "HOME": str(fast_directory)}
    with trio.fail_after(DEADLINE_SECONDS), listener:
        await listener.bind(str(socket))
        listener.listen()

        async def serve() -> None:
            accepted, _ = await listener.accept()
            await serve_calls(trio.SocketStream(accepted), note)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            done = await trio.run_process(
                [*run, "--input-type", "json", "--output-type", "json"],
                stdin=file,
                env=environment,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
            )
            nursery.cancel_scope.cancel()
    assert done.returncode == 128
    found = {request.key for request in requests}
    assert found == {AgeMasterKey(age_pair.public), *ASKED}, done.stderr.decode()
    wrapped = {request.ciphertext for request in requests if not isinstance(request.key, AgeMasterKey)}
    assert wrapped == {b"d3JhcHBlZA=="}
