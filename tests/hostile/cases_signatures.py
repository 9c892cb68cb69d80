"""Commits, tags and public keys of somebody who may push, or fill the Secret, and may not sign."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from hostile.case import Refusal
from hostile.workshop import Workshop
from support.krapao.pgp_keys import run_gpg
from support.signing.forged import BOMB, armored, line, mpint, packet, sshsig, string
from support.signing.signers import PgpSigner, certify, pgp_signer, raw_object

from jiemi.rpc.verification import PublicKeys, SignatureKind, VerifyMode

Keys = Callable[[Workshop], tuple[PublicKeys, ...]]
PGP, SSH = SignatureKind.PGP, SignatureKind.SSH
COMMIT, TAG, TAG_AND_COMMIT = VerifyMode.COMMIT, VerifyMode.TAG, VerifyMode.TAG_AND_COMMIT


@attrs.frozen(kw_only=True)
class SignedCase(Refusal):
    """A row.

    Attributes:
        make: makes the newest commit, or moves tags; gives the public keys where they are others than ann's or bob's.
        kind, mode, policy: what must be signed, and what else is wanted.
        ref: what is followed.
    """

    make: Callable[[Workshop], tuple[PublicKeys, ...] | None]
    kind: SignatureKind = SSH
    mode: VerifyMode = COMMIT
    policy: Mapping[str, Any] = attrs.field(factory=dict)
    ref: Mapping[str, Any] = attrs.field(factory=lambda: {"branch": "main"})


def _signed(then: Callable[[Workshop], None]) -> Callable[[Workshop], None]:
    """What is done to a commit that ann signed."""

    def make(shop: Workshop) -> None:
        shop.commit(shop.signers.ann)
        then(shop)

    return make


def _raw(change: Callable[[bytes], bytes]) -> Callable[[Workshop], None]:
    return _signed(lambda shop: shop.put(change(shop.raw)))


def _unsigned(then: Callable[[Workshop], None]) -> Callable[[Workshop], None]:
    def make(shop: Workshop) -> None:
        shop.commit(None)
        then(shop)

    return make


def _of_another_commit(shop: Workshop) -> None:
    other = shop.signature  # the commit that is trusted already
    shop.commit(None)
    shop.put_signature(other)


def _for_a_file(shop: Workshop) -> None:
    shop.put_signature(shop.signed_by_ann(shop.payload, "file"))


def _in_the_message(shop: Workshop) -> None:
    header = b"\n".join(b" " + each for each in shop.signature.splitlines())
    shop.commit(None)
    head, _, rest = shop.raw.partition(b"\n\n")
    shop.put(head + b"\n\ngpgsig" + header + b"\n\n" + rest)


def _merged_unsigned(shop: Workshop) -> None:
    shop.work.git("checkout", "--quiet", "-b", "side")
    shop.commit(shop.signers.ann, "-m", "on the side")
    shop.work.git("checkout", "--quiet", "main")
    shop.commit(shop.signers.ann)
    shop.work.git("merge", "--quiet", "--no-ff", "-m", "merge", "side")


def _on_top(shop: Workshop) -> None:
    shop.commit(shop.signers.ann)
    shop.commit(None)


def _as_ann(shop: Workshop) -> None:
    shop.commit(shop.signers.eve, "--author", "ann <ann@example.com>")


def _two_authors(shop: Workshop) -> None:
    shop.commit(None)
    author = next(each for each in shop.raw.split(b"\n") if each.startswith(b"author "))
    other = author.replace(b"a@example.com", b"eve@example.com")
    payload = shop.raw.replace(author, author + b"\n" + other, 1)
    _put_signed(shop, payload)


def _put_signed(shop: Workshop, payload: bytes) -> None:
    """A commit of any payload with a good signature of ann's."""
    header = b"gpgsig " + shop.signed_by_ann(payload).strip(b"\n").replace(b"\n", b"\n ") + b"\n"
    head, _, rest = payload.partition(b"\n\n")
    shop.put(head + b"\n" + header + b"\n" + rest)


def _by_rsa(
    algorithm: bytes, hash: hashes.HashAlgorithm, *, bits: int = 2048, over: bytes = b"sha512", more: bytes = b""
) -> Callable[[Workshop], tuple[PublicKeys, ...]]:
    """Signed by an RSA key that is trusted."""

    def make(shop: Workshop) -> tuple[PublicKeys, ...]:
        private = rsa.generate_private_key(public_exponent=65537, key_size=bits)
        numbers = private.public_key().public_numbers()
        key = string(b"ssh-rsa") + mpint(numbers.e) + mpint(numbers.n)

        def sign(message: bytes) -> bytes:
            return string(algorithm) + string(private.sign(message, padding.PKCS1v15(), hash)) + more

        shop.commit(None)
        shop.put_signature(sshsig(key, sign, shop.payload, hash=over))
        return shop.allowed(line(b"ssh-rsa", key))

    return make


def _untouched(shop: Workshop) -> tuple[PublicKeys, ...]:
    """A hardware key that says of itself that nobody touched it."""
    import hashlib

    private, application = ed25519.Ed25519PrivateKey.generate(), b"ssh:"
    kind, after = b"sk-ssh-ed25519@openssh.com", b"\0" + (7).to_bytes(4)
    key = string(kind) + string(private.public_key().public_bytes_raw()) + string(application)

    def sign(message: bytes) -> bytes:
        hashed = hashlib.sha256(application).digest() + after + hashlib.sha256(message).digest()
        return string(kind) + string(private.sign(hashed)) + after

    shop.commit(None)
    shop.put_signature(sshsig(key, sign, shop.payload))
    return shop.allowed(line(kind, key))


def _by_a_certificate(shop: Workshop) -> tuple[PublicKeys, ...]:
    certificate = base64.b64decode(certify(shop.signers.eve, shop.signers.ann))
    shop.commit(None)
    shop.put_signature(sshsig(certificate, lambda _: string(b"ssh-ed25519") + string(bytes(64)), shop.payload))
    return shop.allowed(f"* cert-authority {shop.signers.ann.line}", f"ann {shop.signers.ann.line}")


def _earlier(shop: Workshop) -> tuple[PublicKeys, ...]:
    shop.commit(None)
    _put_signed(
        shop, shop.raw.replace(b" +0000\n\n", b" +0000\n\n").replace(shop.raw.split(b"> ")[1][:10], b"1500000000")
    )
    return shop.allowed(f'ann valid-before="20200101Z" {shop.signers.ann.line}')


def _only_for_files(shop: Workshop) -> tuple[PublicKeys, ...]:
    shop.commit(shop.signers.ann)
    return shop.allowed(f'ann namespaces="file" {shop.signers.ann.line}')


def _headers(make: Callable[[bytes], bytes]) -> Callable[[Workshop], None]:
    """Headers made of one signature's."""
    some = b"gpgsig -----BEGIN SSH SIGNATURE-----\n " + b"A" * 70 + b"\n -----END SSH SIGNATURE-----\n"

    def then(shop: Workshop) -> None:
        head, _, rest = shop.raw.partition(b"\n\n")
        shop.put(head + b"\n" + make(some) + b"\n" + rest)

    return _unsigned(then)


def _twice(raw: bytes) -> bytes:
    begin = raw.index(b"gpgsig ")
    end = raw.index(b"\n", raw.index(b"-----END SSH SIGNATURE-----")) + 1
    return raw[:end] + raw[begin:end] + raw[end:]


def _ssh(name: str, tries: str, make: Callable[[Workshop], Any], gets: str, says: str = "", **more: Any) -> SignedCase:
    return SignedCase(name=f"ssh-{name}", tries=tries, make=make, gets=gets, says=says, **more)


SSH_CASES: Sequence[SignedCase] = (
    _ssh("none", "no signature", lambda shop: shop.commit(None), "SignatureMissing"),
    _ssh(
        "stranger",
        "one by a key that is not in the Secret",
        lambda shop: shop.commit(shop.signers.eve),
        "SignerUnknown",
    ),
    _ssh(
        "pgp",
        "one of the other kind, by somebody trusted",
        lambda shop: shop.commit(shop.signers.bob),
        "SignatureInvalid",
    ),
    _ssh("other-commit", "that of another commit", _of_another_commit, "SignatureInvalid", "does not match"),
    _ssh("file", "that of a file (another namespace)", _unsigned(_for_a_file), "SignatureInvalid", "another namespace"),
    _ssh("in-the-message", "one in the message", _in_the_message, "SignatureMissing"),
    _ssh("on-top", "a commit without one on top of a signed one", _on_top, "SignatureMissing"),
    _ssh("merge", "a merge without one, of two signed commits", _merged_unsigned, "SignatureMissing"),
    _ssh("message", "a changed message", _raw(lambda raw: raw.replace(b"message", b"massage")), "SignatureInvalid"),
    _ssh("space", "a space more at the message's end", _raw(lambda raw: raw + b" "), "SignatureInvalid"),
    _ssh(
        "author",
        "a changed author",
        _raw(lambda raw: raw.replace(b"a@example.com", b"b@example.com", 1)),
        "SignatureInvalid",
    ),
    _ssh(
        "parent",
        "a parent fewer",
        _raw(lambda raw: raw.replace(raw[raw.index(b"parent ") :][:48], b"", 1)),
        "SignatureInvalid",
    ),
    _ssh(
        "header",
        "a further header",
        _raw(lambda raw: raw.replace(b"\n\n", b"\nHG:extra something\n\n", 1)),
        "SignatureInvalid",
    ),
    _ssh("twice", "the signature twice", _raw(_twice), "SignatureInvalid"),
    _ssh(
        "thousand", "a thousand signatures", _headers(lambda some: some * 1_000), "SignatureInvalid", "1000 signatures"
    ),
    _ssh(
        "large",
        "a signature of megabytes",
        _headers(lambda some: some.replace(b"\n A", b"\n A" * 40_000)),
        "SignatureInvalid",
        "65536 at most",
    ),
    _ssh("many-headers", "200,000 other headers", _headers(lambda some: b"x y\n" * 200_000 + some), "SignatureInvalid"),
    _ssh(
        "no-end",
        "a signature without an end",
        _signed(lambda shop: shop.put_signature(shop.signature.partition(b"-----END")[0])),
        "SignatureInvalid",
    ),
    _ssh(
        "cut",
        "one that lacks a line",
        _signed(
            lambda shop: shop.put_signature(
                b"\n".join(shop.signature.split(b"\n")[:2] + shop.signature.split(b"\n")[3:])
            )
        ),
        "SignatureInvalid",
    ),
    _ssh(
        "rubbish",
        "rubbish in its armor",
        _unsigned(
            lambda shop: shop.put_signature(
                b"-----BEGIN SSH SIGNATURE-----\n"
                + base64.encodebytes(os.urandom(300))
                + b"-----END SSH SIGNATURE-----\n"
            )
        ),
        "SignatureInvalid",
    ),
    _ssh(
        "sha256-header",
        "the signature as that of another hash (`gpgsig-sha256`)",
        _raw(lambda raw: raw.replace(b"gpgsig ", b"gpgsig-sha256 ", 1)),
        "SignatureMissing",
    ),
    _ssh("sha1", "RSA over SHA-1", _by_rsa(b"ssh-rsa", hashes.SHA1()), "SignatureInvalid", "SHA-1"),  # noqa: S303 - refused
    _ssh(
        "sha1-message",
        "the message hashed by SHA-1",
        _by_rsa(b"rsa-sha2-256", hashes.SHA256(), over=b"sha1"),
        "SignatureInvalid",
        "neither sha256 nor sha512",
    ),
    _ssh(
        "behind",
        "a byte behind the signature's end",
        _by_rsa(b"rsa-sha2-256", hashes.SHA256(), more=b"x"),
        "SignatureInvalid",
        "behind its end",
    ),
    _ssh(
        "algorithm",
        "an RSA signature that says it is Ed25519",
        _by_rsa(b"ssh-ed25519", hashes.SHA256()),
        "SignatureInvalid",
    ),
    _ssh(
        "short-key",
        "RSA of 1,024 bits",
        _by_rsa(b"rsa-sha2-256", hashes.SHA256(), bits=1024),
        "VerificationKeysInvalid",
        "1024 bits",
    ),
    _ssh("untouched", "a security key that nobody touched", _untouched, "SignatureInvalid", "nobody touched"),
    _ssh(
        "certificate", "a certificate of an authority that is listed", _by_a_certificate, "SignerUnknown", "certificate"
    ),
    _ssh("earlier", "a key that is no longer valid, with a commit that says it is older", _earlier, "SignerExpired"),
    _ssh("only-files", "a key that may sign files only", _only_for_files, "SignerUnknown"),
    _ssh("author-spoofed", "a trusted author's name, signed by a stranger", _as_ann, "SignerUnknown"),
    _ssh(
        "author-other",
        "a good signature, and an author who is not listed",
        lambda shop: shop.commit(shop.signers.ann, "--author", "eve <eve@example.com>"),
        "SignerNotAllowed",
        policy={"authors": ("a@example.com",)},
    ),
    _ssh(
        "author-alike",
        "an author whose address only looks like a listed one",
        lambda shop: shop.commit(shop.signers.ann, "--author", "a <\u0430@example.com>"),
        "SignerNotAllowed",
        policy={"authors": ("a@example.com",)},
    ),
    _ssh(
        "authors-two",
        "two authors, of whom one is listed",
        _two_authors,
        "SignatureInvalid",
        policy={"authors": ("a@example.com",)},
    ),
    _ssh(
        "second-name",
        "the second signer's name on a key of the first's",
        lambda shop: shop.commit(shop.signers.ann, "--author", "bob <bob@example.com>"),
        "TooFewSigners",
        policy={"minimum_signers": 2},
    ),
)


def _pgp(change: Callable[[bytes], bytes]) -> Callable[[Workshop], None]:
    """What is put in the place of a signature of bob's."""

    def make(shop: Workshop) -> None:
        shop.commit(shop.signers.bob)
        shop.put_signature(change(shop.packets))

    return make


def _by_gpg(shop: Workshop, signer: PgpSigner, *options: str) -> tuple[PublicKeys, ...]:
    """Signed by a gpg with options."""
    signer.configure(shop.work)
    text = f'exec gpg --homedir {shop.signers.home} --batch --pinentry-mode loopback {" ".join(options)} "$@"'
    shop.work.git("config", "gpg.program", shop.program("gpg-with-options", text))
    shop.work.git("commit", "--quiet", "--allow-empty", "-S", "-m", "message")
    return (PublicKeys("key.asc", signer.public),)


def _expired(shop: Workshop) -> tuple[PublicKeys, ...]:
    home, clock = shop.signers.home, ("--faked-system-time", "20200101T000000!")
    run_gpg(home, "", *clock, "--quick-gen-key", "past <past@x.invalid>", "ed25519", "sign", "1d")
    listed = run_gpg(home, "", "--with-colons", "--list-keys", "past@x.invalid").splitlines()
    fingerprint = next(each.split(":")[9] for each in listed if each.startswith("fpr"))
    return _by_gpg(shop, PgpSigner(home, fingerprint), *clock)


def _revoked(shop: Workshop) -> tuple[PublicKeys, ...]:
    signer = pgp_signer(shop.signers.home, "revoked")
    _by_gpg(shop, signer)
    certificate = (shop.signers.home / "openpgp-revocs.d" / f"{signer.fingerprint}.rev").read_text()
    run_gpg(shop.signers.home, "", "--import", input=certificate[certificate.index(":-----BEGIN") + 1 :])
    return (PublicKeys("key.asc", signer.public),)


def _by_two(shop: Workshop) -> tuple[PublicKeys, ...]:
    one, two = shop.signers.bob, shop.signers.mallory
    one.configure(shop.work)
    text = f"exec gpg --homedir {one.home} --batch --status-fd=2 -u {one.fingerprint} -u {two.fingerprint} -b -a -s"
    shop.work.git("config", "gpg.program", shop.program("gpg-twice", text))
    shop.work.git("commit", "--quiet", "--allow-empty", "-S", "-m", "message")
    return tuple(PublicKeys(f"{number}.asc", each.public) for number, each in enumerate((one, two)))


def _by_pgp(name: str, tries: str, make: Callable[[Workshop], Any], gets: str, says: str = "") -> SignedCase:
    return SignedCase(name=f"pgpsig-{name}", tries=tries, make=make, kind=PGP, gets=gets, says=says)


def _in_place(name: str, tries: str, change: Callable[[bytes], bytes], gets: str = "SignatureInvalid") -> SignedCase:
    return _by_pgp(name, tries, _pgp(change), gets)


_CLEAR = b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\nx\n"
PGP_CASES: Sequence[SignedCase] = (
    _by_pgp(
        "stranger",
        "a signature by a key that is not in the Secret",
        lambda shop: shop.commit(shop.signers.mallory),
        "SignerUnknown",
    ),
    _by_pgp(
        "ssh",
        "one of the other kind, by somebody trusted",
        lambda shop: shop.commit(shop.signers.ann),
        "SignatureInvalid",
    ),
    _by_pgp("expired", "a key that has expired, with a clock that was set back", _expired, "SignerExpired"),
    _by_pgp("revoked", "a key that is revoked", _revoked, "SignerRevoked"),
    _by_pgp(
        "sha1",
        "a signature over SHA-1",
        lambda shop: _by_gpg(shop, shop.signers.bob, "--digest-algo SHA1"),
        "SignatureInvalid",
        "weak hash",
    ),
    _by_pgp("two", "one signature by two keys that are trusted", _by_two, "SignatureInvalid", "2 pgp signatures"),
    _in_place("bomb", "a compressed bomb", lambda _: armored(BOMB)),
    _in_place("bomb-behind", "a bomb behind it", lambda good: armored(good + BOMB)),
    _in_place("message-kind", "an OpenPGP message", lambda good: armored(good, "PGP MESSAGE")),
    _in_place("literal", "a text of its own before it", lambda good: armored(packet(11, b"b\0\0\0\0\0x") + good)),
    _in_place("twice", "the signature twice", lambda good: armored(good + good)),
    _in_place("thousand", "a thousand of them", lambda good: armored(good) * 1_000),
    _in_place("key", "a key behind it", lambda good: armored(good + packet(6, b"x" * 100))),
    _in_place("no-end", "a signature without an end", lambda good: armored(good).partition(b"-----END")[0]),
    _in_place("cut", "one that is cut", lambda good: armored(good[:-5])),
    _in_place("nothing", "armor with nothing in it", lambda _: armored(b"")),
    _in_place("rubbish", "rubbish in armor", lambda _: armored(os.urandom(500))),
    _in_place("clear", "a clear-signed text", lambda good: _CLEAR + armored(good)),
    _in_place("large", "a signature of a megabyte", lambda good: armored(good + packet(2, b"x" * 700_000))),
    _in_place("text", "the signature of a text", lambda good: armored(good.replace(good[5:6], b"\x01", 1))),
)


def _tagged(make: Callable[[Workshop], None]) -> Callable[[Workshop], None]:
    """What is done once v1, which ann signed, is there."""

    def then(shop: Workshop) -> None:
        shop.commit(shop.signers.ann)
        make(shop)

    return then


def _other_name(shop: Workshop) -> None:
    shop.tag(shop.signers.ann, "v0")
    shop.move("refs/tags/v1", shop.work.git("rev-parse", "v0"))


def _tag_raw(change: Callable[[bytes, Workshop], bytes]) -> Callable[[Workshop], None]:
    def then(shop: Workshop) -> None:
        shop.tag(shop.signers.ann, "v1")
        shop.put_tag("v1", change(raw_object(shop.work, "tag", "v1"), shop))

    return _tagged(then)


def _to_another_commit(raw: bytes, shop: Workshop) -> bytes:
    before = shop.work.git("rev-parse", "HEAD").encode()
    shop.commit(shop.signers.ann)
    return raw.replace(before, shop.work.git("rev-parse", "HEAD").encode())


def _of_tags(shop: Workshop) -> None:
    shop.tag(shop.signers.ann, "v1")
    for _ in range(12):
        shop.tag(shop.signers.ann, "v1", "v1")


def _both(shop: Workshop) -> None:
    shop.commit(None)
    shop.tag(shop.signers.ann, "v1")


def _light(shop: Workshop) -> None:
    shop.work.git("tag", "-f", "v1")


def _tag_signed(name: bytes) -> Callable[[bytes, Workshop], bytes]:
    """A tag that ann signed as it is, with any name in it."""

    def change(raw: bytes, shop: Workshop) -> bytes:
        payload = raw.partition(b"-----BEGIN")[0].replace(b"tag v1\n", b"tag " + name + b"\n")
        return payload + shop.signed_by_ann(payload)

    return change


def _tag(name: str, tries: str, make: Callable[[Workshop], None], gets: str, says: str = "", **more: Any) -> SignedCase:
    given: dict[str, Any] = {"mode": TAG, "ref": {"tag": "v1"}} | more
    return SignedCase(name=f"tag-{name}", tries=tries, make=make, gets=gets, says=says, **given)


TAG_CASES: Sequence[SignedCase] = (
    _tag("light", "a mere name, where a signed tag was", _tagged(_light), "TagRequired"),
    _tag(
        "unsigned",
        "a tag without a signature",
        _tagged(lambda shop: _git(shop, "tag", "-f", "-a", "-m", "x", "v1")),
        "SignatureMissing",
    ),
    _tag(
        "stranger",
        "one that a stranger signed",
        _tagged(lambda shop: shop.tag(shop.signers.eve, "v1")),
        "SignerUnknown",
    ),
    _tag("other-name", "a good tag under another name", _tagged(_other_name), "TagMismatch", "refs/tags/v1"),
    _tag("other-commit", "the tag moved to another commit", _tag_raw(_to_another_commit), "SignatureInvalid"),
    _tag(
        "message",
        "a changed message",
        _tag_raw(lambda raw, _: raw.replace(b"\n\ntag\n", b"\n\ntog\n")),
        "SignatureInvalid",
    ),
    _tag(
        "tagger",
        "a changed tagger",
        _tag_raw(lambda raw, _: raw.replace(b"a@example.com", b"b@example.com")),
        "SignatureInvalid",
    ),
    _tag(
        "header", "a further header", _tag_raw(lambda raw, _: raw.replace(b"\n\n", b"\nx y\n\n", 1)), "SignatureInvalid"
    ),
    _tag("behind", "text behind the signature", _tag_raw(lambda raw, _: raw + b"more\n"), "SignatureInvalid"),
    _tag(
        "twice",
        "the signature twice",
        _tag_raw(lambda raw, _: raw + raw[raw.index(b"-----BEGIN") :]),
        "SignatureInvalid",
    ),
    _tag("line", "a name with a second line in it", _tag_raw(_tag_signed(b"v1\ntag v1")), "SignatureInvalid"),
    _tag("nul", "a name with a NUL and more", _tag_raw(_tag_signed(b"v1\0x")), "TagMismatch"),
    _tag("path", "the full name in place of the short one", _tag_raw(_tag_signed(b"refs/tags/v1")), "TagMismatch"),
    _tag("tags", "tags of tags, thirteen deep", _tagged(_of_tags), "LimitExceeded"),
    _tag(
        "branch",
        "a signed commit where a signed tag is wanted",
        lambda shop: shop.commit(shop.signers.ann),
        "TagRequired",
        ref={"branch": "main"},
    ),
    _tag(
        "commit",
        "a signed tag on a commit without a signature, where both are wanted",
        _both,
        "SignatureMissing",
        mode=TAG_AND_COMMIT,
    ),
)


def _git(shop: Workshop, *arguments: str) -> None:
    shop.work.git(*arguments)


def _keys(
    name: str, tries: str, data: Callable[[Workshop], bytes], entry: str = "key.asc", says: str = ""
) -> SignedCase:
    """A good commit, and a Secret with another entry than the one that signed it."""
    kind = PGP if entry.endswith(".asc") else SSH

    def make(shop: Workshop) -> tuple[PublicKeys, ...]:
        shop.commit(shop.signers.bob if kind is PGP else shop.signers.ann)
        return (PublicKeys(entry, data(shop)),)

    return SignedCase(
        name=f"keys-{name}",
        tries=tries,
        make=make,
        kind=kind,
        gets="VerificationKeysInvalid",
        says=says or f"'{entry}'",
    )


def _private_pgp(shop: Workshop) -> bytes:
    return run_gpg(shop.signers.home, "", "--armor", "--export-secret-keys", shop.signers.bob.fingerprint).encode()


KEY_CASES: Sequence[SignedCase] = (
    _keys("none", "an entry with nothing in it", lambda _: b""),
    _keys("rubbish", "rubbish", lambda _: os.urandom(1_000)),
    _keys("bomb", "a compressed bomb", lambda _: BOMB),
    _keys("signature", "a signature in place of a key", lambda shop: shop.signature),
    _keys("private", "a private key", _private_pgp),
    _keys("ssh-private", "a private key of ssh", lambda shop: shop.signers.ann.path.read_bytes(), "key.pub"),
    _keys("ssh-rubbish", "rubbish in place of ssh's public keys", lambda _: b"\0\xff\n" * 50, "key.pub"),
    _keys(
        "ssh-authority",
        "authorities of certificates only",
        lambda shop: f"* cert-authority {shop.signers.ann.line}".encode(),
        "allowed_signers",
        "cert-authority",
    ),
)
