"""Files that are small and want to be large, and wrapped data keys that are none."""

from __future__ import annotations

import base64
import itertools
import string
import zlib
from collections.abc import Mapping
from typing import Any

from hostile import files
from hostile.case import OPENS, Case, Documents, tenants_pgp
from hostile.lab import Lab

from jiemi.core.content.formats import Format

MEBIBYTE = 1024 * 1024
SMALL: Mapping[str, Any] = {"decrypt_cpu_seconds": 2}
"""The bounds that a bomb is to meet here, so that it costs this machine little."""

PATIENT: Mapping[str, Any] = {"key_service_timeout_seconds": 30}


def _small(_: Lab) -> Mapping[str, Any]:
    return SMALL


def _patient(_: Lab) -> Mapping[str, Any]:
    return PATIENT


def laughs(levels: int = 9) -> bytes:
    """10 to the power of `levels` nulls by aliases."""
    lines = [b"l0: &l0 null\n"]
    lines += [b"l%d: &l%d [%s]\n" % (n, n, b",".join([b"*l%d" % (n - 1)] * 10)) for n in range(1, levels + 1)]
    return b"".join(lines)


def _names(count: int) -> list[str]:
    found = itertools.product(string.ascii_lowercase, repeat=4)
    return ["k" + "".join(each) for each in itertools.islice(found, count)]


def _json_and(lab: Lab, more: bytes) -> bytes:
    sealed = files.seal_documents([lab.tree], lab.data_key)
    whole = files.as_json({**sealed.documents[0], "sops": files.block(sealed, lab.for_age)})
    return whole.rstrip()[:-1] + more + b"}"


def _nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def _grown(lab: Lab) -> bytes:
    """One value of a megabyte, twenty times by aliases: all elements of a list have one path."""
    sealed = files.seal_documents([{"a": ["x" * 1_000_000] * 20}], lab.data_key)
    one = sealed.documents[0]["a"][0]
    return f'"a": [&x "{one}"{", *x" * 19}]\n'.encode() + files.as_yaml({"sops": files.block(sealed, lab.for_age)})


def _number(lab: Lab) -> bytes:
    sealed = files.seal_documents(
        [{"a": lab.plain, "n": files.Raw("NUMBER")}], lab.data_key, encrypted=lambda path: path == ("a",)
    )
    block = files.block(sealed, lab.for_age, encrypted_regex="^a$")
    return files.as_yaml({**sealed.documents[0], "sops": block}).replace(b'"NUMBER"', b"9" * 100_000)


def _regex(rule: str, pattern: str, values: int) -> Any:
    def make(lab: Lab) -> bytes:
        return lab.file(**{rule: pattern}) + b"".join(b'a%d: ""\n' % number for number in range(values))

    return make


def _bomb(name: str, tries: str, file: Any, gets: str = "LimitExceeded", **more: Any) -> Case:
    return Case(name=name, tries=tries, file=file, gets=gets, **more)


def _secret_is_there(lab: Lab, documents: Documents) -> None:
    [document] = documents
    assert document["stringData"] == {"password": lab.plain, "user": "someone"}


SIZES = (
    _bomb("laughs", "a billion values by aliases", lambda lab: lab.file() + laughs(), "UnknownFormat"),
    _bomb(
        "laughs-in-a-second-document",
        "the same in a second document, where sops's parser does not count aliases",
        lambda lab: lab.file() + b"---\n" + laughs(),
        settings=_small,
    ),
    _bomb(
        "alias-of-itself-in-a-second-document",
        "a list that holds itself in a second document, which sops follows until its stack ends",
        lambda lab: lab.file() + b"---\nr: &r [*r]\n",
        "LimitExceeded",
    ),
    _bomb(
        "keys",
        "400,000 names in one mapping, which sops's parser compares each with each",
        lambda lab: lab.file() + b"d: {" + ",".join(_names(400_000)).encode() + b"}\n",
        settings=_small,
    ),
    _bomb(
        "nulls-json",
        "490,000 nulls in lists of lists, which cost sops little",
        lambda lab: _json_and(lab, b',"d":[' + b",".join([b"[" + b",".join([b"null"] * 700) + b"]"] * 700) + b"]"),
        format=Format.JSON,
    ),
    _bomb(
        "keys-json",
        "250,000 names in JSON, which sops joins one by one",
        lambda lab: _json_and(
            lab, b',"d":{' + b",".join(b'"%s":null' % each.encode() for each in _names(250_000)) + b"}"
        ),
        format=Format.JSON,
        settings=_small,
    ),
    _bomb("documents", "2,000 documents", lambda lab: lab.file() + b"---\na: null\n" * 1_999),
    _bomb("depth-200", "200 levels", lambda lab: lab.file() + b"d: " + _nested(200) + b"\n"),
    _bomb(
        "depth-9000",
        "9,000 levels, which sops's indentation makes 80 MB of",
        lambda lab: lab.file() + b"d: " + _nested(9_000) + b"\n",
    ),
    _bomb("depth-20000", "20,000 levels", lambda lab: lab.file() + b"d: " + _nested(20_000) + b"\n", "UnknownFormat"),
    _bomb(
        "depth-200-json", "200 levels in JSON", lambda lab: _json_and(lab, b',"d":' + _nested(200)), format=Format.JSON
    ),
    _bomb(
        "depth-20000-json",
        "20,000 levels in JSON",
        lambda lab: _json_and(lab, b',"d":' + _nested(20_000)),
        "UnknownFormat",
        format=Format.JSON,
    ),
    _bomb("growth", "a value of a megabyte twenty times by aliases", _grown),
    _bomb("number", "a number of 100,000 digits that is not encrypted", _number, "MacMismatch"),
    _bomb(
        "regex-backtracking",
        "an `encrypted_regex` that takes other engines than Go's for ever",
        _regex("encrypted_regex", "(a+)+" * 200 + "$", 0),
        "MacMismatch",
    ),
    _bomb(
        "regex-large",
        "a regex of 900 parts that sops compiles again for each of 20,000 names",
        _regex("unencrypted_regex", "[a-z]?" * 900 + "z", 20_000),
        settings=_small,
    ),
    _bomb(
        "regex-repetition",
        "a regex with a repetition of repetitions",
        _regex("unencrypted_regex", "((x{100}){100}){100}", 100),
        OPENS,
        so="Go refuses the regex, and sops goes on without it",
        opened=_secret_is_there,
    ),
)


def age_file(stanzas: bytes) -> bytes:
    """An age file with these stanzas, whose MAC and content are zeros (https://age-encryption.org/v1)."""
    return b"age-encryption.org/v1\n" + stanzas + b"--- " + _unpadded(bytes(32)) + b"\n" + bytes(60)


def _unpadded(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


def _armored(kind: str, data: bytes) -> str:
    text = base64.b64encode(data).decode()
    lines = "\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    return f"-----BEGIN {kind}-----\n" + ("\n" if "PGP" in kind else "") + f"{lines}\n-----END {kind}-----\n"


def _age(stanzas: bytes) -> Any:
    return lambda lab: lab.asks_age(_armored("AGE ENCRYPTED FILE", age_file(stanzas)))


def _stanza(*words: bytes, body: bytes = b"") -> bytes:
    return b"-> " + b" ".join(words) + b"\n" + _unpadded(body) + b"\n"


def pgp_bomb(gibibytes: int) -> str:
    """An OpenPGP message (RFC 9580) of zeros, compressed twice to a few kilobytes. gpg opens it, though it is not
    encrypted."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = squeeze.compress(b"\xafb\0" + bytes(4)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    block = squeeze.compress(bytes(64 * MEBIBYTE)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    inner = b"\xa3\x01" + head + block * (16 * gibibytes) + squeeze.flush()
    outer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return _armored("PGP MESSAGE", b"\xa3\x01" + outer.compress(inner) + outer.flush())


WRAPPED = (
    _bomb(
        "wrapped-too-long", "a wrapped data key of 16 KiB and a byte", lambda lab: lab.asks_age("x" * (16 * 1024 + 1))
    ),
    _bomb("wrapped-300-kib", "a wrapped data key of 300 KiB", lambda lab: lab.asks_age("x" * 300_000)),
    _bomb("wrapped-empty", "an empty wrapped data key", lambda lab: lab.asks_age(""), "KeyMissing"),
    _bomb(
        "age-million-stanzas",
        "an age file with 500,000 stanzas",
        lambda lab: lab.asks_age(age_file(b"-> a\n\n" * 500_000).decode("latin-1")),
    ),
    _bomb("age-6000-stanzas", "an age file with 6,000 stanzas", _age(b"-> a\n\n" * 6_000)),
    _bomb(
        "age-450-recipients",
        "an age file with 450 X25519 recipients, each of which costs the holder a multiplication",
        _age(b"".join(_stanza(b"X25519", _unpadded(bytes([n % 250 + 1] * 32)), body=bytes(32)) for n in range(450))),
        "LimitExceeded",
    ),
    _bomb(
        "age-scrypt",
        "an age file for a passphrase, with a work factor of 2^30",
        _age(_stanza(b"scrypt", _unpadded(bytes(16)), b"30", body=bytes(32))),
        "KeyMissing",
    ),
    _bomb("age-plugin", "an age file for a plugin", _age(_stanza(b"evil", b"AAAA")), "KeyMissing"),
    _bomb(
        "age-plugin-recipient",
        "a recipient of a plugin, whose name is a path",
        lambda lab: lab.asks_age(files.age_wrap(lab.data_key, lab.other_recipient), "age1../../../bin/sh1qqqqqqqqqq"),
        "KeyMissing",
    ),
    _bomb(
        "age-ssh-recipient",
        "a recipient that is an ssh key",
        lambda lab: lab.asks_age(
            files.age_wrap(lab.data_key, lab.other_recipient), "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA"
        ),
        "KeyMissing",
    ),
    _bomb(
        "age-long-payload",
        "8,000 bytes where a data key should be, for age",
        lambda lab: lab.asks_age(files.age_wrap(bytes(8_000), lab.age_recipient)),
        "KeyMissing",
    ),
    _bomb(
        "pgp-bomb",
        "a pgp message of 12 KiB that unpacks to 4 GiB",
        lambda lab: lab.asks_pgp(pgp_bomb(4)),
        keys=tenants_pgp,
        settings=_patient,
    ),
    _bomb(
        "pgp-300-kib",
        "an e-mail of 300 KiB that was encrypted to the tenant's pgp key",
        lambda lab: lab.asks_pgp(lab.gpg.encrypt(bytes(300 * 1024))),
        "KeyMissing",
        keys=tenants_pgp,
    ),
    _bomb(
        "pgp-mail",
        "an e-mail that was encrypted to the tenant's pgp key",
        lambda lab: lab.asks_pgp(lab.gpg.encrypt(b"Dear tenant, the password is " + lab.plain.encode())),
        "KeyMissing",
        keys=tenants_pgp,
    ),
    _bomb(
        "pgp-passphrase",
        "a pgp message for a passphrase, for which gpg would ask",
        lambda lab: lab.asks_pgp(
            lab.gpg("--pinentry-mode", "loopback", "--passphrase", "x", "--symmetric", stdin=lab.data_key).decode()
        ),
        "KeyMissing",
        keys=tenants_pgp,
    ),
    _bomb(
        "pgp-signed",
        "a pgp message that a stranger signed and nobody encrypted",
        lambda lab: lab.asks_pgp(lab.gpg.sign(lab.data_key)),
        "KeyMissing",
        keys=tenants_pgp,
    ),
    _bomb(
        "pgp-plain",
        "a pgp message that nobody encrypted",
        lambda lab: lab.asks_pgp(lab.gpg("--store", stdin=lab.data_key).decode()),
        OPENS,
        so="its data key is public, as the file's writer wanted it",
        keys=tenants_pgp,
    ),
    _bomb(
        "pgp-no-message",
        "a text where a pgp message should be",
        lambda lab: lab.asks_pgp("-----BEGIN PGP"),
        "KeyMissing",
        keys=tenants_pgp,
    ),
    *(
        _bomb(
            f"data-key-of-{size}",
            f"{size} bytes in place of a data key",
            lambda lab, size=size: lab.asks_age(files.age_wrap(b"s" * size, lab.age_recipient)),
            "KeyMissing",
        )
        for size in (0, 31, 34)
    ),
    _bomb(
        "data-key-of-33",
        "33 bytes, which only a part of a divided data key has",
        lambda lab: lab.asks_age(files.age_wrap(b"s" * 33, lab.age_recipient)),
        "MacMismatch",
    ),
    _bomb(
        "another-secret-of-32-bytes",
        "another secret of 32 bytes that was encrypted to the tenant",
        lambda lab: lab.asks_pgp(lab.gpg.encrypt(b"s" * 32)),
        "MacMismatch",
        keys=tenants_pgp,
    ),
    _bomb(
        "another-tenants-data-key",
        "the wrapped data key of another tenant's file",
        lambda lab: lab.asks_age(files.age_wrap(lab.data_key, lab.other_recipient)),
        "KeyMissing",
    ),
    _bomb(
        "another-tenants-file",
        "another tenant's whole file",
        lambda lab: lab.other_file,
        "KeyMissing",
    ),
)

CASES = (*SIZES, *WRAPPED)
