"""What is wrong with an encrypted file that sops refuses is told by what is to be seen in its bytes."""

from __future__ import annotations

import pytest

from jiemi.core.content.formats import Format
from jiemi.krapao.decryption.wrong_format import no_mac, not_the_format
from jiemi.krapao.reading.foreign_files import foreign_file

ENC = "ENC[AES256_GCM,data:AAAA,iv:AAAA,tag:AAAA,type:str]"
BLOCK = f"sops:\n    lastmodified: x\n    mac: {ENC}\n"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (f"a: {ENC}\n{BLOCK}", None),
        (f"mac: {ENC}\nsops:\n    version: x\n", "has no MAC"),
        ("a: b\nsops:\n    mac: x\n", "has a mac that sops did not write"),
        ('a: b\nsops:\n    mac: ""\n', "has a mac that sops did not write"),
        ("a: b\nsops:\n    mac:\n", "has a mac that sops did not write"),
        ('{"a": "b", "sops": {"mac": "6f1c"}}', "has a mac that sops did not write"),
        ('{"a": "b", "sops": {"version": "6f1c"}}', "has no MAC"),
        ("A=b\nsops_mac=x\n", "has a mac that sops did not write"),
        (f"A=b\nsops_mac={ENC}\n", None),
        ("[sops]\nmac = x\n", "has a mac that sops did not write"),
        ("a: b\n", None),
    ],
)
def test_a_mac_that_is_lost_is_distinguished_from_one_that_is_not_sopss(data: str, what: str | None) -> None:
    assert no_mac(data.encode()) == what


@pytest.mark.parametrize("between", ["", "# the second\n", "\n\n"])
def test_two_encrypted_files_with_nothing_between_them_are_reported_as_such(between: str) -> None:
    one = f"apiVersion: v1\na: {ENC}\n{BLOCK}"
    failure = not_the_format((one + between + one).encode(), Format.YAML).failure
    line = 2 + 3 + between.count("\n") + 2 + 1
    assert f"no line --- between them: line {line} begins the sops block of the second" in failure.message
    assert failure.remedy == "Put a line --- between the two, or keep them in two files."


def test_files_that_are_joined_by_dashes_are_reported_as_what_else_they_are() -> None:
    one = f"a: {ENC}\n{BLOCK}"
    assert "can't be read as yaml" in not_the_format(f"{one}---\n{one}\n- x".encode(), Format.YAML).failure.message


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (POINTER, "a pointer of Git LFS"),
        (b"\0GITCRYPT\0abc", "encrypted by git-crypt"),
        (b"$ANSIBLE_VAULT;1.1;AES256\n6162\n", "encrypted by Ansible Vault"),
        (b"age-encryption.org/v1\n-> X25519 abc\n", "encrypted by age itself"),
        (b"-----BEGIN PGP MESSAGE-----\n\nabc\n", "encrypted by gpg itself"),
    ],
)
def test_a_file_of_another_tool_is_reported_as_what_it_is(data: bytes, what: str) -> None:
    found = foreign_file(data)
    assert found is not None
    assert found[0] == what
    assert (foreign_file(data, whole=True) is not None) == (data == POINTER)  # the others may be meant as they are


@pytest.mark.parametrize("data", [b"", b"version: 1\n", b"a: $ANSIBLE_VAULT;\n", b"apiVersion: v1\n"])
def test_other_files_are_nobodys(data: bytes) -> None:
    assert foreign_file(data) is None
