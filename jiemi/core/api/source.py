"""spec.source: the repository, what is followed in it, and which files."""

from __future__ import annotations

import re
from typing import ClassVar

import attrs

from jiemi.core.api.fields import FieldError, Rule, api
from jiemi.core.api.file_formats import FileFormat, FormatOfFile, format_field, format_of_file, require_format
from jiemi.core.api.provider import CredentialValue
from jiemi.core.content.globs import is_glob

_MAX_DESCRIBED = 4096
"""Characters of the files' description in status; a path is never cut."""


@attrs.frozen
class RepositoryCredentials:
    """What the repository's host asks for."""

    username: CredentialValue | None = api("User name, for https.", default=None, nullable=True)
    token: CredentialValue | None = api("Access token or password, for https.", default=None, nullable=True)
    ssh: CredentialValue | None = api(
        "Private key, without passphrase, in OpenSSH or PEM form, for ssh.", default=None, nullable=True
    )
    known_hosts: CredentialValue | None = api(
        "Lines of a known_hosts file that vouch for the ssh host, beside the operator's own.",
        default=None,
        nullable=True,
    )


@attrs.frozen
class RepositoryRef:
    """What is followed in the repository."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule("!(has(self.branch) && has(self.tag))", "branch contradicts tag: give one or the other"),
    )

    branch: str | None = api("Name of the branch to follow.", default=None, minLength=1, maxLength=255)
    tag: str | None = api("Name of the tag to follow.", default=None, minLength=1, maxLength=255)
    commit: str | None = api(
        "Full hash of a commit. It is deployed, and branch and tag are not followed, until this is taken out again.",
        default=None,
        pattern="^([0-9a-f]{40}|[0-9a-f]{64})$",
    )

    def __attrs_post_init__(self) -> None:
        if self.branch is not None and self.tag is not None:
            raise FieldError("branch contradicts tag: give one or the other")
        if self.commit is not None and re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", self.commit) is None:
            raise FieldError(
                "must be a full commit hash in lower case @ commit",
                "Give all 40 (or 64) characters of the hash, as `git rev-parse` prints it.",
            )


@attrs.frozen
class Repository:
    """A git repository."""

    url: str = api(
        "https://, http://, ssh:// or git:// address, or user@host:path. It must hold no password.",
        minLength=1,
        maxLength=2048,
    )
    credentials: RepositoryCredentials | None = api(
        "What the host asks for; nothing for a public repository.", default=None, nullable=True
    )
    ref: RepositoryRef | None = api(
        "What is followed; without it, the repository's default branch (HEAD).", default=None
    )


@attrs.frozen
class SourceSpec:
    """Where the files are. At least one of fileToDecrypt and files is given."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(has(self.fileToDecrypt) && dyn(self.fileToDecrypt) != null) || (has(self.files) && size(self.files) > 0)",
            "give fileToDecrypt or files",
        ),
    )

    repository: Repository = api("The git repository.")
    file_to_decrypt: str | None = api(
        "Path of the encrypted file in the repository, not a glob. Its ending tells sops's format: .yaml, .yml, .json, "
        ".env, .ini; any other is binary, unless format or formats states it. Without target it must hold Kubernetes "
        "objects.",
        default=None,
        minLength=1,
        maxLength=4096,
    )
    files: tuple[str, ...] = api(
        "Paths and globs of files, beside or in place of fileToDecrypt; files that are not encrypted are applied too. "
        "* stands for any characters but /, a folder ** for any number of folders: apps/**/*.enc.yaml.",
        default=(),
        maxItems=100,
        items={"minLength": 1, "maxLength": 1024},
    )
    exclude: tuple[str, ...] = api(
        "Globs of files and folders that the globs of files leave out; one without / is for any folder: *.md, charts/.",
        default=(),
        maxItems=100,
        items={"minLength": 1, "maxLength": 1024},
    )
    format: str | None = format_field(
        "sops's format of every file, in place of what its name tells, as sops encrypt --input-type: dotenv for "
        ".env.production, yaml for values.yaml.enc, json for .dockerconfigjson.",
        default=None,
        nullable=True,
    )
    formats: tuple[FileFormat, ...] = api(
        "The format of some files, where it is not one for all; the first that matches counts, before format.",
        default=(),
        maxItems=50,
    )
    sops_path: str | None = api(
        "Path of the .sops.yaml in the repository. Decrypting does not need it; where it is named it must exist.",
        default=None,
        nullable=True,
        maxLength=4096,
    )

    def __attrs_post_init__(self) -> None:
        if self.file_to_decrypt is None and not self.files:
            raise FieldError("give fileToDecrypt or files")
        require_format(self.format)
        if self.file_to_decrypt is not None and is_glob(self.file_to_decrypt):
            # What it names must be encrypted and hold an object; of what a glob matches, that can't be said.
            raise FieldError(
                "must be the path of one file, not a glob @ fileToDecrypt", "Put the glob into spec.source.files."
            )

    def format_of(self, path: str) -> FormatOfFile:
        """The format of the file at a path."""
        return format_of_file(path, self.formats, self.format)

    @property
    def described(self) -> str:
        """The files in a few words: the path of fileToDecrypt, or the globs."""
        named = ((self.file_to_decrypt,) if self.file_to_decrypt is not None else ()) + self.files
        text = ", ".join(named)
        return text if len(text) <= _MAX_DESCRIBED else f"{text[: _MAX_DESCRIBED - 1]}…"
