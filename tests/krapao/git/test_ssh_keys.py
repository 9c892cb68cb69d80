"""Private keys for ssh: every type and form, with a passphrase and without, and what is said of those that are none."""

from __future__ import annotations

import base64
import gc
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from support.krapao.ssh_keys import key_pair, made, written

from jiemi.core.errors import JiemiError
from jiemi.core.sensitive import SensitiveText
from jiemi.krapao.git import rsa_keys, ssh_keys
from jiemi.krapao.git.ssh_keys import private_key
from jiemi.rpc.source import GitCredentials

OPENSSH, TRADITIONAL, PKCS8 = PrivateFormat.OpenSSH, PrivateFormat.TraditionalOpenSSL, PrivateFormat.PKCS8


def of(key: str, passphrase: str | None = None) -> GitCredentials:
    return GitCredentials(ssh=SensitiveText(key), passphrase=None if passphrase is None else SensitiveText(passphrase))


def refused(key: str, passphrase: str | None = None) -> str:
    """What is said of a key."""
    with pytest.raises(JiemiError) as caught:
        private_key(of(key, passphrase))
    assert caught.value.failure.reason == "RepositoryAccessDenied"
    assert "canary" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value.failure.text


@pytest.mark.parametrize("form", [OPENSSH, TRADITIONAL, PKCS8])
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "ecdsa-384", "ecdsa-521", "rsa"])
def test_keys_of_each_type_and_form_are_read_with_a_passphrase_and_without(kind: str, form: PrivateFormat) -> None:
    if kind == "ed25519" and form is TRADITIONAL:
        form = PKCS8
    for passphrase in (None, "canary ü "):
        text, public = key_pair(kind, form, passphrase)
        assert private_key(of(text, passphrase)).asbytes() == public
        assert private_key(of(f"\r\n{text.strip()}".replace("\n", "\r\n"), passphrase)).asbytes() == public
        if passphrase is None:
            assert private_key(of(text, "of no use")).asbytes() == public
            continue
        assert "credentials.passphrase gives none" in refused(text)
        for wrong in ("canary", "canary ü", ""):
            assert "credentials.passphrase is not the passphrase of" in refused(text, wrong)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("canary", "is no private key"),
        ("", "is no private key"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIcanary me@here", "is no private key"),
        (key_pair("ed25519", OPENSSH)[0].replace("\n", " "), "is no private key"),
        (key_pair("rsa", PKCS8)[0][:400], "is no private key"),
        (key_pair("rsa", PKCS8)[0].replace("MII", "MIJ"), "is no private key"),
        ("x" * 20_000 + key_pair("ed25519", OPENSSH)[0], "is no private key"),
        ("\ud800-----BEGIN PRIVATE KEY-----\n\ud800\n-----END PRIVATE KEY-----", "is no private key"),
        ("PuTTY-User-Key-File-3: ssh-ed25519\ncanary", "is a key of PuTTY's own form"),
        (written(made("ecdsa-k1"), PKCS8), "is a private key of a type that is not used"),
        (written(made("ed448"), PKCS8), "is a private key of a type that is not used"),
        (written(made("dsa"), PKCS8), "is a private key of a type that is not used"),
    ],
)
def test_what_is_no_key_for_ssh_is_refused_by_what_it_is(text: str, says: str) -> None:
    assert f"spec.source.repository.credentials.ssh {says}" in refused(text)
    refused(text, "canary")


def _of_a_token(kind: bytes, cipher: bytes = b"none") -> str:
    """A key's file as ssh-keygen makes it with a hardware token (PROTOCOL.key and PROTOCOL.u2f of OpenSSH)."""

    def string(data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + data

    public = string(kind) + string(bytes(32)) + string(b"ssh:")
    head = b"openssh-key-v1\0" + string(cipher) + string(b"none") + string(b"") + (1).to_bytes(4, "big")
    body = base64.b64encode(head + string(public) + string(b"canary")).decode()
    return f"-----BEGIN OPENSSH PRIVATE KEY-----\n{body}\n-----END OPENSSH PRIVATE KEY-----\n"


@pytest.mark.parametrize("kind", [b"sk-ssh-ed25519@openssh.com", b"sk-ecdsa-sha2-nistp256@openssh.com"])
def test_a_key_of_a_hardware_token_is_refused_by_what_it_is(kind: bytes) -> None:
    for cipher in (b"none", b"aes256-ctr"):
        assert "is the key of a hardware token" in refused(_of_a_token(kind, cipher))


@given(st.binary(max_size=60), st.integers(0, 200))
def test_the_beginning_of_a_key_in_openssh_form_may_be_anything(data: bytes, cut: int) -> None:
    whole = base64.b64decode(_of_a_token(b"sk-ssh-ed25519@openssh.com").split("\n")[1])
    for hostile in (b"openssh-key-v1\0" + data, whole[:cut], whole[:cut] + data):
        body = base64.b64encode(hostile).decode()
        refused(f"-----BEGIN OPENSSH PRIVATE KEY-----\n{body}\n-----END OPENSSH PRIVATE KEY-----\n", "canary")


def _with_rounds(rounds: int) -> str:
    """A key in OpenSSH's form whose passphrase is hashed so often, by its header."""
    text = key_pair("ed25519", OPENSSH, "canary")[0]
    data = bytearray(base64.b64decode("".join(text.splitlines()[1:-1])))
    at = data.index(b"bcrypt") + len(b"bcrypt") + 4
    at += 4 + int.from_bytes(data[at : at + 4], "big")
    data[at : at + 4] = rounds.to_bytes(4, "big")
    return (
        f"-----BEGIN OPENSSH PRIVATE KEY-----\n{base64.b64encode(data).decode()}\n-----END OPENSSH PRIVATE KEY-----\n"
    )


def _with_iterations(iterations: int) -> str:
    """A key in PKCS #8 whose passphrase is hashed so often, by its parameters."""
    text = key_pair("ed25519", PKCS8, "canary")[0]
    data = base64.b64decode("".join(text.splitlines()[1:-1]))
    at = data.index(b"\x04\x10") + 2 + 16  # after the salt
    own = data[at : at + 2 + data[at + 1]]
    other = b"\x02\x04" + iterations.to_bytes(4, "big")
    assert own[0] == 2  # an integer
    longer = _elements_longer(data, at, len(other) - len(own)).replace(own, other, 1)
    body = base64.b64encode(longer).decode()
    return f"-----BEGIN ENCRYPTED PRIVATE KEY-----\n{body}\n-----END ENCRYPTED PRIVATE KEY-----"


def _elements_longer(data: bytes, at: int, more: int) -> bytes:
    """DER in which all elements around a place say that they are longer."""
    changed, begin = bytearray(data), 0
    while begin < at:
        size = changed[begin + 1]
        head, length = (3, changed[begin + 2]) if size == 0x81 else (2, size)
        if begin + head + length > at:
            changed[begin + head - 1] += more
            begin += head
        else:
            begin += head + length
    return bytes(changed)


@pytest.mark.parametrize(
    "text", [_with_rounds(257), _with_rounds(2**32 - 1), _with_iterations(2_000_001), _with_iterations(2**31 - 1)]
)
def test_a_passphrase_that_would_take_long_is_not_tried(text: str) -> None:
    began = time.monotonic()
    assert "in a way that takes too long" in refused(text, "canary")
    assert time.monotonic() - began < 1


def test_a_passphrase_that_takes_as_long_as_usual_is_tried() -> None:
    for text in (_with_rounds(30), _with_iterations(70_000)):
        assert "is not the passphrase" in refused(text, "canary")  # for the file's was used otherwise


@pytest.mark.parametrize("damage", ["p", "q", "d", "dmp1", "dmq1", "iqmp", "n", "e"])
def test_an_rsa_key_whose_numbers_do_not_fit_is_refused(damage: str) -> None:
    own = rsa.generate_private_key(65537, 2048).private_numbers()
    values = {name: getattr(own, name) for name in ("p", "q", "d", "dmp1", "dmq1", "iqmp")}
    public = {name: getattr(own.public_numbers, name) for name in ("e", "n")}
    for of_it in (values, public):
        if damage in of_it:
            of_it[damage] += 2

    class Damaged:
        private_numbers = staticmethod(
            lambda: rsa.RSAPrivateNumbers(**values, public_numbers=rsa.RSAPublicNumbers(**public))
        )

    class Whole:
        private_numbers = staticmethod(lambda: own)

    assert rsa_keys.fits(Whole())  # type: ignore[arg-type] # all that is asked of it
    assert not rsa_keys.fits(Damaged())  # type: ignore[arg-type] # likewise


def test_a_key_is_read_once_for_as_long_as_its_credentials_are_held() -> None:
    gc.collect()
    before = len(ssh_keys._READ)
    text = key_pair("ed25519", OPENSSH, "canary")[0]
    credentials = of(text, "canary")
    first = private_key(credentials)
    assert private_key(of(text, "canary")) is first
    assert len(ssh_keys._READ) == before + 1
    del credentials
    gc.collect()
    assert len(ssh_keys._READ) == before
