"""The known_hosts format: which keys a host may show."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiemi.krapao.git.known_hosts import fingerprint, lookup

KEY = base64.b64encode(b"a key").decode()
OTHER = base64.b64encode(b"another").decode()


def hashed(name: str) -> str:
    salt = b"salt"
    digest = hmac.digest(salt, name.encode(), hashlib.sha1)
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


@pytest.mark.parametrize(
    ("patterns", "host", "port", "known"),
    [
        ("h.example", "h.example", 22, True),
        ("H.Example", "h.example", 22, True),
        ("h.example", "h.example", 2222, False),
        ("[h.example]:2222", "h.example", 2222, True),
        ("a,h.example,b", "h.example", 22, True),
        ("*.example", "h.example", 22, True),
        ("h?example", "h.example", 22, True),
        ("*.example,!h.example", "h.example", 22, False),
        ("h.exampl", "h.example", 22, False),
        ("hxexample", "h.example", 22, False),
        (hashed("h.example"), "h.example", 22, True),
        (hashed("[h.example]:2222"), "h.example", 2222, True),
        (hashed("x"), "h.example", 22, False),
        ("|1|!|!", "h.example", 22, False),
        ("|2|a|b", "h.example", 22, False),
    ],
)
def test_a_line_names_hosts(patterns: str, host: str, port: int, known: bool) -> None:
    found = lookup(f"# comment\n\n{patterns} ssh-ed25519 {KEY} a comment\n", host, port)
    assert found.accepted == (frozenset({("ssh-ed25519", b"a key")}) if known else frozenset())


def test_revoked_keys_are_reported_and_authorities_passed_over() -> None:
    found = lookup(
        f"@revoked * ssh-rsa {KEY}\n@cert-authority * ssh-rsa {OTHER}\nh ssh-rsa {KEY}\nh ssh-rsa !\n", "h", 22
    )
    assert found.revoked == {b"a key"}
    assert found.accepted == {("ssh-rsa", b"a key")}
    assert found.types == {"ssh-rsa"}
    assert found.has_authority
    assert not lookup(f"@cert-authority other ssh-rsa {OTHER}\nh ssh-rsa {KEY}\n", "h", 22).has_authority


def test_the_fingerprint_is_that_of_ssh_keygen() -> None:
    assert fingerprint(b"") == "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"


@given(st.text() | st.lists(st.sampled_from(["*", "?", "!", "|1|", "h", ",", " ", KEY, "\n", "@revoked"])).map("".join))
def test_any_text_is_read(text: str) -> None:
    lookup(text, "host.example", 22)


def test_many_stars_do_not_take_long() -> None:
    lookup("*" * 10_000 + "a ssh-rsa " + KEY + "\n" + "*a" * 20 + "b ssh-rsa " + KEY, "a" * 60, 22)
