"""Inputs and moments that once made a part of the decryption hang, crash, leak a word or say the wrong thing."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import h2.events
import pytest
import trio
import trio.testing
from hypothesis import example, given, settings
from hypothesis import strategies as st
from krapao.decryption.test_grpc import Peer, against_client, against_server, echo, framed, linked
from support.krapao.age_files import AgePair
from support.krapao.key_services import lent

from jiemi.core.content.documents import parse_documents
from jiemi.core.content.formats import Format
from jiemi.core.errors import JiemiError
from jiemi.core.patterns import matches
from jiemi.core.sensitive import SensitiveText as Text
from jiemi.krapao.decryption import grpc
from jiemi.krapao.decryption.destinations import Refusal, VaultTrust, judge, name_of
from jiemi.krapao.decryption.environments import plan
from jiemi.krapao.decryption.grpc import GrpcClient, GrpcConnectionError, GrpcStatusError
from jiemi.krapao.decryption.keyservice import (
    DECRYPT,
    AgeMasterKey,
    AwsMasterKey,
    AzureMasterKey,
    DecryptRequest,
    VaultMasterKey,
    write_decrypt_request,
)
from jiemi.krapao.decryption.metadata import read_encryption
from jiemi.krapao.decryption.verdicts import Verdict, of_status
from jiemi.krapao.operator_environment import OperatorEnvironment
from jiemi.rpc.keys import AwsKey, AzureKey, GcpKey, VaultKey

Clock = trio.testing.MockClock


async def refuse(path: str, message: bytes) -> bytes:
    raise GrpcStatusError(7)


# grpc.py, the server: h2's errors leave _answer, and so serve_calls, when the stream or the connection is gone


@pytest.mark.parametrize("how", ["reset", "goaway"])
async def test_a_request_whose_end_follows_it_at_once_ends_the_server_quietly(how: str, autojump_clock: Clock) -> None:
    async with against_server(refuse) as peer:
        peer.request(1, framed(b"x"))
        if how == "reset":
            peer.state.reset_stream(1)
        if how == "goaway":
            peer.state.close_connection()
        await peer.send()
        await trio.testing.wait_all_tasks_blocked()


async def test_a_handler_that_finishes_after_its_call_was_cancelled_is_no_error(autojump_clock: Clock) -> None:
    async def handle(path: str, message: bytes) -> bytes:
        with trio.CancelScope(shield=True):  # as a cleanup does, or a task that was woken just then
            await trio.sleep(2)
        return message

    async with linked(handle) as client:
        with trio.move_on_after(1):
            await client.call("/a", b"x")
        await trio.sleep(3)
        assert await client.call("/a", b"y") == b"y"


@given(st.integers(0, 400), st.integers(0, 255))
@settings(max_examples=200, deadline=None)
@example(79, 5)
def test_a_request_with_one_byte_changed_is_handled_refused_or_the_end(place: int, value: int) -> None:
    async def ask() -> None:
        async with against_server(echo) as peer:
            peer.request(1, framed(b"message"))
            data = bytearray(peer.state.data_to_send())
            data[place % len(data)] = value
            await peer.stream.send_all(data)
            await trio.testing.wait_all_tasks_blocked()

    trio.run(ask, clock=Clock(autojump_threshold=0))


async def test_a_connection_is_usable_after_many_cancelled_calls(autojump_clock: Clock) -> None:
    async def handle(path: str, message: bytes) -> bytes:
        if message == b"wait":
            await trio.sleep_forever()
        return message

    async with linked(handle) as client:
        for _ in range(grpc.MAX_STREAMS + 1):
            with trio.move_on_after(1):
                await client.call("/a", b"wait")
        assert await client.call("/a", b"x") == b"x"


async def test_the_peer_learns_how_many_streams_it_may_open(autojump_clock: Clock) -> None:
    async with linked(echo) as client:
        await client.call("/a", b"")
        assert client._connection.state.remote_settings.max_concurrent_streams == grpc.MAX_STREAMS


async def test_twenty_calls_at_once_on_a_connection_that_was_used_are_answered_but_for_those_too_many(
    autojump_clock: Clock,
) -> None:
    async def handle(path: str, message: bytes) -> bytes:
        await trio.sleep(1)
        return message

    answered = []
    async with linked(handle) as client:
        await client.call("/a", b"first")

        async def one(number: int) -> None:
            with contextlib.suppress(GrpcConnectionError):
                answered.append(await client.call("/a", b"%d" % number))

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(one, number)
    assert len(answered) >= grpc.MAX_STREAMS


# grpc.py, the window


async def test_several_large_messages_at_once_all_arrive(autojump_clock: Clock) -> None:
    done = []
    async with linked(echo) as client:

        async def one(number: int) -> None:
            await client.call("/a", bytes(200 * 1024))
            done.append(number)

        with trio.move_on_after(60):
            async with trio.open_nursery() as nursery:
                for number in range(4):
                    nursery.start_soon(one, number)
    assert len(done) == 4


@pytest.mark.parametrize("how", ["close", "reset", "status"])
async def test_a_call_that_waits_for_the_window_learns_that_its_peer_is_gone_or_has_answered(
    how: str, autojump_clock: Clock
) -> None:
    async with against_client() as (client, peer):

        async def serve() -> None:
            await peer.send()
            await peer.wait(h2.events.RequestReceived)
            await trio.sleep(1)
            if how == "reset":
                peer.state.reset_stream(1)
            elif how == "status":
                peer.state.send_headers(1, [(":status", "200"), ("grpc-status", "12")], end_stream=True)
            else:
                await peer.stream.aclose()
                return
            await peer.send()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            with trio.move_on_after(60) as scope, pytest.raises((GrpcConnectionError, GrpcStatusError)):
                await client.call("/a", bytes(100_000))
            assert not scope.cancelled_caught, "it waited for ever"


async def test_when_a_write_was_given_up_every_call_that_waits_fails(autojump_clock: Clock) -> None:
    near, far = trio.testing.lockstep_stream_pair()
    client, peer = GrpcClient(near), Peer(far, client_side=False)

    async def serve() -> None:
        await peer.wait(h2.events.RemoteSettingsChanged, 0)
        await peer.wait(h2.events.StreamEnded)  # the first call is read, no other

    waited = []
    with trio.fail_after(600):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            await nursery.start(client.run)

            async def one(wait: float) -> None:
                await trio.sleep(wait)
                with trio.move_on_after(100) as scope, contextlib.suppress(GrpcConnectionError):
                    await client.call("/a", b"x")
                waited.append(scope.cancelled_caught)

            async with trio.open_nursery() as calls:
                for wait in (1, 2, 5):
                    calls.start_soon(one, wait)
            nursery.cancel_scope.cancel()
    assert waited == [False] * 3


async def test_a_peer_that_was_closed_before_is_a_typed_end_for_nursery_start(autojump_clock: Clock) -> None:
    near, far = trio.testing.memory_stream_pair()
    await far.aclose()
    async with trio.open_nursery() as nursery:
        with contextlib.suppress(GrpcConnectionError):
            await nursery.start(GrpcClient(near).run)


# destinations.py, core/patterns.py


def test_no_name_makes_matching_slow() -> None:
    began = time.process_time()
    matches("a" * 120, "*a*a*a*a*b")
    assert time.process_time() - began < 0.1


@pytest.mark.parametrize(
    "address",
    [
        "https://user:canary-1@canary-2@host.example",  # what stands before the last @ is the user's
        "https://user:" + "canary-" * 40 + "@host.example",  # the text is cut before the @ is reached
        "user:canary-1@host.example",
    ],
)
def test_a_name_holds_no_userinfo(address: str) -> None:
    assert "canary" not in name_of(VaultMasterKey(address, "transit", "k"))
    found = judge(AzureMasterKey(address, "k", ""), AzureKey(client_secret=Text("s")), VaultTrust())
    assert isinstance(found, Refusal)
    assert "canary" not in found.message


def test_what_passes_a_list_of_vaults_is_one_of_them() -> None:
    key = AzureKey(client_secret=Text("s"), allowed_vaults=("https://kv.vault.azure.net",))
    for url in ("https://\u212av.vault.azure.net", "HTTPS://KV.vault.azure.net"):  # U+212A, lower() of which is k
        found = judge(AzureMasterKey(url, "k", ""), key, VaultTrust())
        assert not isinstance(found, AzureMasterKey) or found.vault_url == "https://kv.vault.azure.net"


def test_a_role_from_a_file_with_a_newline_at_its_end_is_the_role() -> None:
    role = "arn:aws:iam::111122223333:role/r"
    key = AwsKey(key_id=Text("i"), access_key=Text("k"), role_arn=Text(role + "\n"))
    arn = "arn:aws:kms:eu-west-1:111122223333:key/a"
    assert judge(AwsMasterKey(arn, role), key, VaultTrust()) == AwsMasterKey(arn, role)


# environments.py


def test_gcps_identity_of_a_pod_without_a_file_is_asked_of_the_metadata_server() -> None:
    made = plan(GcpKey(), OperatorEnvironment(ambient={"gcp": {}}), vault_address="", vault_token="")
    assert made.environment.get("GOOGLE_APPLICATION_CREDENTIALS", "") == ""
    assert made.environment.get("GCE_METADATA_HOST", "") == ""


def test_a_vault_token_with_a_newline_at_its_end_is_taken_without_it() -> None:
    made = plan(
        VaultKey(), OperatorEnvironment(ambient={"vault": {}}), vault_address="https://v", vault_token="hvs.a\n"
    )
    assert made.environment["VAULT_TOKEN"] == "hvs.a"


@pytest.mark.parametrize("token", ["a\0b", "a\nb", "a" * 200_000, "\ud800"])
def test_a_vault_token_that_no_environment_can_hold_is_an_invalid_key(token: str) -> None:
    key = VaultKey(token=Text(token))
    with pytest.raises(JiemiError, match="KeyInvalid"):
        plan(key, OperatorEnvironment(), vault_address="https://v", vault_token=token)


def test_a_service_account_that_no_environment_can_hold_is_an_invalid_key() -> None:
    text = '{"type": "service_account", "client_email": "a", "private_key": "' + "x" * 200_000 + '"}'
    with pytest.raises(JiemiError, match=r"^KeyInvalid"):
        plan(GcpKey(service_account=Text(text)), OperatorEnvironment(), vault_address="", vault_token="")


def test_a_proxys_password_is_not_printed() -> None:
    operator = OperatorEnvironment.of({"HTTPS_PROXY": "http://user:canary@proxy:3128"}, lent())
    assert "canary" not in repr(operator)


# verdicts.py: the rules match names, which the texts quote


@pytest.mark.parametrize(
    ("provider", "text", "verdict"),
    [
        (
            "azure",  # a key or vault whose name has "credential", seen with the double
            "failed to decrypt sops data key with Azure Key Vault key "
            "'https://v.vault.azure.net/keys/credential-key/1': "
            "POST https://v.vault.azure.net/keys/credential-key/1/decrypt\nRESPONSE 404: 404 Not Found\nERROR CODE: "
            'KeyNotFound\n{ "error": { "code": "KeyNotFound" } }',
            Verdict.NOT_OPENED,
        ),
        (
            "azure",  # Entra can't be reached, as the double showed it
            "failed to decrypt sops data key with Azure Key Vault key 'https://v.vault.azure.net/keys/k/1': "
            "DefaultAzureCredential: failed to acquire a token.\nAttempted credentials:\n\tClientSecretCredential: "
            'unable to resolve an endpoint: server response error:\n\t\t Get "https://login.microsoftonline.com/t/v2.0/'
            '.well-known/openid-configuration?": dial tcp 127.0.0.1:1: connect: connection refused',
            Verdict.UNREACHABLE,
        ),
        (
            "aws",
            "failed to decrypt sops data key with AWS KMS: operation error KMS: Decrypt, https response error "
            "StatusCode: 400, RequestID: 1, "
            "NotFoundException: Alias arn:aws:kms:us-east-1:1:alias/throttle is not found.",
            Verdict.NOT_OPENED,
        ),
        (
            "aws",
            "failed to decrypt sops data key with AWS KMS: operation error KMS: Decrypt, https response error "
            "StatusCode: 400, RequestID: 1, "
            "api error AccessDeniedException: User: arn:aws:iam::1:user/throttler is not authorized",
            Verdict.DENIED,
        ),
    ],
)
def test_names_in_a_text_do_not_decide(provider: str, text: str, verdict: Verdict) -> None:
    assert of_status(provider, GrpcStatusError(2, text)) is verdict


# metadata.py, core/documents.py


def test_a_recipient_that_is_shown_is_bounded() -> None:
    found = read_encryption(b"recipient: ssh-" + b"a" * 200_000 + b" " + b"A" * 68)
    assert all(len(each) < 3_000 for each in found.recipients)


@pytest.mark.parametrize(
    ("data", "format"),
    [(b'"' + b'\\"' * 4_000, Format.JSON), (b'{}\n---\nb: |\n  x\n  "' + b'\\"' * 4_000 + b"\n", Format.YAML)],
)
def test_quotes_do_not_make_reading_quadratic(data: bytes, format: Format) -> None:
    began = time.process_time()
    with contextlib.suppress(JiemiError):
        parse_documents(data, format, max_documents=9)
    assert time.process_time() - began < 0.1


# With the real sops: its refusal of an age data key quotes the data key's text, percent-encoded in a header


async def test_a_refusal_that_is_too_long_for_a_header_is_no_dead_holder(
    tools: dict[str, Path], fast_directory: Path, age_pair: AgePair
) -> None:
    from krapao.decryption.test_grpc import sops_keyservice

    key = AgeMasterKey(age_pair.public)
    async with sops_keyservice(tools["sops"], fast_directory, age_pair.private) as client:
        for size in (10_000, 11_000):
            with pytest.raises(GrpcStatusError):
                await client.call(DECRYPT, write_decrypt_request(DecryptRequest(key, "é".encode() * size)))
