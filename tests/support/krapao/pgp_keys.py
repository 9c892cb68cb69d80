"""OpenPGP keys that the tests make, in a home in memory, and files for them."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path


def run_gpg(home: Path, *arguments: str, input: str = "") -> str:
    """Run gpg; the first argument is the passphrase."""
    base = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase"]
    return subprocess.run([*base, *arguments], check=True, capture_output=True, text=True, input=input).stdout


def gpg_home_in_memory() -> Iterator[Path]:
    """A home in which test keys are made."""
    with tempfile.TemporaryDirectory(prefix="gpg-", dir="/dev/shm") as name:
        (Path(name) / "gpg-agent.conf").write_text("s2k-count 65536\n")  # or each key takes seconds
        yield Path(name)
        subprocess.run(["gpgconf", "--homedir", name, "--kill", "all"], check=True)


def made_pgp_key(home: Path, name: str, *, passphrase: str = "", expires: str = "never") -> tuple[str, str]:
    """A new key: its fingerprint and its private part."""
    run_gpg(home, passphrase, "--quick-gen-key", f"{name} <{name}@jiemi.invalid>", "ed25519", "default", expires)
    fingerprint = next(
        line.split(":")[9]
        for line in run_gpg(home, "", "--with-colons", "--list-keys", name).splitlines()
        if line.startswith("fpr")
    )
    run_gpg(home, passphrase, "--quick-add-key", fingerprint, "cv25519", "encr", expires)
    return fingerprint, run_gpg(home, passphrase, "--armor", "--export-secret-keys", fingerprint)


def encrypted_for_pgp(sops: Path, home: Path, fingerprint: str, plain: bytes = b"a: canary-value\n") -> bytes:
    """A YAML file, with `a: canary-value` if nothing else is given."""
    run = [str(sops), "encrypt", "--input-type", "yaml", "--output-type", "yaml", "--filename-override", "x.yaml"]
    environment = {
        "GNUPGHOME": str(home),
        "HOME": str(home),
        "PATH": "/usr/bin:/bin",
        "SOPS_DISABLE_VERSION_CHECK": "1",
    }
    done = subprocess.run([*run, "--pgp", fingerprint], input=plain, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
