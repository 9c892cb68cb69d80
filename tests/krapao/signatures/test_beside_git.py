"""Signed by the real git, gpg and ssh-keygen; each verdict beside that of `git verify-commit` and `git verify-tag`."""

from __future__ import annotations

import time
from pathlib import Path

import attrs
import pytest
from krapao.signatures.conftest import Judge
from support.krapao.pgp_keys import run_gpg
from support.krapao.work_tree import Work
from support.signing.signers import (
    PgpSigner,
    git_takes,
    pgp_signer,
    raw_object,
    ssh_signer,
    write_object,
)

from jiemi.core.errors import JiemiError
from jiemi.krapao.signatures.allowed_signers import read_allowed_signers
from jiemi.rpc.verification import PublicKeys, SignatureKind, Verification, VerifyMode


def by_pgp(*signers: PgpSigner, mode: VerifyMode = VerifyMode.COMMIT) -> Verification:
    keys = tuple(PublicKeys(f"{number}.asc", each.public) for number, each in enumerate(signers))
    return Verification(mode, SignatureKind.PGP, keys)


def by_ssh(text: str, mode: VerifyMode = VerifyMode.COMMIT) -> Verification:
    return Verification(mode, SignatureKind.SSH, (PublicKeys("allowed_signers", text.encode()),))


def signed_commit(work: Work, content: str = "x", *options: str) -> str:
    (work.path / "file").write_text(content)
    work.git("add", "--all")
    work.git("commit", "--quiet", "--allow-empty", "-S", "-m", f"message\n\n{content}\n", *options)
    return work.git("rev-parse", "HEAD")


KINDS = [
    ("-t", "ed25519"),
    ("-t", "ecdsa", "-b", "256"),
    ("-t", "ecdsa", "-b", "384"),
    ("-t", "ecdsa", "-b", "521"),
    ("-t", "rsa", "-b", "2048"),
]


@pytest.mark.parametrize("options", KINDS, ids=" ".join)
async def test_a_commit_and_a_tag_that_an_ssh_key_signed_are_verified(
    judge: Judge, work: Work, tmp_path: Path, options: tuple[str, ...]
) -> None:
    ann = ssh_signer(tmp_path, "ann", *options)
    ann.configure(work)
    signed_commit(work)
    work.git("tag", "-s", "v1", "-m", "first")
    allowed = tmp_path / "allowed"
    allowed.write_text(f"ann@example.com {ann.line}\n")
    assert git_takes(work, "verify-commit", "HEAD", allowed=allowed)
    assert git_takes(work, "verify-tag", "v1", allowed=allowed)
    found = await judge.commit(work, by_ssh(allowed.read_text()))
    assert found.commit is not None
    assert (found.commit.name, found.commit.key, found.tag) == ("ann@example.com", ann.fingerprint, None)
    both = await judge.tag(work, by_ssh(allowed.read_text(), VerifyMode.TAG_AND_COMMIT), "v1")
    assert both.tag == both.commit == found.commit
    assert both.ref == "refs/tags/v1"


@pytest.mark.parametrize("kind", ["ed25519", "rsa2048"])
@pytest.mark.parametrize("format", ["sha1", "sha256"])
async def test_a_commit_and_a_tag_that_a_pgp_key_signed_are_verified(
    judge: Judge, tmp_path: Path, gpg_home: Path, kind: str, format: str
) -> None:
    work = Work(tmp_path / "pgp", format)
    bob = pgp_signer(gpg_home, f"bob-{kind}-{format}", kind=kind)
    bob.configure(work)
    signed_commit(work)
    work.git("tag", "-s", "v1", "-m", "first")
    assert git_takes(work, "verify-commit", "HEAD", home=gpg_home)
    assert git_takes(work, "verify-tag", "v1", home=gpg_home)
    both = await judge.tag(work, by_pgp(bob, mode=VerifyMode.TAG_AND_COMMIT), "v1")
    assert both.commit is not None
    assert (both.commit.name, both.commit.key, both.valid_until) == ("0.asc", bob.fingerprint, None)
    assert both.tag == both.commit


async def test_a_merge_of_a_signed_tag_with_an_encoding_and_odd_bytes_is_verified_as_git_does(
    judge: Judge, work: Work, tmp_path: Path
) -> None:
    ann = ssh_signer(tmp_path, "ann")
    ann.configure(work)
    signed_commit(work, "one")
    work.git("checkout", "--quiet", "-b", "side")
    signed_commit(work, "side\r\nwith\r\ncarriage returns\r\n")
    work.git("tag", "-s", "v1", "-m", "-----BEGIN nothing-----\n gpgsig no header\n")
    work.git("checkout", "--quiet", "main")
    work.git("-c", "i18n.commitEncoding=ISO-8859-1", "merge", "--quiet", "--no-ff", "-S", "v1", "-m", "merged ä")
    raw = raw_object(work, "commit", "HEAD")
    assert b"\nmergetag object" in raw
    assert b"\nencoding ISO-8859-1\n" in raw
    allowed = tmp_path / "allowed"
    allowed.write_text(f"ann {ann.line}\n")
    for name in ("HEAD", "side"):
        assert git_takes(work, "verify-commit", name, allowed=allowed)
        assert (await judge.commit(work, by_ssh(allowed.read_text()), name)).commit is not None


def mangled(raw: bytes) -> dict[str, bytes]:
    """A signed commit, changed in ways that no signature covers, or should cover."""
    lines = raw.split(b"\n")
    at = next(index for index, line in enumerate(lines) if line.startswith(b"gpgsig "))
    end = at + 1
    while lines[end].startswith(b" "):
        end += 1
    signature = lines[at:end]
    rest = lines[:at] + lines[end:]

    def with_signature(more: list[bytes], place: int) -> bytes:
        return b"\n".join(rest[:place] + more + rest[place:])

    tree = lines[0].replace(b"tree ", b"tree 0" if lines[0][5:6] != b"0" else b"tree 1")[: len(lines[0])]
    changed = bytearray(raw)
    changed[-2] ^= 1
    return {
        "the message": bytes(changed),
        "a space at the end": raw + b" ",
        "the tree": b"\n".join([tree, *lines[1:]]),
        "the author": raw.replace(b"a@example.com", b"b@example.com", 1),
        "no signature": b"\n".join(rest),
        "twice": with_signature(signature * 2, at),
        "cut": raw.replace(signature[len(signature) // 2] + b"\n", b"", 1),
        "as another hash's": raw.replace(b"gpgsig ", b"gpgsig-sha256 ", 1),
        "a header behind it": with_signature([*signature, b"HG:extra something"], at),
        "a header without a space": raw.replace(b"gpgsig ", b"gpgsig", 1),
    }


@pytest.mark.parametrize("kind", ["ssh", "pgp"])
async def test_what_git_refuses_is_refused_and_what_is_taken_git_takes(
    judge: Judge, work: Work, tmp_path: Path, gpg_home: Path, kind: str
) -> None:
    allowed: Path | None = None
    home: Path | None = None
    if kind == "ssh":
        ann = ssh_signer(tmp_path, "ann")
        ann.configure(work)
        allowed = tmp_path / "allowed"
        allowed.write_text(f"ann {ann.line}\n")
        verification = by_ssh(allowed.read_text())
    else:
        bob = pgp_signer(gpg_home, "bob-mangled")
        bob.configure(work)
        home, verification = gpg_home, by_pgp(bob)
    signed_commit(work, "one")
    signed_commit(work, "two")
    raw = raw_object(work, "commit", "HEAD")
    assert write_object(work, "commit", raw) == work.git("rev-parse", "HEAD")
    cases = mangled(raw)
    # The signature of another commit.
    other = raw_object(work, "commit", "HEAD^")
    cases["of another commit"] = raw.replace(_signature_of(raw), _signature_of(other))
    seen = {}
    for what, data in cases.items():
        name = write_object(work, "commit", data)
        git = git_takes(work, "verify-commit", name, allowed=allowed, home=home)
        said = await judge.refusal(work, verification, name)
        seen[what] = (git, said.partition(":")[0])
    # Of two ssh signatures in one commit git looks at the first: here it is stricter.
    assert {what for what, (git, _) in seen.items() if git} == ({"twice"} if kind == "ssh" else set())
    reasons = {what: reason for what, (_, reason) in seen.items()}
    for missing in ("no signature", "as another hash's", "a header without a space"):
        assert reasons.pop(missing) == "SignatureMissing"
    assert set(reasons.values()) == {"SignatureInvalid"}


def _signature_of(raw: bytes) -> bytes:
    begin = raw.index(b"gpgsig ")
    end = begin
    while True:
        end = raw.index(b"\n", end) + 1
        if raw[end : end + 1] != b" ":
            return raw[begin:end]


async def test_a_key_that_is_not_there_is_named(judge: Judge, work: Work, tmp_path: Path, gpg_home: Path) -> None:
    ann, eve = ssh_signer(tmp_path, "ann"), ssh_signer(tmp_path, "eve")
    eve.configure(work)
    signed_commit(work)
    said = await judge.refusal(work, by_ssh(f"ann {ann.line}\n"))
    assert said.startswith("SignerUnknown: commit ")
    assert eve.fingerprint in said
    bob, mallory = pgp_signer(gpg_home, "bob-known"), pgp_signer(gpg_home, "mallory")
    mallory.configure(work)
    signed_commit(work)
    said = await judge.refusal(work, by_pgp(bob))
    assert said.startswith("SignerUnknown: commit ")
    assert mallory.fingerprint in said
    # Of the other kind.
    assert (await judge.refusal(work, by_ssh(f"ann {ann.line}\n"))).startswith("SignatureInvalid: ")


async def test_revoked_and_expired_pgp_keys_are_refused_as_by_git(
    judge: Judge, work: Work, tmp_path: Path, gpg_home: Path
) -> None:
    old = pgp_signer(gpg_home, "old", expires="seconds=86400")
    old.configure(work)
    kept = old.public
    signed_commit(work)
    found = await judge.commit(work, by_pgp(old))
    assert found.valid_until is not None
    # It is set to have expired: the faked clock lets gpg write that.
    day = "20200101T000000"
    run_gpg(
        gpg_home,
        "",
        "--faked-system-time",
        f"{day}!",
        "--quick-gen-key",
        "past <past@x.invalid>",
        "ed25519",
        "sign",
        "1d",
    )
    listed = run_gpg(gpg_home, "", "--with-colons", "--list-keys", "past@x.invalid").splitlines()
    past = PgpSigner(gpg_home, next(line.split(":")[9] for line in listed if line.startswith("fpr")))
    program = gpg_home / "gpg-in-the-past"
    program.write_text(f'#!/bin/sh\nexec gpg --homedir {gpg_home} --batch --faked-system-time {day}! "$@"\n')
    program.chmod(0o700)
    past.configure(work)
    work.git("config", "gpg.program", str(program))
    signed_commit(work, "past")
    assert not git_takes(work, "verify-commit", "HEAD", home=gpg_home)
    said = await judge.refusal(work, by_pgp(past))
    assert said.startswith("SignerExpired: commit ")
    assert past.fingerprint in said
    revoked = pgp_signer(gpg_home, "revoked")
    revoked.configure(work)
    signed_commit(work, "revoked")
    assert (await judge.commit(work, by_pgp(revoked))).commit is not None
    certificate = (gpg_home / "openpgp-revocs.d" / f"{revoked.fingerprint}.rev").read_text()
    run_gpg(gpg_home, "", "--import", input=certificate[certificate.index(":-----BEGIN") + 1 :])
    assert not git_takes(work, "verify-commit", "HEAD", home=gpg_home)
    said = await judge.refusal(work, by_pgp(revoked))
    assert said.startswith("SignerRevoked: commit ")
    assert kept != b""


async def test_a_signing_subkey_counts_as_its_key_until_it_expires(judge: Judge, work: Work, gpg_home: Path) -> None:
    carol = pgp_signer(gpg_home, "carol")
    run_gpg(gpg_home, "", "--quick-add-key", carol.fingerprint, "ed25519", "sign", "10d")
    carol.configure(work)
    signed_commit(work)
    found = await judge.commit(work, by_pgp(carol))
    assert found.commit is not None
    assert found.commit.key == carol.fingerprint
    assert found.valid_until is not None
    assert 9 * 86_400 < found.valid_until - time.time() < 11 * 86_400


async def test_a_weak_hash_and_a_short_key_are_refused(judge: Judge, work: Work, gpg_home: Path) -> None:
    weak = pgp_signer(gpg_home, "weak")
    weak.configure(work)
    program = gpg_home / "gpg-with-sha1"
    program.write_text(f'#!/bin/sh\nexec gpg --homedir {gpg_home} --batch --digest-algo SHA1 "$@"\n')
    program.chmod(0o700)
    work.git("config", "gpg.program", str(program))
    signed_commit(work)
    assert git_takes(work, "verify-commit", "HEAD", home=gpg_home)  # git takes it: here it is stricter
    assert "weak hash" in await judge.refusal(work, by_pgp(weak))
    short = pgp_signer(gpg_home, "short", kind="rsa1024")
    short.configure(work)
    signed_commit(work)
    assert "1024 bits" in await judge.refusal(work, by_pgp(short))


async def test_two_pgp_signatures_are_refused(judge: Judge, work: Work, gpg_home: Path) -> None:
    one, two = pgp_signer(gpg_home, "one"), pgp_signer(gpg_home, "two")
    one.configure(work)
    program = gpg_home / "gpg-twice"
    users = f"-u {one.fingerprint} -u {two.fingerprint}"
    program.write_text(f"#!/bin/sh\nexec gpg --homedir {gpg_home} --batch --status-fd=2 {users} -b -a -s\n")
    program.chmod(0o700)
    work.git("config", "gpg.program", str(program))
    signed_commit(work)
    assert not git_takes(work, "verify-commit", "HEAD", home=gpg_home)
    assert "2 pgp signatures" in await judge.refusal(work, by_pgp(one, two))


async def test_options_of_allowed_signers_count_as_in_ssh_keygen_or_more(
    judge: Judge, work: Work, tmp_path: Path
) -> None:
    ann = ssh_signer(tmp_path, "ann")
    ann.configure(work)
    signed_commit(work)
    allowed = tmp_path / "allowed"
    cases = {
        f'ann namespaces="git" {ann.line}': "",
        f'ann namespaces="file,git" {ann.line}': "",
        f'ann namespaces="g*" {ann.line}': "",
        f'ann namespaces="file" {ann.line}': "SignerUnknown",
        f'ann namespaces="!git,*" {ann.line}': "SignerUnknown",
        f'ann valid-after="20200101",valid-before="29990101" {ann.line}': "",
        f'ann valid-before="20200101Z" {ann.line}': "SignerExpired",
        f'ann valid-after="29990101000000" {ann.line}': "SignerExpired",
        f'"ann,*@example.com" {ann.line} comment': "",
        f"# nothing\n\nann {ann.line}": "",
        f'ann valid-before="20200101Z" {ann.line}\nann {ann.line}': "",
    }
    for text, reason in cases.items():
        allowed.write_text(f"{text}\n")
        assert git_takes(work, "verify-commit", "HEAD", allowed=allowed) == (not reason), text
        if reason:
            assert (await judge.refusal(work, by_ssh(text))).startswith(f"{reason}: "), text
        else:
            assert (await judge.commit(work, by_ssh(text))).commit is not None


async def test_a_key_that_is_no_longer_valid_can_not_sign_by_writing_an_earlier_date(
    judge: Judge, work: Work, tmp_path: Path
) -> None:
    ann = ssh_signer(tmp_path, "ann")
    ann.configure(work)
    work._env["GIT_COMMITTER_DATE"] = "2019-06-01T00:00:00Z"
    signed_commit(work)
    allowed = tmp_path / "allowed"
    allowed.write_text(f'ann valid-before="20200101Z" {ann.line}\n')
    assert git_takes(work, "verify-commit", "HEAD", allowed=allowed)  # git believes the date: here it is stricter
    assert (await judge.refusal(work, by_ssh(allowed.read_text()))).startswith("SignerExpired: ")


async def test_a_signature_for_another_namespace_is_refused(judge: Judge, work: Work, tmp_path: Path) -> None:
    ann = ssh_signer(tmp_path, "ann")
    program = tmp_path / "sign-a-file"
    program.write_text('#!/bin/sh\nshift 4\nexec ssh-keygen -Y sign -n file "$@"\n')
    program.chmod(0o700)
    ann.configure(work)
    work.git("config", "gpg.ssh.program", str(program))
    signed_commit(work)
    assert b"SSH SIGNATURE" in raw_object(work, "commit", "HEAD")
    allowed = tmp_path / "allowed"
    allowed.write_text(f"ann {ann.line}\n")
    work.git("config", "--unset", "gpg.ssh.program")
    assert not git_takes(work, "verify-commit", "HEAD", allowed=allowed)
    assert "another namespace" in await judge.refusal(work, by_ssh(allowed.read_text()))


async def test_a_tag_counts_under_its_own_name_and_for_its_own_commit_only(
    judge: Judge, work: Work, tmp_path: Path
) -> None:
    ann = ssh_signer(tmp_path, "ann")
    ann.configure(work)
    signed_commit(work, "one")
    work.git("tag", "-s", "v1", "-m", "first")
    work.git("tag", "plain")
    work.git("tag", "-a", "unsigned", "-m", "x")
    work.git("tag", "-s", "outer", "-m", "nested", "v1")
    work.git("update-ref", "refs/tags/v2", work.git("rev-parse", "v1"))
    verification = by_ssh(f"ann {ann.line}\n", VerifyMode.TAG)
    allowed = tmp_path / "allowed"
    allowed.write_text(f"ann {ann.line}\n")
    assert git_takes(work, "verify-tag", "v2", allowed=allowed)  # git does not compare the names
    assert (await judge.refusal(work, verification, "v2", tag=True)).startswith("TagMismatch: tag refs/tags/v2: ")
    assert (await judge.refusal(work, verification, "plain", tag=True)).startswith("TagRequired: ")
    assert (await judge.refusal(work, verification, "unsigned", tag=True)).startswith("SignatureMissing: ")
    assert (await judge.tag(work, verification, "outer")).tag is not None


@pytest.mark.parametrize("kind", ["ssh", "pgp"])
async def test_a_tag_that_git_refuses_is_refused(
    judge: Judge, work: Work, tmp_path: Path, gpg_home: Path, kind: str
) -> None:
    allowed: Path | None = None
    home: Path | None = None
    if kind == "ssh":
        ann = ssh_signer(tmp_path, "ann")
        ann.configure(work)
        allowed = tmp_path / "allowed"
        allowed.write_text(f"ann {ann.line}\n")
        verification = by_ssh(allowed.read_text(), VerifyMode.TAG)
    else:
        bob = pgp_signer(gpg_home, "bob-tags")
        bob.configure(work)
        home, verification = gpg_home, by_pgp(bob, mode=VerifyMode.TAG)
    first = signed_commit(work, "one")
    signed_commit(work, "two")
    work.git("tag", "-s", "v1", "-m", "first")
    work.git("tag", "-s", "v2", "-m", "second")
    good, other = raw_object(work, "tag", "v1"), raw_object(work, "tag", "v2")
    begin = good.index(b"-----BEGIN ")
    newest = work.git("rev-parse", "HEAD").encode()
    cases = {
        "as it is": good,
        "another message": good.replace(b"first", b"thirst"),
        "another commit": good.replace(newest, first.encode()),
        "another tagger": good.replace(b"a@example.com", b"b@example.com"),
        "a header more": good.replace(b"\n\n", b"\nx y\n\n", 1),
        "signature of another tag": good[:begin] + other[other.index(b"-----BEGIN ") :],
        "no signature": good[:begin],
        "text before the signature": good[:begin] + b"more\n" + good[begin:],
        "text behind the signature": good + b"more\n",
        "the signature twice": good + good[begin:],
    }
    taken, reasons = set(), {}
    for what, data in cases.items():
        sha = write_object(work, "tag", data)
        work.git("update-ref", "refs/tags/v1", sha)
        if git_takes(work, "verify-tag", "v1", allowed=allowed, home=home):
            taken.add(what)
        if what == "as it is":
            assert (await judge.tag(work, verification, "v1")).tag is not None
        else:
            reasons[what] = (await judge.refusal(work, verification, "v1", tag=True)).partition(":")[0]
    assert reasons.pop("no signature") == "SignatureMissing"
    assert set(reasons.values()) == {"SignatureInvalid"}
    # Of what stands behind a signature git sees nothing: here it is stricter.
    assert taken <= {"as it is", "text behind the signature"}
    assert "as it is" in taken


async def test_signers_and_people_that_the_policy_does_not_name_are_refused(
    judge: Judge, work: Work, tmp_path: Path
) -> None:
    ann = ssh_signer(tmp_path, "ann")
    ann.configure(work)
    signed_commit(work, "x", "--author", "Eve <Eve@Example.org>")
    keys = (PublicKeys("ann.pub", f"{ann.line} ann\n".encode()),)

    def policy(**more: tuple[str, ...]) -> Verification:
        return Verification(VerifyMode.COMMIT, SignatureKind.SSH, keys, **more)  # type: ignore[arg-type] # patterns

    for good in (
        policy(signers=("ann",)),
        policy(signers=(ann.fingerprint,)),
        policy(authors=("*@example.org",), committers=("a@example.com",)),
    ):
        found = await judge.commit(work, good)
        assert found.commit is not None
        assert found.commit.name == "ann"
    for bad, word in (
        (policy(signers=("bob", "an")), "verify.signers"),
        (policy(authors=("*@example.com",)), "verify.authors"),
        (policy(committers=("eve@example.org",)), "verify.committers"),
    ):
        said = await judge.refusal(work, bad)
        assert said.startswith("SignerNotAllowed: commit ")
        assert word in said


async def test_a_name_in_signers_that_no_key_has_is_named_beside_those_that_are_there(
    judge: Judge, work: Work, tmp_path: Path, gpg_home: Path
) -> None:
    ann = ssh_signer(tmp_path, "ann")
    ann.configure(work)
    signed_commit(work)
    keys = (PublicKeys("allowed_signers", f"ann@example.com,ann {ann.line}\n".encode()),)

    async def said(*signers: str) -> str:
        return await judge.refusal(work, Verification(VerifyMode.COMMIT, SignatureKind.SSH, keys, signers))

    assert "signers has 'anne', and no key of the Secret is called that" in await said("anne")
    assert "the Secret has ann, ann@example.com,ann, ann@example.com, " in await said("anne")
    assert (await said("*@example.org")).endswith("Have one of those sign it, or add the signer there.")
    assert "\u202e" not in await said("\u202e" * 300)
    other = ssh_signer(tmp_path, "other")
    two = (*keys, PublicKeys("other.pub", other.line.encode()))
    both = Verification(VerifyMode.COMMIT, SignatureKind.SSH, two, ("other",))
    assert (await judge.refusal(work, both)).endswith("Have one of those sign it, or add the signer there.")

    bob = pgp_signer(gpg_home, "bob-of-subkeys")
    run_gpg(gpg_home, "", "--quick-add-key", bob.fingerprint, "ed25519", "sign", "never")
    listed = run_gpg(gpg_home, "", "--with-colons", "--list-keys", bob.fingerprint).splitlines()
    subkey = [line.split(":")[9] for line in listed if line.startswith("fpr")][1]
    bob.configure(work)
    signed_commit(work)
    by_subkey = attrs.evolve(by_pgp(bob), signers=(subkey,))
    refused = await judge.refusal(work, by_subkey)
    assert f"{subkey} there is the fingerprint of a subkey. Write that of the primary key" in refused
    assert bob.fingerprint in refused
    found = await judge.commit(work, attrs.evolve(by_subkey, signers=(bob.fingerprint,)))
    assert found.commit is not None


def test_a_public_key_without_a_name_is_refused_in_allowed_signers_by_what_it_lacks(tmp_path: Path) -> None:
    line = ssh_signer(tmp_path, "ann").line
    with pytest.raises(JiemiError, match=r"it has a public key alone.*Call the entry NAME\.pub"):
        read_allowed_signers((PublicKeys("ann", line.encode()),))
    read = read_allowed_signers((PublicKeys("ann", f"ssh-ed25519 {line}".encode()),))
    assert [each.name for each in read.signers] == ["ssh-ed25519"]
