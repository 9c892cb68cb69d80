"""What must be signed, and who signed, come out of a message as they went in; what is not known here is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rpc.codec.messages import SCHEMA, through
from rpc.hostile_peer import krapao_struct

from jiemi.core.errors import JiemiError
from jiemi.rpc import codec
from jiemi.rpc.codec.verification import read_verification, write_verification
from jiemi.rpc.source import GitCredentials, Source
from jiemi.rpc.verification import (
    MAX_VERIFICATION_BYTES,
    PublicKeys,
    SignatureKind,
    Signer,
    Verification,
    Verified,
    VerifyMode,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PATTERNS = st.lists(TEXT, max_size=3).map(tuple)
KEYS = st.lists(st.builds(PublicKeys, TEXT, st.binary(max_size=50)), min_size=1, max_size=3).map(tuple)
VERIFICATIONS = st.builds(
    Verification,
    st.sampled_from(VerifyMode),
    st.sampled_from(SignatureKind),
    KEYS,
    PATTERNS,
    PATTERNS,
    PATTERNS,
    st.integers(1, 10),
    st.integers(1, 1_000),
)
SIGNERS = st.none() | st.builds(Signer, TEXT, TEXT)
VERIFIED = st.builds(
    Verified,
    st.sampled_from(["a" * 40, "b" * 64]),
    SIGNERS,
    SIGNERS,
    st.none() | TEXT,
    st.none() | st.integers(1, 2**40),
)


@given(VERIFICATIONS)
def test_what_must_be_signed_comes_back(wanted: Verification) -> None:
    assert through("Verification", lambda b: write_verification(b, wanted), read_verification) == wanted
    opening = codec.Opening(Source("https://git.example/r", verification=wanted), GitCredentials(), "team")
    assert (opening.required, opening.method) == (("verify",), "openRepositoryRequiring")
    request = krapao_struct(SCHEMA.Session.schema.methods[opening.method].param_type, {})
    codec.write_opening(request, opening)
    assert codec.read_opening(request.as_reader(), requiring=True) == opening


@given(VERIFIED)
def test_who_signed_comes_back(found: Verified) -> None:
    assert through("VerifyResult", lambda b: codec.write_verify_result(b, found), codec.read_verify_result) == found


@given(VERIFICATIONS, VERIFICATIONS)
def test_two_policies_have_one_digest_only_if_they_are_equal(one: Verification, other: Verification) -> None:
    assert (one.digest() == other.digest()) == (one == other)


def test_the_digest_tells_entries_from_each_other() -> None:
    def digest(*entries: tuple[str, bytes]) -> str:
        keys = tuple(PublicKeys(*each) for each in entries)
        return Verification(VerifyMode.COMMIT, SignatureKind.SSH, keys).digest()

    assert digest(("a", b"bc")) != digest(("ab", b"c"))
    assert digest(("a", b"b"), ("c", b"d")) != digest(("a", b"bc"), ("", b"d"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"mode": "Everything"}, "ProviderNotSupportedYet"),
        ({"mode": ""}, "ProviderNotSupportedYet"),
        ({"kind": "x509"}, "ProviderNotSupportedYet"),
        ({"keys": []}, "VerificationKeysInvalid"),
        ({"keys": [{"name": "a", "data": b"x" * (MAX_VERIFICATION_BYTES + 1)}]}, "LimitExceeded"),
        ({"keys": [{"name": "a", "data": b"x"}] * 201}, "LimitExceeded"),
        ({"minimumSigners": 0}, "InvalidSpec"),
        ({"historyCommits": 1_001}, "InvalidSpec"),
        ({"signers": ["x"] * 1_001}, "LimitExceeded"),
    ],
)
def test_what_is_not_known_or_too_much_is_refused(changes: dict[str, Any], reason: str) -> None:
    good: dict[str, Any] = {"mode": "Commit", "kind": "ssh", "keys": [{"name": "a.pub", "data": b"ssh-ed25519 AAAA"}]}
    message = SCHEMA.Verification.new_message(**{**good, **changes})
    with pytest.raises(JiemiError) as caught:
        read_verification(message.as_reader())
    assert caught.value.failure.reason == reason


def test_verify_that_is_required_and_not_there_opens_nothing() -> None:
    params = {"source": {"url": "https://git.example/r"}, "required": ["verify"]}
    request = krapao_struct(SCHEMA.Session.schema.methods["openRepositoryRequiring"].param_type, params)
    with pytest.raises(JiemiError) as caught:
        codec.read_opening(request.as_reader(), requiring=True)
    assert caught.value.failure.reason == "InvalidSpec"


def test_public_keys_are_not_shown() -> None:
    assert "canary" not in repr(Verification(VerifyMode.COMMIT, SignatureKind.PGP, (PublicKeys("a", b"canary"),)))
