"""People who sign: keys of gpg and ssh-keygen, made for tests, and git set up to sign with them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import attrs

from support.krapao.pgp_keys import run_gpg
from support.krapao.work_tree import Work


@attrs.frozen
class SshSigner:
    """A key of ssh. Attributes: its private key's path, the public key's line without a comment, its fingerprint."""

    path: Path
    line: str
    fingerprint: str

    def configure(self, work: Work) -> None:
        """Have the commits of a work tree signed with it, where they are to be signed."""
        self.configure_by(work.git)

    def configure_by(self, git: Callable[..., str]) -> None:
        """The same, given what runs git there."""
        git("config", "gpg.format", "ssh")
        git("config", "user.signingKey", str(self.path))


def ssh_signer(folder: Path, name: str, *options: str) -> SshSigner:
    """A new key. Args: options of ssh-keygen; Ed25519 where none says otherwise."""
    path = folder / name
    kind = options or ("-t", "ed25519")
    subprocess.run(["ssh-keygen", "-q", *kind, "-N", "", "-C", name, "-f", str(path)], check=True)
    line = " ".join(path.with_name(f"{name}.pub").read_text().split()[:2])
    shown = subprocess.run(["ssh-keygen", "-lf", str(path)], check=True, capture_output=True, text=True).stdout
    return SshSigner(path, line, shown.split()[1])


def certify(signer: SshSigner, authority: SshSigner) -> str:
    """A certificate of a signer by an authority, in base64."""
    public = signer.path.with_name(f"{signer.path.name}.pub")
    subprocess.run(["ssh-keygen", "-q", "-s", str(authority.path), "-I", "x", "-n", "x", str(public)], check=True)
    return signer.path.with_name(f"{signer.path.name}-cert.pub").read_text().split()[1]


@attrs.frozen
class PgpSigner:
    """A key of gpg. Attributes: the home it is in, its fingerprint."""

    home: Path
    fingerprint: str

    @property
    def public(self) -> bytes:
        return run_gpg(self.home, "", "--armor", "--export", self.fingerprint).encode()

    def configure(self, work: Work) -> None:
        """Have the commits of a work tree signed with it, where they are to be signed."""
        self.configure_by(work.git)

    def configure_by(self, git: Callable[..., str]) -> None:
        """The same, given what runs git there."""
        git("config", "gpg.format", "openpgp")
        git("config", "user.signingKey", self.fingerprint)
        git("config", "gpg.program", str(gpg_program(self.home)))


def pgp_signer(home: Path, name: str, *, kind: str = "ed25519", expires: str = "never") -> PgpSigner:
    """A new key that signs."""
    run_gpg(home, "", "--quick-gen-key", f"{name} <{name}@jiemi.invalid>", kind, "sign", expires)
    listed = run_gpg(home, "", "--with-colons", "--list-keys", name).splitlines()
    return PgpSigner(home, next(line.split(":")[9] for line in listed if line.startswith("fpr")))


def gpg_program(home: Path) -> Path:
    """A gpg that uses that home, for git: it gives its programs no GNUPGHOME in these tests."""
    path = home / "gpg-for-git"
    if not path.exists():
        path.write_text(f'#!/bin/sh\nexec gpg --homedir {home} --batch --no-tty --pinentry-mode loopback "$@"\n')
        path.chmod(0o700)
    return path


def git_takes(work: Work, kind: str, name: str, *, allowed: Path | None = None, home: Path | None = None) -> bool:
    """What git itself says of a commit or tag ("verify-commit", "verify-tag")."""
    options: list[str] = []
    if allowed is not None:
        options += ["-c", f"gpg.ssh.allowedSignersFile={allowed}"]
    if home is not None:
        options += ["-c", f"gpg.program={gpg_program(home)}"]
    run = ["git", *options, kind, name]
    env = {"PATH": os.environ["PATH"], "HOME": str(work.path.parent), "GIT_CONFIG_NOSYSTEM": "1", "TZ": "UTC"}
    return subprocess.run(run, cwd=work.path, env=env, check=False, capture_output=True).returncode == 0


def raw_object(work: Work, kind: str, name: str) -> bytes:
    """A commit or tag as it is in the repository."""
    return subprocess.run(
        ["git", "cat-file", kind, name],
        cwd=work.path,
        check=True,
        capture_output=True,
        env={"PATH": os.environ["PATH"]},
    ).stdout


def write_object(work: Work, kind: str, data: bytes) -> str:
    """Put an object into the repository as it is; returns its hash."""
    run = ["git", "hash-object", "-t", kind, "-w", "--stdin", "--literally"]
    return (
        subprocess.run(
            run, cwd=work.path, input=data, check=True, capture_output=True, env={"PATH": os.environ["PATH"]}
        )
        .stdout.decode()
        .strip()
    )
