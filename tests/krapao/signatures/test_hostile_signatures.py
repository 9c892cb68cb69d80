"""What stands in the Secret with the public keys, and signatures of hardware keys and certificates. What a writer puts
in the place of a signature is in the rows of tests/hostile."""

from __future__ import annotations

import base64
import hashlib
import os
import struct
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from krapao.signatures.conftest import Judge
from support.krapao.pgp_keys import run_gpg
from support.krapao.work_tree import Work
from support.signing.forged import BOMB, armored, line, mpint, packet, sshsig, string, with_signature
from support.signing.signers import PgpSigner, certify, git_takes, pgp_signer, raw_object, ssh_signer

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


@pytest.fixture
def bob(work: Work, gpg_home: Path, request: pytest.FixtureRequest) -> PgpSigner:
    signer = pgp_signer(gpg_home, f"bob-{abs(hash(request.node.name))}")
    signer.configure(work)
    work.git("commit", "--quiet", "--allow-empty", "-S", "-m", "x")
    return signer


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


@pytest.fixture
def payload(work: Work) -> bytes:
    """What of the newest commit, which is not signed, is to be signed."""
    work.git("commit", "--quiet", "--allow-empty", "-m", "x")
    return read_commit(raw_object(work, "commit", "HEAD"), "1" * 40).payload


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
