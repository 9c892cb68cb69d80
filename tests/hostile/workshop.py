"""Where signed commits are made and forged: two who are trusted, two who are not, and the tenant's file.

ann and eve sign by ssh, bob and mallory by pgp; ann and bob are in the Secret with the public keys.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import attrs
from support.krapao.work_tree import Work
from support.signing.forged import with_signature
from support.signing.signers import PgpSigner, SshSigner, pgp_signer, raw_object, ssh_signer, write_object

from jiemi.core.content.pgp_armor import dearmored
from jiemi.krapao.signatures.objects import read_commit
from jiemi.rpc.verification import PublicKeys


@attrs.frozen
class Signers:
    """Who signs.

    Attributes:
        home: of gpg.
        folder: of the ssh keys.
    """

    home: Path
    folder: Path
    ann: SshSigner
    eve: SshSigner
    bob: PgpSigner
    mallory: PgpSigner

    @classmethod
    def made(cls, home: Path, folder: Path) -> Signers:
        ann, eve = ssh_signer(folder, "ann"), ssh_signer(folder, "eve")
        return cls(home, folder, ann, eve, pgp_signer(home, "bob-trusted"), pgp_signer(home, "mallory"))


Signer = SshSigner | PgpSigner


@attrs.frozen
class Workshop:
    """A work tree.

    Attributes:
        folder: for whatever else is needed.
    """

    work: Work
    signers: Signers
    folder: Path

    @property
    def ssh_keys(self) -> tuple[PublicKeys, ...]:
        return self.allowed(f"ann {self.signers.ann.line}")

    @property
    def pgp_keys(self) -> tuple[PublicKeys, ...]:
        return (PublicKeys("bob.asc", self.signers.bob.public),)

    @staticmethod
    def allowed(*lines: str) -> tuple[PublicKeys, ...]:
        """An allowed_signers file as the only entry of the Secret."""
        return (PublicKeys("allowed_signers", "\n".join(lines).encode()),)

    def commit(self, by: Signer | None, *options: str) -> None:
        """One more commit with the same files, signed or not."""
        if by is not None:
            by.configure(self.work)
        signed = ["-S"] if by is not None else []
        self.work.git("commit", "--quiet", "--allow-empty", *signed, "-m", "message", *options)

    def tag(self, by: Signer, name: str, *arguments: str) -> None:
        """A signed tag."""
        by.configure(self.work)
        self.work.git("tag", "-f", "-s", "-m", "tag", name, *arguments)

    @property
    def raw(self) -> bytes:
        """The newest commit."""
        return raw_object(self.work, "commit", "HEAD")

    @property
    def payload(self) -> bytes:
        """What of the newest commit is signed."""
        return read_commit(self.raw, "1" * 40).payload

    @property
    def signature(self) -> bytes:
        """The newest commit's signature, in its armor."""
        found = read_commit(self.raw, "1" * 40).signature
        assert found is not None
        return found

    @property
    def packets(self) -> bytes:
        """The newest commit's pgp signature without its armor."""
        [(_, packets)] = dearmored(self.signature)
        return packets

    def put(self, data: bytes) -> None:
        """Have the newest commit be another."""
        self.move("HEAD", write_object(self.work, "commit", data))

    def put_signature(self, signature: bytes) -> None:
        """Have the newest commit have another signature."""
        self.move("HEAD", with_signature(self.work, signature))

    def put_tag(self, name: str, data: bytes) -> None:
        self.move(f"refs/tags/{name}", write_object(self.work, "tag", data))

    def move(self, ref: str, to: str) -> None:
        """As git does, but of any object."""
        full = "refs/heads/main" if ref == "HEAD" else ref
        path = self.work.path / ".git" / full
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{to}\n")

    def program(self, name: str, text: str) -> str:
        """A program that signs in place of gpg or ssh-keygen."""
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o700)
        return str(path)

    def signed_by_ann(self, payload: bytes, namespace: str = "git") -> bytes:
        """A signature of any payload."""
        run = ["ssh-keygen", "-Y", "sign", "-q", "-n", namespace, "-f", str(self.signers.ann.path)]
        return subprocess.run(run, input=payload, check=True, capture_output=True).stdout
