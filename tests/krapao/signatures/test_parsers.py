"""Any bytes give a value or a typed error, in time that is in proportion to them."""

from __future__ import annotations

import base64
import contextlib
import re
import struct
import time
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jiemi.core.content.pgp_armor import armored, dearmored, packet_tags
from jiemi.core.content.private_keys import holds_private_key
from jiemi.core.errors import JiemiError
from jiemi.krapao.signatures.allowed_signers import read_allowed_signers
from jiemi.krapao.signatures.objects import read_commit, read_tag
from jiemi.krapao.signatures.pgp_ring import packets_of
from jiemi.krapao.signatures.sshsig import read_signature, require_good
from jiemi.rpc.verification import PublicKeys

SHA = "1" * 40
COMMIT = (
    b"tree 2222222222222222222222222222222222222222\n"
    b"parent 3333333333333333333333333333333333333333\n"
    b"author A <a@example.com> 1700000000 +0000\n"
    b"committer C <c@example.com> 1700000001 +0100\n"
    b"gpgsig -----BEGIN SSH SIGNATURE-----\n line\n -----END SSH SIGNATURE-----\n"
    b"encoding ISO-8859-1\n"
    b"\nmessage\n"
)
TAG = (
    b"object 2222222222222222222222222222222222222222\ntype commit\ntag v1\n"
    b"tagger A <a@example.com> 1700000000 +0000\n\nmessage\n"
    b"-----BEGIN PGP SIGNATURE-----\n\nx\n-----END PGP SIGNATURE-----\n"
)


def damaged(good: bytes) -> st.SearchStrategy[bytes]:
    """Good bytes with something cut out, put in or changed."""
    places = st.integers(0, len(good))
    pieces = st.sampled_from(
        [b"", b"\n", b" ", b"\n\n", b"gpgsig ", b"gpgsig-sha256 x\n", b"\0", b"<", b"tree ", b"\r"]
    )
    return st.builds(
        lambda a, b, put: good[: min(a, b)] + put + good[max(a, b) :], places, places, pieces | st.binary()
    )


def _lines(data: bytes) -> list[bytes]:
    """With their ends."""
    return [line for line in re.split(rb"(?<=\n)", data) if line]


@given(st.binary() | damaged(COMMIT))
@example(data=COMMIT[: COMMIT.index(b"gpgsig")] + b"gpgsig")
@example(data=COMMIT.replace(b"parent 33", b"parent 3\n 3"))
@example(data=COMMIT.replace(b"parent ", b"parent\n "))
@example(data=COMMIT.replace(b"author ", b"author\n "))
def test_any_commit_is_read_or_refused_and_what_is_believed_is_signed(data: bytes) -> None:
    try:
        commit = read_commit(data, SHA)
    except JiemiError as error:
        assert error.failure.reason == "SignatureInvalid"
        return
    assert commit.payload.startswith(f"tree {commit.tree}\n".encode())
    assert commit.author.email.encode() in commit.payload
    headers = commit.payload.partition(b"\n\n")[0].split(b"\n")
    assert [line for line in headers if line.startswith(b"parent")] == [
        f"parent {each}".encode() for each in commit.parents
    ]
    assert [line.partition(b" ")[0] for line in headers].count(b"author") == 1
    assert b"\ngpgsig" not in b"\n" + commit.payload.partition(b"\n\n")[0]
    # Nothing is in the payload that is not in the object, in the same order.
    rest = iter(_lines(data))
    assert all(line in rest for line in _lines(commit.payload))


def test_a_commit_is_split_as_git_does() -> None:
    commit = read_commit(COMMIT, SHA)
    assert commit.signature == b"-----BEGIN SSH SIGNATURE-----\nline\n-----END SSH SIGNATURE-----"
    assert b"gpgsig" not in commit.payload
    assert commit.payload.count(b"\n") == COMMIT.count(b"\n") - 3
    assert (commit.author.email, commit.committer.time) == ("a@example.com", 1700000001)
    assert commit.parents == ("3" * 40,)


@given(st.binary() | damaged(TAG))
@example(data=TAG.replace(b"type commit", b"type \x80"))
@example(data=TAG.replace(b"type commit", b"type"))
@example(data=TAG.replace(b"type commit", b"type com\n mit"))
@example(data=TAG.replace(b"type commit", b"type\n commit"))
def test_any_tag_is_read_or_refused(data: bytes) -> None:
    try:
        tag = read_tag(data)
    except JiemiError as error:
        assert error.failure.reason == "SignatureInvalid"
        return
    assert tag.payload.startswith(f"object {tag.object}\ntype {tag.type}\ntag {tag.name}".encode())


def _sshsig(*fields: bytes, version: int = 1) -> bytes:
    data = b"SSHSIG" + struct.pack(">I", version) + b"".join(struct.pack(">I", len(each)) + each for each in fields)
    body = base64.b64encode(data)
    return b"-----BEGIN SSH SIGNATURE-----\n" + body + b"\n-----END SSH SIGNATURE-----\n"


@given(
    st.binary()
    | st.binary().map(
        lambda data: b"-----BEGIN SSH SIGNATURE-----\n" + base64.b64encode(data) + b"\n-----END SSH SIGNATURE-----"
    )
    | st.builds(
        _sshsig, st.binary(), st.just(b"git"), st.binary(max_size=2), st.sampled_from([b"sha256", b"md5"]), st.binary()
    )
)
def test_any_ssh_signature_is_read_or_refused_and_none_is_good_by_chance(data: bytes) -> None:
    with pytest.raises(JiemiError) as caught:
        require_good(read_signature(data), b"payload")
    assert caught.value.failure.reason == "SignatureInvalid"


OPTIONS = st.sampled_from(
    ["", 'namespaces="git" ', "cert-authority ", 'valid-after="20200101" ', 'valid-before="2" ', "x "]
)
KEY = (
    "ssh-ed25519 "
    + base64.b64encode(struct.pack(">I", 11) + b"ssh-ed25519" + struct.pack(">I", 32) + bytes(32)).decode()
)


@given(
    st.text()
    | st.lists(
        st.builds(
            lambda p, o, k: f"{p} {o}{k}",
            st.sampled_from(["ann", '"a b"', "", ",", "*"]),
            OPTIONS,
            st.sampled_from([KEY, "ssh-dss AAAA", "x"]),
        )
    ).map("\n".join),
    st.sampled_from(["allowed_signers", "ann.pub"]),
)
@example('ann "', "allowed_signers")
def test_any_allowed_signers_are_read_or_refused_with_their_line(text: str, name: str) -> None:
    try:
        found = read_allowed_signers([PublicKeys(name, text.encode("utf-8", "surrogatepass"))])
    except JiemiError as error:
        assert error.failure.reason == "VerificationKeysInvalid"
        assert repr(name) in error.failure.message
        return
    assert all(each.name and each.key for each in found.signers)


@given(st.binary())
def test_any_ring_is_read_or_refused(data: bytes) -> None:
    for given_bytes in (
        data,
        b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n"
        + base64.b64encode(data)
        + b"\n-----END PGP PUBLIC KEY BLOCK-----\n",
    ):
        try:
            assert packet_tags(packets_of(PublicKeys("a.asc", given_bytes)))
        except JiemiError as error:
            assert error.failure.reason == "VerificationKeysInvalid"


def test_armor_comes_back_as_it_went_in() -> None:
    packet = bytes([0xC0 | 6, 3]) + b"abc"
    text = armored(packet)
    assert text is not None
    assert (
        dearmored(b"before\n" + text.encode() + b"behind\n" + text.encode()) == (("PGP PUBLIC KEY BLOCK", packet),) * 2
    )
    assert dearmored(b"-----BEGIN PGP SIGNATURE-----\n\nx") == (("PGP SIGNATURE", b""),)


@pytest.mark.parametrize(
    "data",
    [
        b"-----BEGIN OPENSSH PRIVATE KEY-----\n",
        b"-----BEGIN RSA PRIVATE KEY-----\n",
        b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n",
        b"# created\nage-secret-key-1qqq",
        b"PuTTY-User-Key-File-3: ssh-ed25519",
        base64.b64encode(b"openssh-key-v1\0rest"),
        bytes([0xC0 | 5, 1, 0]),
        b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n"
        + base64.b64encode(bytes([0xC0 | 6, 1, 0, 0xC0 | 7, 1, 0]))
        + b"\n-----END PGP PUBLIC KEY BLOCK-----\n",
    ],
)
def test_a_private_key_of_any_form_is_recognized(data: bytes) -> None:
    assert holds_private_key(data)


@pytest.mark.parametrize("data", [b"", KEY.encode(), b"ann " + KEY.encode(), bytes([0xC0 | 6, 1, 0])])
def test_what_is_public_is_not_taken_for_a_private_key(data: bytes) -> None:
    assert not holds_private_key(data)


BEGIN = b"-----BEGIN PGP SIGNATURE-----\n"


@pytest.mark.parametrize(
    ("read", "make"),
    [
        (lambda data: read_commit(data, SHA), lambda n: COMMIT.replace(b"gpgsig ", b"gpgsig x\ngpgsig " * n)),
        (lambda data: read_commit(data, SHA), lambda n: COMMIT.replace(b" line\n", b" line\n" * n)),
        (
            lambda data: read_commit(data, SHA),
            lambda n: COMMIT.replace(b"parent ", b"parent " + b"3" * 40 + b"\nparent ") * n,
        ),
        (read_tag, lambda n: TAG.replace(BEGIN, BEGIN * n)),
        (dearmored, lambda n: BEGIN * n),
        (dearmored, lambda n: b"-----BEGIN PGP A-----\n-----END PGP B-----\n" * n),
        (holds_private_key, lambda n: b"-----BEGIN PGP A" * n),
        (lambda data: read_allowed_signers([PublicKeys("x", data)]), lambda n: b"ann " + b'namespaces="git",' * n),
        (lambda data: read_allowed_signers([PublicKeys("x", data)]), lambda n: b'ann "' + b"\\" * n),
        (read_signature, lambda n: b"-----BEGIN SSH SIGNATURE-----" + b"A" * n),
    ],
)
def test_nothing_takes_more_than_its_share_of_time(
    read: Callable[[bytes], object], make: Callable[[int], bytes]
) -> None:
    def seconds(count: int) -> float:
        data = make(count)
        began = time.process_time()
        with contextlib.suppress(JiemiError):
            read(data)
        return time.process_time() - began

    small = min(seconds(2_000) for _ in range(3))
    assert min(seconds(16_000) for _ in range(2)) < 8 * 4 * max(small, 0.002)
