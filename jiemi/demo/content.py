"""What the demo commits: an encrypted file for a fresh age key, in a git repository with a clone to work in.

The plain file is examples/demo/secret.yaml. It goes through sops from pipe to pipe. The key is kept in one file on
tmpfs, so that a user of the demo can edit the encrypted file with `sops`.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import attrs
import trio

import jiemi
from jiemi.core.sensitive import SensitiveText
from jiemi.demo.git_server import GitServer, git_environment

NAMESPACE = "default"
NAME = "demo"
KEY_SECRET = "demo-age-key"  # noqa: S105 - a Secret's name
KEY_NAME = "privateKey"
FILE = "secret.enc.yaml"
BRANCH = "main"
_REPOSITORY = "demo.git"
_DIFF_SECONDS = 10
EXPECTED = {"greeting": "Hello from git", "password": "demo-password-not-a-secret"}
"""What the Secret must hold once it is in sync: the stringData of examples/demo/secret.yaml."""


class DemoError(Exception):
    """The demo can't be set up; the text says why and what to do."""


@attrs.frozen
class AgeKeyPair:
    """A fresh age key.

    Attributes:
        identity: the private key.
        recipient: the public key, age1….
        file: where the identity is kept for the user, on tmpfs, mode 0600.
    """

    identity: SensitiveText
    recipient: str
    file: Path


@attrs.frozen
class DemoRepository:
    """The demo's repository.

    Attributes:
        url: where it is served.
        clone: a clone of it, to work in.
        bare: the repository itself.
        git: the program.
    """

    url: str
    clone: Path
    bare: Path
    git: str

    def head(self) -> str:
        """The newest commit, as the server has it; "" where there is none."""
        try:
            return (self.bare / "refs" / "heads" / BRANCH).read_text().strip()
        except FileNotFoundError:
            return ""

    async def changes(self, before: str, after: str) -> bool:
        """Whether the encrypted file differs between two commits; True also if git can't compare them in time."""
        command = [self.git, "--git-dir", str(self.bare), "diff", "--quiet", before, after, "--", FILE]
        environment = git_environment(self.git, self.bare)
        with trio.move_on_after(_DIFF_SECONDS):
            done = await trio.run_process(
                command, env=environment, check=False, capture_stdout=True, capture_stderr=True, stdin=b""
            )
            return done.returncode != 0
        return True


def demo_file(name: str) -> str:
    """The text of a file of examples/demo, from the wheel or from the checkout."""
    package = Path(jiemi.__file__).parent
    for folder in (package / "examples" / "demo", package.parent / "examples" / "demo"):
        if (folder / name).is_file():
            return (folder / name).read_text()
    raise DemoError(f"examples/demo/{name} is missing from this installation")


def make_age_key(file: Path) -> AgeKeyPair:
    """Make an age key and keep it in that file.

    Raises:
        DemoError: pyrage, which makes age keys, is not installed.
    """
    try:
        from pyrage import x25519  # noqa: PLC0415 - the demo's own dependency
    except ImportError as error:
        raise DemoError("the demo makes its age key with pyrage: pip install 'jiemi[demo]'") from error
    made = x25519.Identity.generate()
    file.touch(mode=0o600)
    file.write_text(f"{made}\n")
    return AgeKeyPair(SensitiveText(str(made)), str(made.to_public()), file)


async def make_repository(server: GitServer, folder: Path, key: AgeKeyPair, *, sops: Path) -> DemoRepository:
    """Create the demo's repository on the server, with the encrypted file committed and pushed.

    Args:
        folder: gets the clone.

    Raises:
        DemoError: sops or git failed.
    """
    url = server.create(_REPOSITORY)
    clone = folder / "demo"
    git = _Git(server.git, folder)
    await git("clone", "--quiet", url, str(clone), at=folder)
    await git("config", "user.name", "Jiemi demo", at=clone)
    await git("config", "user.email", "demo@jiemi.invalid", at=clone)
    rules = clone / ".sops.yaml"
    rules.write_text(demo_file(".sops.yaml").replace("AGE_RECIPIENT", key.recipient))
    encrypted = await _run(
        # It finds the rules, .sops.yaml, beside the file that the flag names.
        [str(sops), "encrypt", "--filename-override", FILE],
        cwd=clone,
        env={"SOPS_DISABLE_VERSION_CHECK": "1", "HOME": str(folder)},
        stdin=demo_file("secret.yaml").encode(),
    )
    (clone / FILE).write_bytes(encrypted)
    await git("add", ".", at=clone)
    await git("commit", "--quiet", "--message", "Add an encrypted Secret", at=clone)
    await git("push", "--quiet", "origin", f"HEAD:{BRANCH}", at=clone)
    return DemoRepository(url, clone, server.root / _REPOSITORY, server.git)


@attrs.frozen
class _Git:
    program: str
    home: Path

    async def __call__(self, *arguments: str, at: Path) -> None:
        await _run([self.program, *arguments], cwd=at, env=git_environment(self.program, self.home), stdin=b"")


async def _run(command: list[str], *, cwd: Path, env: dict[str, str], stdin: bytes) -> bytes:
    try:
        with trio.fail_after(60):
            done = await trio.run_process(
                command, cwd=cwd, env=env, stdin=stdin, capture_stdout=True, capture_stderr=True, check=False
            )
    except OSError as error:
        raise DemoError(f"{command[0]} can't be run: {error.strerror}") from error
    except trio.TooSlowError as error:
        raise DemoError(f"{Path(command[0]).name} did not end within a minute") from error
    if done.returncode != 0:
        # Nothing in the demo's repository is secret, so what its tools wrote may be shown.
        said = done.stderr.decode("utf-8", "replace").strip()
        raise DemoError(f"{' '.join(command[:2])} failed: {said or subprocess.CalledProcessError.__name__}")
    return bytes(done.stdout)
