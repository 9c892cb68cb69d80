"""What a writer puts in the place of a signature, and what stands in the Secret: each is refused, in bounded time."""

from __future__ import annotations

import base64
import hashlib
import os
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from krapao.signatures.conftest import Judge
from support.krapao.pgp_keys import run_gpg
from support.krapao.work_tree import Work
from support.signing.signers import PgpSigner, certify, git_takes, pgp_signer, raw_object, ssh_signer, write_object

from jiemi.core.content.pgp_armor import dearmored
from jiemi.core.errors import JiemiError
from jiemi.krapao.signatures.objects import read_commit
from jiemi.rpc.verification import PublicKeys, SignatureKind, Verification, VerifyMode

PGP_SIGNATURE = "PGP SIGNATURE"


def by_pgp(*signers: PgpSigner, **more: bytes) -> Verification:
    keys = tuple(PublicKeys(f"{number}.asc", each.public) for number, each in enumerate(signers))
    keys += tuple(PublicKeys(name, data) for name, data in more.items())
    return Verification(VerifyMode.COMMIT, SignatureKind.PGP, keys)


def by_ssh(*lines: str) -> Verification:
    data = "\n".join(lines).encode()
    return Verification(VerifyMode.COMMIT, SignatureKind.SSH, (PublicKeys("allowed_signers", data),))


def with_signature(work: Work, signature: bytes) -> str:
    """The newest commit with another signature; its hash."""
    raw = raw_object(work, "commit", "HEAD")
    commit = read_commit(raw, "1" * 40)
    header = b"gpgsig " + signature.strip(b"\n").replace(b"\n", b"\n ") + b"\n"
    head, _, rest = commit.payload.partition(b"\n\n")
    return write_object(work, "commit", head + b"\n" + header + b"\n" + rest)


def armored(packets: bytes, kind: str = PGP_SIGNATURE) -> bytes:
    body = b"\n".join(base64.b64encode(packets[place : place + 48]) for place in range(0, len(packets), 48))
    return f"-----BEGIN {kind}-----\n\n".encode() + body + f"\n-----END {kind}-----\n".encode()


def packet(tag: int, body: bytes) -> bytes:
    return bytes([0xC0 | tag, 255]) + struct.pack(">I", len(body)) + body


@pytest.fixture
def bob(work: Work, gpg_home: Path, request: pytest.FixtureRequest) -> PgpSigner:
    signer = pgp_signer(gpg_home, f"bob-{abs(hash(request.node.name))}")
    signer.configure(work)
    work.git("commit", "--quiet", "--allow-empty", "-S", "-m", "x")
    return signer


BOMB = packet(8, b"\x02" + zlib.compress(bytes(20_000_000)))


def _signature(work: Work) -> bytes:
    found = read_commit(raw_object(work, "commit", "HEAD"), "1" * 40).signature
    assert found is not None
    [(kind, packets)] = dearmored(found)
    assert kind == PGP_SIGNATURE
    return packets


PGP_CASES: dict[str, Callable[[bytes], bytes]] = {
    "a compressed bomb": lambda _: armored(BOMB),
    "a bomb behind it": lambda good: armored(good + BOMB),
    "a message": lambda good: armored(good, "PGP MESSAGE"),
    "a literal before it": lambda good: armored(packet(11, b"b\0\0\0\0\0x") + good),
    "twice": lambda good: armored(good + good),
    "a thousand": lambda good: armored(good) * 1_000,
    "a key behind it": lambda good: armored(good + packet(6, b"x" * 100)),
    "without an end": lambda good: armored(good).partition(b"-----END")[0],
    "cut": lambda good: armored(good[:-5]),
    "nothing": lambda _: armored(b""),
    "rubbish": lambda _: armored(os.urandom(500)),
    "clear-signed": lambda good: b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\nx\n" + armored(good),
    "a megabyte": lambda good: armored(good + packet(2, b"x" * 700_000)),
    "of a text": lambda good: armored(good.replace(good[5:6], b"\x01", 1)),
}


@pytest.mark.parametrize("case", PGP_CASES)
async def test_what_is_no_single_good_pgp_signature_is_refused(
    judge: Judge, work: Work, bob: PgpSigner, case: str
) -> None:
    assert (await judge.commit(work, by_pgp(bob))).commit is not None
    name = with_signature(work, PGP_CASES[case](_signature(work)))
    began = time.monotonic()
    with pytest.raises(JiemiError) as caught:
        await judge.commit(work, by_pgp(bob), name)
    assert caught.value.failure.reason in ("SignatureInvalid", "LimitExceeded"), str(caught.value)
    assert time.monotonic() - began < 5


async def test_rings_that_are_bombs_cost_a_bounded_time_and_the_next_check_works(
    judge: Judge, work: Work, bob: PgpSigner
) -> None:
    [(_, key)] = dearmored(bob.public)
    many_names = key + b"".join(packet(13, b"%d" % number) for number in range(20_000))
    huge_number = packet(6, b"\x04\0\0\0\0\x01" + struct.pack(">H", 65_535) + b"\xff" * 8_192 + b"\0\x11\x01\0\x01")
    for data in (
        many_names[:500_000],
        huge_number,
        key[:60],
        packet(6, b""),
        packet(13, b"x"),
        BOMB,
        os.urandom(1_000),
    ):
        began = time.monotonic()
        try:
            await judge.commit(work, by_pgp(bob, bomb=data))
        except JiemiError as error:
            assert error.failure.reason in ("VerificationKeysInvalid", "Timeout", "LimitExceeded", "InternalError")
        assert time.monotonic() - began < 35
    assert (await judge.commit(work, by_pgp(bob))).commit is not None


async def test_a_private_key_that_reaches_krapao_is_refused_without_being_imported(
    judge: Judge, work: Work, bob: PgpSigner, gpg_home: Path
) -> None:
    private = run_gpg(gpg_home, "", "--armor", "--export-secret-keys", bob.fingerprint)
    [(_, packets)] = dearmored(private.encode())
    for data in (private.encode(), packets, armored(packets, "PGP PUBLIC KEY BLOCK")):
        with pytest.raises(JiemiError) as caught:
            await judge.commit(work, by_pgp(bob, wrong=data))
        assert caught.value.failure.reason == "VerificationKeysInvalid"
        assert "'wrong'" in caught.value.failure.message


# ssh


def string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def mpint(number: int) -> bytes:
    return string(number.to_bytes(number.bit_length() // 8 + 1))


def sshsig(
    key: bytes, sign: Callable[[bytes], bytes], payload: bytes, *, hash: bytes = b"sha512", namespace: bytes = b"git"
) -> bytes:
    digest = hashlib.new(hash.decode(), payload).digest()
    message = b"SSHSIG" + string(namespace) + string(b"") + string(hash) + string(digest)
    data = b"SSHSIG" + struct.pack(">I", 1) + string(key) + string(namespace) + string(b"") + string(hash)
    body = base64.encodebytes(data + string(sign(message)))
    return b"-----BEGIN SSH SIGNATURE-----\n" + body + b"-----END SSH SIGNATURE-----\n"


@pytest.fixture
def payload(work: Work) -> bytes:
    """What of the newest commit, which is not signed, is to be signed."""
    work.git("commit", "--quiet", "--allow-empty", "-m", "x")
    return read_commit(raw_object(work, "commit", "HEAD"), "1" * 40).payload


def line(kind: bytes, key: bytes) -> str:
    return f"ann {kind.decode()} {base64.b64encode(key).decode()}"


@pytest.mark.parametrize("touched", [True, False])
@pytest.mark.parametrize("kind", [b"sk-ssh-ed25519@openssh.com", b"sk-ecdsa-sha2-nistp256@openssh.com"])
async def test_a_signature_of_a_security_key_counts_if_it_was_touched(
    judge: Judge, work: Work, payload: bytes, tmp_path: Path, kind: bytes, touched: bool
) -> None:
    application = b"ssh:"
    after = bytes([1 if touched else 0]) + struct.pack(">I", 7)

    def by_hardware(message: bytes) -> bytes:
        return hashlib.sha256(application).digest() + after + hashlib.sha256(message).digest()

    if kind.startswith(b"sk-ssh"):
        edwards = ed25519.Ed25519PrivateKey.generate()
        key = string(kind) + string(edwards.public_key().public_bytes_raw()) + string(application)

        def sign(message: bytes) -> bytes:
            return string(kind) + string(edwards.sign(by_hardware(message))) + after
    else:
        curve = ec.generate_private_key(ec.SECP256R1())
        numbers = curve.public_key().public_numbers()
        point = b"\x04" + numbers.x.to_bytes(32) + numbers.y.to_bytes(32)
        key = string(kind) + string(b"nistp256") + string(point) + string(application)

        def sign(message: bytes) -> bytes:
            made = decode_dss_signature(curve.sign(by_hardware(message), ec.ECDSA(hashes.SHA256())))
            return string(kind) + string(b"".join(map(mpint, made))) + after

    name = with_signature(work, sshsig(key, sign, payload))
    allowed = tmp_path / "allowed"
    allowed.write_text(line(kind, key) + "\n")
    assert git_takes(work, "verify-commit", name, allowed=allowed)  # touched or not
    if touched:
        assert (await judge.commit(work, by_ssh(line(kind, key)), name)).commit is not None
    else:
        assert "nobody touched" in await judge.refusal(work, by_ssh(line(kind, key)), name)


async def test_weak_and_mismatched_ssh_signatures_are_refused(
    judge: Judge, work: Work, payload: bytes, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives.asymmetric import padding

    strong, short = (rsa.generate_private_key(public_exponent=65537, key_size=size) for size in (2048, 1024))

    def key_of(private: rsa.RSAPrivateKey) -> bytes:
        numbers = private.public_key().public_numbers()
        return string(b"ssh-rsa") + mpint(numbers.e) + mpint(numbers.n)

    def signer(algorithm: bytes, hash: hashes.HashAlgorithm) -> Callable[[bytes], bytes]:
        return lambda message: string(algorithm) + string(strong.sign(message, padding.PKCS1v15(), hash))

    allowed = by_ssh(line(b"ssh-rsa", key_of(strong)))
    good = signer(b"rsa-sha2-256", hashes.SHA256())
    assert (await judge.commit(work, allowed, with_signature(work, sshsig(key_of(strong), good, payload)))).commit
    edwards = ed25519.Ed25519PrivateKey.generate().sign
    for what, signature in {
        "SHA-1": sshsig(key_of(strong), signer(b"ssh-rsa", hashes.SHA1()), payload),  # noqa: S303 - refused
        "neither sha256 nor sha512": sshsig(key_of(strong), good, payload, hash=b"sha1"),
        "another namespace": sshsig(key_of(strong), good, payload, namespace=b"file"),
        "does not match": sshsig(key_of(strong), good, payload + b"x"),
        "over SHA-1 or another hash": sshsig(
            key_of(strong), lambda m: string(b"ssh-ed25519") + string(edwards(m)), payload
        ),
        "behind its end": sshsig(key_of(strong), lambda m: good(m) + b"x", payload),
    }.items():
        assert what in await judge.refusal(work, allowed, with_signature(work, signature)), what
    assert "1024 bits" in await judge.refusal(work, by_ssh(line(b"ssh-rsa", key_of(short))))


async def test_certificates_and_dsa_keys_are_not_taken_and_it_is_said(
    judge: Judge, work: Work, payload: bytes, tmp_path: Path
) -> None:
    authority, ann = ssh_signer(tmp_path, "authority"), ssh_signer(tmp_path, "ann")
    certificate = certify(ann, authority)
    signature = sshsig(base64.b64decode(certificate), lambda _: string(b"ssh-ed25519") + string(bytes(64)), payload)
    name = with_signature(work, signature)
    said = await judge.refusal(work, by_ssh(f"* cert-authority {authority.line}", f"ann {ann.line}"), name)
    assert said.startswith("SignerUnknown: commit ")
    assert "certificate" in said
    said = await judge.refusal(work, by_ssh(f"* cert-authority {authority.line}"), name)
    assert said.startswith("VerificationKeysInvalid: ")
    assert "certificates (cert-authority) and DSA keys are not" in said
    numbers = dsa.generate_private_key(2048).public_key().public_numbers()
    parts = (numbers.parameter_numbers.p, numbers.parameter_numbers.q, numbers.parameter_numbers.g, numbers.y)
    key = string(b"ssh-dss") + b"".join(map(mpint, parts))
    assert "DSA" in await judge.refusal(work, by_ssh(line(b"ssh-dss", key)))


async def test_many_and_large_headers_take_little_time(
    judge: Judge, work: Work, payload: bytes, tmp_path: Path
) -> None:
    ann = ssh_signer(tmp_path, "ann")
    raw = raw_object(work, "commit", "HEAD")
    head, _, rest = raw.partition(b"\n\n")
    signature = b"gpgsig -----BEGIN SSH SIGNATURE-----\n " + b"A" * 70 + b"\n -----END SSH SIGNATURE-----\n"
    for data, says in {
        head + b"\n" + signature * 1_000 + b"\n" + rest: "1000 signatures",
        head + b"\n" + signature.replace(b"\n A", b"\n A" * 40_000) + b"\n" + rest: "bytes, of 65536 at most",
        head + b"\n" + b"x y\n" * 200_000 + signature + b"\n" + rest: "can't be taken",
    }.items():
        began = time.monotonic()
        assert says in await judge.refusal(work, by_ssh(f"ann {ann.line}"), write_object(work, "commit", data)), says
        assert time.monotonic() - began < 3
