"""A ring of OpenPGP public keys for one check: a GNUPGHOME of its own in memory, and nothing of it afterwards.

gpg is confined as for decryption, without a network, and set to fetch no key from anywhere and to start no agent: for
public keys it needs none. What it gets to verify are the packets that were read here, and one signature packet only,
so that it can't be led to read something else. What it says is read from its status lines (GnuPG's doc/DETAILS), each
of which has to fit.

No trust in user ids is computed: a key that is in the ring was put there by whoever made the Secret.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from jiemi.core.content.pgp_armor import dearmored, holds_keys, packet_tags
from jiemi.core.errors import JiemiError
from jiemi.krapao.confinement.private_folders import private_folder, require_memory, write_file
from jiemi.krapao.confinement.processes import Finished, Limits, run_program
from jiemi.krapao.confinement.spawn import LIBRARIES, LOADERS, Command, Confinement, Measures, Sandbox
from jiemi.krapao.decryption.gpg import GPG_CONF, GPG_FILES
from jiemi.rpc.verification import PublicKeys, Signer

NOT_THERE = "which is not in the Secret that spec.source.repository.verify names"

_GPG_CONF = f"{GPG_CONF}no-random-seed-file\n"

_SIGNATURE_PACKET = 2
_GOOD_HASHES = frozenset({8, 9, 10, 11, 12, 14})
"""SHA-2 and SHA-3 (RFC 9580, 9.5). MD5, SHA-1 and RIPEMD-160 are not taken."""

_BINARY = 0
"""The class of a signature of bytes as they are."""

_MIN_BITS = 2048
_BY_BITS = frozenset({1, 2, 3, 17})
"""RSA and DSA, of which a length says how strong they are."""

_VERDICTS = frozenset({"GOODSIG", "EXPSIG", "EXPKEYSIG", "REVKEYSIG", "BADSIG", "ERRSIG"})
_NO_PUBLIC_KEY = "9"


@attrs.frozen
class _Key:
    """A key or subkey of the ring."""

    primary: str
    bits: int
    algorithm: int
    expires_at: int | None


@attrs.frozen
class PgpVerdict:
    """A good signature: whose, and until when (seconds since the epoch)."""

    signer: Signer
    valid_until: int | None


class PgpRing:
    """Keys that may sign. `open_ring` makes one."""

    def __init__(self, runner: _Runner, names: Mapping[str, str], keys: Mapping[str, _Key]) -> None:
        self._runner = runner
        self._names = names
        self._keys = keys
        self._numbers = itertools.count()

    async def verify(self, payload: bytes, signature: bytes) -> PgpVerdict:
        """Refuse a signature that none of the keys made for these bytes.

        Args:
            signature: as it is in the commit or tag.

        Raises:
            JiemiError: SignatureInvalid, SignerUnknown, SignerExpired, SignerRevoked; Timeout, InternalError.
        """
        path = self._runner.home / f"{next(self._numbers)}.sig"
        write_bytes(path, _one_signature(signature))
        finished = await self._runner.run("--status-fd", "1", "--verify", str(path), "-", stdin=payload)
        statuses = _statuses(finished)
        verdicts = [each for each in statuses if each[0] in _VERDICTS]
        if len(verdicts) != 1 or [each[0] for each in statuses].count("NEWSIG") > 1:
            raise _invalid("gpg could not check its signature", "Sign it again, with one key.")
        [verdict] = verdicts
        if verdict[0] == "BADSIG":
            raise _invalid(
                "its pgp signature does not match what it says: it was changed after it was signed, or the signature "
                "is another one's",
                "Sign it again. If nobody on your team made this change, find out who did.",
            )
        if verdict[0] == "ERRSIG":
            raise _no_key(verdict)
        valid = [each for each in statuses if each[0] == "VALIDSIG"]
        if len(valid) != 1 or len(valid[0]) < 11:
            raise _invalid("gpg could not check its signature", "Sign it again, with one key.")
        return self._judge(verdict[0], valid[0])

    def names(self) -> tuple[str, ...]:
        """The names of the entries, and the fingerprints of the keys."""
        return (*dict.fromkeys(self._names.values()), *self._names)

    def primary_of(self, subkey: str) -> str | None:
        """The fingerprint of the key that a subkey belongs to, by the subkey's; None for anything else."""
        found = self._keys.get(subkey)
        return found.primary if found is not None and found.primary != subkey else None

    def _judge(self, verdict: str, valid: Sequence[str]) -> PgpVerdict:
        made_by, primary = valid[1], valid[10]
        key = self._keys.get(made_by)
        name = self._names.get(primary)
        if key is None or name is None or key.primary != primary:
            raise JiemiError("SignerUnknown", f"it is signed by the pgp key {primary[:64]}, {NOT_THERE}")
        who = f"its pgp key {primary} (key {name!r} of the Secret)"
        if verdict == "REVKEYSIG":
            raise JiemiError("SignerRevoked", f"{who} is revoked")
        if verdict == "EXPKEYSIG":
            raise JiemiError("SignerExpired", f"{who} has expired")
        if verdict == "EXPSIG":
            raise JiemiError("SignerExpired", "its pgp signature has expired", "Sign it again.")
        if int(valid[8]) not in _GOOD_HASHES:
            raise _invalid(
                "its pgp signature is over a weak hash (SHA-1 or older)",
                "Sign it again with `digest-algo SHA256` in gpg.conf.",
            )
        if int(valid[9], 16) != _BINARY:
            raise _invalid(
                "its pgp signature is not one of bytes", "Sign it again with `git commit -S` or `git tag -s`."
            )
        if key.algorithm in _BY_BITS and key.bits < _MIN_BITS:
            raise _invalid(f"{who} has {key.bits} bits, of {_MIN_BITS} at least", "Sign it again with a stronger key.")
        signature_ends = int(valid[4]) or None
        ends = [each for each in (key.expires_at, self._keys[primary].expires_at, signature_ends) if each is not None]
        return PgpVerdict(Signer(name, primary), min(ends, default=None))


@attrs.frozen
class _Runner:
    """How gpg is run for one ring."""

    gpg: Path
    home: Path
    limits: Limits
    sandbox: Sandbox

    async def run(self, *arguments: str, stdin: bytes) -> Finished:
        """Run gpg to its end. Raises JiemiError as `run_program`."""
        environment = {"GNUPGHOME": str(self.home), "HOME": str(self.home), "PATH": "/nonexistent", "LC_ALL": "C"}
        argv = (str(self.gpg), "--homedir", str(self.home), "--batch", *arguments)
        return await run_program(
            Command(argv, env=environment, cwd=self.home, sandbox=self.sandbox),
            stdin=stdin,
            limits=self.limits,
            what="checking a pgp signature",
            missing="GpgMissing",
        )


@contextlib.asynccontextmanager
async def open_ring(
    entries: Sequence[PublicKeys], *, gpg: Path, runtime_dir: Path, limits: Limits, measures: Measures
) -> AsyncIterator[PgpRing]:
    """A ring with these keys, for as long as the context lasts.

    Args:
        limits: of one run of gpg.

    Raises:
        JiemiError: VerificationKeysInvalid with the entry; GpgMissing; StorageFailed; Timeout; LimitExceeded;
            InternalError.
    """
    require_memory(runtime_dir)
    with private_folder(runtime_dir) as home:
        write_file(home / "gpg.conf", _GPG_CONF)
        write_file(home / "common.conf", "")  # so that no distribution's default brings keyboxd in
        confinement = Confinement(
            network=False,
            read_execute=(gpg, *LOADERS),
            read=(*GPG_FILES, *LIBRARIES),
            write=(home,),
        )
        runner = _Runner(gpg, home, limits, Sandbox(confinement, measures))
        names: dict[str, str] = {}
        for entry in entries:
            for fingerprint in await _import(entry, runner):
                names.setdefault(fingerprint, entry.name)
        listed = await runner.run("--with-colons", "--list-keys", stdin=b"")
        yield PgpRing(runner, names, dict(_listed(listed.stdout.decode("utf-8", "replace"))))


async def _import(entry: PublicKeys, runner: _Runner) -> list[str]:
    """Import the keys of an entry; their fingerprints."""
    packets = packets_of(entry)
    finished = await runner.run("--status-fd", "1", "--import", stdin=packets)
    found = [each[2] for each in _statuses(finished) if each[0] == "IMPORT_OK" and len(each) == 3]
    if not found:
        raise _not_a_ring(entry.name, "gpg can't read a public key there")
    return found


def packets_of(entry: PublicKeys) -> bytes:
    """The packets of an entry with public keys, armored or not.

    Raises:
        JiemiError: VerificationKeysInvalid.
    """
    if holds_keys(entry.data):
        packets = entry.data
    else:
        blocks = dearmored(entry.data)
        packets = b"".join(data for kind, data in blocks if kind == "PGP PUBLIC KEY BLOCK")
        if not blocks or any(not packet_tags(data) for _, data in blocks):
            raise _not_a_ring(entry.name, "it is no pgp public key, armored or binary")
    tags = set(packet_tags(packets))
    if {5, 7} & tags:
        raise JiemiError("VerificationKeysInvalid", f"key {entry.name!r} has a private key in it")
    if not tags:
        raise _not_a_ring(entry.name, "it is no pgp public key, armored or binary")
    return packets


def _one_signature(signature: bytes) -> bytes:
    """The packet of a signature, which must be the only one."""
    text, blocks = signature.strip(), dearmored(signature)
    if not (text.startswith(b"-----BEGIN PGP SIGNATURE-----") and text.endswith(b"-----END PGP SIGNATURE-----")):
        raise _invalid(
            "its pgp signature has something before or behind it", "Sign it again, and push it as git made it."
        )
    if len(blocks) != 1 or blocks[0][0] != "PGP SIGNATURE" or not packet_tags(blocks[0][1]):
        raise _invalid("its pgp signature can't be read", "Sign it again with `git commit -S` or `git tag -s`.")
    tags = packet_tags(blocks[0][1])
    if tags != (_SIGNATURE_PACKET,):
        many = set(tags) == {_SIGNATURE_PACKET}
        what = f"it has {len(tags)} pgp signatures" if many else "its pgp signature holds other things"
        raise _invalid(what, "Sign it once, with one key.")
    return blocks[0][1]


def _no_key(error: Sequence[str]) -> JiemiError:
    """Of ERRSIG: keyid, algorithm of key, of hash, class, time, code, fingerprint."""
    code, fingerprint = (error[6] if len(error) > 6 else ""), (error[7] if len(error) > 7 else "")
    if code == _NO_PUBLIC_KEY:
        who = fingerprint if fingerprint.isalnum() else error[1]
        return JiemiError("SignerUnknown", f"it is signed by the pgp key {who[:64]}, {NOT_THERE}")
    return _invalid(
        "its pgp signature is by an algorithm that gpg does not take",
        "Sign it again, with an Ed25519 or RSA key and SHA-256 or better.",
    )


def _statuses(finished: Finished) -> list[list[str]]:
    lines = finished.stdout.decode("utf-8", "replace").splitlines()
    return [words for line in lines if line.startswith("[GNUPG:] ") and (words := line.split()[1:])]


def _listed(text: str) -> Iterator[tuple[str, _Key]]:
    """The keys and subkeys by their fingerprints (GnuPG's doc/DETAILS, "Format of the colon listings")."""
    primary, pending = "", None
    for line in text.splitlines():
        fields = line.split(":")
        if fields[0] in ("pub", "sub") and len(fields) > 6:
            pending = fields
        elif fields[0] == "fpr" and pending is not None and len(fields) > 9:
            primary = fields[9] if pending[0] == "pub" else primary
            yield fields[9], _Key(primary, _number(pending[2]), _number(pending[3]), _when(pending[6]))
            pending = None


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _when(text: str) -> int | None:
    """A time: seconds since the epoch, or as ISO 8601 has it."""
    if text.isdecimal():
        return int(text)
    with contextlib.suppress(ValueError):
        return int(datetime.datetime.strptime(text, "%Y%m%dT%H%M%S").replace(tzinfo=datetime.UTC).timestamp())
    return None


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file in a private folder. Blocking, but of memory. Raises JiemiError: StorageFailed."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise JiemiError("StorageFailed", f"Krapao's runtime folder: {error.strerror}") from error


def _not_a_ring(name: str, why: str) -> JiemiError:
    return JiemiError(
        "VerificationKeysInvalid",
        f"key {name!r}: {why}",
        "Put the whole output of `gpg --export --armor KEY` there, and nothing else into the Secret.",
    )


def _invalid(what: str, remedy: str) -> JiemiError:
    return JiemiError("SignatureInvalid", what, remedy)
