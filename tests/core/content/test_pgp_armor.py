"""Binary OpenPGP keys become armored ones, as gpg itself would have written them."""

from __future__ import annotations

import base64
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jiemi.core.content.pgp_armor import armored

GPG = shutil.which("gpg") or "gpg"


@pytest.fixture
def home(fast_directory: Path) -> Iterator[Path]:
    home = fast_directory / "gnupg"
    home.mkdir(mode=0o700)
    yield home
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)


def _gpg(home: Path, *arguments: str, data: bytes = b"") -> bytes:
    base = [GPG, "--homedir", str(home), "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
    return subprocess.run([*base, *arguments], input=data, check=True, capture_output=True).stdout


def _body(armor: bytes) -> bytes:
    lines = armor.decode().split("\n\n", 1)[1].splitlines()
    return "".join(lines[:-1]).encode()


@pytest.mark.parametrize("algorithm", ["ed25519", "rsa2048"])
def test_the_armor_is_what_gpg_writes(home: Path, algorithm: str) -> None:
    _gpg(home, "--quick-gen-key", "a <a@jiemi.invalid>", algorithm, "default", "never")
    for export, kind in (("--export-secret-keys", "PRIVATE"), ("--export", "PUBLIC")):
        binary, theirs = _gpg(home, export), _gpg(home, "--armor", export)
        ours = armored(binary)
        assert ours is not None
        assert ours.startswith(f"-----BEGIN PGP {kind} KEY BLOCK-----\n\n")
        assert _body(ours.encode()) == _body(theirs), "the checksum, which is the last line, too"
        assert ours.splitlines()[0] == theirs.decode().splitlines()[0]
    # A file into which both were written.
    both = armored(_gpg(home, "--export") + _gpg(home, "--export-secret-keys"))
    assert both is not None
    assert "PRIVATE" in both


def test_each_form_of_a_length_is_read() -> None:
    for header in (b"\x94\x02", b"\x95\x00\x02", b"\x96\x00\x00\x00\x02", b"\xc5\x02", b"\xc5\xff\x00\x00\x00\x02"):
        assert "PRIVATE" in str(armored(header + b"xx")), header
    assert "PRIVATE" in str(armored(b"\xc5\xc0\x08" + b"x" * 200))
    assert "PUBLIC" in str(armored(b"\xc6\x02xx\xcd\x01u"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        b"\x95",
        b"\x95\x00\x09xx",
        b"\xc5",
        b"\xc5\xff\x00",
        b"\x97xx",
        b"\xc5\xe1x",
        b"\xd2\x02xx",  # an encrypted message
        b"\x94\x02xxtext",
        b"\xff\xfeA\x00",  # UTF-16
        b"\x1f\x8b\x08\x00",  # gzip
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_bytes_that_are_not_a_key_give_none(data: bytes) -> None:
    assert armored(data) is None


@given(st.binary(max_size=300) | st.binary(max_size=300).map(b"\x95\x00\x20".__add__))
@example(b"\xc5\xc0")
def test_any_bytes_are_keys_or_not(data: bytes) -> None:
    found = armored(data)
    if found is not None:
        assert base64.b64decode("".join(found.split("\n\n", 1)[1].split("=", 1)[0].split()) + "==") is not None
        assert "".join(line for line in found.splitlines() if line and line[0] not in "-=").rstrip("=") == (
            base64.b64encode(data).decode().rstrip("=")
        )
